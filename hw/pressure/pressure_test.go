package pressure

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
	"unsafe"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
	"golang.org/x/tools/txtar"

	"github.com/paramedic-ha/paramedic/correlate"
	"github.com/paramedic-ha/paramedic/hw"
)

func TestMain(m *testing.M) {
	if strings.Contains(filepath.Base(os.Args[0]), "qemu") {
		crowd()
	}
	goleak.VerifyTestMain(m)
}

const (
	host = correlate.ID("host/cmp-1")
	web  = correlate.ID("domain/11111111-0000-0000-0000-000000000001")
	db   = correlate.ID("domain/11111111-0000-0000-0000-000000000002")
)

func defaults() Limits {
	return Limits{
		correlate.CondMemoryPressure: 20, correlate.CondIOPressure: 50, correlate.CondCPUPressure: 90,
		correlate.CondCPUStolen: 20, correlate.CondCPUStarved: 40, correlate.CondMemoryExhausted: 5,
		correlate.CondTasksExhausted: 10, correlate.CondFilesExhausted: 10, correlate.CondConntrack: 10,
	}
}

func fixture(t testing.TB) hw.Root {
	t.Helper()
	archive, err := txtar.ParseFile(filepath.Join("testdata", "host.txtar"))
	if err != nil {
		t.Fatal(err)
	}
	root := hw.Root{Proc: t.TempDir()}
	for _, f := range archive.Files {
		text := string(f.Data)
		if strings.HasSuffix(f.Name, "cmdline") {
			text = strings.ReplaceAll(strings.TrimSpace(text), " ", "\x00") + "\x00"
		}
		put(t, root.ProcPath(f.Name), text)
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
	watch  *watch
	engine *correlate.Engine
	now    time.Time
}

func newBench(t *testing.T, standing ...correlate.Key) *bench {
	s, err := New(Config{Host: host, Root: fixture(t), Limits: defaults()})
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{t: t, watch: newWatch(s), engine: correlate.New(correlate.Config{Home: "cmp-1", Term: 2}, nil), now: time.Unix(1000, 0)}
	b.engine.Topology(b.now, correlate.Delta{Source: "agent", Set: []correlate.Resource{
		{ID: host},
		{ID: web, Needs: []correlate.Need{{Of: []correlate.ID{host}}}},
		{ID: db, Needs: []correlate.Need{{Of: []correlate.ID{host}}}},
	}})
	for _, k := range standing {
		if !b.watch.stands(k) {
			t.Errorf("%v is not watched", k)
		}
		b.engine.Topology(b.now, correlate.Delta{Source: "pressure", Events: []correlate.Event{
			{Source: "pressure", Resource: k.Resource, Condition: k.Condition, Status: correlate.StatusFailed},
		}})
	}
	b.search()
	b.after(0)
	return b
}

func (b *bench) set(file, format string, args ...any) {
	b.t.Helper()
	put(b.t, b.watch.config.Root.ProcPath(file), fmt.Sprintf(format, args...))
}

func (b *bench) remove(file string) {
	b.t.Helper()
	if err := os.RemoveAll(b.watch.config.Root.ProcPath(file)); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) search() {
	all, err := guests(b.watch.config.Root)
	b.tell(b.watch.take(result{all, err}, b.now))
}

func (b *bench) tell(events []correlate.Event) {
	b.engine.Topology(b.now, correlate.Delta{Source: "pressure", Events: events})
}

func (b *bench) after(d time.Duration) {
	b.now = b.now.Add(d)
	b.tell(b.watch.poll(b.now))
}

func (b *bench) stands(id correlate.ID, c correlate.Condition, want bool) {
	b.t.Helper()
	if got := b.engine.Stands(id, c); got != want {
		b.t.Errorf("%s %s stands: %t, want %t", id, c, got, want)
	}
}

func (b *bench) alarm(c correlate.Condition) *correlate.Alarm {
	b.t.Helper()
	for _, a := range b.engine.Alarms() {
		if a.Key.Condition == c {
			return a
		}
	}
	b.t.Fatalf("no alarm says %s", c)
	return nil
}

func TestAHostInGoodOrderSaysNothing(t *testing.T) {
	b := newBench(t)
	for range 100 {
		b.after(5 * time.Second)
	}
	if n := len(b.engine.Alarms()); n > 0 || b.watch.health() != (hw.Health{}) {
		t.Errorf("%d alarms, health %+v", n, b.watch.health())
	}
}

func TestDomainsAreFoundWithTheirProcessors(t *testing.T) {
	b := newBench(t)
	got := make(map[string][]vcpu)
	for uuid, d := range b.watch.domains {
		slices.SortFunc(d.vcpus, func(a, b vcpu) int { return strings.Compare(a.thread, b.thread) })
		got[uuid] = d.vcpus
	}
	want := map[string][]vcpu{web.Name(): {{"1004", "CPU 0"}, {"1005", "CPU 1"}}, db.Name(): {{"1104", "CPU 0"}}}
	if !maps.EqualFunc(got, want, slices.Equal[[]vcpu]) {
		t.Errorf("found %v", got)
	}
}

func TestPressureIsToldWhenItsShareOfTheWindowIsReached(t *testing.T) {
	for _, s := range stalls {
		t.Run(s.file, func(t *testing.T) {
			b := newBench(t)
			limit := b.watch.config.Limits[s.condition] / 100
			total := time.Duration(0)
			stall := func(part float64) {
				total += time.Duration(part * float64(time.Second))
				us := total.Microseconds()
				b.set("pressure/"+s.file, "some avg10=0.00 avg60=0.00 avg300=0.00 total=%d\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=%d\n",
					map[bool]int64{true: us * 2, false: us}[s.full], map[bool]int64{true: us, false: 0}[s.full])
				b.after(time.Second)
			}
			stall(0)
			for range 60 {
				stall(limit - 0.02)
			}
			b.stands(host, s.condition, false)
			for range 60 {
				stall(limit + 0.02)
			}
			b.stands(host, s.condition, true)
			t.Log(b.alarm(s.condition).Text)
			for range 60 { // neither here nor there
				stall(limit * 0.7)
			}
			b.stands(host, s.condition, true)
			for range 60 {
				stall(limit * 0.4)
			}
			b.stands(host, s.condition, false)
		})
	}
}

func TestAllStandingStillIsToldAsSoonAsItIsEnough(t *testing.T) {
	b := newBench(t)
	for i := range 7 { // of 30 s, 20 % are 6
		b.set("pressure/memory", "some avg10=0.00 avg60=0.00 avg300=0.00 total=0\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=%d\n", i*1_000_000)
		b.after(time.Second)
		b.stands(host, correlate.CondMemoryPressure, i >= 6)
	}
	if hit := b.alarm(correlate.CondMemoryPressure).Affected; len(hit) != 2 || hit[0].State != correlate.StateDegraded {
		t.Errorf("affected %v", hit)
	}
}

func TestWhatIsLeftIsJudgedWithoutHugePages(t *testing.T) {
	b := newBench(t)
	left := func(kB int) {
		b.set("meminfo", "MemTotal: 67108864 kB\nMemAvailable: %d kB\nHugetlb: 50331648 kB\nSwapFree: 100 kB\n", kB)
		b.after(5 * time.Second)
	}
	left(1_000_000) // of 16 GiB, 5 % are 838 860 kB
	b.stands(host, correlate.CondMemoryExhausted, false)
	left(800_000)
	b.stands(host, correlate.CondMemoryExhausted, true)
	a := b.alarm(correlate.CondMemoryExhausted)
	if a.Severity != correlate.SeverityMajor || len(a.Affected) != 0 || len(a.AtRisk) != 2 || a.Text != "781 of 16384 MiB of memory and swap are left" {
		t.Errorf("it says %s: %q, of %v", a.Severity, a.Text, a.Affected)
	}
	for range 10 { // a little better is not well
		left(1_000_000)
	}
	b.stands(host, correlate.CondMemoryExhausted, true)
	for range 6 {
		left(2_000_000)
	}
	b.stands(host, correlate.CondMemoryExhausted, true)
	left(2_000_000)
	b.stands(host, correlate.CondMemoryExhausted, false)
}

func TestTablesThatFillUpAreTold(t *testing.T) {
	for c, fill := range map[correlate.Condition]struct{ file, full, free string }{
		correlate.CondTasksExhausted: {"loadavg", "0.37 0.46 0.58 2/30000 88131\n", "0.37 0.46 0.58 2/3000 88131\n"},
		correlate.CondFilesExhausted: {"sys/fs/file-nr", "9000000000000000000\t0\t9223372036854775807\n", "9\t0\t9223372036854775807\n"},
		correlate.CondConntrack:      {"sys/net/netfilter/nf_conntrack_count", "262144\n", "7\n"},
	} {
		t.Run(string(c), func(t *testing.T) {
			b := newBench(t)
			b.set(fill.file, "%s", fill.full)
			b.after(5 * time.Second)
			b.stands(host, c, true)
			t.Log(b.alarm(c).Text)
			b.set(fill.file, "%s", fill.free)
			for range 7 {
				b.after(5 * time.Second)
			}
			b.stands(host, c, false)
		})
	}
}

func TestATableThatGoesAwayIsNotFullAnyMore(t *testing.T) {
	b := newBench(t)
	b.set("sys/net/netfilter/nf_conntrack_count", "262144\n")
	b.after(5 * time.Second)
	b.stands(host, correlate.CondConntrack, true)
	b.remove("sys/net/netfilter")
	b.after(5 * time.Second)
	b.stands(host, correlate.CondConntrack, false)
}

func TestTimeThatTheHypervisorBelowTakesIsTold(t *testing.T) {
	b := newBench(t)
	steal, all := 0, 10_000
	run := func(seconds, percent int) {
		for range seconds {
			steal, all = steal+percent, all+100
			b.set("stat", "cpu  %d 0 0 0 0 0 0 %d 0 0\n", all-steal, steal)
			b.after(time.Second)
		}
	}
	run(60, 15)
	b.stands(host, correlate.CondCPUStolen, false)
	run(60, 30)
	b.stands(host, correlate.CondCPUStolen, true)
	steal, all = 0, 0 // counted anew
	run(60, 0)
	b.stands(host, correlate.CondCPUStolen, false)
}

func TestTheDomainWhoseProcessorsWaitIsNamed(t *testing.T) {
	b := newBench(t)
	waited := time.Duration(0)
	wait := func(seconds int, part float64) {
		for range seconds {
			waited += time.Duration(part * float64(time.Second))
			b.set("1000/task/1005/schedstat", "1 %d 10\n", waited)
			b.after(time.Second)
		}
	}
	wait(30, 0.3)
	b.stands(web, correlate.CondCPUStarved, false)
	wait(30, 0.5)
	b.stands(web, correlate.CondCPUStarved, true)
	b.stands(db, correlate.CondCPUStarved, false)
	a := b.alarm(correlate.CondCPUStarved)
	if len(a.Affected) != 1 || a.Affected[0].Resource != web || !strings.HasPrefix(a.Text, "CPU 1 waited for a processor for 4") {
		t.Errorf("it says %q of %v", a.Text, a.Affected)
	}
	wait(60, 0.1)
	b.stands(web, correlate.CondCPUStarved, false)
}

func TestADomainThatHasEndedWaitsNoMore(t *testing.T) {
	b := newBench(t)
	for i := range 31 {
		b.set("1100/task/1104/schedstat", "1 %d 10\n", i*int(time.Second))
		b.after(time.Second)
	}
	b.stands(db, correlate.CondCPUStarved, true)
	b.remove("1100")
	b.after(time.Second)
	b.stands(db, correlate.CondCPUStarved, true) // not known before the next search
	if b.watch.health() != (hw.Health{}) {
		t.Errorf("health %+v", b.watch.health())
	}
	b.search()
	b.stands(db, correlate.CondCPUStarved, false)
}

func TestADomainThatIsStartedAgainIsCountedAnew(t *testing.T) {
	b := newBench(t)
	b.remove("1100")
	b.set("2100/comm", "qemu-kvm\n")
	b.set("2100/cmdline", "qemu-kvm\x00-uuid\x00%s\x00", db.Name())
	b.set("2100/task/2104/comm", "CPU 0/KVM\n")
	b.set("2100/task/2104/schedstat", "1 9000000000000 1\n")
	b.search()
	for range 60 {
		b.after(time.Second)
	}
	b.stands(db, correlate.CondCPUStarved, false)
}

func TestFailedReadsAreNeitherFaultNorRecovery(t *testing.T) {
	b := newBench(t,
		correlate.Key{Resource: host, Condition: correlate.CondCPUPressure},
		correlate.Key{Resource: host, Condition: correlate.CondMemoryExhausted},
		correlate.Key{Resource: host, Condition: correlate.CondTasksExhausted},
		correlate.Key{Resource: host, Condition: correlate.CondCPUStolen},
		correlate.Key{Resource: web, Condition: correlate.CondCPUStarved},
	)
	for _, file := range []string{"pressure/cpu", "meminfo", "loadavg", "stat", "1000/task/1004/schedstat", "1000/task/1005/schedstat"} {
		b.set(file, "rubbish\n")
	}
	for range 100 {
		b.after(time.Second)
	}
	if n := len(b.engine.Alarms()); n != 5 || b.watch.health().Sight != hw.SightDegraded {
		t.Errorf("%d alarms, health %+v", n, b.watch.health())
	}
}

func TestAlarmsOfTheLastRunAreHeldForAWindow(t *testing.T) {
	keys := []correlate.Key{
		{Resource: host, Condition: correlate.CondCPUPressure},
		{Resource: host, Condition: correlate.CondMemoryExhausted},
		{Resource: web, Condition: correlate.CondCPUStarved},
	}
	b := newBench(t, keys...)
	for i := range 31 {
		for _, k := range keys {
			b.stands(k.Resource, k.Condition, i < 30 || b.engine.Stands(k.Resource, k.Condition))
		}
		b.after(time.Second)
	}
	for _, k := range keys {
		b.stands(k.Resource, k.Condition, false)
	}
	if b.watch.stands(correlate.Key{Resource: host, Condition: correlate.CondCarrier}) {
		t.Error("another's alarm is taken over")
	}
}

func TestWhatIsMissingIsSaid(t *testing.T) {
	b := newBench(t)
	b.remove("pressure")
	b.after(time.Second)
	if h := b.watch.health(); h.Sight != hw.SightDegraded || !strings.Contains(h.Text, "psi=1") {
		t.Errorf("health %+v", h)
	}
	b = newBench(t)
	b.remove("1") // as with hidepid
	b.search()
	if h := b.watch.health(); h.Sight != hw.SightDegraded || !strings.Contains(h.Text, "hidepid") {
		t.Errorf("health %+v", h)
	}
}

// ledger keeps what a running source says.
type ledger struct {
	mu     sync.Mutex
	deltas []correlate.Delta
}

func (l *ledger) Emit(_ context.Context, d correlate.Delta) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.deltas = append(l.deltas, d)
	return nil
}

func (l *ledger) Health(hw.Health) {}

func (l *ledger) failed(c correlate.Condition) (at time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, d := range l.deltas {
		for _, e := range d.Events {
			if e.Condition == c && e.Status == correlate.StatusFailed {
				return e.Observed
			}
		}
	}
	return time.Time{}
}

func TestATriggerMakesPressureKnownBeforeTheNextPoll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		root := fixture(t)
		s, err := New(Config{
			Host: host, Root: root, Poll: time.Minute, Limits: defaults(),
			Standing: func(context.Context) ([]correlate.Key, error) {
				return []correlate.Key{{Resource: host, Condition: correlate.CondIOPressure}, {Resource: web, Condition: correlate.CondGone}}, nil
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		fired := make(chan struct{}, 1)
		s.triggers = func() (<-chan struct{}, func(), error) { return fired, func() {}, nil }
		l := &ledger{}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- s.Run(ctx, l) }()
		synctest.Wait()
		if len(l.deltas) != 1 || !l.deltas[0].Full || len(l.deltas[0].Events) != 1 || l.deltas[0].Events[0].Status != correlate.StatusUnknown {
			t.Fatalf("at first it says %+v", l.deltas)
		}
		<-time.After(10 * time.Second)
		put(t, root.ProcPath("pressure", "memory"), "some avg10=0 avg60=0 avg300=0 total=9000000\nfull avg10=0 avg60=0 avg300=0 total=8000000\n")
		began := time.Now()
		fired <- struct{}{}
		<-time.After(5 * time.Second)
		if at := l.failed(correlate.CondMemoryPressure); at.IsZero() || at.Sub(began) > alert {
			t.Errorf("told after %v", at.Sub(began))
		}
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("ended with %v", err)
		}
	})
}

// spin keeps a processor busy.
func spin(quit <-chan struct{}) {
	for n := 0; n >= 0; n++ {
		select {
		case <-quit:
			return
		default:
			n &= 1 << 20
		}
	}
}

// crowd is this program in the part of a qemu whose two virtual processors share one processor.
func crowd() {
	var one unix.CPUSet
	if err := unix.SchedGetaffinity(0, &one); err != nil {
		panic(err)
	}
	for cpu := range 1024 {
		if one.IsSet(cpu) {
			one.Zero()
			one.Set(cpu)
			break
		}
	}
	for i := range 2 {
		var processor func()
		processor = func() {
			runtime.LockOSThread()
			if unix.Gettid() == os.Getpid() { // the process has its name from this one: keep it, and take another
				go processor()
				select {}
			}
			name, _ := unix.BytePtrFromString(fmt.Sprintf("CPU %d/KVM", i))
			if err := unix.Prctl(unix.PR_SET_NAME, uintptr(unsafe.Pointer(name)), 0, 0, 0); err != nil {
				panic(err)
			}
			if err := unix.SchedSetaffinity(0, &one); err != nil {
				panic(err)
			}
			spin(make(chan struct{}))
		}
		go processor()
	}
	time.AfterFunc(20*time.Second, func() { os.Exit(1) })
	select {}
}

func TestTheKernelTellsHowLongProcessorsWait(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	qemu := filepath.Join(t.TempDir(), "qemu-system-x86_64")
	if err := os.Symlink(self, qemu); err != nil {
		t.Fatal(err)
	}
	uuid := fmt.Sprintf("11111111-0000-0000-0000-%012d", os.Getpid())
	cmd := exec.CommandContext(t.Context(), qemu, "-name", "guest=crowd,debug-threads=on", "-uuid", uuid)
	cmd.Env = append(os.Environ(), "GOMAXPROCS=3")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}()
	s, err := New(Config{Host: host, Window: time.Second, Limits: Limits{correlate.CondCPUStarved: 25}})
	if err != nil {
		t.Fatal(err)
	}
	w := newWatch(s)
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); <-time.After(100 * time.Millisecond) {
		if len(w.domains[uuid].processors()) < 2 {
			all, err := guests(s.config.Root)
			w.take(result{all, err}, time.Now())
			continue
		}
		for _, e := range w.waiting(time.Now()) {
			if e.Resource.Name() == uuid && e.Status == correlate.StatusFailed {
				t.Log(e.Text)
				return
			}
		}
	}
	t.Errorf("nothing is said of %v, health %+v", w.domains[uuid], w.health())
}

func (d *domain) processors() []vcpu {
	if d == nil {
		return nil
	}
	return d.vcpus
}

func TestARealQemuIsFoundWithItsProcessors(t *testing.T) {
	uuid := fmt.Sprintf("22222222-0000-0000-0000-%012d", os.Getpid())
	cmd := exec.CommandContext(t.Context(), "qemu-system-x86_64", "-name", "guest=real,debug-threads=on", "-uuid", uuid,
		"-machine", "microvm", "-m", "16", "-smp", "2", "-accel", "tcg,thread=multi", "-display", "none", "-nodefaults", "-S")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}()
	var found []guest
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); <-time.After(20 * time.Millisecond) {
		var err error
		if found, err = guests(hw.Root{}); err != nil {
			t.Fatal(err)
		}
		for _, g := range found {
			if g.uuid != uuid || len(g.vcpus) < 2 {
				continue
			}
			for _, v := range g.vcpus {
				if _, err := g.waited(hw.Root{}, v.thread); err != nil || v.name != "CPU 0" && v.name != "CPU 1" {
					t.Errorf("%+v: %v", v, err)
				}
			}
			return
		}
	}
	t.Errorf("found %+v", found)
}

// TestThisKernelFiresItsTriggers also holds for a kernel without pressure figures: then it says so.
func TestThisKernelFiresItsTriggers(t *testing.T) {
	fired, stop, err := triggers(hw.Root{}, func(s stall) float64 { return map[string]float64{"cpu": 0.1}[s.file] })
	defer stop()
	if _, absent := os.Stat("/proc/pressure/cpu"); absent != nil {
		if !missing(err) {
			t.Errorf("without figures: %v", err)
		}
		return
	}
	if err != nil {
		t.Fatal(err) // before 6.5, CAP_SYS_RESOURCE is needed
	}
	quit := make(chan struct{})
	var spinning sync.WaitGroup
	for range runtime.NumCPU() * 2 {
		spinning.Go(func() {
			runtime.LockOSThread()
			spin(quit)
		})
	}
	defer spinning.Wait()
	defer close(quit)
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(runtime.NumCPU() * 2))
	select {
	case <-fired:
	case <-time.After(10 * time.Second):
		t.Error("nothing was said")
	}
}

func TestATriggerThatIsRefusedIsAnError(t *testing.T) {
	root := hw.Root{Proc: t.TempDir()}
	if _, stop, err := triggers(root, func(stall) float64 { return 10 }); !missing(err) {
		stop()
		t.Errorf("without files: %v", err)
	}
}

func FuzzDecoders(f *testing.F) {
	for _, text := range []string{
		"", "cpu  1 2 3 4 5 6 7 8 9 10\n", "0.1 0.2 0.3 1/2 3", "1\t0\t9223372036854775807", "1 2 3", "MemTotal: 1 kB\nMemAvailable: 2 kB\n",
		"some avg10=0.00 avg60=0.00 avg300=0.00 total=18446744073709551615\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=18446744073709551615\n",
	} {
		f.Add([]byte(text))
	}
	root := fixture(f)
	s, err := New(Config{Host: host, Root: root, Limits: defaults()})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		w := newWatch(s)
		all, err := guests(root)
		w.take(result{all, err}, time.Unix(0, 0))
		for _, file := range []string{"pressure/io", "meminfo", "loadavg", "sys/fs/file-nr", "stat", "1000/task/1004/schedstat"} {
			if err := os.WriteFile(root.ProcPath(file), text, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		for i := range 3 {
			for _, e := range w.poll(time.Unix(int64(i)*40, 0)) {
				if strings.Contains(e.Text, "NaN") || strings.Contains(e.Text, "%!") {
					t.Errorf("it says %q", e.Text)
				}
			}
		}
	})
}

func BenchmarkPoll(b *testing.B) {
	root := fixture(b)
	for i := range 50 { // domains of eight processors
		pid := fmt.Sprint(5000 + i)
		put(b, root.ProcPath(pid, "comm"), "qemu-kvm\n")
		put(b, root.ProcPath(pid, "cmdline"), "qemu-kvm\x00-uuid\x00"+fmt.Sprintf("11111111-0000-0000-0000-%012d", i)+"\x00")
		for c := range 8 {
			put(b, root.ProcPath(pid, "task", fmt.Sprint(c), "comm"), fmt.Sprintf("CPU %d/KVM\n", c))
			put(b, root.ProcPath(pid, "task", fmt.Sprint(c), "schedstat"), "1000 1000 10\n")
		}
	}
	s, err := New(Config{Host: host, Root: root, Limits: defaults()})
	if err != nil {
		b.Fatal(err)
	}
	w := newWatch(s)
	all, err := guests(root)
	w.take(result{all, err}, time.Unix(0, 0))
	for i := range b.N {
		w.poll(time.Unix(int64(i)*5, 0))
	}
}
