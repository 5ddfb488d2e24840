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

// Back says that a host speaks for itself under a term, or that what was said for it is void (takeover.Forgotten).
type Back struct {
	Host string
	Term uint64
}

// speech is what this host says in the place of a home, a host or a zone.
type speech struct {
	alarms map[string]*correlate.Alarm // as the notifier was given them
	owes   map[string]struct{}         // pairs that are not settled
	counts zoneCounts
}

// zoneCounts number a zone's revisions by what they say, so that two speakers that know the same say it under the same number.
type zoneCounts struct {
	term                  uint64
	ever, confirmed, back map[string]struct{}
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
	b, err := l.codec.encodeAlarm(c)
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
				Resource: correlate.NewID(correlate.KindDomain, d.UUID), Name: d.Name, Project: d.Project, State: state, Ports: d.Ports,
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

// addKnown says what is known to be told and owed of the alarms of a speech.
func (l *Ledger) addKnown(home string, sp *speech, g *Guests) {
	pairs := map[string]notify.Pair{}
	if h := l.hosts[home]; h != nil {
		for id, d := range h.deliveries {
			if subscription, alarm := splitPair(id); has(sp.alarms, alarm) {
				pairs[id] = notify.Pair{Subscription: subscription, AlarmID: alarm, Told: d.told, Owed: d.owed, Parked: d.Parked}
			}
		}
	}
	told := func(subscription, alarm, of string, r correlate.Revision) {
		a := sp.alarms[alarm]
		if a == nil || of != home || r.Compare(a.Revision) > 0 {
			return
		}
		id := pairID(subscription, alarm)
		p := pairs[id]
		p.Subscription, p.AlarmID = subscription, alarm
		if r.Compare(p.Told) > 0 {
			p.Told = r
		}
		pairs[id] = p
	}
	l.eachReceipt(func(id string, r receipt) {
		if subscription, alarm := splitPair(id); has(pairs, id) || !l.endedByHome(home, alarm) {
			told(subscription, alarm, r.home, r.told)
		}
	})
	for subscription, w := range l.shared { // what the home has not taken yet
		for alarm, g := range w.payload.Snapshot {
			if !has(sp.alarms, alarm) {
				continue
			}
			if r, err := correlate.ParseRevision(g.Revision); err == nil {
				told(subscription, alarm, g.Home, r)
			}
		}
	}
	for _, id := range slices.Sorted(maps.Keys(pairs)) {
		p := pairs[id]
		if p.Owed.Compare(p.Told) <= 0 {
			p.Owed, p.Parked = correlate.Revision{}, false
		}
		g.Pairs = append(g.Pairs, p)
	}
}

// ownSaid is between a host's word that an alarm is over and its word about whom it owes that; the latter is late by flushAfter.
const ownSaid = 5 * time.Second

// endedByHome says that a home has itself ended an alarm, and had the time to say whom it owes that: those of whom it says nothing know it.
func (l *Ledger) endedByHome(home, id string) bool {
	h := l.hosts[home]
	if h == nil || h.alarms[id] == nil {
		return false
	}
	a := h.alarms[id].Alarm
	return !a.Standing() && a.Revision.Term%2 == 0 && l.now.Sub(h.alarms[id].learned) > ownSaid
}

// eachReceipt goes over all receipts, ours too.
func (l *Ledger) eachReceipt(f func(id string, r receipt)) {
	for id, r := range l.receipts {
		f(id, r)
	}
	for _, h := range l.hosts {
		for id, r := range h.receipts {
			f(id, r)
		}
	}
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
		says.Evidence["host."+shown(loss.Host)] = fmt.Sprintf("last sign of life %v before %d of its watchers agreed", loss.Verdict.Silence().Round(time.Millisecond), len(loss.Verdict.Votes))
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

// guestPair notes what became of a delivery for another host: a receipt, for its home and for who speaks after us.
func (l *Ledger) guestPair(home string, p notify.Pair) {
	id := pairID(p.Subscription, p.AlarmID)
	sp := l.speeches[home]
	if sp != nil {
		if p.Removed || p.Owed == (correlate.Revision{}) || p.Parked || p.Attempts > 0 { // what failed is tried again for long: that is told
			delete(sp.owes, id)
		} else {
			sp.owes[id] = struct{}{}
		}
		if len(sp.owes) == 0 {
			l.out.Finished = append(l.out.Finished, home)
		}
	}
	r := receipt{home, p.Told}
	if p.Removed {
		a := l.recorded(home, p.AlarmID)
		if sp != nil && sp.alarms[p.AlarmID] != nil { // it may not be in the replica yet
			a = newer(a, sp.alarms[p.AlarmID])
		}
		if a != nil && !a.Standing() {
			r.told = a.Revision
		}
	}
	if r.told == (correlate.Revision{}) || l.recorded(home, p.AlarmID) == nil && (sp == nil || sp.alarms[p.AlarmID] == nil) {
		return
	}
	if old, ok := l.receipts[id]; ok && old.told.Compare(r.told) >= 0 {
		return
	}
	if h := l.hosts[home]; h != nil && h.deliveries[id].told.Compare(r.told) >= 0 {
		return
	}
	l.hold(id, r)
}

func newer(a, b *correlate.Alarm) *correlate.Alarm {
	if a == nil || a.Revision.Compare(b.Revision) < 0 {
		return b
	}
	return a
}

// spokenFor tells who watches that a record is what a speaker has said of a host, and under which zone's alarm.
func (l *Ledger) spokenFor(h *host, rec gossip.Record, a *correlate.Alarm) {
	if r, ok := lossOf(h, rec, a); ok {
		h.lost[a.ID] = r
		l.out.Recorded = append(l.out.Recorded, r)
	} else {
		delete(h.lost, a.ID)
	}
}

// Lost is what is recorded of all hosts that can't speak for themselves, for a host that has forgotten it.
func (l *Ledger) Lost() []takeover.Record {
	var all []takeover.Record
	for _, name := range slices.Sorted(maps.Keys(l.hosts)) {
		h := l.hosts[name]
		for _, id := range slices.Sorted(maps.Keys(h.lost)) {
			if h.alarms[id] != nil && h.lost[id].Term >= h.term {
				all = append(all, h.lost[id])
			}
		}
	}
	return all
}

func lossOf(h *host, rec gossip.Record, a *correlate.Alarm) (r takeover.Record, ok bool) {
	if rec.Version.A%2 == 0 || rec.Version.A < h.term || !a.Standing() || strings.HasPrefix(rec.Space, ZoneSpace) {
		return r, false
	}
	r = takeover.Record{Host: rec.Space, Term: rec.Version.A - 1, Writer: rec.Version.Node}
	switch a.Key.Condition {
	case correlate.CondHostLost:
		r.Level = watch.LevelConfirmed
		if a.Confidence == correlate.ConfidenceProbable {
			r.Level = watch.LevelProbable
		}
	case correlate.CondAgentSilent:
		r.Level = watch.LevelSilent
	case correlate.CondHostHung:
		r.Level = watch.LevelHung
	default:
		return r, false
	}
	if a.Under != "" {
		r.Zone = a.Evidence[evidenceZone]
		r.ZTerm, _ = strconv.ParseUint(a.Evidence[evidenceZoneTerm], 10, 64)
		if r.ZTerm%2 == 0 {
			return r, false // it is not from one of us
		}
	}
	return r, true
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

// heardOf notes the term under which a host speaks for itself.
func (l *Ledger) heardOf(h *host, rec gossip.Record) {
	if a := rec.Version.A; a%2 == 0 && a > h.term && rec.Version.Node == rec.Space {
		h.term = a
		l.out.Back = append(l.out.Back, Back{Host: rec.Space, Term: a})
	}
}

// purged says that what was said of hosts is void: they are back under a higher term than what it was said under, or forgotten, and
// then nothing of them is left. Which of the two shows when all that goes is gone.
func (l *Ledger) purged(records []gossip.Record) {
	void := map[string]uint64{}
	for _, rec := range records {
		if rec.Space == gossip.Shared || rec.Space == l.cfg.Node {
			continue
		}
		above := void[rec.Space]
		if rec.Version.A%2 == 1 && rec.Kind == gossip.KindAlarm {
			above = max(above, rec.Version.A+1)
		}
		void[rec.Space] = above
	}
	for _, home := range slices.Sorted(maps.Keys(void)) {
		switch above := void[home]; {
		case l.hosts[home] == nil:
			l.out.Back = append(l.out.Back, Back{Host: home, Term: takeover.Forgotten})
		case above > 0:
			l.out.Back = append(l.out.Back, Back{Host: home, Term: above})
		}
	}
}

// TermOf is the highest term under which another host has spoken for itself; zero: none is known.
func (l *Ledger) TermOf(name string) uint64 {
	if h := l.hosts[name]; h != nil {
		return h.term
	}
	return 0
}
