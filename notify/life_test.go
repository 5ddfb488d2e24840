package notify

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/paramedic-ha/paramedic/correlate"
)

// piped is a Notifier on a virtual clock whose consumer sits at the end of pipes and takes everything.
type piped struct {
	*Notifier
	mu   sync.Mutex
	took []time.Time
	stop func()
}

func newPiped(t *testing.T, dir string, change func(*Config)) *piped {
	t.Helper()
	p := &piped{}
	cfg, _ := testConfig(t, dir)
	cfg.Log, cfg.Now, cfg.Rand = discard, time.Now, func() float64 { return 1 }
	if change != nil {
		change(&cfg)
	}
	n, err := newNotifier(cfg, func(context.Context, string, string) (net.Conn, error) {
		here, there := net.Pipe()
		go answerAll(there, func() int {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.took = append(p.took, time.Now())
			return 200
		})
		return here, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	p.Notifier, p.stop = n, run(t, n)
	return p
}

func (p *piped) taken() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.took)
}

func lasting(name string, d time.Duration) Subscription {
	s := fileSub(name, "http://consumer/x")
	s.Origin = OriginAPI
	if d > 0 {
		s.Expires = time.Now().Add(d).Round(0).UTC()
	}
	return s
}

// TestASubscriptionRestsAtItsEndAndARenewalLosesNothing, not even after a restart in between.
func TestASubscriptionRestsAtItsEndAndARenewalLosesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		p := newPiped(t, dir, nil)
		s, _, err := p.Subscribe(t.Context(), lasting("a", time.Hour), false)
		if err != nil || s.Expires.IsZero() {
			t.Fatal(s, err)
		}
		p.Publish(effects(alarm("a1", 1, correlate.Raised)))
		time.Sleep(59 * time.Minute)
		if p.taken() != 1 {
			t.Fatalf("%d", p.taken())
		}
		time.Sleep(2 * time.Minute)
		p.Publish(effects(alarm("a1", 2, correlate.Cleared), alarm("a2", 3, correlate.Raised)))
		time.Sleep(4 * time.Minute)
		p.stop()
		p = newPiped(t, dir, nil)
		time.Sleep(time.Minute)
		if p.taken() != 0 || len(p.Subscriptions()) != 1 {
			t.Fatalf("%d", p.taken())
		}
		until := time.Now().Add(time.Hour).Round(0).UTC()
		renewed, err := p.Update(t.Context(), s.ID, SubscriptionPatch{Expires: &until})
		if err != nil || !renewed.Expires.Equal(until) || renewed.Version != s.Version {
			t.Fatal(renewed, err)
		}
		time.Sleep(time.Second)
		if p.taken() != 2 {
			t.Fatalf("%d", p.taken())
		}
		past := time.Now().Add(-time.Second)
		if _, err := p.Update(t.Context(), s.ID, SubscriptionPatch{Expires: &past}); !errors.Is(err, ErrInvalid) {
			t.Fatal(err)
		}
		p.stop()
	})
}

// TestWhatIsNotRenewedIsGone with all it was owed, when nobody else has a say in it.
func TestWhatIsNotRenewedIsGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		p := newPiped(t, dir, nil)
		ends, _, err := p.Subscribe(t.Context(), lasting("ends", time.Minute), false)
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := p.Subscribe(t.Context(), lasting("stays", 0), false); err != nil {
			t.Fatal(err)
		}
		never := time.Time{}
		kept, _, err := p.Subscribe(t.Context(), lasting("kept", time.Minute), false)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := p.Update(t.Context(), kept.ID, SubscriptionPatch{Expires: &never}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Minute)
		p.Publish(effects(alarm("a1", 1, correlate.Raised)))
		time.Sleep(RenewFor + orphanWait)
		names := func() (all []string) {
			for _, s := range p.Subscriptions() {
				all = append(all, s.Name)
			}
			return all
		}
		if got := names(); !slices.Equal(got, []string{"kept", "stays"}) || p.taken() != 2 {
			t.Fatal(got, p.taken())
		}
		until := time.Now().Add(time.Hour)
		if _, err := p.Update(t.Context(), ends.ID, SubscriptionPatch{Expires: &until}); !errors.Is(err, ErrNotFound) {
			t.Fatal(err)
		}
		p.stop()
		if p = newPiped(t, dir, nil); !slices.Equal(names(), []string{"kept", "stays"}) {
			t.Fatal(names())
		}
		p.stop()
	})
}

// TestAnEndIsForTheAPIAndForTheTimeToCome.
func TestAnEndIsForTheAPIAndForTheTimeToCome(t *testing.T) {
	s := lasting("a", time.Hour)
	s.Origin = OriginFile
	if err := s.Validate(); err == nil || !strings.Contains(err.Error(), "expires:") {
		t.Error(err)
	}
	cfg, _ := testConfig(t, t.TempDir())
	n, _ := start(t, cfg)
	if _, _, err := n.Subscribe(t.Context(), lasting("a", -time.Second), false); err != nil {
		t.Error(err) // lasting means none by it
	}
	late := lasting("b", time.Hour)
	late.Expires = time.Now().Add(-time.Second)
	if _, _, err := n.Subscribe(t.Context(), late, false); !errors.Is(err, ErrInvalid) {
		t.Error(err)
	}
}

// TestARenewalTakesA410Back, and leaves an operator's pause as it is.
func TestARenewalTakesA410Back(t *testing.T) {
	var status atomic.Int64
	status.Store(410)
	c := newConsumer(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(int(status.Load())) })
	cfg, _ := testConfig(t, t.TempDir())
	o := newOthers()
	cfg.Peers = o
	n, _ := start(t, cfg)
	s := lasting("a", time.Hour)
	s.Endpoints = []string{c.URL}
	s, _, err := n.Subscribe(t.Context(), s, false)
	if err != nil {
		t.Fatal(err)
	}
	n.Publish(effects(alarm("a1", 1, correlate.Raised)))
	eventually(t, "it is paused", func() bool { return n.Subscriptions()[0].Paused != "" })
	status.Store(200)
	until := time.Now().Add(2 * time.Hour).Round(0).UTC()
	if s, err = n.Update(t.Context(), s.ID, SubscriptionPatch{Expires: &until}); err != nil || s.Paused != "" {
		t.Fatal(s, err)
	}
	settledAll(t, n)
	eventually(t, "the peers know", func() bool { return o.refusal(s.ID) == refusal{s.Version, ""} })
	o.mu.Lock()
	last := o.published[len(o.published)-1]
	o.mu.Unlock()
	if last.Paused != "" || !last.Expires.Equal(until) {
		t.Fatal(last)
	}
	why := "by an operator"
	if _, err := n.Update(t.Context(), s.ID, SubscriptionPatch{Paused: &why}); err != nil {
		t.Fatal(err)
	}
	if s, err = n.Update(t.Context(), s.ID, SubscriptionPatch{Expires: &until}); err != nil || s.Paused != why {
		t.Fatal(s, err)
	}
}

// TestBothSecretsSignUntilTheOverlapEnds, over a restart too, with a key to seal with and without.
func TestBothSecretsSignUntilTheOverlapEnds(t *testing.T) {
	for name, by := range map[string]Sealer{"bare": nil, "sealed": newSealer(t, 1)} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				dir := t.TempDir()
				sealed := func(cfg *Config) { cfg.Sealer = by }
				p := newPiped(t, dir, sealed)
				s := lasting("a", 0)
				old, next := NewSecret(bytes.Repeat([]byte{1}, 32)), NewSecret(bytes.Repeat([]byte{2}, 32))
				s.Secret = old
				s, _, err := p.Subscribe(t.Context(), s, false)
				if err != nil || len(s.SecretKeys) != 1 || !s.SecretKeys[0].Until.IsZero() {
					t.Fatal(s.SecretKeys, err)
				}
				was := s.SecretKeys[0].Fingerprint
				end := time.Now().Add(24 * time.Hour)
				s, err = p.Update(t.Context(), s.ID, SubscriptionPatch{Secret: &next, SecretOverlap: 24 * time.Hour})
				if err != nil || len(s.SecretKeys) != 2 || s.SecretKeys[1].Fingerprint != was || !s.SecretKeys[1].Until.Equal(end) || s.SecretKeys[0].Fingerprint == was {
					t.Fatal(s.SecretKeys, err)
				}
				p.stop()
				p = newPiped(t, dir, sealed)
				held := p.Held()[0].Secret
				signed := func(by Secret) bool {
					now := time.Now()
					return Verify(signedHeader("id", now, []byte("body"), held), []byte("body"), by, time.Minute, now) == nil
				}
				if !signed(old) || !signed(next) {
					t.Fatal("one of the two does not sign")
				}
				time.Sleep(24*time.Hour - time.Second)
				if !signed(old) {
					t.Fatal("ended too early")
				}
				time.Sleep(time.Second)
				if signed(old) || !signed(next) || len(p.Subscriptions()[0].SecretKeys) != 1 {
					t.Fatal("the old one still signs")
				}
				p.stop()
			})
		})
	}
}

// TestASecretIsReplacedAtOnceWithoutAnOverlap, and too many at a time are refused.
func TestASecretIsReplacedAtOnceWithoutAnOverlap(t *testing.T) {
	cfg, _ := testConfig(t, t.TempDir())
	n, _ := start(t, cfg)
	s := lasting("a", 0)
	s.Secret = NewSecret(bytes.Repeat([]byte{1}, 32))
	s, _, err := n.Subscribe(t.Context(), s, false)
	if err != nil {
		t.Fatal(err)
	}
	next := func(i byte, overlap time.Duration) (Subscription, error) {
		key := NewSecret(bytes.Repeat([]byte{i}, 32))
		return n.Update(t.Context(), s.ID, SubscriptionPatch{Secret: &key, SecretOverlap: overlap})
	}
	if s, err := next(2, 0); err != nil || len(s.SecretKeys) != 1 {
		t.Fatal(s.SecretKeys, err)
	}
	for i := byte(3); i < 6; i++ {
		if s, err := next(i, time.Hour); err != nil || len(s.SecretKeys) != int(i)-1 {
			t.Fatal(s.SecretKeys, err)
		}
	}
	if s, err := next(5, time.Hour); err != nil || len(s.SecretKeys) != 4 { // said again
		t.Fatal(s.SecretKeys, err)
	}
	if _, err := next(6, time.Hour); !errors.Is(err, ErrInvalid) || strings.Contains(err.Error(), "[secret]") {
		t.Fatal(err)
	}
	if s, err := next(6, 0); err != nil || len(s.SecretKeys) != 1 {
		t.Fatal(s.SecretKeys, err)
	}
}

// TestAfterAnyRotationsTheNewestSignsAndNoOldOneSignsLonger than any overlap has allowed it.
func TestAfterAnyRotationsTheNewestSignsAndNoOldOneSignsLonger(t *testing.T) {
	by := newSealer(t, 3)
	rapid.Check(t, func(t *rapid.T) {
		now := epoch
		allowed := map[byte]time.Time{}
		newest := byte(1)
		held := NewSecret(bytes.Repeat([]byte{1}, 32))
		for range rapid.IntRange(1, 12).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.IntRange(0, 90).Draw(t, "minutes")) * time.Minute)
			key := byte(rapid.IntRange(1, 6).Draw(t, "key"))
			until := now.Add(time.Duration(rapid.IntRange(0, 120).Draw(t, "overlap")) * time.Minute)
			next, err := NewSecret(bytes.Repeat([]byte{key}, 32)).after(held, now, until)
			if err != nil {
				if len(held.signing(now)) < maxKeys {
					t.Fatal(err)
				}
				continue
			}
			if key != newest {
				for k, end := range allowed {
					if end.After(until) {
						allowed[k] = until
					}
				}
				allowed[newest] = until
			}
			delete(allowed, key)
			held, newest = next, key
			again, err := OpenSecret(held.Seal(by, []byte("id")), by, []byte("id"))
			if err != nil || !again.equal(held) {
				t.Fatal(err)
			}
			held = again
			for at := now; at.Before(now.Add(3 * time.Hour)); at = at.Add(7 * time.Minute) {
				keys := held.signing(at)
				if len(keys) == 0 || keys[0][0] != newest {
					t.Fatalf("at %v the newest does not sign first", at)
				}
				for _, k := range keys[1:] {
					if end, ok := allowed[k[0]]; !ok || !at.Before(end) {
						t.Fatalf("at %v key %d signs, which was allowed until %v", at, k[0], end)
					}
				}
			}
		}
	})
}

// TestTheHostsThatOweShareTheRate: alone this host has all of it, and the first request waits for nothing.
func TestTheHostsThatOweShareTheRate(t *testing.T) {
	for sharers, want := range map[int]time.Duration{0: time.Second, 3: 4 * time.Second} {
		t.Run(fmt.Sprint(sharers), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := newOthers()
				p := newPiped(t, t.TempDir(), func(cfg *Config) { cfg.Peers = o })
				s := lasting("a", 0)
				s.MaxRate = 60
				s, _, err := p.Subscribe(t.Context(), s, false)
				if err != nil {
					t.Fatal(err)
				}
				o.mu.Lock()
				o.owing = map[string]int{s.ID: sharers}
				o.mu.Unlock()
				time.Sleep(time.Minute)
				begin := time.Now()
				var all []*correlate.Alarm
				for i := range 5 {
					all = append(all, alarm(fmt.Sprintf("a%d", i), uint64(i+1), correlate.Raised))
				}
				p.Publish(effects(all...))
				time.Sleep(time.Minute)
				p.mu.Lock()
				took := slices.Clone(p.took)
				p.mu.Unlock()
				if len(took) != 5 || took[0].Sub(begin) > 10*time.Millisecond {
					t.Fatal(took)
				}
				for i := range took[1:] {
					if d := took[i+1].Sub(took[i]); d < want || d > want+10*time.Millisecond {
						t.Fatalf("%v between two", d)
					}
				}
				p.stop()
			})
		})
	}
}

// TestTheLowerOfTwoRatesCounts: what was asked for, and what the callback allowed.
func TestTheLowerOfTwoRatesCounts(t *testing.T) {
	w := &worker{n: &Notifier{}}
	for _, test := range []struct {
		allowed, asked int
		want           time.Duration
	}{{0, 0, 0}, {60, 0, time.Second}, {0, 60, time.Second}, {60, 120, time.Second}, {120, 60, time.Second}} {
		w.sub.Rate, w.sub.MaxRate = test.allowed, test.asked
		if got := w.spacing(epoch); got != test.want {
			t.Errorf("%+v: %v", test, got)
		}
	}
	for _, rate := range []int{-1, maxRate + 1} {
		s := fileSub("a", "http://x")
		if s.MaxRate = rate; s.Validate() == nil {
			t.Errorf("a rate of %d is taken", rate)
		}
	}
}

// TestAConsumerLearnsHowManyRevisionsItMissed.
func TestAConsumerLearnsHowManyRevisionsItMissed(t *testing.T) {
	var status atomic.Int64
	status.Store(503)
	c := newConsumer(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(int(status.Load())) })
	cfg, _ := testConfig(t, t.TempDir())
	n, _ := start(t, cfg, fileSub("a", c.URL))
	n.Publish(effects(alarm("a1", 1, correlate.Raised)))
	eventually(t, "one failed", func() bool { d := n.Deliveries(""); return len(d) == 1 && d[0].Attempts > 0 })
	for i := uint64(2); i < 5; i++ {
		n.Publish(effects(alarm("a1", i, correlate.Changed)))
		eventually(t, "it is owed", func() bool { d := n.Deliveries(""); return len(d) == 1 && d[0].Revision == rev(i) })
	}
	missed := n.Deliveries("")[0].Superseded
	status.Store(200)
	settledAll(t, n)
	all := c.messages()
	if want := fmt.Sprintf(`"superseded":%d`, missed); missed == 0 || !bytes.Contains(all[len(all)-1].body, []byte(want)) || bytes.Contains(all[0].body, []byte("superseded")) {
		t.Fatalf("%d: %s", missed, all[len(all)-1].body)
	}
}

// TestANewWordChangesTheVersionOfAFileThatSaysIt, and of no other: or all ids would change with an upgrade, and hosts of two
// versions would contradict each other.
func TestANewWordChangesTheVersionOfAFileThatSaysIt(t *testing.T) {
	plain := fileSub("a", "http://x", "http://y")
	if plain.DeliverTo = DeliverFirst; FileVersion(plain) != FileVersion(fileSub("a", "http://x", "http://y")) {
		t.Error("the default counts for something")
	}
	seen := map[uint64]string{FileVersion(plain): "plain"}
	for what, change := range map[string]func(*Subscription){
		"rate":       func(s *Subscription) { s.MaxRate = 60 },
		"deliver_to": func(s *Subscription) { s.DeliverTo = DeliverAll },
	} {
		s := plain
		change(&s)
		if other, ok := seen[FileVersion(s)]; ok || sameContents(s, plain) {
			t.Errorf("%s is the same as %s", what, other)
		}
		seen[FileVersion(s)] = what
	}
}
