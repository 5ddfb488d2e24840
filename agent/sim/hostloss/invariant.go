package hostloss

import (
	"time"

	"github.com/paramedic-ha/paramedic/gossip/watch"
)

// Bounds on how long what must come may take, without a disturbance.
const (
	probableWithin  = 1500 * time.Millisecond
	confirmedWithin = 2500 * time.Millisecond
	silentWithin    = 4 * time.Second
	isolatedWithin  = 3 * time.Second
	rejoinWithin    = 5 * time.Second
	toldWithin      = 5 * time.Second
	acquainted      = 12 * time.Second // whoever has been there for so long is known to all
)

// death is one host's, for which verdicts are due.
type death struct {
	host    *host
	session uint32
	at      time.Duration
	term    uint64
	alone   bool // nothing else was wrong at the time
	levels  map[watch.Level]time.Duration
	called  map[watch.Level]map[*consumer]bool
	spoke   map[watch.Level]int
	doubled map[watch.Level]bool
}

// declaration is what a verdict is about.
type declaration struct {
	host int32
	term uint64
}

// checker knows the truth, and what must follow from it.
type checker struct {
	s         *simulation
	deaths    map[*host]*death // the latest
	standing  map[[2]int32]watch.Level
	disturbed time.Duration // when all may last have been out of order
	declared  map[declaration]watch.Level
	counted   map[string]time.Duration
	measuring bool // false verdicts are counted, and break nothing
}

func newChecker(s *simulation) *checker {
	return &checker{s: s, deaths: map[*host]*death{}, standing: map[[2]int32]watch.Level{}, counted: map[string]time.Duration{}, declared: map[declaration]watch.Level{}}
}

// disturb says that until then nothing need come in time.
func (c *checker) disturb(until time.Duration) { c.disturbed = max(c.disturbed, until) }

func levelName(l watch.Level) string {
	return [...]string{"none", "silent", "hung", "probable", "confirmed"}[min(int(l), 4)]
}

// verdict judges one.
func (c *checker) verdict(o *host, v watch.Verdict) {
	s, x := c.s, c.s.host(v.Host)
	c.standing[[2]int32{o.id, x.id}] = v.Level
	count := func(why string) { c.count(x, levelName(v.Level)+": "+why) }
	if x == o {
		s.fail("%s has a verdict about itself", o.name)
	}
	if o.view[x.id].left == watch.LeftShutdown && !o.dirty {
		s.fail("%s declares %s %s, which has said that it goes down", o.name, x.name, levelName(v.Level))
	}
	about := declaration{x.id, v.Term}
	c.declared[about] = max(c.declared[about], v.Level)
	if v.Level < watch.LevelProbable {
		c.silence(o, x, v, count)
		return
	}
	reached, roster := s.reach(o)
	alone := roster == 2 && v.Level == watch.LevelProbable && !s.cfg.Witness // it may say so, and no more
	if 2*reached <= roster && !c.recentlyWhole(o) && !alone {
		s.fail("%s reaches %d of %d, and declares %s %s", o.name, reached, roster, x.name, levelName(v.Level))
	}
	switch kind, ok := x.excused(v.Level); {
	case !x.up && x.left == watch.LeftShutdown:
		if !s.net.parts && c.disturbed < s.now && s.now-x.diedAt > 2*time.Second {
			s.fail("%s declares %s %s, which went down with a goodbye", o.name, x.name, levelName(v.Level))
		}
		count("its goodbye was not heard")
	case !x.up:
		count("true")
		c.trueVerdict(x, v.Level)
	case ok:
		count(kind)
	case s.cfg.Hosts == 2 && v.Level == watch.LevelProbable: // of two alone nobody knows whose trouble it is
		count("of two")
	default:
		count("false")
		if !c.measuring {
			s.fail("%s declares %s %s, which lives; it has been in trouble for %v (%s)", o.name, x.name, levelName(v.Level), first(x.excusedFor()), kind)
		}
	}
}

// count counts what several watchers say of one host at about the same time as one.
func (c *checker) count(x *host, what string) {
	key := x.name + " " + what
	if last, ok := c.counted[key]; !ok || c.s.now-last > 2*time.Second {
		c.s.report.Verdicts[what]++
	}
	c.counted[key] = c.s.now
}

func first[A, B any](a A, _ B) A { return a }

// excusedFor is for the text of a failure.
func (h *host) excusedFor() (time.Duration, string) {
	return h.stretch(250*time.Millisecond, func(k string) bool { return k != tFrozen && k != tAgent })
}

// recentlyWhole reports whether a host has been with a majority until a moment ago, so that its vote may be on its way.
func (c *checker) recentlyWhole(o *host) bool {
	for _, t := range o.troubles {
		if t.kind == tPartition && t.from < c.s.now && t.from+300*time.Millisecond >= c.s.now {
			return true
		}
	}
	return c.lost() < 500*time.Millisecond
}

// lost is how long ago the last host lost its power.
func (c *checker) lost() time.Duration {
	least := time.Duration(1 << 62)
	for _, d := range c.deaths {
		least = min(least, c.s.now-d.at)
	}
	return least
}

// silence judges a verdict that says that the agent is silent and the kernel is not.
func (c *checker) silence(_, x *host, v watch.Verdict, count func(string)) {
	switch {
	case x.left == watch.LeftStopped && c.s.now < x.stoppedAt+9*time.Minute:
		count("stopped")
		if c.disturbed < c.s.now && c.s.now > x.stoppedAt+2*time.Second {
			c.s.fail("%s is declared %s, and was stopped", x.name, levelName(v.Level))
		}
	case !x.up || !x.running || c.s.now-x.startedAt < 3*time.Second:
		count("true")
	case x.unheard() >= 1200*time.Millisecond:
		count("true")
	default:
		count("false")
		if !c.measuring {
			c.s.fail("%s is declared %s, and runs; it could not be heard for %v", x.name, levelName(v.Level), x.unheard())
		}
	}
	if d := c.deaths[x]; d != nil && x.running {
		d.levels[v.Level] = c.s.now
	}
}

// died notes a death for which verdicts are due.
func (c *checker) died(x *host) {
	s := c.s
	s.report.Deaths++
	d := &death{host: x, session: x.session, at: s.now, term: x.term, levels: map[watch.Level]time.Duration{}, called: map[watch.Level]map[*consumer]bool{}, spoke: map[watch.Level]int{}, doubled: map[watch.Level]bool{}}
	c.deaths[x] = d
	d.alone = s.now-c.lastDeath(x) > time.Second && c.disturbed < s.now && !s.net.parts
	known := s.now-x.startedAt > acquainted
	if !known || s.cfg.Hosts < 2 {
		return
	}
	c.due(d, watch.LevelProbable, probableWithin)
	if s.cfg.Hosts > 2 || s.cfg.Witness {
		c.due(d, watch.LevelConfirmed, confirmedWithin)
	}
}

func (c *checker) lastDeath(but *host) time.Duration {
	last := -time.Hour
	for h, d := range c.deaths {
		if h != but {
			last = max(last, d.at)
		}
	}
	return last
}

// due has a verdict looked for, once nothing has disturbed for as long as it may take.
func (c *checker) due(d *death, l watch.Level, within time.Duration) {
	s := c.s
	if d.host.noEcho || s.cfg.NoEcho { // all deadlines are longer
		within += 4 * s.cfg.Confirmed
	}
	var look func()
	look = func() {
		switch from := max(d.at, c.disturbed); {
		case d.levels[l] != 0 || d.host.up || d.host.session != d.session || c.deaths[d.host] != d:
			return
		case s.now < from+within:
			s.call(from+within-s.now, look)
			return
		case !c.quorate() || s.net.parts:
			s.call(time.Second, look)
			return
		}
		s.fail("%s died at %v, and is not declared %s", d.host.name, d.at, levelName(l))
	}
	s.call(within, look)
}

// quorate reports whether more than half of all run, and have for long enough to know each other.
func (c *checker) quorate() bool {
	well, all := 0, 0
	for _, h := range c.s.hosts {
		if h.gone || h.left == watch.LeftShutdown {
			continue
		}
		all++
		if h.alive() && h.left == watch.LeftNot && c.s.now-h.startedAt > acquainted && h.unheard() == 0 && !h.starved() {
			well++
		}
	}
	if all == 2 {
		return well == 1
	}
	return 2*well > all && (all > 5 || well >= all-1) && 4*well >= 3*all
}

func (c *checker) trueVerdict(x *host, l watch.Level) {
	d := c.deaths[x]
	if d == nil || d.levels[l] != 0 {
		return
	}
	d.levels[l] = c.s.now
	if l == watch.LevelConfirmed && d.levels[watch.LevelProbable] == 0 { // whoever could look late has seen both at once
		d.levels[watch.LevelProbable] = c.s.now
	}
	c.dueCalls(d, l)
	if !d.alone {
		return
	}
	switch latency := c.s.now - d.at; l {
	case watch.LevelProbable:
		c.s.report.ProbableVerdict = append(c.s.report.ProbableVerdict, latency)
	case watch.LevelConfirmed:
		c.s.report.ConfirmedVerdict = append(c.s.report.ConfirmedVerdict, latency)
	default:
	}
}

// called notes that a consumer was told of a death.
func (c *checker) called(k *consumer, x *host, term uint64, l watch.Level) {
	d := c.deaths[x]
	if d == nil || d.term > term {
		return
	}
	if d.called[l] == nil {
		d.called[l] = map[*consumer]bool{}
	}
	if d.called[l][k] {
		return
	}
	d.called[l][k] = true
	if !d.alone || x.up {
		return
	}
	switch latency := c.s.now - d.at; l {
	case watch.LevelProbable:
		c.s.report.ProbableCall = append(c.s.report.ProbableCall, latency)
	case watch.LevelConfirmed:
		c.s.report.ConfirmedCall = append(c.s.report.ConfirmedCall, latency)
	default:
	}
}

// heard: a host of which there was a verdict is back.
func (c *checker) heard(o *host, name string) {
	x := c.s.host(name)
	c.s.report.Heard++
	delete(c.standing, [2]int32{o.id, x.id})
	if late, _ := o.stretch(time.Second, func(string) bool { return true }); !x.up && c.s.now-x.diedAt > 50*time.Millisecond && late == 0 {
		c.s.fail("%s says that it hears %s, which is dead", o.name, name)
	}
}

// isolated: a host says so of itself.
func (c *checker) isolated(o *host) {
	c.s.report.Isolated++
	if !c.s.majority(o) || c.disturbed > c.s.now-2*time.Second || c.measuring {
		return
	}
	got, _ := o.stretch(1500*time.Millisecond, func(string) bool { return true })
	if got == 0 && !o.starved() && !c.s.cfg.NoEcho && c.s.net.loss <= 0.1 && c.s.now-o.startedAt > 3*time.Second && c.quorate() {
		c.s.fail("%s takes itself to be cut off, and is not", o.name)
	}
}

func (c *checker) rejoined(*host) {}

// forgets: an agent is gone, and with it what it took others for.
func (c *checker) forgets(o *host) {
	for _, x := range c.s.hosts {
		delete(c.standing, [2]int32{o.id, x.id})
	}
}

// parted: a partition has begun; whoever is then with half or less must find out.
func (c *checker) parted() {
	s := c.s
	since := s.now
	var few []*host
	for _, o := range s.living() {
		if !s.majority(o) {
			few = append(few, o)
		}
	}
	s.call(isolatedWithin, func() {
		if !s.net.parts || s.partedAt != since || s.net.loss > 0.1 {
			return
		}
		for _, o := range few {
			if !o.alive() || o.left != watch.LeftNot || o.isolated || s.majority(o) || s.now-o.startedAt < acquainted+isolatedWithin || o.unheardBut(tPartition) || o.starved() || !c.watchesAcross(o, since) {
				continue
			}
			reached, roster := s.reach(o)
			if roster == 2 && !s.cfg.Witness {
				continue
			}
			s.fail("%s reaches %d of %d for %v, and does not know that it is cut off", o.name, reached, roster, isolatedWithin)
		}
	})
}

// unheardBut reports whether a host had other trouble lately.
func (h *host) unheardBut(kind string) bool {
	got, _ := h.stretch(isolatedWithin, func(k string) bool { return k != kind })
	return got > 0
}

func (h *host) starved() bool { return h.s.now < h.starving+time.Second }

// watchesAcross reports whether a host watches one that it has lost.
func (c *checker) watchesAcross(o *host, _ time.Duration) bool {
	for _, w := range o.machine.Status(o.clock()).Observed {
		if x := c.s.host(w.Host); x.up && c.s.net.apart(o.id, x.id) && w.Silence > time.Second {
			return true
		}
	}
	return false
}

// settled is what holds when all has been calm for a while.
func (c *checker) settled() {
	s := c.s
	for _, o := range s.living() {
		if o.isolated && s.majority(o) {
			s.fail("all is calm, and %s takes itself to be cut off", o.name)
		}
		for _, x := range s.living() {
			if l := c.standing[[2]int32{o.id, x.id}]; l != watch.LevelNone && o != x {
				s.fail("all is calm, and %s has %s declared %s still", o.name, x.name, levelName(l))
			}
		}
		if o.term == 0 || o.term <= o.accused {
			s.fail("%s has term %d, and was declared lost in term %d", o.name, o.term, o.accused)
		}
		for _, w := range o.machine.Status(o.clock()).Observed {
			if x := s.host(w.Host); x.alive() && x.left == watch.LeftNot && w.Silence > 300*time.Millisecond && s.net.loss < 0.2 {
				s.fail("all is calm, and %s has not heard %s for %v", o.name, x.name, w.Silence)
			}
		}
	}
}

// dueCalls has it looked after whether all whom a death concerns were told.
func (c *checker) dueCalls(d *death, l watch.Level) {
	s := c.s
	began := s.now
	if s.cfg.WatchOnly {
		return
	}
	var look func()
	look = func() {
		switch from := max(began, c.disturbed); {
		case d.host.up || d.host.gone || d.host.session != d.session || c.deaths[d.host] != d:
			return
		case s.now < from+toldWithin:
			s.call(from+toldWithin-s.now, look)
			return
		case !c.quorate() || s.net.parts:
			s.call(time.Second, look)
			return
		}
		for _, k := range s.consumers {
			switch {
			case !k.hasVMs(d.host):
			case l >= k.least && !d.called[l][k]:
				s.fail("%s was declared %s at %v, and consumer %d is not told", d.host.name, levelName(l), began, k.id)
			case d.host.debt != "" && !k.debts[d.host.debt]:
				s.fail("%s was declared %s at %v, and what it owed consumer %d is not delivered", d.host.name, levelName(l), began, k.id)
			}
		}
	}
	s.call(toldWithin, look)
}

// spoke: a host speaks for another one.
func (c *checker) spoke(by, x *host, term uint64, l watch.Level) {
	if l < watch.LevelProbable {
		return
	}
	d := c.deaths[x]
	if reached, roster := c.s.reach(by); 2*reached <= roster && roster > 2 && c.s.net.parts && c.declared[declaration{x.id, term}] < l {
		c.s.fail("%s reaches %d of %d, and speaks for %s in term %d, of which there is no verdict", by.name, reached, roster, x.name, term)
	}
	if d == nil || d.term != term || x.up || !d.alone || c.disturbed > c.s.now {
		return
	}
	if d.spoke[l] == 0 {
		c.s.report.Spoken++
	}
	d.spoke[l]++
}

// twice: a consumer was told what it knew.
func (c *checker) twice(of lost) {
	d := c.deaths[of.host]
	if d == nil || d.term != of.term || of.host.up || d.spoke[of.level] == 0 || d.doubled[of.level] || c.disturbed > c.s.now {
		return
	}
	d.doubled[of.level] = true
	c.s.report.Twice++
}
