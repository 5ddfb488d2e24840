package ipmi

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/paramedic-ha/paramedic/correlate"
	"github.com/paramedic-ha/paramedic/hw"
)

const self0 = correlate.ID("host/cmp-1")

// bench is an engine behind a source that runs.
type bench struct {
	t      *testing.T
	dir    string
	source *Source
	cancel context.CancelFunc
	ended  chan error

	mu      sync.Mutex
	engine  *correlate.Engine
	deltas  []correlate.Delta
	healths []hw.Health
}

func (b *bench) Emit(_ context.Context, d correlate.Delta) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.deltas = append(b.deltas, d)
	b.engine.Topology(time.Now(), d)
	return nil
}

func (b *bench) Health(h hw.Health) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.healths) == 0 || b.healths[len(b.healths)-1] != h {
		b.healths = append(b.healths, h)
	}
}

// watchOver runs a source; its files are in the bench's directory.
func watchOver(t *testing.T, open func() (Transport, error), with func(*Config)) *bench {
	t.Helper()
	b := &bench{t: t, dir: t.TempDir(), engine: correlate.New(correlate.Config{Home: "cmp-1", Term: 2}, nil)}
	b.engine.Topology(time.Now(), correlate.Delta{Source: "virt", Set: []correlate.Resource{
		{ID: self0}, {ID: "domain/a", Needs: []correlate.Need{{Of: []correlate.ID{self0}}}},
	}})
	b.run(open, with)
	t.Cleanup(b.stop)
	return b
}

func (b *bench) run(open func() (Transport, error), with func(*Config)) {
	b.t.Helper()
	c := Config{Host: self0, Interval: 100 * time.Millisecond, Scan: 300 * time.Millisecond, Timeout: 500 * time.Millisecond, Dir: b.dir}
	c.Standing = func(context.Context) ([]correlate.Key, error) {
		b.mu.Lock()
		defer b.mu.Unlock()
		var keys []correlate.Key
		for _, a := range b.engine.Alarms() {
			if a.Source == "ipmi" {
				keys = append(keys, a.Key)
			}
		}
		return keys, nil
	}
	if with != nil {
		with(&c)
	}
	source, err := newSource(c, open)
	if err != nil {
		b.t.Fatal(err)
	}
	source.chores = 200 * time.Millisecond
	b.source = source
	b.begin()
}

// begin starts a Run of the source.
func (b *bench) begin() {
	source := b.source
	b.ended = make(chan error, 1)
	ctx, cancel := context.WithCancel(context.Background())
	b.cancel = cancel
	go func() { b.ended <- source.Run(ctx, b) }()
}

func (b *bench) stop() {
	if b.cancel == nil {
		return
	}
	b.cancel()
	b.cancel = nil
	if err := <-b.ended; !errors.Is(err, context.Canceled) {
		b.t.Errorf("ended with %v", err)
	}
}

// await waits until something holds.
func (b *bench) await(what string, holds func() bool) {
	b.t.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; {
		b.mu.Lock()
		ok := holds()
		b.mu.Unlock()
		if ok {
			return
		}
		if time.Now().After(deadline) {
			b.mu.Lock()
			defer b.mu.Unlock()
			var standing []string
			for _, a := range b.engine.Alarms() {
				standing = append(standing, fmt.Sprintf("%s %s %s", a.Key.Resource, a.Key.Condition, a.Severity))
			}
			b.t.Fatalf("not seen within 30 s: %s; standing: %q; health %+v; counts %v", what, standing, b.healths, b.source.Counts())
		}
		<-time.After(5 * time.Millisecond)
	}
}

func (b *bench) awaitStated() {
	b.t.Helper()
	b.await("the full statement", func() bool { return len(b.statement(0)) > 0 })
}

// statement is what was told from the first statement of what there is on, after so many deltas. Of a BMC that takes its time for
// its first answer it is told before that nothing is known. Under mu.
func (b *bench) statement(after int) []correlate.Delta {
	for i := after; i < len(b.deltas); i++ {
		if b.deltas[i].Full && len(b.deltas[i].Set) > 0 {
			return b.deltas[i:]
		}
	}
	return nil
}

func (b *bench) awaitAlarm(id correlate.ID, c correlate.Condition) {
	b.t.Helper()
	b.await(fmt.Sprintf("%s %s", id, c), func() bool { return b.engine.Stands(id, c) })
}

func (b *bench) awaitClear(id correlate.ID, c correlate.Condition) {
	b.t.Helper()
	b.await(fmt.Sprintf("%s %s is over", id, c), func() bool { return !b.engine.Stands(id, c) })
}

func (b *bench) alarm(id correlate.ID, c correlate.Condition) *correlate.Alarm {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, a := range b.engine.Alarms() {
		if a.Key.Resource == id && a.Key.Condition == c {
			return a
		}
	}
	return nil
}

func TestHealthyMachineRaisesNothing(t *testing.T) {
	t.Parallel()
	s := startSimulator(t)
	b := watchOver(t, s.open, nil)
	b.awaitStated()
	b.await("an inventory", func() bool { return len(b.statement(0)) > 1 })
	b.await("two scans", func() bool { return b.source.counters.readings.Load() > 30 })
	b.mu.Lock()
	defer b.mu.Unlock()
	if alarms := b.engine.Alarms(); len(alarms) > 0 {
		t.Errorf("%s %s stands: %s", alarms[0].Key.Resource, alarms[0].Key.Condition, alarms[0].Text)
	}
	told := b.statement(0)
	full := told[0]
	if len(full.Require) != 1 || len(full.Require[0].Needs) != 3 {
		t.Fatalf("stated %+v", full)
	}
	psus, fans := full.Require[0].Needs[0], full.Require[0].Needs[1]
	if psus.K != 1 || fmt.Sprint(psus.Of) != "[psu/bmc-10.1 psu/bmc-10.2]" || fans.K != 1 || fmt.Sprint(fans.Of) != "[fan/bmc-04 fan/bmc-05]" {
		t.Errorf("the host needs %+v and %+v", psus, fans)
	}
	facts := told[1].Set[0].Facts
	if facts["firmware"] != "2.15" || facts["power"] != "on" || facts["board"] != "Lab board" || facts["serial"] != "P0001" {
		t.Errorf("facts of the BMC: %v", facts)
	}
}

func TestSensorOverItsThresholdAndBack(t *testing.T) {
	t.Parallel()
	s := startSimulator(t)
	b := watchOver(t, s.open, nil)
	b.awaitStated()
	const id = correlate.ID("sensor/bmc-01")
	s.value("ambient", 45)
	b.awaitAlarm(id, correlate.CondTemperature)
	a := b.alarm(id, correlate.CondTemperature)
	if a.Severity != correlate.SeverityWarning || !strings.Contains(a.Text, "45 °C") || !strings.Contains(a.Text, "40 °C") {
		t.Errorf("%s %s", a.Severity, a.Text)
	}
	s.value("ambient", 55)
	b.await("it is major", func() bool { return b.engine.Alarms()[0].Severity == correlate.SeverityMajor })
	s.value("ambient", 25)
	b.awaitClear(id, correlate.CondTemperature)
}

func TestOnePowerSupplyOfTwoThenBoth(t *testing.T) {
	t.Parallel()
	s := startSimulator(t)
	b := watchOver(t, s.open, nil)
	b.awaitStated()
	s.bit(0x10, 1, true)
	b.awaitAlarm("psu/bmc-10.1", correlate.CondPSUFailed)
	if a := b.alarm("psu/bmc-10.1", correlate.CondPSUFailed); a.Severity != correlate.SeverityWarning || len(a.Affected) != 0 {
		t.Errorf("one of two: %s, affected %+v", a.Severity, a.Affected)
	}
	s.bit(0x11, 3, true)
	b.awaitAlarm("psu/bmc-10.2", correlate.CondPSUInput)
	b.awaitAlarm(self0, correlate.CondPowerLost)
	if a := b.alarm(self0, correlate.CondPowerLost); a.Severity != correlate.SeverityCritical || len(a.Affected) != 1 {
		t.Errorf("both: %s, affected %+v", a.Severity, a.Affected)
	}
	s.bit(0x10, 1, false)
	s.bit(0x11, 3, false)
	b.awaitClear("psu/bmc-10.1", correlate.CondPSUFailed)
	b.awaitClear("psu/bmc-10.2", correlate.CondPSUInput)
	b.awaitClear(self0, correlate.CondPowerLost)
}

func TestPowerSupplyPulledOutIsGoneUntilItIsBack(t *testing.T) {
	t.Parallel()
	s := startSimulator(t)
	b := watchOver(t, s.open, nil)
	b.awaitStated()
	s.bit(0x10, 0, false)
	b.awaitAlarm("psu/bmc-10.1", correlate.CondGone)
	b.stop()
	b.run(s.open, nil)
	b.await("readings", func() bool { return b.source.counters.readings.Load() > 30 })
	b.awaitAlarm("psu/bmc-10.1", correlate.CondGone)
	s.bit(0x10, 0, true)
	b.awaitClear("psu/bmc-10.1", correlate.CondGone)
}

func TestStatesAndEventsHaveTheirConditions(t *testing.T) {
	t.Parallel()
	s := startSimulator(t)
	b := watchOver(t, s.open, nil)
	b.awaitStated()
	s.value("fan1", 5)
	b.awaitAlarm("fan/bmc-04", correlate.CondFan)
	s.value("fan1", 70)
	b.awaitClear("fan/bmc-04", correlate.CondFan)
	for _, c := range []struct {
		sensor, offset byte
		id             correlate.ID
		condition      correlate.Condition
	}{
		{0x12, 1, "sensor/bmc-12", correlate.CondPowerRedundancy},
		{0x13, 1, "sensor/bmc-13", correlate.CondCoolingRedundancy},
		{0x20, 0, "cpu/bmc-20", correlate.CondProcessorFailed},
		{0x21, 5, "dimm/bmc-21", correlate.CondMemoryDegraded},
		{0x22, 1, "disk/bmc-22", correlate.CondDriveFailed},
		{0x23, 0, "sensor/bmc-23", correlate.CondChassis},
	} {
		s.bit(c.sensor, c.offset, true)
		b.awaitAlarm(c.id, c.condition)
		s.bit(c.sensor, c.offset, false)
		b.awaitClear(c.id, c.condition)
	}
	s.bit(0x21, 1, true)
	b.awaitAlarm("dimm/bmc-21", correlate.CondMemoryUncorrected) // until it is acknowledged
	s.bit(0x24, 1, true)
	b.awaitAlarm(self0, correlate.CondWatchdogExpired)
	s.say("sel_add 0x20 0x02 0 0 0 0 0x20 0x00 0x04 0x13 0x30 0x6f 0xa5 0x00 0x00") // PCI system error
	b.awaitAlarm(self0, correlate.CondBusError)
}

// records are those of the log that were told.
func (b *bench) records() map[string]bool {
	all := make(map[string]bool)
	for _, d := range b.deltas {
		for _, e := range d.Events {
			if r := e.Evidence["record_id"]; r != "" {
				all[r] = true
			}
		}
	}
	return all
}

func TestBurstOfEventsLosesNone(t *testing.T) {
	t.Parallel()
	s := startSimulator(t)
	b := watchOver(t, s.open, nil)
	b.awaitStated()
	for i := range 100 {
		s.say(fmt.Sprintf("sel_add 0x20 0x02 0 0 0 0 0x20 0x00 0x04 0x0c 0x31 0x6f 0xa0 0xff 0x%02x", i))
	}
	b.await("100 records", func() bool { return len(b.records()) == 100 })
	b.awaitAlarm("dimm/bmc-31", correlate.CondCorrected)
}

func TestLogClearedBySomebodyElseLosesNothing(t *testing.T) {
	t.Parallel()
	s := startSimulator(t)
	b := watchOver(t, s.open, nil)
	b.awaitStated()
	s.say("sel_add 0x20 0x02 0 0 0 0 0x20 0x00 0x04 0x0c 0x31 0x6f 0x05 0xff 0xff") // too many correctable errors, by events only
	b.awaitAlarm("dimm/bmc-31", correlate.CondMemoryDegraded)
	s.tool("sel", "clear")
	b.awaitClear("dimm/bmc-31", correlate.CondMemoryDegraded)
	s.bit(0x10, 2, true)
	b.awaitAlarm("psu/bmc-10.1", correlate.CondPSUDegraded)
	s.tool("sel", "clear")
	s.bit(0x11, 2, true) // as fast as can be behind it
	b.awaitAlarm("psu/bmc-10.2", correlate.CondPSUDegraded)
	b.await("three records told", func() bool { return b.source.counters.records.Load() == 3 })
}

func TestFrozenBMCIsOurBlindnessAndNothingElse(t *testing.T) {
	t.Parallel()
	s := startSimulator(t)
	b := watchOver(t, s.open, nil)
	b.awaitStated()
	s.bit(0x10, 1, true)
	b.awaitAlarm("psu/bmc-10.1", correlate.CondPSUFailed)
	s.signal(syscall.SIGSTOP)
	b.await("blindness", func() bool { return b.healths[len(b.healths)-1].Sight == hw.SightBlind })
	sent := b.source.line.commands.Load()
	<-time.After(time.Second)
	if n := b.source.line.commands.Load() - sent; n > 2 {
		t.Errorf("%d commands in a second to a BMC that does not answer", n)
	}
	b.awaitAlarm("psu/bmc-10.1", correlate.CondPSUFailed) // what it said before stands
	s.signal(syscall.SIGCONT)
	b.await("sight", func() bool { return b.healths[len(b.healths)-1].Sight == hw.SightClear })
	s.bit(0x10, 1, false)
	b.awaitClear("psu/bmc-10.1", correlate.CondPSUFailed)
}

func TestRestartReadsNoRecordTwiceAndKeepsTheSensorData(t *testing.T) {
	t.Parallel()
	s := startSimulator(t)
	b := watchOver(t, s.open, nil)
	b.awaitStated()
	s.bit(0x10, 1, true)
	b.awaitAlarm("psu/bmc-10.1", correlate.CondPSUFailed)
	b.await("the position", func() bool { _, err := os.Stat(b.source.file("ipmi-sel.json")); return err == nil })
	b.stop()
	s.bit(0x21, 1, true) // while nobody looks
	b.mu.Lock()
	before := len(b.deltas)
	b.mu.Unlock()
	b.run(s.open, nil)
	b.awaitAlarm("dimm/bmc-21", correlate.CondMemoryUncorrected)
	b.awaitAlarm("psu/bmc-10.1", correlate.CondPSUFailed)
	if n := b.source.counters.records.Load(); n != 1 {
		t.Errorf("%d records taken after the restart, want the new one", n)
	}
	b.mu.Lock()
	statement := b.statement(before)
	b.mu.Unlock()
	if len(statement) == 0 || len(statement[0].Set) < 10 {
		t.Errorf("stated %+v", statement)
	}
}

func TestSensorThatIsAddedIsWatched(t *testing.T) {
	t.Parallel()
	s := startSimulator(t)
	b := watchOver(t, s.open, nil)
	b.awaitStated()
	s.say(
		"main_sdr_add 0x20 0x30 0x00 0x51 0x02 0x21 0x20 0x00 0x40 0x0a 0x03 0x67 0x40 0x08 0x6f 0xff 0x00 0xff 0x00 0xff 0x00 0xc0 0 0 1 0 0 0 0 0 0 0 0xc6 0x50 0x53 0x55 0x33 0x20 0x53",
		"sensor_add 0x20 0 0x40 0x08 0x6f",
		"sensor_set_event_support 0x20 0 0x40 enable scanning per-state 000000011111111 000000011111111 000000011111111 000000011111111",
		"sensor_set_bit 0x20 0 0x40 0 1 0", "sensor_set_bit 0x20 0 0x40 1 1 0",
	)
	b.awaitAlarm("psu/bmc-10.3", correlate.CondPSUFailed)
}

func TestMissingDeviceIsSaidOnce(t *testing.T) {
	b := watchOver(t, func() (Transport, error) { return openDevice("/nonexistent/ipmi0") }, nil)
	b.await("absence", func() bool { return len(b.healths) > 0 && len(b.deltas) > 0 })
	if h := b.healths[0]; h.Sight != hw.SightAbsent {
		t.Errorf("health %+v", h)
	}
	if !b.deltas[0].Full {
		t.Errorf("stated %+v", b.deltas[0])
	}
}

func TestMissingRightIsSaidWithItsRemedy(t *testing.T) {
	b := watchOver(t, func() (Transport, error) {
		return nil, &fs.PathError{Op: "open", Path: "/dev/ipmi0", Err: syscall.EACCES}
	}, nil)
	b.await("degradation", func() bool { return len(b.healths) > 0 })
	if h := b.healths[0]; h.Sight != hw.SightDegraded || !strings.Contains(h.Text, "udev") {
		t.Errorf("health %+v", h)
	}
}

func TestRunThatBeginsWhileTheBMCIsSilentTakesNothingForGone(t *testing.T) {
	t.Parallel()
	s := startSimulator(t)
	b := watchOver(t, s.open, nil)
	b.awaitStated()
	b.stop()
	b.mu.Lock()
	seen := len(b.healths)
	b.mu.Unlock()
	b.source.line.open = func() (Transport, error) { return nil, os.ErrDeadlineExceeded }
	b.begin() // as the supervisor does
	b.await("blindness", func() bool { return len(b.healths) > seen && b.healths[len(b.healths)-1].Sight == hw.SightBlind })
	b.mu.Lock()
	defer b.mu.Unlock()
	if alarms := b.engine.Alarms(); len(alarms) > 0 {
		t.Errorf("it stands %v", alarms[0].Key)
	}
}
