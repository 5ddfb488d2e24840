package notify

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/paramedic-ha/paramedic/correlate"
	"github.com/paramedic-ha/paramedic/notify/delivery"
	"github.com/paramedic-ha/paramedic/notify/format"
)

func TestAnIPv6AddressIsReachedAndKeptWarm(t *testing.T) {
	l, err := net.Listen("tcp", "[::1]:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	_ = srv.Listener.Close()
	srv.Listener = l
	srv.Start()
	defer srv.Close()
	s := newSender("test", direct(nil), time.Now)
	defer s.close()
	if err := s.warm.ensure(t.Context(), srv.URL); err != nil {
		t.Fatal(err)
	}
	if a := s.post(t.Context(), []string{srv.URL}, request{id: "id"}); a.outcome.Verdict != delivery.Settled {
		t.Fatal(a.outcome.Err)
	}
	s.warm.mu.Lock()
	defer s.warm.mu.Unlock()
	if len(s.warm.warm) != 0 {
		t.Fatal("the warm connection was not used")
	}
}

// TestHTTP2IsNotSpoken although the server offers it: one connection that stalls would stall all that shares it.
func TestHTTP2IsNotSpoken(t *testing.T) {
	proto := make(chan int, 1)
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { proto <- r.ProtoMajor }))
	srv.EnableHTTP2 = true
	srv.StartTLS()
	defer srv.Close()
	s := newSender("test", direct(srv), time.Now)
	defer s.close()
	s.warm.way.Load().tls.NextProtos = nil
	if a := s.post(t.Context(), []string{srv.URL}, request{id: "id"}); a.outcome.Verdict != delivery.Settled {
		t.Fatal(a.outcome.Err)
	}
	if p := <-proto; p != 1 {
		t.Fatalf("HTTP/%d", p)
	}
}

func TestAPausedConsumerIsNotKeptWarm(t *testing.T) {
	cfg, _ := testConfig(t, t.TempDir())
	n, stop := start(t, cfg, fileSub("a", "http://127.0.0.1:1"))
	w := n.list()[0]
	if len(w.endpoints()) != 1 {
		t.Error("not kept warm")
	}
	if _, err := n.Update(t.Context(), w.leg.id, SubscriptionPatch{Paused: ptr("enough")}); err != nil {
		t.Fatal(err)
	}
	if len(w.endpoints()) != 0 {
		t.Error("kept warm although it wants nothing")
	}
	stop()
}

func TestAPISubscriptionsOfOneNameAreTwoThings(t *testing.T) {
	a, b := fileSub("x", "http://a"), fileSub("x", "http://b")
	a.Origin, b.Origin, a.ID, b.ID = OriginAPI, OriginAPI, "1", "2"
	if a.resource() == b.resource() {
		t.Fatal("the recovery of one would clear the alarm of the other")
	}
	own := alarm("own", 1, correlate.Raised)
	own.Key.Resource, own.Key.Condition = a.resource(), correlate.CondSubscription
	if a.Wants(own, nil, false, false) || !b.Wants(own, nil, false, false) {
		t.Fatal("the other one is to be told")
	}
}

// TestNewEndpointsBringTheirOwnRate: what the old ones allowed binds the new ones to nothing.
func TestNewEndpointsBringTheirOwnRate(t *testing.T) {
	allow := func(rate int) *consumer {
		return newConsumer(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("WebHook-Allowed-Origin", "*")
			w.Header().Set("WebHook-Allowed-Rate", fmt.Sprint(rate))
		})
	}
	slow, fast := allow(1), allow(600)
	cfg, _ := testConfig(t, t.TempDir())
	n, stop := start(t, cfg)
	s, _, err := n.Subscribe(t.Context(), Subscription{Name: "x", Endpoints: []string{slow.URL}}, true)
	if err != nil || s.Rate != 1 {
		t.Fatal(s.Rate, err)
	}
	s, err = n.Update(t.Context(), s.ID, SubscriptionPatch{Endpoints: &[]string{fast.URL}})
	if err != nil || s.Rate != 600 {
		t.Fatal(s.Rate, err)
	}
	stop()
}

// TestTheTimelineTellsOfTheEventBehindEachRevision: that of a clear too, so that the time of its detection shows.
func TestTheTimelineTellsOfTheEventBehindEachRevision(t *testing.T) {
	c := newConsumer(t, nil)
	cfg, _ := testConfig(t, t.TempDir())
	n, stop := start(t, cfg, fileSub("a", c.URL))
	clearedAt := epoch.Add(time.Minute)
	for i, step := range []struct {
		last               correlate.Transition
		occurred, observed time.Time
		t00, t01           time.Time
	}{
		{correlate.Raised, epoch, epoch.Add(time.Millisecond), epoch, epoch.Add(time.Millisecond)},
		{correlate.Changed, time.Time{}, time.Time{}, epoch.Add(time.Second), epoch.Add(time.Second)}, // by a timer: when it was decided
		{correlate.Cleared, clearedAt, clearedAt.Add(3 * time.Millisecond), clearedAt, clearedAt.Add(3 * time.Millisecond)},
	} {
		a := alarm("a1", uint64(i+1), step.last)
		n.Publish(correlate.Effects{
			Save:    []*correlate.Alarm{a},
			Publish: []correlate.Change{{Alarm: a, Occurred: step.occurred, Observed: step.observed, Found: clearedAt.Add(time.Second)}},
		})
		got := c.waitFor(t, i+1)[i].event.Data.Timeline
		if got["T00"] != format.RFC3339(step.t00) || got["T01"] != format.RFC3339(step.t01) {
			t.Errorf("%s: %v", step.last, got)
		}
		eventually(t, "it is settled", func() bool { return len(n.Profile()) == i+1 })
		if s := n.Profile()[i]; !s.Occurred.Equal(step.t00) || !s.Observed.Equal(step.t01) {
			t.Errorf("%s: %+v", step.last, s)
		}
	}
	stop()
}
