package ipmi

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"strings"
	"time"

	"github.com/paramedic-ha/paramedic/correlate"
)

// fresh is how old an event may be that is believed before its sensor is read again.
const fresh = time.Minute

// readLog tells what is new in the event log.
func (w *watch) readLog(ctx context.Context) error {
	if !w.controller.log {
		return nil
	}
	if w.journal == nil {
		w.journal = &eventLog{ask: w.line.do}
		if file := w.file("ipmi-sel.json"); file != "" {
			var err error
			if w.journal.at, err = loadPosition(file); err != nil {
				w.log.Warn("what was read of the BMC's event log is not known", "error", err)
			}
		}
	}
	if !w.journal.at.Known {
		if err := w.askClock(ctx); err != nil {
			return err
		}
	}
	for more := true; more && ctx.Err() == nil; {
		var records []logRecord
		var err error
		if records, more, err = w.journal.news(ctx, w.recent); err != nil {
			if w.over(err) {
				return err
			}
			if !w.logFailed {
				w.log.Warn("the BMC's event log can't be read: its sensors are", "error", err)
			}
			w.logFailed = true
			return nil
		}
		w.logFailed = false
		if err := w.take(ctx, records); err != nil {
			return err
		}
	}
	w.checked = w.now()
	return nil
}

// take tells what records mean, at once, and then reads the sensors that they name: what they say now counts.
func (w *watch) take(ctx context.Context, records []logRecord) error {
	if w.journal.cleared {
		w.journal.cleared = false
		w.counters.relocated.Add(1)
		if err := w.forget(ctx); err != nil {
			return err
		}
	}
	if len(records) == 0 {
		return nil
	}
	if err := w.askClock(ctx); err != nil {
		return err
	}
	w.counters.records.Add(uint64(len(records)))
	var events []correlate.Event
	var again []*point
	for _, r := range records {
		news, p := w.judge(r)
		events = append(events, news...)
		if p != nil && p.polled {
			again = append(again, p)
		}
	}
	if err := w.emit(ctx)(events); err != nil {
		return err
	}
	w.saveAt = w.now().Add(saveAfter)
	done := make(map[*point]bool)
	for _, p := range again {
		if done[p] {
			continue
		}
		done[p] = true
		if err := w.look(ctx, p, w.emit(ctx)); err != nil {
			return err
		}
	}
	return nil
}

// judge gives what a record means, and the sensor that it is about.
func (w *watch) judge(r logRecord) ([]correlate.Event, *point) {
	e := decodeEvent(r)
	now := w.now()
	raw := hex.EncodeToString(r[:])
	if e.kind != kindEvent { // nobody but its vendor knows what it means
		w.counters.vendor.Add(1)
		w.facts["last_vendor_record"] = raw
		w.log.Info("the BMC's event log has a record of its vendor's", "record", raw)
		return nil, nil
	}
	p := w.byKey[e.sensor]
	if w.left[e.sensor] {
		return nil, nil
	}
	var s *sensor
	if p != nil {
		s = p.sensor
	}
	f, bad := e.tells(s)
	if !bad {
		return w.allClear(p, &e, now), p
	}
	mode := correlate.RuleOf(f.condition).Mode
	occurred, recent := w.when(e.stamp, now)
	switch {
	case p == nil && mode == correlate.Level:
		w.counters.undescribed.Add(1)
		w.log.Warn("the BMC's event log tells of a sensor that no record describes", "record", raw, "reason", f.text)
		return nil, nil
	case e.ended && (mode != correlate.Level || p.polled):
		return nil, p
	case e.ended:
		old := maps.Clone(p.faults)
		delete(p.faults, f.condition)
		return w.ended(p, old, now), p
	case mode == correlate.Level && p.polled && !recent: // what it says now counts
		return nil, p
	}
	id := w.config.Host
	switch {
	case p != nil:
		id = w.on(p, f.condition)
	case f.condition == correlate.CondMemoryUncorrected: // of a module that is not told; the host itself lives
		f.condition = correlate.CondMachineCheck
	}
	if p != nil && mode == correlate.Level {
		p.faults[f.condition] = f
	}
	event := w.event(id, f, occurred, now)
	event.Evidence = map[string]string{"record": raw, "record_id": fmt.Sprintf("%04Xh", e.id)}
	return []correlate.Event{event}, p
}

// allClear is what a state means that is no fault: that of a sensor which only sends events ends what it said before.
func (w *watch) allClear(p *point, e *logEvent, now time.Time) []correlate.Event {
	st, known := e.state()
	if p == nil || p.polled || e.ended || !known || st.grade != gradeGood {
		return nil
	}
	old := p.faults
	p.faults = make(map[correlate.Condition]fault)
	return w.ended(p, old, now)
}

// forget ends what only events have told: somebody has cleared the log, who has seen them.
func (w *watch) forget(ctx context.Context) error {
	now := w.now()
	var events []correlate.Event
	for _, p := range w.points {
		if p.polled || len(p.faults) == 0 {
			continue
		}
		old := p.faults
		p.faults = make(map[correlate.Condition]fault)
		events = append(events, w.ended(p, old, now)...)
	}
	return w.emit(ctx)(events)
}

// when gives the time of an event by our clock, and whether it has only just happened. One that came since the last look did so
// since then, whatever the BMC's clock was set to meanwhile.
func (w *watch) when(s stamp, now time.Time) (occurred time.Time, recent bool) {
	at, ok := s.at(w.clock, w.asked)
	if at.After(now) {
		at = now
	}
	if live := !w.checked.IsZero(); live {
		if !ok || at.Before(w.checked.Add(-2*stampSlack)) {
			at = now
		}
		return at, true
	}
	if !ok {
		return now, false
	}
	return at, now.Sub(at) < fresh
}

// recent reports whether a record found at the first start is told.
func (w *watch) recent(r logRecord) bool {
	e := decodeEvent(r)
	at, ok := e.stamp.at(w.clock, w.asked)
	return ok && w.now().Sub(at) < backlog
}

// askClock asks what the event log's clock shows.
func (w *watch) askClock(ctx context.Context) error {
	b, err := w.ask(ctx, netStorage, commandLogTime)
	if err != nil {
		return err
	}
	w.clock, w.asked = stampNone, w.now()
	if c, err := decodeStamp(b); err == nil {
		w.clock = c
	}
	return nil
}

// savePosition notes what was taken of the log.
func (w *watch) savePosition() {
	file := w.file("ipmi-sel.json")
	if file == "" || w.journal == nil {
		return
	}
	err := save(file, w.journal.at)
	if err != nil && !w.mute {
		w.log.Warn("what was read of the BMC's event log could not be noted: a restart may tell it again", "error", err)
	}
	w.mute = err != nil
}

// errRearranged: the BMC has other sensors than before.
var errRearranged = errors.New("the BMC's sensor data have changed")

// changed looks whether the sensor data are still those that were read.
func (w *watch) changed(ctx context.Context) error {
	stamp, _, err := w.store.stamp(ctx)
	if w.over(err) {
		return err
	}
	if err == nil && string(stamp) != string(w.stamp) {
		return errRearranged
	}
	return nil
}

// room looks how full the event log is. One that goes on taking records without room overwrites its oldest.
func (w *watch) room(ctx context.Context) error {
	if !w.controller.log {
		return nil
	}
	b, err := w.ask(ctx, netStorage, commandLogInfo)
	if err != nil {
		return err
	}
	info, unreadable := decodeLogInfo(b)
	if unreadable != nil {
		return nil //nolint:nilerr // the BMC does not say
	}
	size := len(logRecord{})
	total := w.counters.records.Load()
	if w.packed && total > w.packedAt && info.free < size {
		w.wraps = true
	}
	w.packed, w.packedAt = info.free < size, total
	low := info.free < 0xFFFF && info.free*10 < info.records*size+info.free
	f := fault{condition: correlate.CondEventLogFull, text: fmt.Sprintf("event log: %d records, room for %d", info.records, info.free/size)}
	if info.overflown {
		f.text += "; some were lost"
	}
	return w.own(ctx, f, (low || info.overflown) && !w.wraps)
}

// chassis asks for what the BMC sums up of the machine.
func (w *watch) chassis(ctx context.Context) error {
	b, err := w.ask(ctx, netChassis, commandChassisStatus)
	if err != nil {
		return err
	}
	c, unreadable := decodeChassis(b)
	if unreadable != nil {
		return nil //nolint:nilerr // the BMC does not say
	}
	w.facts["power"] = map[bool]string{true: "on", false: "off"}[c.on]
	if len(c.lastDown) > 0 {
		w.facts["last_power_down"] = strings.Join(c.lastDown, ", ")
	}
	bad := c.power
	if c.cooling {
		bad = append(bad, "cooling")
	}
	if c.drive {
		bad = append(bad, "drive")
	}
	f := fault{condition: correlate.CondHardwareDegraded, text: "chassis status: " + strings.Join(bad, ", ")}
	return w.own(ctx, f, len(bad) > 0)
}

// own tells of a level condition of the BMC itself when it has changed.
func (w *watch) own(ctx context.Context, f fault, failed bool) error {
	k := correlate.Key{Resource: self, Condition: f.condition}
	_, was := w.ownFaults[f.condition]
	changed := failed != was || w.held[k]
	delete(w.held, k)
	now := w.now()
	event := w.event(self, f, now, now)
	if failed {
		w.ownFaults[f.condition] = f
	} else {
		delete(w.ownFaults, f.condition)
		delete(w.told, k)
		event.Status, event.Text = correlate.StatusOK, ""
	}
	if !changed || !w.said { // the full statement has it
		return nil
	}
	return w.emit(ctx)([]correlate.Event{event})
}
