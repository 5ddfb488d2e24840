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
	handedAtOnce = 16 // hosts that events are handed on to at a time, for one caller
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

// Config is what a Desk is made of.
type Config struct {
	Node     string // this host
	Mappings []Mapping
	Apply    Apply
	Now      func() time.Time
	Peers    Peers  // nil: this host is alone
	Memory   Memory // nil: duplicates are forgotten at a restart
}

// Peers are the other hosts of the cluster.
type Peers interface {
	// Find is the host that a name means, as people write it (SameHost). state says in a word why it can't be spoken to; empty: it
	// can. No host when none has such a name.
	Find(name string) (host, state string)
	// HandOn has a host judge events about it, within a time of its own. An error says why it has not, or may have not.
	HandOn(ctx context.Context, host string, from Origin, items []Item) ([]Verdict, error)
}

// Memory keeps over a restart which events were taken. None of its methods blocks.
type Memory interface {
	Kept() map[[sha256.Size]byte]time.Time
	Keep(key [sha256.Size]byte, until time.Time)
	Drop(key [sha256.Size]byte)
}

// Origin is where events come from.
type Origin struct {
	Caller string // whose limit counts; empty: that of each event's monitor
	Peer   string // the host that has handed them on; empty: they were handed in here
}

// Desk takes the events of all monitors. It is safe for concurrent use; who comes while another is served waits.
type Desk struct {
	Config
	turn chan struct{} // holds one while somebody is served

	mu       sync.Mutex
	mappings map[string]Mapping

	// Of whose turn it is.
	all      *rate.Limiter
	others   *rate.Limiter
	monitors map[limited]*rate.Limiter
	memory   memory
}

// limited is who has a limit: a caller, or a monitor of callers that have none of their own.
type limited struct{ caller, monitor string }

// NewDesk makes the desk of a host.
func NewDesk(c Config) *Desk {
	return &Desk{
		Config: c, turn: make(chan struct{}, 1), mappings: table(c.Mappings),
		all: rate.NewLimiter(perSecond, burstOfAll), others: rate.NewLimiter(perMonitor, burst),
		monitors: make(map[limited]*rate.Limiter), memory: newMemory(maxMemory, c.Memory, c.Now),
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

// Take judges the items: those about this host here, by the engine, and those about another host there. The error is that of the
// engine, or of ctx; then nothing was remembered here, and the same may be sent again.
func (d *Desk) Take(ctx context.Context, from Origin, items []Item) ([]Verdict, error) {
	verdicts := make([]Verdict, len(items))
	elsewhere, err := d.judge(ctx, from, items, verdicts)
	if err != nil {
		return nil, err
	}
	d.handOn(ctx, from, items, verdicts, elsewhere)
	return verdicts, nil
}

// judge gives the verdicts on what is about this host, and on what can be said here of the rest; what remains are the items, by their
// place, about each other host.
func (d *Desk) judge(ctx context.Context, from Origin, items []Item, verdicts []Verdict) (elsewhere map[string][]int, err error) {
	select {
	case d.turn <- struct{}{}:
		defer func() { <-d.turn }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	now := d.Now()
	elsewhere = make(map[string][]int)
	var events []correlate.Event
	var of []int // the item of each event
	taken := make(map[key]bool)
	for i := range items {
		item, v := &items[i], &verdicts[i]
		if !d.allow(from.Caller, item.Monitor, now) {
			*v = Verdict{Word: Refused, Limited: true, Text: fmt.Sprintf(
				"too many events: one caller or monitor may send %d at once and %d a second, all together %d a second: send it again later", burst, perMonitor, perSecond)}
			continue
		}
		m := d.mapping(item.Type)
		if item.Wrong == nil {
			if host := item.host(); !d.ours(host) {
				if there, err := d.find(from, host); err != nil {
					*v = Verdict{Word: Refused, Condition: m.Rule.Condition, Text: err.Error()}
				} else {
					elsewhere[there] = append(elsewhere[there], i)
				}
				continue
			}
		}
		e, err := d.event(item, m, now)
		v.Resource, v.Condition = e.Resource, e.Condition
		switch id := item.key(e.Resource, item.Up); {
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
		return elsewhere, nil
	}
	outcomes, err := d.Apply(ctx, events, maxStanding)
	if err != nil {
		return nil, err
	}
	for n, i := range of {
		d.settle(&items[i], &verdicts[i], events[n], outcomes[n], now)
	}
	return elsewhere, nil
}

// find is the other host that a name means, or why an event about it is refused.
func (d *Desk) find(from Origin, name string) (string, error) {
	switch {
	case from.Peer != "": // it was sent here by a host that takes us for another one: further on it might go in a circle
		return "", fmt.Errorf("host %q is not this one (%s), to which %s has handed it on: send it to the paramedic on %s", name, d.Node, from.Peer, name)
	case d.Peers == nil:
		return "", fmt.Errorf("host %q is not this one (%s), which is alone: send it to the paramedic on %s", name, d.Node, name)
	}
	switch host, state := d.Peers.Find(name); {
	case host == "":
		return "", fmt.Errorf("host %q is not in this cluster: /v1/hosts lists those that are; if it has another name there, send that", name)
	case state != "":
		return "", fmt.Errorf("host %s can't be spoken to (it is %s): what that means for its domains its peers find out themselves, and take no other's word for; "+
			"send the event again when the host is back, if it still holds", host, state)
	default:
		return host, nil
	}
}

// handOn has other hosts judge what is about them, all at once.
func (d *Desk) handOn(ctx context.Context, from Origin, items []Item, verdicts []Verdict, elsewhere map[string][]int) {
	var group sync.WaitGroup
	room := make(chan struct{}, handedAtOnce)
	for host, of := range elsewhere {
		room <- struct{}{}
		group.Go(func() {
			defer func() { <-room }()
			theirs := make([]Item, len(of))
			for n, i := range of {
				theirs[n] = items[i]
				theirs[n].Hostname = host // as it calls itself
			}
			got, err := d.Peers.HandOn(ctx, host, Origin{Caller: from.Caller, Peer: d.Node}, theirs)
			for n, i := range of {
				switch v := &verdicts[i]; {
				case err != nil:
					v.Word, v.Text = Refused, fmt.Sprintf("host %s has not judged it: %v: send it again", host, err)
				case n >= len(got):
					v.Word, v.Text = Refused, fmt.Sprintf("host %s has given no verdict: is its agent as new as this one?", host)
				default:
					*v = got[n]
				}
			}
		})
	}
	group.Wait()
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
func (d *Desk) allow(caller, monitor string, now time.Time) bool {
	who := limited{caller: caller}
	if caller == "" {
		who.monitor = monitor
	}
	l := d.monitors[who]
	if l == nil {
		if len(d.monitors) >= maxMonitors {
			maps.DeleteFunc(d.monitors, func(_ limited, l *rate.Limiter) bool { return l.TokensAt(now) >= burst })
		}
		if l = d.others; len(d.monitors) < maxMonitors {
			l = rate.NewLimiter(perMonitor, burst)
			d.monitors[who] = l
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
	var err error
	if e.Resource, err = d.resource(i, m); err != nil {
		return e, err
	}
	e.Text, e.Evidence = i.text(m), i.evidence()
	return e, nil
}

// host is the name of the host that an item is about; empty: that where it is handed in.
func (i *Item) host() string {
	if id := correlate.ID(i.Resource); i.Hostname == "" && id.Kind() == correlate.KindHost {
		return id.Name()
	}
	return i.Hostname
}

func (d *Desk) ours(hostname string) bool { return hostname == "" || SameHost(hostname, d.Node) }

// SameHost compares the name of a host, as people write it, with its node.name: in any case, and with or without the domain.
func SameHost(name, node string) bool {
	if strings.EqualFold(name, node) {
		return true
	}
	host, domain, _ := strings.Cut(name, ".")
	short, nodeDomain, _ := strings.Cut(node, ".")
	return strings.EqualFold(host, short) && (domain == "" || nodeDomain == "")
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
		return correlate.NewID(correlate.KindHost, d.Node), nil
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
		return "", fmt.Errorf("resource %q is another host (this one is %s): send it to the paramedic there", name, d.Node)
	case id.Kind() == correlate.KindHost:
		return correlate.NewID(correlate.KindHost, d.Node), nil
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

// memory holds the newest n keys, each until its time, and keeps them over a restart.
type memory struct {
	ends  map[key]entry
	ring  []key
	total int
	disk  Memory // may be nil
}

type entry struct {
	until time.Time
	place int // how many were added before
}

func newMemory(n int, disk Memory, now func() time.Time) memory {
	m := memory{ends: make(map[key]entry), ring: make([]key, n)}
	if disk == nil {
		return m
	}
	kept := disk.Kept()
	m.disk = disk
	for _, k := range slices.SortedFunc(maps.Keys(kept), func(a, b [sha256.Size]byte) int { return kept[a].Compare(kept[b]) }) {
		if until := kept[k]; until.After(now()) {
			m.put(k, until)
		}
	}
	return m
}

func (m *memory) has(k key, now time.Time) bool {
	e, ok := m.ends[k]
	return ok && now.Before(e.until)
}

func (m *memory) forget(k key) {
	if _, known := m.ends[k]; known {
		delete(m.ends, k)
		if m.disk != nil {
			m.disk.Drop(k)
		}
	}
}

func (m *memory) add(k key, until time.Time) {
	m.put(k, until)
	if m.disk != nil {
		m.disk.Keep(k, until)
	}
}

func (m *memory) put(k key, until time.Time) {
	at := m.total % len(m.ring)
	if old := m.ring[at]; m.total >= len(m.ring) {
		if e, ok := m.ends[old]; ok && e.place == m.total-len(m.ring) {
			m.forget(old)
		}
	}
	m.ring[at] = k
	m.ends[k] = entry{until, m.total}
	m.total++
}
