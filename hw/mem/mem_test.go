package mem

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"golang.org/x/tools/txtar"

	"github.com/paramedic-ha/paramedic/correlate"
	"github.com/paramedic-ha/paramedic/hw"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fixture lays a tree out; each file is one attribute.
func fixture(t testing.TB, name string) hw.Root {
	t.Helper()
	archive, err := txtar.ParseFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	root := hw.Root{Sys: t.TempDir()}
	for _, f := range archive.Files {
		put(t, root.SysPath(f.Name), string(f.Data))
	}
	return root
}

func put(t testing.TB, path, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// bench plays polls to an engine by hand.
type bench struct {
	t      *testing.T
	root   hw.Root
	watch  *watch
	engine *correlate.Engine
	now    time.Time
	health hw.Health
}

func newBench(t *testing.T, root hw.Root, degraded ...correlate.ID) *bench {
	s := New(Config{Host: "host/cmp-1", Root: root, Corrected: 10, Window: time.Minute})
	return &bench{
		t: t, root: root, watch: &watch{Source: s, modules: make(map[correlate.ID]*module), degraded: degraded},
		engine: correlate.New(correlate.Config{Home: "cmp-1", Term: 2}, nil), now: time.Unix(1000, 0),
	}
}

func (b *bench) set(file, content string) {
	b.t.Helper()
	put(b.t, b.root.SysPath("devices/system/edac/mc", file), content)
}

func (b *bench) poll(after time.Duration) correlate.Delta {
	b.now = b.now.Add(after)
	d, health := b.watch.poll(b.now)
	b.health = health
	b.engine.Topology(b.now, d)
	return d
}

func (b *bench) stands(id correlate.ID, c correlate.Condition, want bool) {
	b.t.Helper()
	if got := b.engine.Stands(id, c); got != want {
		b.t.Errorf("%s %s stands: %t, want %t", id, c, got, want)
	}
}

func TestModulesAreReadWithWhatTheyAre(t *testing.T) {
	got, err := read(fixture(t, "dimms.txtar"))
	if err != nil {
		t.Fatal(err)
	}
	want := []reading{
		{id: "dimm/mc0/dimm0", path: "mc0/dimm0", label: "CPU_SrcID#0_Ha#0_Chan#0_DIMM#0", location: "channel 0 slot 0", size: "16384", mode: "SECDED", kinds: "Registered-DDR4", ce: 3},
		{id: "dimm/mc0/dimm10", path: "mc0/dimm10", label: "mc0/dimm10", ce: 0, ue: 0},
		{id: "dimm/mc0", path: "mc0", label: "mc0, module unknown", ce: 1},
		{id: "dimm/mc1/rank0", path: "mc1/rank0", label: "B1", ue: 2},
	}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(reading{})); diff != "" {
		t.Error(diff)
	}
}

func TestOlderKernelsCountByRowAndChannel(t *testing.T) {
	got, err := read(fixture(t, "csrows.txtar"))
	if err != nil {
		t.Fatal(err)
	}
	want := []reading{
		{id: "dimm/mc0/csrow0/ch0", path: "mc0/csrow0/ch0", label: "DIMM_A1", kinds: "DDR3", ce: 4, ue: 1},
		{id: "dimm/mc0/csrow0/ch1", path: "mc0/csrow0/ch1", label: "DIMM_B1", kinds: "DDR3", ue: 1},
	}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(reading{})); diff != "" {
		t.Error(diff)
	}
}

func TestCorrectedErrorsAreAFaultWhenTheyComeTooFast(t *testing.T) {
	b := newBench(t, fixture(t, "dimms.txtar"))
	const id = correlate.ID("dimm/mc0/dimm0")
	b.set("mc0/dimm0/dimm_ce_count", "5000")
	b.poll(0) // what it counted before says nothing of how fast
	b.stands(id, correlate.CondMemoryDegraded, false)
	b.set("mc0/dimm0/dimm_ce_count", "5006")
	b.poll(10 * time.Second)
	b.stands(id, correlate.CondMemoryDegraded, false)
	b.set("mc0/dimm0/dimm_ce_count", "4") // reset: 4 since then
	b.poll(10 * time.Second)
	b.stands(id, correlate.CondMemoryDegraded, true)
	b.poll(59 * time.Second)
	b.stands(id, correlate.CondMemoryDegraded, true)
	b.poll(time.Second)
	b.poll(59 * time.Second)
	b.stands(id, correlate.CondMemoryDegraded, true)
	b.poll(2 * time.Second)
	b.stands(id, correlate.CondMemoryDegraded, false)
}

func TestUncorrectedErrorStandsUntilItIsAcknowledged(t *testing.T) {
	b := newBench(t, fixture(t, "dimms.txtar"))
	b.poll(0)
	b.stands("dimm/mc1/rank0", correlate.CondMemoryUncorrected, true)
	b.stands("dimm/mc0/dimm0", correlate.CondMemoryUncorrected, false)
	b.poll(time.Hour)
	b.stands("dimm/mc1/rank0", correlate.CondMemoryUncorrected, true)
	if _, err := b.engine.Ack(b.now, b.engine.Alarms()[0].ID, "op", "replaced"); err != nil {
		t.Fatal(err)
	}
	b.poll(time.Minute)
	b.stands("dimm/mc1/rank0", correlate.CondMemoryUncorrected, false)
	b.set("mc1/rank0/dimm_ue_count", "3")
	b.poll(time.Minute)
	b.stands("dimm/mc1/rank0", correlate.CondMemoryUncorrected, true)
}

func TestModuleThatLostDataDegradesTheHost(t *testing.T) {
	b := newBench(t, fixture(t, "dimms.txtar"))
	b.engine.Topology(b.now, correlate.Delta{Source: "agent", Set: []correlate.Resource{
		{ID: "host/cmp-1"},
		{ID: "domain/a", Needs: []correlate.Need{{Of: []correlate.ID{"host/cmp-1"}}}},
	}})
	b.poll(0)
	hit := b.engine.Alarms()[0].Affected
	if len(hit) != 1 || hit[0].Resource != "domain/a" || hit[0].State != correlate.StateDegraded {
		t.Errorf("affected %+v", hit)
	}
}

func TestFailedReadIsNeitherFaultNorRecovery(t *testing.T) {
	b := newBench(t, fixture(t, "dimms.txtar"))
	const id = correlate.ID("dimm/mc0/dimm0")
	b.poll(0)
	b.set("mc0/dimm0/dimm_ce_count", "50")
	b.poll(10 * time.Second)
	b.set("mc0/dimm0/dimm_ce_count", "rubbish")
	b.poll(time.Hour)
	b.stands(id, correlate.CondMemoryDegraded, true)
	if b.health.Sight != hw.SightDegraded {
		t.Errorf("health %+v", b.health)
	}
	b.set("mc0/dimm0/dimm_ce_count", "50")
	b.poll(10 * time.Second)
	if b.health != (hw.Health{}) {
		t.Errorf("health %+v", b.health)
	}
}

func TestAlarmOfTheLastRunIsHeldForAWindow(t *testing.T) {
	b := newBench(t, fixture(t, "dimms.txtar"), "dimm/mc0/dimm0")
	b.poll(0)
	b.stands("dimm/mc0/dimm0", correlate.CondMemoryDegraded, true)
	b.poll(time.Minute)
	b.stands("dimm/mc0/dimm0", correlate.CondMemoryDegraded, false)
}

func TestHostWithoutCountersIsSaidToBeSo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(Config{Root: hw.Root{Sys: t.TempDir()}})
		l := &ledger{}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- s.Run(ctx, l) }()
		<-time.After(time.Minute)
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("ended with %v", err)
		}
		if len(l.deltas) != 1 || !l.deltas[0].Full || l.health.Sight != hw.SightAbsent {
			t.Errorf("%d deltas, health %+v", len(l.deltas), l.health)
		}
	})
}

func TestWhatWasToldAndAcknowledgedDoesNotComeBackWithTheAgent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		root := fixture(t, "dimms.txtar")
		root.Proc = t.TempDir()
		put(t, root.ProcPath("sys", "kernel", "random", "boot_id"), "this\n")
		baseline := filepath.Join(t.TempDir(), "baseline")
		told := func() (n int) {
			l := &ledger{}
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan error, 1)
			go func() { ended <- New(Config{Root: root, Baseline: baseline}).Run(ctx, l) }()
			<-time.After(15 * time.Second)
			cancel()
			<-ended
			for _, d := range l.deltas {
				for _, e := range d.Events {
					if e.Condition == correlate.CondMemoryUncorrected {
						n++
					}
				}
			}
			return n
		}
		if first, second := told(), told(); first != 1 || second != 0 {
			t.Errorf("told %d times, then %d; want once", first, second)
		}
		put(t, root.ProcPath("sys", "kernel", "random", "boot_id"), "next\n")
		if n := told(); n != 1 {
			t.Errorf("under the next kernel told %d times", n)
		}
	})
}

func TestAPromptHasTheCountersReadAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		root := fixture(t, "dimms.txtar")
		prompt := hw.NewPrompt()
		l := &ledger{}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- New(Config{Root: root, Prompt: prompt}).Run(ctx, l) }()
		synctest.Wait()
		put(t, root.SysPath("devices/system/edac/mc/mc0/dimm0/dimm_ue_count"), "1")
		prompt.Give()
		synctest.Wait()
		cancel()
		<-ended
		var told []correlate.ID
		for _, d := range l.deltas[1:] {
			for _, e := range d.Events {
				if e.Condition == correlate.CondMemoryUncorrected {
					told = append(told, e.Resource)
				}
			}
		}
		if diff := cmp.Diff([]correlate.ID{"dimm/mc0/dimm0"}, told); diff != "" {
			t.Error(diff)
		}
	})
}

func TestUnloadedDriverTakesNoModuleAway(t *testing.T) {
	b := newBench(t, fixture(t, "dimms.txtar"))
	b.poll(0)
	if err := os.RemoveAll(b.root.SysPath("devices")); err != nil {
		t.Fatal(err)
	}
	if d := b.poll(time.Minute); d.Full || b.health.Sight != hw.SightBlind {
		t.Errorf("delta %+v, health %+v", d, b.health)
	}
	b.stands("dimm/mc0/dimm0", correlate.CondGone, false)
}

type ledger struct {
	mu     sync.Mutex
	deltas []correlate.Delta
	health hw.Health
}

func (l *ledger) Emit(_ context.Context, d correlate.Delta) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.deltas = append(l.deltas, d)
	return nil
}

func (l *ledger) Health(h hw.Health) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.health = h
}
