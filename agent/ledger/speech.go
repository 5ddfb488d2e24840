package ledger

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/paramedic-ha/paramedic/correlate"
	"github.com/paramedic-ha/paramedic/gossip"
	"github.com/paramedic-ha/paramedic/gossip/takeover"
	"github.com/paramedic-ha/paramedic/gossip/watch"
	"github.com/paramedic-ha/paramedic/notify"
)

// What a host says of another that can't speak for itself. Its alarms stand in the other's space under the odd term above
// the other's own, with one counter for each step, so that two speakers write the same thing.
const (
	stepProbable = iota + 1
	stepConfirmed
	_ // fenced
	stepSilent
	stepSilentOver
	stepHung
	stepHungOver
	stepForgotten = 90
)

// Evidence of a host's loss by which a host that was not there at the verdict finds its zone's alarm.
const (
	evidenceZone     = "zone"
	evidenceZoneTerm = "zone_term"
)

// ZoneSpace begins the spaces of zones, before the name.
const ZoneSpace = takeover.ZonePrefix

// Spoken is a record in the space of another host or of a zone.
type Spoken struct {
	Space   string
	Term    uint64
	Kind    gossip.Kind
	ID      string
	Payload []byte
}

// Guests are alarms of a host that this one speaks for, with what is known of their deliveries: what is not told yet is
// now ours to tell.
type Guests struct {
	Home   string // or the space of a zone
	Alarms []correlate.Change
	Pairs  []notify.Pair
}

// speech is what this host says in the place of a home, a host or a zone.
type speech struct {
	alarms map[string]*correlate.Alarm // as the notifier was given them
	owes   map[string]struct{}         // pairs that are not settled
	counts zoneCounts
}

// SetPolicies says how severe what this host says of others is.
func (l *Ledger) SetPolicies(policies []correlate.Policy) { l.policies = slices.Clone(policies) }

// Speak carries out that this host speaks for one that was lost, or for the hosts of a zone: it writes their alarms and gives the
// notifier what consumers are owed of them.
func (l *Ledger) Speak(now time.Time, s takeover.Speech) Orders {
	l.begin(now)
	var zone *correlate.Alarm
	if s.Zone != "" {
		zone = l.speakZone(s)
	}
	for _, loss := range s.Hosts {
		l.speakHost(loss, zone)
	}
	return l.finish()
}

func (l *Ledger) speech(home string) *speech {
	sp := l.speeches[home]
	if sp == nil {
		sp = &speech{alarms: map[string]*correlate.Alarm{}, owes: map[string]struct{}{}}
		l.speeches[home] = sp
	}
	return sp
}

// sayFor writes an alarm in another's space, and has it told. What is recorded already in this revision or a newer one stays.
func (l *Ledger) sayFor(home string, sp *speech, a *correlate.Alarm, observed time.Time, g *Guests) {
	c := correlate.Change{Alarm: a, Occurred: a.Times.Occurred, Observed: observed, Found: l.now}
	sp.alarms[a.ID] = a
	l.guests[a.ID] = home
	g.Alarms = append(g.Alarms, c)
	b, err := l.codec.encodeAlarm(c, false)
	if err != nil {
		l.say(writerResource(l.cfg.Node), correlate.CondUnshared, fmt.Sprintf("alarm %s can't be given to the other hosts: %v", a.ID, err))
		return
	}
	l.out.Spoken = append(l.out.Spoken, Spoken{Space: home, Term: a.Revision.Term, Kind: gossip.KindAlarm, ID: a.ID, Payload: b})
}

func (l *Ledger) recorded(home, id string) *correlate.Alarm {
	if h := l.hosts[home]; h != nil && h.alarms[id] != nil {
		return h.alarms[id].Alarm
	}
	return nil
}

// speakHost says what became of one host.
func (l *Ledger) speakHost(loss takeover.Loss, zone *correlate.Alarm) {
	v := loss.Verdict
	if v.Host == "" {
		v.Host = loss.Host
	}
	sp := l.speech(loss.Host)
	g := Guests{Home: loss.Host}
	said := hostAlarm{l: l, loss: loss, v: v, zone: zone}
	switch v.Level {
	case watch.LevelNone:
	case watch.LevelSilent:
		l.sayFor(loss.Host, sp, said.alarm(correlate.CondAgentSilent, stepSilent, stepSilent, correlate.StateOK), loss.At, &g)
	case watch.LevelHung:
		said.over(correlate.CondAgentSilent, stepSilent, stepSilentOver, sp, &g)
		l.sayFor(loss.Host, sp, said.alarm(correlate.CondHostHung, stepHung, stepHung, correlate.StateUnknown), loss.At, &g)
	case watch.LevelProbable, watch.LevelConfirmed:
		said.over(correlate.CondAgentSilent, stepSilent, stepSilentOver, sp, &g)
		said.over(correlate.CondHostHung, stepHung, stepHungOver, sp, &g)
		step := uint64(stepProbable)
		if v.Level == watch.LevelConfirmed {
			step = stepConfirmed
		}
		l.sayFor(loss.Host, sp, said.alarm(correlate.CondHostLost, stepProbable, step, correlate.StateFailed), loss.At, &g)
	}
	if v.Level != watch.LevelProbable { // before that it may yet speak for itself
		l.adoptGuests(loss.Host, sp, &g)
	}
	l.addKnown(loss.Host, sp, &g)
	l.out.Guests = append(l.out.Guests, g)
}

// hostAlarm makes the alarms about one host.
type hostAlarm struct {
	l    *Ledger
	loss takeover.Loss
	v    watch.Verdict
	zone *correlate.Alarm
}

func (h *hostAlarm) spoken(c correlate.Condition, first uint64) correlate.Spoken {
	return correlate.Spoken{
		Key:  correlate.Key{Home: h.loss.Host, Resource: correlate.NewID(correlate.KindHost, h.loss.Host), Condition: c},
		Term: h.v.Term + 1, First: first, Confidence: correlate.ConfidenceConfirmed,
	}
}

func (h *hostAlarm) alarm(c correlate.Condition, first, step uint64, state correlate.State) *correlate.Alarm {
	s := h.spoken(c, first)
	s.Counter, s.Reached, s.Last = step, step, correlate.Raised
	if h.v.Level == watch.LevelProbable {
		s.Confidence = correlate.ConfidenceProbable
	}
	at := h.loss.At.Round(0).UTC()
	s.Times = correlate.Times{Occurred: at.Add(-h.v.Silence()), Observed: at, Raised: at}
	if was := h.l.recorded(h.loss.Host, s.ID()); was != nil {
		switch d := was.Revision.Counter; {
		case d == step: // another speaker's word, of which this one is a repetition
			s.Times, s.Last = was.Times, was.Last
		case d < step:
			s.Times, s.Last = was.Times, correlate.Changed
			s.Times.Changed = at
		}
	}
	if state != correlate.StateOK {
		s.Affected = h.l.victims(h.loss.Host, state)
	}
	s.Evidence = proof(h.v, h.l.cfg.Node)
	s.Text = told(h.v, c)
	if h.zone != nil {
		s.Under = h.zone.ID
		s.Evidence[evidenceZone] = h.zone.Key.Resource.Name()
		s.Evidence[evidenceZoneTerm] = strconv.FormatUint(h.zone.Revision.Term, 10)
	}
	return s.Alarm(h.l.policies)
}

// over ends a lesser word about the host, if it was said.
func (h *hostAlarm) over(c correlate.Condition, first, step uint64, sp *speech, g *Guests) {
	s := h.spoken(c, first)
	was := h.l.recorded(h.loss.Host, s.ID())
	if was == nil {
		was = sp.alarms[s.ID()]
	}
	if was == nil || !was.Standing() {
		return
	}
	s.Counter, s.Reached, s.Last, s.Reason = step, was.Reached.Counter, correlate.Cleared, correlate.ReasonSuperseded
	s.Times, s.Text, s.Evidence, s.Affected = was.Times, was.Text, was.Evidence, was.Affected
	s.Times.Cleared = h.loss.At.Round(0).UTC()
	h.l.sayFor(h.loss.Host, sp, s.Alarm(h.l.policies), h.loss.At, g)
}

// victims are the running domains of a host, by resource.
func (l *Ledger) victims(home string, state correlate.State) []correlate.Affected {
	views := l.Domains(home)
	ReadDomains(views)
	hit := make([]correlate.Affected, 0, len(views))
	for i := range views {
		if d := &views[i]; !d.Inactive {
			hit = append(hit, correlate.Affected{
				Resource: correlate.NewID(correlate.KindDomain, d.UUID), Name: d.Name, Project: d.Project,
				VNF: correlate.VNF{ID: d.VNF, VNFC: d.VNFC}, State: state, Ports: d.Ports,
			})
		}
	}
	slices.SortFunc(hit, byResource)
	return hit
}

func byResource(a, b correlate.Affected) int {
	return strings.Compare(string(a.Resource), string(b.Resource))
}

// told is the text for people.
func told(v watch.Verdict, c correlate.Condition) string {
	rule := correlate.RuleOf(c)
	silence := v.Silence().Round(time.Millisecond)
	switch {
	case c == correlate.CondHostLost:
		return fmt.Sprintf("%s; last sign of life %v before %d of its watchers agreed", rule.Text, silence, len(v.Votes))
	case c == correlate.CondAgentSilent && v.Closed():
		return fmt.Sprintf("%s; nothing listens on its port, so its process is gone", rule.Text)
	}
	return rule.Text
}

// proof is the evidence of a verdict: who has not heard what, for how long.
func proof(v watch.Verdict, speaker string) map[string]string {
	e := map[string]string{evidenceSpeaker: speaker, "verdict": v.Level.String()}
	if v.By != "" {
		e["counted_by"] = v.By
		e["suspects"] = strconv.Itoa(v.Suspects)
		e["members"] = strconv.Itoa(v.Members)
	}
	for i := range v.Votes {
		w := &v.Votes[i]
		text := fmt.Sprintf("agent not heard for %v", w.Silence.Round(time.Millisecond))
		if w.Kernel == watch.AgeNever {
			text += ", kernel does not answer"
		} else {
			text += fmt.Sprintf(", kernel answered %v ago", w.Kernel.Round(time.Millisecond))
		}
		if w.Closed {
			text += ", port closed"
		}
		if w.Witness {
			text += ", as a witness"
		}
		e["vote."+shown(w.Voter)] = text
	}
	return e
}

// adoptGuests takes up the host's own alarms: they keep their identity, and what of them is not told yet is told.
func (l *Ledger) adoptGuests(home string, sp *speech, g *Guests) {
	h := l.hosts[home]
	if h == nil {
		return
	}
	for _, id := range slices.Sorted(maps.Keys(h.alarms)) {
		a := h.alarms[id].Alarm
		if has(sp.alarms, id) {
			continue
		}
		sp.alarms[id] = a
		l.guests[id] = home
		g.Alarms = append(g.Alarms, h.alarms[id].Change)
	}
}

// Hush ends that this host speaks for another: it is back and speaks for itself, or somebody else does. For one that was
// forgotten nobody does: those who were told of its alarms are told that they are over.
func (l *Ledger) Hush(now time.Time, home string) Orders {
	l.begin(now)
	sp := l.speeches[home]
	if sp == nil {
		return l.finish()
	}
	delete(l.speeches, home)
	if l.hosts[home] != nil || strings.HasPrefix(home, ZoneSpace) {
		l.out.Hush = append(l.out.Hush, home)
		for id := range sp.alarms {
			delete(l.guests, id)
		}
		return l.finish()
	}
	g := Guests{Home: home}
	for _, id := range slices.Sorted(maps.Keys(sp.alarms)) {
		a := *sp.alarms[id]
		if !a.Standing() {
			continue
		}
		a.Revision = correlate.Revision{Term: a.Revision.Term | 1, Counter: max(a.Revision.Counter+1, stepForgotten)}
		a.Last, a.Severity, a.State, a.ClearReason, a.Times.Cleared = correlate.Cleared, correlate.SeverityCleared, correlate.StateOK, correlate.ReasonForgotten, now.Round(0).UTC()
		g.Alarms = append(g.Alarms, correlate.Change{Alarm: &a, Observed: now, Found: now})
	}
	l.out.Guests = append(l.out.Guests, g)
	return l.finish()
}

// forgotGuest ends what was kept for an alarm of another home that is over and that nobody is owed any more.
func (l *Ledger) forgotGuest(id string) {
	home, guest := l.guests[id]
	sp := l.speeches[home]
	if !guest || sp != nil && sp.alarms[id] != nil && sp.alarms[id].Standing() {
		return
	}
	delete(l.guests, id)
	if sp != nil && strings.HasPrefix(home, ZoneSpace) { // nobody comes back to end it
		delete(l.speeches, home)
	}
}

func newer(a, b *correlate.Alarm) *correlate.Alarm {
	if a == nil || a.Revision.Compare(b.Revision) < 0 {
		return b
	}
	return a
}
