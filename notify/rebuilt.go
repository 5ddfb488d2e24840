package notify

import (
	"strconv"
	"time"

	"github.com/google/uuid"

	"github.com/paramedic-ha/paramedic/correlate"
	"github.com/paramedic-ha/paramedic/notify/delivery"
	"github.com/paramedic-ha/paramedic/notify/format"
)

// Rebuilt is the word, owed to a consumer that keeps a list of alarms, that it should read the list anew: this host speaks for
// another one, or has lost its outbox. It is sent beside the deliveries and retried as they are, is not handed over to a peer, and is
// given up with what the consumer refuses.
type Rebuilt struct {
	ID    string    // of the notification; empty: nothing is owed
	Since time.Time `json:",omitzero"`

	next   time.Time
	tries  int
	flying bool
}

// rebuiltID is the id of that word: the same however often it is said.
func rebuiltID(home string, term uint64, subscription string) string {
	return uuid.NewSHA1(uuid.NameSpaceOID, []byte("rebuilt\x00"+home+"\x00"+strconv.FormatUint(term, 10)+"\x00"+subscription)).String()
}

// rebuild owes the word to a consumer whose form has it. Under mu.
func (w *worker) rebuild(home string, term uint64, now time.Time) {
	if !w.sub.form().Rebuilds || !w.sub.Filter.SOL.Tells(format.SOLRebuiltNotification) {
		return
	}
	w.rebuilt = Rebuilt{ID: rebuiltID(home, term, w.owner), Since: now, next: now, flying: w.rebuilt.flying}
	w.n.box.put(w.record())
	w.rewake(now)
}

// sayRebuilt starts what is due and returns when to look again; zero: not before something happens. Under mu.
func (w *worker) sayRebuilt(now time.Time) time.Time {
	r := &w.rebuilt
	if r.ID == "" || r.flying || w.halted(now) || w.sub.Locked() {
		return time.Time{}
	}
	if r.next.After(now) {
		return r.next
	}
	r.flying = true
	sub, id, since := w.sub, r.ID, r.Since
	w.n.group.Go(func() {
		body, err := sub.form().Message(format.Message{
			ID: id, Type: format.TypeRebuilt, Label: w.n.cfg.Label, Reporter: w.n.cfg.Node, Subscription: sub.ID,
			Abstract: sub.Role == RoleConsumer, At: since, SOL: w.n.cfg.SOL,
		})
		o := delivery.Outcome{Verdict: delivery.Park}
		if err != nil {
			o.Err = err.Error()
		} else {
			o = w.sender.post(w.requests, w.aims(sub), sub.request(id, body)).outcome
		}
		w.saidRebuilt(id, o)
	})
	return time.Time{}
}

// saidRebuilt takes what came of it.
func (w *worker) saidRebuilt(id string, o delivery.Outcome) {
	now := w.n.cfg.Now()
	w.mu.Lock()
	defer w.mu.Unlock()
	r := &w.rebuilt
	r.flying = false
	if r.ID == id && w.requests.Err() == nil {
		switch r.tries++; {
		case o.Verdict == delivery.Retry && now.Sub(r.Since) < w.n.cfg.MaxAge:
			r.next = now.Add(max(o.RetryAfter, delivery.DefaultConfig().Backoff(r.tries, w.n.cfg.Rand())))
		default:
			if o.Verdict != delivery.Settled {
				w.n.log.Warn("a consumer did not take that its list of alarms was rebuilt", "subscription", w.sub.Name, "error", o.Err)
			}
			*r = Rebuilt{}
			if !w.ended {
				w.n.box.put(w.record())
			}
		}
	}
	w.pump(now)
}

// spokeFor tells whoever may hold something of alarms that this host begins to speak of. Under mu.
func (n *Notifier) spokeFor(alarms []correlate.Change, now time.Time) {
	for _, w := range n.list() {
		w.mu.Lock()
		for _, c := range alarms {
			if c.Alarm == nil {
				continue
			}
			if _, _, held := w.machine.Pair(c.Alarm.ID); held {
				w.rebuild(c.Alarm.Key.Home, c.Alarm.Revision.Term, now)
				break
			}
		}
		w.mu.Unlock()
	}
}

// lose notes that what this host had told is not known any more, and tells those who are known already. Under mu.
func (n *Notifier) lose(now time.Time) {
	n.lost = true
	for _, w := range n.list() {
		w.mu.Lock()
		w.rebuild(n.cfg.Node, n.restored.Term, now)
		w.mu.Unlock()
	}
}
