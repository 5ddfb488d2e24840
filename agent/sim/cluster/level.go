package cluster

import (
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/paramedic-ha/paramedic/agent/ledger"
	"github.com/paramedic-ha/paramedic/gossip"
	"github.com/paramedic-ha/paramedic/gossip/simnet"
)

// level keeps the replica level with those of the peers, as gossip.Replicator does, and the file of the shared records.
type level struct {
	a       *agent
	replica *gossip.Replica
	members []*host // as the membership last told; it learns of changes within a second
	inSync  bool
	soon    bool

	changed, purged, own map[gossip.Key]gossip.Record
	ownTerm              uint64

	waits    bool // a write of the file is planned
	saves    int
	finished int
}

func newLevel(a *agent) *level {
	r, err := gossip.New(gossip.Config{Self: a.h.name})
	if err != nil {
		a.s.fail("make a replica: %v", err)
	}
	l := &level{a: a, replica: r}
	r.Restore(a.h.clock(), a.h.disk.saved, a.h.disk.shared)
	var all gossip.Result
	for rec := range r.Records() {
		all.Changed = append(all.Changed, rec)
	}
	l.tell(all)
	return l
}

func (l *level) start() {
	a := l.a
	a.h.node.Receive = l.receive
	var tick func()
	tick = func() {
		l.look()
		res := l.replica.Tick(a.h.clock())
		l.push(res.Changed)
		l.tell(res)
		l.exchange()
		a.after(simnet.ExchangeEvery, tick)
	}
	a.after(a.s.between(0, time.Second), tick)
	a.after(a.s.between(10*time.Millisecond, 300*time.Millisecond), func() { l.look(); l.exchange() }) // it joins
}

// look asks the membership, which is not simulated: it knows who is connected.
func (l *level) look() {
	var now []*host
	for _, h := range l.a.s.hosts {
		if h != l.a.h && h.agent != nil && l.a.s.net.Connected(h.node, l.a.h.node) {
			now = append(now, h)
		}
	}
	if len(now) > len(l.members) {
		l.hurry()
	}
	l.members = now
}

func (l *level) hurry() {
	if l.soon {
		return
	}
	l.soon = true
	l.a.after(l.a.s.between(25*time.Millisecond, 75*time.Millisecond), func() { l.soon = false; l.exchange() })
}

func (l *level) exchange() {
	if len(l.members) > 0 {
		l.a.h.node.Send(pick(l.a.s, l.members).node, l.replica.Digest(l.a.h.clock()))
	}
}

func (l *level) receive(from *simnet.Node, msg []byte) {
	a := l.a
	if len(l.members) == 0 { // it has joined us
		l.look()
	}
	if t, err := gossip.TypeOf(msg); err == nil && t >= gossip.TypeReserved {
		a.relay.heard(from, msg)
		return
	}
	if a.s.cfg.Bug == KeepsOlder {
		msg = l.withoutNewer(msg)
	}
	res, err := l.replica.Handle(a.h.clock(), from.Name, msg)
	if err != nil {
		a.s.fail("%s can't read what %s sent: %v", a.h.name, from.Name, err)
	}
	for _, reply := range res.Replies {
		a.h.node.Send(from, reply)
	}
	l.tell(res)
	l.inSync = l.inSync || res.InSync
	if res.Repair && len(res.Changed) > 0 {
		l.hurry()
	}
}

// withoutNewer is a bug: of some keys a record is never replaced.
func (l *level) withoutNewer(msg []byte) []byte {
	records, err := gossip.DecodeRecords(msg)
	if err != nil {
		return msg
	}
	n := len(records)
	records = slices.DeleteFunc(records, func(r gossip.Record) bool {
		_, known := l.replica.Get(r.Key)
		return known && r.Kind == gossip.KindAlarm && r.ID[0] < '8'
	})
	if len(records) == n {
		return msg
	}
	all := gossip.EncodeRecords(records, 1<<20)
	if len(all) == 0 {
		return l.replica.Digest(l.a.h.clock())
	}
	return all[0]
}

func (l *level) push(records []gossip.Record) {
	if len(records) == 0 {
		return
	}
	for _, m := range gossip.EncodeRecords(records, simnet.Datagram) {
		for _, to := range l.members {
			l.a.h.node.Send(to.node, m)
		}
	}
}

// tell is the watcher.
func (l *level) tell(res gossip.Result) {
	for _, r := range res.Changed {
		put(&l.changed, r.Key, r)
		delete(l.purged, r.Key)
	}
	for _, r := range res.Purged {
		l.a.s.check.purged(l.a, r)
		put(&l.purged, r.Key, r)
		delete(l.changed, r.Key)
	}
	for _, r := range res.Own {
		put(&l.own, r.Key, r)
	}
	l.ownTerm = max(l.ownTerm, res.OwnTerm)
	if slices.ContainsFunc(slices.Concat(res.Changed, res.Purged), func(r gossip.Record) bool { return r.Space == gossip.Shared }) {
		l.touch()
	}
	if len(res.Changed)+len(res.Purged)+len(res.Own) > 0 || res.OwnTerm != 0 {
		l.a.kick()
	}
}

func (l *level) watched() (gossip.Changes, bool) {
	c := gossip.Changes{Changed: listed(l.changed), Purged: listed(l.purged), Own: listed(l.own), OwnTerm: l.ownTerm}
	l.changed, l.purged, l.own, l.ownTerm = nil, nil, nil, 0
	return c, len(c.Changed)+len(c.Purged)+len(c.Own) > 0 || c.OwnTerm != 0
}

func listed(m map[gossip.Key]gossip.Record) []gossip.Record {
	all := make([]gossip.Record, 0, len(m))
	for _, r := range m {
		all = append(all, r)
	}
	slices.SortFunc(all, func(a, b gossip.Record) int {
		return strings.Compare(a.Space+"\x00"+string(rune(a.Kind))+a.ID, b.Space+"\x00"+string(rune(b.Kind))+b.ID)
	})
	return all
}

// knowledge is how much a replica has of one host's records, as agent/cluster's.
type knowledge struct {
	Settled bool
	Records int
	Newest  gossip.Version
}

func (l *level) knowledgeOf(name string) (k knowledge) {
	for r := range l.replica.Records() {
		if r.Space == name {
			k.Records++
			if r.Version.Compare(k.Newest) > 0 {
				k.Newest = r.Version
			}
		}
	}
	return k
}

func (l *level) setTerm(term uint64) {
	res, err := l.replica.SetTerm(l.a.h.clock(), term)
	if err != nil {
		l.a.s.fail("%s takes term %d: %v", l.a.h.name, term, err)
	}
	l.push(res.Changed)
	l.tell(res)
}

// write is Cluster.flush. An error is that of shared records; the own ones must not fail.
func (l *level) write(writes []ledger.Write) (err error) {
	var res gossip.Result
	now := l.a.h.clock()
	for _, w := range writes {
		var rec gossip.Record
		var changed bool
		var e error
		switch shared := w.Kind >= gossip.KindShared; {
		case shared && w.Delete:
			if l.a.s.cfg.Bug == LostTombstone && l.a.s.chance(0.3) {
				continue
			}
			rec, changed, e = l.replica.DeleteShared(now, w.Kind, w.ID)
		case shared:
			rec, changed, e = l.replica.SetShared(now, w.Kind, w.ID, w.Payload)
		case w.Delete:
			rec, changed, e = l.replica.Delete(now, w.Kind, w.ID)
		default:
			rec, changed, e = l.replica.Set(now, w.Kind, w.ID, w.Payload)
		}
		switch {
		case errors.Is(e, gossip.ErrClock):
			err = errors.Join(err, e)
		case e != nil:
			l.a.s.fail("%s can't write record %d %s: %v", l.a.h.name, w.Kind, w.ID, e)
		case changed:
			res.Changed = append(res.Changed, rec)
		}
	}
	l.push(res.Changed)
	l.tell(res)
	return err
}

// touch has the file written within a second or so.
func (l *level) touch() {
	if !l.waits {
		l.waits = true
		l.a.after(time.Second, func() { l.waits = false; l.save(func() {}) })
	}
}

// save calls done when all that the replica holds of shared records is on disk.
func (l *level) save(done func()) {
	a := l.a
	var all []gossip.Record
	for r := range l.replica.Records() {
		if r.Space == gossip.Shared {
			all = append(all, r)
		}
	}
	saved := a.h.clock()
	l.saves++
	turn := l.saves
	a.after(a.s.between(time.Millisecond, 20*time.Millisecond), func() {
		if turn < l.finished { // a later one has been quicker
			done()
			return
		}
		l.finished = turn
		if a.s.cfg.Bug != SubscriptionNotPersisted {
			a.h.disk.shared, a.h.disk.saved = all, saved
		}
		a.s.check.persisted(a.h, all)
		done()
	})
}
