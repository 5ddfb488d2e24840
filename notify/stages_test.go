package notify

import (
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/paramedic-ha/paramedic/correlate"
)

func observed(all map[string][]*dto.Metric, stage string) uint64 {
	for _, m := range all["paramedic_notify_stage_seconds"] {
		if m.GetLabel()[0].GetValue() == stage {
			return m.GetHistogram().GetSampleCount()
		}
	}
	return 0
}

// TestEachStageIsMeasured by real HTTP: every point is there, in order, and each stage counts it once. The outbox is in memory, since a disk may never
// be done with a commit in the millisecond that a delivery waits for it.
func TestEachStageIsMeasured(t *testing.T) {
	dir, err := os.MkdirTemp("/dev/shm", "paramedic-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	well := newConsumer(t, nil)
	cfg, _ := testConfig(t, dir)
	registry := prometheus.NewRegistry()
	cfg.Metrics, cfg.Now = registry, time.Now
	n, _ := start(t, cfg, fileSub("well", well.URL))
	faults, inTime := uint64(0), uint64(0)
	for faults < 20 || inTime == 0 && faults < profileSize { // a busy machine needs some
		publish := effects(alarm(fmt.Sprint("a", faults), faults+1, correlate.Raised))
		for k := range publish.Publish {
			publish.Publish[k].Occurred, publish.Publish[k].Observed, publish.Publish[k].Found = time.Now().Round(0), time.Now(), time.Now()
		}
		n.Publish(publish)
		faults++
		eventually(t, "it is settled", func() bool { return uint64(len(n.Profile())) == faults })
		l := n.Profile()[faults-1]
		points := []time.Time{l.Observed, l.Found, l.Owed, l.Begun, l.Committed, l.Outbox, l.Taken, l.Sent, l.Answered}
		if l.Committed.IsZero() {
			points = slices.Delete(points, 3, 5)
		} else {
			inTime++
		}
		if !slices.IsSortedFunc(points, time.Time.Compare) || slices.ContainsFunc(points, time.Time.IsZero) || l.Late {
			t.Errorf("%+v", l)
		}
	}
	if inTime == 0 {
		t.Error("none went with its commit")
	}
	eventually(t, "it is counted", func() bool { return observed(gathered(t, registry), "T00-T09") == faults })
	all := gathered(t, registry)
	for _, s := range stages {
		want := faults
		if s.To == "T04" || s.To == "T05" || s.From == "T05" {
			want = inTime
		}
		if got := observed(all, s.Name()); got != want {
			t.Errorf("%s was measured %d times, want %d", s.Name(), got, want)
		}
	}
}

// TestWhatStoodBeforeItWasWantedIsNoDelay: who subscribes an hour after the fault is told at once.
func TestWhatStoodBeforeItWasWantedIsNoDelay(t *testing.T) {
	well := newConsumer(t, nil)
	cfg, _ := testConfig(t, t.TempDir())
	registry := prometheus.NewRegistry()
	cfg.Metrics, cfg.Now = registry, time.Now
	n, _ := start(t, cfg)
	publish := effects(alarm("a", 1, correlate.Raised))
	hour := time.Now().Add(-time.Hour)
	publish.Publish[0].Occurred, publish.Publish[0].Observed, publish.Publish[0].Found = hour, hour, hour
	n.Publish(publish)
	eventually(t, "it is known", func() bool { n.mu.Lock(); defer n.mu.Unlock(); return len(n.alarms) == 1 })
	if err := n.SetFile([]Subscription{fileSub("well", well.URL)}); err != nil {
		t.Fatal(err)
	}
	well.waitFor(t, 1)
	eventually(t, "it is counted", func() bool { return observed(gathered(t, registry), "T08-T09") == 1 })
	all := gathered(t, registry)
	for _, s := range []string{"T00-T09", "T00-T08", "T01-T08", "T02-T03"} {
		if got := observed(all, s); got != 0 {
			t.Errorf("%s counts it", s)
		}
	}
	if h := all["paramedic_notify_delivery_seconds"][0].GetHistogram(); h.GetSampleCount() != 1 || h.GetSampleSum() > 60 {
		t.Errorf("%v", h)
	}
	if l := n.Profile()[0]; !l.Late || !l.Found.Equal(hour) {
		t.Errorf("%+v", l)
	}
}

// TestWhatAFullQueueDroppedCountsAsItsDelay: it is owed again as if it were new, and its time runs on from the fault.
func TestWhatAFullQueueDroppedCountsAsItsDelay(t *testing.T) {
	well := newConsumer(t, nil)
	cfg, _ := testConfig(t, t.TempDir())
	cfg.Now = time.Now
	n, _ := start(t, cfg, fileSub("well", well.URL))
	now := time.Now()
	found := map[string]time.Time{"before": now.Add(-time.Hour), "since": now.Add(-time.Minute)}
	for id, at := range found {
		publish := effects(alarm(id, 1, correlate.Raised))
		publish.Publish[0].Occurred, publish.Publish[0].Observed, publish.Publish[0].Found = at, at, at
		n.Publish(publish)
	}
	well.waitFor(t, 2)
	eventually(t, "both are settled", func() bool { return len(n.Profile()) == 2 })
	w := n.list()[0]
	w.mu.Lock()
	for id := range found {
		w.machine.Forget(id) // as for want of room
	}
	w.mu.Unlock()
	w.refill(now.Add(-time.Minute))
	well.waitFor(t, 4)
	eventually(t, "both are settled again", func() bool { return len(n.Profile()) == 4 })
	late := map[time.Duration]int{}
	for _, l := range n.Profile() {
		if l.Late {
			late[now.Sub(l.Found)]++
		}
	}
	if len(late) != 1 || late[time.Hour] != 1 {
		t.Errorf("late are, by how long ago they were found, %v", late)
	}
}

// TestNoStageIsOfTwoClocks: times of a peer, of an earlier run or of another host are left out.
func TestNoStageIsOfTwoClocks(t *testing.T) {
	now := time.Now()
	at := func(ms int) time.Time { return now.Add(time.Duration(ms) * time.Millisecond) }
	l := Stages{
		Occurred: at(0).Round(0), Observed: at(1), Found: at(2), Owed: at(3), Begun: at(4), Committed: at(5), Outbox: at(6), Taken: at(7), Sent: at(8), Answered: at(9), By: "here",
	}
	measured := func(change func(*Stages)) (names []string) {
		c := l
		change(&c)
		for _, s := range stages {
			if _, ok := s.took(c, "here"); ok {
				names = append(names, s.Name())
			}
		}
		return names
	}
	for what, test := range map[string]struct {
		change func(*Stages)
		want   []string
	}{
		"its own": {func(*Stages) {}, []string{
			"T00-T01", "T01-T02", "T02-T03", "T03-T04", "T04-T05", "T05-T06", "T06-T07", "T07-T08", "T08-T09", "T03-T06", "T01-T08", "T00-T08", "T00-T09",
		}},
		"a peer's": {func(s *Stages) { s.By = "there" }, []string{"T00-T01", "T01-T02", "T02-T03", "T03-T04", "T04-T05", "T05-T06", "T06-T07", "T03-T06"}},
		"another host's alarm": {func(s *Stages) { s.Observed, s.Found = s.Observed.Round(0), s.Found.Round(0) }, []string{
			"T03-T04", "T04-T05", "T05-T06", "T06-T07", "T07-T08", "T08-T09", "T03-T06",
		}},
		"an earlier run's": {func(s *Stages) {
			s.Observed, s.Found, s.Owed, s.Outbox = s.Observed.Round(0), s.Found.Round(0), s.Owed.Round(0), s.Outbox.Round(0)
			s.Begun, s.Committed = time.Time{}, time.Time{}
		}, []string{"T07-T08", "T08-T09"}},
		"before its commit": {func(s *Stages) { s.Begun, s.Committed = time.Time{}, time.Time{} }, []string{
			"T00-T01", "T01-T02", "T02-T03", "T06-T07", "T07-T08", "T08-T09", "T03-T06", "T01-T08", "T00-T08", "T00-T09",
		}},
	} {
		if got := measured(test.change); !slices.Equal(got, test.want) {
			t.Errorf("%s: measured %v, want %v", what, got, test.want)
		}
	}
}
