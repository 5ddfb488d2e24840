package southbound

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"

	"golang.org/x/time/rate"

	"github.com/paramedic-ha/paramedic/correlate"
)

// Source names what other monitors say, among the sources.
const Source = "monitor"

// How many events are taken. A monitor may send one full body at once, and then so many a second.
const (
	perMonitor   = 50
	perSecond    = 200 // of all monitors
	burst        = MaxItems
	burstOfAll   = 4 * burst
	maxMonitors  = 1000 // that are told apart; further ones share one limit
	maxStanding  = 1000 // conditions of monitors that stand at a time
	maxMemory    = 10_000
	rememberedIn = 24 * time.Hour
)

// Word is what becomes of one item.
type Word string

// The three words. A duplicate has changed nothing.
const (
	Accepted  Word = "accepted"
	Duplicate Word = "duplicate"
	Refused   Word = "refused"
)

// Verdict is the answer to one item.
type Verdict struct {
	Word      Word
	Text      string // refused: why, and the remedy; else what the sender should know, or empty
	Limited   bool   // refused because there are too many: the same will be taken later
	Resource  correlate.ID
	Condition correlate.Condition
	Alarm     string // the id of the alarm that stands for it now; empty: none does
}

// Apply has Step called by the owner of the engine.
type Apply func(ctx context.Context, events []correlate.Event, limit int) ([]Outcome, error)

// Desk takes the events of all monitors. It is safe for concurrent use; who comes while another is served waits.
type Desk struct {
	node  string
	apply Apply
	now   func() time.Time
	turn  chan struct{} // holds one while somebody is served

	mu       sync.Mutex
	mappings map[string]Mapping

	// Of whose turn it is.
	all      *rate.Limiter
	others   *rate.Limiter
	monitors map[string]*rate.Limiter
	memory   memory
}

// NewDesk makes the desk of a host.
func NewDesk(node string, mappings []Mapping, apply Apply, now func() time.Time) *Desk {
	return &Desk{
		node: node, apply: apply, now: now, turn: make(chan struct{}, 1), mappings: table(mappings),
		all: rate.NewLimiter(perSecond, burstOfAll), others: rate.NewLimiter(perMonitor, burst),
		monitors: make(map[string]*rate.Limiter), memory: newMemory(maxMemory),
	}
}

// SetMappings replaces the mappings. What stands keeps the resource and the condition that it was raised under.
func (d *Desk) SetMappings(mappings []Mapping) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.mappings = table(mappings)
}

func (d *Desk) mapping(typ string) Mapping {
	d.mu.Lock()
	defer d.mu.Unlock()
	m, ok := d.mappings[typ]
	if !ok {
		m = Mapping{Type: typ, Rule: correlate.RuleOf(ConditionOf(typ))}
	}
	return m
}

// Take judges the items and hands on those that are accepted. The error is that of the engine, or of ctx; then nothing was
// remembered, and the same may be sent again.
func (d *Desk) Take(ctx context.Context, items []Item) ([]Verdict, error) {
	select {
	case d.turn <- struct{}{}:
		defer func() { <-d.turn }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	now := d.now()
	verdicts := make([]Verdict, len(items))
	var events []correlate.Event
	var of []int // the item of each event
	taken := make(map[key]bool)
	for i := range items {
		item, v := &items[i], &verdicts[i]
		m := d.mapping(item.Type)
		e, err := d.event(item, m, now)
		v.Resource, v.Condition = e.Resource, e.Condition
		switch id := item.key(e.Resource, item.Up); {
		case !d.allow(item.Monitor, now):
			*v = Verdict{Word: Refused, Limited: true, Text: fmt.Sprintf(
				"too many events: a monitor may send %d at once and %d a second, all together %d a second: send it again later", burst, perMonitor, perSecond)}
		case err != nil:
			v.Word, v.Text = Refused, err.Error()
		case item.EventID != "" && (taken[id] || d.memory.has(id, now)):
			v.Word, v.Text = Duplicate, "this event of the monitor is known: nothing was changed"
		default:
			taken[id] = true
			delete(taken, item.key(e.Resource, !item.Up))
			events, of = append(events, e), append(of, i)
		}
	}
	if len(events) == 0 {
		return verdicts, nil
	}
	outcomes, err := d.apply(ctx, events, maxStanding)
	if err != nil {
		return nil, err
	}
	for n, i := range of {
		d.settle(&items[i], &verdicts[i], events[n], outcomes[n], now)
	}
	return verdicts, nil
}

// settle says what came of an event, and remembers it.
func (d *Desk) settle(item *Item, v *Verdict, e correlate.Event, o Outcome, now time.Time) {
	if o.Full {
		v.Word, v.Limited = Refused, true
		v.Text = fmt.Sprintf("%d conditions of monitors stand on this host already: say up for those that are over, or acknowledge them", maxStanding)
		return
	}
	v.Word, v.Alarm = Accepted, o.Alarm
	var notes []string
	if ahead := item.Time.Sub(now); ahead > 0 {
		notes = append(notes, fmt.Sprintf("its time is %v ahead of this host's clock (a time without a zone is taken for UTC): that of its arrival was taken",
			cmp.Or(ahead.Round(time.Second), time.Second)))
	}
	switch {
	case item.Up && !o.Stood:
		notes = append(notes, "nothing of it stood")
	case !item.Up && !o.Known:
		notes = append(notes, "the topology does not have this resource, so no domain hangs on it: /v1/resources lists those that it has")
	}
	v.Text = strings.Join(notes, "; ")
	if item.EventID == "" {
		return
	}
	kept := rememberedIn
	if hold := d.mapping(item.Type).Rule.Hold; hold > 0 { // what is said again after that must be heard
		kept = min(kept, hold)
	}
	// A monitor may use one id for ever, and then say down, up, down without a time: that is news each time.
	d.memory.forget(item.key(e.Resource, !item.Up))
	d.memory.add(item.key(e.Resource, item.Up), now.Add(kept))
}

// allow counts one event.
func (d *Desk) allow(monitor string, now time.Time) bool {
	l := d.monitors[monitor]
	if l == nil {
		if len(d.monitors) >= maxMonitors {
			maps.DeleteFunc(d.monitors, func(_ string, l *rate.Limiter) bool { return l.TokensAt(now) >= burst })
		}
		if l = d.others; len(d.monitors) < maxMonitors {
			l = rate.NewLimiter(perMonitor, burst)
			d.monitors[monitor] = l
		}
	}
	return l.AllowN(now, 1) && d.all.AllowN(now, 1)
}

// event is what an item says of this host.
func (d *Desk) event(i *Item, m Mapping, now time.Time) (correlate.Event, error) {
	e := correlate.Event{
		Source: Source, Condition: m.Rule.Condition, Status: correlate.StatusFailed, Severity: i.Severity,
		Occurred: i.Time, Observed: now,
	}
	if i.Wrong != nil {
		e.Condition = ""
		return e, i.Wrong
	}
	if i.Up {
		e.Status = correlate.StatusOK
	}
	if e.Occurred.After(now) {
		e.Occurred = now
	}
	if !d.ours(i.Hostname) {
		return e, fmt.Errorf("host %q is not this one (%s), and an event is taken by the agent of the host that it is about: send it to the paramedic on %s",
			i.Hostname, d.node, i.Hostname)
	}
	var err error
	if e.Resource, err = d.resource(i, m); err != nil {
		return e, err
	}
	e.Text, e.Evidence = i.text(m), i.evidence()
	return e, nil
}

// ours compares host names as people write them: in any case, and with or without the domain.
func (d *Desk) ours(hostname string) bool {
	if hostname == "" || strings.EqualFold(hostname, d.node) {
		return true
	}
	host, domain, _ := strings.Cut(hostname, ".")
	node, nodeDomain, _ := strings.Cut(d.node, ".")
	return strings.EqualFold(host, node) && (domain == "" || nodeDomain == "")
}

func (d *Desk) resource(i *Item, m Mapping) (correlate.ID, error) {
	name := i.Resource
	if name == "" && m.Resource != "" {
		var err error
		if name, err = fill(m.Resource, func(name string) string { return i.Details[name] }); err != nil {
			return "", err
		}
	}
	if name == "" {
		return correlate.NewID(correlate.KindHost, d.node), nil
	}
	id, err := correlate.ParseID(name)
	switch {
	case err != nil:
		return "", err
	case len(name) > maxName:
		return "", fmt.Errorf("resource id %q…: want at most %d bytes", cut(name, 40), maxName)
	case strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) || r == ' ' }):
		return "", fmt.Errorf("resource id %q: want printable text without spaces", name)
	case id.Kind() == correlate.KindZone:
		return "", errors.New("a zone is no resource of this host: name a host's")
	case id.Kind() == correlate.KindHost && !d.ours(id.Name()):
		return "", fmt.Errorf("resource %q is another host (this one is %s): send it to the paramedic there", name, d.node)
	case id.Kind() == correlate.KindHost:
		return correlate.NewID(correlate.KindHost, d.node), nil
	}
	return id, nil
}

func (i *Item) text(m Mapping) string {
	text := m.Rule.Text
	if text == string(m.Rule.Condition) { // nobody has found words for it
		text = "another monitor reports " + i.Type
	}
	text = cmp.Or(i.Cause, text)
	if i.Monitor != "" {
		text += " (told by the monitor " + i.Monitor + ")"
	}
	return text
}

// evidence is what was sent.
func (i *Item) evidence() map[string]string {
	e := map[string]string{"type": i.Type}
	if i.Monitor != "" {
		e["monitor"] = i.Monitor
	}
	if i.EventID != "" {
		e["monitor_event_id"] = i.EventID
	}
	for _, name := range slices.Sorted(maps.Keys(i.Details)) {
		if _, there := e[name]; !there && len(e) < maxDetails {
			e[name] = i.Details[name]
		}
	}
	return e
}

// key names an event of a monitor. Monitors use an id again: it is the same event only when it says the same.
type key [sha256.Size]byte

func (i *Item) key(resource correlate.ID, up bool) key {
	return sha256.Sum256(fmt.Appendf(nil, "%q %q %q %q %q %v", i.Monitor, i.EventID, i.Type, resource, i.Time, up))
}

// memory holds the newest n keys, each until its time.
type memory struct {
	ends  map[key]entry
	ring  []key
	total int
}

type entry struct {
	until time.Time
	place int // how many were added before
}

func newMemory(n int) memory { return memory{ends: make(map[key]entry), ring: make([]key, n)} }

func (m *memory) has(k key, now time.Time) bool {
	e, ok := m.ends[k]
	return ok && now.Before(e.until)
}

func (m *memory) forget(k key) { delete(m.ends, k) }

func (m *memory) add(k key, until time.Time) {
	at := m.total % len(m.ring)
	if old := m.ring[at]; m.total >= len(m.ring) {
		if e, ok := m.ends[old]; ok && e.place == m.total-len(m.ring) {
			delete(m.ends, old)
		}
	}
	m.ring[at] = k
	m.ends[k] = entry{until, m.total}
	m.total++
}
