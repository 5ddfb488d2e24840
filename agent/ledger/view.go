package ledger

import (
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/paramedic-ha/paramedic/correlate"
	"github.com/paramedic-ha/paramedic/notify"
)

// HostView is one host of the cluster as this agent knows it, itself included. The shell fills in what the membership
// knows; the rest is the host's own word.
type HostView struct {
	Name    string
	Host    // zero while it has not spoken in this run of ours
	Self    bool
	Member  bool   // it is there at this moment
	Addr    string // of its gossip
	API     string
	Term    uint64
	First   time.Time // it was first seen
	Last    time.Time // it was last a member; now for one that is
	AsOf    time.Time // what is known of it is not older than this; zero: nothing is known
	Domains int       // active ones
	Alarms  map[correlate.Severity]int
	// Standing are the alarms on the host itself, without what peers said before it spoke again. State reads them.
	Standing []*correlate.Alarm
	Watch    *HostWatch // nil: this host does not watch it
}

// DomainView is a domain of another host. State follows from the standing alarms of that host.
type DomainView struct {
	Home string
	UUID string
	Domain
	State correlate.State

	payload []byte
}

// foreign is an alarm of another host, cleared ones included. Of several hosts that claim one id, which only a broken one
// does, it is that where it stands, and then that of the lowest name.
func (l *Ledger) foreign(id string) *Alarm {
	var found *Alarm
	for _, h := range l.hosts {
		if a := h.alarms[id]; a != nil && (found == nil || a.precedes(found)) {
			found = a
		}
	}
	return found
}

func (a *Alarm) precedes(o *Alarm) bool {
	if a.Alarm.Standing() != o.Alarm.Standing() {
		return a.Alarm.Standing()
	}
	return a.Alarm.Key.Home < o.Alarm.Key.Home
}

// Standing are the standing alarms of other hosts, by host and id; each id once, and none that this host knows as its own.
func (l *Ledger) Standing() []*correlate.Alarm {
	var out []*correlate.Alarm
	shown := map[string]struct{}{}
	for _, name := range slices.Sorted(maps.Keys(l.hosts)) {
		h := l.hosts[name]
		for _, id := range slices.Sorted(maps.Keys(h.alarms)) {
			if a := h.alarms[id].Alarm; a.Standing() && !has(shown, id) && l.alarms[id] == nil {
				shown[id] = struct{}{}
				out = append(out, l.shownAlarm(a))
			}
		}
	}
	return out
}

// Dismissed are the alarms of other hosts that were cleared by hand and of which their sources say still that they are wrong; by host and id.
func (l *Ledger) Dismissed() []*correlate.Alarm {
	var out []*correlate.Alarm
	for _, name := range slices.Sorted(maps.Keys(l.hosts)) {
		h := l.hosts[name]
		for _, id := range slices.Sorted(maps.Keys(h.alarms)) {
			if a := h.alarms[id].Alarm; a.Dismissed() {
				out = append(out, a)
			}
		}
	}
	return out
}

// Alarm is one of another host, cleared ones included for as long as their home keeps them; nil when there is none.
func (l *Ledger) Alarm(id string) *correlate.Alarm {
	a := l.foreign(id)
	if a == nil {
		return nil
	}
	return l.shownAlarm(a.Alarm)
}

// Told is what each subscription was told and is owed of another host's alarm, as its home says and those who have told it in its place; by
// subscription.
func (l *Ledger) Told(a *correlate.Alarm) []notify.Pair {
	pairs := map[string]notify.Pair{}
	know := func(p notify.Pair) {
		if p.Owed.Compare(p.Told) <= 0 {
			p = notify.Pair{Subscription: p.Subscription, AlarmID: p.AlarmID, Told: p.Told}
		}
		pairs[p.Subscription] = p
	}
	if h := l.hosts[a.Key.Home]; h != nil {
		for id, d := range h.deliveries {
			if subscription, alarm := splitPair(id); alarm == a.ID {
				know(notify.Pair{
					Subscription: subscription, AlarmID: alarm, Told: d.told, Owed: d.owed, Parked: d.Parked, Again: d.Again,
					Attempts: d.Attempts, LastError: d.LastError,
				})
			}
		}
	}
	l.eachReceipt(func(id string, r receipt) {
		subscription, alarm := splitPair(id)
		if p := pairs[subscription]; alarm == a.ID && r.home == a.Key.Home && r.told.Compare(p.Told) > 0 {
			p.Subscription, p.AlarmID, p.Told = subscription, alarm, r.told
			know(p)
		}
	})
	return slices.SortedFunc(maps.Values(pairs), func(x, y notify.Pair) int { return strings.Compare(x.Subscription, y.Subscription) })
}

// Own is the newest revision of an alarm of this host; cleared ones for a minute at least, so that it can be told to a
// consumer that got it in a snapshot (Put.Given).
func (l *Ledger) Own(id string) (correlate.Change, bool) {
	o := l.alarms[id]
	if o == nil {
		return correlate.Change{}, false
	}
	return o.change, true
}

// Home is the host that has a domain; empty when none claims it. Among those that claim it one that runs it comes first,
// then the one that began later, then the lower name.
func (l *Ledger) Home(uuid string) string { return l.allHomes()[uuid] }

func (l *Ledger) allHomes() map[string]string {
	if l.homes != nil {
		return l.homes
	}
	l.homes = make(map[string]string, len(l.domains))
	best := map[string]claim{}
	hear := func(name, uuid string, c claim) {
		if has, ok := best[uuid]; !ok || c.precedes(has) || !has.precedes(c) && name < l.homes[uuid] {
			best[uuid], l.homes[uuid] = c, name
		}
	}
	for uuid, d := range l.domains {
		hear(l.cfg.Node, uuid, claim{since: d.Since, inactive: d.Inactive})
	}
	for name, h := range l.hosts {
		for uuid, c := range h.domains {
			hear(name, uuid, c)
		}
	}
	return l.homes
}

// Domains are those whose home is one other host. Domain is empty, and nothing in order, before ReadDomains, which may take
// its time.
func (l *Ledger) Domains(home string) []DomainView {
	h := l.hosts[home]
	if h == nil {
		return nil
	}
	homes, states := l.allHomes(), h.states()
	var out []DomainView
	for uuid, c := range h.domains {
		if homes[uuid] == home {
			out = append(out, DomainView{Home: home, UUID: uuid, payload: c.payload, State: states[correlate.NewID(correlate.KindDomain, uuid)]})
		}
	}
	return out
}

// states is the health of a host's resources as far as its standing alarms tell it.
func (h *host) states() map[correlate.ID]correlate.State {
	states := map[correlate.ID]correlate.State{}
	worse := func(id correlate.ID, s correlate.State) { states[id] = max(states[id], s) }
	for _, p := range h.alarms {
		a := p.Alarm
		if !a.Standing() {
			continue
		}
		worse(a.Key.Resource, a.State)
		for _, hit := range a.Affected {
			worse(hit.Resource, hit.State)
		}
		for _, hit := range a.AtRisk {
			worse(hit.Resource, correlate.StateAtRisk)
		}
	}
	return states
}

// Hosts are the names of all that have said anything, this host included.
func (l *Ledger) Hosts() []string {
	names := append(slices.Collect(maps.Keys(l.hosts)), l.cfg.Node)
	slices.Sort(names)
	return names
}

// HostRecord is a host by its own word and that of its speakers: Name, Host, Self, Domains, Alarms and Standing of the view; the rest
// is the shell's.
func (l *Ledger) HostRecord(name string) (HostView, bool) {
	v := HostView{Name: name, Alarms: map[correlate.Severity]int{}}
	itself := correlate.NewID(correlate.KindHost, name)
	if name == l.cfg.Node {
		v.Self, v.Host = true, l.me
		for uuid, d := range l.domains {
			if !d.Inactive && l.Home(uuid) == name {
				v.Domains++
			}
		}
		for _, o := range l.alarms {
			if a := o.change.Alarm; a.Standing() {
				v.Alarms[a.Severity]++
				if a.Key.Resource == itself {
					v.Standing = append(v.Standing, a)
				}
			}
		}
		return v, true
	}
	h := l.hosts[name]
	if h == nil {
		return HostView{}, false
	}
	v.Host = h.host
	for uuid, c := range h.domains {
		if !c.inactive && l.Home(uuid) == name {
			v.Domains++
		}
	}
	for _, a := range h.alarms {
		if !a.Alarm.Standing() {
			continue
		}
		v.Alarms[a.Alarm.Severity]++
		if r := a.Alarm.Revision; a.Alarm.Key.Resource == itself && (r.Term%2 == 0 || r.Term > h.term) {
			v.Standing = append(v.Standing, a.Alarm)
		}
	}
	return v, true
}

// Subscriptions are all that should work here, those of the own file included, by id; with their secrets.
func (l *Ledger) Subscriptions() []notify.Subscription {
	ids := map[string]struct{}{}
	for id := range l.file {
		ids[id] = struct{}{}
	}
	for id, o := range l.ordered {
		if !o.dropped {
			ids[id] = struct{}{}
		}
	}
	out := make([]notify.Subscription, 0, len(ids))
	for _, id := range slices.Sorted(maps.Keys(ids)) {
		if o := l.ordered[id]; o != nil && !o.dropped {
			out = append(out, o.sub)
		} else {
			out = append(out, l.file[id])
		}
	}
	return out
}
