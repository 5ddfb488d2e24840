package ledger

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"

	"github.com/paramedic-ha/paramedic/correlate"
	"github.com/paramedic-ha/paramedic/gossip"
	"github.com/paramedic-ha/paramedic/notify"
	"github.com/paramedic-ha/paramedic/notify/delivery"
)

// TestStories tells the stories of testdata: what happens at hosts, what they hear of each other, and what each of their
// ledgers orders. The replicas are real; "gossip" brings all that is written to all that are connected.
// go test ./agent/ledger -run TestStories -rewrite accepts what they say now.
func TestStories(t *testing.T) {
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		if !strings.HasSuffix(path, ".txt") {
			return
		}
		s := &story{t: t, now: noon, hosts: map[string]*storyHost{}, alarms: map[string]*correlate.Alarm{}, aliases: map[string]string{}}
		datadriven.RunTest(t, path, s.run)
	})
}

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// toySealer binds what it seals to a key and a context, and never seals twice alike, as a real one.
type toySealer struct {
	key string
	n   *uint64
}

func (s toySealer) mac(nonce, plain, context []byte) []byte {
	h := sha256.Sum256(slices.Concat([]byte(s.key), nonce, plain, context))
	return h[:8]
}

func (s toySealer) Seal(plain, context []byte) []byte {
	*s.n++
	nonce := binary.BigEndian.AppendUint64(nil, *s.n)
	hidden := bytes.Clone(plain)
	for i := range hidden {
		hidden[i] ^= 0x5a
	}
	return slices.Concat(nonce, s.mac(nonce, plain, context), hidden)
}

func (s toySealer) Open(sealed, context []byte) ([]byte, error) {
	if len(sealed) < 16 {
		return nil, errors.New("cut off")
	}
	plain := bytes.Clone(sealed[16:])
	for i := range plain {
		plain[i] ^= 0x5a
	}
	if !bytes.Equal(s.mac(sealed[:8], plain, context), sealed[8:16]) {
		return nil, errors.New("sealed under another key")
	}
	return plain, nil
}

type storyHost struct {
	name    string
	ledger  *Ledger
	replica *gossip.Replica
	wake    time.Time
	counter uint64 // of its alarms' revisions
	refused bool   // its replica takes no shared record: its clock is ahead of the peers'
	away    bool   // it hears nothing and is not heard
	key     string
	sealed  uint64
	subs    map[string]notify.Subscription // what its notifier has
	speaks  map[string]bool                // homes for which it speaks
}

type story struct {
	t       *testing.T
	now     time.Time
	hosts   map[string]*storyHost
	alarms  map[string]*correlate.Alarm // newest form, as their homes have them
	aliases map[string]string           // of alarms that speakers have made, by id
	out     strings.Builder
}

func (s *story) names() []string { return slices.Sorted(maps.Keys(s.hosts)) }

func (s *story) check(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s *story) say(format string, args ...any) { fmt.Fprintf(&s.out, format+"\n", args...) }

// boot starts a host with nothing.
func (s *story) boot(name, key string, term uint64) *storyHost {
	r, err := gossip.New(gossip.Config{Self: name, Term: term})
	s.check(err)
	h := &storyHost{name: name, replica: r, key: key, subs: map[string]notify.Subscription{}, speaks: map[string]bool{}}
	cfg := Config{Node: name, Label: "prod"}
	if key != "" {
		cfg.Sealer = toySealer{key, &h.sealed}
	}
	h.ledger = New(cfg)
	s.hosts[name] = h
	return h
}

func (s *story) run(t *testing.T, d *datadriven.TestData) string {
	s.t = t
	s.out.Reset()
	arg := map[string]string{}
	for _, a := range d.CmdArgs {
		arg[a.Key] = strings.Join(a.Vals, " ")
	}
	if arg["alarm"] != "" {
		arg["alarm"] = s.lookup(arg["alarm"])
	}
	h := s.hosts[arg["at"]]
	l := (*Ledger)(nil)
	if h != nil {
		l = h.ledger
	} else if arg["at"] != "" {
		d.Fatalf(t, "no such host %q", arg["at"])
	}
	switch d.Cmd {
	case "hosts": // hosts cmp-1 cmp-2 [key=…]
		for _, a := range d.CmdArgs {
			if len(a.Vals) == 0 {
				h := s.boot(a.Key, cmp.Or(arg["key"], "k"), 2)
				s.obey(h, h.ledger.Begin(s.now))
			}
		}
	case "keyless": // a host without cluster.secrets_key_file
		h := s.boot(d.CmdArgs[0].Key, "", 2)
		s.obey(h, h.ledger.Begin(s.now))
	case "raise", "change", "clear": // raise at=cmp-1 alarm=a1 resource=nic/eth0 condition=carrier hits=domain/web
		s.obey(h, l.Effects(s.now, s.alarm(h, d.Cmd, arg)))
	case "forgot":
		s.obey(h, l.Forgot(s.now, []string{arg["alarm"]}))
	case "subscribe", "update", "pause", "resume", "renew": // for=1h: until it ends
		s.publish(h, d.Cmd, arg)
	case "withdraw":
		delete(h.subs, arg["sub"])
		s.obey(h, l.Withdraw(s.now, arg["sub"]))
	case "file": // one subscription a line: name address
		s.obey(h, l.File(s.now, s.file(h, d.Input)))
	case "known": // what the notifier had on its disk
		sub := s.sub(arg["sub"], arg)
		if d.HasArg("paused") {
			sub.Paused = "answered 410"
		}
		h.subs[sub.ID] = sub
		s.obey(h, l.Known(s.now, []notify.Subscription{sub}))
	case "refuse": // the consumer answers this host 410
		sub := h.subs[arg["sub"]]
		sub.Paused = "answered 410"
		h.subs[sub.ID] = sub
		s.obey(h, l.Refused(s.now, sub.ID, sub.Version, "answered 410"))
	case "ack", "comment", "clear-by-hand":
		kind := map[string]gossip.Kind{"ack": gossip.KindAck, "comment": gossip.KindComment, "clear-by-hand": gossip.KindClear}[d.Cmd]
		o, err := l.Say(s.now, Saying{Kind: kind, AlarmID: arg["alarm"], By: arg["by"], Text: arg["comment"], At: s.now})
		if err != nil {
			s.say("error: %v", err)
		}
		s.obey(h, o)
	case "pair": // pair at=cmp-1 sub=s alarm=a told=2.1 owed=2.2 [removed] [left=domain/web]
		p := notify.Pair{Subscription: arg["sub"], AlarmID: arg["alarm"], Told: s.revision(arg["told"]), Owed: s.revision(arg["owed"]), Removed: d.HasArg("removed"), Parked: d.HasArg("parked")}
		if d.HasArg("left") {
			p.Left = []delivery.Part{{ID: arg["left"], Project: "acme"}}
		}
		s.obey(h, l.Pairs(s.now, []notify.Pair{p}))
	case "handed": // this host has told the consumer for the alarm's home, or for one that speaks for that: by=cmp-2
		a := s.alarms[arg["alarm"]]
		if a == nil {
			a = l.foreign(arg["alarm"]).Alarm
		}
		ho := notify.HandOver{Subscription: arg["sub"], Change: correlate.Change{Alarm: a}}
		s.obey(h, l.Handed(s.now, ho, cmp.Or(arg["by"], a.Key.Home), notify.Answer{By: h.name, Outcome: delivery.Outcome{}}))
	case "settled":
		s.say("%v", l.Settled(arg["sub"], arg["alarm"], s.revision(arg["revision"])))
	case "inventory": // inventory at=cmp-1 [full]
		delta := s.delta(d.Input)
		delta.Full = d.HasArg("full")
		s.obey(h, l.Inventory(s.now, &delta))
	case "raw": // raw at=cmp-1 kind=3 id=x [json]: a host that is broken, or lies; bytes as they are, or a payload of this version
		payload := []byte(d.Input)
		if d.HasArg("json") {
			payload = append([]byte{formatVersion, 0}, payload...)
		}
		if kind := gossip.Kind(s.number(arg["kind"])); kind >= gossip.KindShared {
			_, _, err := h.replica.SetShared(s.now, kind, arg["id"], payload)
			s.check(err)
		} else {
			_, _, err := h.replica.Set(s.now, kind, arg["id"], payload)
			s.check(err)
		}
	case "newer": // a host of a newer version writes a subscription: newer at=cmp-1 sub=vnfm to=… role=…
		p := words(s.sub(arg["sub"], arg))
		p.Role = cmp.Or(arg["role"], p.Role)
		b, err := l.codec.encode(p)
		s.check(err)
		rec, _, err := h.replica.SetShared(s.now, gossip.KindSubscription, arg["sub"], b)
		s.check(err)
		s.take(h, gossip.Result{Changed: []gossip.Record{rec}})
	case "gossip":
		s.gossip()
	case "away", "back":
		for _, a := range d.CmdArgs {
			s.hosts[a.Key].away = d.Cmd == "away"
		}
	case "ahead", "right": // the clock of a host, to its peers
		for _, a := range d.CmdArgs {
			s.hosts[a.Key].refused = d.Cmd == "ahead"
		}
	case "wait":
		span, err := time.ParseDuration(d.CmdArgs[0].Key)
		s.check(err)
		s.wait(s.now.Add(span))
	case "clock": // the clocks of all are set
		span, err := time.ParseDuration(arg["by"])
		s.check(err)
		s.now = s.now.Add(span)
		for _, n := range s.names() {
			s.obey(s.hosts[n], s.hosts[n].ledger.Tick(s.now))
		}
	case "reimage": // everything of a host is gone but its name
		name := d.CmdArgs[0].Key
		s.boot(name, s.hosts[name].key, 0)
	case "restart": // all of the cluster at once; what each has on its disk is left
		old := maps.Clone(s.hosts)
		for _, a := range d.CmdArgs {
			s.restart(old[a.Key])
		}
	case "begin": // its term is known
		h := s.hosts[d.CmdArgs[0].Key]
		term := h.replica.SeenTerm()/2*2 + 2
		_, err := h.replica.SetTerm(s.now, term)
		s.check(err)
		s.say("term %d", term)
		changes, pairs := h.ledger.Former()
		for _, c := range changes {
			s.say("%s finds its former %s", h.name, s.describe(c.Alarm))
		}
		for _, p := range pairs {
			s.say("%s finds its former delivery %s to %s: told %v, owed %v%s", h.name, p.AlarmID, p.Subscription, p.Told, p.Owed, left(p))
		}
		s.obey(h, h.ledger.Effects(s.now, correlate.Effects{Publish: changes}))
		s.obey(h, h.ledger.Pairs(s.now, pairs))
		s.obey(h, h.ledger.Begin(s.now))
		h.replica.Restated(s.now)
	case "forget": // forget cmp-3 at=cmp-1
		res, err := h.replica.Forget(s.now, d.CmdArgs[0].Key)
		s.check(err)
		s.take(h, res)
	case "speak": // hosts below, one a line: cmp-1 term=2 confirmed
		s.speech(h, arg, d.Input)
	case "hush":
		s.obey(h, l.Hush(s.now, arg["home"]))
	case "lost":
		s.lost(l)
	case "kept":
		s.keptFor(l)
	case "alarms":
		for _, a := range l.Standing() {
			s.say("%s: %s", a.Key.Home, s.describe(a))
		}
	case "mute": // mute at=cmp-1 mute=power hosts=cmp-2 for=1h by=alice
		d, err := time.ParseDuration(arg["for"])
		s.check(err)
		m := notify.Mute{ID: arg["mute"], Filter: notify.Filter{Hosts: strings.Fields(arg["hosts"])}, Until: s.now.Add(d), By: arg["by"], Made: s.now}
		o, err := l.PublishMute(s.now, m)
		s.check(err)
		s.obey(h, o)
	case "unmute":
		s.obey(h, l.WithdrawMute(s.now, arg["mute"]))
	case "known-mute": // the notifier had it on its disk
		d, err := time.ParseDuration(arg["for"])
		s.check(err)
		s.obey(h, l.KnownMutes(s.now, []notify.Mute{{ID: arg["mute"], Filter: notify.Filter{Hosts: strings.Fields(arg["hosts"])}, Until: s.now.Add(d), Made: s.now}}))
	case "dismissed":
		for _, a := range l.Dismissed() {
			s.say("%s: %s", a.Key.Home, s.describe(a))
		}
	case "well": // the source of what was cleared by hand says that all is well
		a, word := *s.alarms[arg["alarm"]], *s.alarms[arg["alarm"]].ByHand
		word.Dismissed = false
		a.ByHand, s.alarms[a.ID] = &word, &a
		s.obey(h, l.Effects(s.now, correlate.Effects{Save: []*correlate.Alarm{&a}}))
	case "domains":
		for _, v := range domains(l) {
			s.say("%s at %s, %q of %q, inactive %v, %s, %d ports", v.UUID, v.Home, v.Name, v.Project, v.Inactive, v.State, len(v.Ports))
		}
	case "home":
		s.say("%s", cmp.Or(l.Home(arg["domain"]), "nobody"))
	case "subscriptions":
		for _, sub := range l.Subscriptions() {
			s.say("%s", s.describeSub(sub))
		}
	case "records": // what stands in the space of a host, as this one has it
		s.records(h, arg["of"])
	default:
		t.Fatalf("%s: no such directive %q", d.Pos, d.Cmd)
	}
	if s.out.Len() == 0 {
		return "nothing to do\n"
	}
	return s.out.String()
}

func (s *story) restart(old *storyHost) {
	h := s.boot(old.name, old.key, old.replica.Term()+2)
	h.subs = old.subs
	var known, file []notify.Subscription
	for _, id := range slices.Sorted(maps.Keys(old.subs)) {
		if sub := old.subs[id]; sub.Origin == notify.OriginFile {
			file = append(file, sub)
		} else {
			known = append(known, sub)
		}
	}
	s.obey(h, h.ledger.Known(s.now, known))
	s.obey(h, h.ledger.File(s.now, file))
	for _, sub := range slices.Concat(known, file) {
		if _, refused := old.ledger.refusals[sub.ID]; refused {
			s.obey(h, h.ledger.Refused(s.now, sub.ID, sub.Version, sub.Paused))
		}
	}
	s.take(h, h.replica.Restore(s.now, s.now, slices.DeleteFunc(slices.Collect(old.replica.Records()), func(r gossip.Record) bool {
		return r.Space != gossip.Shared
	})))
	for _, id := range slices.Sorted(maps.Keys(old.ledger.alarms)) {
		s.obey(h, h.ledger.Effects(s.now, correlate.Effects{Publish: []correlate.Change{old.ledger.alarms[id].change}}))
	}
	for _, id := range slices.Sorted(maps.Keys(old.ledger.pairs)) {
		s.obey(h, h.ledger.Pairs(s.now, []notify.Pair{old.ledger.pairs[id]}))
	}
	s.obey(h, h.ledger.Begin(s.now))
	h.replica.Restated(s.now)
}

// obey carries orders out as the shell does, and writes them down as an operator would.
func (s *story) obey(h *storyHost, o Orders) {
	h.wake = o.Wake
	var res gossip.Result
	for _, w := range o.Write {
		var rec gossip.Record
		var changed bool
		var err error
		switch shared := w.Kind >= gossip.KindShared; {
		case shared && h.refused:
			s.say("%s can't write %s %s", h.name, kindNames[w.Kind], w.ID)
			continue
		case shared && w.Delete:
			rec, changed, err = h.replica.DeleteShared(s.now, w.Kind, w.ID)
		case shared:
			rec, changed, err = h.replica.SetShared(s.now, w.Kind, w.ID, w.Payload)
		case w.Delete:
			rec, changed, err = h.replica.Delete(s.now, w.Kind, w.ID)
		default:
			rec, changed, err = h.replica.Set(s.now, w.Kind, w.ID, w.Payload)
		}
		s.check(err)
		verb := "writes"
		if w.Delete {
			verb = "deletes"
		}
		s.say("%s %s %s%s", h.name, verb, kindNames[w.Kind], orNothing(" ", s.shown(w.ID)))
		if changed {
			res.Changed = append(res.Changed, rec)
		}
	}
	s.spoken(h, &o)
	for _, id := range o.Drop {
		s.say("%s drops %s", h.name, id)
		delete(h.subs, id)
	}
	for _, p := range o.Put {
		s.say("%s puts %s", h.name, s.describeSub(p.Subscription))
		h.subs[p.Subscription.ID] = p.Subscription
		for _, id := range slices.Sorted(maps.Keys(p.Told)) {
			own, ok := h.ledger.Own(id)
			switch {
			case h.ledger.guests[id] != "":
				s.say("    told %s %v: of %s", s.called(id), p.Told[id], h.ledger.guests[id])
			case ok && own.Alarm.Standing():
				s.say("    told %s %v: stands", id, p.Told[id])
			case ok:
				s.say("    told %s %v: to be told of %v", id, p.Told[id], own.Alarm.Revision)
			default:
				s.say("    told %s %v: to be closed: %s %s", id, p.Told[id], p.Given[id].Resource, p.Given[id].Condition)
			}
		}
	}
	for _, f := range o.Former {
		s.say("%s finds late its former %s", h.name, s.describe(f.Change.Alarm))
		for _, p := range f.Pairs {
			s.say("    %s was told %v, is owed %v", p.Subscription, p.Told, p.Owed)
		}
	}
	for _, x := range o.Told {
		s.say("%s learns that %s was told %s %v", h.name, x.Subscription, s.called(x.AlarmID), x.Revision)
	}
	for _, e := range o.Report {
		s.say("%s reports %s %s %s%s", h.name, e.Resource, e.Condition, e.Status, orNothing(": ", e.Text))
	}
	for _, c := range o.Seen {
		s.say("%s sees %s", h.name, s.describe(c.Alarm))
	}
	if o.Claim != 0 {
		s.say("%s must claim a term above %d", h.name, o.Claim)
	}
	for _, id := range o.Unmute {
		s.say("%s is told that mute %s is over", h.name, id)
	}
	for _, m := range o.Mute {
		s.say("%s mutes %s for %v by %s: %s", h.name, m.Filter.Hosts, m.Until.Sub(s.now), m.By, m.ID)
	}
	for _, w := range o.Said {
		s.heed(h, w)
	}
	if len(res.Changed) > 0 {
		s.take(h, res)
	}
}

// heed has the engine of an alarm's home carry out a word.
func (s *story) heed(h *storyHost, w Saying) {
	a := *w.Show(s.alarms[w.AlarmID])
	var eff correlate.Effects
	switch w.Kind {
	case gossip.KindComment:
		s.say("%s takes the comment of %s on %s", h.name, w.By, w.AlarmID)
	case gossip.KindClear:
		s.say("%s clears %s for %s", h.name, w.AlarmID, w.By)
		h.counter++
		a.Revision, a.Last, a.Severity, a.ClearReason = correlate.Revision{Term: a.Revision.Term, Counter: h.counter}, correlate.Cleared, correlate.SeverityCleared, correlate.ReasonByHand
		a.Times.Cleared, a.ByHand.Dismissed = s.now, true
		eff.Publish = append(eff.Publish, correlate.Change{Alarm: &a})
	default:
		s.say("%s acknowledges %s for %s", h.name, w.AlarmID, w.By)
	}
	s.alarms[w.AlarmID] = &a
	eff.Save = append(eff.Save, &a)
	s.obey(h, h.ledger.Effects(s.now, eff))
}

func (s *story) take(h *storyHost, res gossip.Result) {
	s.obey(h, h.ledger.Take(s.now, gossip.Changes{Changed: res.Changed, Purged: res.Purged, Own: res.Own, OwnTerm: res.OwnTerm}))
}

var kindNames = map[gossip.Kind]string{
	gossip.KindHost: "host", gossip.KindDomain: "domain", gossip.KindAlarm: "alarm", gossip.KindDelivery: "delivery",
	gossip.KindReceipt: "receipt", gossip.KindFileWish: "file wish", gossip.KindRefusal: "refusal",
	gossip.KindSubscription: "subscription", gossip.KindAck: "ack",
	gossip.KindComment: "comment", gossip.KindClear: "clear",
	gossip.KindMute: "mute",
}

// shown is the id of a record with the names of the stories.
func (s *story) shown(id string) string {
	if subscription, alarm := splitPair(id); alarm != "" {
		return pairID(subscription, s.called(alarm))
	}
	return s.called(id)
}

func orNothing(before, s string) string {
	if s == "" {
		return ""
	}
	return before + s
}

func (s *story) gossip() {
	for again := true; again; {
		again = false
		for _, n := range s.names() {
			h := s.hosts[n]
			var records []gossip.Record
			for _, o := range s.names() {
				if o != n && !h.away && !s.hosts[o].away {
					records = slices.AppendSeq(records, s.hosts[o].replica.Records())
				}
			}
			res := h.replica.Merge(s.now, records)
			if len(res.Changed)+len(res.Purged) > 0 {
				again = true
				s.take(h, res)
			} else if len(res.Own) > 0 {
				s.take(h, res)
			}
		}
	}
}

func (s *story) wait(until time.Time) {
	for {
		var first *storyHost
		for _, n := range s.names() {
			if h := s.hosts[n]; !h.wake.IsZero() && !h.wake.After(until) && (first == nil || h.wake.Before(first.wake)) {
				first = h
			}
		}
		if first == nil {
			break
		}
		if first.wake.After(s.now) {
			s.now = first.wake
		}
		s.obey(first, first.ledger.Tick(s.now))
	}
	s.now = until
	for _, n := range s.names() { // the replica's own time
		if res := s.hosts[n].replica.Tick(s.now); len(res.Changed)+len(res.Purged) > 0 {
			s.take(s.hosts[n], res)
		}
	}
}
