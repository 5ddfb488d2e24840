package gossip

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func limited(t testing.TB, self string, l Limits) *Replica {
	t.Helper()
	r, err := New(Config{Self: self, Term: 2, Limits: l})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func sharedBy(node, id string, size int) Record {
	return Record{Key: Key{Shared, KindSubscription, id}, Version: Version{A: nanos(noon), Node: node}, Payload: make([]byte, size)}
}

func TestAFloodOfSharedRecordsTakesNobodyElsesPlace(t *testing.T) {
	r := limited(t, "me", Limits{Shared: 100})
	for i := range 1000 {
		r.Merge(noon, []Record{sharedBy("mad", fmt.Sprint("flood-", i), 1)})
	}
	for i := range 40 {
		if res := r.Merge(noon, []Record{sharedBy("calm", fmt.Sprint("calm-", i), 1)}); len(res.Changed) != 1 {
			t.Fatalf("record %d of the calm one found no place", i)
		}
	}
	for i := range 30 {
		setShared(t, r, noon, fmt.Sprint("mine-", i), "x")
	}
	for i := range 100 {
		r.Merge(noon, []Record{sharedBy("mad", fmt.Sprint("more-", i), 1)})
	}
	n := map[string]int{}
	for rec := range r.Space(Shared, KindSubscription) {
		n[rec.Version.Node]++
	}
	if n["me"] != 30 || n["calm"] != 35 || n["mad"] != 35 {
		t.Fatalf("held by writer: %v", n)
	}
	if st := r.Status().Rejected; len(st) == 0 || st[len(st)-1].Host != "mad" || st[len(st)-1].Reason != Full {
		t.Fatalf("named are %+v", st)
	}
	checkIndex(t, r)
}

func TestBytesAndTheWholeAreBoundedWithoutStarvingTheSmall(t *testing.T) {
	r := limited(t, "me", Limits{Bytes: 100_000, Total: 300_000})
	for i := range 100 {
		r.Merge(noon, []Record{sharedBy("mad", fmt.Sprint("flood-", i), 10_000)})
	}
	if res := r.Merge(noon, []Record{sharedBy("calm", "s", 5_000)}); len(res.Changed) != 1 {
		t.Fatal("the space is full of one writer's")
	}
	for h := range 1000 { // under invented names
		for i := range 20 {
			host := fmt.Sprint("invented-", h)
			r.Merge(noon, []Record{{Key: Key{host, KindAlarm, fmt.Sprint(i)}, Version: Version{2, 1, host}, Payload: make([]byte, 1000)}})
		}
	}
	if size := r.bytes + r.index.n*recordCost; size > 2*300_000+1000*2000 {
		t.Fatalf("%d bytes in all", size)
	}
	mine := mustSet(t, r, noon, KindAlarm, "x", "never refused")
	if _, ok := r.Get(mine.Key); !ok {
		t.Fatal("lost")
	}
	checkIndex(t, r)
}

// One writer's flood and another's floods and calm ones meet in any order, and again by the repair: the same is kept.
func TestAFloodOfSeveralWritersLeavesTheSameAtEveryReplica(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var all []Record
		for w, n := range map[string]int{"x": rapid.IntRange(0, 40).Draw(t, "x"), "y": rapid.IntRange(0, 40).Draw(t, "y"), "z": rapid.IntRange(0, 10).Draw(t, "z")} {
			for i := range n {
				all = append(all, sharedBy(w, fmt.Sprint(w, i), 1))
			}
		}
		var want [2]uint64
		for i := range 3 {
			r, err := New(Config{Self: "me", Limits: Limits{Shared: 30}})
			if err != nil {
				t.Fatal(err)
			}
			r.Merge(noon, rapid.Permutation(all).Draw(t, "order"))
			r.Merge(noon, all)
			checkIndex(t, r)
			if i == 0 {
				want = r.Root()
			} else if r.Root() != want {
				t.Fatal("the order of arrival decided")
			}
		}
	})
}

func TestAPeerThatAsksForTooMuchIsNotAnsweredForAWhile(t *testing.T) {
	r := newReplica(t, "me", 2)
	r.Merge(noon, fleet(t, 50, 50))
	ask := bucketsMessage{present: 1<<32 - 1, hashes: make([]uint64, bucketCount)}.encode()
	told := func(now time.Time, who string) (size int) {
		for range 1000 {
			res, err := r.Handle(now, who, ask)
			if err != nil {
				t.Fatal(err)
			}
			for _, reply := range res.Replies {
				size += len(reply)
			}
		}
		return size
	}
	if n := told(noon, "mad"); n < peerBurst || n > peerBurst+listBytes+chunkBytes {
		t.Fatalf("told %d bytes at once", n)
	}
	if n := told(noon.Add(time.Second), "mad"); n > peerRate+listBytes+chunkBytes {
		t.Fatalf("told %d bytes a second later", n)
	}
	if st := r.Status().Rejected; len(st) != 1 || st[0].Host != "mad" || st[0].Reason != Excess || st[0].Reason.String() != "excess" {
		t.Fatalf("named are %+v", st)
	}
	if res, err := r.Handle(noon, "calm", ask); err != nil || len(res.Replies) == 0 {
		t.Fatal("another peer suffers", err)
	}
	if res, err := r.Handle(noon, "mad", EncodeRecords([]Record{sharedBy("mad", "s", 1)}, 1000)[0]); err != nil || len(res.Changed) != 1 {
		t.Fatal("what it has to say is not taken", err)
	}
	if n := told(noon.Add(-time.Hour), "mad"); n == 0 {
		t.Fatal("our clock was set back, and it is never told again")
	}
}

// One delivery for each alarm and subscription is many: they never take the place of the next alarm.
func TestDeliveriesLeaveRoomForAlarms(t *testing.T) {
	r, err := New(Config{Self: "me", Term: 2, Limits: Limits{Records: 200}}) // of its own 100
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for ; ; n++ {
		if _, _, err := r.Set(noon, KindDelivery, fmt.Sprint(n), []byte("told")); errors.Is(err, ErrFull) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
	if n != 75 {
		t.Errorf("%d deliveries, want 75", n)
	}
	if _, _, err := r.Set(noon, KindReceipt, "0", []byte("told")); !errors.Is(err, ErrFull) {
		t.Errorf("a receipt behind them: %v", err)
	}
	mustSet(t, r, noon, KindDelivery, "0", "told more") // of one that is there no room is wanted
	for i := range 25 {
		mustSet(t, r, noon, KindAlarm, fmt.Sprint(i), "x")
	}
	if _, _, err := r.Set(noon, KindAlarm, "one more", nil); !errors.Is(err, ErrFull) {
		t.Errorf("own records are not bounded: %v", err)
	}
}
