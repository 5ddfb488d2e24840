package service

import (
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/paramedic-ha/paramedic/correlate"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	host       = correlate.ID("host/cmp-1")
	hypervisor = correlate.ID("hypervisor/libvirt")
	guest      = correlate.ID("domain/a")
)

// bench plays listings to an engine by hand.
type bench struct {
	t      *testing.T
	watch  *watch
	engine *correlate.Engine
	now    time.Time
	states map[string]state
	full   bool
}

func newBench(t *testing.T, c Config, standing ...correlate.Key) *bench {
	c.Host, c.Hypervisor = host, hypervisor
	s, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{
		t: t, watch: &watch{Source: s, units: make(map[string]*unit)}, now: time.Unix(1000, 0),
		engine: correlate.New(correlate.Config{Home: "cmp-1", Term: 2}, nil), states: make(map[string]state), full: true,
	}
	b.engine.Topology(b.now, correlate.Delta{Source: "agent", Full: true, Set: []correlate.Resource{{ID: host}}})
	b.engine.Topology(b.now, correlate.Delta{Source: "virt", Full: true, Set: []correlate.Resource{
		{ID: hypervisor}, {ID: guest, Needs: []correlate.Need{{Of: []correlate.ID{host}}}},
	}})
	for _, k := range standing {
		b.watch.inherited = append(b.watch.inherited, k.Resource)
		b.engine.Topology(b.now, correlate.Delta{Source: sourceName, Events: []correlate.Event{
			{Source: sourceName, Resource: k.Resource, Condition: k.Condition, Status: correlate.StatusFailed},
		}})
	}
	return b
}

// list has systemd list what it has.
func (b *bench) list(after time.Duration) correlate.Delta {
	b.now = b.now.Add(after)
	var states []state
	for _, s := range b.states {
		states = append(states, s)
	}
	d := b.watch.take(states, b.now, b.full)
	b.full = false
	b.engine.Topology(b.now, d)
	return d
}

func (b *bench) say(after time.Duration, name, active, sub string, restarts uint32) correlate.Delta {
	b.states[name] = state{unit: name, description: "what it is", active: active, sub: sub, result: "exit-code", restarts: restarts}
	return b.list(after)
}

func (b *bench) stands(name string, c correlate.Condition, want bool) {
	b.t.Helper()
	if got := b.engine.Stands(correlate.NewID(correlate.KindService, name), c); got != want {
		b.t.Errorf("%s of %s stands: %t, want %t", c, name, got, want)
	}
}

func TestWhatTheStatesOfAUnitMean(t *testing.T) {
	for _, test := range []struct {
		active, sub string
		want        meaning
	}{
		{"active", "running", running},
		{"active", "exited", running},
		{"reloading", "reload", running},
		{"inactive", "dead", ended},
		{"inactive", "dead-before-auto-restart", waiting},
		{"failed", "failed", failed},
		{"failed", "failed-before-auto-restart", waiting},
		{"activating", "auto-restart", waiting},
		{"activating", "auto-restart-queued", waiting},
		{"activating", "start", held},
		{"deactivating", "stop-sigterm", held},
		{"maintenance", "", held},
		{"something new", "", held},
	} {
		s := state{active: test.active, sub: test.sub}
		if got := s.meaning(); got != test.want {
			t.Errorf("%s (%s) means %d, want %d", test.active, test.sub, got, test.want)
		}
	}
}

func TestAFailedUnitIsToldUntilItRunsOrIsReset(t *testing.T) {
	for _, end := range []string{"active", "inactive"} {
		b := newBench(t, Config{})
		b.say(0, "multipathd.service", "active", "running", 0)
		b.stands("multipathd", correlate.CondServiceFailed, false)
		b.say(time.Second, "multipathd.service", "failed", "failed", 0)
		b.stands("multipathd", correlate.CondServiceFailed, true)
		b.say(time.Hour, "multipathd.service", "activating", "start", 0)
		b.stands("multipathd", correlate.CondServiceFailed, true)
		b.say(time.Second, "multipathd.service", end, "x", 0)
		b.stands("multipathd", correlate.CondServiceFailed, false)
	}
}

func TestAUnitThatHadFailedBeforeTheAgentStartedIsTold(t *testing.T) {
	b := newBench(t, Config{})
	b.say(0, "nova-compute.service", "failed", "failed", 0)
	b.stands("nova-compute", correlate.CondServiceFailed, true)
}

func TestAUnitThatWasStoppedOrIsIdleIsNoFault(t *testing.T) {
	b := newBench(t, Config{})
	b.say(0, "libvirtd.service", "inactive", "dead", 0)
	if len(b.watch.units) > 0 {
		t.Error("a unit that was never seen to run is watched")
	}
	b.say(time.Minute, "libvirtd.service", "active", "running", 0)
	d := b.say(time.Minute, "libvirtd.service", "inactive", "dead", 0) // with --timeout 120 it does so by itself
	if len(b.engine.Alarms()) > 0 || len(d.Set) != 1 || !d.Set[0].Inactive {
		t.Errorf("it says %+v", d)
	}
	delete(b.states, "libvirtd.service") // systemd forgets it
	d = b.list(time.Minute)
	if len(b.engine.Alarms()) > 0 || len(d.Gone) != 1 || len(b.watch.units) > 0 {
		t.Errorf("it says %+v", d)
	}
}

func TestAUnitThatIsStartedAgainSoonHasNotFailed(t *testing.T) {
	b := newBench(t, Config{})
	b.say(0, "chronyd.service", "active", "running", 0)
	b.say(time.Second, "chronyd.service", "activating", "auto-restart", 0)
	if at := b.watch.due(); !at.Equal(b.now.Add(patience)) {
		t.Errorf("it is looked at again at %v", at)
	}
	b.say(4*time.Second, "chronyd.service", "active", "running", 1)
	b.stands("chronyd", correlate.CondServiceFailed, false)
	b.say(time.Hour, "chronyd.service", "activating", "auto-restart", 1)
	b.list(patience)
	b.stands("chronyd", correlate.CondServiceFailed, true)
	b.say(time.Minute, "chronyd.service", "active", "running", 2)
	b.stands("chronyd", correlate.CondServiceFailed, false)
	b.stands("chronyd", correlate.CondServiceRestarted, false)
}

func TestAUnitThatTakesLongToStartHasNotFailed(t *testing.T) {
	b := newBench(t, Config{})
	b.say(0, "nova-compute.service", "active", "running", 0)
	b.say(time.Second, "nova-compute.service", "activating", "auto-restart", 0)
	b.say(time.Second, "nova-compute.service", "activating", "start", 1)
	b.list(time.Minute)
	b.stands("nova-compute", correlate.CondServiceFailed, false)
	if at := b.watch.due(); !at.IsZero() {
		t.Errorf("it is looked at again at %v", at)
	}
}

func TestAUnitThatIsStartedOverAndOverIsTold(t *testing.T) {
	b := newBench(t, Config{})
	b.say(0, "chronyd.service", "active", "running", 7) // what was before says nothing of how fast
	b.say(time.Minute, "chronyd.service", "active", "running", 8)
	b.say(time.Minute, "chronyd.service", "active", "running", 9)
	b.stands("chronyd", correlate.CondServiceRestarted, false)
	b.say(time.Minute, "chronyd.service", "active", "running", 10)
	b.stands("chronyd", correlate.CondServiceRestarted, true)
	b.say(time.Minute, "chronyd.service", "active", "running", 0) // somebody has started it by hand
	b.stands("chronyd", correlate.CondServiceRestarted, true)
	if at := b.watch.due(); !at.Equal(b.now.Add(9 * time.Minute)) {
		t.Errorf("it is looked at again at %v, now is %v", at, b.now)
	}
	b.list(9 * time.Minute)
	b.stands("chronyd", correlate.CondServiceRestarted, false)
}

func TestARestartingUnitOfTheLastRunIsHeldForAWindow(t *testing.T) {
	b := newBench(t, Config{}, correlate.Key{Resource: "service/chronyd", Condition: correlate.CondServiceRestarted})
	b.say(0, "chronyd.service", "active", "running", 7)
	b.stands("chronyd", correlate.CondServiceRestarted, true)
	b.list(9 * time.Minute)
	b.stands("chronyd", correlate.CondServiceRestarted, true)
	b.list(time.Minute)
	b.stands("chronyd", correlate.CondServiceRestarted, false)
}

func TestEverythingIsSaidAgainAfterTheConnectionWasLost(t *testing.T) {
	b := newBench(t, Config{})
	b.say(0, "chronyd.service", "failed", "failed", 0)
	b.say(0, "multipathd.service", "active", "running", 0)
	b.full = true
	d := b.list(time.Minute)
	if len(d.Set) != 2 || len(d.Events) != 1 || len(d.Require) != 2 {
		t.Errorf("it says %+v", d)
	}
	b.stands("chronyd", correlate.CondServiceFailed, true)
}

func TestAServiceOfTheVirtualNetworkPutsDomainsAtRisk(t *testing.T) {
	b := newBench(t, Config{})
	b.say(0, "ovs-vswitchd.service", "active", "running", 0)
	b.say(0, "neutron-openvswitch-agent.service", "active", "running", 0)
	b.say(time.Minute, "neutron-openvswitch-agent.service", "failed", "failed", 0)
	a := b.engine.Alarms()[0]
	if a.Key.Condition != correlate.CondNetworkService || a.Severity != correlate.SeverityCritical || len(a.Affected) > 0 ||
		len(a.AtRisk) != 1 || a.AtRisk[0].Resource != guest {
		t.Errorf("it says %+v", a)
	}
	if a.Text != "neutron-openvswitch-agent.service has failed (exit-code)" {
		t.Errorf("it says %q", a.Text)
	}
	b.say(time.Minute, "ovs-vswitchd.service", "failed", "failed", 0) // all of them: still no domain is known to be hit
	for _, a := range b.engine.Alarms() {
		if len(a.Affected) > 0 || len(a.AtRisk) != 1 {
			t.Errorf("it says %+v", a)
		}
	}
}

func TestAServiceOfTheVirtualNetworkThatIsStartedOverAndOverHitsNobody(t *testing.T) {
	b := newBench(t, Config{Restarts: 1})
	b.say(0, "ovn-controller.service", "active", "running", 0)
	b.say(time.Minute, "ovn-controller.service", "active", "running", 1)
	b.stands("ovn-controller", correlate.CondServiceRestarted, true)
	if a := b.engine.Alarms()[0]; len(a.Affected) > 0 || len(a.AtRisk) != 1 {
		t.Errorf("it says %+v", a)
	}
}

func TestTheUnreachableHypervisorIsExplainedByItsDaemon(t *testing.T) {
	b := newBench(t, Config{})
	b.say(0, "libvirtd.service", "active", "running", 0)
	b.engine.Topology(b.now, correlate.Delta{Source: "virt", Events: []correlate.Event{
		{Source: "virt", Resource: hypervisor, Condition: correlate.CondHypervisorUnreachable, Status: correlate.StatusFailed},
	}})
	b.say(time.Second, "libvirtd.service", "failed", "failed", 0)
	for _, a := range b.engine.Alarms() {
		if a.RootCause != (a.Key.Condition == correlate.CondServiceFailed) || len(a.Affected) > 0 {
			t.Errorf("%s: root cause %t, affected %v", a.Key, a.RootCause, a.Affected)
		}
	}
}

func TestTheConfigurationComesBeforeTheTable(t *testing.T) {
	b := newBench(t, Config{
		Units:   []Unit{{Name: "chronyd", Severity: correlate.SeverityCritical}, {Name: "kolla-*", Network: true}},
		Without: []string{"multipath*"},
	})
	b.say(0, "chronyd.service", "failed", "failed", 0)
	b.say(0, "kolla-neutron-container.service", "failed", "failed", 0)
	b.say(0, "multipathd.service", "failed", "failed", 0)
	b.say(0, "cron.service", "failed", "failed", 0)
	var got []string
	for _, a := range b.engine.Alarms() {
		got = append(got, string(a.Key.Condition)+" "+a.Key.Resource.Name()+" "+a.Severity.String())
	}
	slices.Sort(got)
	if want := "network-service-failed kolla-neutron-container critical, service-failed chronyd critical"; strings.Join(got, ", ") != want {
		t.Errorf("it says %s", got)
	}
	_, err := New(Config{Units: []Unit{{Name: "a["}, {}}, Without: []string{"]", "[b"}})
	if err == nil || strings.Count(err.Error(), "hw.service.") != 3 {
		t.Errorf("it finds %v", err)
	}
}

func TestUnitsAreNamedWithOrWithoutTheirSuffix(t *testing.T) {
	for name, want := range map[string]string{
		"a": "a.service", "a.service": "a.service", "a.socket": "a.socket", "a.b": "a.b.service", "ptp4l@*": "ptp4l@*.service",
	} {
		if got := (&Unit{Name: name}).pattern(); got != want {
			t.Errorf("%s is %s, want %s", name, got, want)
		}
	}
}

func FuzzUnit(f *testing.F) {
	f.Add([]byte{1, 0, 2, 0, 3, 1, 4, 9})
	subs := [][2]string{
		{"active", "running"},
		{"inactive", "dead"},
		{"failed", "failed"},
		{"activating", "auto-restart"},
		{"activating", "start"},
		{"failed", "failed-before-auto-restart"},
		{"deactivating", "stop"},
		{"", ""},
	}
	f.Fuzz(func(t *testing.T, steps []byte) {
		c := &Config{Restarts: 3, Window: time.Minute}
		u, now := &unit{}, time.Unix(0, 0)
		told := make(map[correlate.Condition]bool)
		for i := 0; i+1 < len(steps); i += 2 {
			now = now.Add(time.Duration(steps[i]>>3) * time.Second)
			s := state{unit: "a.service", active: subs[steps[i]&7][0], sub: subs[steps[i]&7][1], restarts: uint32(steps[i+1])}
			before := u.failed
			u.judge(s, now, c)
			if s.meaning() == held && u.failed != before {
				t.Fatal("a state in between has changed the verdict")
			}
			if len(u.restarts) > c.Restarts {
				t.Fatalf("%d restarts are kept", len(u.restarts))
			}
			for _, e := range u.tell(now, c, false) {
				if is := e.Status == correlate.StatusFailed; is == told[e.Condition] {
					t.Fatalf("%s is told twice", e.Condition)
				} else {
					told[e.Condition] = is
				}
			}
			if at := u.due(c); !at.IsZero() && !at.After(now) {
				t.Fatalf("due at %v, now is %v", at, now)
			}
		}
	})
}
