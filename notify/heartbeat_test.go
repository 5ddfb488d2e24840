package notify

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/paramedic-ha/paramedic/correlate"
	"github.com/paramedic-ha/paramedic/notify/format"
)

func beating(name string, every time.Duration) Subscription {
	s := fileSub(name, "http://consumer/x")
	s.Heartbeat = every
	return s
}

func TestAHeartbeatComesAtEachIntervalAndNotWhilePaused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPiped(t, t.TempDir(), nil)
		s := beating("a", 30*time.Second)
		s.Origin = OriginAPI
		s, _, err := p.Subscribe(t.Context(), s, false)
		if err != nil || s.Heartbeat != 30*time.Second {
			t.Fatal(s, err)
		}
		time.Sleep(5 * time.Minute)
		if n := p.taken(); n != 10 {
			t.Errorf("%d heartbeats in five minutes, want 10", n)
		}
		if len(p.Deliveries("")) != 0 || len(p.Profile()) != 0 {
			t.Error("a heartbeat is owed, or in the profile")
		}
		paused, none := "for a while", time.Duration(0)
		if _, err := p.Update(t.Context(), s.ID, SubscriptionPatch{Paused: &paused}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Minute)
		if n := p.taken(); n != 10 {
			t.Errorf("%d while paused", n-10)
		}
		resumed := ""
		if _, err := p.Update(t.Context(), s.ID, SubscriptionPatch{Paused: &resumed}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		if n := p.taken(); n != 12 {
			t.Errorf("%d in the minute after", n-10)
		}
		if _, err := p.Update(t.Context(), s.ID, SubscriptionPatch{Heartbeat: &none}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Minute)
		if n := p.taken(); n != 12 {
			t.Errorf("%d after it was ended", n-12)
		}
		p.stop()
	})
}

func TestOneHostSendsTheHeartbeatAndAnotherTakesTheNext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOthers()
		p := newPiped(t, t.TempDir(), func(c *Config) { c.Peers = o })
		if err := p.SetFile([]Subscription{beating("a", 10*time.Second)}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		if n := p.taken(); n != 0 {
			t.Errorf("%d heartbeats that are another host's", n)
		}
		o.mu.Lock()
		o.pulse = Pulse{Mine: true, Alive: 1, Lost: []string{"cmp-2"}}
		o.mu.Unlock()
		time.Sleep(10 * time.Second)
		if n := p.taken(); n != 1 {
			t.Errorf("%d in the first interval after the other host died", n)
		}
		p.stop()
	})
}

// The sender dies, and its peers know it only after the next heartbeat was due: then it is sent late, once, and under the same id.
func TestAHeartbeatThatItsSenderDidNotLiveToSendIsSentLate(t *testing.T) {
	for _, test := range []struct {
		every, known, late time.Duration // known: how long after the slot its death is known
	}{
		{10 * time.Second, time.Second, 2500 * time.Millisecond},
		{10 * time.Second, 2400 * time.Millisecond, 2500 * time.Millisecond},
		{10 * time.Second, 2600 * time.Millisecond, 10 * time.Second}, // too late for this one
		{time.Second, 400 * time.Millisecond, 500 * time.Millisecond},
		{time.Hour, time.Second, 2500 * time.Millisecond},
	} {
		synctest.Test(t, func(t *testing.T) {
			c, o := &pulseTaker{beat: 200, fault: 200}, newOthers()
			n, _, stop := pulsing(t, c, o, beating("a", test.every))
			sub := n.list()[0].subscription()
			slot := sub.slot(time.Now()).Add(2 * test.every)
			time.Sleep(time.Until(slot.Add(test.known)))
			if beats, _ := c.heard(); beats != 0 {
				t.Fatalf("%d heartbeats that are another host's", beats)
			}
			o.mu.Lock()
			o.pulse.Mine = true
			o.mu.Unlock()
			time.Sleep(time.Until(slot.Add(test.every + time.Millisecond)))
			c.mu.Lock()
			want := 2
			if test.late == test.every {
				want = 1
			}
			if len(c.at) != want || c.at[0].Sub(slot).Round(time.Millisecond) != test.late {
				t.Errorf("every %v, known after %v: %d came, the first after %v", test.every, test.known, len(c.at), c.at[0].Sub(slot))
			}
			if id := sub.beatID(sub.slot(c.at[0])); c.beats[0]["id"] != id {
				t.Errorf("its id is %v, not the %s of its sender", c.beats[0]["id"], id)
			}
			c.mu.Unlock()
			stop()
		})
	}
}

func TestTheFormsThatHaveNoHeartbeatRefuseIt(t *testing.T) {
	for _, form := range []string{"aodh", "sol"} {
		s := beating("a", time.Minute)
		s.Format = form
		if err := s.Validate(); err == nil || !strings.Contains(err.Error(), "heartbeat") {
			t.Errorf("%s: %v", form, err)
		}
	}
	if err := beating("a", time.Millisecond).Validate(); err == nil || !strings.Contains(err.Error(), "1s") {
		t.Error(err)
	}
}

func TestAHeartbeatSaysWhatIsKnownAndIsTheSameFromWhoeverSendsIt(t *testing.T) {
	s := beating("a", time.Hour)
	s.ID, s.Version = "4fe1c0de-0000-4000-8000-000000000001", 3
	at := time.Date(2026, 11, 29, 4, 0, 0, 0, time.UTC)
	one, two := s.slot(at), s.slot(at.Add(59*time.Minute))
	if two.Sub(one) > time.Hour || one.After(at) || s.slot(one) != one || s.beatID(one) != s.beatID(s.slot(one.Add(time.Hour-1))) {
		t.Errorf("slots %v and %v", one, two)
	}
	if s.beatID(one) == s.beatID(one.Add(time.Hour)) {
		t.Error("two intervals have one id")
	}

	var mu sync.Mutex
	var got map[string]any
	c := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		_ = json.NewDecoder(r.Body).Decode(&got)
	}))
	defer c.Close()
	o := newOthers()
	o.pulse = Pulse{Mine: true, Alive: 3, Lost: []string{"cmp-9"}, Pending: 2, Parked: 1}
	cfg, _ := testConfig(t, t.TempDir())
	cfg.Peers = o
	quick := fileSub("quick", c.URL)
	quick.Heartbeat = time.Second
	n, _ := start(t, cfg, quick)
	n.Publish(effects(alarm("a1", 1, correlate.Raised, "p1")))
	eventually(t, "a heartbeat", func() bool {
		mu.Lock()
		defer mu.Unlock()
		data, _ := got["data"].(map[string]any)
		hosts, _ := data["hosts"].(map[string]any)
		return got["type"] == format.TypeHeartbeat && got["source"] == "/paramedic/prod" && data["interval"] == 1.0 && data["alarms"] == 1.0 &&
			data["severity"] == "critical" && data["pending"] == 2.0 && data["parked"] == 1.0 && hosts["alive"] == 3.0
	})
}
