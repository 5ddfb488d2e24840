package ledger

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/paramedic-ha/paramedic/correlate"
	"github.com/paramedic-ha/paramedic/gossip/takeover"
	"github.com/paramedic-ha/paramedic/gossip/watch"
)

// zoneCounts number a zone's revisions by what they say, so that two speakers that know the same say it under the same number.
type zoneCounts struct {
	term                  uint64
	ever, confirmed, back map[string]struct{}
}

// speakZone says that many hosts of a zone were lost; nil when nothing is left to be said of it.
func (l *Ledger) speakZone(s takeover.Speech) *correlate.Alarm {
	home := ZoneSpace + s.Zone
	if len(s.Hosts) == 0 && l.speeches[home] == nil && l.hosts[home] == nil {
		return nil
	}
	sp := l.speech(home)
	if sp.counts.term != s.Term { // another loss of the same zone
		sp.counts = zoneCounts{s.Term, map[string]struct{}{}, map[string]struct{}{}, map[string]struct{}{}}
	}
	says := correlate.Spoken{
		Key:  correlate.Key{Home: home, Resource: correlate.NewID(correlate.KindZone, s.Zone), Condition: correlate.CondZoneLost},
		Term: s.Term, First: 1, Last: correlate.Raised, Confidence: correlate.ConfidenceProbable, Evidence: map[string]string{},
	}
	level := watch.LevelProbable
	for _, loss := range s.Hosts {
		level = max(level, loss.Verdict.Level)
	}
	now := l.now.Round(0).UTC()
	says.Times = correlate.Times{Occurred: now, Observed: now, Raised: now}
	standing := map[string]struct{}{}
	for _, loss := range s.Hosts {
		standing[loss.Host] = struct{}{}
		sp.counts.ever[loss.Host] = struct{}{}
		if at := loss.At.Add(-loss.Verdict.Silence()).Round(0).UTC(); at.Before(says.Times.Occurred) {
			says.Times.Occurred = at
		}
		if loss.At.Before(says.Times.Observed) {
			says.Times.Observed = loss.At.Round(0).UTC()
		}
		if loss.Verdict.Level < level { // it is named when that is known of it, too
			continue
		}
		if level == watch.LevelConfirmed {
			sp.counts.confirmed[loss.Host] = struct{}{}
		}
		says.Affected = append(says.Affected, l.victims(loss.Host, correlate.StateFailed)...)
		says.Evidence[correlate.EvidenceHost+shown(loss.Host)] = fmt.Sprintf("last sign of life %v before %d of its watchers agreed", loss.Verdict.Silence().Round(time.Millisecond), len(loss.Verdict.Votes))
		says.Correlated = append(says.Correlated, (&correlate.Spoken{
			Key:  correlate.Key{Home: loss.Host, Resource: correlate.NewID(correlate.KindHost, loss.Host), Condition: correlate.CondHostLost},
			Term: loss.Verdict.Term + 1, First: stepProbable,
		}).ID())
	}
	for host := range sp.counts.ever {
		if !has(standing, host) {
			sp.counts.back[host] = struct{}{}
		}
	}
	slices.SortFunc(says.Affected, byResource)
	says.Counter = uint64(len(sp.counts.ever) + len(sp.counts.confirmed) + len(sp.counts.back))
	if level == watch.LevelConfirmed {
		says.Confidence = correlate.ConfidenceConfirmed
	}
	says.Evidence[evidenceSpeaker] = l.cfg.Node
	says.Text = fmt.Sprintf("%d hosts of zone %s were lost at once", len(s.Hosts), shown(s.Zone))
	was := l.recorded(home, says.ID())
	if was == nil {
		was = sp.alarms[says.ID()]
	}
	slices.Sort(says.Correlated)
	switch {
	case was == nil:
	case was.Standing() && was.Confidence == says.Confidence && slices.Equal(was.Correlated, says.Correlated) &&
		slices.EqualFunc(was.Affected, says.Affected, correlate.SameAffected): // another speaker's word, of which this one is a repetition
		says.Counter, says.Times, says.Last, says.Reached = was.Revision.Counter, was.Times, was.Last, was.Reached.Counter
	default:
		says.Counter = max(says.Counter, was.Revision.Counter+1)
		says.Times, says.Last, says.Reached = was.Times, correlate.Changed, was.Reached.Counter
		says.Times.Changed = now
	}
	if was == nil || was.Confidence != says.Confidence {
		says.Reached = says.Counter
	}
	if len(s.Hosts) == 0 {
		if was == nil || !was.Standing() {
			if len(sp.alarms) == 0 {
				delete(l.speeches, home)
			}
			return nil
		}
		says.Last, says.Reason, says.Times.Cleared = correlate.Cleared, correlate.ReasonReturned, now
		says.Affected, says.Text, says.Confidence, says.Reached = was.Affected, was.Text, was.Confidence, was.Reached.Counter
	}
	g := Guests{Home: home}
	a := says.Alarm(l.policies)
	l.sayFor(home, sp, a, says.Times.Observed, &g)
	l.addKnown(home, sp, &g)
	l.out.Guests = append(l.out.Guests, g)
	return a
}

// Orphan is an alarm of a zone that stands although none of its hosts is lost.
type Orphan struct {
	Zone string
	Term uint64
}

// orphanAfter is how long the speaker of a zone has to say that it is over.
const orphanAfter = time.Minute

// Orphans are the zones whose alarms nobody has ended.
func (l *Ledger) Orphans(now time.Time) []Orphan {
	lost := map[Orphan]bool{}
	for _, r := range l.Lost() {
		lost[Orphan{r.Zone, r.ZTerm}] = true
	}
	var out []Orphan
	for _, space := range slices.Sorted(maps.Keys(l.hosts)) {
		zone, ok := strings.CutPrefix(space, ZoneSpace)
		if !ok {
			continue
		}
		for _, p := range l.hosts[space].alarms {
			a := p.Alarm
			o := Orphan{zone, a.Revision.Term}
			last := a.Times.Raised
			if a.Times.Changed.After(last) {
				last = a.Times.Changed
			}
			if a.Standing() && a.Key.Condition == correlate.CondZoneLost && !lost[o] && now.Sub(last) > orphanAfter {
				out = append(out, o)
			}
		}
	}
	return out
}
