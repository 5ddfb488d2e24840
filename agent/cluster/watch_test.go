package cluster

import (
	"encoding/json"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/paramedic-ha/paramedic/gossip/loopback"
	"github.com/paramedic-ha/paramedic/gossip/watch"
)

func TestAFloodOfWordsIsBounded(t *testing.T) {
	w := newWatching("cmp-1")
	for range 2 * maxWords {
		w.newsOf(watch.News{Kind: watch.NewsHeard, Host: "cmp-2"})
		if err := w.heard("cmp-3", typeVerdict, []byte(`{"Host":"cmp-2","Term":2,"Level":3}`)); err != nil {
			t.Fatal(err)
		}
	}
	if news, words := w.take(); len(news) != maxWords || len(words) != maxWords || w.missed != 2*maxWords {
		t.Errorf("%d news and %d words wait, %d were dropped", len(news), len(words), w.missed)
	}
	long := []byte(`{"Zone":"rack-1","Term":3,"Hosts":["` + strings.Repeat("x", maxWord/2) + `"]}`)
	for range 2 * maxWaiting / len(long) {
		if err := w.heard("cmp-3", typeClaim, long); err != nil {
			t.Fatal(err)
		}
	}
	if _, words := w.take(); len(words) > maxWaiting/len(long) || len(words) == 0 {
		t.Errorf("%d words of %d bytes wait", len(words), len(long))
	}
	if err := w.heard("cmp-3", typeVerdict, []byte(`{"Host":"cmp-2","Term":2,"Level":3}`)); err != nil {
		t.Error(err)
	}
	if _, words := w.take(); len(words) != 1 {
		t.Error("when the flood is over nothing is heard")
	}
}

func TestWordsThatCannotBeAreRefused(t *testing.T) {
	w := newWatching("cmp-1")
	for name, body := range map[string]string{
		"no JSON": `{`, "no host": `{"Term":2,"Level":3}`, "an odd term": `{"Host":"a","Term":3,"Level":3}`, "no level": `{"Host":"a","Term":2}`,
		"an unknown level": `{"Host":"a","Term":2,"Level":5}`, "a term beyond all": `{"Host":"a","Term":4611686018427387904,"Level":3}`,
		"too many votes": `{"Host":"a","Term":2,"Level":3,"Votes":[` + strings.TrimSuffix(strings.Repeat("{},", 65), ",") + `]}`,
		"too long":       `{"Host":"a","Term":2,"Level":3,"By":"` + strings.Repeat("x", maxWord) + `"}`,
	} {
		if w.heard("cmp-3", typeVerdict, []byte(body)) == nil {
			t.Errorf("a verdict with %s is heard", name)
		}
	}
	for name, body := range map[string]string{
		"no JSON": `[]`, "nobody": `{"Term":2,"Level":3}`, "a host and a zone": `{"Host":"a","Zone":"b","Level":3}`, "an unknown level": `{"Host":"a","Level":200}`,
	} {
		if w.heard("cmp-3", typeClaim, []byte(body)) == nil {
			t.Errorf("a claim with %s is heard", name)
		}
	}
	if news, words := w.take(); len(news)+len(words) > 0 {
		t.Errorf("%d wait", len(words))
	}
}

func TestWhoHearsAVerdictAboutItselfTakesAHigherTermAndNobodySpeaksForAHostThatIsNot(t *testing.T) {
	net := loopback.Network(t)
	var a, b *one
	var wait sync.WaitGroup
	wait.Go(func() { a = start(t, net, t.TempDir(), 1) })
	wait.Go(func() { b = start(t, net, t.TempDir(), 2) })
	wait.Wait()
	if a == nil || b == nil {
		t.FailNow()
	}
	eventually(t, "they know each other", func() bool { return len(a.Hosts()) == 2 && len(b.Hosts()) == 2 })
	say := func(v watch.Verdict) {
		t.Helper()
		body, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		if err := b.repl.Tell("cmp-1", encodeMessage(typeVerdict, body)); err != nil {
			t.Fatal(err)
		}
	}
	term := a.term.Load()
	say(watch.Verdict{Host: "nobody", Term: 2, Level: watch.LevelConfirmed, Suspects: 1})
	if term > 2 {
		say(watch.Verdict{Host: "cmp-1", Term: term - 2, Level: watch.LevelConfirmed, Suspects: 1}) // of a former life
	}
	eventually(t, "it has heard of its own loss", func() bool {
		say(watch.Verdict{Host: "cmp-1", Term: term, Level: watch.LevelConfirmed, Suspects: 1}) // a word may be lost
		a.engine.mu.Lock()
		defer a.engine.mu.Unlock()
		return slices.Contains(a.engine.claims, term+1)
	})
	a.engine.mu.Lock()
	if n := slices.IndexFunc(a.engine.claims, func(c uint64) bool { return c != term+1 }); n >= 0 {
		t.Errorf("it claims terms above %v", a.engine.claims)
	}
	a.engine.mu.Unlock()
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, name := range a.ledger.Hosts() {
		if name == "nobody" {
			t.Error("it speaks for a host that nobody knows")
		}
	}
}
