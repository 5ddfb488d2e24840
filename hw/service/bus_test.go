package service

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"

	"github.com/paramedic-ha/paramedic/correlate"
	"github.com/paramedic-ha/paramedic/hw"
)

// busConfig is a message bus on which everybody may do everything.
const busConfig = `<busconfig>
  <type>system</type>
  <listen>unix:path=%s</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow own="*"/><allow send_destination="*"/><allow receive_sender="*"/><allow user="*"/>
  </policy>
</busconfig>`

// startBus runs a real message bus, and returns its process.
func startBus(t *testing.T, socket string) *os.Process {
	t.Helper()
	file := filepath.Join(t.TempDir(), "bus.conf")
	if err := os.WriteFile(file, fmt.Appendf(nil, busConfig, socket), 0o600); err != nil {
		t.Fatal(err)
	}
	_ = os.Remove(socket)
	cmd := exec.CommandContext(t.Context(), "dbus-daemon", "--nofork", "--nopidfile", "--nosyslog", "--print-address", "--config-file="+file)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatalf("the bus has not started: %v", err)
	}
	return cmd.Process
}

// manager1 speaks as much of org.freedesktop.systemd1 as is asked, on a real bus.
type manager1 struct {
	t    *testing.T
	conn *dbus.Conn

	mu         sync.Mutex
	units      map[string]state
	subscribed bool
}

func startSystemd(t *testing.T, socket string) *manager1 {
	t.Helper()
	conn, err := dbus.Connect("unix:path=" + socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	s := &manager1{t: t, conn: conn, units: make(map[string]state)}
	if err := conn.Export(s, manager, managerFace); err != nil {
		t.Fatal(err)
	}
	if err := conn.ExportSubtree(properties{s}, manager+"/unit", "org.freedesktop.DBus.Properties"); err != nil {
		t.Fatal(err)
	}
	got, err := conn.RequestName(destination, dbus.NameFlagDoNotQueue)
	if err != nil || got != dbus.RequestNameReplyPrimaryOwner {
		t.Fatalf("the name was not given: %v, %v", got, err)
	}
	return s
}

// Subscribe is the manager's.
func (s *manager1) Subscribe() *dbus.Error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.subscribed = true
	return nil
}

// ListUnitsByPatterns is the manager's.
func (s *manager1) ListUnitsByPatterns(_, patterns []string) ([]row, *dbus.Error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var rows []row
	for name, u := range s.units {
		if slices.ContainsFunc(patterns, func(p string) bool { ok, _ := path.Match(p, name); return ok }) {
			rows = append(rows, row{
				Name: name, Description: u.description, Load: "loaded", Active: u.active, Sub: u.sub, Path: objectPath(name), JobPath: "/",
			})
		}
	}
	rows = append(rows, row{Name: "chrony.service", Load: "not-found", Active: "inactive", Sub: "dead", Path: objectPath("chrony.service"), JobPath: "/"})
	return rows, nil
}

type properties struct{ *manager1 }

// Get is org.freedesktop.DBus.Properties'.
func (p properties) Get(msg dbus.Message, iface, name string) (dbus.Variant, *dbus.Error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	at, _ := msg.Headers[dbus.FieldPath].Value().(dbus.ObjectPath)
	for unit, u := range p.units {
		if at != objectPath(unit) || iface != serviceFace || !strings.HasSuffix(unit, suffix) {
			continue
		}
		switch name {
		case "NRestarts":
			return dbus.MakeVariant(u.restarts), nil
		case "Result":
			return dbus.MakeVariant(u.result), nil
		}
	}
	return dbus.Variant{}, dbus.NewError("org.freedesktop.DBus.Error.UnknownProperty", []any{"no such property"})
}

// set changes a unit, and says so as systemd does: when somebody wants to hear it.
func (s *manager1) set(name, active, sub string) {
	s.t.Helper()
	s.mu.Lock()
	s.units[name] = state{unit: name, description: "Description of " + name, active: active, sub: sub, result: "exit-code", restarts: 3}
	loud := s.subscribed
	s.mu.Unlock()
	if !loud {
		return
	}
	changed := map[string]dbus.Variant{"ActiveState": dbus.MakeVariant(active), "SubState": dbus.MakeVariant(sub)}
	if err := s.conn.Emit(objectPath(name), "org.freedesktop.DBus.Properties.PropertiesChanged", unitFace, changed, []string{}); err != nil {
		s.t.Fatal(err)
	}
}

// desk is an engine that is fed by a running source.
type desk struct {
	t      *testing.T
	source *Source

	mu     sync.Mutex
	engine *correlate.Engine
	health hw.Health
	fulls  int
}

func (d *desk) Emit(_ context.Context, delta correlate.Delta) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if delta.Full {
		d.fulls++
	}
	d.engine.Topology(time.Now(), delta)
	return nil
}

func (d *desk) Health(h hw.Health) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.health = h
}

// run has a source watch until the test ends.
func run(t *testing.T, c Config) *desk {
	t.Helper()
	c.Host, c.Hypervisor = host, hypervisor
	s, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	d := &desk{t: t, source: s, engine: correlate.New(correlate.Config{Home: "cmp-1", Term: 2}, nil)}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx, d) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("ended with %v", err)
		}
	})
	return d
}

func (d *desk) await(what string, is func(e *correlate.Engine, h hw.Health) bool) time.Duration {
	d.t.Helper()
	began := time.Now()
	for ; time.Since(began) < 10*time.Second; <-time.After(time.Millisecond) {
		d.mu.Lock()
		done := is(d.engine, d.health)
		d.mu.Unlock()
		if done {
			return time.Since(began)
		}
	}
	d.t.Fatalf("%s does not come; health %+v", what, d.health)
	return 0
}

func standing(name string, want bool) func(*correlate.Engine, hw.Health) bool {
	return func(e *correlate.Engine, _ hw.Health) bool {
		return e.Stands(correlate.NewID(correlate.KindService, name), correlate.CondServiceFailed) == want
	}
}

func sight(want hw.Sight) func(*correlate.Engine, hw.Health) bool {
	return func(_ *correlate.Engine, h hw.Health) bool { return h.Sight == want }
}

// place is where a test's bus is, on a host that runs systemd.
func place(t *testing.T) Config {
	dir := t.TempDir()
	return Config{Socket: filepath.Join(dir, "bus"), Booted: dir, Timeout: 200 * time.Millisecond}
}

func TestAChangeIsToldAtOnce(t *testing.T) {
	c := place(t)
	startBus(t, c.Socket)
	sd := startSystemd(t, c.Socket)
	sd.set("multipathd.service", "active", "running")
	sd.set("virtlogd.service", "failed", "failed")
	sd.set("cron.service", "failed", "failed")
	d := run(t, c)
	d.await("the unit that had failed before", standing("virtlogd", true))
	sd.set("multipathd.service", "failed", "failed")
	t.Logf("told after %v", d.await("the failure", standing("multipathd", true)))
	sd.set("multipathd.service", "active", "running")
	d.await("the end", standing("multipathd", false))
	sd.set("chronyd.service", "failed", "failed") // one that was not loaded before
	d.await("the failure of a new unit", standing("chronyd", true))
	d.await("no other unit", func(e *correlate.Engine, _ hw.Health) bool { return len(e.Alarms()) == 2 })
	if n := d.source.Counts()["signals"]; n != 3 {
		t.Errorf("%d signals were heard, of three", n)
	}
}

func TestALostSignalHealsWithTheNextListing(t *testing.T) {
	c := place(t)
	c.Resync = 100 * time.Millisecond
	startBus(t, c.Socket)
	sd := startSystemd(t, c.Socket)
	d := run(t, c)
	d.await("the first listing", func(*correlate.Engine, hw.Health) bool { return d.fulls == 1 })
	sd.mu.Lock()
	sd.units["iscsid.service"] = state{active: "failed", sub: "failed"}
	sd.mu.Unlock()
	d.await("the failure", standing("iscsid", true))
}

func TestABusThatHangsMakesBlindAndClearsNothing(t *testing.T) {
	c := place(t)
	c.Resync = 100 * time.Millisecond
	bus := startBus(t, c.Socket)
	startSystemd(t, c.Socket).set("iscsid.service", "failed", "failed")
	d := run(t, c)
	d.await("the failure", standing("iscsid", true))
	if err := bus.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	d.await("blindness", sight(hw.SightBlind))
	t.Log(d.health.Text)
	if !d.engine.Stands("service/iscsid", correlate.CondServiceFailed) {
		t.Error("a bus that hangs has cleared an alarm")
	}
	if err := bus.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	d.await("sight", sight(hw.SightClear))
}

func TestASystemdThatDoesNotAnswerMakesBlind(t *testing.T) {
	c := place(t)
	startBus(t, c.Socket) // and nobody there
	d := run(t, c)
	d.await("blindness", sight(hw.SightBlind))
	t.Log(d.health.Text)
}

func TestABusThatIsStartedAnewIsAskedForEverything(t *testing.T) {
	c := place(t)
	bus := startBus(t, c.Socket)
	startSystemd(t, c.Socket).set("iscsid.service", "failed", "failed")
	d := run(t, c)
	d.await("the failure", standing("iscsid", true))
	if err := bus.Kill(); err != nil {
		t.Fatal(err)
	}
	startBus(t, c.Socket)
	startSystemd(t, c.Socket).set("iscsid.service", "active", "running")
	d.await("the end, which nobody said", standing("iscsid", false))
	if d.fulls != 2 {
		t.Errorf("%d full truths", d.fulls)
	}
}

func TestAHostWithoutSystemdIsSaidToBeSo(t *testing.T) {
	c := place(t)
	c.Booted = filepath.Join(c.Booted, "nothing")
	d := run(t, c)
	d.await("absence", func(_ *correlate.Engine, h hw.Health) bool { return h.Sight == hw.SightAbsent && d.fulls == 1 })
	c.Booted = filepath.Dir(c.Booted)
	d = run(t, c) // systemd, and no bus
	d.await("absence", func(_ *correlate.Engine, h hw.Health) bool {
		return h.Sight == hw.SightAbsent && strings.Contains(h.Text, "install dbus")
	})
}
