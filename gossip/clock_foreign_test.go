package gossip

import (
	"testing"
	"time"
)

// Two clocks are an hour ahead at once, one writes and the other takes it. When both are set, all must hold the same, even
// when the writer has forgotten that it wrote: the word from the future gives way to what the others have.
func TestAWordFromTheFutureOfAnotherGivesWayWhenTheClockIsSet(t *testing.T) {
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	ahead := now.Add(time.Hour)
	a, b, c := newReplica(t, "a", 2), newReplica(t, "b", 2), newReplica(t, "c", 2)
	old, _, err := c.SetShared(now, KindAck, "x", []byte("old"))
	if err != nil {
		t.Fatal(err)
	}
	a.Merge(ahead, []Record{old})
	b.Merge(ahead, []Record{old})
	var words []Record
	for id, payload := range map[string]string{"x": "future", "y": "known to nobody else"} {
		rec, _, err := a.SetShared(ahead, KindAck, id, []byte(payload))
		if err != nil {
			t.Fatal(err)
		}
		words = append(words, rec)
	}
	b.Merge(ahead, words)
	for range 20 { // b's clock is set; a does not exist any more
		now = now.Add(time.Second)
		b.Tick(now)
		c.Tick(now)
		converse(t, now, b, c)
		converse(t, now, c, b)
	}
	if b.Root() != c.Root() {
		t.Fatal("they do not hold the same")
	}
	for id, want := range map[string]string{"x": "old", "y": "known to nobody else"} {
		if got, ok := c.Get(Key{Shared, KindAck, id}); !ok || string(got.Payload) != want {
			t.Errorf("%s is %q, %v; want %q", id, got.Payload, ok, want)
		}
	}
}

// A life that took a term which was forgotten elsewhere, and then a higher one, keeps nothing that the others have given up.
func TestAHigherTermEndsWhatWasForgottenOfTheLowerOne(t *testing.T) {
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	a, b := newReplica(t, "a", 2), newReplica(t, "b", 2)
	for _, id := range []string{"x", "y"} {
		if _, _, err := a.Set(now, KindAlarm, id, nil); err != nil {
			t.Fatal(err)
		}
	}
	if _, _, err := a.Delete(now, KindAlarm, "x"); err != nil {
		t.Fatal(err)
	}
	b.Merge(now, []Record{{Key: Key{"a", KindHost, ""}, Version: Version{8, 1, "a"}}})
	forget, err := b.Forget(now, "a")
	if err != nil {
		t.Fatal(err)
	}
	if res := a.Merge(now, forget.Changed); res.OwnTerm != 8 {
		t.Fatalf("%+v", res)
	}
	if _, err := a.SetTerm(now, 10); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		converse(t, now, a, b)
		converse(t, now, b, a)
	}
	if a.Root() != b.Root() {
		t.Error("they do not hold the same")
	}
	if _, ok := b.Get(Key{"a", KindAlarm, "y"}); !ok {
		t.Error("what lives is lost")
	}
}
