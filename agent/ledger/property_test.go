package ledger

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/paramedic-ha/paramedic/correlate"
	"github.com/paramedic-ha/paramedic/gossip"
	"github.com/paramedic-ha/paramedic/notify"
)

// fate is what a shell has carried out in the end: the same for all ledgers that have learned the same.
type fate struct {
	subs     map[string]string
	dropped  map[string]bool
	problems map[problem]string
	own      map[string]string // kind and id of the records it keeps
	puts     int
}

func newFate() *fate {
	return &fate{
		subs: map[string]string{}, dropped: map[string]bool{}, problems: map[problem]string{},
		own: map[string]string{},
	}
}

// obey carries out orders; it fails on what is ordered twice.
func (f *fate) obey(t *rapid.T, o Orders) {
	for _, id := range o.Drop {
		if f.dropped[id] {
			t.Fatalf("%s is dropped twice", id)
		}
		delete(f.subs, id)
		f.dropped[id] = true
	}
	for _, p := range o.Put {
		d := digest(p.Subscription)
		text := fmt.Sprintf("%x %v", d, p.Subscription.Paused != "")
		if f.subs[p.Subscription.ID] == text {
			t.Fatalf("%s is put twice", p.Subscription.ID)
		}
		f.subs[p.Subscription.ID] = text
		delete(f.dropped, p.Subscription.ID)
		f.puts++
	}
	for _, e := range o.Report {
		p := problem{e.Resource, e.Condition}
		if e.Status == correlate.StatusOK {
			if f.problems[p] == "" {
				t.Fatalf("%v is well, and nobody had said otherwise", p)
			}
			delete(f.problems, p)
		} else {
			f.problems[p] = e.Text
		}
	}
	for _, w := range o.Write {
		key := fmt.Sprintf("%d %s", w.Kind, w.ID)
		switch {
		case w.Kind >= gossip.KindShared:
		case w.Delete:
			delete(f.own, key)
		default:
			f.own[key] = string(w.Payload)
		}
	}
}

// domains are the ledger's, unpacked.
func domains(l *Ledger) []DomainView {
	var views []DomainView
	for _, name := range l.Hosts() {
		views = append(views, l.Domains(name)...)
	}
	ReadDomains(views)
	return views
}

// ownWrites are those of the own space; of the shared one the ledger may insist on what it wants.
func ownWrites(o Orders) (n int) {
	for _, w := range o.Write {
		if w.Kind < gossip.KindShared {
			n++
		}
	}
	return n
}

// views is what a ledger shows, written down.
func views(l *Ledger, f *fate) string {
	var out strings.Builder
	for _, a := range l.Standing() {
		fmt.Fprintf(&out, "alarm %+v %v\n", a.ID, a.Revision)
	}
	for _, v := range domains(l) {
		fmt.Fprintf(&out, "domain %s %s %v %v\n", v.UUID, v.Home, v.Since, v.State)
	}
	for _, n := range l.Hosts() {
		v, _ := l.HostRecord(n)
		fmt.Fprintf(&out, "host %s %s %d %v\n", n, v.Zone, v.Domains, v.Alarms)
	}
	for _, id := range slices.Sorted(maps.Keys(f.subs)) {
		fmt.Fprintf(&out, "subscription %s %s\n", id, f.subs[id])
	}
	for _, key := range slices.Sorted(maps.Keys(f.own)) {
		fmt.Fprintf(&out, "own %s %x\n", key, f.own[key])
	}
	for _, p := range slices.SortedFunc(maps.Keys(f.problems), func(a, b problem) int {
		return strings.Compare(fmt.Sprint(a), fmt.Sprint(b))
	}) {
		text := f.problems[p]
		if p.condition == correlate.CondPeer {
			text = "" // an example of several: the first that was seen
		}
		fmt.Fprintf(&out, "problem %s %s %s\n", p.resource, p.condition, text)
	}
	for _, id := range []string{"s1/a1", "s2/a2", "f1/a1"} {
		sub, alarm := splitPair(id)
		for n := range uint64(4) {
			fmt.Fprintf(&out, "settled %s %d %v\n", id, n, l.Settled(sub, alarm, correlate.Revision{Term: 2, Counter: n}))
		}
	}
	return out.String()
}

// draw makes records of a small world, so that they meet: few ids, some that contradict each other, some that nobody can read.
func draw(t *rapid.T, c *codec) []gossip.Record {
	var out []gossip.Record
	pick := func(name string, of ...string) string { return rapid.SampledFrom(of).Draw(t, name) }
	for range rapid.IntRange(1, 40).Draw(t, "records") {
		host := pick("host", "cmp-2", "cmp-3", "cmp-4")
		rec := gossip.Record{Key: gossip.Key{Space: host}, Version: gossip.Version{A: 2, B: rapid.Uint64Range(1, 50).Draw(t, "version"), Node: host}}
		rec.Version.B = rec.Version.B*64 + uint64(len(out)) // no two of a key have one version
		stamp := noon.Add(time.Duration(rapid.IntRange(-3, 3).Draw(t, "stamp")) * time.Hour)
		revision := correlate.Revision{Term: 2, Counter: rapid.Uint64Range(1, 3).Draw(t, "revision")}
		sub := Subscription{
			Version: rapid.Uint64Range(1, 2).Draw(t, "contents"), Name: "x", Format: "native", Role: pick("role", "admin", "admin", "auditor"),
			Created: stamp, Resumed: rapid.Uint64Range(0, 1).Draw(t, "resumed"), Paused: pick("paused", "", "", "by an operator"),
		}
		sub.Endpoints = []string{fmt.Sprintf("http://10.0.0.%d/", sub.Version)}
		var v any
		switch rec.Kind = rapid.SampledFrom([]gossip.Kind{
			gossip.KindHost, gossip.KindDomain, gossip.KindAlarm, gossip.KindDelivery, gossip.KindReceipt, gossip.KindFileWish,
			gossip.KindFileWish, gossip.KindRefusal, gossip.KindRefusal, gossip.KindSubscription, gossip.KindSubscription,
		}).Draw(t, "kind"); rec.Kind {
		case gossip.KindHost:
			v = Host{Zone: pick("zone", "a", "b")}
		case gossip.KindDomain:
			rec.ID = pick("domain", "web", "db")
			v = Domain{Name: rec.ID, Since: stamp, Inactive: rapid.Bool().Draw(t, "inactive")}
		case gossip.KindAlarm:
			rec.ID = pick("alarm", "a1", "a2") + host
			v = Alarm{Change: correlate.Change{Alarm: &correlate.Alarm{
				ID: rec.ID, Key: correlate.Key{Home: host, Resource: "nic/eth0", Condition: "carrier"}, Revision: revision,
				Last: correlate.Transition(pick("last", "raised", "cleared")), Severity: correlate.SeverityMajor,
				Affected: []correlate.Affected{{Resource: "domain/web", State: correlate.StateFailed}},
			}}}
		case gossip.KindDelivery:
			rec.ID = pick("pair", "s1/a1", "s2/a2")
			v = Delivery{Told: revision.String()}
		case gossip.KindReceipt:
			rec.ID = pick("pair", "s1/a1", "s2/a2", "f1/a1")
			v = Receipt{Home: pick("home", "cmp-1", "cmp-2"), Told: revision.String()}
		case gossip.KindFileWish:
			rec.ID = pick("file", "f1", "f2")
			sub.Paused, sub.Resumed = "", 0
			v = sub
		case gossip.KindRefusal:
			rec.ID = pick("refused", "s1", "f1", "f2")
			v = Refusal{Version: sub.Version, Resumed: sub.Resumed}
		case gossip.KindSubscription:
			rec.Space, rec.Version = gossip.Shared, gossip.Version{A: uint64(noon.UnixNano()) + rec.Version.B, Node: host}
			tick := rec.Version.A - uint64(noon.UnixNano())
			// Contents and resumes only grow: a host that has seen one gives its own refusal up, and does not take it back.
			sub.Version, sub.Resumed = 1+tick/1600, tick%1600/800
			sub.Endpoints = []string{fmt.Sprintf("http://10.0.0.%d/", sub.Version)}
			if rec.ID = pick("subscription", "s1", "s2", "f1"); rec.ID == "f1" {
				sub.Endpoints = nil
			}
			v = sub
		default: // none that is drawn
		}
		if p, ok := v.(Subscription); ok { // names of files' subscriptions are theirs alone
			p.Name = rec.ID
			v = p
		}
		switch pick("form", "whole", "whole", "whole", "whole", "deleted", "garbage") {
		case "whole":
			b, err := c.encode(v)
			if err != nil {
				t.Fatal(err)
			}
			rec.Payload = b
		case "deleted":
			rec.Deleted = true
		case "garbage":
			rec.Payload = []byte("garbage")
		}
		out = append(out, rec)
	}
	// Nor is a subscription of the API made again under the id of one that ended: that is undone by writing, see apart.txt.
	ended := map[gossip.Key]gossip.Version{}
	for _, r := range out {
		if v, ok := ended[r.Key]; r.Deleted && r.Space == gossip.Shared && (!ok || r.Version.Compare(v) < 0) {
			ended[r.Key] = r.Version
		}
	}
	return slices.DeleteFunc(out, func(r gossip.Record) bool {
		v, ok := ended[r.Key]
		return ok && !r.Deleted && r.Version.Compare(v) > 0
	})
}

// TestAnyOrderOfTheSameRecordsComesToTheSame: shuffled, doubled, in batches of any size, and with what was superseded left out,
// as a replica takes them and gives them on.
func TestAnyOrderOfTheSameRecordsComesToTheSame(t *testing.T) {
	file := []notify.Subscription{{
		ID: "f2", Version: 1, Name: "f2", Endpoints: []string{"http://10.0.0.1/"}, Format: "native", Role: "admin", Origin: notify.OriginFile, Created: noon,
	}}
	rapid.Check(t, func(t *rapid.T) {
		var c codec
		records := draw(t, &c)
		newest := map[gossip.Key]gossip.Record{}
		for _, r := range records {
			if old, ok := newest[r.Key]; !ok || old.Version.Compare(r.Version) < 0 {
				newest[r.Key] = r
			}
		}
		delta := correlate.Delta{Source: "virt", Set: []correlate.Resource{{ID: "domain/web"}}}
		start := func() (*Ledger, *fate) {
			l, f := New(Config{Node: "cmp-1"}), newFate()
			f.obey(t, l.File(noon, file))
			f.obey(t, l.Begin(noon))
			f.obey(t, l.Refused(noon, "s1", 1, "answered 410"))
			return l, f
		}
		finish := func(l *Ledger, f *fate) string {
			f.obey(t, l.Tick(noon.Add(time.Hour)))
			f.obey(t, l.Inventory(noon.Add(time.Hour), &delta)) // last: its stamp comes after those that are known
			if again := l.Take(noon, gossip.Changes{Changed: slices.Collect(maps.Values(newest))}); len(again.Put)+len(again.Drop)+len(again.Told)+len(again.Report)+len(again.Seen)+len(again.Said)+ownWrites(again) > 0 {
				t.Fatalf("the same again is not nothing: %+v", again)
			}
			return views(l, f)
		}
		l, f := start()
		f.obey(t, l.Take(noon, gossip.Changes{Changed: slices.Collect(maps.Values(newest))}))
		want := finish(l, f)

		for i := range 3 {
			shuffled := rapid.Permutation(append(slices.Clone(records), records...)).Draw(t, "order")
			l, f := start()
			r, err := gossip.New(gossip.Config{Self: "cmp-1", Term: 2})
			if err != nil {
				t.Fatal(err)
			}
			for len(shuffled) > 0 {
				n := rapid.IntRange(1, len(shuffled)).Draw(t, "batch")
				res := r.Merge(noon, shuffled[:n])
				if len(res.Rejected) > 0 {
					t.Fatalf("rejected: %+v", res.Rejected)
				}
				changed := res.Changed
				if rapid.Bool().Draw(t, "newest of the batch only") {
					last := map[gossip.Key]gossip.Record{}
					for _, rec := range changed {
						last[rec.Key] = rec
					}
					changed = slices.Collect(maps.Values(last))
				}
				f.obey(t, l.Take(noon.Add(time.Duration(i)*time.Second), gossip.Changes{Changed: changed}))
				shuffled = shuffled[n:]
			}
			if got := finish(l, f); got != want {
				t.Fatalf("another order, another end:\n%s\ninstead of\n%s", got, want)
			}
		}

		// All that a host has said, purged: nothing of it is left.
		var gone []gossip.Record
		for _, r := range newest {
			gone = append(gone, r)
		}
		f.obey(t, l.Take(noon, gossip.Changes{Purged: gone}))
		if len(l.Standing())+len(domains(l)) > 0 || len(l.Hosts()) != 1 || len(f.subs) > 0 {
			t.Fatalf("what was purged stays: %s", views(l, f))
		}
	})
}
