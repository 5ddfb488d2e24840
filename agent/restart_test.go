package agent

import (
	"testing"

	"github.com/paramedic-ha/paramedic/agent/config"
	"github.com/paramedic-ha/paramedic/correlate"
)

// What the files of two hosts contradict each other in stands on while one of them starts again: nobody is told that it is
// over, and then that it is not.
func TestARestartDoesNotTellTwiceOfAConflict(t *testing.T) {
	h := newHosts(t, 2)
	r := receive(t)
	h.all[0].config.Notify.Subscriptions = []config.Subscription{fileSubscription("ops", r.URL)}
	h.all[1].config.Notify.Subscriptions = []config.Subscription{fileSubscription("ops", receive(t).URL)}
	h.start()
	var before *correlate.Alarm
	eventually(t, "the conflict is an alarm", func() bool { before = h.all[0].stands(correlate.CondConflict); return before != nil })
	h.all[0].stop()
	h.all[0].start()
	h.ready()
	h.all[0].say(fails)
	r.await(t, 1) // what was said before it was told before it
	if after := h.all[0].stands(correlate.CondConflict); after == nil || after.ID != before.ID || after.Revision != before.Revision {
		t.Errorf("the alarm was\n%+v, is\n%+v", before, after)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.got) > 2 {
		t.Errorf("told of %v", r.got)
	}
}

// A host that is taken out of its cluster has nobody left to contradict.
func TestAHostThatIsAloneNowHasNoConflictLeft(t *testing.T) {
	h := newHosts(t, 2)
	for _, one := range h.all {
		one.config.Notify.Subscriptions = []config.Subscription{fileSubscription("ops", receive(t).URL)}
	}
	h.start()
	eventually(t, "the conflict is an alarm", func() bool { return h.all[0].stands(correlate.CondConflict) != nil })
	h.all[0].stop()
	h.all[0].config.Cluster = config.Cluster{Label: h.all[0].config.Cluster.Label, Secrets: h.all[0].config.Cluster.Secrets}
	h.all[0].start()
	eventually(t, "it is over", func() bool { return h.all[0].stands(correlate.CondConflict) == nil })
}
