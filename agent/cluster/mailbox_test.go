package cluster

import (
	"slices"
	"testing"

	"github.com/paramedic-ha/paramedic/correlate"
	"github.com/paramedic-ha/paramedic/notify"
)

func alarm(id string, counter uint64, last correlate.Transition) *correlate.Alarm {
	return &correlate.Alarm{ID: id, Revision: correlate.Revision{Term: 2, Counter: counter}, Last: last}
}

func effects(alarms ...*correlate.Alarm) correlate.Effects {
	eff := correlate.Effects{Save: alarms}
	for _, a := range alarms {
		eff.Publish = append(eff.Publish, correlate.Change{Alarm: a})
	}
	return eff
}

func TestTheMailboxHoldsTheNewestOfEachAlarm(t *testing.T) {
	b := newMailbox()
	b.effects(effects(alarm("a", 1, correlate.Raised), alarm("b", 2, correlate.Raised)))
	b.effects(effects(alarm("a", 3, correlate.Changed)))
	acked := alarm("b", 2, correlate.Raised)
	acked.Ack = &correlate.Acknowledgement{By: "alice"}
	b.effects(correlate.Effects{Save: []*correlate.Alarm{acked, alarm("c", 1, correlate.Raised)}})
	if n := b.depth(); n != 3 {
		t.Errorf("%d things wait, want one of each alarm", n)
	}
	m := b.take()
	eff := m.effects()
	var saved, told []string
	for _, a := range eff.Save {
		saved = append(saved, a.ID+" "+a.Revision.String())
	}
	for _, c := range eff.Publish {
		told = append(told, c.Alarm.ID+" "+c.Alarm.Revision.String())
		if c.Alarm.ID == "b" && c.Alarm.Ack == nil {
			t.Error("the acknowledgement is lost")
		}
	}
	if !slices.Equal(saved, []string{"b 2.2", "a 2.3", "c 2.1"}) || !slices.Equal(told, []string{"b 2.2", "a 2.3"}) {
		t.Errorf("saved %q, told %q", saved, told)
	}
	if m := b.take(); len(m.effects().Save) > 0 {
		t.Error("it is not empty after it was taken")
	}
}

func TestTheMailboxHoldsOneThingOfEachResource(t *testing.T) {
	b := newMailbox()
	set := func(names ...string) (out []correlate.Resource) {
		for _, n := range names {
			out = append(out, correlate.Resource{ID: correlate.ID(n), Name: n})
		}
		return out
	}
	b.delta(correlate.Delta{Source: "virt", Set: set("domain/a", "domain/b")})
	b.delta(correlate.Delta{Source: "virt", Gone: []correlate.Gone{{ID: "domain/a", Reason: correlate.GoneMigrated}}})
	b.delta(correlate.Delta{Source: "nic", Set: set("nic/eth0")})
	b.delta(correlate.Delta{Source: "nic", Events: []correlate.Event{{Resource: "nic/eth0"}}}) // nothing of the inventory
	m := b.take()
	all := m.inventory()
	if len(all) != 2 || all[1].Source != "virt" || len(all[1].Set) != 1 || len(all[1].Gone) != 1 || all[1].Gone[0].Reason != correlate.GoneMigrated {
		t.Errorf("inventory %+v", all)
	}
	b.delta(correlate.Delta{Source: "virt", Gone: []correlate.Gone{{ID: "domain/b"}}})
	b.delta(correlate.Delta{Source: "virt", Full: true, Set: set("domain/b", "domain/c")})
	b.delta(correlate.Delta{Source: "virt", Set: set("domain/d"), Gone: []correlate.Gone{{ID: "domain/c"}}})
	m = b.take()
	d := m.inventory()[0]
	if !d.Full || len(d.Set) != 2 || d.Set[0].ID != "domain/b" || d.Set[1].ID != "domain/d" || len(d.Gone) != 1 {
		t.Errorf("the whole truth and what came after it: %+v", d)
	}
}

func TestTheMailboxHoldsTheLastOfEachPair(t *testing.T) {
	b := newMailbox()
	b.addPairs([]notify.Pair{{Subscription: "s", AlarmID: "b"}, {Subscription: "s", AlarmID: "a", Attempts: 1}})
	b.addPairs([]notify.Pair{{Subscription: "s", AlarmID: "a", Attempts: 2}})
	m := b.take()
	if pairs := m.sortedPairs(); len(pairs) != 2 || pairs[0].Attempts != 2 || pairs[1].AlarmID != "b" {
		t.Errorf("pairs %+v", pairs)
	}
	select {
	case <-b.wake:
	default:
		t.Error("nobody was woken")
	}
}
