package gossip

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

func newReplica(t testing.TB, self string, term uint64) *Replica {
	t.Helper()
	r, err := New(Config{Self: self, Term: term})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func mustSet(t testing.TB, r *Replica, now time.Time, kind Kind, id, payload string) Record {
	t.Helper()
	rec, changed, err := r.Set(now, kind, id, []byte(payload))
	if err != nil || !changed {
		t.Fatalf("set %q: changed %v, %v", id, changed, err)
	}
	return rec
}

// contents is all that a replica holds, in order.
func contents(r *Replica) []string {
	var all []string
	for rec := range r.Records() {
		all = append(all, fmt.Sprintf("%q/%d/%q %d.%d by %q deleted=%v %q", rec.Space, rec.Kind, rec.ID, rec.Version.A, rec.Version.B, rec.Version.Node, rec.Deleted, rec.Payload))
	}
	slices.Sort(all)
	return all
}

// anyRecord draws from few keys and versions, so that they meet: contradictions, floors, speakers, forgotten hosts and
// nonsense included.
func anyRecord(t *rapid.T) Record {
	rec := Record{Deleted: rapid.Bool().Draw(t, "deleted")}
	if !rec.Deleted {
		rec.Payload = []byte(rapid.SampledFrom([]string{"", "a", "b"}).Draw(t, "payload"))
	}
	switch rapid.IntRange(0, 9).Draw(t, "sort") {
	case 0:
		rec.Kind, rec.Deleted, rec.Payload = KindForget, true, nil
		rec.ID = forgetID(rapid.Uint64Range(2, 5).Draw(t, "term"), rapid.SampledFrom([]string{"h1", "h2"}).Draw(t, "host"))
		rec.Version = Version{A: nanos(noon) + rapid.Uint64Range(0, 3).Draw(t, "clock"), Node: "h1"}
	case 1:
		rec = Record{Key: Key{rapid.SampledFrom([]string{"h1", "h2"}).Draw(t, "host"), KindFloor, ""}}
		rec.Version = Version{A: 2 * rapid.Uint64Range(1, 3).Draw(t, "term"), B: rapid.Uint64Range(0, 3).Draw(t, "counter"), Node: rec.Space}
	case 2, 3, 4:
		rec.Kind = rapid.SampledFrom([]Kind{KindSubscription, KindAck, 99}).Draw(t, "kind")
		rec.ID = rapid.SampledFrom([]string{"x", "y"}).Draw(t, "id")
		ahead := rapid.SampledFrom([]time.Duration{0, 1, 2, time.Hour, -31 * 24 * time.Hour}).Draw(t, "clock")
		rec.Version = Version{A: nanos(noon.Add(ahead)), Node: rapid.SampledFrom([]string{"h1", "h2"}).Draw(t, "node")}
	default:
		rec.Kind = rapid.SampledFrom([]Kind{0, KindDomain, KindAlarm, 17}).Draw(t, "kind")
		rec.Space = rapid.SampledFrom([]string{"h1", "h2", "me"}).Draw(t, "space")
		rec.ID = rapid.SampledFrom([]string{"x", "y", "z"}).Draw(t, "id")
		rec.Version = Version{A: rapid.Uint64Range(0, 6).Draw(t, "term"), B: rapid.Uint64Range(0, 4).Draw(t, "counter"), Node: rec.Space}
		if rapid.IntRange(0, 3).Draw(t, "other") == 0 {
			rec.Version.Node = "h1"
		}
	}
	return rec
}

func TestMergeIsCommutativeAssociativeAndIdempotent(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		records := rapid.SliceOfN(rapid.Custom(anyRecord), 1, 30).Draw(t, "records")
		shuffled := rapid.Permutation(records).Draw(t, "shuffled")
		split := rapid.IntRange(0, len(records)).Draw(t, "split")
		fresh := func() *Replica {
			r, err := New(Config{Self: "me", Term: 2})
			if err != nil {
				t.Fatal(err)
			}
			return r
		}
		one := fresh()
		one.Merge(noon, records)
		want := contents(one)

		other := fresh()
		for _, rec := range shuffled {
			other.Merge(noon, []Record{rec})
		}
		if diff := cmp.Diff(want, contents(other)); diff != "" {
			t.Fatalf("another order (-one +other):\n%s", diff)
		}

		// (a + b) + c = a + (b + c), where + merges what a replica holds.
		left, right := fresh(), fresh()
		left.Merge(noon, records[:split])
		right.Merge(noon, records[split:])
		left.Merge(noon, slices.Collect(right.Records()))
		if diff := cmp.Diff(want, contents(left)); diff != "" {
			t.Fatalf("grouped otherwise (-one +other):\n%s", diff)
		}

		if res := one.Merge(noon, shuffled); len(res.Changed)+len(res.Purged) > 0 {
			t.Fatalf("the same again changed %v, purged %v", res.Changed, res.Purged)
		}
		if one.Root() != left.Root() || one.Root() != other.Root() {
			t.Fatal("equal contents, different roots")
		}
		checkIndex(t, one)
	})
}

// checkIndex recomputes what is kept incrementally.
func checkIndex(t interface {
	Helper()
	Fatalf(string, ...any)
}, r *Replica,
) {
	t.Helper()
	var x index
	n := 0
	for rec := range r.Records() {
		e := &entry{Record: rec}
		x.add(e, keyHash(rec.Key))
		x.sum(e)
		n++
	}
	if x.root != r.index.root || x.groups != r.index.groups || x.sums != r.index.sums || n != r.index.n {
		t.Fatalf("the hashes kept are not those of the %d records held", n)
	}
	for name, s := range r.spaces {
		tombstones, size := 0, 0
		for k, e := range s.records {
			if e.Kind != k.kind || e.ID != k.id || e.Space != name || r.index.find(e.key) != e {
				t.Fatalf("%q holds %v under %v", name, e.Key, k)
			}
			size += len(e.Payload)
			if e.Deleted {
				tombstones++
			}
		}
		if len(s.records) == 0 || tombstones != s.tombstones || size != s.bytes {
			t.Fatalf("%q counts %d tombstones and %d bytes of %d and %d", name, s.tombstones, s.bytes, tombstones, size)
		}
	}
}

func TestANewerVersionWinsAndAnOlderOneIsLate(t *testing.T) {
	a, b := newReplica(t, "a", 2), newReplica(t, "b", 2)
	old := mustSet(t, a, noon, KindDomain, "d", "one")
	young := mustSet(t, a, noon, KindDomain, "d", "two")
	if res := b.Merge(noon, []Record{young, old, young}); len(res.Changed) != 1 || len(res.Rejected) != 0 {
		t.Fatalf("changed %v, rejected %v", res.Changed, res.Rejected)
	}
	if rec, ok := b.Get(Key{"a", KindDomain, "d"}); !ok || string(rec.Payload) != "two" {
		t.Fatalf("holds %v %v", rec, ok)
	}
	if st := b.Status(); st.Stale != 1 || st.Known != 1 {
		t.Fatalf("counted %+v", st)
	}
	gone, changed, err := a.Delete(noon, KindDomain, "d")
	if err != nil || !changed {
		t.Fatal(changed, err)
	}
	b.Merge(noon, []Record{gone, young})
	if rec, ok := b.Get(Key{"a", KindDomain, "d"}); ok {
		t.Fatalf("deleted, and still there: %v", rec)
	}
}

func TestWritingWhatStandsChangesNothing(t *testing.T) {
	a := newReplica(t, "a", 2)
	first := mustSet(t, a, noon, KindDomain, "d", "one")
	again, changed, err := a.Set(noon.Add(time.Hour), KindDomain, "d", []byte("one"))
	if err != nil || changed || again.Version != first.Version {
		t.Fatalf("%v changed %v: %v", again, changed, err)
	}
	if _, changed, err := a.Delete(noon, KindDomain, "never"); changed || err != nil {
		t.Fatalf("deleted what was not there: %v, %v", changed, err)
	}
}

func TestAMergedRecordDoesNotShareTheMessage(t *testing.T) {
	a, b := newReplica(t, "a", 2), newReplica(t, "b", 2)
	message := EncodeRecords([]Record{mustSet(t, a, noon, KindDomain, "d", "payload")}, 1000)[0]
	if _, err := b.Handle(noon, "a", message); err != nil {
		t.Fatal(err)
	}
	clear(message)
	if rec, _ := b.Get(Key{"a", KindDomain, "d"}); string(rec.Payload) != "payload" {
		t.Fatalf("the payload became %q", rec.Payload)
	}
}

func TestOnlyAHostWritesItsSpaceAndSpeakersUnderAnOddTerm(t *testing.T) {
	r := newReplica(t, "me", 2)
	key := Key{"dead", KindAlarm, "host/dead"}
	res := r.Merge(noon, []Record{
		{Key: key, Version: Version{4, 1, "dead"}, Payload: []byte("own")},
		{Key: key, Version: Version{6, 1, "liar"}, Payload: []byte("lie")},
		{Key: key, Version: Version{5, 1, "speaker"}, Payload: []byte("spoken")},
	})
	if len(res.Changed) != 2 || len(res.Rejected) != 1 || res.Rejected[0].Reason != Foreign {
		t.Fatalf("changed %v, rejected %v", res.Changed, res.Rejected)
	}
	if rec, _ := r.Get(key); string(rec.Payload) != "spoken" {
		t.Fatalf("holds %q", rec.Payload)
	}
	if st := r.Status(); len(st.Rejected) != 1 || st.Rejected[0].Host != "dead" || st.Rejected[0].Count != 1 {
		t.Fatalf("counted %+v", st.Rejected)
	}
}

func TestAContradictionEndsTheSameEverywhereAndIsNamed(t *testing.T) {
	one := Record{Key: Key{"h", KindAlarm, "x"}, Version: Version{2, 1, "h"}, Payload: []byte("a")}
	two := one
	two.Payload = []byte("b")
	r, s := newReplica(t, "me", 2), newReplica(t, "me", 2)
	r.Merge(noon, []Record{one, two})
	s.Merge(noon, []Record{two, one})
	if r.Root() != s.Root() {
		t.Fatal("the order of arrival decided")
	}
	for _, x := range []*Replica{r, s} {
		if st := x.Status(); len(st.Rejected) != 1 || st.Rejected[0].Reason != Contradiction || st.Rejected[0].Host != "h" {
			t.Fatalf("counted %+v", st.Rejected)
		}
	}
}

func TestAReimagedHostLearnsItsTerm(t *testing.T) {
	old, peer := newReplica(t, "a", 6), newReplica(t, "b", 2)
	peer.Merge(noon, []Record{mustSet(t, old, noon, KindAlarm, "x", "standing"), mustSet(t, old, noon, KindDomain, "d", "inventory")})
	spoken := Record{Key: Key{"a", KindAlarm, "host/a"}, Version: Version{7, 1, "b"}, Payload: []byte("lost")}
	peer.Merge(noon, []Record{spoken})

	reimaged := newReplica(t, "a", 0)
	if _, _, err := reimaged.Set(noon, KindDomain, "d", nil); !errors.Is(err, ErrNoTerm) {
		t.Fatalf("wrote without a term: %v", err)
	}
	res := exchange(t, noon, peer, reimaged)
	if res.OwnTerm != 0 || reimaged.SeenTerm() != 7 || len(res.Own) != 3 {
		t.Fatalf("told of term %d, seen %d, own %v", res.OwnTerm, reimaged.SeenTerm(), res.Own)
	}
	if reimaged.Root() != peer.Root() {
		t.Fatal("it cannot tell that it has seen all")
	}
	if _, err := reimaged.SetTerm(noon, 8); err != nil {
		t.Fatal(err)
	}
	mustSet(t, reimaged, noon, KindDomain, "d", "inventory") // as before, and still to be said again
	reimaged.Restated(noon)
	if res := reimaged.Tick(noon.Add(FloorDelay - 1)); len(res.Changed) != 0 {
		t.Fatal("the floor came before its time")
	}
	reimaged.Tick(noon.Add(FloorDelay))
	exchange(t, noon, reimaged, peer)
	want := []string{
		`"a"/2/"d" 8.1 by "a" deleted=false "inventory"`,
		`"a"/63/"" 8.0 by "a" deleted=false ""`,
	}
	if diff := cmp.Diff(want, contents(peer)); diff != "" {
		t.Fatalf("a former life is not over (-want +got):\n%s", diff)
	}
	if reimaged.Root() != peer.Root() {
		t.Fatal("not in sync")
	}
}

func TestATwinUnderOurTermIsReported(t *testing.T) {
	a, twin := newReplica(t, "a", 2), newReplica(t, "a", 2)
	mustSet(t, a, noon, KindDomain, "d", "mine")
	res := a.Merge(noon, []Record{mustSet(t, twin, noon, KindDomain, "d", "of the twin")})
	if res.OwnTerm != 2 || len(res.Own) != 1 {
		t.Fatalf("own term %d, own %v", res.OwnTerm, res.Own)
	}
	if rec, _ := a.Get(Key{"a", KindDomain, "d"}); string(rec.Payload) != "mine" {
		t.Fatalf("overwritten with %q", rec.Payload)
	}
	if res, err := a.SetTerm(noon, 4); err != nil || len(res.Changed) != 1 || res.Changed[0].Version.A != 4 {
		t.Fatalf("%v, %v", res.Changed, err)
	}
}

func TestTermsMustBeEvenAndRise(t *testing.T) {
	if _, err := New(Config{Self: "a", Term: 3}); err == nil {
		t.Error("an odd term was taken")
	}
	if _, err := New(Config{}); err == nil {
		t.Error("no name was taken")
	}
	a := newReplica(t, "a", 4)
	for _, term := range []uint64{2, 4, 5} {
		if _, err := a.SetTerm(noon, term); err == nil {
			t.Errorf("term %d was taken after 4", term)
		}
	}
}

func TestSharedRecordsFollowTheClockAndRefuseAnHourAhead(t *testing.T) {
	a, b := newReplica(t, "a", 2), newReplica(t, "b", 2)
	first, _, err := a.SetShared(noon, KindSubscription, "s", []byte("one"))
	if err != nil {
		t.Fatal(err)
	}
	b.Merge(noon, []Record{first})
	// b's clock is 30 s behind: its write is still the later one.
	second, _, err := b.SetShared(noon.Add(-30*time.Second), KindSubscription, "s", []byte("two"))
	if err != nil || second.Version.Compare(first.Version) <= 0 {
		t.Fatalf("%v after %v: %v", second.Version, first.Version, err)
	}
	late := Record{Key: Key{Shared, KindSubscription, "s"}, Version: Version{A: nanos(noon.Add(time.Hour)), Node: "c"}, Payload: []byte("three")}
	res := b.Merge(noon, []Record{late})
	if len(res.Changed) != 0 || len(res.Rejected) != 1 || res.Rejected[0].Reason != Ahead {
		t.Fatalf("changed %v, rejected %v", res.Changed, res.Rejected)
	}
	if st := b.Status(); st.Rejected[0].Host != "c" {
		t.Fatalf("the host is not named: %+v", st.Rejected)
	}
	if _, _, err := b.SetShared(noon, KindAlarm, "x", nil); err == nil {
		t.Error("an alarm was shared")
	}
	if _, _, err := b.Set(noon, KindAck, "x", nil); err == nil {
		t.Error("an acknowledgement was not shared")
	}
}

func TestAHostWithAClockAheadOfItsPeersMayNotWriteShared(t *testing.T) {
	a, b := newReplica(t, "a", 2), newReplica(t, "b", 2)
	if _, err := a.Handle(noon.Add(time.Hour), "b", b.Digest(noon)); err != nil {
		t.Fatal(err)
	}
	if _, _, err := a.SetShared(noon.Add(time.Hour), KindSubscription, "s", nil); !errors.Is(err, ErrClock) {
		t.Fatalf("wrote into the future of all: %v", err)
	}
	if st := a.Status(); len(st.Clocks) != 1 || st.Clocks[0].Host != "b" || st.Clocks[0].Offset != -time.Hour {
		t.Fatalf("status says %+v", st.Clocks)
	}
}

func TestSharedTombstonesEndAfterThirtyDays(t *testing.T) {
	a, b := newReplica(t, "a", 2), newReplica(t, "b", 2)
	set, _, _ := a.SetShared(noon, KindSubscription, "s", []byte("x"))
	gone, changed, err := a.DeleteShared(noon, KindSubscription, "s")
	if err != nil || !changed {
		t.Fatal(changed, err)
	}
	b.Merge(noon, []Record{set, gone})
	later := noon.Add(TombstoneLife - time.Hour)
	b.Tick(later)
	if res := b.Merge(later, []Record{set}); len(res.Changed) != 0 {
		t.Fatal("what was deleted came back")
	}
	later = noon.Add(TombstoneLife + time.Hour)
	b.Tick(later)
	if st := b.Status(); st.Records != 0 {
		t.Fatalf("still holds %d", st.Records)
	}
	if res := b.Merge(later, []Record{gone}); len(res.Changed) != 0 || res.Rejected[0].Reason != Expired {
		t.Fatalf("an expired tombstone was taken: %+v", res)
	}
}

func TestOwnTombstonesEndWithAFloorAndNobodyIsMisled(t *testing.T) {
	a, b, away := newReplica(t, "a", 2), newReplica(t, "b", 2), newReplica(t, "c", 2)
	now := noon
	a.Restated(now)
	push := func(rec Record) { b.Merge(now, []Record{rec}) }
	push(mustSet(t, a, now, KindDomain, "stays", "x"))
	for i := range 2 * compactAt {
		id := fmt.Sprintf("delivery-%d", i)
		push(mustSet(t, a, now, KindDelivery, id, "owed"))
		if i == 7 {
			exchange(t, now, a, away)
		}
		gone, _, err := a.Delete(now, KindDelivery, id)
		if err != nil {
			t.Fatal(err)
		}
		push(gone)
	}
	for range 60 {
		now = now.Add(time.Second)
		res := a.Tick(now)
		b.Merge(now, res.Changed)
	}
	if st := a.Status(); st.Tombstones != 0 || st.Records != 2 {
		t.Fatalf("the host holds %+v", st)
	}
	if a.Root() != b.Root() {
		t.Fatalf("b holds %v", contents(b))
	}
	// One that was away comes back with a delivery that is done long ago.
	if _, ok := away.Get(Key{"a", KindDelivery, "delivery-7"}); !ok {
		t.Fatal("the one away should hold it")
	}
	exchange(t, now, away, b)
	if a.Root() != away.Root() || a.Root() != b.Root() {
		t.Fatalf("the one that was away holds %v\nb holds %v", contents(away), contents(b))
	}
}

func TestAForgottenHostStaysForgottenUnlessItReturnsUnderAHigherTerm(t *testing.T) {
	a, b, h := newReplica(t, "a", 2), newReplica(t, "b", 2), newReplica(t, "h", 4)
	old := mustSet(t, h, noon, KindDomain, "d", "x")
	a.Merge(noon, []Record{old})
	b.Merge(noon, []Record{old})
	res, err := a.Forget(noon, "h")
	if err != nil || len(res.Changed) != 1 || len(res.Purged) != 1 {
		t.Fatalf("%+v, %v", res, err)
	}
	exchange(t, noon, b, a)
	for _, r := range []*Replica{a, b} {
		if r.Merge(noon, []Record{old}); slices.Contains(r.Spaces(), "h") {
			t.Fatalf("%s remembers it", r.Self())
		}
	}
	// It lives after all, is told, and takes a higher term.
	told := exchange(t, noon, a, h)
	if told.OwnTerm != 4 {
		t.Fatalf("told of term %d", told.OwnTerm)
	}
	if _, err := h.SetTerm(noon, 6); err != nil {
		t.Fatal(err)
	}
	exchange(t, noon, h, b)
	if _, ok := b.Get(old.Key); !ok {
		t.Fatal("not taken back")
	}
	if _, err := a.Forget(noon, "a"); err == nil {
		t.Error("a host forgot itself")
	}
}

func TestAFloodIsBoundedAndNamed(t *testing.T) {
	r, err := New(Config{Self: "me", Term: 2, Limits: Limits{Records: 100, Bytes: 1000, Spaces: 2}})
	if err != nil {
		t.Fatal(err)
	}
	var flood []Record
	for i := range 1000 {
		flood = append(flood, Record{Key: Key{"mad", KindAlarm, fmt.Sprint(i)}, Version: Version{2, uint64(i), "mad"}})
	}
	flood = append(flood, Record{Key: Key{"big", KindAlarm, "x"}, Version: Version{2, 1, "big"}, Payload: make([]byte, 700)})
	flood = append(flood, Record{Key: Key{"big", KindAlarm, "y"}, Version: Version{2, 2, "big"}, Payload: make([]byte, 700)})
	flood = append(flood, Record{Key: Key{"third", KindAlarm, "x"}, Version: Version{2, 1, "third"}})
	res := r.Merge(noon, flood)
	if len(res.Rejected) != 902 || len(res.Changed)-len(res.Purged) != 101 || r.Status().Records != 101 {
		t.Fatalf("%d changed, %d purged, %d rejected", len(res.Changed), len(res.Purged), len(res.Rejected))
	}
	want := []RejectionCount{{"big", Full, 1, noon}, {"mad", Full, 900, noon}, {"third", Full, 1, noon}}
	if diff := cmp.Diff(want, r.Status().Rejected); diff != "" {
		t.Fatal(diff)
	}
	for i := range 10_000 {
		r.Merge(noon, []Record{{Key: Key{fmt.Sprint("invented-", i), KindAlarm, "x"}, Version: Version{2, 1, "liar"}}})
	}
	if n := len(r.Status().Rejected); n > maxRejected {
		t.Fatalf("%d names are kept", n)
	}
	for i := range 50 {
		mustSet(t, r, noon, KindDomain, fmt.Sprint(i), "")
	}
	if _, _, err := r.Set(noon, KindDomain, "one more", nil); !errors.Is(err, ErrFull) {
		t.Fatalf("own records are not bounded: %v", err)
	}
	if _, _, err := r.Set(noon, KindDomain, "0", make([]byte, MaxRecord)); err == nil {
		t.Fatal("a payload of 64 KiB was taken")
	}
	if _, _, err := r.Set(noon, KindDomain, strings.Repeat("x", maxID+1), nil); err == nil {
		t.Fatal("an id of 1025 bytes was taken")
	}
}

func TestAFloodLeavesTheSameAtEveryReplica(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var flood []Record
		for i := range 60 {
			flood = append(flood, Record{Key: Key{"mad", KindAlarm, fmt.Sprint(i)}, Version: Version{2, uint64(i), "mad"}})
		}
		flood = append(flood, Record{Key: Key{"mad", KindFloor, ""}, Version: Version{2, 5, "mad"}})
		var roots [2][2]uint64
		for i := range roots {
			r, err := New(Config{Self: "me", Term: 2, Limits: Limits{Records: 20}})
			if err != nil {
				t.Fatal(err)
			}
			shuffled := rapid.Permutation(flood).Draw(t, "order")
			for range 2 { // what the floor made room for comes again by the repair
				r.Merge(noon, shuffled)
			}
			checkIndex(t, r)
			roots[i] = r.Root()
		}
		if roots[0] != roots[1] {
			t.Fatal("the order of arrival decided")
		}
	})
}

func TestIterationIsInOrder(t *testing.T) {
	a, r := newReplica(t, "a", 2), newReplica(t, "b", 2)
	for _, id := range []string{"c", "a", "b"} {
		r.Merge(noon, []Record{mustSet(t, a, noon, KindDomain, id, id)})
		mustSet(t, r, noon, KindDomain, id, id)
	}
	mustSet(t, r, noon, KindAlarm, "x", "x")
	var got []string
	for rec := range r.All(KindDomain) {
		got = append(got, rec.Space+rec.ID)
	}
	if diff := cmp.Diff([]string{"aa", "ab", "ac", "ba", "bb", "bc"}, got); diff != "" {
		t.Fatal(diff)
	}
	if n := len(slices.Collect(r.Space("b", KindAlarm))); n != 1 {
		t.Fatalf("%d alarms", n)
	}
}

func TestAgeOfWhatIsKnown(t *testing.T) {
	a, b := newReplica(t, "a", 2), newReplica(t, "b", 2)
	if _, ok := b.LastHeard("a"); ok {
		t.Fatal("heard before it spoke")
	}
	if _, err := b.Handle(noon, "a", EncodeRecords([]Record{mustSet(t, a, noon, KindDomain, "d", "x")}, 1000)[0]); err != nil {
		t.Fatal(err)
	}
	b.Heard(noon.Add(time.Second), "a")
	b.Heard(noon, "a")
	heard, _ := b.LastHeard("a")
	changed, _ := b.LastChange("a")
	if !heard.Equal(noon.Add(time.Second)) || !changed.Equal(noon) {
		t.Fatalf("heard %v, changed %v", heard, changed)
	}
}

// exchange lets two replicas repair until their digests agree or nothing moves, and returns what it did at the second.
func exchange(t testing.TB, now time.Time, a, b *Replica) Result {
	t.Helper()
	var total Result
	for range 20 {
		moved := false
		type mail struct {
			to   *Replica
			from string
			body []byte
		}
		queue := []mail{{b, a.Self(), a.Digest(now)}, {a, b.Self(), b.Digest(now)}}
		for len(queue) > 0 {
			m := queue[0]
			queue = queue[1:]
			res, err := m.to.Handle(now, m.from, bytes.Clone(m.body))
			if err != nil {
				t.Fatal(err)
			}
			moved = moved || len(res.Changed)+len(res.Purged) > 0
			if m.to == b {
				total.Changed = append(total.Changed, res.Changed...)
				total.Purged = append(total.Purged, res.Purged...)
				total.Rejected = append(total.Rejected, res.Rejected...)
				total.OwnTerm = max(total.OwnTerm, res.OwnTerm)
				for _, own := range res.Own {
					if !slices.ContainsFunc(total.Own, func(r Record) bool { return r.Key == own.Key }) {
						total.Own = append(total.Own, own)
					}
				}
			}
			other := a
			if m.to == a {
				other = b
			}
			for _, reply := range res.Replies {
				if len(reply) > MaxRecord+100 {
					t.Fatalf("a message of %d bytes", len(reply))
				}
				queue = append(queue, mail{other, m.to.Self(), reply})
			}
		}
		if a.Root() == b.Root() || !moved {
			break
		}
	}
	return total
}
