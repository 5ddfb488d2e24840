package gossip

import (
	"testing"
	"time"
)

// A floor waits for what was restated to be everywhere, by time that passes and not by a clock that is set.
func TestAClockThatIsSetAheadHurriesNoFloor(t *testing.T) {
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	a := newReplica(t, "a", 4)
	a.Tick(now)
	a.Restated(now)
	now = now.Add(time.Hour)
	if a.Tick(now); a.lookup(Key{"a", KindFloor, ""}) != nil {
		t.Error("it comes at once")
	}
	if a.Tick(now.Add(FloorDelay)); a.lookup(Key{"a", KindFloor, ""}) == nil {
		t.Error("it does not come")
	}
}

// After a power cut the clock of a host may be minutes behind until it is set. What it has on its disk is not of the future for
// that: if all hosts of a cluster did so, every subscription would be gone.
func TestAClockBehindDoesNotLoseWhatIsOnDisk(t *testing.T) {
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	before := newReplica(t, "a", 2)
	rec, _, err := before.SetShared(now, KindSubscription, "s", []byte("x"))
	if err != nil {
		t.Fatal(err)
	}
	after := newReplica(t, "a", 4)
	behind := now.Add(-10 * time.Minute)
	after.Restore(behind, behind, []Record{rec})
	after.Tick(behind.Add(time.Second))
	if _, ok := after.Get(rec.Key); !ok {
		t.Error("it is refused")
	}
}
