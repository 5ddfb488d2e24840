package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/paramedic-ha/paramedic/correlate"
	"github.com/paramedic-ha/paramedic/gossip"
	"github.com/paramedic-ha/paramedic/gossip/watch"
	"github.com/paramedic-ha/paramedic/notify"
	"github.com/paramedic-ha/paramedic/notify/delivery"
)

func handOver() notify.HandOver {
	at := time.Date(2026, 11, 22, 12, 0, 0, 5, time.UTC)
	return notify.HandOver{
		NotificationID: "n-1", Subscription: "s-1", Version: 3, Outbox: at, Attempt: 2, Superseded: 1,
		Change: correlate.Change{
			Alarm: &correlate.Alarm{
				ID: "a-1", Key: correlate.Key{Home: "home", Resource: "nic/eth0", Condition: correlate.CondCarrier},
				First: correlate.Revision{Term: 2, Counter: 6}, Revision: correlate.Revision{Term: 2, Counter: 7},
				Last: correlate.Raised, Severity: correlate.SeverityCritical, RootCause: true,
				Affected: []correlate.Affected{{Resource: "domain/x", State: correlate.StateFailed, Ports: []correlate.Port{{MAC: "52:54"}}}},
			},
			Occurred: at, Observed: at, Found: at,
		},
	}
}

// heartbeat is one that a peer is asked to send.
func heartbeat() notify.HandOver {
	return notify.HandOver{NotificationID: "n-2", Subscription: "s-1", Version: 3, Beat: time.Date(2026, 11, 22, 12, 0, 30, 0, time.UTC), Attempt: 1}
}

func TestMessagesComeBackAsTheyWere(t *testing.T) {
	q := request{ID: 1 << 63, HandOver: handOver()}
	for _, q := range []request{q, {ID: 8, HandOver: heartbeat()}} {
		msg, err := encodeRequest(q)
		if err != nil {
			t.Fatal(err)
		}
		got, _, err := decode(msg)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(q, *got); diff != "" {
			t.Error(diff)
		}
	}
	a := answer{ID: 7, Outcome: delivery.Outcome{Verdict: delivery.Retry, RetryAfter: time.Second, Err: "answered 503"}, Sent: q.Outbox}
	_, back, err := decode(encodeAnswer(a))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(a, *back); diff != "" {
		t.Error(diff)
	}
}

func TestMessagesThatCannotBeAreRefused(t *testing.T) {
	good, err := encodeRequest(request{ID: 1, HandOver: handOver()})
	if err != nil {
		t.Fatal(err)
	}
	noAlarm := handOver()
	noAlarm.Change.Alarm = nil
	empty, err := encodeRequest(request{HandOver: noAlarm})
	if err != nil {
		t.Fatal(err)
	}
	both := handOver()
	both.Beat = both.Outbox
	torn, err := encodeRequest(request{HandOver: both})
	if err != nil {
		t.Fatal(err)
	}
	with := func(at int, b byte) []byte {
		msg := slices.Clone(good)
		msg[at] = b
		return msg
	}
	for what, msg := range map[string][]byte{
		"empty": {}, "a head alone": good[:3], "another format": with(0, 9), "another type": with(1, 99), "another form": with(2, 2),
		"unknown flags": with(3, 0x82), "cut": good[:len(good)-5], "no JSON": encodeMessage(typeRequest, []byte("hello")), "no alarm": empty, "a heartbeat about an alarm": torn,
		"a bomb":              encodeMessage(typeRequest, []byte(strings.Repeat(" ", maxBody+10))),
		"an unknown verdict":  encodeMessage(typeAnswer, []byte(`{"id":1,"outcome":{"Verdict":9}}`)),
		"a negative attempt":  encodeMessage(typeRequest, []byte(`{"id":1,"Attempt":-1}`)),
		"a type of a replica": with(1, byte(gossip.TypeDigest)),
	} {
		if q, a, err := decode(msg); err == nil {
			t.Errorf("%s: read as %v, %v", what, q, a)
		}
	}
}

func FuzzMessage(f *testing.F) {
	q, err := encodeRequest(request{ID: 1, HandOver: handOver()})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(q)
	if q, err = encodeRequest(request{ID: 1, HandOver: heartbeat()}); err != nil {
		f.Fatal(err)
	}
	f.Add(q)
	f.Add(encodeAnswer(answer{ID: 1, Refused: "busy"}))
	f.Add(encodeMessage(typeVerdict, []byte(`{"Host":"cmp-2","Term":2,"Level":3,"By":"cmp-3","Votes":[{"Voter":"cmp-3","Silence":330000000,"Kernel":-1}]}`)))
	f.Add(encodeMessage(typeClaim, []byte(`{"Zone":"rack-1","Term":3,"Level":4,"Hosts":["cmp-2"]}`)))
	f.Fuzz(func(t *testing.T, msg []byte) {
		if kind, body, err := openMessage(msg); err == nil && (kind == typeVerdict || kind == typeClaim) {
			w := newWatching("cmp-1")
			err := w.heard("cmp-3", kind, body)
			_, words := w.take()
			if (err == nil) != (len(words) == 1) {
				t.Fatalf("it is refused and heard, or neither: %v", err)
			}
			for _, one := range words {
				if v := one.verdict; v != nil && (v.Term%2 != 0 || v.Level == watch.LevelNone || v.Level > watch.LevelConfirmed || v.Host == "") {
					t.Fatalf("a verdict is heard that can't be: %+v", v)
				}
				if c := one.claim; c != nil && (c.Level > watch.LevelConfirmed || c.Host == "" && c.Zone == "") {
					t.Fatalf("a claim is heard that can't be: %+v", c)
				}
			}
			return
		}
		q, a, err := decode(msg)
		if err != nil {
			return
		}
		if (q == nil) == (a == nil) {
			t.Fatalf("it is both or neither: %v, %v", q, a)
		}
		if q != nil {
			if (q.Change.Alarm == nil) == q.Beat.IsZero() {
				t.Fatal("it is about neither an alarm nor a heartbeat, or about both")
			}
			again, err := encodeRequest(*q)
			if err != nil {
				t.Fatal(err)
			}
			if _, _, err := decode(again); err != nil {
				t.Fatalf("what was read can't be written: %v", err)
			}
		}
	})
}

// wire joins relays as the gossip does, but that it may lose what it is told to.
type wire struct {
	t      *testing.T
	mu     sync.Mutex
	relays map[string]*relay
	lose   func(from, to string, msg []byte) bool
}

func newWire(t *testing.T) *wire {
	w := &wire{t: t, relays: make(map[string]*relay)}
	t.Cleanup(func() {
		for _, r := range w.relays {
			r.close()
		}
	})
	return w
}

func (w *wire) add(name string, deliver func(context.Context, notify.HandOver) (notify.Answer, error)) *relay {
	r := newRelay(name, slog.New(slog.DiscardHandler), func(to string, msg []byte) error {
		w.mu.Lock()
		other, lose := w.relays[to], w.lose
		w.mu.Unlock()
		if other == nil {
			return gossip.ErrUnknownNode
		}
		if lose != nil && lose(name, to, msg) {
			return nil
		}
		go func() {
			if err := w.pass(other, name, msg); err != nil {
				w.t.Errorf("%s can't read %s: %v", to, name, err)
			}
		}()
		return nil
	}, func() []string {
		w.mu.Lock()
		defer w.mu.Unlock()
		return slices.DeleteFunc(slices.Sorted(maps.Keys(w.relays)), func(n string) bool { return n == name })
	})
	r.settled = func(string, string, correlate.Revision) bool { return false }
	r.delivered = func(string, notify.HandOver, notify.Answer) {}
	if deliver != nil {
		r.open(deliver)
	}
	w.mu.Lock()
	w.relays[name] = r
	w.mu.Unlock()
	return r
}

func (*wire) pass(to *relay, from string, msg []byte) error {
	t, body, err := openMessage(msg)
	if err != nil {
		return err
	}
	return to.heard(from, t, body)
}

func decode(msg []byte) (*request, *answer, error) {
	t, body, err := openMessage(msg)
	if err != nil {
		return nil, nil, err
	}
	return decodeMessage(t, body)
}

func TestAPeerMakesTheRequestAndTellsWhatCameOfIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWire(t)
		home := w.add("home", nil)
		var got []notify.HandOver
		peer := w.add("peer", func(_ context.Context, h notify.HandOver) (notify.Answer, error) {
			got = append(got, h)
			return notify.Answer{Outcome: delivery.Outcome{Verdict: delivery.Pause, Err: "answered 410"}, Sent: h.Outbox, Answered: h.Outbox}, nil
		})
		var receipts []string
		peer.delivered = func(from string, h notify.HandOver, a notify.Answer) {
			receipts = append(receipts, from+" "+h.NotificationID+" "+a.Outcome.Verdict.String()+" by "+a.By)
		}
		h := handOver()
		a, err := home.handOver(t.Context(), h)
		if err != nil || a.By != "peer" || a.Outcome.Verdict != delivery.Pause || a.Outcome.Err != "answered 410" {
			t.Errorf("answer %+v, %v", a, err)
		}
		if diff := cmp.Diff([]notify.HandOver{h}, got); diff != "" {
			t.Error(diff)
		}
		if !slices.Equal(receipts, []string{"home n-1 paused by peer"}) {
			t.Errorf("receipts %q", receipts)
		}
	})
}

// A heartbeat is about no alarm: nobody has told it before, and that it was told is nobody's to remember.
func TestAHeartbeatIsSentByAPeerAndLeavesNoReceipt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWire(t)
		home := w.add("home", nil)
		var got []notify.HandOver
		peer := w.add("peer", func(_ context.Context, h notify.HandOver) (notify.Answer, error) {
			got = append(got, h)
			return notify.Answer{}, nil
		})
		peer.settled = func(string, string, correlate.Revision) bool { return true }
		peer.delivered = func(string, notify.HandOver, notify.Answer) { t.Error("it left a receipt") }
		if a, err := home.handOver(t.Context(), heartbeat()); err != nil || a.By != "peer" || a.Outcome.Verdict != delivery.Settled {
			t.Errorf("answer %+v, %v", a, err)
		}
		if diff := cmp.Diff([]notify.HandOver{heartbeat()}, got); diff != "" {
			t.Error(diff)
		}
	})
}

func TestALostDatagramIsSentAgainAndTheRequestMadeOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWire(t)
		home := w.add("home", nil)
		made := 0
		w.add("peer", func(context.Context, notify.HandOver) (notify.Answer, error) { made++; return notify.Answer{}, nil })
		sent := map[string]int{}
		w.lose = func(from, _ string, _ []byte) bool {
			w.mu.Lock()
			defer w.mu.Unlock()
			sent[from]++
			return sent[from] == 1 // the first question, and the first answer
		}
		began := time.Now()
		if _, err := home.handOver(t.Context(), handOver()); err != nil {
			t.Error(err)
		}
		if took := time.Since(began); made != 1 || took > askLimit {
			t.Errorf("made %d times in %v", made, took)
		}
	})
}

func TestAPeerThatIsAtItIsWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWire(t)
		home := w.add("home", nil)
		var made atomic.Int32
		var deaf atomic.Bool
		w.lose = func(from, _ string, _ []byte) bool { return deaf.Load() && from != "home" } // nothing comes back
		var slow atomic.Int64
		slow.Store(int64(serveLimit - time.Millisecond))
		for _, name := range []string{"p1", "p2", "p3"} {
			w.add(name, func(ctx context.Context, _ notify.HandOver) (notify.Answer, error) {
				made.Add(1)
				select {
				case <-time.After(time.Duration(slow.Load())):
					return notify.Answer{}, nil
				case <-ctx.Done():
					return notify.Answer{Outcome: delivery.Outcome{Verdict: delivery.Retry, Err: "no answer"}}, nil
				}
			})
		}
		if a, err := home.handOver(t.Context(), handOver()); err != nil || a.Outcome.Verdict != delivery.Settled || made.Load() != 1 {
			t.Errorf("a slow consumer was asked %d times: %+v, %v", made.Load(), a, err)
		}
		began := time.Now()
		deaf.Store(true)
		if _, err := home.handOver(t.Context(), handOver()); err == nil || time.Since(began) > askPeers*askLimit {
			t.Errorf("silent peers were waited for %v: %v", time.Since(began), err)
		}
		<-time.After(time.Hour) // of the bubble: those that were silent are asked like the others again
		slow.Store(int64(time.Hour))
		began = time.Now()
		deaf.Store(false)
		made.Store(0)
		if a, err := home.handOver(t.Context(), handOver()); err != nil || a.Outcome.Verdict != delivery.Retry || time.Since(began) > workLimit || made.Load() != 1 {
			t.Errorf("a consumer that hangs was waited for %v, %d peers asked: %+v, %v", time.Since(began), made.Load(), a, err)
		}
		synctest.Wait()
	})
}

func TestWhatAPeerAnswersIsBounded(t *testing.T) {
	lie := answer{ID: 1, Refused: strings.Repeat("ä", 1<<20), Outcome: delivery.Outcome{Verdict: delivery.Retry, Err: strings.Repeat("x", 1<<20), RetryAfter: -time.Hour}}
	body, err := json.Marshal(lie)
	if err != nil {
		t.Fatal(err)
	}
	_, got, err := decode(encodeMessage(typeAnswer, body))
	if err != nil || len(got.Refused) > maxReason || len(got.Outcome.Err) > maxReason || got.Outcome.RetryAfter < 0 || !utf8.ValidString(got.Refused) {
		t.Errorf("read as %d and %d bytes, again after %v: %v", len(got.Refused), len(got.Outcome.Err), got.Outcome.RetryAfter, err)
	}
}

func TestThreePeersAreAskedAndTheOnesThatFailedLast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWire(t)
		home := w.add("home", nil)
		var asked []string
		var good string
		for _, name := range []string{"p1", "p2", "p3", "p4", "p5"} {
			w.add(name, func(ctx context.Context, _ notify.HandOver) (notify.Answer, error) {
				w.mu.Lock()
				asked = append(asked, name)
				is := name == good
				w.mu.Unlock()
				if is {
					return notify.Answer{}, nil
				}
				if name == "p1" { // it hangs
					<-ctx.Done()
				}
				return notify.Answer{}, errors.New("no endpoint can be reached")
			})
		}
		order := home.rank("s-1", time.Now())
		began := time.Now()
		_, err := home.handOver(t.Context(), handOver())
		if err == nil || !strings.Contains(err.Error(), "no endpoint can be reached") {
			t.Errorf("nobody could, and the error is %v", err)
		}
		if took := time.Since(began); !slices.Equal(asked, order[:askPeers]) || took > serveLimit+askLimit {
			t.Errorf("asked %v of %v in %v", asked, order, took)
		}
		good, asked = order[4], nil
		a, err := home.handOver(t.Context(), handOver())
		if err != nil || a.By != good || !slices.Equal(asked, order[3:]) {
			t.Errorf("asked %v, answer %+v, %v; those that failed lately come last", asked, a, err)
		}
		asked = nil
		if a, err := home.handOver(t.Context(), handOver()); err != nil || a.By != good || !slices.Equal(asked, []string{good}) {
			t.Errorf("asked %v, answer %+v, %v; the one that could comes first", asked, a, err)
		}
		synctest.Wait()
	})
}

func TestWhatIsSettledIsNotSentAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWire(t)
		home := w.add("home", nil)
		peer := w.add("peer", func(context.Context, notify.HandOver) (notify.Answer, error) {
			t.Error("a request for what is settled was made")
			return notify.Answer{}, nil
		})
		peer.settled = func(sub, alarm string, r correlate.Revision) bool {
			return sub == "s-1" && alarm == "a-1" && r == correlate.Revision{Term: 2, Counter: 7}
		}
		if a, err := home.handOver(t.Context(), handOver()); err != nil || a.Outcome.Verdict != delivery.Settled {
			t.Errorf("answer %+v, %v", a, err)
		}
	})
}

func TestAPeerThatHasEnoughToDoRefuses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWire(t)
		home := w.add("home", nil)
		release := make(chan struct{})
		peer := w.add("peer", func(context.Context, notify.HandOver) (notify.Answer, error) { <-release; return notify.Answer{}, nil })
		for i := range 2 * servedAtOnce { // what is too many of one leaves room for others
			peer.take("flood", request{ID: uint64(i), HandOver: handOver()})
		}
		if peer.errands.running != servedOfOne {
			t.Errorf("%d requests of one home are made at once", peer.errands.running)
		}
		for i := range servedAtOnce {
			peer.take("other", request{ID: uint64(i), HandOver: handOver()})
		}
		if _, err := home.handOver(t.Context(), handOver()); err == nil || !strings.Contains(err.Error(), "too many") {
			t.Errorf("the peer is full, and the answer is %v", err)
		}
		close(release)
		synctest.Wait()
		if _, err := home.handOver(t.Context(), handOver()); err != nil {
			t.Errorf("it has time again: %v", err)
		}
		w.mu.Lock()
		delete(w.relays, "peer")
		w.mu.Unlock()
		if _, err := home.handOver(t.Context(), handOver()); !errors.Is(err, errNobody) {
			t.Errorf("nobody is there: %v", err)
		}
		peer.close()
	})
}

func TestAnAnswerOfSomebodyElseIsNotTaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWire(t)
		home := w.add("home", nil)
		w.add("peer", func(ctx context.Context, _ notify.HandOver) (notify.Answer, error) {
			<-ctx.Done()
			return notify.Answer{}, ctx.Err()
		})
		done := make(chan error)
		go func() { _, err := home.handOver(t.Context(), handOver()); done <- err }()
		synctest.Wait()
		home.asked.mu.Lock()
		ids := slices.Collect(maps.Keys(home.asked.waiting))
		home.asked.mu.Unlock()
		for _, id := range ids {
			if err := w.pass(home, "liar", encodeAnswer(answer{ID: id})); err != nil {
				t.Error(err)
			}
		}
		if err := <-done; err == nil {
			t.Error("the word of a host that was not asked was taken")
		}
	})
}
