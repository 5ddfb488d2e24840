package cluster

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/paramedic-ha/paramedic/agent/e2e/fleet"
	"github.com/paramedic-ha/paramedic/agent/e2e/lab"
)

// TestAClockThatIsWrongIsNamed has a machine with a clock of its own, which namespaces can't have: one hour off, first
// behind, then ahead. What it signs is dated by its clock, which a strict consumer notices (Standard Webhooks allows five
// minutes); nothing else may be wrong with it.
func TestAClockThatIsWrongIsNamed(t *testing.T) {
	c := w.Consume(t, "a")
	all := w.Form(t, 2)
	bin, err := w.Lab.Static(w.Bin, ".")
	fleet.Must(t, err)
	binary, err := os.ReadFile(bin)
	fleet.Must(t, err)
	const dir = "/run/agent"
	s := w.Settings(&fleet.Machine{Host: &lab.Host{Name: "wrong"}, N: 99})
	config := fmt.Sprintf("node: {name: wrong}\napi: {socket: %[1]s/api.sock}\n"+
		"cluster: {bind: %[2]s, join: [%[3]s], label: %[4]s, key_file: %[1]s/gossip.key, secrets_key_file: %[1]s/secrets.key}\n"+
		"hw: {nic: {include: [eth1]}, virt: {disabled: true}}\nnotify: {dir: %[1]s/state}\n", dir, s.Bind, s.Join[0], s.Label)
	m, err := w.LAN.Machine(lab.MachineSpec{Name: "wrong", Addr: s.Bind + "/24", Files: map[string][]byte{
		"bin/paramedic": binary, dir + "/gossip.key": []byte(s.GossipKey), dir + "/secrets.key": []byte(s.SecretKey), dir + "/paramedic.yaml": []byte(config),
		dir + "/secret": []byte(c.Secret()),
	}})
	fleet.Must(t, err)
	t.Cleanup(func() {
		if t.Failed() {
			out, _ := m.Run("cat " + dir + "/log")
			t.Logf("its log:\n%s", fleet.Tail(out))
		}
		fleet.Must(t, m.Off())
	})
	_, err = m.Run("chmod 600 " + dir + "/*")
	fleet.Must(t, err)
	const server = "--server unix://" + dir + "/api.sock"
	both := append(all.Names(), "wrong")
	meet := func(clock string) {
		t.Helper()
		_, err := m.Run(fmt.Sprintf("date -s @%d && (GOGC=50 paramedic run --config %s/paramedic.yaml >>%s/log 2>&1 & echo $! >/tmp/pid)", clockOf(clock), dir, dir))
		fleet.Must(t, err)
		for _, a := range all {
			fleet.Within(t, fleet.Patience, a.Name+" to see it", func() error {
				v, err := a.View()
				if err == nil && len(v.Members) != len(both) {
					err = fmt.Errorf("members: %v", v.Members)
				}
				return err
			})
			if x := a.Complains("NTP", "clock", "ahead-of-clock"); x.Peer != "wrong" {
				t.Errorf("%s blames %+v", a.Name, x)
			}
		}
	}
	for _, clock := range []string{"behind", "ahead"} {
		meet(clock)
		// It knows of its own clock when a peer has told its time, not before: what it writes until then is for itself.
		fleet.Within(t, fleet.Patience, "the host to know", func() error {
			out, err := m.Run("paramedic status -o json " + server)
			if err != nil {
				return err
			}
			var s fleet.Status
			if err := json.Unmarshal([]byte(out), &s); err != nil {
				return fmt.Errorf("%w: %s", err, out)
			}
			if !slices.ContainsFunc(s.Cluster.Troubles, func(x fleet.Trouble) bool { return x.Kind == "clock" }) {
				return fmt.Errorf("it names %+v", s.Cluster.Troubles)
			}
			return nil
		})
		// A subscription made here works there.
		d := w.Consume(t, clock)
		id, _ := d.Subscribe(all[0])
		fleet.Within(t, fleet.Patience, "the subscription there", func() error {
			out, err := m.Run("paramedic subscriptions -o json " + server)
			if err == nil && !strings.Contains(out, id) {
				err = fmt.Errorf("it has %s", out)
			}
			return err
		})
		// It says so itself, and no other does.
		fleet.Within(t, fleet.Patience, "the alarm about the clock", func() error {
			standing, err := all[1].Standing()
			if err != nil {
				return err
			}
			var of []string
			for _, x := range standing {
				if x.Condition == "clock" {
					of = append(of, x.Host+" "+x.Severity)
				}
			}
			if !slices.Equal(of, []string{"wrong major"}) {
				return fmt.Errorf("they are of %v", of)
			}
			return nil
		})
		_, err := m.Run("ip link set eth1 down")
		fleet.Must(t, err)
		wrong := &fleet.Machine{Host: &lab.Host{Name: "wrong"}}
		hears := func(transition string) {
			t.Helper()
			n, err := d.Wait(fleet.Patience, fleet.Is(transition, "disabled", wrong))
			if err != nil || len(n.Trouble) != 1 || !strings.Contains(n.Trouble[0], "message timestamp") {
				t.Errorf("%v: %s", err, n)
			}
		}
		hears("raised")
		_, err = m.Run("ip link set eth1 up")
		fleet.Must(t, err)
		hears("cleared")
		d.Once(t)
		// One made there works here, or is refused in clear words.
		out, err := m.Run("paramedic subscribe " + c.URL + " --no-verify --name " + clock + "-there --secret-file " + dir + "/secret " + server)
		t.Logf("%s: %v %s", clock, err, out)
		if err == nil {
			fleet.Within(t, fleet.Patience, "the subscription here", func() error {
				for _, a := range all {
					subs, err := a.Subscribed()
					if err != nil {
						return err
					}
					if !strings.Contains(fmt.Sprint(subs), clock+"-there") {
						return fmt.Errorf("%s has %+v", a.Name, subs)
					}
				}
				return nil
			})
		} else if said := err.Error() + out; clock == "behind" || !strings.Contains(said, "NTP") || strings.Contains(said, "the agent failed") || strings.Contains(said, "shared record") {
			t.Errorf("it does not say why: %s", said)
		}
		_, err = m.Run("kill $(cat /tmp/pid); while kill -0 $(cat /tmp/pid); do usleep 10000; done")
		fleet.Must(t, err)
		all.Level(fleet.Patience)
	}
}

func clockOf(word string) int64 {
	off := time.Hour
	if word == "behind" {
		off = -off
	}
	return time.Now().Add(off).Unix()
}
