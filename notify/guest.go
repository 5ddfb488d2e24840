package notify

import (
	"maps"
	"slices"

	"github.com/paramedic-ha/paramedic/correlate"
)

// Speak has this host deliver the alarms of another one that can't; see Shared.
func (n *Notifier) Speak(alarms []correlate.Change, pairs []Pair) (owed int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.drain()
	now := n.cfg.Now()
	begun := !slices.ContainsFunc(alarms, func(c correlate.Change) bool { return c.Alarm != nil && n.speaksFor(c.Alarm.Key.Home) })
	for _, c := range alarms {
		if c.Alarm != nil && c.Alarm.Key.Home != n.cfg.Node {
			n.guests[c.Alarm.ID] = struct{}{}
		}
	}
	n.takeAlarms(alarms)
	n.takePairs(alarms, pairs, now)
	if begun {
		n.spokeFor(alarms, now)
	}
	for _, c := range alarms {
		if c.Alarm == nil {
			continue
		}
		for _, w := range n.list() {
			w.mu.Lock()
			if _, waits, ok := w.machine.Pair(c.Alarm.ID); ok && waits {
				owed++
			}
			w.mu.Unlock()
		}
	}
	return owed
}

// speaksFor reports whether this host delivers alarms of a home. Under mu.
func (n *Notifier) speaksFor(home string) bool {
	for id := range n.guests {
		if k, ok := n.alarms[id]; ok && k.Alarm.Key.Home == home {
			return true
		}
	}
	return false
}

// Hush ends Speak; see Shared.
func (n *Notifier) Hush(home string) {
	if home == n.cfg.Node {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.drain()
	for _, id := range slices.Sorted(maps.Keys(n.guests)) {
		if k, ok := n.alarms[id]; ok && k.Alarm.Key.Home != home {
			continue
		}
		var writes []write
		for _, w := range n.list() {
			w.mu.Lock()
			if _, _, held := w.machine.Pair(id); held {
				w.machine.Forget(id)
				writes = append(writes, write{pairPlace(w.leg.id, id), nil})
			}
			w.mu.Unlock()
		}
		for subscription, left := range n.left {
			n.left[subscription] = slices.DeleteFunc(left, func(p pairRecord) bool {
				if p.AlarmID == id {
					writes = append(writes, write{pairPlace(subscription, id), nil})
				}
				return p.AlarmID == id
			})
		}
		delete(n.alarms, id)
		delete(n.guests, id)
		delete(n.pairs, id)
		n.box.put(writes...)
	}
}

// raises reports whether a revision is the first of its alarm that a subscription may hear: a host's loss has come to the
// confidence that it asks for. To it the alarm is raised.
func (s Subscription) raises(a *correlate.Alarm) bool {
	return a.Last == correlate.Changed && a.Revision == a.Reached && a.Revision != a.First &&
		confidenceRank(a.Confidence) <= confidenceRank(s.Filter.MinConfidence)
}

// ofUs reports whether an alarm is what peers have said of this host when it could not speak: it is no news here, but those who may
// have been told are told that it is over.
func (n *Notifier) ofUs(a *correlate.Alarm) bool {
	return a.Key.Home == n.cfg.Node && a.First.Term%2 == 1
}
