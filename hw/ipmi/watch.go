package ipmi

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/paramedic-ha/paramedic/correlate"
	"github.com/paramedic-ha/paramedic/hw"
)

// self is the BMC as a resource.
const self correlate.ID = "service/bmc"

// point is a sensor that is watched.
type point struct {
	*sensor
	id       correlate.ID
	polled   bool
	limits   thresholds
	limited  bool                          // the thresholds were asked for
	faults   map[correlate.Condition]fault // what stands by its last reading, or its events
	read     bool                          // in this session
	known    bool                          // it was read at some time
	absent   bool                          // the part is not there
	failures int                           // reads in a row that failed
	due      time.Time
}

// watch is one Run.
type watch struct {
	*Source
	sink     hw.Sink
	sessions int  // those in which the BMC has answered
	said     bool // something was stated in full: from then on what is not known is not mentioned

	device     []byte // the BMC's answer to who it is
	controller controller
	store      *repository
	stamp      []byte // of what was read from it; nil: nothing
	records    [][]byte
	points     []*point
	devices    []device
	byKey      map[sensorKey]*point
	left       map[sensorKey]bool // left out by the configuration
	facts      map[string]string
	parts      map[correlate.ID]map[string]string // facts of single parts

	journal   *eventLog
	logFailed bool  // that it can't be read was said
	clock     stamp // of the event log, as it showed at asked
	asked     time.Time
	checked   time.Time // when the log was last read to its end, in this session
	saveAt    time.Time // when to note how far; zero: nothing to note
	mute      bool      // that it can't be noted was said
	// packed: the log had no room when packedAt records had been read. wraps: it took more all the same.
	packed   bool
	packedAt uint64
	wraps    bool

	ownFaults map[correlate.Condition]fault // of the BMC itself

	told map[correlate.Key]correlate.Severity // level conditions that were told failed
	held map[correlate.Key]bool               // alarms of the last run that nothing has judged yet
	gone map[correlate.ID]bool                // parts that were there
}

// unknown states, once, that nothing is known: what stands goes on to stand.
func (w *watch) unknown(ctx context.Context) error {
	if w.said {
		return nil
	}
	d := correlate.Delta{Source: w.Name(), Full: true}
	for k := range w.held {
		d.Events = append(d.Events, correlate.Event{Source: w.Name(), Resource: k.Resource, Condition: k.Condition})
	}
	w.said = true
	return w.sink.Emit(ctx, d)
}

// session watches a BMC that answers, until it does not.
func (w *watch) session(ctx context.Context) error {
	if err := w.identify(ctx); err != nil {
		return err
	}
	w.sessions++
	w.counters.sessions.Add(1)
	w.sink.Health(hw.Health{})
	if err := w.describe(ctx); err != nil {
		return err
	}
	for _, p := range w.points {
		p.read, p.due = false, time.Time{}
		if !p.polled {
			continue
		}
		if err := w.look(ctx, p, nil); err != nil {
			return err
		}
	}
	if err := w.chassis(ctx); err != nil {
		return err
	}
	if err := w.state(ctx); err != nil {
		return err
	}
	begun := w.now()
	for i, p := range w.points { // spread over the time of a scan
		p.due = begun.Add(time.Duration(int64(w.config.Scan) * int64(i+1) / int64(len(w.points))))
	}
	return w.follow(ctx)
}

// follow looks at the event log and, in between, at one sensor after the other.
func (w *watch) follow(ctx context.Context) error {
	w.checked = time.Time{}
	logDue, choreDue := w.now(), w.now()
	var chore []func(context.Context) error
	for {
		now := w.now()
		attention := false
		select {
		case <-w.line.attention():
			attention = true
		default:
		}
		next := w.next()
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case attention || !now.Before(logDue):
			if err := w.readLog(ctx); err != nil {
				return err
			}
			logDue = w.now().Add(w.config.Interval)
		case !w.saveAt.IsZero() && !now.Before(w.saveAt):
			w.saveAt = time.Time{}
			w.savePosition()
		case next != nil && !now.Before(next.due):
			if err := w.look(ctx, next, w.emit(ctx)); err != nil {
				return err
			}
			next.due = w.now().Add(w.config.Scan * time.Duration(1<<min(next.failures, 5)))
		case !now.Before(choreDue):
			chore = []func(context.Context) error{w.changed, w.chassis, w.room, w.inventories}
			choreDue = now.Add(w.chores)
		case len(chore) > 0:
			if err := chore[0](ctx); err != nil {
				return err
			}
			chore = chore[1:]
		default:
			wake := logDue
			for _, t := range []time.Time{choreDue, w.saveAt} {
				if !t.IsZero() && t.Before(wake) {
					wake = t
				}
			}
			if next != nil && next.due.Before(wake) {
				wake = next.due
			}
			timer := time.NewTimer(wake.Sub(now))
			select {
			case <-ctx.Done():
			case <-timer.C:
			case <-w.line.attention():
				logDue = w.now()
			}
			timer.Stop()
		}
	}
}

// next is the sensor whose turn it is.
func (w *watch) next() *point {
	var first *point
	for _, p := range w.points {
		if p.polled && (first == nil || p.due.Before(first.due)) {
			first = p
		}
	}
	return first
}

// ask sends a command. The answer is nil when the BMC refuses it, or gives none this once; the error says that the session is
// over: the transport is of no use, the BMC is silent, or ctx has ended.
func (w *watch) ask(ctx context.Context, netFn, cmd byte, data ...byte) ([]byte, error) {
	b, err := w.line.do(ctx, Request{NetFn: netFn, Cmd: cmd, Data: data})
	switch {
	case w.over(err):
		return nil, err
	case err != nil:
		return nil, nil //nolint:nilerr // the session goes on
	}
	return b, nil
}

// over reports whether an error of a command ends the session.
func (w *watch) over(err error) bool {
	var code CompletionError
	return err != nil && !errors.As(err, &code) && (!errors.Is(err, errSilent) || w.line.silent())
}

// identify asks who the BMC is; it is also how a silent one is found to live again.
func (w *watch) identify(ctx context.Context) error {
	b, err := w.line.do(ctx, Request{NetFn: netApp, Cmd: commandDeviceID})
	if err != nil {
		return err
	}
	if w.controller, err = decodeController(b); err != nil {
		return err
	}
	if w.controller.updating {
		return errors.New("the BMC starts, or its firmware is being updated")
	}
	w.device = bytes.Clone(b)
	w.facts = map[string]string{
		"firmware": w.controller.firmware, "ipmi": w.controller.ipmi,
		"vendor": fmt.Sprint(w.controller.vendor), "product": fmt.Sprint(w.controller.product),
	}
	if b, err = w.ask(ctx, netChassis, commandRestartCause); err != nil {
		return err
	}
	if cause, err := decodeRestartCause(b); err == nil {
		w.facts["restart_cause"] = cause.String()
	}
	if w.controller.records {
		w.store = sdrRepository(w.line.do)
	} else {
		w.store = deviceSDRs(w.line.do)
	}
	return nil
}

// describe gets the sensor data records: those of the last session, of the file, or of the BMC, whichever has them as they are.
func (w *watch) describe(ctx context.Context) error {
	stamp, dated, err := w.store.stamp(ctx)
	if err != nil {
		return err
	}
	if w.stamp != nil && dated && bytes.Equal(stamp, w.stamp) {
		return nil
	}
	var records [][]byte
	file := w.file("ipmi-sdr.json")
	if file != "" && dated {
		if records, err = loadCache(file, w.device, stamp); err != nil {
			w.log.Warn("the BMC's sensor data are read anew", "error", err)
		}
	}
	if len(records) == 0 {
		if records, stamp, dated, err = w.store.records(ctx); err != nil {
			return err
		}
		if file != "" && dated {
			if err := saveCache(file, w.device, stamp, records); err != nil {
				w.log.Warn("the BMC's sensor data could not be kept: the next start reads them again", "error", err)
			}
		}
	}
	w.stamp = stamp
	if w.records != nil && slices.EqualFunc(records, w.records, bytes.Equal) {
		return nil
	}
	w.records = records
	all, errs := decodeRecords(records)
	for _, err := range errs {
		w.log.Warn("a sensor data record of the BMC is left out", "error", err)
	}
	w.arrange(all)
	return nil
}

// arrange makes points of the sensors. Those that were known before keep what they said.
func (w *watch) arrange(all parts) {
	before := w.byKey
	w.devices = all.devices
	w.points, w.byKey, w.left, w.parts = nil, make(map[sensorKey]*point), make(map[sensorKey]bool), nil
	supplies := make(map[entity]int)
	numeric := false
	for i := range all.sensors {
		s := &all.sensors[i]
		numeric = numeric || s.kind == typeFan && s.event == eventThreshold
		if s.kind == typePowerSupply && s.event == eventSpecific {
			supplies[s.entity]++
		}
	}
	for i := range all.sensors {
		s := &all.sensors[i]
		if w.ignored(s.name) {
			w.left[s.sensorKey] = true
			continue
		}
		if w.byKey[s.sensorKey] != nil {
			continue
		}
		kind := kindOf(s)
		if kind == correlate.KindFan && numeric && s.event != eventThreshold {
			kind = correlate.KindSensor // that a fan is there is said beside how fast it is
		}
		name := fmt.Sprintf("bmc-%02x", s.num)
		switch {
		case s.owner != ownAddress || s.lun != 0:
			name = fmt.Sprintf("bmc-%02x.%d-%02x", s.owner, s.lun, s.num)
		case kind == correlate.KindPSU && supplies[s.entity] <= 1: // several sensors of one supply are about one thing
			name = "bmc-" + s.entity.String()
		}
		p := &point{sensor: s, id: correlate.NewID(kind, name), faults: make(map[correlate.Condition]fault), limits: s.thresholds}
		// Sensors of other controllers, and those at another LUN, the transport does not reach; their events come all the same.
		p.polled = !s.eventOnly && s.owner == ownAddress && s.lun == 0 && matters(s)
		if old := before[s.sensorKey]; old != nil && old.id == p.id {
			p.faults, p.absent, p.known = old.faults, old.absent, old.known
		}
		w.points = append(w.points, p)
		w.byKey[s.sensorKey] = p
	}
}

const ownAddress byte = 0x20

// matters reports whether anything that the sensor can say means a fault.
func matters(s *sensor) bool {
	if s.event == eventThreshold {
		return true
	}
	for offset := range byte(15) {
		if _, ok := inState(s.kind, s.event, offset); ok {
			return true
		}
	}
	return false
}

// tell takes what there is to say of conditions.
type tell func(events []correlate.Event) error

func (w *watch) emit(ctx context.Context) tell {
	return func(events []correlate.Event) error {
		if len(events) == 0 {
			return nil
		}
		return w.sink.Emit(ctx, correlate.Delta{Source: w.Name(), Events: events})
	}
}

// look reads one sensor and tells what has changed; t is nil while nothing is to be told yet. A sensor that can't be read keeps
// what it said.
func (w *watch) look(ctx context.Context, p *point, t tell) error {
	if !p.limited && p.event == eventThreshold {
		p.limited = true
		b, err := w.ask(ctx, netSensor, commandThresholds, p.num)
		if err != nil {
			return err
		}
		if limits, err := decodeThresholds(b); err == nil {
			p.limits = limits
		}
	}
	b, err := w.ask(ctx, netSensor, commandReading, p.num)
	if err != nil {
		return err
	}
	w.counters.readings.Add(1)
	r, unreadable := decodeReading(b)
	if unreadable != nil {
		w.counters.unreadable.Add(1)
		p.failures, p.read = p.failures+1, false
		return nil //nolint:nilerr // it is counted, and hides no other sensor
	}
	p.failures, p.read = 0, r.known
	if !r.known {
		return nil
	}
	if p.conversion.perReading() {
		b, err := w.ask(ctx, netSensor, commandFactors, p.num, r.raw)
		if err != nil {
			return err
		}
		if f, _, err := decodeFactors(b); err == nil {
			p.conversion.factors = f
		}
	}
	faults := make(map[correlate.Condition]fault)
	for _, f := range p.says(r, p.limits) {
		if old, ok := faults[f.condition]; !ok || worse(f, old) {
			faults[f.condition] = f
		}
	}
	if present, told := p.present(r); told {
		if !present && (!p.absent && p.known || w.held[correlate.Key{Resource: p.id, Condition: correlate.CondGone}] || w.gone[p.id]) {
			faults[correlate.CondGone] = fault{condition: correlate.CondGone, text: p.name + ": it was there and is not any more"}
			w.gone[p.id] = true
		}
		if present {
			delete(w.gone, p.id)
		}
		p.absent = !present
	}
	p.known = true
	old := p.faults
	p.faults = faults
	if t == nil {
		return nil
	}
	now := w.now()
	var events []correlate.Event
	for c, f := range faults {
		if was, ok := old[c]; !ok || was.severity != f.severity || correlate.RuleOf(c).Mode == correlate.Impulse {
			events = append(events, w.event(w.on(p, c), f, now, now))
		}
	}
	return t(append(events, w.ended(p, old, now)...))
}

// worse orders faults by what they ask for.
func worse(a, b fault) bool { return a.severity > b.severity }

// on is the resource that a condition of a sensor stands on.
func (w *watch) on(p *point, c correlate.Condition) correlate.ID {
	if ofHost(c) {
		return w.config.Host
	}
	return p.id
}

// event is a fault as told.
func (w *watch) event(id correlate.ID, f fault, occurred, now time.Time) correlate.Event {
	if correlate.RuleOf(f.condition).Mode == correlate.Level {
		w.told[correlate.Key{Resource: id, Condition: f.condition}] = f.severity
	}
	return correlate.Event{
		Source: w.Name(), Resource: id, Condition: f.condition, Status: correlate.StatusFailed, Severity: f.severity, Text: f.text,
		Occurred: occurred, Observed: now,
	}
}

// ended tells of the level conditions that a point told of before and that nobody tells of now.
func (w *watch) ended(p *point, old map[correlate.Condition]fault, now time.Time) []correlate.Event {
	var events []correlate.Event
	for c := range old {
		if _, still := p.faults[c]; still || correlate.RuleOf(c).Mode != correlate.Level {
			continue
		}
		id := w.on(p, c)
		if slices.ContainsFunc(w.points, func(o *point) bool { _, stands := o.faults[c]; return stands && w.on(o, c) == id }) {
			continue
		}
		delete(w.told, correlate.Key{Resource: id, Condition: c})
		events = append(events, correlate.Event{
			Source: w.Name(), Resource: id, Condition: c, Status: correlate.StatusOK, Text: p.name + ": well again", Occurred: now, Observed: now,
		})
	}
	for k := range w.held { // of the last run, and judged only now
		if _, still := p.faults[k.Condition]; k.Resource == p.id && !still && w.judged(k) && correlate.RuleOf(k.Condition).Mode == correlate.Level {
			delete(w.held, k)
			events = append(events, correlate.Event{
				Source: w.Name(), Resource: k.Resource, Condition: k.Condition, Status: correlate.StatusOK, Text: p.name + ": well again", Occurred: now, Observed: now,
			})
		}
	}
	slices.SortFunc(events, func(a, b correlate.Event) int { return strings.Compare(string(a.Condition), string(b.Condition)) })
	return events
}

// state says everything that is known.
func (w *watch) state(ctx context.Context) error {
	now := w.now()
	d := correlate.Delta{Source: w.Name(), Full: true, Set: []correlate.Resource{w.resource(self)}}
	set := make(map[correlate.ID]bool)
	var supplies, fans, others []correlate.ID
	for _, p := range w.points {
		if set[p.id] {
			continue
		}
		set[p.id] = true
		d.Set = append(d.Set, w.resource(p.id))
		switch {
		case p.absent && !w.gone[p.id]:
		case p.id.Kind() == correlate.KindPSU:
			supplies = append(supplies, p.id)
		case p.id.Kind() == correlate.KindFan:
			fans = append(fans, p.id)
		case p.id.Kind() != correlate.KindDisk: // what a drive holds is known elsewhere
			others = append(others, p.id)
		}
	}
	var needs []correlate.Need
	needs = append(needs, groupOf(supplies, w.config.PowerSupplies, correlate.CondPowerLost)...)
	needs = append(needs, groupOf(fans, max(1, w.config.Fans), correlate.CondCoolingLost)...)
	if len(others) > 0 {
		needs = append(needs, correlate.Need{Mode: correlate.SomeOf, Of: others})
	}
	d.Require = []correlate.Requirement{{ID: w.config.Host, Needs: needs}}

	mentioned := make(map[correlate.Key]bool)
	add := func(e correlate.Event) {
		k := correlate.Key{Resource: e.Resource, Condition: e.Condition}
		if !mentioned[k] {
			mentioned[k] = true
			d.Events = append(d.Events, e)
		}
	}
	for _, f := range w.ownFaults {
		add(w.event(self, f, now, now))
	}
	for _, p := range w.points {
		for c, f := range p.faults {
			k := correlate.Key{Resource: w.on(p, c), Condition: c}
			if (p.read || !p.polled) && correlate.RuleOf(c).Mode == correlate.Level {
				add(w.event(k.Resource, f, now, now))
			}
		}
	}
	// What stood and has not been judged by a reading goes on to stand.
	for k := range w.held {
		if w.judged(k) {
			continue
		}
		add(correlate.Event{Source: w.Name(), Resource: k.Resource, Condition: k.Condition})
	}
	for k := range w.told {
		switch {
		case mentioned[k]:
		case w.judged(k):
			delete(w.told, k)
		default:
			add(correlate.Event{Source: w.Name(), Resource: k.Resource, Condition: k.Condition})
		}
	}
	clear(w.held)
	for _, e := range d.Events { // until something judges them
		if e.Status == correlate.StatusUnknown {
			w.held[correlate.Key{Resource: e.Resource, Condition: e.Condition}] = true
		}
	}
	w.said = true
	w.stated.Store(true)
	return w.sink.Emit(ctx, d)
}

// judged reports whether readings say all that can be said of a condition: all sensors of the resource were read.
func (w *watch) judged(k correlate.Key) bool {
	if k.Resource == self {
		return false
	}
	found := false
	for _, p := range w.points {
		if p.id != k.Resource {
			continue
		}
		found = true
		if !p.polled || !p.read {
			return false
		}
	}
	return found || k.Resource != w.config.Host // a part that is no more is gone
}

// groupOf is what the host needs of parts that stand in for each other.
func groupOf(members []correlate.ID, k uint64, c correlate.Condition) []correlate.Need {
	switch n := len(members); {
	case n == 0:
		return nil
	case n == 1:
		return []correlate.Need{{Mode: correlate.AllOf, Of: members}}
	case k == 0:
		k = uint64(n+1) / 2
	}
	return []correlate.Need{{Mode: correlate.KOfN, K: int(min(k, uint64(len(members)))), Of: members, Condition: c}}
}
