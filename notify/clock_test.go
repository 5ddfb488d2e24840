package notify

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/paramedic-ha/paramedic/correlate"
)

// answerAll is a consumer at the end of a pipe.
func answerAll(conn net.Conn, status func() int) {
	defer conn.Close()
	in := bufio.NewReader(conn)
	for {
		r, err := http.ReadRequest(in)
		if err != nil {
			return
		}
		_, _ = io.Copy(io.Discard, r.Body)
		resp := http.Response{StatusCode: status(), ProtoMajor: 1, ProtoMinor: 1, ContentLength: 0}
		if resp.Write(conn) != nil {
			return
		}
	}
}

// TestALongFailureIsReportedOnceAndHealed runs a whole Notifier on a virtual clock, over pipes.
func TestALongFailureIsReportedOnceAndHealed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var status, asked atomic.Int64
		status.Store(503)
		dial := func(context.Context, string, string) (net.Conn, error) {
			if status.Load() == 0 {
				return nil, errors.New("connection refused")
			}
			here, there := net.Pipe()
			go answerAll(there, func() int { asked.Add(1); return int(status.Load()) })
			return here, nil
		}
		cfg, r := testConfig(t, t.TempDir())
		cfg.Now, cfg.Rand, cfg.MaxAge = time.Now, func() float64 { return 1 }, time.Hour
		cfg.Log = discard
		n, err := newNotifier(cfg, dial)
		if err != nil {
			t.Fatal(err)
		}
		if err := n.SetFile([]Subscription{fileSub("a", "http://consumer/x")}); err != nil {
			t.Fatal(err)
		}
		stop := run(t, n)
		n.Publish(effects(alarm("a1", 1, correlate.Raised)))
		time.Sleep(59 * time.Second)
		if r.last(correlate.CondSubscription) != correlate.StatusUnknown {
			t.Fatal("reported too early")
		}
		time.Sleep(10 * time.Minute)
		if r.last(correlate.CondSubscription) != correlate.StatusFailed || r.count(correlate.CondSubscription) != 1 {
			t.Fatalf("%d reports", r.count(correlate.CondSubscription))
		}
		// 200 ms doubling to 60 s: 9 tries in the first 51 s, then one a minute.
		if got := asked.Load(); got < 17 || got > 20 {
			t.Fatalf("asked %d times in 11 minutes", got)
		}
		status.Store(200)
		time.Sleep(time.Minute)
		if r.last(correlate.CondSubscription) != correlate.StatusOK || len(n.Deliveries("")) != 0 {
			t.Fatal("not healed")
		}
		status.Store(500)
		n.Publish(effects(alarm("a1", 2, correlate.Changed)))
		time.Sleep(2 * time.Hour)
		if len(n.Deliveries(DeliveryParked)) != 1 {
			t.Fatalf("%+v", n.Deliveries(""))
		}
		stop()
	})
}

// TestAConsumerWithARetryAfterIsLeftAlone, newer alarms included.
func TestAConsumerWithARetryAfterIsLeftAlone(t *testing.T) {
	c := newConsumer(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", time.Now().Add(time.Minute).UTC().Format(http.TimeFormat))
		w.WriteHeader(503)
	})
	cfg, _ := testConfig(t, t.TempDir())
	n, _ := start(t, cfg, fileSub("a", c.URL))
	n.Publish(effects(alarm("a1", 1, correlate.Raised)))
	eventually(t, "it is noted", func() bool { d := n.Deliveries(""); return len(d) == 1 && d[0].Attempts == 1 })
	if next := time.Until(n.Deliveries("")[0].NextAttempt); next < 50*time.Second || next > time.Minute {
		t.Fatalf("again in %v", next)
	}
}

// TestAConnectionGetsAQuarterOfASecondBeforeAPeerIsAsked, all endpoints together, and when the peer can't either it is
// retried as ever.
func TestAConnectionGetsAQuarterOfASecondBeforeAPeerIsAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOthers()
		var mu sync.Mutex
		var asked []time.Time
		var dialled []string
		o.deliver = func(context.Context, HandOver) (Answer, error) {
			mu.Lock()
			defer mu.Unlock()
			asked = append(asked, time.Now())
			return Answer{}, errors.New("nor can I")
		}
		cfg, r := testConfig(t, t.TempDir())
		cfg.Log, cfg.Peers, cfg.Rand = discard, o, func() float64 { return 1 }
		n, err := newNotifier(cfg, func(ctx context.Context, _, address string) (net.Conn, error) {
			mu.Lock()
			dialled = append(dialled, address)
			mu.Unlock()
			<-ctx.Done() // a black hole, with the dialer's own end
			return nil, ctx.Err()
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := n.SetFile([]Subscription{fileSub("a", "http://one/", "http://two/")}); err != nil {
			t.Fatal(err)
		}
		w := n.list()[0]
		w.sender.warm.closed = true // the deliveries alone are to dial
		stop := run(t, n)
		begin := time.Now()
		n.Publish(effects(alarm("a1", 1, correlate.Raised)))
		time.Sleep(300 * time.Millisecond)
		mu.Lock()
		if len(asked) != 1 || asked[0].Sub(begin) < connectTimeout || asked[0].Sub(begin) > connectTimeout+2*time.Millisecond {
			t.Errorf("asked at %v, begun at %v", asked, begin)
		}
		if fmt.Sprint(dialled) != "[one:80 two:80]" {
			t.Errorf("dialled %v", dialled)
		}
		mu.Unlock()
		d := n.Deliveries(DeliveryPending)
		if len(d) != 1 || d[0].Attempts != 1 || d[0].By != "cmp-1" || !strings.Contains(d[0].LastError, "no connection") || !strings.Contains(d[0].LastError, "nor can I") {
			t.Errorf("%+v", d)
		}
		time.Sleep(200 * time.Millisecond) // the backoff of 200 ms has begun 50 ms ago; now the peer is first
		mu.Lock()
		if len(asked) != 2 || asked[1].Sub(asked[0]) > 201*time.Millisecond {
			t.Errorf("asked at %v", asked)
		}
		mu.Unlock()
		time.Sleep(2 * time.Minute)
		if r.count(correlate.CondSubscription) != 1 {
			t.Error("that nobody can deliver is not reported")
		}
		stop()
	})
}

// TestAConsumerThatCanBeConnectedToAgainIsToldAtOnce what no peer could deliver either, however long it was away.
func TestAConsumerThatCanBeConnectedToAgainIsToldAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var there atomic.Bool
		cfg, _ := testConfig(t, t.TempDir())
		cfg.Log, cfg.Peers, cfg.Rand = discard, newOthers(), func() float64 { return 1 }
		n, err := newNotifier(cfg, func(context.Context, string, string) (net.Conn, error) {
			if !there.Load() {
				return nil, errors.New("no route to host")
			}
			here, consumer := net.Pipe()
			go answerAll(consumer, func() int { return 200 })
			return here, nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := n.SetFile([]Subscription{fileSub("a", "http://consumer/")}); err != nil {
			t.Fatal(err)
		}
		stop := run(t, n)
		n.Publish(effects(alarm("a1", 1, correlate.Raised)))
		time.Sleep(10*time.Minute + time.Second)
		if s := n.Subscriptions()[0]; s.Unreachable.IsZero() || len(n.Deliveries("")) != 1 {
			t.Errorf("%+v, %+v", s, n.Deliveries(""))
		}
		there.Store(true)
		time.Sleep(warmPause)
		if s := n.Subscriptions()[0]; !s.Unreachable.IsZero() || len(n.Deliveries("")) != 0 {
			t.Errorf("%+v, %+v", s, n.Deliveries(""))
		}
		stop()
	})
}

// TestAnAlertmanagerIsToldEachMinuteWhatStands, with an end that moves along, and no longer than it stands.
func TestAnAlertmanagerIsToldEachMinuteWhatStands(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		type told struct {
			at, ends time.Time
		}
		var mu sync.Mutex
		var all []told
		dial := func(context.Context, string, string) (net.Conn, error) {
			here, there := net.Pipe()
			go func() {
				defer there.Close()
				for in := bufio.NewReader(there); ; {
					r, err := http.ReadRequest(in)
					if err != nil {
						return
					}
					var alerts []struct{ EndsAt time.Time }
					_ = json.NewDecoder(r.Body).Decode(&alerts)
					mu.Lock()
					for _, a := range alerts {
						all = append(all, told{time.Now(), a.EndsAt})
					}
					mu.Unlock()
					_, _ = io.Copy(io.Discard, r.Body)
					if (&http.Response{StatusCode: http.StatusOK, ProtoMajor: 1, ProtoMinor: 1}).Write(there) != nil {
						return
					}
				}
			}()
			return here, nil
		}
		cfg, _ := testConfig(t, t.TempDir())
		cfg.Now, cfg.Rand, cfg.Log = time.Now, func() float64 { return 1 }, discard
		n, err := newNotifier(cfg, dial)
		if err != nil {
			t.Fatal(err)
		}
		s := fileSub("ops", "http://alertmanager/api/v2/alerts")
		s.Format = "alertmanager"
		if err := n.SetFile([]Subscription{s}); err != nil {
			t.Fatal(err)
		}
		stop := run(t, n)
		begun := time.Now()
		n.Publish(effects(alarm("a1", 1, correlate.Raised)))
		time.Sleep(time.Hour + time.Second)
		over := alarm("a1", 2, correlate.Cleared)
		over.Times.Occurred, over.Times.Cleared = begun, time.Now()
		n.Publish(effects(over))
		time.Sleep(time.Hour)
		stop()
		if len(all) != 62 {
			t.Fatalf("told %d times", len(all))
		}
		for i, a := range all[:61] {
			if !a.at.Equal(begun.Add(time.Duration(i)*time.Minute)) || a.ends.Sub(a.at) < 4*time.Minute || a.ends.Sub(a.at) > 5*time.Minute {
				t.Errorf("told after %v, until %v", a.at.Sub(begun), a.ends.Sub(begun))
			}
		}
		if last := all[61]; last.ends.After(last.at) {
			t.Errorf("over after %v, ends after %v", last.at.Sub(begun), last.ends.Sub(begun))
		}
		if got := len(n.Profile()); got != 2 {
			t.Errorf("%d notifications in the profile", got)
		}
	})
}

func TestAMuteEndsByItsTimeAndOutlivesARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		p := newPiped(t, dir, nil)
		if err := p.SetFile([]Subscription{fileSub("vnfm", "http://consumer/x")}); err != nil {
			t.Fatal(err)
		}
		for _, m := range []Mute{mute("short", byHost("cmp-1"), time.Hour), mute("long", Filter{Conditions: []correlate.Condition{correlate.CondCarrier}}, 3*time.Hour)} {
			if _, err := p.SetMute(t.Context(), m); err != nil {
				t.Fatal(err)
			}
		}
		p.Publish(effects(alarm("a", 1, correlate.Raised)))
		time.Sleep(2 * time.Hour)
		if left := p.Mutes(); len(left) != 1 || left[0].ID != "long" || left[0].By != "alice" || left[0].Reason != "a new switch" {
			t.Errorf("after two hours: %+v", left)
		}
		if p.taken() != 0 {
			t.Errorf("%d requests while it was muted", p.taken())
		}
		p.stop()

		p = newPiped(t, dir, nil)
		if err := p.SetFile([]Subscription{fileSub("vnfm", "http://consumer/x")}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(59 * time.Minute)
		if left := p.Mutes(); len(left) != 1 || p.taken() != 0 {
			t.Errorf("after the restart: %+v, %d requests", left, p.taken())
		}
		time.Sleep(2 * time.Minute)
		if left := p.Mutes(); len(left) != 0 || p.taken() != 1 {
			t.Errorf("after its end: %+v, %d requests", left, p.taken())
		}
		if _, err := p.SetMute(t.Context(), mute("again", byHost("*"), time.Hour)); err != nil {
			t.Fatal(err)
		}
		p.Publish(effects(alarm("b", 2, correlate.Raised)))
		time.Sleep(time.Second)
		p.stop()
		time.Sleep(2 * time.Hour)

		p = newPiped(t, dir, nil) // it ended while nobody was there
		if err := p.SetFile([]Subscription{fileSub("vnfm", "http://consumer/x")}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		if p.taken() != 1 {
			t.Errorf("%d requests after a mute ended while the agent was away", p.taken())
		}
		p.stop()
	})
}
