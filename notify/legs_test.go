package notify

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/paramedic-ha/paramedic/correlate"
)

// town is a Notifier on a virtual clock and consumers at the ends of pipes, by the names of their hosts.
type town struct {
	*Notifier
	t    *testing.T
	dir  string
	peer *others
	r    *reports
	stop func()

	mu     sync.Mutex
	status map[string]int // 0: it can't be connected to; -1: it never answers; none: 200
	heard  map[string][]word
}

// word is a notification that a consumer was sent, and whether it took it.
type word struct {
	id, alarm, revision, state string
	reporter                   string
	took                       bool
}

func newTown(t *testing.T, peer *others) *town {
	t.Helper()
	w := &town{t: t, dir: t.TempDir(), peer: peer, status: map[string]int{}, heard: map[string][]word{}}
	w.begin("cmp-1")
	return w
}

func (w *town) begin(node string) {
	w.t.Helper()
	cfg, r := testConfig(w.t, w.dir)
	cfg.Node, cfg.Log, cfg.Now, cfg.Rand, cfg.MaxAge = node, discard, time.Now, func() float64 { return 1 }, 24*time.Hour
	if w.peer != nil {
		cfg.Peers = w.peer
	}
	n, err := newNotifier(cfg, w.dial)
	if err != nil {
		w.t.Fatal(err)
	}
	w.Notifier, w.r, w.stop = n, r, run(w.t, n)
}

func (w *town) restart() {
	w.stop()
	w.begin("cmp-1")
}

func (w *town) dial(ctx context.Context, _, address string) (net.Conn, error) {
	name, _, _ := strings.Cut(address, ":")
	if w.answers(name) == 0 || ctx.Err() != nil {
		return nil, errors.New("connection refused")
	}
	here, there := net.Pipe()
	go w.serve(name, there)
	return here, nil
}

func (w *town) serve(name string, conn net.Conn) {
	defer conn.Close()
	in := bufio.NewReader(conn)
	for {
		r, err := http.ReadRequest(in)
		if err != nil {
			return
		}
		body, _ := io.ReadAll(r.Body)
		status := w.answers(name)
		if status == -1 {
			_, _ = io.Copy(io.Discard, in) // until it is given up
			return
		}
		var e struct {
			ID   string
			Data struct {
				Reporter string
				Alarm    struct{ ID, Revision, State string }
			}
		}
		_ = json.Unmarshal(body, &e)
		w.mu.Lock()
		w.heard[name] = append(w.heard[name], word{e.ID, e.Data.Alarm.ID, e.Data.Alarm.Revision, e.Data.Alarm.State, e.Data.Reporter, status == 200})
		w.mu.Unlock()
		resp := http.Response{StatusCode: status, ProtoMajor: 1, ProtoMinor: 1}
		if resp.Write(conn) != nil {
			return
		}
	}
}

func (w *town) answers(name string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	if status, ok := w.status[name]; ok {
		return status
	}
	return 200
}

func (w *town) set(name string, status int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.status[name] = status
}

// said are the revisions that a consumer took, in order.
func (w *town) said(name string) (all []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, h := range w.heard[name] {
		if h.took {
			all = append(all, h.alarm+" "+h.revision)
		}
	}
	return all
}

func (w *town) want(name string, all ...string) {
	w.t.Helper()
	if got := w.said(name); !slices.Equal(got, all) {
		w.t.Fatalf("%s took %q, want %q", name, got, all)
	}
}

func toAll(names ...string) Subscription {
	s := fileSub("vnfm")
	s.Origin, s.DeliverTo = OriginAPI, DeliverAll
	for _, n := range names {
		s.Endpoints = append(s.Endpoints, "http://"+n+":80/x")
	}
	return s
}

func (w *town) subscribe(s Subscription) Subscription {
	w.t.Helper()
	s, _, err := w.Subscribe(w.t.Context(), s, false)
	if err != nil {
		w.t.Fatal(err)
	}
	return s
}

func (w *town) update(id string, p SubscriptionPatch) Subscription {
	w.t.Helper()
	s, err := w.Update(w.t.Context(), id, p)
	if err != nil {
		w.t.Fatal(err)
	}
	return s
}

// TestADeadEndpointDelaysNoOtherAndItsFailureIsSeen: every revision reaches the living one at once, under one id for both.
func TestADeadEndpointDelaysNoOtherAndItsFailureIsSeen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTown(t, nil)
		w.set("dead", -1)
		s := w.subscribe(toAll("dead", "alive"))
		for i := uint64(1); i <= 5; i++ {
			w.Publish(effects(alarm("a", i, correlate.Changed)))
			time.Sleep(10 * time.Millisecond)
		}
		w.want("alive", "a 2.1", "a 2.2", "a 2.3", "a 2.4", "a 2.5")
		w.want("dead")
		time.Sleep(5 * time.Minute)
		states := w.Subscriptions()[0].EndpointStates
		if len(states) != 2 || states[0].Pending != 1 || states[0].Failing.IsZero() || states[1].Pending != 0 || !states[1].Failing.IsZero() {
			t.Fatalf("%+v", states)
		}
		if text := w.r.text(correlate.CondSubscription); !strings.Contains(text, "dead") || w.r.count(correlate.CondSubscription) != 1 {
			t.Fatal(text)
		}
		if d := w.Deliveries(""); len(d) != 1 || d[0].Endpoint != s.Endpoints[0] || d[0].Superseded == 0 {
			t.Fatalf("%+v", d)
		}
		if _, err := w.Test(t.Context(), s.ID); err == nil || !strings.Contains(err.Error(), "dead") || strings.Contains(err.Error(), "alive") {
			t.Fatal(err)
		}
		w.set("dead", 200)
		time.Sleep(2 * time.Minute)
		w.want("dead", "a 2.5")
		w.mu.Lock()
		if a, b := w.heard["dead"], w.heard["alive"]; a[0].id != b[len(b)-2].id { // the last of alive is the test
			t.Errorf("%s and %s", a[0].id, b[len(b)-2].id)
		}
		w.mu.Unlock()
		if w.r.last(correlate.CondSubscription) != correlate.StatusOK {
			t.Error("its recovery is not seen")
		}
		w.stop()
	})
}

// TestWhatEachEndpointWasToldOutlivesARestart: what one has taken it is not sent again because another has not.
func TestWhatEachEndpointWasToldOutlivesARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTown(t, nil)
		w.set("b", 500)
		w.subscribe(toAll("a", "b"))
		w.Publish(effects(alarm("x", 1, correlate.Raised)))
		time.Sleep(time.Second)
		w.restart()
		time.Sleep(time.Minute)
		w.want("a", "x 2.1")
		w.set("b", 200)
		time.Sleep(2 * time.Minute)
		w.Publish(effects(alarm("x", 2, correlate.Cleared)))
		time.Sleep(time.Second)
		w.want("a", "x 2.1", "x 2.2")
		w.want("b", "x 2.1", "x 2.2")
		if left := w.Deliveries(""); len(left) > 0 || len(w.alarms) > 0 || len(w.pairs) > 0 {
			t.Fatal(left, w.alarms, w.pairs)
		}
		w.stop()
	})
}

// TestAnEndpointThatAnswers410RestsAndTheOthersGoOn; when all have, the subscription is paused as one with one endpoint.
func TestAnEndpointThatAnswers410RestsAndTheOthersGoOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		peers := newOthers()
		w := newTown(t, peers)
		w.set("gone", 410)
		s := w.subscribe(toAll("gone", "alive"))
		w.Publish(effects(alarm("a", 1, correlate.Raised)))
		time.Sleep(time.Second)
		w.Publish(effects(alarm("a", 2, correlate.Changed)))
		time.Sleep(time.Minute)
		w.want("alive", "a 2.1", "a 2.2")
		now := w.Subscriptions()[0]
		if now.Paused != "" || now.EndpointStates[0].Resting.IsZero() || !now.EndpointStates[1].Resting.IsZero() {
			t.Fatalf("%+v", now)
		}
		if text := w.r.text(correlate.CondSubscription); !strings.Contains(text, "gone") {
			t.Fatal(text)
		}
		asked := func() int { w.mu.Lock(); defer w.mu.Unlock(); return len(w.heard["gone"]) }
		if asked() != 1 {
			t.Fatalf("it was asked %d times", asked())
		}
		time.Sleep(restFor)
		if asked() != 2 || w.r.count(correlate.CondSubscription) != 1 {
			t.Fatalf("it was asked %d times, %d reports", asked(), w.r.count(correlate.CondSubscription))
		}
		w.set("gone", 200)
		w.update(s.ID, SubscriptionPatch{Paused: ptr("")}) // does not wait for the rest to end
		time.Sleep(time.Second)
		w.want("gone", "a 2.2")
		w.set("gone", 410)
		w.set("alive", 410)
		w.Publish(effects(alarm("a", 3, correlate.Cleared)))
		time.Sleep(time.Second)
		if now := w.Subscriptions()[0]; now.Paused == "" || peers.refusal(s.ID).version != s.Version {
			t.Fatalf("%+v", now)
		}
		w.set("gone", 200)
		w.set("alive", 200)
		w.update(s.ID, SubscriptionPatch{Paused: ptr("")})
		time.Sleep(time.Second)
		w.want("gone", "a 2.2", "a 2.3")
		w.want("alive", "a 2.1", "a 2.2", "a 2.3")
		w.stop()
	})
}

// TestAHandOverIsForOneEndpoint, and so is its receipt; a takeover goes on where each endpoint was.
func TestAHandOverIsForOneEndpoint(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTown(t, newOthers())
		w.subscribe(toAll("a", "b", "c"))
		s := w.Held()[0]
		legs := s.legs()
		x := guest("x", 1, correlate.Raised)
		h := HandOver{NotificationID: "id", Subscription: legs[1].id, Version: s.Version, Change: correlate.Change{Alarm: x}, Attempt: 1}
		if _, err := w.Deliver(t.Context(), h); err != nil {
			t.Fatal(err)
		}
		h.Subscription = s.ID
		if _, err := w.Deliver(t.Context(), h); !errors.Is(err, ErrNotFound) {
			t.Fatal(err)
		}
		w.want("a")
		w.want("b", "x 2.1")
		if OwnerOf(legs[1].id) != s.ID || OwnerOf(s.ID) != s.ID {
			t.Fatal(legs)
		}
		w.set("a", 503) // so that it is owed still when it is counted
		w.set("c", 503)
		// The home was owed a and c when it died; of y it had told all, in a snapshot. An endpoint that is not one any more is nobody.
		y := guest("y", 2, correlate.Raised)
		owed := w.Speak(changes(x, y), []Pair{
			{Subscription: legs[0].id, AlarmID: "x", Owed: x.Revision},
			{Subscription: legs[1].id, AlarmID: "x", Told: x.Revision},
			{Subscription: s.ID, AlarmID: "y", Told: y.Revision},
			{Subscription: s.ID + legMark + "00", AlarmID: "y", Owed: y.Revision},
		})
		if owed != 2 {
			t.Fatalf("owed %d", owed)
		}
		w.set("a", 200)
		w.set("c", 200)
		time.Sleep(time.Minute)
		w.want("a", "x 2.1")
		w.want("b", "x 2.1")
		w.want("c", "x 2.1")
		for _, l := range legs {
			if p, ok := w.peer.pair(l.id, "y"); !ok || p.Told != y.Revision {
				t.Errorf("%+v", p)
			}
		}
		w.Told(legs[2].id, "x", guest("x", 5, correlate.Changed).Revision)
		w.Told(s.ID, "x", guest("x", 9, correlate.Changed).Revision) // of a time when it had one leg: says nothing of these
		time.Sleep(time.Second)
		if p, _ := w.peer.pair(legs[2].id, "x"); p.Told.Counter != 5 {
			t.Errorf("%+v", p)
		}
		w.stop()
	})
}

// TestNoEndpointIsForgottenWhateverHappens: endpoints come, go, fail, hang and refuse; the way of delivery changes, the agent restarts.
// When all is well again each endpoint has been told the newest of what stands, and the end of what it was told and stands no more.
func TestNoEndpointIsForgottenWhateverHappens(t *testing.T) {
	for seed := range uint64(16) {
		synctest.Test(t, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 27)) //nolint:gosec // a replayable test
			w := newTown(t, nil)
			names := []string{"a", "b", "c", "d"}
			endpoints := names[:2]
			s := w.subscribe(toAll(endpoints...))
			all := true
			since := map[string]int{} // by endpoint: how much it had heard when it came to be one of those that are all told
			begins := func(names ...string) {
				w.mu.Lock()
				defer w.mu.Unlock()
				for _, n := range names {
					since[n] = len(w.heard[n])
				}
			}
			newest := map[string]*correlate.Alarm{}
			var counter uint64
			for range 40 {
				switch rng.IntN(9) {
				case 0, 1, 2, 3:
					id := fmt.Sprintf("x%d", rng.IntN(3))
					last := correlate.Raised
					if old := newest[id]; old != nil && old.Standing() {
						last = []correlate.Transition{correlate.Changed, correlate.Cleared}[rng.IntN(2)]
					} else if old != nil {
						continue // the next occurrence has another id
					}
					counter++
					newest[id] = alarm(id, counter, last)
					w.Publish(effects(newest[id]))
				case 4, 5:
					w.set(names[rng.IntN(4)], []int{200, 200, 500, 404, 410, 0, -1}[rng.IntN(7)])
				case 6:
					next := slices.Clone(names[rng.IntN(2) : 2+rng.IntN(3)])
					for _, n := range next {
						if !slices.Contains(endpoints, n) {
							begins(n)
						}
					}
					endpoints = next
					urls := toAll(next...).Endpoints
					w.update(s.ID, SubscriptionPatch{Endpoints: &urls})
				case 7:
					to, was := DeliverFirst, all
					if all = rng.IntN(3) > 0; all {
						to = DeliverAll
					}
					if all && !was {
						begins(endpoints...)
					}
					w.update(s.ID, SubscriptionPatch{DeliverTo: &to})
				case 8:
					w.restart()
				}
				time.Sleep(time.Duration(rng.IntN(3000)) * time.Millisecond)
			}
			for _, n := range names {
				w.set(n, 200)
			}
			if !all {
				begins(endpoints...)
			}
			w.update(s.ID, SubscriptionPatch{DeliverTo: ptr(DeliverAll)})
			w.update(s.ID, SubscriptionPatch{Paused: ptr("")})
			for _, d := range w.Deliveries(DeliveryParked) {
				_ = w.Retry(t.Context(), d.ID)
			}
			time.Sleep(20 * time.Minute)
			if left := w.Deliveries(""); len(left) > 0 {
				t.Fatalf("seed %d: %+v", seed, left)
			}
			for _, n := range endpoints {
				w.mu.Lock()
				last := map[string]word{}
				for _, h := range w.heard[n][since[n]:] {
					if was := last[h.alarm]; h.took && was.state == string(correlate.Cleared) && h.state != was.state {
						t.Errorf("seed %d: %s is told of %s after its end", seed, n, h.alarm)
					}
					if h.took {
						last[h.alarm] = h
					}
				}
				w.mu.Unlock()
				for id, a := range newest {
					got, told := last[id]
					switch {
					case a.Standing() && got.revision != a.Revision.String():
						t.Errorf("seed %d: %s has %q of %s, which stands with %s", seed, n, got.revision, id, a.Revision)
					case !a.Standing() && told && got.state != string(correlate.Cleared):
						t.Errorf("seed %d: %s was told of %s, and not of its end", seed, n, id)
					}
				}
			}
			w.stop()
		})
	}
}

// TestALegIsTheSameOnEveryHost and has an id that no subscription has.
func TestALegIsTheSameOnEveryHost(t *testing.T) {
	s := toAll("a", "b")
	s.ID = "4fe1c0de-0000-4000-8000-000000000001"
	legs := s.legs()
	if legs[0].id != s.ID+"#9eb1c6027f14841e" || legs[0].id == legs[1].id || len(legs) != 2 || legs[1].only != s.Endpoints[1] {
		t.Fatal(legs)
	}
	slices.Reverse(s.Endpoints)
	if again := s.legs(); again[1] != legs[0] || again[0] != legs[1] {
		t.Fatal(again)
	}
	s.Endpoints[1] = s.Endpoints[0]
	if err := s.Validate(); err == nil || !strings.Contains(err.Error(), "endpoints[1]: stands twice") {
		t.Fatal(err)
	}
	s.DeliverTo = "some"
	if err := s.Validate(); err == nil || !strings.Contains(err.Error(), "deliver_to") {
		t.Fatal(err)
	}
	if w := fileSub("x", "http://a", "http://b"); len(w.legs()) != 1 || w.legs()[0].id != w.ID {
		t.Fatal(w.legs())
	}
}

// TestEachEndpointIsOwedTheWordOfARebuiltList until it has taken it, over a restart too.
func TestEachEndpointIsOwedTheWordOfARebuiltList(t *testing.T) {
	k := newKin()
	one, two := Rebuilt{ID: "1", Since: epoch, tries: 3}, Rebuilt{ID: "1", Since: epoch}
	if k.owes("a", one); k.owes("b", two) != two {
		t.Fatal("a word is not kept")
	}
	if k.owes("a", Rebuilt{}) != two || k.owes("b", Rebuilt{}) != (Rebuilt{}) {
		t.Fatal("a word is forgotten that one is owed, or kept that none is")
	}
}
