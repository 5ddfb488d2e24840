package cluster

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/paramedic-ha/paramedic/agent/ledger"
	"github.com/paramedic-ha/paramedic/correlate"
	"github.com/paramedic-ha/paramedic/gossip"
	"github.com/paramedic-ha/paramedic/notify"
)

// How long a host waits for its peers, as agent/cluster and agent have it.
const (
	settleWait      = time.Second
	settleWaitFresh = 5 * time.Second
	restatedWithin  = 30 * time.Second
	knownEvery      = 50 * time.Millisecond
	knownPeers      = 3
)

// agent is one run of the process, from its start to its kill -9. It joins replica, ledger, engine and machines as
// agent/, agent/cluster and notify/ do.
type agent struct {
	h    *host
	s    *simulation
	dead bool

	birth time.Time     // on the host's clock
	born  time.Duration // in virtual time

	level    *level
	relay    *relay
	notifier *notifier
	ledger   *ledger.Ledger
	engine   *correlate.Engine // nil until it has a term

	mail    mail
	writes  []ledger.Write
	orders  ledger.Orders
	wake    time.Time
	waking  int
	pumping bool

	own       uint64          // the term that it would take alone
	heard     bool            // peers that had begun have told all that they know
	equal     map[string]bool // members that know nothing of this host that is not known here
	words     words
	listening bool
	looking   bool
	stated    map[string]bool
	said      bool // Restated was called
	late      bool // it has heard late of a former life
	engineAt  int
}

// words are what the peers have to say to the engine.
type words struct {
	said    map[gossip.Key]ledger.Saying
	known   map[string]correlate.Change
	unknown map[string]*correlate.Alarm
	claim   uint64
}

func newAgent(h *host) *agent {
	s := h.s
	a := &agent{h: h, s: s, birth: h.clock(), born: s.now(), stated: map[string]bool{}}
	fresh := h.disk.term == 0
	h.disk.term += 2
	term := h.disk.term
	s.trace("%s starts under term %d or above", h.name, term)
	a.relay = newRelay(a)
	a.notifier = newNotifier(a)
	a.notifier.setFile(h.file)
	a.ledger = ledger.New(ledger.Config{Node: h.name, Label: label, Sealer: h.sealer})
	a.level = newLevel(a)
	a.attach()
	a.step(func(now time.Time, l *ledger.Ledger) ledger.Orders { return l.Host(now, ledger.Host{Started: now}) })
	a.level.start()
	a.notifier.run()
	limit := settleWait
	if fresh {
		limit = settleWaitFresh
	}
	a.own = term
	a.after(limit, func() { a.settle() })
	a.ask()
	return a
}

// ask asks some members what they know of this host, until it knows enough to begin.
func (a *agent) ask() {
	if a.engine != nil {
		return
	}
	others := a.begunMembers()
	if a.level.inSync && len(others) == 0 {
		a.settle()
		return
	}
	a.s.rng.Shuffle(len(others), func(i, j int) { others[i], others[j] = others[j], others[i] })
	for _, h := range others[:min(knownPeers, len(others))] {
		a.relay.tell(h.node, message{Asks: true})
	}
	a.after(knownEvery, a.ask)
}

func (a *agent) begunMembers() []*host {
	return slices.DeleteFunc(slices.Clone(a.level.members), func(h *host) bool { return h.agent == nil || h.agent.engine == nil })
}

// known takes what one of them has.
func (a *agent) known(from string, k knowledge) {
	if !k.Settled || a.engine != nil {
		return
	}
	own := a.level.knowledgeOf(a.h.name)
	put(&a.equal, from, own.Records >= k.Records && own.Newest.Compare(k.Newest) >= 0)
	n, others := 0, a.begunMembers()
	for _, h := range others {
		if a.equal[h.name] {
			n++
		}
	}
	if n >= min(knownPeers, max(1, len(others))) {
		a.heard = true
		a.settle()
	}
}

func (a *agent) after(d time.Duration, do func()) {
	a.s.after(d, func() {
		if !a.dead {
			do()
		}
	})
}

// even is a clock that runs evenly within a run, as time.Time does with its monotonic reading; Level's replica gets the
// host's clock, which jumps.
func (a *agent) even() time.Time { return a.birth.Add(a.s.now() - a.born) }

// attach is Cluster.Attach.
func (a *agent) attach() {
	var file, known []notify.Subscription
	for _, w := range a.notifier.list() {
		if w.sub.Origin == notify.OriginFile {
			file = append(file, w.sub)
		}
		known = append(known, w.sub)
	}
	a.step(func(now time.Time, l *ledger.Ledger) ledger.Orders { return l.Known(now, known) })
	a.step(func(now time.Time, l *ledger.Ledger) ledger.Orders { return l.File(now, file) })
}

// settle is loop.settle and Cluster.Settle once the peers have spoken, or the time for that is over.
func (a *agent) settle() {
	if a.engine != nil {
		return
	}
	s, h, own := a.s, a.h, a.own
	term := own
	if s.cfg.Bug != TermNotLearned {
		term = above(own, a.level.replica.SeenTerm())
	}
	a.drain()
	alarms, pairs := a.ledger.Former()
	if term > own {
		h.disk.term = term
	}
	s.report.Adopted += len(alarms)
	s.trace("%s takes term %d; its peers know %d alarms and %d pairs of it", h.name, term, len(alarms), len(pairs))
	s.check.term(a, term)
	a.notifier.adopt(alarms, pairs)
	ownAlarms, ownPairs := a.notifier.kept()
	a.level.setTerm(term)
	var eff correlate.Effects
	for _, c := range ownAlarms {
		eff.Save, eff.Publish = append(eff.Save, c.Alarm), append(eff.Publish, c)
	}
	a.step(func(now time.Time, l *ledger.Ledger) ledger.Orders { return l.Effects(now, eff) })
	a.step(func(now time.Time, l *ledger.Ledger) ledger.Orders { return l.Pairs(now, ownPairs) })
	a.step(func(now time.Time, l *ledger.Ledger) ledger.Orders { return l.Begin(now) })
	a.engine = correlate.New(correlate.Config{Home: h.name, Term: term, Sources: []string{"nic", "virt", "agent"}}, lasting(ownAlarms))
	a.act(a.engine.Tick(a.even()))
	for _, al := range lasting(ownAlarms) {
		if _, stands := a.engine.Alarm(al.ID); !stands && al.Standing() {
			put(&a.words.unknown, al.ID, al)
			a.hear()
		}
	}
	a.take(correlate.Delta{Source: "agent", Full: true, Set: []correlate.Resource{{ID: correlate.NewID(correlate.KindHost, h.name)}}})
	a.look()
	a.restatedSoon(s.now())
}

// above is own, or the next even term above the one that was seen.
func above(own, seen uint64) uint64 {
	if seen < own {
		return own
	}
	return seen + 2 - seen%2
}

// lasting is that of the agent.
func lasting(kept []correlate.Change) (alarms []*correlate.Alarm) {
	for _, c := range kept {
		if c.Alarm.Standing() || c.Alarm.Dismissed() {
			alarms = append(alarms, c.Alarm)
		}
	}
	return alarms
}

// restatedSoon is Agent.giveUpFormer.
func (a *agent) restatedSoon(since time.Duration) {
	ready := a.stated["nic"] && a.stated["virt"]
	if a.s.cfg.Bug == FloorBeforeRestatement {
		ready = true
	}
	if !ready && a.s.now()-since < restatedWithin || !a.level.inSync && a.s.cfg.Bug != FloorBeforeRestatement {
		a.after(100*time.Millisecond, func() { a.restatedSoon(since) })
		return
	}
	a.said = true
	a.drain()
	_ = a.flush() // what was refused is insisted on
	a.level.replica.Restated(a.h.clock())
}

// look has the sources state what they see, a little later.
func (a *agent) look() {
	if a.looking || a.engine == nil {
		return
	}
	a.looking = true
	wait := a.s.between(0, 100*time.Millisecond)
	if !a.stated["virt"] && a.h.late {
		a.h.late = false
		wait = a.s.between(5*time.Second, 40*time.Second)
	}
	a.after(wait, func() {
		a.looking = false
		set, events := a.h.links()
		a.take(correlate.Delta{Source: "nic", Full: true, Set: set, Events: events})
		set, gone, events := a.h.machines()
		a.take(correlate.Delta{Source: "virt", Full: true, Set: set, Gone: gone, Events: events})
	})
}

// take is the loop's step.
func (a *agent) take(d correlate.Delta) {
	for i := range d.Events {
		d.Events[i].Observed = a.even()
	}
	a.act(a.engine.Topology(a.even(), d))
	a.mail.delta(d)
	a.stated[d.Source] = a.stated[d.Source] || d.Full
	a.kick()
}

// act carries out what the engine decided.
func (a *agent) act(eff correlate.Effects) {
	s := a.s
	for i := range eff.Publish {
		eff.Publish[i].Found = a.even()
		c := eff.Publish[i]
		s.trace("%s: %s %s %s %s %s, %d affected", a.h.name, c.Alarm.ID[:8], c.Alarm.Revision, c.Alarm.Last, c.Alarm.Key.Resource, c.Alarm.Key.Condition, len(c.Alarm.Affected))
	}
	s.report.Revisions += len(eff.Publish)
	s.check.published(a, eff.Publish)
	if len(eff.Save)+len(eff.Publish) > 0 {
		a.notifier.publish(eff)
		a.mail.effects(eff)
		a.kick()
	}
	a.engineAt++
	at := a.engineAt
	if !eff.Wake.IsZero() {
		a.after(eff.Wake.Sub(a.even()), func() {
			if a.engineAt == at {
				a.act(a.engine.Tick(a.even()))
			}
		})
	}
}

// report takes events about ourselves.
func (a *agent) report(e correlate.Event) {
	if a.engine == nil {
		a.after(time.Second, func() { a.report(e) })
		return
	}
	a.take(correlate.Delta{Source: "agent", Set: []correlate.Resource{{ID: e.Resource, Name: e.Resource.Name()}}, Events: []correlate.Event{e}})
}

// hear has the engine's goroutine look at the words of the peers.
func (a *agent) hear() {
	if a.listening {
		return
	}
	a.listening = true
	a.after(a.s.between(0, time.Millisecond), func() {
		a.listening = false
		if a.engine == nil {
			a.hear()
			return
		}
		a.listen()
	})
}

// listen is loop.listen.
func (a *agent) listen() {
	w := a.words
	a.words = words{}
	for _, u := range w.unknown {
		if u.Revision.Term > a.engine.Term() {
			w.claim = max(w.claim, u.Revision.Term)
		}
	}
	if w.claim != 0 {
		a.reterm(w.claim)
	}
	for _, word := range slices.SortedFunc(maps.Values(w.said), func(x, y ledger.Saying) int {
		return cmp.Or(x.At.Compare(y.At), cmp.Compare(x.Kind, y.Kind), cmp.Compare(x.ID(), y.ID()))
	}) {
		if eff, err := word.Apply(a.engine, a.even()); err == nil {
			a.act(eff)
		}
	}
	if len(w.known) > 0 {
		var eff correlate.Effects
		for _, id := range slices.Sorted(maps.Keys(w.known)) {
			eff.Save, eff.Publish = append(eff.Save, w.known[id].Alarm), append(eff.Publish, w.known[id])
		}
		a.notifier.publish(eff)
	}
	if len(w.unknown) > 0 {
		var last []*correlate.Alarm
		for _, id := range slices.Sorted(maps.Keys(w.unknown)) {
			last = append(last, w.unknown[id])
		}
		eff := a.engine.Close(a.even(), last...)
		a.s.report.Closed += len(eff.Publish)
		a.act(eff)
	}
}

// reterm is loop.reterm.
func (a *agent) reterm(known uint64) {
	term := above(a.engine.Term(), known)
	if term == a.engine.Term() {
		return
	}
	a.s.trace("%s takes term %d: its peers know it under %d", a.h.name, term, known)
	a.s.report.Claims++
	a.s.check.term(a, term)
	a.h.disk.term = term
	a.level.setTerm(term)
	a.act(a.engine.Reterm(a.even(), term))
}

// The pump of agent/cluster.

// kick has the pump run a moment later.
func (a *agent) kick() {
	if a.pumping {
		return
	}
	a.pumping = true
	a.after(a.s.between(0, time.Millisecond), func() {
		a.pumping = false
		a.drain()
		_ = a.flush()
		a.carryOut()
		a.sleep()
	})
}

func (a *agent) sleep() {
	a.waking++
	if a.wake.IsZero() {
		return
	}
	waking := a.waking
	a.after(a.wake.Sub(a.even()), func() {
		if a.waking == waking {
			a.wake = time.Time{}
			a.step(func(now time.Time, l *ledger.Ledger) ledger.Orders { return l.Tick(now) })
		}
	})
}

func (a *agent) step(f func(time.Time, *ledger.Ledger) ledger.Orders) {
	a.order(f(a.even(), a.ledger))
}

func (a *agent) order(o ledger.Orders) {
	a.writes = append(a.writes, o.Write...)
	if !o.Wake.IsZero() && (a.wake.IsZero() || o.Wake.Before(a.wake)) {
		a.wake = o.Wake
	}
	o.Write = nil
	a.orders.Join(o)
	a.kick()
}

func (a *agent) drain() {
	if ch, news := a.level.watched(); news {
		a.step(func(now time.Time, l *ledger.Ledger) ledger.Orders { return l.Take(now, ch) })
	}
	m := a.mail
	a.mail = mail{}
	if m.file != nil {
		a.step(func(now time.Time, l *ledger.Ledger) ledger.Orders { return l.File(now, *m.file) })
	}
	for _, d := range m.deltas {
		a.step(func(now time.Time, l *ledger.Ledger) ledger.Orders { return l.Inventory(now, &d) })
	}
	if len(m.saved) > 0 {
		a.step(func(now time.Time, l *ledger.Ledger) ledger.Orders { return l.Effects(now, m.newest()) })
	}
	if len(m.pairs) > 0 {
		a.step(func(now time.Time, l *ledger.Ledger) ledger.Orders { return l.Pairs(now, m.sortedPairs()) })
	}
	for _, id := range slices.Sorted(maps.Keys(m.refused)) {
		r := m.refused[id]
		a.step(func(now time.Time, l *ledger.Ledger) ledger.Orders { return l.Refused(now, id, r.version, r.reason) })
	}
	if len(m.forgot) > 0 {
		a.step(func(now time.Time, l *ledger.Ledger) ledger.Orders { return l.Forgot(now, m.forgot) })
	}
}

// flush writes what the ledger has ordered; the error is of the shared records, and null for the own ones must not fail.
func (a *agent) flush() (err error) {
	writes := a.writes
	a.writes = nil
	if len(writes) > 0 {
		err = a.level.write(writes)
	}
	return err
}

func (a *agent) carryOut() {
	o := a.orders
	a.orders = ledger.Orders{}
	if o.Claim != 0 {
		a.words.claim = max(a.words.claim, o.Claim)
		a.hear()
	}
	for _, id := range o.Drop {
		a.notifier.dropped(id)
	}
	for i := range o.Put {
		a.put(&o.Put[i])
	}
	if len(o.Former) > 0 {
		a.s.trace("%s hears of %d alarms of a former life", a.h.name, len(o.Former))
	}
	for _, f := range o.Former {
		a.late = true
		a.s.report.Adopted++
		a.notifier.adopt([]correlate.Change{f.Change}, f.Pairs)
		if f.Change.Alarm.Standing() {
			put(&a.words.unknown, f.Change.Alarm.ID, f.Change.Alarm)
			a.hear()
		}
	}
	for _, t := range o.Told {
		a.notifier.told(t.Subscription, t.AlarmID, t.Revision)
	}
	for _, word := range o.Said {
		put(&a.words.said, gossip.Key{Kind: word.Kind, ID: word.ID()}, word)
		a.hear()
	}
	for _, e := range o.Report {
		a.s.trace("%s: %s %s %s: %s", a.h.name, e.Resource, e.Condition, e.Status, e.Text)
		a.report(e)
	}
}

func (a *agent) put(p *ledger.Put) {
	told := p.Told
	if a.s.cfg.Bug == SnapshotWithoutTold {
		told = nil
	}
	a.s.trace("%s: put %s version %d paused %q, told %d", a.h.name, p.Subscription.Name, p.Subscription.Version, p.Subscription.Paused, len(p.Told))
	for _, id := range a.notifier.put(p.Subscription, told) {
		if own, ok := a.ledger.Own(id); ok && !own.Alarm.Standing() {
			put(&a.words.known, id, own)
		} else if given, ok := p.Given[id]; ok && given.Home == a.h.name {
			put(&a.words.unknown, id, &correlate.Alarm{
				ID: id, Key: correlate.Key{Home: a.h.name, Resource: given.Resource, Condition: given.Condition}, Revision: p.Told[id],
			})
		} else {
			continue
		}
		a.hear()
	}
}

func put[K comparable, V any](m *map[K]V, k K, v V) {
	if *m == nil {
		*m = map[K]V{}
	}
	(*m)[k] = v
}

// mail is what waits for the ledger.
type mail struct {
	saved  []*correlate.Alarm
	told   map[string]correlate.Change
	deltas []correlate.Delta
	pairs  map[pair]notify.Pair
	forgot []string
	file   *[]notify.Subscription

	refused map[string]refusal
}

type refusal struct {
	version uint64
	reason  string
}

func (m *mail) effects(eff correlate.Effects) {
	for _, c := range eff.Publish {
		put(&m.told, c.Alarm.ID, c)
	}
	for _, s := range eff.Save {
		m.saved = slices.DeleteFunc(m.saved, func(o *correlate.Alarm) bool { return o.ID == s.ID })
		m.saved = append(m.saved, s)
	}
}

func (m *mail) newest() (eff correlate.Effects) {
	for _, s := range m.saved {
		eff.Save = append(eff.Save, s)
		if c, ok := m.told[s.ID]; ok {
			if c.Alarm.Revision == s.Revision {
				c.Alarm = s
			}
			eff.Publish = append(eff.Publish, c)
		}
	}
	return eff
}

func (m *mail) delta(d correlate.Delta) { m.deltas = append(m.deltas, d) }

func (m *mail) sortedPairs() []notify.Pair {
	return slices.SortedFunc(maps.Values(m.pairs), func(a, b notify.Pair) int {
		return strings.Compare(a.Subscription+"/"+a.AlarmID, b.Subscription+"/"+b.AlarmID)
	})
}
