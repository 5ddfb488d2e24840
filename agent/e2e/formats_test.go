package e2e

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/paramedic-ha/paramedic/agent/e2e/lab"
)

const alertmanagerAddr = consumerAddr + ":9093"

// alertmanager starts a real one among the consumers, and is one more of them.
func alertmanager(t *testing.T) *consumer {
	t.Helper()
	alertmanagerWith(t, "route: {receiver: none}\nreceivers: [{name: none}]\n")
	return &consumer{name: "alertmanager", format: "alertmanager", endpoint: "http://" + alertmanagerAddr + "/api/v2/alerts", key: []byte(strings.Repeat("k", 32))}
}

// alertmanagerWith starts one with a configuration, and no former life.
func alertmanagerWith(t *testing.T, configuration string) *lab.Process {
	t.Helper()
	config, data := lab.Dir+"/alertmanager.yml", lab.Dir+"/alertmanager"
	must(t, os.RemoveAll(w.consumers.Path(data)))
	must(t, w.consumers.WriteFile(config, configuration, 0o600))
	p, err := w.consumers.Start("prometheus-alertmanager", "--config.file="+config, "--storage.path="+data,
		"--web.listen-address="+alertmanagerAddr, "--cluster.listen-address=")
	must(t, err)
	t.Cleanup(func() { _ = p.Kill() })
	eventually(t, "Alertmanager to answer", func() bool { _, err := alerts(); return err == nil }, p.Log)
	return p
}

// alert is one that stands in the Alertmanager.
type alert struct {
	Labels    map[string]string `json:"labels"`
	UpdatedAt time.Time         `json:"updatedAt"`
}

// alerts are those that stand in the Alertmanager, by domain; that of the alarm itself has none.
func alerts() ([]alert, error) {
	client := http.Client{Transport: &http.Transport{
		DialContext:       func(_ context.Context, _, addr string) (net.Conn, error) { return w.consumers.Dial(addr) },
		DisableKeepAlives: true,
	}}
	resp, err := client.Get("http://" + alertmanagerAddr + "/api/v2/alerts")
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	var all []alert
	if err := json.NewDecoder(resp.Body).Decode(&all); err != nil {
		return nil, err
	}
	slices.SortFunc(all, func(a, b alert) int { return strings.Compare(a.Labels["domain"], b.Labels["domain"]) })
	return all, nil
}

// failure is what OPNFV Doctor's consumer makes of a request: it listens at /failure, takes JSON alone (Flask gives it no form),
// reads each trait as name, type, value, and answers 200 with a word.
func failure(t *testing.T, n lab.Notification) map[string]string {
	t.Helper()
	if kind := n.Header.Get("Content-Type"); kind != "application/json" {
		t.Errorf("Flask reads no %s", kind)
	}
	var body struct {
		Reason struct {
			Event struct{ Traits [][3]any }
		} `json:"reason_data"`
	}
	must(t, json.Unmarshal(n.Body, &body))
	traits := map[string]string{}
	for _, trait := range body.Reason.Event.Traits {
		traits[fmt.Sprint(trait[0])] = fmt.Sprint(trait[2])
	}
	return traits
}

// states is what such a consumer was told last of each machine.
func (c *consumer) states(t *testing.T) map[string]string {
	t.Helper()
	said := map[string]string{}
	for _, n := range c.All() {
		traits := failure(t, n)
		said[traits["instance_id"]] = traits["state"]
	}
	return said
}

// vnfs is what a VNF manager knows of each VNF instance: the severity of the alarm that stands on it.
func (c *consumer) vnfs(t *testing.T) map[string]string {
	t.Helper()
	byID, said := map[string]string{}, map[string]string{}
	for _, n := range c.All() {
		var body struct {
			NotificationType string
			AlarmID          string `json:"alarmId"`
			Alarm            struct{ ID, ManagedObjectID, PerceivedSeverity string }
		}
		must(t, json.Unmarshal(n.Body, &body))
		switch body.NotificationType {
		case "AlarmNotification":
			byID[body.Alarm.ID] = body.Alarm.ManagedObjectID
			said[body.Alarm.ManagedObjectID] = body.Alarm.PerceivedSeverity
		case "AlarmClearedNotification":
			delete(said, byID[body.AlarmID])
		default:
			t.Errorf("it is told %s", n.Body)
		}
	}
	return said
}

// manual starts the receiver of docs/consumers.md, and is one more consumer; lines are those of its handle.
func manual(t *testing.T) (c *consumer, lines func(state string) int, log func() string) {
	t.Helper()
	c = &consumer{name: "manual", endpoint: "http://" + consumerAddr + ":9000/failure", key: []byte(strings.Repeat("m", 32))}
	secret := lab.Dir + "/manual.secret"
	must(t, w.consumers.WriteFile(secret, "whsec_"+base64.StdEncoding.EncodeToString(c.key), 0o600))
	code, err := os.ReadFile("../../docs/receivers/receiver.py")
	must(t, err)
	must(t, w.consumers.WriteFile(lab.Dir+"/receiver.py", string(code), 0o600))
	p, err := w.consumers.Start("python3", lab.Dir+"/receiver.py", consumerAddr+":9000", secret)
	must(t, err)
	t.Cleanup(func() { _ = p.Kill() })
	eventually(t, "the manual's receiver to listen", func() bool { return strings.Contains(p.Log(), "listening") }, p.Log)
	return c, func(state string) int { return strings.Count("\n"+p.Log(), "\n"+state+" ") }, p.Log
}

// One fault, told to five receivers at once, each in its own form and its own words; and its end.
func TestOneFaultIsToldInEveryForm(t *testing.T) {
	native, doctor, vnfm := consume(t, "native"), consume(t, "doctor"), consume(t, "vnfm")
	doctor.format, vnfm.format = "aodh", "sol"
	doctor.Respond(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("OK")) })
	manual, lines, log := manual(t)
	w.heal(t)
	config := configuration(t, "", native, doctor, vnfm, manual, alertmanager(t))
	a := launchWith(t, w.host, strings.Replace(config, "virt: {", "virt: {vnfs: {names: {'vm-a*': vnf-a}}, ", 1))
	a.knows(tinyVMs...)
	must(t, w.uplink0.Pull())
	pulled := time.Now()
	native.hears(t, "raised", "carrier")
	hit := []string{vmA1.UUID, vmA2.UUID, vmB1.UUID}
	all := func(state string) func() bool {
		return func() bool {
			said := doctor.states(t)
			return len(said) == len(hit) && !slices.ContainsFunc(hit, func(uuid string) bool { return said[uuid] != state })
		}
	}
	var told []alert
	eventually(t, "the Aodh consumer to hear of each machine that it is in error", all("error"), a.Log)
	eventually(t, "the VNF manager to hear of each VNF", func() bool {
		return maps.Equal(vnfm.vnfs(t), map[string]string{"vnf-a": "CRITICAL", vmB1.UUID: "CRITICAL"})
	}, a.Log)
	eventually(t, "the manual's receiver to have handled it", func() bool { return lines("raised") == 1 }, log)
	eventually(t, "Alertmanager to know of the fault and each machine", func() bool {
		var err error
		told, err = alerts()
		return err == nil && slices.EqualFunc(told, append([]string{""}, hit...), func(a alert, domain string) bool { return a.Labels["domain"] == domain })
	}, a.Log)
	for _, c := range []*consumer{native, doctor, vnfm} {
		got := c.All()
		t.Logf("%s: %d requests, the last %v after the cable was pulled", c.name, len(got), got[len(got)-1].Arrived.Sub(pulled))
	}
	t.Logf("Alertmanager: %d alerts, the last %v after the cable was pulled", len(told), told[len(told)-1].UpdatedAt.Sub(pulled))
	for _, at := range []time.Time{native.All()[0].Arrived, doctor.All()[2].Arrived, vnfm.All()[1].Arrived, told[len(told)-1].UpdatedAt} {
		if took := at.Sub(pulled); took > 2*time.Second { // of a loaded machine; else some tens of milliseconds
			t.Errorf("somebody was told after %v", took)
		}
	}

	must(t, w.uplink0.Plug())
	native.hears(t, "cleared", "carrier")
	eventually(t, "the Aodh consumer to hear of each machine that it is active", all("active"), a.Log)
	eventually(t, "the VNF manager to hear that all is over", func() bool { return len(vnfm.vnfs(t)) == 0 }, a.Log)
	eventually(t, "the manual's receiver to have handled the end", func() bool { return lines("cleared") == 1 }, log)
	eventually(t, "Alertmanager to know of nothing", func() bool {
		got, err := alerts()
		return err == nil && len(got) == 0
	}, a.Log)
	a.settled(t)
	for c, want := range map[*consumer]int{doctor: 2 * len(hit), vnfm: 4, native: 2} {
		if got := len(c.All()); got != want {
			t.Errorf("%s was asked %d times, want %d", c.name, got, want)
		}
	}
}
