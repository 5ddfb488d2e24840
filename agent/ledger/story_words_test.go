package ledger

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/paramedic-ha/paramedic/correlate"
	"github.com/paramedic-ha/paramedic/notify"
)

func (s *story) revision(text string) correlate.Revision {
	if text == "" {
		return correlate.Revision{}
	}
	r, err := correlate.ParseRevision(text)
	s.check(err)
	return r
}

func (s *story) number(text string) (n int) {
	_, err := fmt.Sscan(text, &n)
	s.check(err)
	return n
}

func (s *story) alarm(h *storyHost, verb string, arg map[string]string) correlate.Effects {
	h.counter++
	a := correlate.Alarm{
		ID: arg["alarm"], Key: correlate.Key{Home: h.name, Resource: correlate.ID(arg["resource"]), Condition: correlate.Condition(cmp.Or(arg["condition"], "carrier"))},
		Severity: correlate.SeverityCritical, State: correlate.StateFailed, RootCause: true, Last: correlate.Raised, Source: cmp.Or(arg["source"], "nic"),
	}
	if old := s.alarms[a.ID]; old != nil {
		a = *old
	} else if own, ok := h.ledger.Own(a.ID); ok { // of a former life, or of its speakers
		a = *own.Alarm
	}
	switch verb {
	case "change":
		a.Last, a.Severity = correlate.Changed, correlate.SeverityWarning
	case "clear":
		a.Last, a.ClearReason = correlate.Cleared, correlate.ReasonRecovered
	}
	for _, id := range strings.Fields(arg["hits"]) {
		a.Affected = append(a.Affected, correlate.Affected{Resource: correlate.ID(id), State: correlate.StateFailed})
	}
	a.Revision = correlate.Revision{Term: h.replica.Term(), Counter: h.counter}
	s.alarms[a.ID] = &a
	return correlate.Effects{Save: []*correlate.Alarm{&a}, Publish: []correlate.Change{{Alarm: &a, Observed: s.now}}}
}

func (s *story) sub(id string, arg map[string]string) notify.Subscription {
	sub := notify.Subscription{
		ID: id, Version: uint64(s.now.UnixMicro()), Name: cmp.Or(arg["name"], id), Endpoints: []string{cmp.Or(arg["to"], "http://10.0.0.9/in")},
		Format: notify.FormatNative, Role: notify.RoleAdmin, Origin: notify.OriginAPI, Created: s.now,
	}
	if arg["for"] != "" {
		sub.Expires = s.end(arg["for"])
	}
	if arg["secret"] != "" {
		sub.Secret = notify.NewSecret([]byte(strings.Repeat(arg["secret"], 24)[:24]))
	}
	sub.Credentials = bearer(arg["token"])
	return sub
}

func (s *story) end(span string) time.Time {
	d, err := time.ParseDuration(span)
	s.check(err)
	return s.now.Add(d)
}

func bearer(text string) notify.Credentials {
	c, _ := notify.BearerCredentials(text) // of an empty text there are none
	return c
}

// publish is what the notifier does when an operator speaks.
func (s *story) publish(h *storyHost, verb string, arg map[string]string) {
	id := arg["sub"]
	var told map[string]correlate.Revision
	sub, ok := h.subs[id]
	switch {
	case verb == "subscribe":
		sub = s.sub(id, arg)
		told = map[string]correlate.Revision{}
		for _, a := range h.ledger.Standing() {
			told[a.ID] = a.Revision
		}
		for id, o := range h.ledger.alarms {
			if o.change.Alarm.Standing() {
				told[id] = o.change.Alarm.Revision
			}
		}
	case !ok:
		s.t.Fatalf("%s has no subscription %q", h.name, id)
	case verb == "update":
		sub.Endpoints, sub.Version = []string{arg["to"]}, max(sub.Version+1, uint64(s.now.UnixMicro()))
	case verb == "pause":
		sub.Paused = "by an operator"
	case verb == "renew":
		sub.Expires = s.end(arg["for"])
	case verb == "resume":
		sub.Paused = ""
		s.obey(h, h.ledger.Refused(s.now, id, sub.Version, ""))
	}
	o, err := h.ledger.Publish(s.now, sub, told)
	if err != nil {
		s.say("error: %v", err)
	} else {
		h.subs[id] = sub
	}
	s.obey(h, o)
}

func (s *story) file(h *storyHost, input string) []notify.Subscription {
	var subs []notify.Subscription
	for _, line := range strings.Split(input, "\n") {
		if f := strings.Fields(line); len(f) > 1 {
			line, shown, _ := strings.Cut(line, " token=") // of which the version knows nothing
			f = strings.Fields(line)
			sub := s.sub("file-"+f[0], map[string]string{"name": f[0], "to": f[1], "token": shown})
			if len(f) > 2 {
				sub.Secret = notify.NewSecret([]byte(strings.Repeat(f[2], 24)[:24]))
			}
			sum := sha256.Sum256([]byte(line))
			sub.Version, sub.Origin = binary.BigEndian.Uint64(sum[:])>>11, notify.OriginFile
			subs = append(subs, sub)
			h.subs[sub.ID] = sub
		}
	}
	return subs
}

func (s *story) delta(input string) correlate.Delta {
	d := correlate.Delta{Source: "virt"}
	for _, line := range strings.Split(input, "\n") {
		f := strings.Fields(line)
		if len(f) == 0 {
			continue
		}
		id := correlate.ID(f[1])
		switch {
		case f[0] == "gone":
			d.Gone = append(d.Gone, correlate.Gone{ID: id})
		case id.Kind() == correlate.KindVNIC:
			uuid, mac, _ := strings.Cut(id.Name(), "/")
			d.Set = append(d.Set, correlate.Resource{ID: id, Domain: correlate.NewID(correlate.KindDomain, uuid), Port: &correlate.Port{MAC: mac}})
		default:
			r := correlate.Resource{ID: id}
			for _, w := range f[2:] {
				switch key, value, _ := strings.Cut(w, "="); key {
				case "name":
					r.Name = value
				case "project":
					r.Project = value
				case "vnf":
					r.VNF.ID, r.VNF.VNFC, _ = strings.Cut(value, "/")
				case "inactive":
					r.Inactive = true
				}
			}
			d.Set = append(d.Set, r)
		}
	}
	return d
}

func (s *story) describe(a *correlate.Alarm) string {
	s.alias(a)
	text := fmt.Sprintf("%s %s %v %s: %s %s, %s", a.Key.Home, s.called(a.ID), a.Revision, a.Last, a.Key.Resource, a.Key.Condition, a.Severity)
	if a.Ack != nil {
		text += ", acknowledged by " + a.Ack.By
	}
	for _, c := range a.Comments {
		text += fmt.Sprintf(", %s says %q", c.By, c.Text)
	}
	if a.ByHand != nil {
		text += ", cleared by " + a.ByHand.By
		if a.ByHand.Dismissed {
			text += " and dismissed"
		}
	}
	return text
}

func (s *story) describeSub(sub notify.Subscription) string {
	text := fmt.Sprintf("%s (%s) to %s", sub.ID, sub.Origin, strings.Join(sub.Endpoints, " "))
	switch {
	case sub.Secret.Locked():
		text += ", secret locked"
	case !sub.Secret.IsZero():
		text += ", with secret"
	}
	if !sub.Expires.IsZero() {
		text += ", until " + sub.Expires.Format("15:04")
	}
	switch {
	case sub.Credentials.Locked():
		text += ", credentials locked"
	case !sub.Credentials.IsZero():
		text += ", with " + string(sub.Credentials.Seal(nil, sub.ID))
	}
	if sub.Paused != "" {
		text += ", paused: " + sub.Paused
	}
	return text
}

func (s *story) records(h *storyHost, of string) {
	var lines []string
	for rec := range h.replica.Records() {
		if name := kindNames[rec.Kind]; rec.Space == of && name != "" && !rec.Deleted {
			lines = append(lines, strings.TrimSpace(name+" "+s.shown(rec.ID)))
		}
	}
	slices.Sort(lines)
	for _, line := range lines {
		s.say("%s", line)
	}
}

// left names who is yet to hear that the fault is over for them.
func left(p notify.Pair) (text string) {
	for _, part := range p.Left {
		text += fmt.Sprintf(", %s of %s has left", part.ID, part.Project)
	}
	return text
}
