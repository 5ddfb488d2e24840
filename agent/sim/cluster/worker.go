package cluster

import (
	"fmt"
	"time"

	"github.com/paramedic-ha/paramedic/correlate"
	"github.com/paramedic-ha/paramedic/notify"
	"github.com/paramedic-ha/paramedic/notify/delivery"
)

// worker is the sender's side of a subscription.
type worker struct {
	n       *notifier
	id      string
	sub     notify.Subscription
	machine *delivery.Machine
	refused uint64
	awaited map[string]correlate.Revision
	away    bool // its consumer can't be connected to from here
	guests  int
	ended   bool
	waking  uint64
	flying  map[string]bool
}

// offer owes the subscription what it wants of a batch.
func (w *worker) offer(batch []correlate.Change) {
	if w.ended {
		return
	}
	n, wrote, seq := w.n, false, uint64(0)
	for _, c := range batch {
		a := c.Alarm
		if r, given := w.awaited[a.ID]; given {
			delete(w.awaited, a.ID)
			w.note(a.ID, r)
		}
		_, owed, ok := w.machine.Pair(a.ID)
		if !w.sub.Wants(a, nil, ok, owed) {
			continue
		}
		eff := w.machine.Enqueue(c, n.a.even())
		if eff.Evicted > 0 {
			n.s.fail("%s: %d deliveries to %s were evicted", n.a.h.name, eff.Evicted, w.sub.Name)
		}
		if len(eff.Save) > 0 {
			seq, wrote = w.keep(eff), true
			if !ok {
				n.pairs[a.ID]++
			}
		}
	}
	if wrote {
		w.machine.Hold(seq, n.a.even().Add(hold))
		w.tickIn(hold)
	}
}

// keep saves what became of pairs; the peers are told the same.
func (w *worker) keep(eff delivery.Effects) (seq uint64) {
	for _, id := range eff.Remove {
		seq = w.n.box.put(place{w.id, id}, nil)
		w.n.tell(notify.Pair{Subscription: w.id, AlarmID: id, Removed: true})
	}
	for _, r := range eff.Save {
		seq = w.n.box.put(place{w.id, r.AlarmID}, r)
		w.n.tell(pairOf(w.id, r))
	}
	return seq
}

// note keeps that the consumer was given a revision in its snapshot.
func (w *worker) note(id string, r correlate.Revision) {
	if _, _, ok := w.machine.Pair(id); !ok {
		w.n.pairs[id]++
	}
	w.keep(delivery.Effects{Save: []delivery.Record{w.machine.Told(id, r, nil)}})
}

func (w *worker) record() kept {
	k := kept{sub: w.sub, refused: w.refused}
	if w.sub.Origin == notify.OriginFile {
		k.digest = digest(w.sub)
	}
	return k
}

func (w *worker) restate() {
	if w.refused != 0 {
		put(&w.n.a.mail.refused, w.id, refusal{w.refused, w.sub.Paused})
		w.n.a.kick()
	}
}

func (w *worker) tickIn(d time.Duration) {
	w.waking++
	waking := w.waking
	w.n.a.after(d, func() {
		if w.waking == waking {
			w.pump()
		}
	})
}

// pump starts what is due.
func (w *worker) pump() {
	if w.ended || !w.n.running {
		return
	}
	eff := w.machine.Tick(w.n.a.even())
	for _, start := range eff.Start {
		w.deliver(start)
	}
	w.n.s.check.machine(w)
	if !eff.Wake.IsZero() {
		w.tickIn(eff.Wake.Sub(w.n.a.even()))
	}
}

// deliver makes one request and reports what came of it.
func (w *worker) deliver(start delivery.Start) {
	n, sub := w.n, w.sub
	w.n.s.check.started(w, start.Alarm)
	w.flying[start.Alarm.ID] = true
	h := notify.HandOver{
		NotificationID: notify.NotificationID(start.Alarm.ID, start.Alarm.Revision, sub.ID, sub.Version), Subscription: sub.ID, Version: sub.Version,
		Change: start.Change, Outbox: start.Outbox, Attempt: start.Attempt, Superseded: start.Superseded,
	}
	w.send(sub, h, func(o delivery.Outcome) {
		if n.a.dead || w.ended {
			return
		}
		delete(w.flying, start.Alarm.ID)
		n.s.trace("%s: %s %s %s to %s %s by %q", n.a.h.name, start.Alarm.ID[:8], start.Alarm.Revision, start.Alarm.Last, sub.Name, o.Verdict, o.By)
		eff := w.machine.Result(start.Alarm.ID, o, n.a.even())
		if o.Verdict == delivery.Settled {
			n.s.report.Settled++
		}
		w.keep(eff)
		if eff.Paused {
			w.sub.Paused, w.refused = o.Err, w.sub.Version
			n.box.put(place{w.id, ""}, w.record())
			w.restate()
		}
		w.pump()
		n.release(eff.Remove)
	})
}

// send makes one request, from here or by a peer.
func (w *worker) send(sub notify.Subscription, h notify.HandOver, done func(delivery.Outcome)) {
	n := w.n
	retry := func(err error) {
		done(delivery.Outcome{Verdict: delivery.Retry, Err: fmt.Sprintf("not from here, nor by a peer: %v", err)})
	}
	direct := func(otherwise func()) {
		if sub.Secret.Locked() {
			otherwise()
			return
		}
		c := n.s.consumerOf(sub)
		if cut := c.cut[n.a.h]; cut != reachable || c.mood == down {
			wait := n.s.between(200*time.Microsecond, 2*time.Millisecond)
			if cut == silent {
				wait = connectTimeout
			}
			n.a.after(wait, func() { w.leave(c); otherwise() })
			return
		}
		w.away = false
		n.request(c, sub, h, requestTimeout, done)
	}
	if sub.Secret.Locked() || w.away {
		n.a.relay.handOver(h, func(o delivery.Outcome, err error) {
			if err == nil {
				done(o)
				return
			}
			direct(func() { retry(err) })
		})
		return
	}
	direct(func() {
		n.a.relay.handOver(h, func(o delivery.Outcome, err error) {
			if err == nil {
				done(o)
				return
			}
			retry(err)
		})
	})
}

// leave notes that the consumer can't be connected to; the warm keeper tries it again and again.
func (w *worker) leave(c *consumer) {
	if w.away {
		return
	}
	w.away = true
	var again func()
	again = func() {
		if w.ended || !w.away {
			return
		}
		if c.cut[w.n.a.h] == reachable && c.mood != down {
			w.away = false
			return
		}
		w.n.a.after(5*time.Second, again)
	}
	w.n.a.after(5*time.Second, again)
}
