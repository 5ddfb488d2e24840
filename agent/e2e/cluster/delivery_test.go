package cluster

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/paramedic-ha/paramedic/agent/e2e/lab"
)

func TestAPeerTellsWhomTheHomeCannotReach(t *testing.T) {
	c := consume(t, "a")
	all := form(t, 3)
	home := all[1]
	c.subscribe(all[0])
	all.level(patience)

	must(t, home.uplink.Pull())
	if n := c.hears(t, "raised", "carrier", home.machine); n.Data.Reporter != home.Name {
		t.Errorf("the home can reach the consumer, and %s told: %s", n.Data.Reporter, n)
	}
	c.Forget()
	must(t, w.lan.Block(home.machine.Host, w.consumers, true))
	began := time.Now()
	must(t, home.uplink.Plug())
	n := c.hears(t, "cleared", "carrier", home.machine)
	t.Logf("the peer told it after %v", n.Arrived.Sub(began)) // the connection was open and looked well
	if n.Data.Reporter == home.Name || n.Source != "/paramedic/lab/"+home.Name {
		t.Errorf("%s told as %s: %s", n.Data.Reporter, n.Source, n)
	}
	// The stand-in told it for good: the home sends nothing again when it can.
	must(t, home.uplink.Pull())
	if n := c.hears(t, "raised", "carrier", home.machine); n.Data.Reporter == home.Name {
		t.Errorf("the home told through a wall: %s", n)
	}
	must(t, w.lan.Heal())
	// Sooner or later the home tells by itself again.
	for up := true; ; up = !up {
		c.Forget()
		transition := "raised"
		cable := home.uplink.Pull
		if up {
			transition, cable = "cleared", home.uplink.Plug
		}
		must(t, cable())
		if c.hears(t, transition, "carrier", home.machine).Data.Reporter == home.Name {
			break
		}
	}
	c.once(t)
	for _, a := range all {
		within(t, patience, a.Name+" to owe nothing", func() error { return a.owes(0) })
	}
}

// owes is an error unless so many deliveries are pending.
func (a *agent) owes(want int) error {
	var list struct {
		Deliveries []map[string]any `json:"deliveries"`
	}
	if err := a.read("/v1/deliveries", &list); err != nil {
		return err
	}
	if len(list.Deliveries) != want {
		return fmt.Errorf("%s owes %v", a.Name, list.Deliveries)
	}
	return nil
}

func TestASecondHostsGoneEndsASubscription(t *testing.T) {
	c := consume(t, "a")
	all := form(t, 4)
	id, _ := c.subscribe(all[0])
	all.level(patience)
	var asked atomic.Int32
	c.Respond(func(w http.ResponseWriter, _ *http.Request) { asked.Add(1); w.WriteHeader(http.StatusGone) })

	must(t, all[1].uplink.Pull())
	within(t, patience, "the host that was refused to pause", func() error {
		subs, err := all[1].subscriptions()
		if err != nil {
			return err
		}
		if i := slices.IndexFunc(subs, func(s subscription) bool { return s.ID == id }); i < 0 || subs[i].Paused == "" {
			return fmt.Errorf("%+v", subs)
		}
		return nil
	})
	must(t, all[2].uplink.Pull())
	within(t, patience, "the subscription to end everywhere", func() error {
		for _, a := range all {
			subs, err := a.subscriptions()
			if err != nil {
				return err
			}
			if len(subs) != 0 {
				return fmt.Errorf("%s has %+v", a.Name, subs)
			}
		}
		return nil
	})
	c.Forget()
	must(t, all[3].uplink.Pull())
	all[0].carrier(all[3].machine)
	all.level(patience)
	if got := c.All(); len(got) != 0 {
		t.Errorf("it is told on: %v", got)
	}
}

func TestOneFileOnAllHostsIsOneSubscription(t *testing.T) {
	c, d := consume(t, "a"), consume(t, "a")
	d.key = c.key
	// The last host has no file, the one before another endpoint under the same name.
	all := form(t, 4, func(m *machine, s *settings) {
		switch m.n {
		case 1, 2:
			s.subscriptions = []*consumer{c}
		case 3:
			s.subscriptions = []*consumer{d}
		}
	})
	var ids []string
	for _, a := range all {
		subs, err := a.subscriptions()
		must(t, err)
		for _, s := range subs {
			ids = append(ids, s.ID)
		}
	}
	if slices.Sort(ids); len(slices.Compact(ids)) != 1 {
		t.Errorf("the subscriptions are %v", ids)
	}
	for _, a := range all {
		must(t, a.uplink.Pull())
	}
	for _, a := range all[:2] {
		c.hears(t, "raised", "carrier", a.machine)
	}
	d.hears(t, "raised", "carrier", all[2].machine) // each host's own file wins there
	last := func(n lab.Notification) bool { return is("raised", "carrier", all[3].machine)(n) }
	within(t, patience, "one of the two to hear of the host without a file", func() error {
		if !slices.ContainsFunc(c.All(), last) && !slices.ContainsFunc(d.All(), last) {
			return fmt.Errorf("%v, %v", c.All(), d.All())
		}
		return nil
	})
	// The conflict is an alarm at both sides of it, which names the others.
	for _, at := range []*agent{all[0], all[1], all[2]} {
		within(t, patience, "the conflict at "+at.Name, func() error {
			standing, err := all[3].standing()
			if err != nil {
				return err
			}
			if !slices.ContainsFunc(standing, func(x alarm) bool {
				return x.Host == at.Name && x.Condition == "subscription-conflict" && strings.HasSuffix(x.Resource, "/a")
			}) {
				return fmt.Errorf("%+v", standing)
			}
			return nil
		})
	}
	s := w.settings(all[2].machine)
	s.subscriptions = []*consumer{c}
	must(t, all[2].Configure(all[2].configuration(t, s)))
	must(t, all[2].Hangup())
	within(t, patience, "the conflict to end", func() error {
		standing, err := all[3].standing()
		if err != nil {
			return err
		}
		if slices.ContainsFunc(standing, func(x alarm) bool { return x.Condition == "subscription-conflict" }) {
			return fmt.Errorf("%+v", standing)
		}
		return nil
	})
	all.level(patience)
}
