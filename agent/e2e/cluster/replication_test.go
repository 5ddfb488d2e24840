package cluster

import (
	"fmt"
	"net/http"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/paramedic-ha/paramedic/agent/e2e/lab"
)

// active waits until every agent has the subscription. How long that takes, and the end of a partition, make bench measures:
// on a machine that is busy with twenty agents no promise of docs/cluster.md can be judged.
func (as agents) active(id string) time.Duration {
	t := as[0].t
	t.Helper()
	return within(t, patience, "the subscription to be active everywhere", func() error {
		for _, a := range as {
			subs, err := a.subscriptions()
			if err != nil {
				return err
			}
			if !slices.ContainsFunc(subs, func(s subscription) bool { return s.ID == id }) {
				return fmt.Errorf("%s has %+v", a.Name, subs)
			}
		}
		return nil
	})
}

func TestTwentyAgents(t *testing.T) {
	all := form(t, size)
	c := consume(t, "a")

	id, _ := c.subscribe(all[0])
	t.Logf("active everywhere after %v", all.active(id))

	// Each host's fault is told once, by itself.
	raise := func(to *consumer, of agents) {
		t.Helper()
		for _, a := range of {
			must(t, a.uplink.Pull())
		}
		for _, a := range of {
			if n := to.hears(t, "raised", "carrier", a.machine); n.Data.Reporter != a.Name || n.Source != "/paramedic/lab/"+a.Name {
				t.Errorf("%s was told by %s as %s", n, n.Data.Reporter, n.Source)
			}
		}
	}
	clearAll := func(from *consumer, of agents) {
		t.Helper()
		for _, a := range of {
			must(t, a.uplink.Plug())
		}
		for _, a := range of {
			from.hears(t, "cleared", "carrier", a.machine)
		}
	}
	raise(c, all)
	t.Logf("level %v after the last was told", all.level(patience))
	c.once(t)

	// Any agent answers for all; a word said at one is known at all.
	var fault alarm
	within(t, patience, "cmp-08 to say how old its word about cmp-04 is", func() error {
		if fault = all[7].carrier(all[3].machine); time.Since(fault.AsOf) > time.Minute {
			return fmt.Errorf("%+v", fault)
		}
		return nil
	})
	_, err := all[9].Call(http.MethodPost, "/v1/alarms/"+fault.ID+"/ack", map[string]any{"comment": "seen"}, http.StatusOK)
	must(t, err)
	within(t, patience, "the acknowledgement to be everywhere", func() error {
		for _, a := range all {
			if x := a.carrier(all[3].machine); x.Ack == nil || x.Ack.Comment != "seen" {
				return fmt.Errorf("%s says %+v", a.Name, x)
			}
		}
		return nil
	})
	clearAll(c, all)
	all.level(patience)
	c.once(t)

	t.Run("the one that took a subscription dies", func(t *testing.T) {
		d := consume(t, "d")
		id, _ := d.subscribe(all[5])
		must(t, all[5].Kill())
		rest := slices.Concat(all[:5], all[6:])
		rest.active(id)
		raise(d, rest[:3])
		clearAll(d, rest[:3])
		d.once(t)
		must(t, all[5].Start())
		all.level(patience)
	})
	t.Run("all but one are reimaged", func(t *testing.T) {
		all[1:].kill()
		for _, a := range all[1:] {
			must(t, os.RemoveAll(a.Path(lab.StateDir)))
		}
		all[1:].start()
		t.Logf("level %v after the start", all.level(patience))
		raise(c, all[10:12])
		clearAll(c, all[10:12])
	})
	t.Run("power returns in another order", func(t *testing.T) {
		must(t, all[2].uplink.Pull()) // stays
		c.hears(t, "raised", "carrier", all[2].machine)
		must(t, all[4].uplink.Pull()) // ends in the dark
		c.hears(t, "raised", "carrier", all[4].machine)
		before := all[0].carrier(all[2].machine)
		all.level(patience)
		c.Forget()
		all.kill()
		must(t, all[4].uplink.Plug())
		for _, a := range slices.Backward(all) {
			must(t, a.StartOnly())
		}
		all.try(func(a *agent) error { return a.Ready(patience) })
		t.Logf("level %v after they are ready", all.level(patience))
		c.hears(t, "cleared", "carrier", all[4].machine)
		if after := all[0].carrier(all[2].machine); after.ID != before.ID {
			t.Errorf("the alarm was %+v, is %+v", before, after)
		}
		if subs, err := all[19].subscriptions(); err != nil || len(subs) != 2 {
			t.Errorf("%v: %+v", err, subs)
		}
		must(t, all[2].uplink.Plug())
		c.hears(t, "cleared", "carrier", all[2].machine)
		c.identities(t)
	})
}

func TestTwoHalvesBecomeOneAgain(t *testing.T) {
	all := form(t, size)
	left, right := all[:size/2], all[size/2:]
	c := consume(t, "a")
	id, _ := c.subscribe(all[0])
	all.active(id)

	must(t, w.lan.Split(left.hosts(), right.hosts()))
	l, r := consume(t, "left"), consume(t, "right")
	lid, _ := l.subscribe(left[3])
	rid, _ := r.subscribe(right[3])
	for _, a := range []*agent{left[1], right[1]} { // faults at both sides
		must(t, a.uplink.Pull())
		c.hears(t, "raised", "carrier", a.machine)
	}
	l.hears(t, "raised", "carrier", left[1].machine)
	r.hears(t, "raised", "carrier", right[1].machine)
	left.level(patience)
	right.level(patience) // each sees its half only: the others are not members any more

	must(t, w.lan.Split())
	t.Logf("level %v after the end of the partition", all.level(patience))
	all.active(lid)
	all.active(rid)
	// Who subscribed in one half is owed what stands in the other.
	l.hears(t, "raised", "carrier", right[1].machine)
	r.hears(t, "raised", "carrier", left[1].machine)
	for _, x := range []*consumer{c, l, r} {
		x.once(t)
	}
}

func TestALossyNetworkLosesNoSubscriptionAndNoAlarm(t *testing.T) {
	all := form(t, 8)
	must(t, w.lan.Lose(15))
	c := consume(t, "a")
	c.subscribe(all[0])
	all.level(patience)
	for _, a := range all {
		must(t, a.uplink.Pull())
	}
	for _, a := range all {
		c.hears(t, "raised", "carrier", a.machine)
	}
	t.Logf("level after %v", all.level(patience))
	c.identities(t)
}
