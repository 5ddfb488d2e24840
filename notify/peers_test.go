package notify

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/paramedic-ha/paramedic/correlate"
	"github.com/paramedic-ha/paramedic/notify/delivery"
)

// others is what stands for the cluster: it notes what it is told, and hands over to real Notifiers.
type others struct {
	mu        sync.Mutex
	standing  []*correlate.Alarm
	published []Subscription
	told      []map[string]correlate.Revision
	withdrawn []string
	pairs     map[pairID]Pair
	forgot    map[string]bool
	refused   map[string]refusal
	asked     []HandOver
	muted     []Mute
	unmuted   []string
	meanwhile func() // nil, or what happens while a mute is made known, or its end
	owing     map[string]int
	pulse     Pulse
	fail      error                                           // of Publish and Withdraw
	deliver   func(context.Context, HandOver) (Answer, error) // nil: nobody is there
}

func newOthers() *others {
	return &others{pairs: map[pairID]Pair{}, forgot: map[string]bool{}, refused: map[string]refusal{}}
}

func (o *others) Standing() []*correlate.Alarm { return o.standing }

func (o *others) Publish(_ context.Context, s Subscription, told map[string]correlate.Revision) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.fail == nil {
		o.published, o.told = append(o.published, s), append(o.told, told)
	}
	return o.fail
}

func (o *others) Withdraw(_ context.Context, id string) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.fail == nil {
		o.withdrawn = append(o.withdrawn, id)
	}
	return o.fail
}

func (o *others) PublishMute(_ context.Context, m Mute) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.fail == nil {
		o.muted = append(o.muted, m)
	}
	if o.meanwhile != nil {
		o.meanwhile()
	}
	return o.fail
}

func (o *others) WithdrawMute(_ context.Context, id string) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.fail == nil {
		o.unmuted = append(o.unmuted, id)
	}
	if o.meanwhile != nil {
		o.meanwhile()
	}
	return o.fail
}

func (o *others) Pairs(changed []Pair) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, p := range changed {
		if o.pairs[pairID{p.Subscription, p.AlarmID}] = p; p.Removed {
			delete(o.pairs, pairID{p.Subscription, p.AlarmID})
		}
	}
}

func (o *others) Forgot(alarmIDs []string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, id := range alarmIDs {
		o.forgot[id] = true
	}
}

func (o *others) Refused(subscription string, version uint64, reason string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.refused[subscription] = refusal{version, reason}
}

func (o *others) Owing(subscription string) int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.owing[subscription]
}

func (o *others) Pulse(string) Pulse {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.pulse
}

func (o *others) HandOver(ctx context.Context, h HandOver) (Answer, error) {
	o.mu.Lock()
	o.asked = append(o.asked, h)
	deliver := o.deliver
	o.mu.Unlock()
	if deliver == nil {
		return Answer{}, errors.New("nobody is there")
	}
	return deliver(ctx, h)
}

func (o *others) handedOver() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.asked)
}

func (o *others) pair(subscription, alarm string) (Pair, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	p, ok := o.pairs[pairID{subscription, alarm}]
	return p, ok
}

func (o *others) refusal(subscription string) refusal {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.refused[subscription]
}

// counted sums a counter of a Notifier's registry.
func counted(t testing.TB, n *Notifier, name string) (sum float64) {
	t.Helper()
	families, err := n.cfg.Metrics.(*prometheus.Registry).Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			for _, m := range f.GetMetric() {
				sum += m.GetCounter().GetValue()
			}
		}
	}
	return sum
}

// gate is a dialer that lets nothing through while it is shut.
type gate struct{ shut atomic.Bool }

func (g *gate) dial(ctx context.Context, network, address string) (net.Conn, error) {
	if g.shut.Load() {
		return nil, errors.New("no route to host")
	}
	return newDialer(anywhere, nil)(ctx, network, address)
}

// cutOff is a host whose way to consumers can be cut, and a peer whose way is open.
func cutOff(t testing.TB, subs ...Subscription) (home, peer *Notifier, o *others, g *gate, r *reports) {
	t.Helper()
	cfg, _ := testConfig(t, t.TempDir())
	cfg.Node = "cmp-2"
	peer, _ = start(t, cfg, subs...)
	o, g = newOthers(), &gate{}
	o.deliver = peer.Deliver
	g.shut.Store(true)
	cfg, r = testConfig(t, t.TempDir())
	cfg.Peers, cfg.Metrics = o, prometheus.NewRegistry()
	home, err := newNotifier(cfg, g.dial)
	if err != nil {
		t.Fatal(err)
	}
	if err := home.SetFile(subs); err != nil {
		t.Fatal(err)
	}
	run(t, home)
	return home, peer, o, g, r
}

func TestAPeerDeliversWhatThisHostCannotAndTheHomeTakesItBack(t *testing.T) {
	c := newConsumer(t, nil)
	text := GenerateSecret()
	s := fileSub("a", c.URL)
	s.Secret, _ = ParseSecret(text)
	home, _, o, g, r := cutOff(t, s)
	id := FileID("prod", "a")

	home.Publish(effects(alarm("a1", 1, correlate.Raised)))
	m := c.waitFor(t, 1)[0]
	if m.event.Data.Reporter != "cmp-2" || m.event.Data.Host != "cmp-1" || m.event.Source != "/paramedic/prod/cmp-1" {
		t.Errorf("%s", m.body)
	}
	if want := NotificationID("a1", correlate.Revision{Term: 2, Counter: 1}, id, FileVersion(s)); m.event.ID != want || m.header.Get(HeaderID) != want {
		t.Errorf("id %s, want the home's: %s", m.event.ID, want)
	}
	if err := Verify(m.header, m.body, s.Secret, time.Minute, time.Now()); err != nil {
		t.Error(err)
	}
	eventually(t, "it is settled", func() bool { return len(home.Deliveries("")) == 0 && len(home.Profile()) == 1 })
	if st := home.Profile()[0]; st.By != "cmp-2" || st.Answered.IsZero() {
		t.Errorf("%+v", st)
	}
	if s := home.Subscriptions()[0]; s.Unreachable.IsZero() {
		t.Error("that it can't be reached from here doesn't show")
	}
	eventually(t, "the peers know", func() bool { p, ok := o.pair(id, "a1"); return ok && p.Told.Counter == 1 && p.Owed.Counter == 0 })
	if got := counted(t, home, "paramedic_notify_handovers_total"); got != 1 {
		t.Errorf("%v hand-overs counted", got)
	}
	if r.count(correlate.CondSubscription) != 0 {
		t.Error("an alarm although a peer delivers")
	}

	g.shut.Store(false)
	home.Publish(effects(alarm("a1", 2, correlate.Changed))) // nothing has tried the way yet
	if m := c.waitFor(t, 2)[1]; m.event.Data.Reporter != "cmp-2" {
		t.Errorf("the peer was not asked first: %s", m.body)
	}
	if err := home.list()[0].sender.warm.ensure(t.Context(), c.URL); err != nil {
		t.Fatal(err)
	}
	if s := home.Subscriptions()[0]; !s.Unreachable.IsZero() {
		t.Error("still away")
	}
	home.Publish(effects(alarm("a1", 3, correlate.Cleared)))
	if m := c.waitFor(t, 3)[2]; m.event.Data.Reporter != "cmp-1" || o.handedOver() != 2 {
		t.Errorf("%s", m.body)
	}
	eventually(t, "the pair ended", func() bool {
		_, ok := o.pair(id, "a1")
		o.mu.Lock()
		defer o.mu.Unlock()
		return !ok && o.forgot["a1"]
	})
}

// TestAPeerIsNeverAskedAfterBytesMayHaveBeenSent: the consumer may have taken them.
func TestAPeerIsNeverAskedAfterBytesMayHaveBeenSent(t *testing.T) {
	for name, handle := range map[string]http.HandlerFunc{
		"reset": func(w http.ResponseWriter, _ *http.Request) {
			c, _, _ := http.NewResponseController(w).Hijack()
			_ = c.(*net.TCPConn).SetLinger(0)
			_ = c.Close()
		},
		"500": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) },
	} {
		t.Run(name, func(t *testing.T) {
			c := newConsumer(t, handle)
			o := newOthers()
			cfg, _ := testConfig(t, t.TempDir())
			cfg.Peers = o
			n, _ := start(t, cfg, fileSub("a", c.URL))
			n.Publish(effects(alarm("a1", 1, correlate.Raised)))
			eventually(t, "it is tried again", func() bool { d := n.Deliveries(""); return len(d) == 1 && d[0].Attempts >= 2 })
			if o.handedOver() != 0 {
				t.Errorf("%d hand-overs", o.handedOver())
			}
		})
	}
}

func TestAnAddressThatThisHostMayNotCallIsHandedOver(t *testing.T) {
	c := newConsumer(t, nil)
	_, peer, _, _, _ := cutOff(t, fileSub("a", c.URL))
	o := newOthers()
	o.deliver = peer.Deliver
	cfg, _ := testConfig(t, t.TempDir())
	cfg.Peers, cfg.AllowCallbacks = o, []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	n, _ := start(t, cfg, fileSub("a", c.URL))
	n.Publish(effects(alarm("a1", 1, correlate.Raised)))
	if m := c.waitFor(t, 1)[0]; m.event.Data.Reporter != "cmp-2" {
		t.Fatalf("%s", m.body)
	}
}

// TestWhatTheConsumerAnsweredThePeerCountsAtHome, for the subscription's pause too, which is the home's alone.
func TestWhatTheConsumerAnsweredThePeerCountsAtHome(t *testing.T) {
	for status, check := range map[int]func(Subscription, DeliveryView) bool{
		400: func(_ Subscription, d DeliveryView) bool { return d.State == DeliveryParked },
		503: func(_ Subscription, d DeliveryView) bool { return time.Until(d.NextAttempt) > 30*time.Second },
		410: func(s Subscription, _ DeliveryView) bool { return s.Paused != "" },
	} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			c := newConsumer(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Retry-After", "60")
				w.WriteHeader(status)
			})
			home, peer, o, _, _ := cutOff(t, fileSub("a", c.URL))
			home.Publish(effects(alarm("a1", 1, correlate.Raised)))
			eventually(t, "it is judged", func() bool { d := home.Deliveries(""); return len(d) == 1 && d[0].Attempts == 1 })
			d, s := home.Deliveries("")[0], home.Subscriptions()[0]
			if !check(s, d) || d.By != "cmp-2" || !strings.Contains(d.LastError, fmt.Sprint(status)) {
				t.Errorf("%+v %+v", s, d)
			}
			if peer.Subscriptions()[0].Paused != "" {
				t.Error("the peer paused its own")
			}
			if status == 410 {
				eventually(t, "the peers know", func() bool { f := o.refusal(s.ID); return f.version == s.Version && f.reason != "" })
			}
		})
	}
}

func TestAPeerRefusesWhatItCannotDeliver(t *testing.T) {
	release := make(chan struct{})
	slow := newConsumer(t, func(http.ResponseWriter, *http.Request) { <-release })
	defer close(release)
	dead, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = dead.Close()
	cfg, _ := testConfig(t, t.TempDir())
	well, paused, gone := fileSub("well", slow.URL), fileSub("paused", slow.URL), fileSub("gone", "http://"+dead.Addr().String())
	n, _ := start(t, cfg, well, paused, gone)
	if _, err := n.Update(t.Context(), FileID("prod", "paused"), SubscriptionPatch{Paused: ptr("enough")}); err != nil {
		t.Fatal(err)
	}
	request := func(s Subscription) HandOver {
		return HandOver{
			NotificationID: "n", Subscription: FileID("prod", s.Name), Version: FileVersion(s),
			Change: correlate.Change{Alarm: alarm("a1", 1, correlate.Raised)}, Attempt: 1,
		}
	}
	other, empty := request(well), request(well)
	other.Version++
	empty.Change.Alarm = nil
	for name, test := range map[string]struct {
		h    HandOver
		want error
	}{
		"unknown": {request(fileSub("x", slow.URL)), ErrNotFound}, "version": {other, ErrNotFound}, "paused": {request(paused), ErrPaused},
		"dead": {request(gone), ErrUnreachable}, "empty": {empty, ErrInvalid},
	} {
		if _, err := n.Deliver(t.Context(), test.h); !errors.Is(err, test.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	var guests sync.WaitGroup
	for range maxGuests {
		guests.Go(func() {
			if a, err := n.Deliver(ctx, request(well)); err != nil || a.Outcome.Verdict != delivery.Retry { // cut off by ctx, after it was sent
				t.Errorf("%+v %v", a, err)
			}
		})
	}
	slow.waitFor(t, maxGuests)
	if _, err := n.Deliver(t.Context(), request(well)); !errors.Is(err, ErrBusy) {
		t.Error(err)
	}
	cancel()
	guests.Wait()
	if _, pairs := n.Kept(); len(pairs) != 0 {
		t.Errorf("a peer keeps %v", pairs)
	}
}
