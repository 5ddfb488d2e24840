package sim

import (
	"slices"
	"time"

	"github.com/paramedic-ha/paramedic/correlate"
	"github.com/paramedic-ha/paramedic/notify/delivery"
)

const (
	hold           = time.Millisecond // a delivery leaves after that, committed or not
	requestTimeout = 15 * time.Second
)

// process is one run of the agent, from its start to its kill -9: sources, engine, outbox, and a machine for each
// subscription, joined as agent/ and notify/ join them.
type process struct {
	s       *simulation
	engine  *correlate.Engine
	outbox  *outbox
	sources []*source
	subs    []*subscriber
	known   map[string]*correlate.Alarm // standing ones, and cleared ones that somebody is owed
	dead    bool
	dieIn   int           // agenda events until it is killed; zero: it is not
	birth   time.Time     // on the wall clock
	born    time.Duration // in virtual time
	waking  uint64        // numbers the timer that counts
}

// subscriber is the sender's side of a subscription.
type subscriber struct {
	c       *consumer
	machine *delivery.Machine
	waking  uint64
	flying  map[string]bool
	sent    map[string]correlate.Revision // the newest started in this run
	told    map[string]correlate.Revision // the newest settled in this run
	older   *correlate.Alarm              // for the bug that reorders
}

func newProcess(s *simulation) *process {
	p := &process{s: s, known: map[string]*correlate.Alarm{}, birth: s.clock(), born: s.now}
	p.outbox = newOutbox(p)
	if s.cfg.Bug != SameTerm || s.disk.term == 0 {
		s.disk.term += 2
	}
	alarms, pairs := s.disk.load()
	s.trace("the process starts: term %d, %d alarms", s.disk.term, len(alarms))
	var standing []*correlate.Alarm
	for _, a := range alarms {
		p.known[a.ID] = a
		if a.Standing() {
			standing = append(standing, a)
		}
	}
	p.engine = correlate.New(correlate.Config{Home: home, Term: s.disk.term, Sources: []string{"nic", "virt"}}, standing)
	for _, c := range s.consumers {
		sub := &subscriber{
			c: c, machine: delivery.New(c.limits, s.rng.Float64),
			flying: map[string]bool{}, sent: map[string]correlate.Revision{}, told: map[string]correlate.Revision{},
		}
		if c.unsubscribed {
			sub.machine.Pause()
		}
		for _, r := range pairs[c.sub.ID] {
			if a := p.known[r.AlarmID]; a != nil {
				sub.machine.Restore(r, correlate.Change{Alarm: a}, p.now())
			} else {
				p.outbox.put(place{c.sub.ID, r.AlarmID}, nil)
			}
		}
		p.subs = append(p.subs, sub)
		p.offer(sub, alarms) // whoever should know and was not told is owed it now
		p.tick(sub)
	}
	for _, a := range alarms {
		p.forget(a.ID)
	}
	p.sources = []*source{newSource(p, "nic", lookAtLinks), newSource(p, "virt", lookAtDomains)}
	p.take(correlate.Delta{Source: "agent", Full: true, Set: []correlate.Resource{
		{ID: "host/" + home}, {ID: self("nic")}, {ID: self("virt")},
	}})
	for _, src := range p.sources {
		s.after(s.between(0, 300*time.Millisecond), "source "+src.name+" starts", func() {
			if !p.dead {
				src.start()
			}
		})
	}
	return p
}

func self(part string) correlate.ID {
	return correlate.NewID(correlate.KindService, "paramedic/"+part)
}

// now is the machines' clock: even within a run, the host's between runs.
func (p *process) now() time.Time { return p.birth.Add(p.s.now - p.born) }

// crash is kill -9.
func (p *process) crash() {
	if p.dead {
		return
	}
	p.dead = true
	p.s.trace("the process is killed")
	p.s.check.crashed(p, p.outbox.crash())
}

// maybeDie kills the process at whatever event it has come to, and starts it again.
func (p *process) maybeDie() {
	if p.dieIn == 0 || p.dead {
		return
	}
	if p.dieIn--; p.dieIn > 0 {
		return
	}
	p.crash()
	p.s.after(p.s.between(50*time.Millisecond, 20*time.Second), "", func() {
		if p.s.process == p {
			p.s.start()
		}
	})
}

// look tells the sources that the world has changed.
func (p *process) look() {
	for _, src := range p.sources {
		p.s.after(p.s.between(0, time.Millisecond), "", src.edge)
	}
}

func (p *process) source(name string) *source {
	return p.sources[slices.IndexFunc(p.sources, func(src *source) bool { return src.name == name })]
}

// take is the loop's step.
func (p *process) take(d correlate.Delta) {
	before := p.s.check.beforeDelta(p, &d)
	eff := p.engine.Topology(p.s.clock(), d)
	p.s.check.afterDelta(p, &d, before, &eff)
	p.act(eff)
}

func (p *process) selfReport(part string, c correlate.Condition, failed bool) {
	e := correlate.Event{Source: "agent", Resource: self(part), Condition: c, Status: correlate.StatusOK, Observed: p.s.clock()}
	if failed {
		e.Status = correlate.StatusFailed
	}
	p.take(correlate.Delta{Source: "agent", Events: []correlate.Event{e}})
}

// act carries out what the engine decided.
func (p *process) act(eff correlate.Effects) {
	for _, c := range eff.Publish {
		p.s.trace("%s %s %s %s, %d affected, under %q", c.Alarm.Revision, c.Alarm.Last, c.Alarm.Key.Resource, c.Alarm.Key.Condition,
			len(c.Alarm.Affected), c.Alarm.Under)
	}
	p.s.report.Revisions += len(eff.Publish)
	p.s.check.published(p, eff.Publish)
	p.dispatch(eff)
	p.waking++
	if eff.Wake.IsZero() {
		return
	}
	waking := p.waking
	p.s.after(eff.Wake.Sub(p.s.clock()), "", func() {
		if !p.dead && p.waking == waking {
			p.act(p.engine.Tick(p.s.clock()))
			p.s.check.step()
		}
	})
}

// dispatch saves what was published and owes it to whoever wants it.
func (p *process) dispatch(eff correlate.Effects) {
	for _, a := range eff.Save {
		p.known[a.ID] = a
		p.outbox.put(place{"", a.ID}, a)
	}
	alarms := make([]*correlate.Alarm, 0, len(eff.Publish))
	for _, c := range eff.Publish {
		alarms = append(alarms, c.Alarm)
	}
	for _, sub := range p.subs {
		p.offer(sub, alarms)
	}
	for _, a := range alarms {
		p.forget(a.ID)
	}
}

func (p *process) offer(sub *subscriber, alarms []*correlate.Alarm) {
	owes := false
	for _, a := range alarms {
		before, owed, ok := sub.machine.Pair(a.ID)
		if !sub.c.sub.Wants(a, nil, ok, owed) || p.drops(a) {
			continue
		}
		eff := sub.machine.Enqueue(correlate.Change{Alarm: a}, p.now())
		if owed && a.Revision.Compare(before.Owed) > 0 {
			p.s.report.Superseded++
		}
		owes = owes || len(eff.Save) > 0
		p.save(sub, eff)
	}
	if owes {
		sub.machine.Hold(p.outbox.seq, p.now().Add(hold))
		p.tickIn(sub, hold)
	}
}

// drops is a bug, when it is asked for.
func (p *process) drops(a *correlate.Alarm) bool {
	bug := p.s.cfg.Bug
	return (bug == DropsRevisions || bug == ForgetsClears && !a.Standing()) && p.s.chance(0.05)
}

// save keeps what became of pairs.
func (p *process) save(sub *subscriber, eff delivery.Effects) {
	for _, r := range eff.Save {
		p.outbox.put(place{sub.c.sub.ID, r.AlarmID}, r)
	}
	for _, id := range eff.Remove {
		p.outbox.put(place{sub.c.sub.ID, id}, nil)
		p.forget(id)
	}
	if eff.Evicted > 0 {
		p.s.fail("%d deliveries were evicted although there was room", eff.Evicted)
	}
}

// forget drops the record of a cleared alarm that nobody is owed.
func (p *process) forget(id string) {
	a := p.known[id]
	if a == nil || a.Standing() {
		return
	}
	for _, sub := range p.subs {
		if _, _, ok := sub.machine.Pair(id); ok {
			return
		}
	}
	delete(p.known, id)
	p.outbox.put(place{"", id}, nil)
}

func (p *process) committed(seq uint64) {
	for _, sub := range p.subs {
		sub.machine.Committed(seq, delivery.Commit{}, p.now())
		p.tick(sub)
	}
}

func (p *process) tickIn(sub *subscriber, d time.Duration) {
	sub.waking++
	waking := sub.waking
	p.s.after(d, "", func() {
		if !p.dead && sub.waking == waking {
			p.tick(sub)
		}
	})
}

// tick starts what is due.
func (p *process) tick(sub *subscriber) {
	eff := sub.machine.Tick(p.now())
	for _, start := range eff.Start {
		p.request(sub, start)
	}
	p.s.check.machine(sub)
	if !eff.Wake.IsZero() {
		p.tickIn(sub, eff.Wake.Sub(p.now()))
	}
}

// request makes one call, and judges its answer or that none came in time.
func (p *process) request(sub *subscriber, start delivery.Start) {
	s, a := p.s, p.reordered(sub, start.Alarm)
	s.report.Attempts++
	s.check.started(sub, a)
	answered := false
	result := func(o delivery.Outcome) {
		if answered || p.dead {
			return
		}
		answered = true
		delete(sub.flying, a.ID)
		s.trace("%s: %s %s %s", sub.c.sub.Name, a.Revision, a.Key.Resource, o.Verdict)
		eff := sub.machine.Result(a.ID, o, p.now())
		if o.Verdict == delivery.Settled {
			s.report.Settled++
			sub.told[a.ID] = a.Revision
		}
		if eff.Paused {
			sub.c.unsubscribed = true
		}
		p.save(sub, eff)
		p.tick(sub)
	}
	s.after(requestTimeout, "", func() {
		result(delivery.Outcome{Verdict: delivery.Retry, Err: "no answer"})
	})
	sub.c.receive(notificationOf(sub.c.sub, a), func(status int, retryAfter string) {
		if status == 0 {
			result(delivery.Outcome{Verdict: delivery.Retry, Err: "the connection broke"})
		} else {
			result(delivery.Classify(status, retryAfter, p.now()))
		}
	})
	if s.cfg.Bug == SendsTwice && s.chance(0.01) {
		p.request(sub, start)
	}
}

// reordered is a bug, when it is asked for: an older revision in a newer one's place.
func (p *process) reordered(sub *subscriber, a *correlate.Alarm) *correlate.Alarm {
	if p.s.cfg.Bug != Reorders {
		return a
	}
	if was := sub.older; was != nil && was.ID == a.ID {
		return was
	}
	if sub.older == nil || p.s.chance(0.1) {
		sub.older = a
	}
	return a
}

// acknowledgeLost is an operator who knows of everything that a fault took away.
func (p *process) acknowledgeLost() {
	for _, a := range p.engine.Alarms() {
		if a.Lost {
			p.acknowledge(a)
		}
	}
}

func (p *process) acknowledge(a *correlate.Alarm) {
	eff, err := p.engine.Ack(p.s.clock(), a.ID, "operator", "")
	if err != nil {
		p.s.fail("acknowledge what stands: %v", err)
	}
	p.act(eff)
}
