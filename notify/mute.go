package notify

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/paramedic-ha/paramedic/correlate"
)

// Bounds of mutes.
const (
	maxMutes  = 256
	maxMuteID = 64   // bytes
	maxReason = 1000 // characters
	// MaxMuted is how long a mute may last.
	MaxMuted = 30 * 24 * time.Hour
	// muteGlance is how often the clock is looked at while there are mutes: it may be set.
	muteGlance = time.Minute
)

// Mute keeps consumers from being told of alarms for a while. It binds every subscription.
type Mute struct {
	ID string
	// Filter says which alarms: by Hosts, Zones, Labels, Resources, ResourceTypes, Conditions and MinSeverity; at least one of
	// them, or MaxSeverity. Of an alarm about several hosts each must fit.
	Filter      Filter
	MaxSeverity correlate.Severity // unset: any
	Until       time.Time
	Reason      string
	By          string // who made it
	Made        time.Time
}

// Active reports whether a mute holds. Each host goes by its own clock.
func (m Mute) Active(now time.Time) bool { return now.Before(m.Until) }

// covers reports whether a standing alarm is one that the mute means. Indeterminate is beside the order of severities: a bound of
// them leaves it out, so that what nobody has classified is not silenced by one.
func (m Mute) covers(a *correlate.Alarm, where Places) bool {
	bounded := m.Filter.MinSeverity != correlate.SeverityUnset || m.MaxSeverity != correlate.SeverityUnset
	switch {
	case bounded && a.Severity == correlate.SeverityIndeterminate,
		a.Severity < m.Filter.MinSeverity,
		m.MaxSeverity != correlate.SeverityUnset && a.Severity > m.MaxSeverity:
		return false
	}
	return m.Filter.offSubject(a, false) == "" && m.Filter.allStand(a, where)
}

// allStand reports whether every host that an alarm is about fits Hosts, Zones and Labels. A zone's alarm that names no hosts may be
// about any in it.
func (f Filter) allStand(a *correlate.Alarm, where Places) bool {
	hosts, zone := a.Hosts()
	if len(hosts) == 0 {
		return len(f.Hosts)+len(f.Labels) == 0 && fits(f.Zones, zone)
	}
	return !slices.ContainsFunc(hosts, func(host string) bool {
		place := where[host]
		return !fits(f.Hosts, host) || !fits(f.Zones, cmp.Or(zone, place.Zone)) || !f.labelled(place.Labels)
	})
}

// Validate returns every problem of m at once, each naming the field and the remedy.
func (m Mute) Validate(now time.Time) error {
	var problems []error
	bad := func(field, format string, args ...any) {
		problems = append(problems, fmt.Errorf("%s: %s", strings.TrimPrefix(field, "filter."), fmt.Sprintf(format, args...)))
	}
	if m.ID == "" || len(m.ID) > maxMuteID || strings.ContainsFunc(m.ID, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("-_.", r)
	}) {
		bad("id", "%q: want 1 to %d letters, digits, dots, dashes and underscores", m.ID, maxMuteID)
	}
	f := m.Filter
	if len(f.Hosts)+len(f.Zones)+len(f.Labels)+len(f.Resources)+len(f.ResourceTypes)+len(f.Conditions) == 0 &&
		f.MinSeverity == correlate.SeverityUnset && m.MaxSeverity == correlate.SeverityUnset {
		bad("filter", `it says nothing, and so would mute everything: name hosts, zones, labels, resources, resource_types, conditions or severities ("hosts": ["*"] if you mean it)`)
	}
	f.problems(bad)
	switch {
	case m.MaxSeverity == correlate.SeverityCleared, m.MaxSeverity == correlate.SeverityIndeterminate, m.MaxSeverity > correlate.SeverityCritical:
		bad("max_severity", "%v can't be an upper bound: want warning, minor, major or critical", m.MaxSeverity)
	case m.MaxSeverity != correlate.SeverityUnset && m.MaxSeverity < f.MinSeverity:
		bad("max_severity", "%v lies below min_severity %v: swap them", m.MaxSeverity, f.MinSeverity)
	}
	switch {
	case !m.Active(now):
		bad("until", "%s is over: name a time to come", m.Until.UTC().Format(time.RFC3339))
	case m.Until.Sub(now) > MaxMuted:
		bad("until", "it lies more than %d days ahead: mute for a shorter time, and again then", MaxMuted/(24*time.Hour))
	}
	if !utf8.ValidString(m.Reason) || utf8.RuneCountInString(m.Reason) > maxReason {
		bad("reason", "want at most %d characters of UTF-8", maxReason)
	}
	return errors.Join(problems...)
}

// mutes are those that are known, by id.
type mutes map[string]Mute

// of finds the mute of a standing alarm: of several the one that holds longest.
func (all mutes) of(a *correlate.Alarm, where Places, now time.Time) (found Mute, muted bool) {
	if !a.Standing() {
		return Mute{}, false
	}
	for _, m := range all {
		if !m.Active(now) || !m.covers(a, where) {
			continue
		}
		if !muted || cmp.Or(m.Until.Compare(found.Until), strings.Compare(found.ID, m.ID)) > 0 {
			found, muted = m, true
		}
	}
	return found, muted
}

// byPlace says that one of them judges where a host stands.
func (all mutes) byPlace() bool {
	for _, m := range all {
		if m.Filter.byPlace() {
			return true
		}
	}
	return false
}

// wants is Subscription.Wants under the mutes: what is muted is not told, unless an older revision of it is on its way. A clear
// goes to whoever was told. Under mu.
func (n *Notifier) wants(s Subscription, a *correlate.Alarm, now time.Time, pair, owed bool) bool {
	if !owed {
		if _, muted := n.mutes.of(a, n.places, now); muted {
			return false
		}
	}
	return s.Wants(a, n.places, pair, owed)
}

// Mutes lists those that hold, by id; see Service.
func (n *Notifier) Mutes() []Mute {
	n.mu.Lock()
	defer n.mu.Unlock()
	now := n.cfg.Now()
	return slices.SortedFunc(func(yield func(Mute) bool) {
		for _, m := range n.mutes {
			if m.Active(now) && !yield(m) {
				return
			}
		}
	}, func(a, b Mute) int { return strings.Compare(a.ID, b.ID) })
}

// Muted tells which mute keeps consumers from hearing of an alarm; see Service.
func (n *Notifier) Muted() func(*correlate.Alarm) (Mute, bool) {
	n.mu.Lock()
	all, where, now := maps.Clone(n.mutes), Places(nil), n.cfg.Now()
	if len(all) > 0 {
		where = maps.Clone(n.places)
	}
	n.mu.Unlock()
	return func(a *correlate.Alarm) (Mute, bool) { return all.of(a, where, now) }
}

// SetMute makes a mute, or replaces the one of its id; see Service.
func (n *Notifier) SetMute(ctx context.Context, m Mute) (made bool, err error) {
	now := n.cfg.Now()
	if err := m.Validate(now); err != nil {
		return false, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	n.mu.Lock()
	before, known := n.mutes[m.ID]
	full := !known && len(n.mutes) >= maxMutes
	n.mu.Unlock()
	if full {
		return false, fmt.Errorf("%w: there are %d mutes, which is the most: end one", ErrInvalid, maxMutes)
	}
	if n.cfg.Peers != nil {
		if err := n.cfg.Peers.PublishMute(ctx, m); err != nil {
			return false, fmt.Errorf("make mute %q known to the other hosts: %w", m.ID, err)
		}
	}
	n.mu.Lock()
	seq := n.box.put()
	if n.unchanged(m.ID, before) {
		seq = n.hold(m)
	}
	n.mu.Unlock()
	n.box.await(ctx, seq, durableWait)
	return !known, nil
}

// EndMute ends one; see Service.
func (n *Notifier) EndMute(ctx context.Context, id string) error {
	n.mu.Lock()
	before, known := n.mutes[id]
	n.mu.Unlock()
	if !known {
		return fmt.Errorf("mute %q: %w", id, ErrNotFound)
	}
	if n.cfg.Peers != nil {
		if err := n.cfg.Peers.WithdrawMute(ctx, id); err != nil {
			return fmt.Errorf("make the end of mute %q known to the other hosts: %w", id, err)
		}
	}
	n.mu.Lock()
	if n.unchanged(id, before) {
		n.letGo(id)
	}
	n.mu.Unlock()
	n.box.await(ctx, n.box.put(), durableWait)
	return nil
}

// unchanged reports whether a mute is as it was before the peers were told of its change. Else it is they who told: of that change,
// or of a later one. Under mu.
func (n *Notifier) unchanged(id string, before Mute) bool {
	return sameMute(n.mutes[id], before)
}

// Mute takes one of elsewhere; see Shared.
func (n *Notifier) Mute(m Mute) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.hold(m)
}

// hold has a mute count, and tells what an earlier form of it has kept back. Under mu.
func (n *Notifier) hold(m Mute) (seq uint64) {
	n.drain()
	old, known := n.mutes[m.ID]
	if known && sameMute(old, m) {
		return n.box.put()
	}
	n.mutes[m.ID] = m
	seq = n.box.stage(write{place{shelfMutes, m.ID}, muteRecord(m)})
	n.log.Info("alarms are muted", "mute", m.ID, "until", m.Until, "by", m.By, "reason", m.Reason)
	n.unmuted(known)
	return seq
}

func sameMute(a, b Mute) bool {
	return sameFilter(a.Filter, b.Filter) && a.MaxSeverity == b.MaxSeverity && a.Until.Equal(b.Until) && a.Reason == b.Reason &&
		a.By == b.By && a.Made.Equal(b.Made)
}

// Unmute ends one that ended elsewhere; see Shared.
func (n *Notifier) Unmute(id string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.letGo(id)
}

// letGo ends a mute, and tells what it has kept back. Under mu.
func (n *Notifier) letGo(id string) {
	if _, known := n.mutes[id]; !known {
		return
	}
	n.drain()
	n.dropMute(id)
	n.unmuted(true)
}

func (n *Notifier) dropMute(id string) {
	delete(n.mutes, id)
	n.box.stage(write{place{shelfMutes, id}, nil})
	n.log.Info("a mute has ended", "mute", id)
}

// unmuted tells, when any mute may hold less than before, what nobody was told because of it; and looks after the next end. Under mu.
func (n *Notifier) unmuted(less bool) {
	if less {
		standing, now := n.standing(), n.cfg.Now()
		for _, w := range n.list() {
			w.offer(standing, now)
		}
	}
	n.box.flush()
	select {
	case n.muteMoved <- struct{}{}:
	default:
	}
}

// endMutes ends those whose time is over, and says when to look again.
func (n *Notifier) endMutes() (next time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	now := n.cfg.Now()
	next = time.Hour
	over := false
	for _, id := range slices.Sorted(maps.Keys(n.mutes)) {
		if m := n.mutes[id]; m.Active(now) {
			next = min(next, m.Until.Sub(now), muteGlance)
			continue
		}
		if !over {
			over = true
			n.drain()
		}
		n.dropMute(id)
	}
	if over {
		n.unmuted(true)
	}
	return next
}
