package cluster

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/paramedic-ha/paramedic/agent/e2e/fleet"
	"github.com/paramedic-ha/paramedic/agent/e2e/lab"
)

func TestAPeerTellsWhomTheHomeCannotReach(t *testing.T) {
	c := w.Consume(t, "a")
	all := w.Form(t, 3)
	home := all[1]
	c.Subscribe(all[0])
	all.Level(fleet.Patience)

	fleet.Must(t, home.Uplink.Pull())
	if n := c.Hears(t, "raised", "carrier", home.Machine); n.Data.Reporter != home.Name {
		t.Errorf("the home can reach the consumer, and %s told: %s", n.Data.Reporter, n)
	}
	c.Forget()
	fleet.Must(t, w.LAN.Block(home.Machine.Host, w.Consumers, true))
	began := time.Now()
	fleet.Must(t, home.Uplink.Plug())
	n := c.Hears(t, "cleared", "carrier", home.Machine)
	t.Logf("the peer told it after %v", n.Arrived.Sub(began)) // the connection was open and looked well
	if n.Data.Reporter == home.Name || n.Source != "/paramedic/lab/"+home.Name {
		t.Errorf("%s told as %s: %s", n.Data.Reporter, n.Source, n)
	}
	// The stand-in told it for good: the home sends nothing again when it can.
	fleet.Must(t, home.Uplink.Pull())
	if n := c.Hears(t, "raised", "carrier", home.Machine); n.Data.Reporter == home.Name {
		t.Errorf("the home told through a wall: %s", n)
	}
	fleet.Must(t, w.LAN.Heal())
	// Sooner or later the home tells by itself again.
	for up := true; ; up = !up {
		c.Forget()
		transition := "raised"
		cable := home.Uplink.Pull
		if up {
			transition, cable = "cleared", home.Uplink.Plug
		}
		fleet.Must(t, cable())
		if c.Hears(t, transition, "carrier", home.Machine).Data.Reporter == home.Name {
			break
		}
	}
	c.Once(t)
	for _, a := range all {
		fleet.Within(t, fleet.Patience, a.Name+" to owe nothing", func() error { return a.Owes(0) })
	}
}

func TestASecondHostsGoneEndsASubscription(t *testing.T) {
	c := w.Consume(t, "a")
	all := w.Form(t, 4)
	id, _ := c.Subscribe(all[0])
	all.Level(fleet.Patience)
	var asked atomic.Int32
	c.Respond(func(w http.ResponseWriter, _ *http.Request) { asked.Add(1); w.WriteHeader(http.StatusGone) })

	fleet.Must(t, all[1].Uplink.Pull())
	fleet.Within(t, fleet.Patience, "the host that was refused to pause", func() error {
		subs, err := all[1].Subscribed()
		if err != nil {
			return err
		}
		if i := slices.IndexFunc(subs, func(s fleet.Subscription) bool { return s.ID == id }); i < 0 || subs[i].Paused == "" {
			return fmt.Errorf("%+v", subs)
		}
		return nil
	})
	fleet.Must(t, all[2].Uplink.Pull())
	fleet.Within(t, fleet.Patience, "the subscription to end everywhere", func() error {
		for _, a := range all {
			subs, err := a.Subscribed()
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
	fleet.Must(t, all[3].Uplink.Pull())
	all[0].Carrier(all[3].Machine)
	all.Level(fleet.Patience)
	if got := c.All(); len(got) != 0 {
		t.Errorf("it is told on: %v", got)
	}
}

func TestOneFileOnAllHostsIsOneSubscription(t *testing.T) {
	c, d := w.Consume(t, "a"), w.Consume(t, "a")
	d.Key = c.Key
	// The last host has no file, the one before another endpoint under the same name.
	all := w.Form(t, 4, func(m *fleet.Machine, s *fleet.Settings) {
		switch m.N {
		case 1, 2:
			s.Subscriptions = []*fleet.Consumer{c}
		case 3:
			s.Subscriptions = []*fleet.Consumer{d}
		}
	})
	var ids []string
	for _, a := range all {
		subs, err := a.Subscribed()
		fleet.Must(t, err)
		for _, s := range subs {
			ids = append(ids, s.ID)
		}
	}
	if slices.Sort(ids); len(slices.Compact(ids)) != 1 {
		t.Errorf("the subscriptions are %v", ids)
	}
	for _, a := range all {
		fleet.Must(t, a.Uplink.Pull())
	}
	for _, a := range all[:2] {
		c.Hears(t, "raised", "carrier", a.Machine)
	}
	d.Hears(t, "raised", "carrier", all[2].Machine) // each host's own file wins there
	last := func(n lab.Notification) bool { return fleet.Is("raised", "carrier", all[3].Machine)(n) }
	fleet.Within(t, fleet.Patience, "one of the two to hear of the host without a file", func() error {
		if !slices.ContainsFunc(c.All(), last) && !slices.ContainsFunc(d.All(), last) {
			return fmt.Errorf("%v, %v", c.All(), d.All())
		}
		return nil
	})
	// The conflict is an alarm at both sides of it, which names the others.
	for _, at := range []*fleet.Agent{all[0], all[1], all[2]} {
		fleet.Within(t, fleet.Patience, "the conflict at "+at.Name, func() error {
			standing, err := all[3].Standing()
			if err != nil {
				return err
			}
			if !slices.ContainsFunc(standing, func(x fleet.Alarm) bool {
				return x.Host == at.Name && x.Condition == "subscription-conflict" && strings.HasSuffix(x.Resource, "/a")
			}) {
				return fmt.Errorf("%+v", standing)
			}
			return nil
		})
	}
	s := w.Settings(all[2].Machine)
	s.Subscriptions = []*fleet.Consumer{c}
	fleet.Must(t, all[2].Configure(all[2].Configuration(t, s)))
	fleet.Must(t, all[2].Hangup())
	fleet.Within(t, fleet.Patience, "the conflict to end", func() error {
		standing, err := all[3].Standing()
		if err != nil {
			return err
		}
		if slices.ContainsFunc(standing, func(x fleet.Alarm) bool { return x.Condition == "subscription-conflict" }) {
			return fmt.Errorf("%+v", standing)
		}
		return nil
	})
	all.Level(fleet.Patience)
}
