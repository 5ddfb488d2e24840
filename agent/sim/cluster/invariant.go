package cluster

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/paramedic-ha/paramedic/agent/ledger"
	"github.com/paramedic-ha/paramedic/correlate"
	"github.com/paramedic-ha/paramedic/gossip"
	"github.com/paramedic-ha/paramedic/gossip/simnet"
	"github.com/paramedic-ha/paramedic/notify"
)

// checker holds what must always be true.
type checker struct {
	s         *simulation
	parted    bool
	healed    time.Duration     // when the last partition ended
	ofSources int               // revisions that were published, but for those about the cluster itself: what it knows of peers comes bit by bit
	terms     map[string]uint64 // the highest that each host has taken
	blind     map[string]bool   // hosts that could not learn their term from anybody, and took one that they had before
	highest   map[string]correlate.Revision
	notified  map[string]notification // by id
	ids       map[string]string       // by what the id is a function of
	asked     map[string]bool         // notification ids that homes have asked peers to send
	residue   map[string]bool         // alarms that nobody held any more, or that share their numbers with one of a former life
	forgotten map[string]bool         // hosts, at any time
	homes     map[string]string       // of alarms
}

func newChecker(s *simulation) *checker {
	return &checker{
		s: s, terms: map[string]uint64{}, blind: map[string]bool{}, highest: map[string]correlate.Revision{},
		notified: map[string]notification{}, ids: map[string]string{}, asked: map[string]bool{},
		residue: map[string]bool{}, forgotten: map[string]bool{}, homes: map[string]string{},
	}
}

// term: the terms of a host only grow, over all its lives, as far as anybody could tell it.
func (c *checker) term(a *agent, term uint64) {
	h := a.h
	if term%2 != 0 {
		c.s.fail("%s takes term %d, which is its speakers'", h.name, term)
	}
	if seen := a.level.replica.SeenTerm(); term <= seen {
		c.s.fail("%s takes term %d, although it was shown %d", h.name, term, seen)
	}
	if term > c.terms[h.name] {
		c.terms[h.name] = term
		delete(c.blind, h.name)
		return
	}
	if !c.parted && c.s.net.Link == simnet.LAN && c.s.now()-c.healed > 5*time.Second && (a.heard || a.level.inSync) && len(c.s.begun()) > 0 &&
		!slices.ContainsFunc(c.s.begun(), func(b *agent) bool { return b.level.knows(h.name) < c.terms[h.name] }) {
		c.s.fail("%s takes term %d, and has had %d", h.name, term, c.terms[h.name])
	}
	c.s.trace("%s could not learn that it has had term %d", h.name, c.terms[h.name])
	c.blind[h.name] = true
}

// knows is the highest term of a host that the replica holds.
func (l *level) knows(node string) (term uint64) {
	for r := range l.replica.Records() {
		if r.Space == node {
			term = max(term, r.Version.A)
		}
	}
	return term
}

// published: revisions of a home only grow, over all its lives.
func (c *checker) published(a *agent, changes []correlate.Change) {
	for _, ch := range changes {
		al := ch.Alarm
		if al.Key.Home != a.h.name {
			c.s.fail("%s speaks of %s of %s", a.h.name, al.Key.Resource, al.Key.Home)
		}
		c.homes[al.ID] = a.h.name
		if al.Source != ledger.Source {
			c.ofSources++
		}
		if al.Revision.Compare(c.highest[a.h.name]) <= 0 {
			if !c.blind[a.h.name] {
				c.s.fail("%s: revision %s of %s comes after %s", a.h.name, al.Revision, al.Key.Resource, c.highest[a.h.name])
			}
			c.residue[al.ID] = true
			continue
		}
		c.highest[a.h.name] = al.Revision
	}
}

// started: one request per alarm and eight per subscription at once; what was told is not told again.
func (c *checker) started(w *worker, a *correlate.Alarm) {
	if w.flying[a.ID] && !w.n.a.late { // what is adopted late begins anew beside what is under way
		c.s.fail("%s: two requests to %s at once about %s", w.n.a.h.name, w.sub.Name, a.ID)
	}
	if r, _, _ := w.machine.Pair(a.ID); !c.residue[a.ID] && r.Told.Compare(a.Revision) >= 0 {
		c.s.fail("%s: %s is sent revision %s of %s, and was told %s", w.n.a.h.name, w.sub.Name, a.Revision, a.Key.Resource, r.Told)
	}
	if w.sub.Paused != "" {
		c.s.fail("%s: %s is sent something although it is paused", w.n.a.h.name, w.sub.Name)
	}
}

// machine: queues are bounded, and the counts are true.
func (c *checker) machine(w *worker) {
	if owed, parked, flying := w.machine.Counts(); parked > owed || flying > 8 || owed > 4096 {
		c.s.fail("%s: %s: %d owed, %d parked, %d in flight", w.n.a.h.name, w.sub.Name, owed, parked, flying)
	}
}

// content: a notification id is a function of alarm, revision, subscription and version, and has one content, whoever sends
// it. Nobody speaks for a home unasked.
func (c *checker) content(to *consumer, n notification) {
	if n.from != n.home && !c.asked[n.id] {
		c.s.fail("%s speaks to %s for %s, which did not ask for it", n.from, to.name, n.home)
	}
	if c.residue[n.alarm] {
		return
	}
	of := fmt.Sprintf("%s %s %s %d", n.alarm, n.revision, n.sub, n.version)
	if id, ok := c.ids[of]; ok && id != n.id {
		c.s.fail("%s is told %s under two ids", to.name, of)
	}
	c.ids[of] = n.id
	is := n
	is.from = ""
	if was, ok := c.notified[n.id]; ok && was != is {
		c.s.fail("%s got notification %s with two contents: %s of %s and %s of %s", to.name, n.id, was.revision, was.alarm, n.revision, n.alarm)
	}
	c.notified[n.id] = is
}

// persisted notes who keeps a subscription, or the word of its end.
func (c *checker) persisted(h *host, all []gossip.Record) {
	for _, r := range all {
		for _, w := range c.s.wishes {
			if r.Kind == gossip.KindSubscription && r.ID == w.id && !w.file && r.Deleted == w.removing {
				w.holders[h] = true
			}
		}
	}
}

// reimaged notes what nobody keeps any more.
func (c *checker) reimaged(h *host) {
	for _, w := range c.s.wishes {
		delete(w.holders, h)
		if w.file || !w.acked || len(w.holders) > 0 || slices.ContainsFunc(c.s.live(), func(a *agent) bool {
			return a.word(w.id).Compare(w.latest) >= 0
		}) {
			continue
		}
		c.s.trace("nobody holds the last word about %s any more", w.name)
		w.lost = true
	}
}

// lost notes the alarms that consumers hold and nobody else any more.
func (c *checker) lost(*host) {
	live := c.s.live()
	for _, w := range c.s.wishes {
		for id, h := range w.to.holds {
			if c.residue[id] || c.held(live, id, h) && (!h.standing || c.toldHeld(live, w, id, h)) {
				continue
			}
			if !h.standing { // the clear came before its commit: the home may believe that it stands
				home := c.host(h.home)
				if _, older := home.disk.alarms[id]; !older && !slices.ContainsFunc(live, func(a *agent) bool { return a.ledger.Alarm(id) != nil }) {
					continue
				}
			}
			c.residue[id] = true
			c.s.report.Residue++
		}
	}
}

func (c *checker) held(live []*agent, id string, h held) bool {
	if home := c.host(h.home); home != nil {
		if k, ok := home.disk.alarms[id]; ok && k.Alarm.Revision.Compare(h.revision) >= 0 {
			return true
		}
		if a := home.agent; a != nil {
			if k, ok := a.notifier.alarms[id]; ok && k.Alarm.Revision.Compare(h.revision) >= 0 {
				return true
			}
		}
	}
	return slices.ContainsFunc(live, func(a *agent) bool {
		seen := a.ledger.Alarm(id)
		return seen != nil && seen.Revision.Compare(h.revision) >= 0
	})
}

// toldHeld: somebody knows that the consumer was told, or was to be. A filter that was changed since does not tell.
func (c *checker) toldHeld(live []*agent, w *wish, id string, h held) bool {
	if c.s.now()-w.made < 10*time.Second { // it was in the snapshot, perhaps
		return true
	}
	home := c.host(h.home)
	if _, ok := home.disk.pairs[pair{w.id, id}]; ok {
		return true
	}
	if home.agent != nil {
		if one := home.agent.notifier.workers[w.id]; one != nil {
			if _, _, ok := one.machine.Pair(id); ok {
				return true
			}
		}
	}
	return slices.ContainsFunc(live, func(a *agent) bool {
		_, ok := a.level.replica.Get(gossip.Key{Space: h.home, Kind: gossip.KindDelivery, ID: w.id + "/" + id})
		return ok
	})
}

func (c *checker) host(name string) *host {
	if i := slices.IndexFunc(c.s.hosts, func(h *host) bool { return h.name == name }); i >= 0 {
		return c.s.hosts[i]
	}
	return nil
}

// purged: what a host gives up it has restated before, or it has told all who believe in it.
func (c *checker) purged(at *agent, r gossip.Record) {
	h := c.host(r.Space)
	if r.Space == gossip.Shared || c.forgotten[r.Space] || h == nil || h.agent == nil || at == h.agent {
		return
	}
	a := h.agent
	switch r.Kind { //nolint:exhaustive // the rest nobody misses
	case gossip.KindDomain:
		for _, d := range c.s.domains {
			if d.uuid == r.ID && d.at == h && !a.stated["virt"] && c.s.now()-a.born < restatedWithin+gossip.FloorDelay {
				c.s.fail("%s gives up %s, of which its sources have not spoken yet", h.name, d.name)
			}
		}
	case gossip.KindAlarm:
		if _, knows := a.notifier.alarms[r.ID]; knows || a.engine == nil || c.residue[r.ID] {
			return
		}
		for _, w := range c.s.wishes {
			if w.to.holds[r.ID].standing && !w.ended && !w.unsure && !w.lost && !w.to.left && w.acked {
				c.s.fail("%s gives up alarm %s of a former life, in which %s believes (seen at %s)", h.name, r.ID, w.name, at.h.name)
			}
		}
	}
}

// settled checks what must hold when all has calmed down: all hold the same, and everybody knows the newest of what
// concerns him.
func (c *checker) settled() {
	s := c.s
	all := s.begun()
	for _, h := range s.hosts {
		if !h.gone && (h.agent == nil || h.agent.engine == nil) {
			s.fail("%s does not run", h.name)
		}
	}
	for _, a := range all[1:] {
		if a.level.replica.Root() != all[0].level.replica.Root() {
			s.fail("%s and %s do not hold the same:\n%s", all[0].h.name, a.h.name, differences(all[0], a))
		}
	}
	for r := range all[0].level.replica.Records() {
		if !r.Deleted && (r.Space == gossip.Shared || c.present(r.Space)) && c.present(c.homes[r.ID[strings.IndexByte(r.ID, '/')+1:]]) && (r.Kind == gossip.KindReceipt || r.Kind > gossip.KindSubscription && r.Kind < gossip.KindForget) {
			s.fail("record %d %s of %q is still there, in version %v", r.Kind, r.ID, r.Space, r.Version)
		}
	}
	for _, a := range all {
		c.view(a, all)
		c.queues(a)
	}
	for _, w := range s.wishes {
		c.wish(w, all)
	}
}

func (c *checker) present(name string) bool { h := c.host(name); return h != nil && h.agent != nil }

func differences(a, b *agent) (out string) {
	of := func(x *agent) map[gossip.Key]gossip.Version {
		m := map[gossip.Key]gossip.Version{}
		for r := range x.level.replica.Records() {
			m[r.Key] = r.Version
		}
		return m
	}
	x, y := of(a), of(b)
	for k, v := range x {
		if w, ok := y[k]; !ok || w != v {
			out += fmt.Sprintf("  %v: %v and %v (%v)\n", k, v, w, ok)
		}
	}
	for k, v := range y {
		if _, ok := x[k]; !ok {
			out += fmt.Sprintf("  %v: only the second, %v\n", k, v)
		}
	}
	return out
}

// view: what an agent would answer for the others is what they say themselves.
func (c *checker) view(a *agent, all []*agent) {
	s := c.s
	knows := map[string]*correlate.Alarm{}
	for _, al := range a.ledger.Standing() {
		knows[al.ID] = al
	}
	for _, b := range all {
		if b == a {
			continue
		}
		for _, al := range b.engine.Alarms() {
			if k := knows[al.ID]; k == nil || k.Revision != al.Revision {
				at, ok := a.level.replica.Get(gossip.Key{Space: b.h.name, Kind: gossip.KindAlarm, ID: al.ID})
				s.fail("%s does not know %s of %s %s of %s, but %v; its replica has version %v: %v", a.h.name, al.Revision, al.Key.Resource, al.Key.Condition, b.h.name, k, at.Version, ok)
			} else if (k.Ack == nil) != (al.Ack == nil) {
				s.fail("%s knows %s %s of %s acknowledged as %v, and it is as %v", a.h.name, al.Key.Resource, al.Key.Condition, b.h.name, k.Ack, al.Ack)
			} else if len(k.Comments) != len(al.Comments) {
				s.fail("%s knows %d comments on %s %s of %s, and it has %d", a.h.name, len(k.Comments), al.Key.Resource, al.Key.Condition, b.h.name, len(al.Comments))
			}
			delete(knows, al.ID)
		}
	}
	for id, al := range knows {
		if c.present(al.Key.Home) {
			s.fail("%s knows %s %s of %s (%s), which does not stand", a.h.name, al.Key.Resource, al.Key.Condition, al.Key.Home, id)
		}
	}
	for _, d := range s.domains {
		if home := a.ledger.Home(d.uuid); home != d.at.name && c.present(home) || home == "" {
			s.fail("%s takes %q for the home of %s, which is at %s", a.h.name, home, d.name, d.at.name)
		}
	}
}

// queues: nothing waits, nothing is left.
func (c *checker) queues(a *agent) {
	for _, w := range a.notifier.list() {
		owed, parked, flying := w.machine.Counts()
		if owed > 0 && w.sub.Paused == "" {
			c.s.fail("%s owes %s %d deliveries, %d parked, %d in flight", a.h.name, w.sub.Name, owed, parked, flying)
		}
	}
	standing := map[string]bool{}
	for _, al := range slices.Concat(a.engine.Alarms(), a.engine.Dismissed()) {
		standing[al.ID] = true
	}
	for id := range a.notifier.alarms {
		if !standing[id] && a.notifier.pairs[id] == 0 {
			c.s.fail("%s keeps alarm %s, which is cleared and which nobody is owed", a.h.name, id)
		}
	}
	n := 0
	for r := range a.level.replica.Records() {
		if r.Space == a.h.name {
			n++
		}
	}
	if n > 2000 {
		c.s.fail("%s has %d records of its own", a.h.name, n)
	}
}

// wish: one that was acknowledged exists everywhere, one that ended nowhere, and its consumer knows the newest.
func (c *checker) wish(w *wish, all []*agent) {
	s := c.s
	var has []*agent
	for _, a := range all {
		if a.notifier.workers[w.id] != nil {
			has = append(has, a)
		}
	}
	switch {
	case w.lost:
		return
	case w.ended && !w.unsure && len(has) > 0 && (!w.file || !c.namedByTheAbsent(w)):
		s.fail("%s has ended, and %s still has it", w.name, has[0].h.name)
	case len(has) > 0 && len(has) < len(all):
		s.fail("%s is known at %d of %d hosts, for instance at %s", w.name, len(has), len(all), has[0].h.name)
	case len(has) == 0 && w.acked && !w.ended && !w.unsure && (!w.to.left || w.file):
		s.fail("%s was acknowledged, and is lost", w.name)
	}
	if len(has) == 0 {
		return
	}
	versions := map[uint64]string{}
	for _, a := range has {
		sub := a.notifier.workers[w.id].sub
		if sub.Origin != notify.OriginFile {
			versions[sub.Version] = a.h.name
		}
		if sub.Paused != "" {
			s.fail("%s is paused at %s: %s", w.name, a.h.name, sub.Paused)
		}
	}
	if len(versions) > 1 {
		s.fail("hosts disagree about %s: %v", w.name, versions)
	}
	if w.acked && !w.unsure {
		for _, a := range has {
			c.knows(w, a)
		}
	}
}

// namedByTheAbsent says that the file of a host that is gone names a subscription still.
func (c *checker) namedByTheAbsent(w *wish) bool {
	for r := range c.s.begun()[0].level.replica.Records() {
		if r.Kind == gossip.KindFileWish && r.ID == w.id && !r.Deleted && !c.present(r.Space) {
			return true
		}
	}
	return false
}

// knows: the consumer has the newest revision of each alarm of a home that it wants, and of each that it was told of.
func (c *checker) knows(w *wish, a *agent) {
	s, sub := c.s, a.notifier.workers[w.id].sub
	standing := map[string]bool{}
	for _, al := range a.engine.Alarms() {
		standing[al.ID] = true
		h := w.to.holds[al.ID]
		if al.Under == "" && (h.standing || sub.Wants(al, nil, false, false)) && h.revision != al.Revision && !c.residue[al.ID] {
			s.fail("%s holds %s (standing: %v) of %s %s of %s (%s), which is at %s", w.name, h.revision, h.standing, al.Key.Resource, al.Key.Condition, a.h.name, al.ID, al.Revision)
		}
	}
	for _, id := range slices.Sorted(maps.Keys(w.to.holds)) {
		if h := w.to.holds[id]; h.standing && h.home == a.h.name && !standing[id] && !c.residue[id] && !c.forgotten[h.home] {
			s.fail("%s holds %s of alarm %s of %s, which no longer stands", w.name, h.revision, id, h.home)
		}
	}
}

// quiet: when nothing happens, nothing is written.
func (c *checker) quiet(d time.Duration) {
	root, requests := c.s.begun()[0].level.replica.Root(), c.s.report.Requests
	c.s.run(d)
	if c.s.begun()[0].level.replica.Root() != root {
		c.s.fail("nothing happens, and yet something is written")
	}
	if n := c.s.report.Requests - requests; n > 0 {
		c.s.fail("nothing happens, and yet consumers are told %d times", n)
	}
}

// nothingStands: all is healed, and all have been told.
func (c *checker) nothingStands() {
	for _, a := range c.s.begun() {
		for _, al := range a.engine.Alarms() {
			if al.Source != "cluster" {
				c.s.fail("all is well, and yet %s has %s %s", a.h.name, al.Key.Resource, al.Key.Condition)
			}
		}
	}
}
