package host

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"golang.org/x/tools/txtar"

	"github.com/paramedic-ha/paramedic/correlate"
	"github.com/paramedic-ha/paramedic/hw"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fixture lays the tree out; each file is one attribute.
func fixture(t testing.TB) hw.Root {
	t.Helper()
	archive, err := txtar.ParseFile(filepath.Join("testdata", "host.txtar"))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for _, f := range archive.Files {
		put(t, filepath.Join(dir, f.Name), string(f.Data))
	}
	return hw.Root{Proc: filepath.Join(dir, "proc"), Sys: filepath.Join(dir, "sys"), Var: filepath.Join(dir, "var")}
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

const (
	self   = correlate.ID("host/cmp-1")
	socket = correlate.ID("cpu/package0")
	core   = correlate.ID("sensor/hwmon-coretemp-temp1")
	spare  = correlate.ID("fan/hwmon-nct6779-fan2") // nothing is plugged in
	fan    = correlate.ID("fan/hwmon-nct6779-fan1")
)

// bench plays polls of a source to an engine by hand, over restarts of the agent.
type bench struct {
	t      *testing.T
	root   hw.Root
	config Config
	watch  *watch
	engine *correlate.Engine
	now    time.Time
	health hw.Health
}

func newBench(t *testing.T, config Config) *bench {
	t.Helper()
	if config.Root == (hw.Root{}) {
		config.Root = fixture(t)
	}
	b := &bench{t: t, root: config.Root, now: time.Unix(1000, 0)}
	b.engine = correlate.New(correlate.Config{Home: "cmp-1", Term: 2}, nil)
	b.engine.Topology(b.now, correlate.Delta{Source: "agent", Set: []correlate.Resource{
		{ID: self},
		{ID: "domain/a", Needs: []correlate.Need{{Of: []correlate.ID{self}}}},
	}})
	b.engine.Topology(b.now, correlate.Delta{Source: "nic", Set: []correlate.Resource{{ID: "nic/ens1f0"}}})
	config.Host, config.Corrected, config.Window = self, 10, time.Minute
	config.Known = filepath.Join(t.TempDir(), "known.json")
	config.Standing = func(context.Context) ([]correlate.Key, error) {
		var keys []correlate.Key
		for _, a := range b.engine.Alarms() {
			if a.Source == "host" {
				keys = append(keys, a.Key)
			}
		}
		return keys, nil
	}
	b.config = config
	b.restart()
	return b
}

// restart begins a new Run.
func (b *bench) restart() {
	b.t.Helper()
	w, err := New(b.config).watch(b.t.Context())
	if err != nil {
		b.t.Fatal(err)
	}
	b.watch = w
	b.look(0, true)
}

func (b *bench) look(after time.Duration, first bool) correlate.Delta {
	b.now = b.now.Add(after)
	d, health := b.watch.look(b.t.Context(), b.now)
	if d.Full = first; first {
		b.watch.keep(&d)
	}
	b.health = health
	b.engine.Topology(b.now, d)
	b.engine.Tick(b.now)
	return d
}

func (b *bench) poll(after time.Duration) correlate.Delta { return b.look(after, false) }

func (b *bench) set(file, content string) {
	b.t.Helper()
	put(b.t, b.root.SysPath(file), content+"\n")
}

func (b *bench) stands(want ...string) {
	b.t.Helper()
	got := make([]string, 0, len(want))
	for _, a := range b.engine.Alarms() {
		got = append(got, string(a.Key.Resource)+" "+string(a.Key.Condition)+" "+a.Severity.String())
	}
	if want == nil {
		want = []string{}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		b.t.Errorf("alarms (-want +got):\n%s", diff)
	}
}

func (b *bench) ack() {
	b.t.Helper()
	if _, err := b.engine.Ack(b.now, b.engine.Alarms()[0].ID, "op", "on purpose"); err != nil {
		b.t.Fatal(err)
	}
}

func TestHealthyHostStatesItsPackagesAndSensors(t *testing.T) {
	b := newBench(t, Config{})
	b.stands()
	w, err := New(b.config).watch(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	full, health := w.look(t.Context(), b.now)
	got := make(map[correlate.ID]string)
	for _, r := range full.Set {
		got[r.ID] = r.Name + " " + r.Facts["processors"] + " " + r.Facts["model"] + " " + r.Facts["microcode"]
	}
	const model = " Intel(R) Xeon(R) Gold 6230 CPU @ 2.10GHz 0x5003604"
	want := map[correlate.ID]string{
		"cpu/package0": "processor 0 0-1,4-5" + model, "cpu/package1": "processor 1 2-3,6-7" + model,
		core: "coretemp Package id 0   ", fan: "nct6779 fan1   ", spare: "nct6779 fan2   ",
		"sensor/hwmon-nct6779-in0": "nct6779 in0   ", "sensor/hwmon-nct6779-temp1": "nct6779 temp1   ",
	}
	if diff := cmp.Diff(want, got); diff != "" || health != (hw.Health{}) {
		t.Errorf("health %+v\n%s", health, diff)
	}
	if len(full.Require) != 1 || full.Require[0].ID != self || len(full.Require[0].Needs) != 2 {
		t.Errorf("required %+v", full.Require)
	}
}

func TestCoreThatGoesOfflineDegradesTheHostUntilItIsBack(t *testing.T) {
	b := newBench(t, Config{})
	b.set("devices/system/cpu/online", "0,2-4,6-7") // both threads of core 1
	b.poll(time.Second)
	b.stands("cpu/package0 cpu-offline critical")
	if hit := b.engine.Alarms()[0].Affected; len(hit) != 1 || hit[0].State != correlate.StateDegraded {
		t.Errorf("affected %+v", hit)
	}
	b.restart()
	b.stands("cpu/package0 cpu-offline critical")
	b.set("devices/system/cpu/online", "0-4,6-7")
	b.poll(time.Second)
	b.stands("cpu/package0 cpu-offline critical")
	b.set("devices/system/cpu/online", "0-7")
	b.poll(time.Second)
	b.stands()
}

func TestProcessorThatVanishesWithItsDirectoryIsOffline(t *testing.T) {
	b := newBench(t, Config{})
	b.set("devices/system/cpu/online", "0-1,4-5")
	for _, n := range []string{"2", "3", "6", "7"} {
		if err := os.RemoveAll(b.root.SysPath("devices/system/cpu/cpu" + n)); err != nil {
			t.Fatal(err)
		}
	}
	b.poll(time.Second)
	b.stands("cpu/package1 cpu-offline critical")
}

func TestAcknowledgedProcessorsAreNotToldAgain(t *testing.T) {
	b := newBench(t, Config{})
	b.set("devices/system/cpu/online", "0,2-4,6-7")
	b.poll(time.Second)
	b.ack()
	b.poll(time.Minute)
	b.stands()
	b.restart()
	b.stands()
	b.set("devices/system/cpu/online", "2-3,6-7") // and another core
	b.poll(time.Second)
	b.stands("cpu/package0 cpu-offline critical")
}

func TestProcessorsThatNeverWorkedAreNoFault(t *testing.T) {
	root := fixture(t)
	put(t, root.SysPath("devices/system/cpu/online"), "0-3\n")
	b := newBench(t, Config{Root: root})
	b.poll(time.Minute)
	b.stands()
	put(t, root.ProcPath("sys/kernel/random/boot_id"), "next\n") // and so under another kernel
	b.set("devices/system/cpu/online", "0,2")
	b.restart()
	b.stands()
}

func TestProcessorLostWhileTheAgentWasAwayIsTold(t *testing.T) {
	b := newBench(t, Config{})
	b.poll(2 * time.Second)
	b.set("devices/system/cpu/online", "0,2-4,6-7")
	b.restart()
	b.stands("cpu/package0 cpu-offline critical")
}

func TestMultithreadingThatIsSwitchedOffIsNoFault(t *testing.T) {
	b := newBench(t, Config{})
	for _, online := range []string{"0-6", "0-5", "0-4", "0-3"} {
		b.set("devices/system/cpu/online", online)
		b.poll(2 * time.Second)
	}
	b.set("devices/system/cpu/smt/control", "off")
	b.poll(time.Minute)
	b.stands()
	b.restart()
	b.stands()
	b.set("devices/system/cpu/online", "1-3")
	b.poll(time.Second)
	b.stands("cpu/package0 cpu-offline critical")
}

func TestThreadThatStaysAwayIsAFault(t *testing.T) {
	b := newBench(t, Config{})
	b.set("devices/system/cpu/online", "0-4,6-7")
	b.poll(time.Second)
	b.stands()
	b.poll(threadsSettle)
	b.stands("cpu/package0 cpu-offline critical")
	b.set("devices/system/cpu/online", "0-4,6")
	b.poll(time.Second)
	b.poll(threadsSettle)
	b.stands("cpu/package0 cpu-offline critical", "cpu/package1 cpu-offline critical")
}

func TestProcessorThatIsOftenTooHotIsToldUntilItHasCooled(t *testing.T) {
	b := newBench(t, Config{})
	const count = "devices/system/cpu/cpu0/thermal_throttle/package_throttle_count"
	b.set(count, "105")
	b.poll(10 * time.Second)
	b.stands()
	b.set(count, "110")
	b.poll(10 * time.Second)
	b.stands("cpu/package0 thermal-throttling warning")
	for n := range 30 {
		b.set(count, []string{"200", "300"}[n%2])
		b.poll(10 * time.Second)
	}
	b.stands("cpu/package0 thermal-throttling warning")
	b.poll(5*time.Minute + time.Second)
	b.stands()
}

func TestErrorsOfPCIExpressAreToldOfWhatIsBehind(t *testing.T) {
	b := newBench(t, Config{})
	b.set("bus/pci/devices/0000:3b:00.0/aer_dev_nonfatal", "UnsupReq 5\nTOTAL_ERR_NONFATAL 5")
	b.poll(time.Second)
	b.stands("nic/ens1f0 pcie-non-fatal warning") // nobody needs it
	b.set("bus/pci/devices/0000:3a:00.0/aer_dev_fatal", "SDES 1\nTOTAL_ERR_FATAL 1")
	b.set("bus/pci/devices/0000:5e:00.0/aer_dev_fatal", "DLP 1\nTOTAL_ERR_FATAL 1") // nothing is known behind
	b.poll(time.Second)
	b.stands("host/cmp-1 pcie-fatal critical", "nic/ens1f0 pcie-fatal warning", "nic/ens1f0 pcie-non-fatal warning")
	b.poll(6 * time.Minute)
	b.stands()
}

func TestCorrectedErrorsOfPCIExpressAreAFaultWhenTheyComeTooFast(t *testing.T) {
	b := newBench(t, Config{})
	const count = "bus/pci/devices/0000:3a:00.0/aer_dev_correctable"
	b.set(count, "TOTAL_ERR_COR 12")
	b.poll(time.Second)
	b.stands()
	b.set(count, "TOTAL_ERR_COR 17")
	b.poll(time.Second)
	b.stands("nic/ens1f0 pcie-corrected warning")
	b.restart()
	b.stands("nic/ens1f0 pcie-corrected warning")
	b.poll(time.Second)
	b.poll(time.Minute)
	b.stands()
}

func TestCounterThatCannotBeReadIsNeitherFaultNorRecovery(t *testing.T) {
	b := newBench(t, Config{})
	const count = "bus/pci/devices/0000:3a:00.0/aer_dev_correctable"
	b.set(count, "TOTAL_ERR_COR 100")
	b.poll(time.Second)
	b.set(count, "rubbish")
	b.poll(time.Hour)
	b.stands("nic/ens1f0 pcie-corrected warning")
	if b.health.Sight != hw.SightDegraded || !strings.Contains(b.health.Text, "0000:3a:00.0") {
		t.Errorf("health %+v", b.health)
	}
}

func TestTemperatureOverItsLimitsIsTold(t *testing.T) {
	b := newBench(t, Config{})
	for _, step := range []struct {
		m    string
		want string
	}{
		{"79999", ""},
		{"80000", " temperature warning"},
		{"90000", " temperature major"},
		{"88001", " temperature major"}, // not yet cool
		{"85000", " temperature warning"},
		{"78001", " temperature warning"},
		{"77999", ""},
	} {
		b.set("class/hwmon/hwmon0/temp1_input", step.m)
		b.poll(10 * time.Second)
		t.Log(step.m)
		if step.want == "" {
			b.stands()
		} else {
			b.stands(string(core) + step.want)
		}
	}
}

func TestFanThatStopsIsToldAndOneThatNeverTurnedIsNot(t *testing.T) {
	b := newBench(t, Config{})
	b.set("class/hwmon/hwmon1/fan1_input", "0")
	b.poll(10 * time.Second)
	b.stands("fan/hwmon-nct6779-fan1 fan-failed warning")
	if hit := b.engine.Alarms()[0].Affected; len(hit) != 0 {
		t.Errorf("affected %+v", hit)
	}
	b.restart()
	b.stands("fan/hwmon-nct6779-fan1 fan-failed warning")
	b.set("class/hwmon/hwmon1/fan1_input", "1180")
	b.poll(10 * time.Second)
	b.stands()
}

func TestFanThatItsRegulationMayStopIsNoFault(t *testing.T) {
	b := newBench(t, Config{})
	if err := os.Chmod(b.root.SysPath("class/hwmon/hwmon1/fan1_min"), 0o444); err != nil {
		t.Fatal(err)
	}
	b.poll(10 * time.Second)
	b.set("class/hwmon/hwmon1/fan1_input", "0")
	b.poll(10 * time.Second)
	b.stands()
}

func TestSensorThatCannotBeReadKeepsWhatWasTold(t *testing.T) {
	b := newBench(t, Config{})
	b.set("class/hwmon/hwmon0/temp1_input", "95000")
	b.poll(10 * time.Second)
	b.set("class/hwmon/hwmon0/temp1_input", "")
	b.poll(10 * time.Second)
	b.stands(string(core) + " temperature major")
	b.set("class/hwmon/hwmon0/temp1_input", "50000")
	b.poll(10 * time.Second)
	b.stands()
}

func TestSensorsAreLeftToTheBMCWhereThereIsOne(t *testing.T) {
	b := newBench(t, Config{})
	b.set("class/hwmon/hwmon0/temp1_input", "95000")
	b.poll(10 * time.Second)
	b.set("class/ipmi/ipmi0/dev", "243:0")
	b.poll(10 * time.Second)
	b.stands()
	if len(b.watch.sensors) != 0 {
		t.Errorf("still watched: %v", b.watch.sensors.ids())
	}
	b.watch.config.Sensors = SensorsAlways
	b.poll(10 * time.Second)
	b.stands(string(core) + " temperature major")
	b.watch.config.Sensors = SensorsNever
	b.poll(10 * time.Second)
	b.stands()
}

// A pipe that nobody writes to is a driver that hangs: its open does not return.
func TestDriverThatHangsIsLeftBehindAndEndsNothing(t *testing.T) {
	b := newBench(t, Config{})
	b.set("class/hwmon/hwmon0/temp1_input", "95000")
	b.poll(10 * time.Second)
	pipe := b.root.SysPath("class/hwmon/hwmon1/in0_input")
	if err := os.Remove(pipe); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	b.watch.patience = 20 * time.Millisecond
	b.set("devices/system/cpu/online", "0,2-4,6-7")
	b.poll(10 * time.Second)
	b.stands("cpu/package0 cpu-offline critical", string(core)+" temperature major")
	if b.health.Sight != hw.SightDegraded || !strings.Contains(b.health.Text, "hwmon") {
		t.Errorf("health %+v", b.health)
	}
	began := time.Now()
	b.watch.patience = time.Hour // no second one is begun
	b.poll(10 * time.Second)
	if d := time.Since(began); d > time.Minute {
		t.Errorf("waited %v", d)
	}
	// A Run that starts meanwhile holds what it can't see.
	w, err := b.watch.Source.watch(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	b.watch = w
	b.look(0, true)
	b.stands("cpu/package0 cpu-offline critical", string(core)+" temperature major")

	for b.watch.reading.Load() { // whoever is at its open goes on, and who comes to it later is let through as well
		wake, err := os.OpenFile(pipe, os.O_RDWR, 0) // never waits, as one that only writes may
		if err != nil {
			t.Fatal(err)
		}
		wake.Close()
		<-time.After(time.Millisecond)
	}
	if err := os.WriteFile(pipe+"x", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(pipe+"x", pipe); err != nil {
		t.Fatal(err)
	}
	b.set("class/hwmon/hwmon0/temp1_input", "40000")
	b.poll(10 * time.Second)
	b.stands("cpu/package0 cpu-offline critical")
}

// TestTheRealHostIsReadAndItsEventsAreHeard has the kernel say that a processor has changed.
func TestTheRealHostIsReadAndItsEventsAreHeard(t *testing.T) {
	s := New(Config{Host: self, Poll: time.Hour})
	l := &ledger{news: make(chan struct{}, 16)}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx, l) }()
	<-l.news
	deadline := time.Now().Add(30 * time.Second)
	for s.Counts()["uevents"] == 0 || s.Counts()["polls"] < 2 {
		if err := os.WriteFile("/sys/devices/system/cpu/cpu0/uevent", []byte("change"), 0o200); err != nil {
			t.Fatalf("needs to make the kernel send an event: run it as root: %v", err)
		}
		if time.Now().After(deadline) {
			t.Fatalf("nothing was heard: %v", s.Counts())
		}
		<-time.After(10 * time.Millisecond)
	}
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("ended with %v", err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if d := l.deltas[0]; !d.Full || len(d.Set) == 0 || d.Set[0].ID.Kind() != correlate.KindCPU {
		t.Errorf("stated %+v", d)
	}
	for _, d := range l.deltas {
		for _, e := range d.Events {
			if e.Status == correlate.StatusFailed {
				t.Errorf("a healthy host has %+v", e)
			}
		}
	}
}

type ledger struct {
	mu     sync.Mutex
	deltas []correlate.Delta
	news   chan struct{}
}

func (l *ledger) Emit(_ context.Context, d correlate.Delta) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.deltas = append(l.deltas, d)
	select {
	case l.news <- struct{}{}:
	default:
	}
	return nil
}

func (l *ledger) Health(hw.Health) {}

// BenchmarkPoll is what a look costs at a healthy host; the budget of all sources is 1 % of a processor.
func BenchmarkPoll(b *testing.B) {
	s := New(Config{Host: self, Root: fixture(b)})
	w, err := s.watch(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		w.look(b.Context(), time.Now())
	}
}
