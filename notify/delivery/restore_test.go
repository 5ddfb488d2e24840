package delivery

import (
	"fmt"
	"testing"
	"time"

	"github.com/paramedic-ha/paramedic/correlate"
)

func TestAPausedSubscriptionResumesInTheOrderThatThingsWereOwed(t *testing.T) {
	m := machine()
	m.Pause()
	var want []string
	for i := range uint64(30) {
		a := newAlarm(fmt.Sprint("a", (i*7)%30), i+1, correlate.Raised)
		owe(m, a, t0.Add(time.Duration(i)*time.Second))
		want = append(want, a.ID+"@"+a.Revision.String())
	}
	now := t0.Add(time.Hour)
	saved := m.Resume(now).Save
	for i, r := range saved {
		if got := r.AlarmID + "@" + r.Owed.String(); got != want[i] {
			t.Fatalf("saved %d: %s, want %s", i, got, want[i])
		}
	}
	starts(t, m, now, want[:8]...)
}

// TestAClockThatWentBackBetweenTwoRunsStallsNothing: records have no monotonic reading. Within a run time.Now's protects.
func TestAClockThatWentBackBetweenTwoRunsStallsNothing(t *testing.T) {
	ahead := t0.Add(30 * 24 * time.Hour)
	a := newAlarm("a", 1, correlate.Raised)
	owed := Record{AlarmID: "a", Owed: a.Revision, Created: ahead}

	m := machine()
	m.Restore(owed, change(a), t0)
	starts(t, m, t0, "a@2.1")
	if m.Result("a", Outcome{Verdict: Retry}, t0); m.Tick(t0.Add(time.Minute)).Start == nil {
		t.Error("not tried again within a minute")
	}
	if m.Result("a", Outcome{Verdict: Retry}, t0.Add(25*time.Hour)).Parked != 1 {
		t.Error("not parked at its age")
	}

	retrying := owed
	retrying.Attempts, retrying.Next = 3, ahead
	m = machine()
	m.Restore(retrying, change(a), t0)
	if wake := m.Tick(t0).Wake; wake.After(t0.Add(5 * time.Minute)) {
		t.Errorf("waits until %v", wake)
	}

	parked := owed
	parked.Parked = true
	m = machine()
	m.Restore(parked, change(a), t0)
	if _, ok := m.Unpark("a", t0); !ok {
		t.Error("nothing to retry")
	}
	starts(t, m, t0, "a@2.1")
}

func TestASuccessWakesWhatAnEarlierRunLeftInBackoff(t *testing.T) {
	m := machine()
	owe(m, newAlarm("a", 1, correlate.Raised), t0)
	var kept Record
	for now := t0; ; {
		m.Tick(now)
		kept = m.Result("a", Outcome{Verdict: Retry}, now).Save[0]
		if now = m.Tick(now).Wake; now.Sub(t0) > 10*time.Minute {
			break
		}
	}
	now := t0.Add(10 * time.Minute)
	m = machine()
	m.Restore(kept, change(newAlarm("a", 1, correlate.Raised)), now)
	starts(t, m, now)
	owe(m, newAlarm("b", 2, correlate.Raised), now)
	starts(t, m, now, "b@2.2")
	m.Result("b", Outcome{}, now)
	starts(t, m, now, "a@2.1")
}

// TestARevisionThatWasCommittedWithoutItsPairIsOwedAnew: a crash can part the two.
func TestARevisionThatWasCommittedWithoutItsPairIsOwedAnew(t *testing.T) {
	m := machine()
	kept := Record{AlarmID: "a", Owed: newAlarm("a", 1, correlate.Raised).Revision, Parked: true, Attempts: 7, Created: t0.Add(-48 * time.Hour), LastError: "x"}
	m.Restore(kept, change(newAlarm("a", 2, correlate.Changed)), t0)
	starts(t, m, t0, "a@2.2")
	if m.Result("a", Outcome{Verdict: Retry}, t0).Parked != 0 {
		t.Error("parked at once by the age of the older revision")
	}
}

// A crash, or what peers knew of a former life, may leave a pair that speaks of a revision which nobody has any more.
func TestWhatIsOwedIsWhatIsThere(t *testing.T) {
	a := newAlarm("a", 3, correlate.Raised)
	lost := a.Revision
	lost.Counter++
	m := machine()
	m.Restore(Record{AlarmID: "a", Owed: lost, Told: a.Revision}, change(a), t0)
	if start := m.Tick(t0).Start; len(start) > 0 {
		t.Errorf("%v is sent again", start[0].Alarm.Revision)
	}
	m.Restore(Record{AlarmID: "a", Owed: lost}, change(a), t0)
	starts(t, m, t0, "a@2.3")
	m.Result("a", Outcome{}, t0)
	if r, owed, _ := m.Pair("a"); owed || r.Told != a.Revision {
		t.Errorf("told %v, owed %v", r.Told, owed)
	}
}
