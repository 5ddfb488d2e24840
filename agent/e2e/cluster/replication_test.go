package cluster

import (
	"fmt"
	"net/http"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/paramedic-ha/paramedic/agent/e2e/fleet"
	"github.com/paramedic-ha/paramedic/agent/e2e/lab"
)

func TestTwentyAgents(t *testing.T) {
	all := w.Form(t, size)
	c := w.Consume(t, "a")

	id, _ := c.Subscribe(all[0])
	t.Logf("active everywhere after %v", all.Active(id))

	// Each host's fault is told once, by itself.
	raise := func(to *fleet.Consumer, of fleet.Agents) {
		t.Helper()
		for _, a := range of {
			fleet.Must(t, a.Uplink.Pull())
		}
		for _, a := range of {
			if n := to.Hears(t, "raised", "carrier", a.Machine); n.Data.Reporter != a.Name || n.Source != "/paramedic/lab/"+a.Name {
				t.Errorf("%s was told by %s as %s", n, n.Data.Reporter, n.Source)
			}
		}
	}
	clearAll := func(from *fleet.Consumer, of fleet.Agents) {
		t.Helper()
		for _, a := range of {
			fleet.Must(t, a.Uplink.Plug())
		}
		for _, a := range of {
			from.Hears(t, "cleared", "carrier", a.Machine)
		}
	}
	raise(c, all)
	t.Logf("level %v after the last was told", all.Level(fleet.Patience))
	c.Once(t)

	// Any agent answers for all; a word said at one is known at all.
	var fault fleet.Alarm
	fleet.Within(t, fleet.Patience, "cmp-08 to say how old its word about cmp-04 is", func() error {
		if fault = all[7].Carrier(all[3].Machine); time.Since(fault.AsOf) > time.Minute {
			return fmt.Errorf("%+v", fault)
		}
		return nil
	})
	_, err := all[9].Call(http.MethodPost, "/v1/alarms/"+fault.ID+"/ack", map[string]any{"comment": "seen"}, http.StatusOK)
	fleet.Must(t, err)
	fleet.Within(t, fleet.Patience, "the acknowledgement to be everywhere", func() error {
		for _, a := range all {
			if x := a.Carrier(all[3].Machine); x.Ack == nil || x.Ack.Comment != "seen" {
				return fmt.Errorf("%s says %+v", a.Name, x)
			}
		}
		return nil
	})
	clearAll(c, all)
	all.Level(fleet.Patience)
	c.Once(t)

	t.Run("the one that took a subscription dies", func(t *testing.T) {
		d := w.Consume(t, "d")
		id, _ := d.Subscribe(all[5])
		fleet.Must(t, all[5].Kill())
		rest := slices.Concat(all[:5], all[6:])
		rest.Active(id)
		raise(d, rest[:3])
		clearAll(d, rest[:3])
		d.Once(t)
		fleet.Must(t, all[5].Start())
		all.Level(fleet.Patience)
	})
	t.Run("all but one are reimaged", func(t *testing.T) {
		all[1:].KillAll()
		for _, a := range all[1:] {
			fleet.Must(t, os.RemoveAll(a.Path(lab.StateDir)))
		}
		all[1:].StartAll()
		t.Logf("level %v after the start", all.Level(fleet.Patience))
		raise(c, all[10:12])
		clearAll(c, all[10:12])
	})
	t.Run("power returns in another order", func(t *testing.T) {
		fleet.Must(t, all[2].Uplink.Pull()) // stays
		c.Hears(t, "raised", "carrier", all[2].Machine)
		fleet.Must(t, all[4].Uplink.Pull()) // ends in the dark
		c.Hears(t, "raised", "carrier", all[4].Machine)
		before := all[0].Carrier(all[2].Machine)
		all.Level(fleet.Patience)
		c.Forget()
		all.KillAll()
		fleet.Must(t, all[4].Uplink.Plug())
		for _, a := range slices.Backward(all) {
			fleet.Must(t, a.StartOnly())
		}
		all.Try(func(a *fleet.Agent) error { return a.Ready(fleet.Patience) })
		t.Logf("level %v after they are ready", all.Level(fleet.Patience))
		c.Hears(t, "cleared", "carrier", all[4].Machine)
		if after := all[0].Carrier(all[2].Machine); after.ID != before.ID {
			t.Errorf("the alarm was %+v, is %+v", before, after)
		}
		if subs, err := all[19].Subscribed(); err != nil || len(subs) != 2 {
			t.Errorf("%v: %+v", err, subs)
		}
		fleet.Must(t, all[2].Uplink.Plug())
		c.Hears(t, "cleared", "carrier", all[2].Machine)
		c.Identities(t)
	})
}

func TestTwoHalvesBecomeOneAgain(t *testing.T) {
	all := w.Form(t, size)
	left, right := all[:size/2], all[size/2:]
	c := w.Consume(t, "a")
	id, _ := c.Subscribe(all[0])
	all.Active(id)

	fleet.Must(t, w.LAN.Split(left.Hosts(), right.Hosts()))
	l, r := w.Consume(t, "left"), w.Consume(t, "right")
	lid, _ := l.Subscribe(left[3])
	rid, _ := r.Subscribe(right[3])
	for _, a := range []*fleet.Agent{left[1], right[1]} { // faults at both sides
		fleet.Must(t, a.Uplink.Pull())
		c.Hears(t, "raised", "carrier", a.Machine)
	}
	l.Hears(t, "raised", "carrier", left[1].Machine)
	r.Hears(t, "raised", "carrier", right[1].Machine)
	left.Level(fleet.Patience)
	right.Level(fleet.Patience) // each sees its half only: the others are not members any more

	fleet.Must(t, w.LAN.Split())
	t.Logf("level %v after the end of the partition", all.Level(fleet.Patience))
	all.Active(lid)
	all.Active(rid)
	// Who subscribed in one half is owed what stands in the other.
	l.Hears(t, "raised", "carrier", right[1].Machine)
	r.Hears(t, "raised", "carrier", left[1].Machine)
	for _, x := range []*fleet.Consumer{c, l, r} {
		x.Once(t)
	}
}

func TestALossyNetworkLosesNoSubscriptionAndNoAlarm(t *testing.T) {
	all := w.Form(t, 8)
	fleet.Must(t, w.LAN.Lose(15))
	c := w.Consume(t, "a")
	c.Subscribe(all[0])
	all.Level(fleet.Patience)
	for _, a := range all {
		fleet.Must(t, a.Uplink.Pull())
	}
	for _, a := range all {
		c.Hears(t, "raised", "carrier", a.Machine)
	}
	t.Logf("level after %v", all.Level(fleet.Patience))
	c.Identities(t)
}
