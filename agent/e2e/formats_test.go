package e2e

import (
	"context"
	"encoding/json"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/paramedic-ha/paramedic/agent/e2e/lab"
)

const alertmanagerAddr = consumerAddr + ":9093"

// alertmanager starts a real one among the consumers, and is one more of them.
func alertmanager(t *testing.T) *consumer {
	t.Helper()
	config := lab.Dir + "/alertmanager.yml"
	must(t, w.consumers.WriteFile(config, "route: {receiver: none}\nreceivers: [{name: none}]\n", 0o600))
	p, err := w.consumers.Start("prometheus-alertmanager", "--config.file="+config, "--storage.path="+lab.Dir,
		"--web.listen-address="+alertmanagerAddr, "--cluster.listen-address=")
	must(t, err)
	t.Cleanup(func() { _ = p.Kill() })
	c := &consumer{name: "alertmanager", format: "alertmanager", endpoint: "http://" + alertmanagerAddr + "/api/v2/alerts", key: []byte(strings.Repeat("k", 32))}
	eventually(t, "Alertmanager to answer", func() bool { _, err := alerts(); return err == nil }, p.Log)
	return c
}

// alerts are the domains of those that stand in the Alertmanager, in order; empty of the alarm's own.
func alerts() ([]string, error) {
	client := http.Client{Transport: &http.Transport{
		DialContext:       func(_ context.Context, _, addr string) (net.Conn, error) { return w.consumers.Dial(addr) },
		DisableKeepAlives: true,
	}}
	resp, err := client.Get("http://" + alertmanagerAddr + "/api/v2/alerts")
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	var all []struct{ Labels map[string]string }
	if err := json.NewDecoder(resp.Body).Decode(&all); err != nil {
		return nil, err
	}
	domains := make([]string, 0, len(all))
	for _, a := range all {
		domains = append(domains, a.Labels["domain"])
	}
	slices.Sort(domains)
	return domains, nil
}

// states is what an Aodh consumer was told last of each machine.
func (c *consumer) states(t *testing.T) map[string]string {
	t.Helper()
	said := map[string]string{}
	for _, n := range c.All() {
		var body struct {
			Reason struct {
				Event struct{ Traits [][3]any }
			} `json:"reason_data"`
		}
		must(t, json.Unmarshal(n.Body, &body))
		traits := map[any]any{}
		for _, trait := range body.Reason.Event.Traits {
			traits[trait[0]] = trait[2]
		}
		said[traits["instance_id"].(string)] = traits["state"].(string)
	}
	return said
}

// One fault, told to three receivers each in its own form at once; and its end.
func TestOneFaultIsToldInEveryForm(t *testing.T) {
	native, doctor := consume(t, "native"), consume(t, "doctor")
	doctor.format = "aodh"
	a := start(t, native, doctor, alertmanager(t))
	must(t, w.uplink0.Pull())
	native.hears(t, "raised", "carrier")
	hit := []string{vmA1.UUID, vmA2.UUID, vmB1.UUID}
	all := func(state string) func() bool {
		return func() bool {
			said := doctor.states(t)
			return len(said) == len(hit) && !slices.ContainsFunc(hit, func(uuid string) bool { return said[uuid] != state })
		}
	}
	eventually(t, "the Aodh consumer to hear of each machine that it is in error", all("error"), a.Log)
	eventually(t, "Alertmanager to know of the fault and each machine", func() bool {
		got, err := alerts()
		return err == nil && slices.Equal(got, append([]string{""}, hit...))
	}, a.Log)

	must(t, w.uplink0.Plug())
	native.hears(t, "cleared", "carrier")
	eventually(t, "the Aodh consumer to hear of each machine that it is active", all("active"), a.Log)
	eventually(t, "Alertmanager to know of nothing", func() bool {
		got, err := alerts()
		return err == nil && len(got) == 0
	}, a.Log)
	a.settled(t)
	if got := len(doctor.All()); got != 2*len(hit) {
		t.Errorf("the Aodh consumer was asked %d times", got)
	}
}
