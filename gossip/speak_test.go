package gossip

import (
	"testing"

	"pgregory.net/rapid"
)

func speaker(t testing.TB, name string) *Replica {
	t.Helper()
	r, err := New(Config{Self: name, Term: 2})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestWhatIsNotForSpeakersIsRefused(t *testing.T) {
	r := speaker(t, "cmp-2")
	for name, c := range map[string]struct {
		space string
		term  uint64
		kind  Kind
	}{
		"its own space":     {"cmp-2", 3, KindAlarm},
		"the shared space":  {Shared, 3, KindAlarm},
		"an even term":      {"cmp-1", 4, KindAlarm},
		"no term":           {"cmp-1", 0, KindAlarm},
		"a term too high":   {"cmp-1", MaxTerm + 1, KindAlarm},
		"no kind":           {"cmp-1", 3, 0},
		"a floor":           {"cmp-1", 3, KindFloor},
		"a shared kind":     {"cmp-1", 3, KindSubscription},
		"that it is forgot": {"cmp-1", 3, KindForget},
	} {
		if res, err := r.Speak(noon, c.space, c.term, c.kind, "a", []byte("x")); err == nil {
			t.Errorf("%s: written: %+v", name, res.Changed)
		}
	}
	if _, err := r.Speak(noon, "cmp-1", 3, KindAlarm, "a", make([]byte, MaxRecord)); err == nil {
		t.Error("a record that is too big is written")
	}
	if n := len(all(r)); n > 0 {
		t.Errorf("%d records are there", n)
	}
}

func all(r *Replica) (out []Record) {
	for rec := range r.Records() {
		out = append(out, rec)
	}
	return out
}

func spoken(t testing.TB, r *Replica, space string, term uint64, payload string) Result {
	t.Helper()
	res, err := r.Speak(noon, space, term, KindAlarm, "a", []byte(payload))
	if err != nil {
		t.Fatal(err)
	}
	return res
}

func TestWhoTakesOverWritesTheSameOnceMoreInItsOwnName(t *testing.T) {
	a, b := speaker(t, "cmp-2"), speaker(t, "cmp-3")
	first := spoken(t, a, "cmp-1", 3, "lost").Changed
	if len(first) != 1 || first[0].Version != (Version{3, 1, "cmp-2"}) {
		t.Fatalf("written: %+v", first)
	}
	if again := spoken(t, a, "cmp-1", 3, "lost"); len(again.Changed) > 0 {
		t.Fatalf("the same again is not nothing: %+v", again.Changed)
	}
	b.Merge(noon, first)
	second := spoken(t, b, "cmp-1", 3, "lost").Changed
	if len(second) != 1 || second[0].Version != (Version{3, 2, "cmp-3"}) {
		t.Fatalf("the successor writes %+v", second)
	}
	a.Merge(noon, second)
	if third := spoken(t, a, "cmp-1", 3, "lost, confirmed").Changed; len(third) != 1 || third[0].Version != (Version{3, 3, "cmp-2"}) {
		t.Fatalf("more of the same: %+v", third)
	}
}

func TestNothingIsSaidOfAHostThatIsBackOrForgotten(t *testing.T) {
	home, a := speaker(t, "cmp-1"), speaker(t, "cmp-2")
	rec, _, err := home.Set(noon, KindAlarm, "own", []byte("x"))
	if err != nil {
		t.Fatal(err)
	}
	a.Merge(noon, []Record{rec})
	lost := spoken(t, a, "cmp-1", 3, "lost").Changed

	// It hears of it, takes a higher term, and restates what is true.
	if res := home.Merge(noon, lost); res.OwnTerm != 3 {
		t.Fatalf("the host is shown term %d", res.OwnTerm)
	}
	up, err := home.SetTerm(noon, 4)
	if err != nil {
		t.Fatal(err)
	}
	a.Merge(noon, up.Changed)
	if len(all(a)) != 2 { // until the floor both words are there, and terms tell which counts
		t.Fatalf("before the floor: %+v", all(a))
	}
	home.Restated(noon)
	floor := home.Tick(noon.Add(FloorDelay))
	res := a.Merge(noon, floor.Changed)
	if len(res.Purged) != 1 || res.Purged[0].Version.A != 3 {
		t.Fatalf("the floor ends %+v", res.Purged)
	}
	if late := spoken(t, a, "cmp-1", 3, "lost"); len(late.Changed)+len(late.Rejected) > 0 {
		t.Fatalf("said of a host that is back: %+v", late)
	}
	if again := spoken(t, a, "cmp-1", 5, "lost again"); len(again.Changed) != 1 {
		t.Fatalf("of its next loss nothing can be said: %+v", again)
	}

	if _, err := a.Forget(noon, "cmp-1"); err != nil {
		t.Fatal(err)
	}
	if late := spoken(t, a, "cmp-1", 5, "lost again"); len(late.Changed)+len(late.Rejected) > 0 {
		t.Fatalf("said of a host that is forgotten: %+v", late)
	}
	if back := spoken(t, a, "cmp-1", 7, "lost under a higher term"); len(back.Changed) != 1 {
		t.Fatalf("of one that came back after it nothing can be said: %+v", back)
	}
}

func TestTheSpaceOfAZoneIsWrittenLikeThatOfAHost(t *testing.T) {
	a, b := speaker(t, "cmp-2"), speaker(t, "cmp-3")
	b.Merge(noon, spoken(t, a, "zone/rack-1", 3, "lost").Changed)
	spoken(t, b, "zone/rack-1", 3, "lost, and more")
	a.Merge(noon, all(b))
	if got := all(a); len(got) != 1 || string(got[0].Payload) != "lost, and more" || got[0].Version.Node != "cmp-3" {
		t.Fatalf("it holds %+v", got)
	}
}

// TestSpeakersConverge: two that speak at once, a host that comes back in between, and all of it heard in any order.
func TestSpeakersConverge(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		replica := func(name string) *Replica {
			r, err := New(Config{Self: name, Term: 2})
			if err != nil {
				t.Fatal(err)
			}
			return r
		}
		home, speakers := replica("cmp-1"), []*Replica{replica("cmp-2"), replica("cmp-3")}
		var said []Record
		now := noon
		for range rapid.IntRange(1, 25).Draw(t, "steps") {
			switch s := speakers[rapid.IntRange(0, 1).Draw(t, "speaker")]; rapid.IntRange(0, 4).Draw(t, "step") {
			case 0, 1:
				term := home.Term() + 1
				if rapid.Bool().Draw(t, "late") {
					term = 3
				}
				res, err := s.Speak(now, "cmp-1", term, KindAlarm, rapid.SampledFrom([]string{"a", "b"}).Draw(t, "alarm"), []byte(rapid.SampledFrom([]string{"x", "y"}).Draw(t, "word")))
				if err != nil || len(res.Rejected) > 0 {
					t.Fatalf("%v %+v", err, res.Rejected)
				}
				said = append(said, res.Changed...)
			case 2: // one hears some
				if len(said) > 0 {
					s.Merge(now, said[rapid.IntRange(0, len(said)-1).Draw(t, "from"):])
				}
			case 3: // the host lives
				if rec, changed, err := home.Set(now, KindAlarm, "a", []byte(rapid.SampledFrom([]string{"own", "over"}).Draw(t, "own"))); err != nil {
					t.Fatal(err)
				} else if changed {
					said = append(said, rec)
				}
			case 4: // it hears of it, and is back
				if res := home.Merge(now, said); res.OwnTerm > home.Term() {
					up, err := home.SetTerm(now, (res.OwnTerm/2+1)*2)
					if err != nil {
						t.Fatal(err)
					}
					said = append(said, up.Changed...)
					home.Restated(now)
				}
				now = now.Add(FloorDelay)
				said = append(said, home.Tick(now).Changed...)
			}
		}
		var want []Record
		for i, r := range []*Replica{speakers[0], speakers[1], replica("cmp-4"), replica("cmp-5")} {
			r.Merge(now, rapid.Permutation(said).Draw(t, "order"))
			got := all(r)
			if i == 0 {
				want = got
			}
			if !equalRecords(got, want) {
				t.Fatalf("%s holds\n%+v\nand another\n%+v", r.Self(), got, want)
			}
		}
	})
}

func equalRecords(a, b []Record) bool {
	have := map[Key]Record{}
	for _, r := range a {
		have[r.Key] = r
	}
	for _, r := range b {
		if o, ok := have[r.Key]; !ok || compare(&o, &r) != 0 {
			return false
		}
	}
	return len(a) == len(b)
}

func TestAWriterSaysThatASpeakersWordWasRefused(t *testing.T) {
	r, err := New(Config{Self: "cmp-2", Term: 2, Limits: Limits{Spaces: 1}})
	if err != nil {
		t.Fatal(err)
	}
	w := &Writer{replica: r, now: noon}
	if err := w.Speak("cmp-1", 4, KindAlarm, "a", nil); err == nil {
		t.Error("an even term is no error")
	}
	if err := w.Speak("cmp-1", 3, KindAlarm, "a", []byte("x")); err != nil {
		t.Error(err)
	}
	if err := w.Speak("cmp-3", 3, KindAlarm, "a", []byte("x")); err == nil {
		t.Error("there was no room for it, and that is no error")
	}
	if len(w.res.Changed) != 1 {
		t.Errorf("passed on: %+v", w.res.Changed)
	}
}
