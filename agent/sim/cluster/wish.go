package cluster

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/paramedic-ha/paramedic/agent/ledger"
	"github.com/paramedic-ha/paramedic/correlate"
	"github.com/paramedic-ha/paramedic/gossip"
	"github.com/paramedic-ha/paramedic/notify"
)

// wish is a subscription as the one who made it knows it.
type wish struct {
	id       string
	name     string
	to       *consumer
	file     bool
	acked    bool // 201 was received
	ended    bool // 204 was received, or no file names it any more
	unsure   bool // an answer about its end was lost, or a word about it came to a host that did not know the one before
	lost     bool // nobody held it any more
	holders  map[*host]bool
	latest   gossip.Version // of the last word that was written about it
	removing bool
	made     time.Duration
}

var filters = []struct {
	role   notify.Role
	filter notify.Filter
}{
	{notify.RoleAdmin, notify.Filter{}},
	{notify.RoleAdmin, notify.Filter{}},
	{notify.RoleConsumer, notify.Filter{Projects: []string{"p1"}}},
	{notify.RoleAdmin, notify.Filter{MinSeverity: correlate.SeverityCritical}},
	{notify.RoleAdmin, notify.Filter{ResourceTypes: []correlate.Kind{correlate.KindDomain}}},
}

// nameInFiles gives hosts subscriptions in their files: the first host names all of them, the others some.
func (s *simulation) nameInFiles() {
	for range 1 + s.rng.IntN(2) {
		name := s.id("file")
		c := s.newConsumer(name)
		w := &wish{id: notify.FileID(label, name), name: name, to: c, file: true, acked: true, holders: map[*host]bool{}}
		s.wishes = append(s.wishes, w)
		sub := s.contents(c)
		for i, h := range s.hosts {
			if i == 0 || s.chance(0.5) {
				h.file = append(h.file, sub)
			}
		}
	}
}

func (s *simulation) contents(c *consumer) notify.Subscription {
	f := pick(s, filters)
	return notify.Subscription{
		Name: c.name, Endpoints: []string{c.endpoint}, Role: f.role, Filter: f.filter, Format: notify.FormatNative,
		Secret: notify.NewSecret([]byte(fmt.Sprintf("%-24s", c.name))),
	}
}

// word is what was last written about a subscription of the API, as a host knows it.
func (a *agent) word(id string) gossip.Version {
	for r := range a.level.replica.Records() {
		if r.Kind == gossip.KindSubscription && r.ID == id {
			return r.Version
		}
	}
	return gossip.Version{}
}

func nextVersion(old uint64, now time.Time) uint64 {
	return max(old+1, uint64(max(0, now.UnixMicro()))) //nolint:gosec // not negative
}

// subscribe is Notifier.Subscribe and Cluster.Publish.
func (a *agent) subscribe() *wish {
	s := a.s
	c := s.newConsumer(s.id("api"))
	for _, h := range s.hosts {
		if s.chance(0.1) {
			c.cut[h] = silent
		}
	}
	sub := s.contents(c)
	sub.ID = s.id("00000000-0000-4000-9000-0000")
	sub.Version, sub.Origin, sub.Created = nextVersion(0, a.h.clock()), notify.OriginAPI, a.h.clock()
	w := &wish{id: sub.ID, name: sub.Name, to: c, holders: map[*host]bool{}, made: s.now()}
	w.unsure = a.h.wrong()
	s.wishes = append(s.wishes, w)

	others := a.ledger.Standing()
	n := a.notifier
	worker := n.prepare(sub, kept{})
	worker.awaited = map[string]correlate.Revision{}
	n.workers[sub.ID] = worker
	n.box.put(place{sub.ID, ""}, worker.record())
	told := map[string]correlate.Revision{}
	snapshot := map[string]held{}
	for _, k := range n.standing() {
		if al := k.Alarm; al.Standing() && sub.Wants(al, nil, false, false) {
			told[al.ID], snapshot[al.ID] = al.Revision, held{al.Key.Home, al.Revision, true}
			worker.note(al.ID, al.Revision)
		}
	}
	for _, al := range others {
		if _, own := told[al.ID]; !own && al.Standing() && sub.Wants(al, nil, false, false) {
			told[al.ID], snapshot[al.ID] = al.Revision, held{al.Key.Home, al.Revision, true}
		}
	}
	if a.s.cfg.Bug == SnapshotWithoutTold {
		told = nil
	}
	o, err := a.ledger.Publish(a.even(), sub, told)
	a.order(o)
	if err == nil {
		err = a.flush()
	}
	if err != nil {
		s.trace("%s: subscribe %s: %v", a.h.name, sub.Name, err)
		n.end(worker)
		w.ended, w.unsure = true, true
		return w
	}
	w.latest = a.word(sub.ID)
	s.trace("%s: subscribe %s, snapshot of %d", a.h.name, sub.Name, len(snapshot))
	a.level.save(func() {
		w.acked = true
		w.holders[a.h] = true
		s.after(s.between(100*time.Microsecond, 5*time.Millisecond), func() {
			for _, id := range slices.Sorted(maps.Keys(snapshot)) {
				c.know(id, snapshot[id])
			}
		})
	})
	return w
}

// update is Notifier.Update; paused says that the pause is spoken of.
func (a *agent) update(w *wish, paused bool, change func(*notify.Subscription)) bool {
	s, n := a.s, a.notifier
	worker := n.workers[w.id]
	if worker == nil {
		return false
	}
	old := worker.sub
	sub := old
	change(&sub)
	if sub.Origin == notify.OriginAPI && digest(old) != digest(sub) {
		sub.Version = nextVersion(sub.Version, a.h.clock())
	}
	if !w.file && (a.h.wrong() || a.word(w.id).Compare(w.latest) < 0) {
		w.unsure = true
	}
	if paused || sub.Version != old.Version {
		o, err := a.ledger.Publish(a.even(), sub, nil)
		a.order(o)
		if err == nil {
			err = a.flush()
		}
		if err != nil {
			s.trace("%s: update %s: %v", a.h.name, w.name, err)
			return false
		}
		w.latest = a.word(w.id)
	}
	s.trace("%s: update %s to version %d, paused %q", a.h.name, w.name, sub.Version, sub.Paused)
	a.level.save(func() {
		if n.workers[w.id] != worker {
			return
		}
		if current := worker.sub; current.Origin == notify.OriginAPI && current.Version <= sub.Version || current.Version == sub.Version {
			n.change(worker, sub)
		}
		if paused && sub.Paused == "" {
			put(&a.mail.refused, w.id, refusal{sub.Version, ""})
			a.kick()
		}
	})
	return true
}

// unsubscribe is Notifier.Unsubscribe.
func (a *agent) unsubscribe(w *wish) bool {
	s, n := a.s, a.notifier
	worker := n.workers[w.id]
	if worker == nil || worker.sub.Origin != notify.OriginAPI {
		return false
	}
	if a.word(w.id).Compare(w.latest) < 0 {
		w.unsure = true
	}
	w.unsure = w.unsure || a.h.wrong()
	sure := !w.unsure
	w.unsure = true // until the answer is there: it may be lost
	a.step(func(now time.Time, l *ledger.Ledger) ledger.Orders { return l.Withdraw(now, w.id) })
	if err := a.flush(); err != nil {
		s.trace("%s: unsubscribe %s: %v", a.h.name, w.name, err)
		return false
	}
	if s.cfg.Bug != LostTombstone {
		w.latest = a.word(w.id)
	}
	w.removing = true
	s.trace("%s: unsubscribe %s", a.h.name, w.name)
	a.level.save(func() {
		if n.workers[w.id] == worker {
			n.end(worker)
		}
		w.ended, w.unsure = true, !sure
		w.holders = map[*host]bool{a.h: true}
	})
	return true
}

// say is an operator's word at any host about any alarm.
func (a *agent) say(kind gossip.Kind, alarm *correlate.Alarm) bool {
	word := ledger.Saying{Kind: kind, AlarmID: alarm.ID, By: a.s.id("operator"), Text: "looked at it", At: a.even()}
	if alarm.Key.Home == a.h.name {
		if a.engine == nil {
			return false
		}
		eff, err := word.Apply(a.engine, a.even())
		if err != nil {
			return false
		}
		a.act(eff)
		return true
	}
	o, err := a.ledger.Say(a.even(), word)
	a.order(o)
	if err == nil {
		err = a.flush()
	}
	a.s.trace("%s: word %d about %s of %s by %s: %v", a.h.name, kind, alarm.ID[:8], alarm.Key.Home, word.By, err)
	return err == nil
}
