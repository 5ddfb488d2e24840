package ledger

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/paramedic-ha/paramedic/correlate"
	"github.com/paramedic-ha/paramedic/gossip"
	"github.com/paramedic-ha/paramedic/gossip/takeover"
	"github.com/paramedic-ha/paramedic/gossip/watch"
)

// The parts of the stories in which hosts speak for others. Their alarms have ids that are hashes; the stories name them
// by home, condition and the revision that raised them: cmp-1/host-lost/3.1.

// losses reads the hosts of a speech, one a line: cmp-1 term=2 confirmed [after=800ms] [voter=cmp-4] [closed].
func (s *story) losses(input string) []takeover.Loss {
	var losses []takeover.Loss
	for line := range strings.Lines(input) {
		f := strings.Fields(line)
		if len(f) == 0 {
			continue
		}
		v := watch.Verdict{Host: f[0], Votes: []watch.Vote{{Voter: "cmp-7", Silence: 330 * time.Millisecond, Kernel: watch.AgeNever}}, By: "cmp-7", Suspects: 1, Members: 7}
		for _, w := range f[1:] {
			switch key, value, _ := strings.Cut(w, "="); key {
			case "term":
				v.Term = uint64(s.number(value))
			case "voter":
				v.Votes[0].Voter = value
			case "closed":
				v.Votes[0].Closed = true
			case "probable", "confirmed", "silent", "hung":
				v.Level = levels[key]
			default:
				s.t.Fatalf("no such word of a verdict: %q", w)
			}
		}
		losses = append(losses, takeover.Loss{Host: f[0], Verdict: v, At: s.now})
	}
	return losses
}

var levels = map[string]watch.Level{
	"silent": watch.LevelSilent, "hung": watch.LevelHung, "probable": watch.LevelProbable, "confirmed": watch.LevelConfirmed,
}

// speech lets a host speak: hosts at=cmp-2 [zone=rack-1 zterm=3], with the hosts below.
func (s *story) speech(h *storyHost, arg map[string]string, input string) {
	sp := takeover.Speech{Zone: arg["zone"], Hosts: s.losses(input)}
	if sp.Zone != "" {
		sp.Term = uint64(s.number(arg["zterm"]))
	}
	s.obey(h, h.ledger.Speak(s.now, sp))
}

// spoken carries out, in the shell's order, what a ledger has ordered about other hosts.
func (s *story) spoken(h *storyHost, o *Orders) {
	for _, b := range o.Back {
		switch {
		case !h.speaks[b.Host]:
		case b.Term == takeover.Forgotten:
			s.say("%s knows that %s is forgotten", h.name, b.Host)
		default:
			s.say("%s knows that %s is back under term %d", h.name, b.Host, b.Term)
		}
	}
	for _, home := range o.Hush {
		s.say("%s hushes of %s", h.name, home)
		delete(h.speaks, home)
	}
	for _, g := range o.Guests {
		h.speaks[g.Home] = true
		for _, c := range g.Alarms {
			s.say("%s tells for %s: %s", h.name, g.Home, s.detail(c.Alarm))
		}
		for _, p := range g.Pairs {
			s.say("    %s of %s: told %v, owed %v%s%s", p.Subscription, s.called(p.AlarmID), p.Told, p.Owed, map[bool]string{true: ", parked"}[p.Parked], left(p))
		}
	}
	var res gossip.Result
	for _, w := range o.Spoken {
		one, err := h.replica.Speak(s.now, w.Space, w.Term, w.Kind, w.ID, w.Payload)
		s.check(err)
		if len(one.Changed) == 0 {
			s.say("%s has that record of %s already", h.name, w.Space)
		}
		res.Changed, res.Own, res.OwnTerm = append(res.Changed, one.Changed...), append(res.Own, one.Own...), max(res.OwnTerm, one.OwnTerm)
	}
	for _, home := range o.Finished {
		s.say("%s has told all of %s", h.name, home)
	}
	for _, r := range o.Recorded {
		zone := ""
		if r.Zone != "" {
			zone = fmt.Sprintf(" under %s %d", r.Zone, r.ZTerm)
		}
		s.say("%s finds that %s says %s of %s %d%s", h.name, r.Writer, r.Level, r.Host, r.Term, zone)
	}
	if len(res.Changed) > 0 {
		s.take(h, res)
	}
}

// called is the name of an alarm in the stories.
func (s *story) called(id string) string { return cmp.Or(s.aliases[id], id) }

// alias notes the name of an alarm that a speaker has made.
func (s *story) alias(a *correlate.Alarm) {
	if a.First != (correlate.Revision{}) && s.alarms[a.ID] == nil {
		s.aliases[a.ID] = fmt.Sprintf("%s/%s/%v", a.Key.Home, a.Key.Condition, a.First)
	}
}

// lookup is the id of an alarm by its name.
func (s *story) lookup(name string) string {
	for id, alias := range s.aliases {
		if alias == name {
			return id
		}
	}
	return name
}

// detail describes an alarm with all that a consumer would see of a loss.
func (s *story) detail(a *correlate.Alarm) string {
	s.alias(a)
	text := fmt.Sprintf("%s %v %s", s.called(a.ID), a.Revision, a.Last)
	if a.ClearReason != "" {
		text += " (" + a.ClearReason + ")"
	}
	text += fmt.Sprintf(", %s, %s, reached %v", a.Severity, a.Confidence, a.Reached)
	clock := func(name string, t time.Time) {
		if !t.IsZero() {
			text += fmt.Sprintf(", %s %s", name, t.Format("05.000"))
		}
	}
	clock("occurred", a.Times.Occurred)
	clock("raised", a.Times.Raised)
	clock("changed", a.Times.Changed)
	clock("cleared", a.Times.Cleared)
	if a.Under != "" {
		text += ", under " + s.called(a.Under)
	}
	for _, hit := range a.Affected {
		text += fmt.Sprintf(", %s %s", hit.Name, hit.State)
		if hit.VNF != (correlate.VNF{}) {
			text += fmt.Sprintf(" (VNF %s %s)", hit.VNF.ID, hit.VNF.VNFC)
		}
	}
	return text
}

// lost is what a ledger would tell one who has forgotten who is lost.
func (s *story) lost(l *Ledger) {
	for _, r := range l.Lost() {
		s.say("%s %d %s, says %s", r.Host, r.Term, r.Level, r.Writer)
	}
}

// keptFor is what a ledger keeps because it speaks.
func (s *story) keptFor(l *Ledger) {
	for _, home := range slices.Sorted(maps.Keys(l.speeches)) {
		s.say("speaks for %s", home)
	}
	names := make([]string, 0, len(l.guests))
	for id, home := range l.guests {
		names = append(names, fmt.Sprintf("guest %s of %s", s.called(id), home))
	}
	slices.Sort(names)
	for _, n := range names {
		s.say("%s", n)
	}
	for _, id := range slices.Sorted(maps.Keys(l.receipts)) {
		sub, alarm := splitPair(id)
		s.say("receipt: %s was told %s %v", sub, s.called(alarm), l.receipts[id].told)
	}
}
