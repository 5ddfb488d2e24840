package notify

import (
	"encoding/binary"
	"slices"
	"strconv"
	"time"

	"github.com/google/uuid"

	"github.com/paramedic-ha/paramedic/correlate"
	"github.com/paramedic-ha/paramedic/notify/delivery"
	"github.com/paramedic-ha/paramedic/notify/format"
)

// A consumer that is told of faults alone can't tell silence from health. One that asks for it is sent a heartbeat at every multiple
// of an interval, by the clock and the same on every host, by one host of those that live; another one takes the next when that dies.
// A heartbeat owes nothing: it is not kept, passes the queue by, and is not retried, since the next is on its way.
const (
	minHeartbeat = time.Second
	maxHeartbeat = 24 * time.Hour
	// secondLook is how long after a heartbeat was another host's to send it is looked whether that one lives: what it could not send is
	// then sent here. It is above the two seconds that it takes to miss an agent whose host is there.
	secondLook = 2500 * time.Millisecond
)

// Pulse is what the peers know for a heartbeat.
type Pulse struct {
	Mine            bool     // this host is the one that sends it
	Alive           int      // hosts that are there, this one included
	Lost            []string // hosts that are known to be lost, by name
	Pending, Parked int      // deliveries that the other hosts owe the subscription
}

// slot is the beginning of the interval that a time lies in. Subscriptions are spread over it by their ids, hosts are not.
func (s Subscription) slot(now time.Time) time.Time {
	shift := int64(0)
	if id, err := uuid.Parse(s.ID); err == nil {
		shift = int64(binary.BigEndian.Uint64(id[8:]) % uint64(s.Heartbeat)) //nolint:gosec // below Heartbeat
	}
	since := (now.UnixNano() - shift) % int64(s.Heartbeat)
	return time.Unix(0, now.UnixNano()-since).UTC()
}

// beatID is the webhook-id of a heartbeat: the same whoever sends it.
func (s Subscription) beatID(slot time.Time) string {
	return uuid.NewSHA1(uuid.NameSpaceOID, []byte("heartbeat\x00"+s.ID+"\x00"+strconv.FormatUint(s.Version, 10)+"\x00"+strconv.FormatInt(slot.UnixNano(), 10))).String()
}

// again is when one that was another host's is looked at a second time.
func (s Subscription) again(slot time.Time) time.Time {
	return slot.Add(min(s.Heartbeat/2, secondLook))
}

// sayBeat starts a heartbeat when one is due and returns when to look for the next; zero: none is asked for. Under mu.
func (w *worker) sayBeat(now time.Time) time.Time {
	if w.sub.Heartbeat <= 0 {
		w.beat, w.another = time.Time{}, false
		return time.Time{}
	}
	slot := w.sub.slot(now)
	again := w.sub.again(slot)
	due := false
	switch {
	case w.beat.IsZero(): // it has begun in the middle of one
	case slot.After(w.beat), w.another && !now.Before(again):
		due, w.another = true, false
	}
	if w.beat = slot; due && !w.beating && !w.halted(now) && !w.machine.Quiet(now) {
		w.beating = true
		sub := w.told()
		w.n.group.Go(func() { w.sendBeat(sub, slot, now.Before(again)) })
	}
	if w.another {
		return again
	}
	return slot.Add(w.sub.Heartbeat)
}

// sendBeat sends a heartbeat when it is this host's to send. first: it is looked at a second time when it is not.
func (w *worker) sendBeat(sub Subscription, slot time.Time, first bool) {
	var a answer
	mine := w.n.cfg.Peers == nil || w.n.cfg.Peers.Pulse(sub.ID).Mine
	if mine {
		a = w.send(sub, HandOver{NotificationID: sub.beatID(slot), Subscription: w.leg.id, Version: sub.Version, Beat: slot, Attempt: 1})
	}
	w.mu.Lock()
	w.beating = false
	if !mine && first && w.beat.Equal(slot) && w.sub.Heartbeat == sub.Heartbeat {
		w.another = true
		w.rewake(sub.again(slot))
	}
	if !mine || w.ended || w.requests.Err() != nil {
		w.mu.Unlock()
		return
	}
	now := w.n.cfg.Now()
	eff := w.machine.Aside(a.outcome, now)
	w.worked = w.worked || a.outcome.Verdict == delivery.Settled
	if eff.Paused {
		w.refuse(a.outcome.Err, now)
	}
	if writes := w.writes(eff); len(writes) > 0 {
		w.n.box.put(writes...)
	}
	w.pump(now)
	w.mu.Unlock()
	w.kin.tally.attempt(a.outcome.Verdict)
	if eff.Paused && w.leg.only != "" {
		w.n.pauseIfAllRest(w.owner, a.outcome.Err)
	}
}

// beatMessage is a heartbeat as this host says it. Not under a lock.
func (w *worker) beatMessage(sub Subscription, id string, slot time.Time) format.Message {
	b := format.Beat{Every: sub.Heartbeat, Next: slot.Add(sub.Heartbeat), Expires: sub.Expires, Alive: 1}
	n := w.n
	var others []*correlate.Alarm
	if n.cfg.Peers != nil {
		p := n.cfg.Peers.Pulse(sub.ID)
		b.Alive, b.Lost, b.Pending, b.Parked = p.Alive, slices.Sorted(slices.Values(p.Lost)), p.Pending, p.Parked // a copy: each endpoint's has its own
		others = n.cfg.Peers.Standing()
	}
	n.mu.Lock()
	seen := map[string]struct{}{}
	count := func(a *correlate.Alarm) {
		if !has(seen, a.ID) && a.Standing() && n.wants(sub, a, n.cfg.Now(), false, false) {
			seen[a.ID] = struct{}{}
			b.Severity = max(b.Severity, a.Severity)
		}
	}
	for _, k := range n.alarms {
		count(k.Alarm)
	}
	for _, a := range others {
		count(a)
	}
	n.mu.Unlock()
	b.Alarms = len(seen)
	for _, l := range n.legsOf(w.owner) {
		l.mu.Lock()
		owed, parked, _ := l.machine.Counts()
		l.mu.Unlock()
		b.Pending, b.Parked = b.Pending+owed-parked, b.Parked+parked
	}
	return format.Message{
		ID: id, Type: format.TypeHeartbeat, Label: n.cfg.Label, Reporter: n.cfg.Node, Subscription: sub.ID, Abstract: sub.Role == RoleConsumer,
		At: slot, Beat: &b,
	}
}
