package gossip

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"
)

func setShared(t testing.TB, r *Replica, now time.Time, id, payload string) Record {
	t.Helper()
	rec, changed, err := r.SetShared(now, KindSubscription, id, []byte(payload))
	if err != nil || !changed {
		t.Fatalf("set shared %q: changed %v, %v", id, changed, err)
	}
	return rec
}

// tellClocks gives each replica the clocks of the others.
func tellClocks(t testing.TB, now func(*Replica) time.Time, all ...*Replica) {
	t.Helper()
	for _, to := range all {
		for _, from := range all {
			if to != from {
				if _, err := to.Handle(now(to), from.Self(), from.Digest(now(from))); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
}

func TestWhatWasWrittenByAClockAheadIsHealedWhenItIsSet(t *testing.T) {
	for _, wrong := range []time.Duration{time.Hour, 365 * 24 * time.Hour} {
		a, b, c := newReplica(t, "a", 2), newReplica(t, "b", 2), newReplica(t, "c", 2)
		early := noon.Add(wrong)
		a.Tick(early)
		one := setShared(t, a, early, "one", "of a")
		two := setShared(t, a, early, "two", "of a")
		gone, _, err := a.DeleteShared(early, KindSubscription, "two")
		if err != nil {
			t.Fatal(err)
		}
		res := b.Merge(noon, []Record{one, two, gone})
		if len(res.Changed) != 0 || len(res.Rejected) != 3 || b.Status().Rejected[0] != (RejectionCount{"a", Ahead, 3, noon}) {
			t.Fatalf("%+v", res)
		}
		// c has the same wrong clock, and takes it.
		c.Tick(early)
		c.Merge(early, []Record{one, two, gone})
		seconds := 0
		skew := wrong
		clock := func(r *Replica) time.Time {
			if r != b {
				return noon.Add(skew + time.Duration(seconds)*time.Second)
			}
			return noon.Add(time.Duration(seconds) * time.Second)
		}
		tellClocks(t, clock, a, b, c)
		for range 3 {
			seconds++
			if res := a.Tick(clock(a)); len(res.Changed) != 0 {
				t.Fatalf("healed while it is wrong: %v", res.Changed)
			}
		}
		skew, seconds = 0, seconds+1
		a.Tick(clock(a))
		c.Tick(clock(c))
		if len(a.Status().Clocks) != 0 {
			t.Fatalf("what was measured by the wrong clock is still believed: %+v", a.Status().Clocks)
		}
		tellClocks(t, clock, a, b, c)
		res = a.Tick(clock(a))
		if len(res.Changed) != 2 {
			t.Fatalf("healed %v", res.Changed)
		}
		for _, r := range []*Replica{b, c} {
			if res := r.Merge(clock(r), res.Changed); len(res.Rejected) != 0 {
				t.Fatalf("%s refuses the healed: %+v", r.Self(), res.Rejected)
			}
		}
		if res := a.Tick(clock(a).Add(time.Second)); len(res.Changed) != 0 {
			t.Fatalf("healed again: %v", res.Changed)
		}
		seconds++
		more := []Record{setShared(t, a, clock(a), "three", "after"), setShared(t, a, clock(a), "one", "changed")}
		for _, r := range []*Replica{b, c} {
			if res := r.Merge(clock(r), more); len(res.Changed) != 2 {
				t.Fatalf("%s: changed %v, rejected %v", r.Self(), res.Changed, res.Rejected)
			}
		}
		if a.Root() != b.Root() || a.Root() != c.Root() {
			t.Fatalf("a holds %v\nb holds %v\nc holds %v", contents(a), contents(b), contents(c))
		}
	}
}

func TestAHostWhoseClockIsBehindKnowsWhatTheOthersKnow(t *testing.T) {
	a, b, late := newReplica(t, "a", 2), newReplica(t, "b", 2), newReplica(t, "late", 2)
	clock := func(r *Replica) time.Time {
		if r == late {
			return noon.Add(-time.Hour)
		}
		return noon
	}
	rec := setShared(t, a, noon, "s", "x")
	if res := late.Merge(clock(late), []Record{rec}); len(res.Changed) != 0 {
		t.Fatal("taken without a reason")
	}
	tellClocks(t, clock, a, b, late)
	if res := late.Merge(clock(late), []Record{rec}); len(res.Changed) != 1 {
		t.Fatalf("refused, though two of three clocks say so: %+v", res.Rejected)
	}
	changed := setShared(t, late, clock(late), "s", "y")
	if res := a.Merge(noon, []Record{changed}); len(res.Changed) != 1 {
		t.Fatal("its own write is not the later one")
	}
	if st := late.Status(); len(st.Clocks) != 2 || st.Clocks[0].Host != "a" || st.Clocks[0].Offset != time.Hour || st.Clocks[0].Last.IsZero() {
		t.Fatalf("named are %+v", st.Clocks)
	}
	// One mad clock among them convinces nobody.
	if _, err := a.Handle(noon, "mad", digestMessage{clock: 1<<64 - 1}.encode()); err != nil {
		t.Fatal(err)
	}
	future := rec
	future.Version.A += uint64(time.Hour)
	if res := a.Merge(noon, []Record{future}); len(res.Changed) != 0 {
		t.Fatal("one mad clock convinced")
	}
}

// The power comes back to all hosts, whose clocks begin in 1970 until a time server is there.
func TestClocksThatAreNotSetLoseNothing(t *testing.T) {
	before := newReplica(t, "a", 2)
	setShared(t, before, noon, "kept", "x")
	setShared(t, before, noon, "deleted", "x")
	if _, _, err := before.DeleteShared(noon, KindSubscription, "deleted"); err != nil {
		t.Fatal(err)
	}
	disk := slices.Collect(before.Records())
	boot := time.Unix(100, 0)
	clock := func(*Replica) time.Time { return boot }
	a, b := newReplica(t, "a", 4), newReplica(t, "b", 4)
	for _, r := range []*Replica{a, b} {
		r.Tick(boot)
		if res := r.Restore(boot, noon, disk); len(res.Changed) != 2 || len(res.Rejected) != 0 {
			t.Fatalf("restored %v, rejected %v", res.Changed, res.Rejected)
		}
	}
	tellClocks(t, clock, a, b)
	if res := a.Tick(boot.Add(time.Second)); len(res.Changed) != 0 {
		t.Fatalf("an unset clock healed %v", res.Changed)
	}
	if res := b.Merge(boot, []Record{setShared(t, a, boot, "new", "y")}); len(res.Changed) != 1 {
		t.Fatal("refused")
	}
	for _, r := range []*Replica{a, b} {
		r.Tick(noon.Add(time.Hour))
	}
	if a.Root() != b.Root() || a.Status().Records != 3 || a.Status().Tombstones != 1 {
		t.Fatalf("a holds %v\nb holds %v", contents(a), contents(b))
	}
}

func TestAHostThatWasAwayForLongerThanTombstonesLiveDropsWhatWasShared(t *testing.T) {
	a := newReplica(t, "a", 2)
	mustSet(t, a, noon, KindDomain, "d", "x")
	setShared(t, a, noon, "s", "x")
	disk := slices.Collect(a.Records())
	for away, want := range map[time.Duration]int{TombstoneLife - time.Hour: 2, TombstoneLife + time.Hour: 1} {
		b := newReplica(t, "b", 2)
		if b.Restore(noon.Add(away), noon, disk); b.Status().Records != want {
			t.Errorf("after %v it holds %v", away, contents(b))
		}
	}
}

func TestAClockThatIsSetBackDoesNotStopWhatWaits(t *testing.T) {
	a, b := newReplica(t, "a", 4), newReplica(t, "b", 2)
	early := noon.Add(time.Hour)
	a.Tick(early)
	mustSet(t, a, early, KindDomain, "d", "x")
	a.Restated(early)
	tellClocks(t, func(*Replica) time.Time { return early }, a, b)
	c := newReplica(t, "c", 4) // its clock is set before its first Tick
	c.Restated(early)
	c.Tick(noon)
	if res := c.Tick(noon.Add(FloorDelay)); len(res.Changed) != 1 {
		t.Error("the first floor waits for the clock")
	}
	d := newReplica(t, "d", 4) // and so is what was measured before it
	tellClocks(t, func(*Replica) time.Time { return noon }, d, b)
	d.Tick(early)
	if d.peers["b"].clock {
		t.Error("what was measured before the first Tick is still believed")
	}
	a.Tick(noon)
	if heard, _ := a.LastHeard("b"); heard.After(noon) {
		t.Errorf("heard %v, now is %v", heard, noon)
	}
	if changed, _ := a.LastChange("a"); changed.After(noon) {
		t.Errorf("changed %v, now is %v", changed, noon)
	}
	if res := a.Tick(noon.Add(FloorDelay)); len(res.Changed) != 1 || res.Changed[0].Kind != KindFloor {
		t.Errorf("the floor waits for the clock: %v", res.Changed)
	}
	if _, _, err := a.SetShared(noon, KindSubscription, "s", nil); errors.Is(err, ErrClock) {
		t.Error("still refused by what was measured with the wrong clock")
	}
}

func TestARecordThatCannotBeSentIsNotTaken(t *testing.T) {
	r := newReplica(t, "me", 2)
	rec := Record{Key: Key{"h", KindAlarm, "x"}, Version: Version{2, 1, "h"}, Payload: make([]byte, MaxRecord-2)}
	if res := r.Merge(noon, []Record{rec}); len(res.Rejected) != 1 || res.Rejected[0].Reason != TooBig {
		t.Fatalf("%d changed, rejected %v: no peer could read it", len(res.Changed), res.Rejected)
	}
	for _, rec := range sampleRecords() {
		if n := len(appendRecord(nil, &rec)); n != recordLen(&rec) {
			t.Errorf("%v has %d bytes, not %d", rec.Key, n, recordLen(&rec))
		}
	}
}

func TestATermBelowWhatPeersHaveShownIsToldSo(t *testing.T) {
	old, a := newReplica(t, "a", 6), newReplica(t, "a", 0)
	a.Merge(noon, []Record{mustSet(t, old, noon, KindAlarm, "x", "standing")})
	if res, err := a.SetTerm(noon, 4); err != nil || res.OwnTerm != 6 {
		t.Fatalf("%+v, %v: it would write below its former life for ever", res, err)
	}
	if res, err := a.SetTerm(noon, 8); err != nil || res.OwnTerm != 0 || len(res.Changed) != 0 {
		t.Fatalf("%+v, %v: what a former life has said is said again", res, err)
	}
}

func TestAHostOfWhichNothingIsKnownIsForgottenEverywhere(t *testing.T) {
	a, b := newReplica(t, "a", 2), newReplica(t, "b", 2)
	res, err := a.Forget(noon, "gone")
	if err != nil || len(res.Changed) != 1 {
		t.Fatalf("%+v, %v", res, err)
	}
	if res := b.Merge(noon, res.Changed); len(res.Changed) != 1 {
		t.Fatalf("%+v", res)
	}
	again, err := a.Forget(noon.Add(time.Hour), "gone") // it was back meanwhile, and silent
	if err != nil || len(b.Merge(noon.Add(time.Hour), again.Changed).Changed) != 1 {
		t.Fatalf("the second word is not heard: %+v, %v", again, err)
	}
	for _, r := range []*Replica{a, b} {
		r.Tick(noon.Add(TombstoneLife + 2*time.Hour))
		if len(r.forgotten) != 0 || r.Status().Records != 0 {
			t.Errorf("%s holds %v", r.Self(), contents(r))
		}
	}
}

func TestWhatFormerLivesHaveLeftDoesNotStopTheNewOne(t *testing.T) {
	limits := Limits{Records: 100}
	old, err := New(Config{Self: "a", Term: 2, Limits: limits})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 50 {
		mustSet(t, old, noon, KindDomain, fmt.Sprint("old-", i), "x")
	}
	a, err := New(Config{Self: "a", Term: 4, Limits: limits})
	if err != nil {
		t.Fatal(err)
	}
	peer, err := New(Config{Self: "b", Term: 2, Limits: limits})
	if err != nil {
		t.Fatal(err)
	}
	a.Merge(noon, slices.Collect(old.Records()))
	peer.Merge(noon, slices.Collect(old.Records()))
	for i := range 50 {
		rec := mustSet(t, a, noon, KindDomain, fmt.Sprint("new-", i), "x")
		if res := peer.Merge(noon, []Record{rec}); len(res.Rejected) != 0 {
			t.Fatal("a peer refuses it")
		}
	}
	if _, _, err := a.Set(noon, KindDomain, "one more", nil); !errors.Is(err, ErrFull) {
		t.Fatalf("not bounded: %v", err)
	}
}
