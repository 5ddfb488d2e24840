package delivery

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/paramedic-ha/paramedic/correlate"
)

// TestAFullQueueHoldsNoCopiesOfAlarms: what waits for twenty dead consumers shares the alarms, fifty affected domains each.
func TestAFullQueueHoldsNoCopiesOfAlarms(t *testing.T) {
	const machines, perPair = 20, 700 // bytes; an alarm with its list is ten times that
	capacity := DefaultConfig().Capacity
	alarms := make([]*correlate.Alarm, capacity+100)
	for i := range alarms {
		a := newAlarm(fmt.Sprintf("%032d", i), uint64(i+1), correlate.Raised)
		a.Affected = make([]correlate.Affected, 50)
		alarms[i] = a
	}
	heap := func() uint64 {
		runtime.GC()
		var s runtime.MemStats
		runtime.ReadMemStats(&s)
		return s.HeapAlloc
	}
	before := heap()
	var all []*Machine
	for range machines {
		m := machine()
		for i, a := range alarms {
			now := t0.Add(time.Duration(i) * time.Millisecond)
			m.Enqueue(change(a), now)
			m.Hold(uint64(i+1), now)
			m.Committed(uint64(i+1), Commit{}, now)
			for range m.Tick(now).Start {
				m.Result(a.ID, Outcome{Verdict: Retry, Err: "connection refused"}, now)
			}
		}
		if owed, _, _ := m.Counts(); owed > capacity {
			t.Fatalf("%d pairs are owed, want at most %d", owed, capacity)
		}
		all = append(all, m)
	}
	got := (heap() - before) / uint64(machines*capacity)
	t.Logf("%d bytes a pair, %d MB for 200 full queues", got, got*200*uint64(capacity)>>20)
	if got > perPair {
		t.Errorf("%d bytes a pair, want at most %d", got, perPair)
	}
	runtime.KeepAlive(all)
	runtime.KeepAlive(alarms)
}
