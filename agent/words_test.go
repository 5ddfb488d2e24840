package agent

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/paramedic-ha/paramedic/agent/ledger"
	"github.com/paramedic-ha/paramedic/correlate"
	"github.com/paramedic-ha/paramedic/gossip"
	"github.com/paramedic-ha/paramedic/hw"
	"github.com/paramedic-ha/paramedic/notify"
)

func word(kind gossip.Kind, alarm, text string) ledger.Saying {
	return ledger.Saying{Kind: kind, AlarmID: alarm, By: "alice", Text: text, At: time.Now()}
}

// dismissed are the alarms of this host that were cleared by hand and are still reported.
func dismissed(t *testing.T, a *Agent) (all []*correlate.Alarm) {
	t.Helper()
	if err := a.Query(t.Context(), func(e *correlate.Engine) { all = e.Dismissed() }); err != nil {
		t.Fatal(err)
	}
	return all
}

func TestAnAlarmIsCommentedOnAndClearedFromAnyHost(t *testing.T) {
	h := newHosts(t, 3)
	h.start()
	r := receive(t)
	h.subscribe(0, r)
	h.all[1].say(fails)
	raised := r.await(t, 1)[0]
	var id string
	eventually(t, "the third host knows of the alarm", func() bool {
		a := h.all[2].remote("cmp-2")
		if a != nil {
			id = a.ID
		}
		return a != nil
	})
	if a, err := h.all[2].Say(t.Context(), word(gossip.KindComment, id, "on my way")); err != nil || len(a.Comments) != 1 {
		t.Fatalf("commented on as %+v, %v", a, err)
	}
	h.everywhere("the comment", func(one *clusterHost) bool {
		a := one.remote("cmp-2")
		if one == h.all[1] {
			a = one.stands(correlate.CondCarrier)
		}
		return a != nil && len(a.Comments) == 1 && a.Comments[0].By == "alice" && a.Comments[0].Text == "on my way"
	})
	a, err := h.all[2].Say(t.Context(), word(gossip.KindClear, id, "unplugged on purpose"))
	if err != nil || a.ByHand == nil || a.ByHand.By != "alice" {
		t.Fatalf("cleared as %+v, %v", a, err)
	}
	cleared := r.await(t, 2)[1]
	t.Logf("told %v, then %v", raised, cleared)
	eventually(t, "the first host knows what was dismissed", func() bool {
		all := h.all[0].cluster.Dismissed()
		return len(all) == 1 && all[0].ID == id && all[0].ByHand.Comment == "unplugged on purpose"
	})

	// The source goes on saying so, over a restart too.
	h.all[1].say(fails)
	h.all[1].stop()
	h.all[1].first = broken
	h.all[1].start()
	eventually(t, "it is back and its source has spoken", func() bool {
		return h.all[1].Ready() == nil && len(dismissed(t, h.all[1].Agent)) == 1
	})
	if a := h.all[1].stands(correlate.CondCarrier); a != nil {
		t.Errorf("what was cleared by hand stands again: %+v", a)
	}
	h.all[1].say(recovers)
	eventually(t, "nothing is dismissed any more", func() bool { return len(h.all[0].cluster.Dismissed()) == 0 })
	h.all[1].say(fails)
	if told := r.await(t, 3); len(told) != 3 {
		t.Errorf("told %v; want raised, cleared, and raised anew", told)
	}
}

// stated emits a truth, and tells when it was taken.
func stated(d correlate.Delta) func(context.Context, hw.Sink) error {
	return func(ctx context.Context, sink hw.Sink) error {
		if err := sink.Emit(ctx, d); err != nil {
			return err
		}
		<-ctx.Done()
		return ctx.Err()
	}
}

func TestACommentAndAClearByHandOutliveARestart(t *testing.T) {
	c := testConfig(t)
	two := carrierLost
	two.Set = append(slices.Clone(two.Set), correlate.Resource{ID: "nic/eth1"})
	two.Events = append(slices.Clone(two.Events), correlate.Event{Resource: "nic/eth1", Condition: correlate.CondCarrier, Status: correlate.StatusFailed})
	a := start(t, c, oneSource("nic", stated(two)))
	gone := awaitAlarm(t, a, "nic/eth0", correlate.CondCarrier, correlate.Raised)
	kept := awaitAlarm(t, a, "nic/eth1", correlate.CondCarrier, correlate.Raised)
	if _, err := a.Say(t.Context(), word(gossip.KindComment, kept.ID, "the cable is on order")); err != nil {
		t.Fatal(err)
	}
	if after, err := a.Say(t.Context(), word(gossip.KindClear, gone.ID, "nobody needs it")); err != nil || after.Standing() || !after.Dismissed() {
		t.Fatalf("cleared: %+v, %v", after, err)
	}
	stop(t, a)

	b := start(t, c, oneSource("nic", stated(two)))
	eventually(t, "the source has spoken again", func() bool { return b.Ready() == nil })
	if all := dismissed(t, b); len(all) != 1 || all[0].ID != gone.ID || all[0].ByHand.By != "alice" {
		t.Errorf("dismissed: %+v; want the alarm of before", all)
	}
	err := b.Query(t.Context(), func(e *correlate.Engine) {
		standing := e.Alarms()
		if len(standing) != 1 || standing[0].ID != kept.ID || len(standing[0].Comments) != 1 || standing[0].Comments[0].Text != "the cable is on order" {
			t.Errorf("after the restart stands %+v; want the other one, with its comment", standing)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	stop(t, b)

	// It was well while nobody looked.
	d := start(t, c, oneSource("nic", stated(correlate.Delta{Full: true, Set: two.Set})))
	eventually(t, "the source has spoken", func() bool { return d.Ready() == nil && len(dismissed(t, d)) == 0 })
	if left := d.notifier.Restored().Alarms; len(left) != 2 {
		t.Errorf("%d alarms were restored, want the standing one and the dismissed one", len(left))
	}
	stop(t, d)
	if left := start(t, c, oneSource("nic", idle)).notifier.Restored().Alarms; len(left) != 0 {
		t.Errorf("%d alarms are still on the disk", len(left))
	}
}

func TestAMuteAtOneHostSilencesTheAlarmOfAnother(t *testing.T) {
	h := newHosts(t, 3)
	h.start()
	r := receive(t)
	h.subscribe(0, r)
	m := notify.Mute{
		ID: "switch", Filter: notify.Filter{Zones: []string{"z2"}}, Until: time.Now().Add(time.Hour).Round(0).UTC(), By: "alice", Made: time.Now().Round(0).UTC(),
	}
	if made, err := h.all[0].Notify().SetMute(t.Context(), m); err != nil || !made {
		t.Fatal(made, err)
	}
	took := h.everywhere("the mute", func(one *clusterHost) bool { return len(one.Notify().Mutes()) == 1 })
	t.Logf("it held everywhere after %v", took)
	h.all[1].say(fails)
	h.all[2].say(fails) // in another zone
	if got := r.await(t, 1); got[0].Data.Host != "cmp-3" {
		t.Errorf("told %v", got)
	}
	eventually(t, "the alarm is known at another host", func() bool { return h.all[0].remote("cmp-2") != nil })
	if by, muted := h.all[0].Notify().Muted()(h.all[0].remote("cmp-2")); !muted || by.ID != "switch" {
		t.Errorf("seen from another host it is muted %v by %+v", muted, by)
	}

	// Its home is restarted meanwhile, and goes on keeping quiet.
	h.all[1].stop()
	h.all[1].first = broken
	h.all[1].start()
	eventually(t, "it is back", func() bool { return h.all[1].Ready() == nil && h.all[1].stands(correlate.CondCarrier) != nil })
	if got := r.carriers(); len(got) != 1 {
		t.Errorf("after the restart told %v", got)
	}
	if err := h.all[2].Notify().EndMute(t.Context(), "switch"); err != nil {
		t.Fatal(err)
	}
	if got := r.await(t, 2); got[1].Data.Host != "cmp-2" {
		t.Errorf("told %v at the end of the mute", got)
	}
}
