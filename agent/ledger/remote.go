package ledger

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/paramedic-ha/paramedic/correlate"
	"github.com/paramedic-ha/paramedic/gossip"
	"github.com/paramedic-ha/paramedic/notify"
)

// Take takes what the replica has learned: of each record the newest, or newer ones after older ones, as the replica took
// them. What lay between may be left out, and what was taken may come again.
func (l *Ledger) Take(now time.Time, c gossip.Changes) Orders {
	l.begin(now)
	for _, rec := range inOrder(c.Purged) {
		l.purge(rec)
	}
	l.purged(c.Purged)
	for _, rec := range inOrder(c.Changed) {
		l.learn(rec)
	}
	for _, rec := range inOrder(c.Own) {
		if rec.Space == l.cfg.Node {
			l.remember(rec)
		}
	}
	if l.begun && len(c.Own) > 0 {
		l.inherit()
		l.adopt()
	}
	if c.OwnTerm > l.claimed {
		l.claimed = c.OwnTerm
		l.out.Claim = max(l.out.Claim, c.OwnTerm)
	}
	return l.finish()
}

func inOrder(records []gossip.Record) []gossip.Record {
	return slices.SortedFunc(slices.Values(records), func(a, b gossip.Record) int {
		if d := compareKeys(a.Key, b.Key); d != 0 {
			return d
		}
		return a.Version.Compare(b.Version)
	})
}

func compareKeys(a, b gossip.Key) int {
	return cmp.Or(cmp.Compare(a.Space, b.Space), cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.ID, b.ID))
}

// purge forgets a record without its writer's word. An alarm that vanishes so has not ended: nobody has
// said so.
func (l *Ledger) purge(rec gossip.Record) {
	if rec.Space == l.cfg.Node {
		return // of a former life, which is over; what of it must go on is taken up
	}
	l.read(rec, false)
	if rec.Space == gossip.Shared {
		delete(l.ended, rec.ID)
	}
}

func (l *Ledger) learn(rec gossip.Record) {
	if rec.Space == l.cfg.Node {
		if !l.begun { // the host's own word of this life is not here yet
			l.remember(rec)
		}
		return
	}
	switch rec.Kind {
	case gossip.KindHost, gossip.KindDomain, gossip.KindAlarm, gossip.KindDelivery, gossip.KindReceipt, gossip.KindFileWish,
		gossip.KindRefusal, gossip.KindSubscription, gossip.KindAck, gossip.KindComment, gossip.KindClear, gossip.KindMute:
	default: // the replica's own, and those of a newer version
		return
	}
	l.read(rec, !rec.Deleted)
}

// read takes up what a record says, or that there is none any more.
func (l *Ledger) read(rec gossip.Record, live bool) {
	var err error
	if rec.Space == gossip.Shared {
		err = l.readShared(rec, live)
	} else {
		h := l.hosts[rec.Space]
		if h == nil {
			if l.heard.IsZero() {
				l.heard = l.now
			}
			h = newHost()
			l.hosts[rec.Space] = h
		}
		l.heardOf(h, rec)
		err = l.readHost(h, rec, live)
		if h.empty() {
			delete(l.hosts, rec.Space)
		}
	}
	l.readable(rec, err)
}

func (l *Ledger) readShared(rec gossip.Record, live bool) (err error) {
	delete(l.insisted, rec.Key)
	switch rec.Kind {
	case gossip.KindSubscription:
		was := l.shared[rec.ID]
		delete(l.shared, rec.ID)
		l.dirty[rec.ID] = struct{}{}
		delete(l.awaited, rec.ID)
		if !live {
			if rec.Deleted {
				l.ended[rec.ID] = struct{}{}
			}
			return nil
		}
		var p Subscription
		if err = l.codec.decode(rec.Payload, &p); err != nil {
			return err
		}
		w := l.open(rec.ID, p, notify.OriginAPI)
		w.writer = rec.Version.Node
		if !w.pauseOnly() && has(l.ended, rec.ID) { // whoever wrote it had not heard of the end, which is final
			l.insist(Write{Kind: gossip.KindSubscription, ID: rec.ID, Delete: true})
			return nil
		}
		delete(l.ended, rec.ID)
		l.shared[rec.ID] = w
		l.lapses(w)
		l.keepResumed(was, w, rec.ID)
	case gossip.KindAck, gossip.KindComment, gossip.KindClear:
		return l.readWord(rec, live)
	case gossip.KindMute:
		return l.readMute(rec, live)
	default: // none of the shared space
	}
	return err
}

// keepResumed says again that a subscription was resumed, when somebody who had not heard of it has written over our word:
// what was refused before stays void. A pause that was made of such refusals goes.
func (l *Ledger) keepResumed(was, now *wish, id string) {
	if was == nil || was.writer != l.cfg.Node || was.payload.Version != now.payload.Version || was.payload.Resumed <= now.payload.Resumed ||
		now.refused != nil {
		return
	}
	p := l.rewritten(now)
	if p.Resumed = was.payload.Resumed; p.Refused {
		p.Paused, p.Refused = was.payload.Paused, was.payload.Refused
	}
	if b, err := l.codec.encode(p); err == nil { // it fitted before
		l.insist(Write{Kind: gossip.KindSubscription, ID: id, Payload: b})
	}
}

func (l *Ledger) readHost(h *host, rec gossip.Record, live bool) (err error) {
	id := rec.ID
	switch rec.Kind {
	case gossip.KindHost:
		zone, labels := h.host.Zone, h.host.Labels
		h.said, h.host = false, Host{}
		if live && id == "" {
			if err = l.codec.decode(rec.Payload, &h.host); err == nil {
				h.said = true
			}
		}
		if h.host.Zone != zone || !maps.Equal(h.host.Labels, labels) {
			l.out.Places = append(l.out.Places, PlaceOrder{rec.Space, notify.Place{Zone: h.host.Zone, Labels: h.host.Labels}})
		}
	case gossip.KindDomain:
		var c claim
		if live {
			c, err = l.codec.decodeClaim(rec.Payload)
		}
		if live && err == nil {
			h.domains[id] = c // under the old key, which is the replica's own
		} else {
			delete(h.domains, id)
		}
		l.homes = nil
	case gossip.KindAlarm:
		err = l.readAlarm(h, rec, live)
	case gossip.KindDelivery:
		h.owes(id, h.deliveries[id], -1)
		delete(h.deliveries, id)
		if live {
			var p progress
			if p, err = l.codec.decodeDelivery(id, rec.Payload); err == nil {
				h.owes(id, p, 1)
				p.Delivery = Delivery{ // the revisions are read, and the rest is for its own next life, which has it from the replica
					Taken: p.Taken, Parked: p.Parked, Again: p.Again, Left: p.Left, Attempts: p.Attempts, LastError: cut(p.LastError, maxError),
				}
				h.deliveries[id] = p
				l.checkReceipt(id)
			}
		} else if r, ok := l.receipts[id]; ok && r.home == rec.Space {
			l.dropReceipt(id)
		}
		if subscription, alarm := splitPair(id); alarm == "" {
			l.dirty[subscription] = struct{}{}
		}
	case gossip.KindReceipt:
		delete(h.receipts, id)
		if live {
			var p receipt
			if p, err = l.codec.decodeReceipt(id, rec.Payload); err == nil {
				h.receipts[id] = p
				if l.begun {
					l.tell(id, p)
				}
			}
		} else if !l.attested(id) {
			delete(l.told, id)
		}
	case gossip.KindFileWish:
		delete(h.wishes, id)
		l.dirty[id] = struct{}{}
		if live {
			var p Subscription
			if err = l.codec.decode(rec.Payload, &p); err == nil {
				h.wishes[id] = l.open(id, p, notify.OriginPeer)
			}
		}
	case gossip.KindRefusal:
		delete(h.refusals, id)
		l.dirty[id] = struct{}{}
		if live {
			var p Refusal
			if err = l.codec.decode(rec.Payload, &p); err == nil {
				p.Reason = cut(p.Reason, maxError)
				h.refusals[id] = p
			}
		}
	default: // none of a host's space
	}
	return err
}

// attested says that some host still holds a receipt.
func (l *Ledger) attested(id string) bool {
	for _, h := range l.hosts {
		if has(h.receipts, id) {
			return true
		}
	}
	return false
}

// readAlarm takes up an alarm of another host. Under an odd term it is the word of those who speak for that host.
func (l *Ledger) readAlarm(h *host, rec gossip.Record, live bool) error {
	was := h.alarms[rec.ID]
	if was != nil {
		h.unpacked -= was.size
	}
	delete(h.alarms, rec.ID)
	delete(h.lost, rec.ID)
	if was != nil && was.Alarm.Standing() {
		l.vanished[rec.ID] = struct{}{} // unless it is there again, or ended, when this call is over
	}
	if !live {
		l.dropReceipts(rec)
		return nil
	}
	p, err := l.codec.decodeAlarm(rec.Space, rec.ID, rec.Payload)
	if err != nil {
		return err
	}
	if p.Over {
		l.dropReceipts(rec)
	}
	if h.unpacked+p.size > maxUnpacked {
		return fmt.Errorf("%w: its alarms take more than %d MiB: it has too many, or is broken", errPayload, maxUnpacked>>20)
	}
	h.unpacked += p.size
	h.alarms[rec.ID] = p
	if p.learned = l.now; was != nil && was.Alarm.Revision == p.Alarm.Revision {
		p.learned = was.learned
	}
	l.spokenFor(h, rec, p.Alarm)
	newer := -1
	if was != nil {
		newer = was.Alarm.Revision.Compare(p.Alarm.Revision)
	}
	if newer < 0 || newer == 0 && p.Alarm.Noted(was.Alarm) != "" {
		l.out.Seen = append(l.out.Seen, p.Change)
	}
	return nil
}

// dropReceipts drops those for an alarm whose home owes it to nobody any more.
func (l *Ledger) dropReceipts(alarm gossip.Record) {
	for id, r := range l.receipts {
		if _, of := splitPair(id); of == alarm.ID && r.home == alarm.Space {
			l.dropReceipt(id)
		}
	}
}

// remember takes up what is in our own space and not of this life.
func (l *Ledger) remember(rec gossip.Record) {
	s := slot{rec.Kind, rec.ID}
	if v, ok := l.recalled[s]; ok && v.Compare(rec.Version) >= 0 { // it comes again from each peer
		return
	}
	l.recalled[s] = rec.Version
	f, id := l.former, rec.ID
	live := !rec.Deleted
	var err error
	switch rec.Kind {
	case gossip.KindDomain:
		if delete(f.domains, id); live {
			var c claim
			if c, err = l.codec.decodeClaim(rec.Payload); err == nil {
				f.domains[id] = c
			}
		}
	case gossip.KindAlarm:
		if delete(f.alarms, id); live {
			var p *Alarm
			if p, err = l.codec.decodeAlarm(rec.Space, id, rec.Payload); err == nil {
				f.alarms[id] = p
				l.late[id] = struct{}{}
			}
		}
	case gossip.KindDelivery:
		if delete(f.deliveries, id); live {
			var p progress
			if p, err = l.codec.decodeDelivery(id, rec.Payload); err == nil {
				f.deliveries[id] = p
				_, alarm := splitPair(id)
				l.late[alarm] = struct{}{}
			}
		}
	case gossip.KindReceipt:
		if delete(f.receipts, id); live {
			var p receipt
			if p, err = l.codec.decodeReceipt(id, rec.Payload); err == nil {
				f.receipts[id] = p
			}
		}
	case gossip.KindRefusal:
		if delete(f.refusals, id); live {
			var p Refusal
			if err = l.codec.decode(rec.Payload, &p); err == nil {
				f.refusals[id] = p
			}
		}
	default: // said anew in each life
	}
	l.readable(rec, err)
}

// readable keeps account of what can't be read, and says so once for each writer.
func (l *Ledger) readable(rec gossip.Record, err error) {
	writer := rec.Version.Node
	for w, keys := range l.unread { // a shared record may have had another writer before
		if !has(keys, rec.Key) || w == writer && err != nil {
			continue
		}
		if delete(keys, rec.Key); len(keys) == 0 {
			delete(l.unread, w)
			l.say(writerResource(w), correlate.CondPeer, "")
		}
	}
	if err == nil {
		return
	}
	if l.unread[writer] == nil {
		l.unread[writer] = map[gossip.Key]struct{}{}
		l.say(writerResource(writer), correlate.CondPeer, fmt.Sprintf(
			"what host %s writes can't be read here, for instance record %d %s: %v", shown(writer), rec.Kind, shown(rec.ID), err))
	}
	l.unread[writer][rec.Key] = struct{}{}
}

// problem names an event about ourselves.
type problem struct {
	resource  correlate.ID
	condition correlate.Condition
}

// say reports that something of the cluster's is wrong, or with no text that it is well again; what is known is not said
// again.
func (l *Ledger) say(resource correlate.ID, condition correlate.Condition, text string) {
	p := problem{resource, condition}
	if l.problems[p] == text {
		return
	}
	if text == "" {
		delete(l.problems, p)
	} else {
		l.problems[p] = text
	}
	l.report(p, text)
}

func (l *Ledger) report(p problem, text string) {
	if !l.begun {
		return // Begin says it
	}
	e := correlate.Event{
		Source: Source, Resource: p.resource, Condition: p.condition, Observed: l.now, Text: text, Status: correlate.StatusFailed,
	}
	if text == "" {
		e.Status = correlate.StatusOK
	}
	l.out.Report = append(l.out.Report, e)
}

func writerResource(node string) correlate.ID {
	return correlate.NewID(correlate.KindService, "paramedic/peer/"+shown(node))
}

// shown makes a name that others chose harmless and short.
func shown(s string) string {
	s = cut(s, 128)
	if q := strconv.QuoteToASCII(s); q != `"`+s+`"` {
		return strings.Trim(q, `"`)
	}
	return s
}
