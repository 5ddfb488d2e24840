package ipmi

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// ask is the way that a test asks the simulator.
func (s *simulator) ask() func(context.Context, Request) ([]byte, error) {
	s.t.Helper()
	l := &line{open: s.open, timeout: 2 * time.Second}
	s.t.Cleanup(func() { _ = l.close() })
	return l.do
}

func TestTheSimulatorsRecordsAreReadAsIPMIToolReadsThem(t *testing.T) {
	s := startSimulator(t)
	ask := s.ask()
	records, _, _, err := sdrRepository(ask).records(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	p, errs := decodeRecords(records)
	if len(errs) != 0 {
		t.Fatal(errs)
	}
	for _, line := range strings.Split(strings.TrimSpace(s.tool("sdr", "elist", "all")), "\n") { // name | number | state | entity | reading
		fields := strings.Split(line, "|")
		for i := range fields {
			fields[i] = strings.TrimSpace(fields[i])
		}
		if len(fields) < 5 {
			t.Fatalf("ipmitool says %q", line)
		}
		known := slices.ContainsFunc(p.devices, func(d device) bool { return d.name == fields[0] && d.entity.String() == fields[3] }) ||
			slices.ContainsFunc(p.sensors, func(s sensor) bool {
				return s.name == fields[0] && fmt.Sprintf("%02Xh", s.num) == fields[1] && s.entity.String() == fields[3]
			})
		if !known {
			t.Errorf("ipmitool has %q, we don't", line)
		}
	}
	if got := groupsOf(&p); got != "19.1 [10.1 10.2]; 30.1 [29.1 29.2]" {
		t.Errorf("groups %s", got)
	}
	for _, name := range []string{"Ambient", "CPU1 Temp", "P12V", "Fan1", "Fan2"} {
		i := slices.IndexFunc(p.sensors, func(s sensor) bool { return s.name == name })
		if i < 0 {
			t.Fatalf("no sensor %s", name)
		}
		compareSensor(t, s, ask, &p.sensors[i])
	}
}

// compareSensor holds the value and the thresholds of a sensor against ipmitool's.
func compareSensor(t *testing.T, s *simulator, ask func(context.Context, Request) ([]byte, error), one *sensor) {
	t.Helper()
	b, err := ask(t.Context(), Request{NetFn: netSensor, Cmd: commandReading, Data: []byte{one.num}})
	if err != nil {
		t.Fatal(err)
	}
	r, err := decodeReading(b)
	if err != nil || !r.known {
		t.Fatalf("%s: % X, %v", one.name, b, err)
	}
	if b, err = ask(t.Context(), Request{NetFn: netSensor, Cmd: commandThresholds, Data: []byte{one.num}}); err != nil {
		t.Fatal(err)
	}
	now, err := decodeThresholds(b)
	if err != nil {
		t.Fatal(err)
	}
	if now != one.thresholds {
		t.Errorf("%s has thresholds %v now, %v in its record", one.name, now, one.thresholds)
	}
	value, _ := one.conversion.value(r.raw)
	ours := []string{fmt.Sprintf("%.3f", value)}
	for _, n := range []threshold{lowerNonRecoverable, lowerCritical, lowerNonCritical, upperNonCritical, upperCritical, upperNonRecoverable} {
		text := "na"
		if raw, ok := now.of(n); ok {
			v, _ := one.conversion.value(raw)
			text = fmt.Sprintf("%.3f", v)
		}
		ours = append(ours, text)
	}
	// name | value | unit | state | the six thresholds
	for line := range strings.Lines(s.tool("sensor")) {
		fields := strings.Split(line, "|")
		for i := range fields {
			fields[i] = strings.TrimSpace(fields[i])
		}
		if fields[0] != one.name {
			continue
		}
		theirs := append([]string{fields[1]}, fields[4:10]...)
		for i := range theirs {
			if f, err := strconv.ParseFloat(theirs[i], 64); err == nil {
				theirs[i] = fmt.Sprintf("%.3f", f)
			}
		}
		if !slices.Equal(ours, theirs) {
			t.Errorf("%s is %v, ipmitool says %v", one.name, ours, theirs)
		}
		return
	}
	t.Errorf("ipmitool knows no %s", one.name)
}

func TestWhatTheSimulatorLogsNamesItsSensorsAndStates(t *testing.T) {
	s := startSimulator(t)
	ask := s.ask()
	records, _, _, err := sdrRepository(ask).records(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	p, _ := decodeRecords(records)
	s.bit(0x10, 1, true)
	s.bit(0x12, 1, true)
	s.bit(0x20, 0, true)
	s.bit(0x10, 1, false)
	s.value("ambient", 55) // beyond two thresholds
	want := []string{
		"PSU1 Status: failed (critical)", "PSU Redundancy: redundancy lost (warning)", "CPU1 Status: internal error (IERR) (critical)",
		"PSU1 Status: failed (critical) over", "Ambient: upper non-critical (warning)", "Ambient: upper critical (critical)",
	}
	log := eventLog{ask: ask}
	all := func(logRecord) bool { return true }
	clock := func() stamp {
		b, err := ask(t.Context(), Request{NetFn: netStorage, Cmd: commandLogTime})
		if err != nil {
			t.Fatal(err)
		}
		now, err := decodeStamp(b)
		if err != nil {
			t.Fatal(err)
		}
		return now
	}
	var got []string
	for deadline := time.Now().Add(10 * time.Second); len(got) < len(want) && time.Now().Before(deadline); {
		records, _, err := log.news(t.Context(), all)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range records {
			e := decodeEvent(r)
			st, _ := e.state()
			line := fmt.Sprintf("%s: %s (%s)", nameOf(p.of(e.sensor)), st.text, st.grade)
			if e.ended {
				line += " over"
			}
			if at, ok := e.stamp.at(clock(), time.Now()); !ok || time.Since(at) > 10*time.Second {
				t.Errorf("%s was at %v (%t), its stamp is %08X", line, at, ok, uint32(e.stamp))
			}
			got = append(got, line)
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("the log says %q, not %q", got, want)
	}
}

func groupsOf(p *parts) string {
	var all []string
	for _, g := range p.groups {
		all = append(all, fmt.Sprint(g.container, " ", g.members))
	}
	return strings.Join(all, "; ")
}

func statesOf(states []state) string {
	var all []string
	for _, s := range states {
		all = append(all, fmt.Sprintf("%s (%s)", s.text, s.grade))
	}
	return strings.Join(all, ", ")
}

func nameOf(s *sensor) string {
	if s == nil {
		return "?"
	}
	return s.name
}

func TestTheSimulatorSaysWhoItIs(t *testing.T) {
	s := startSimulator(t)
	ask := s.ask()
	b, err := ask(t.Context(), Request{NetFn: netApp, Cmd: commandDeviceID})
	if err != nil {
		t.Fatal(err)
	}
	c, err := decodeController(b)
	if err != nil {
		t.Fatal(err)
	}
	theirs := s.tool("mc", "info")
	for _, line := range []string{
		"Firmware Revision         : " + c.firmware, "IPMI Version              : " + c.ipmi,
		fmt.Sprintf("Manufacturer ID           : %d", c.vendor), fmt.Sprintf("Product ID                : %d ", c.product),
	} {
		if !strings.Contains(theirs, line) {
			t.Errorf("ipmitool does not say %q but\n%s", line, theirs)
		}
	}
	var fru []byte
	for len(fru) < 256 {
		b, err := ask(t.Context(), Request{NetFn: netStorage, Cmd: 0x11, Data: []byte{0, byte(len(fru)), 0, 16}})
		if err != nil || len(b) < 2 {
			t.Fatalf("% X, %v", b, err)
		}
		fru = append(fru, b[1:]...)
	}
	f, err := decodeInventory(fru)
	if err != nil || len(f.damaged) != 0 {
		t.Fatalf("%+v, %v", f, err)
	}
	theirs = s.tool("fru", "print", "0")
	for name, value := range map[string]string{
		"Board Mfg": f.board.maker, "Board Product": f.board.name, "Board Serial": f.board.serial, "Board Part Number": f.board.part,
		"Product Manufacturer": f.product.maker, "Product Name": f.product.name, "Product Part Number": f.product.part,
		"Product Version": f.product.version, "Product Serial": f.product.serial, "Product Asset Tag": f.product.asset,
		"Chassis Part Number": f.chassis.part, "Chassis Serial": f.chassis.serial,
	} {
		if line := fmt.Sprintf(" %-22s: %s\n", name, value); value == "" || !strings.Contains(theirs, line) {
			t.Errorf("ipmitool does not say %q but\n%s", line, theirs)
		}
	}
}

func TestARecordThatIsBrokenHidesNoOther(t *testing.T) {
	var good [][]byte
	for _, f := range fixtures(t) {
		good = append(good, f.records...)
	}
	whole, errs := decodeRecords(good)
	if len(errs) != 0 {
		t.Fatal(errs)
	}
	var mixed [][]byte
	for _, b := range good {
		mixed = append(mixed, nil, b[:4], append([]byte(nil), b[:12]...), b)
	}
	p, errs := decodeRecords(mixed)
	if len(errs) != 3*len(good) {
		t.Errorf("%d errors for %d broken records", len(errs), 3*len(good))
	}
	if len(p.sensors) != len(whole.sensors) || len(p.devices) != len(whole.devices) {
		t.Errorf("%d sensors and %d devices of %d and %d", len(p.sensors), len(p.devices), len(whole.sensors), len(whole.devices))
	}
}

// compact is a record of a power supply's sensor, shared as the two bytes say.
func compact(first, second byte, name string) []byte {
	b := []byte{
		0x08, 0, 0x51, recordCompact, 0, 0x20, 0, 0x10, 10, 1, 0x67, 0x40, typePowerSupply, eventSpecific, 0, 0, 0, 0, 0xFF, 0, 0xC0, 0, 0,
		first, second, 0, 0, 0, 0, 0, 0, textLatin<<6 | byte(len(name)),
	}
	b = append(b, name...)
	b[4] = byte(len(b) - sdrHeader)
	return b
}

func TestSensorsThatShareARecordAreAsMany(t *testing.T) {
	for _, c := range []struct {
		first, second byte
		want          string
	}{
		{0x01, 0x05, "PSU 10h 10.1"},
		{0x00, 0x05, "PSU 10h 10.1"},
		{0x03, 0x05, "PSU 5 10h 10.1, PSU 6 11h 10.1, PSU 7 12h 10.1"},
		{0x03, 0x81, "PSU 1 10h 10.1, PSU 2 11h 10.2, PSU 3 12h 10.3"},
		{0x13, 24, "PSU Y 10h 10.1, PSU Z 11h 10.1, PSU AA 12h 10.1"},
		{0x12, 127, "PSU DX 10h 10.1, PSU DY 11h 10.1"},
	} {
		p, errs := decodeRecords([][]byte{compact(c.first, c.second, "PSU")})
		var got []string
		for _, s := range p.sensors {
			got = append(got, fmt.Sprintf("%s %02Xh %s", s.name, s.num, s.entity))
		}
		if s := strings.Join(got, ", "); s != c.want || len(errs) != 0 {
			t.Errorf("%02X %02X: %s (%v), not %s", c.first, c.second, s, errs, c.want)
		}
	}
}

func TestGroupsAreListsRangesOrSeveralRecords(t *testing.T) {
	association := func(flags byte, rest ...byte) []byte {
		return append([]byte{1, 0, 0x51, recordAssociation, 11, 19, 1, flags}, rest...)
	}
	relative := make([]byte, 32)
	copy(relative, []byte{1, 0, 0x51, recordRelative, 27, 30, 0x61, 0x20, 0, 0, 0x20, 0, 29, 0x61, 0x20, 0, 29, 0x62})
	for _, c := range []struct {
		records [][]byte
		want    string
	}{
		{[][]byte{association(0, 10, 1, 10, 2, 0, 0, 0, 0)}, "19.1 [10.1 10.2]"},
		{[][]byte{association(0x80, 10, 1, 10, 3, 29, 7, 29, 8)}, "19.1 [10.1 10.2 10.3 29.7 29.8]"},
		{[][]byte{association(0x80, 10, 3, 10, 1, 10, 1, 29, 4)}, "19.1 []"},
		{[][]byte{association(0x40, 10, 1, 10, 2, 10, 3, 10, 4), association(0, 10, 4, 10, 5, 0, 0, 0, 0)}, "19.1 [10.1 10.2 10.3 10.4 10.5]"},
		{[][]byte{{1, 0, 0x51, recordAssociation, 11, 19, 0x81, 0, 10, 0x81, 10, 2, 0, 0, 0, 0}}, "19.1 [10.1 10.2]"},
		{[][]byte{relative}, "30.97 [29.97 29.98]"},
	} {
		p, errs := decodeRecords(c.records)
		if got := groupsOf(&p); got != c.want || len(errs) != 0 {
			t.Errorf("% X: %s (%v), not %s", c.records, got, errs, c.want)
		}
	}
}

func TestTextIsReadInEachOfItsCodings(t *testing.T) {
	for _, c := range []struct {
		b    []byte
		want string
	}{
		{nil, ""},
		{[]byte{0xC0}, ""},
		{[]byte{0xC4, 'F', 'a', 'n', '1'}, "Fan1"},
		{[]byte{0xC6, 'F', 'a', 'n', '1'}, "Fan1"}, // longer than the record
		{[]byte{0xC6, 'F', 'a', 'n', '1', 0, 'x'}, "Fan1"},
		{[]byte{0xC5, ' ', 'a', 0x1B, 0xB5, ' '}, "a?µ"},
		{[]byte{0x83, 0x29, 0xDC, 0xA6}, "IPMI"}, // the example of the definition of FRU storage, 13.3
		{[]byte{0x84, 0x29, 0xDC, 0xA6}, "IPMI"}, // counted in characters
		{[]byte{0x43, 0x12, 0xAB, 0xC9}, "12 -.9"},
		{[]byte{0x04, 'F', 0, 0xB5, 0x03}, "Fε"},
	} {
		if got := recordText(c.b); got != c.want {
			t.Errorf("% X is %q, not %q", c.b, got, c.want)
		}
	}
}

func TestReadingsOfEachFormatAndWithoutNumber(t *testing.T) {
	one := factors{m: 1}
	for _, c := range []struct {
		c    conversion
		raw  byte
		want float64
		ok   bool
	}{
		{conversion{factors: one}, 0xFF, 255, true},
		{conversion{format: formatOnes, factors: one}, 0xFE, -1, true},
		{conversion{format: formatTwos, factors: one}, 0xFE, -2, true},
		{conversion{format: formatNone, factors: one}, 0xFE, 0, false},
		{conversion{factors: factors{m: 5, b: 3, k1: 2, k2: -1}}, 10, 35, true},
		{conversion{linear: 0x05, factors: factors{m: 5, k2: -1}}, 5, 316.2277660168379, true},
		{conversion{linear: 0x07, factors: one}, 0, 0, false},
		{conversion{linear: 0x01, factors: one}, 0, 0, false},
		{conversion{linear: 0x0C, factors: one}, 1, 0, false},
		{conversion{linear: 0x70, factors: one}, 7, 7, true},
	} {
		got, ok := c.c.value(c.raw)
		if ok != c.ok || ok && math.Abs(got-c.want) > 1e-9 {
			t.Errorf("%+v of %02X is %v (%t), not %v (%t)", c.c, c.raw, got, ok, c.want, c.ok)
		}
	}
	if f := readFactors([6]byte{0xFF, 0xC0, 0x00, 0x80, 0, 0x8F}); f != (factors{m: -1, b: -512, k1: -1, k2: -8}) {
		t.Errorf("factors %+v", f)
	}
}

func TestUnitsAreWrittenAsPeopleDo(t *testing.T) {
	for want, u := range map[string]unit{
		"": {}, "°C": {base: 1}, "%": {flags: 1}, "% RPM": {flags: 1, base: 18}, "V·A": {flags: 2 << 1, base: 4, modifier: 5},
		"errors/h": {flags: 5 << 3, base: 88}, "m/s": {flags: 1 << 1, base: 34, modifier: 22},
	} {
		if got := u.String(); got != want {
			t.Errorf("%+v is %q, not %q", u, got, want)
		}
	}
}

func TestAReadingThatTheBMCHasNotSaysNothing(t *testing.T) {
	psu := &sensor{kind: typePowerSupply, event: eventSpecific, states: 0x03}
	for _, c := range []struct {
		b             []byte
		want          string
		present, told bool
	}{
		{[]byte{0, 0xC0, 0x01}, "present (good)", true, true},
		{[]byte{0, 0xC0, 0x03, 0x80}, "present (good), failed (critical)", true, true},
		{[]byte{0, 0xC0, 0x00, 0x80}, "", false, true},
		{[]byte{0, 0xE0, 0x03, 0x80}, "", false, false}, // unavailable
		{[]byte{0, 0x80, 0x03, 0x80}, "", false, false}, // not looked at
	} {
		r, err := decodeReading(c.b)
		if err != nil {
			t.Fatal(err)
		}
		present, told := psu.present(r)
		if got := statesOf(psu.standing(r)); got != c.want || present != c.present || told != c.told {
			t.Errorf("% X: %s, present %t, told %t", c.b, got, present, told)
		}
	}
	if present, told := (&sensor{kind: typePowerSupply, event: eventSpecific, states: 0x02}).present(reading{known: true}); present || told {
		t.Error("a sensor that can't show presence says that the part is absent")
	}
	fan := &sensor{kind: 0x04, event: eventThreshold}
	if got := statesOf(fan.standing(reading{known: true, states: 0x03})); got != "lower non-critical (warning), lower critical (critical)" {
		t.Errorf("a fan that stands: %s", got)
	}
	if got := statesOf(fan.standing(reading{known: true, states: 0xC0})); got != "" { // reserved, written as 1
		t.Errorf("a fan that runs: %s", got)
	}
}

func TestTimesAreTakenFromTheDistanceToTheBMCsClock(t *testing.T) {
	asked := time.Date(2026, time.November, 29, 1, 0, 0, 0, time.UTC)
	const now stamp = 0x65000000 // whatever its zone
	for _, c := range []struct {
		s, now stamp
		want   time.Time
		ok     bool
	}{
		{now - 90, now, asked.Add(-90 * time.Second), true},
		{now, now, asked, true},
		{now + 2, now, asked, true},
		{now + 3, now, time.Time{}, false},
		{stampNone, now, time.Time{}, false},
		{30, now, time.Time{}, false},
		{30, 40, asked.Add(-10 * time.Second), true}, // both since the BMC's start
		{40, 30, time.Time{}, false},
		{now, 30, time.Time{}, false},
		{now, stampNone, time.Time{}, false},
	} {
		if got, ok := c.s.at(c.now, asked); !got.Equal(c.want) || ok != c.ok {
			t.Errorf("%08X at %08X is %v (%t), not %v (%t)", uint32(c.s), uint32(c.now), got, ok, c.want, c.ok)
		}
	}
}

func TestTheBMCsWordsAboutTheMachineAreRead(t *testing.T) {
	c, err := decodeChassis([]byte{0x6B, 0x12, 0x0D})
	if got := fmt.Sprint(c, err); got != "{true [overload fault] [overload] true true true} <nil>" {
		t.Errorf("chassis %s", got)
	}
	if cause, err := decodeRestartCause([]byte{0x14, 1}); err != nil || cause.String() != "watchdog" {
		t.Errorf("cause %s, %v", cause, err)
	}
	info, err := decodeLogInfo([]byte{0x51, 0x10, 0x02, 0x20, 0, 0, 0, 0, 0x65, 0, 0, 0, 0x64, 0x82})
	if err != nil || info != (logInfo{records: 0x210, free: 0x20, added: 0x65000000, erased: 0x64000000, overflown: true}) {
		t.Errorf("log %+v, %v", info, err)
	}
	if s, err := decodeStamp([]byte{1, 0, 0, 0x65}); err != nil || s != 0x65000001 {
		t.Errorf("stamp %08X, %v", uint32(s), err)
	}
	f, next, err := decodeFactors([]byte{0x80, 2, 0, 3, 0, 0, 0x1F})
	if err != nil || next != 0x80 || f != (factors{m: 2, b: 3, k1: -1, k2: 1}) {
		t.Errorf("factors %+v up to %02X, %v", f, next, err)
	}
}
