package notify

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/paramedic-ha/paramedic/correlate"
	"github.com/paramedic-ha/paramedic/notify/format"
)

// pulseTaker is a consumer at the end of pipes that tells heartbeats from faults.
type pulseTaker struct {
	mu         sync.Mutex
	beat       int // the status that a heartbeat is answered with
	fault      int // and a fault
	retryAfter string
	beats      []map[string]any // the bodies of the heartbeats
	at         []time.Time      // when they came
	faults     int
}

func (c *pulseTaker) set(beat, fault int, retryAfter string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.beat, c.fault, c.retryAfter = beat, fault, retryAfter
}

func (c *pulseTaker) heard() (beats, faults int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.beats), c.faults
}

// data is what the last heartbeat says.
func (c *pulseTaker) data(t *testing.T) map[string]any {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.beats) == 0 {
		t.Fatal("no heartbeat came")
	}
	data, _ := c.beats[len(c.beats)-1]["data"].(map[string]any)
	return data
}

func (c *pulseTaker) dial(context.Context, string, string) (net.Conn, error) {
	here, there := net.Pipe()
	go func() {
		defer there.Close()
		for in := bufio.NewReader(there); ; {
			r, err := http.ReadRequest(in)
			if err != nil {
				return
			}
			var body map[string]any
			_ = json.NewDecoder(r.Body).Decode(&body)
			_, _ = io.Copy(io.Discard, r.Body)
			if c.take(body).Write(there) != nil {
				return
			}
		}
	}()
	return here, nil
}

func (c *pulseTaker) take(body map[string]any) *http.Response {
	c.mu.Lock()
	defer c.mu.Unlock()
	resp := &http.Response{StatusCode: c.fault, ProtoMajor: 1, ProtoMinor: 1, Header: http.Header{}}
	if body["type"] == format.TypeHeartbeat {
		c.beats, c.at = append(c.beats, body), append(c.at, time.Now())
		resp.StatusCode = c.beat
	} else {
		c.faults++
	}
	if c.retryAfter != "" {
		resp.Header.Set("Retry-After", c.retryAfter)
	}
	return resp
}

// pulsing runs a Notifier on a virtual clock that tells c.
func pulsing(t *testing.T, c *pulseTaker, o *others, subs ...Subscription) (*Notifier, *reports, func()) {
	t.Helper()
	cfg, r := testConfig(t, t.TempDir())
	cfg.Log, cfg.Now, cfg.Rand = discard, time.Now, func() float64 { return 1 }
	if o != nil {
		cfg.Peers = o
	}
	n, err := newNotifier(cfg, c.dial)
	if err != nil {
		t.Fatal(err)
	}
	if err := n.SetFile(subs); err != nil {
		t.Fatal(err)
	}
	return n, r, run(t, n)
}

// What a consumer answers a heartbeat with says as much of it as what it answers a fault with.
func TestAConsumerThatAnswersAHeartbeatWithRetryAfterIsLeftAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &pulseTaker{beat: 503, fault: 200, retryAfter: "100"}
		n, _, stop := pulsing(t, c, nil, beating("a", 10*time.Second))
		time.Sleep(11 * time.Second)
		if beats, _ := c.heard(); beats != 1 {
			t.Fatalf("%d heartbeats in the first interval", beats)
		}
		n.Publish(effects(alarm("a1", 1, correlate.Raised)))
		time.Sleep(85 * time.Second)
		if beats, faults := c.heard(); beats != 1 || faults != 0 {
			t.Errorf("%d heartbeats and %d faults before the time that it named", beats, faults)
		}
		c.set(200, 200, "")
		time.Sleep(15 * time.Second)
		if _, faults := c.heard(); faults != 1 {
			t.Errorf("%d faults after it", faults)
		}
		time.Sleep(time.Minute)
		beats, _ := c.heard()
		c.mu.Lock()
		silent := c.at[1].Sub(c.at[0])
		c.mu.Unlock()
		if silent < 100*time.Second || silent > 110*time.Second || beats < 6 || beats > 8 {
			t.Errorf("the second came after %v, %d in all", silent, beats)
		}
		stop()
	})
}

func TestAConsumerThatAnswersAHeartbeatWithGoneIsPausedAndThePeersKnow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, o := &pulseTaker{beat: 410, fault: 200}, newOthers()
		o.pulse.Mine = true
		n, r, stop := pulsing(t, c, o, beating("a", 10*time.Second))
		time.Sleep(2 * time.Minute)
		s := n.Subscriptions()[0]
		if beats, _ := c.heard(); beats != 1 || !strings.Contains(s.Paused, "410") {
			t.Errorf("%d heartbeats, paused %q", beats, s.Paused)
		}
		if f := o.refusal(s.ID); f.version != s.Version || !strings.Contains(f.reason, "410") {
			t.Errorf("the peers know %+v", f)
		}
		if r.last(correlate.CondSubscription) != correlate.StatusFailed {
			t.Error("subscription-failed is not raised")
		}
		n.Publish(effects(alarm("a1", 1, correlate.Raised)))
		time.Sleep(time.Minute)
		if _, faults := c.heard(); faults != 0 {
			t.Errorf("%d faults to who wants nothing more", faults)
		}
		stop()
	})
}

// Of several endpoints that are all told, the one that wants no more rests, and the others go on.
func TestOfSeveralEndpointsTheOneThatAnswersAHeartbeatWithGoneRests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &pulseTaker{beat: 200, fault: 200}
		gone := &pulseTaker{beat: 410, fault: 200}
		s := beating("a", 10*time.Second)
		s.Endpoints, s.DeliverTo = []string{"http://well/", "http://gone/"}, DeliverAll
		cfg, _ := testConfig(t, t.TempDir())
		cfg.Log, cfg.Now, cfg.Rand = discard, time.Now, func() float64 { return 1 }
		n, err := newNotifier(cfg, func(ctx context.Context, network, address string) (net.Conn, error) {
			if strings.HasPrefix(address, "gone") {
				return gone.dial(ctx, network, address)
			}
			return c.dial(ctx, network, address)
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := n.SetFile([]Subscription{s}); err != nil {
			t.Fatal(err)
		}
		stop := run(t, n)
		time.Sleep(65 * time.Second)
		well, _ := c.heard()
		if once, _ := gone.heard(); well != 6 || once != 1 {
			t.Errorf("%d heartbeats to the one that is well, %d to the one that wants none", well, once)
		}
		if s := n.Subscriptions()[0]; s.Paused != "" {
			t.Errorf("all of it is paused: %s", s.Paused)
		}
		gone.set(410, 410, "")
		c.set(410, 410, "")
		time.Sleep(10 * time.Second)
		if s := n.Subscriptions()[0]; !strings.Contains(s.Paused, "410") {
			t.Error("all of its endpoints want no more, and it is not paused")
		}
		stop()
	})
}

// A heartbeat that fails is not repeated, reported after a minute, and the next that is taken heals.
func TestHeartbeatsThatFailAreReportedAfterAMinuteAndTheNextHeals(t *testing.T) {
	for _, status := range []int{400, 401, 500} {
		synctest.Test(t, func(t *testing.T) {
			c := &pulseTaker{beat: status, fault: 500}
			n, r, stop := pulsing(t, c, nil, beating("a", 10*time.Second))
			time.Sleep(65 * time.Second)
			if beats, _ := c.heard(); beats != 6 || r.count(correlate.CondSubscription) != 0 {
				t.Errorf("%d: %d heartbeats and %d reports in 65 s", status, beats, r.count(correlate.CondSubscription))
			}
			time.Sleep(10 * time.Second)
			if r.last(correlate.CondSubscription) != correlate.StatusFailed {
				t.Errorf("%d: not reported", status)
			}
			n.Publish(effects(alarm("a1", 1, correlate.Raised)))
			time.Sleep(time.Minute)
			c.set(200, 200, "")
			_, before := c.heard()
			time.Sleep(10 * time.Second)
			if _, after := c.heard(); r.last(correlate.CondSubscription) != correlate.StatusOK || after != before+1 || len(n.Deliveries("")) != 0 {
				t.Errorf("%d: the heartbeat that was taken did not heal: %d of %d faults, %+v", status, after, before, n.Deliveries(""))
			}
			stop()
		})
	}
}

// What a heartbeat counts: what stands, here and at others, each once, as far as its consumer is told of it; and what it is owed.
func TestWhatAHeartbeatCounts(t *testing.T) {
	another := func(id, home string, s correlate.Severity, projects ...string) *correlate.Alarm {
		a := alarm(id, 1, correlate.Raised, projects...)
		a.Key.Home, a.Severity = home, s
		return a
	}
	minor := alarm("minor", 2, correlate.Raised, "p1")
	minor.Severity = correlate.SeverityMinor
	under := alarm("under", 3, correlate.Raised, "p1")
	under.Under = "minor"
	for name, test := range map[string]struct {
		sub    func(*Subscription)
		own    []*correlate.Alarm
		others []*correlate.Alarm
		mute   *Filter
		fault  int // how faults are answered
		want   map[string]any
	}{
		"nothing": {
			want: map[string]any{"alarms": 0.0, "pending": 4.0, "parked": 2.0},
		},
		"its own and others', each once": {
			own: []*correlate.Alarm{minor, alarm("both", 4, correlate.Raised), under, alarm("over", 5, correlate.Cleared)},
			others: []*correlate.Alarm{
				another("both", "cmp-1", correlate.SeverityMajor), another("theirs", "cmp-2", correlate.SeverityMajor, "p2"), another("more", "cmp-3", correlate.SeverityWarning),
			},
			want: map[string]any{"alarms": 4.0, "severity": "critical", "pending": 4.0, "parked": 2.0},
		},
		"what others have is the worst": {
			own:    []*correlate.Alarm{minor},
			others: []*correlate.Alarm{another("theirs", "cmp-2", correlate.SeverityMajor)},
			want:   map[string]any{"alarms": 2.0, "severity": "major", "pending": 4.0, "parked": 2.0},
		},
		"muted, here and elsewhere": {
			own:    []*correlate.Alarm{minor, alarm("b", 4, correlate.Raised)},
			others: []*correlate.Alarm{another("theirs", "cmp-2", correlate.SeverityMajor), another("quiet", "cmp-3", correlate.SeverityCritical)},
			mute:   &Filter{Hosts: []string{"cmp-1", "cmp-3"}},
			want:   map[string]any{"alarms": 1.0, "severity": "major", "pending": 4.0, "parked": 2.0},
		},
		"a consumer's own": {
			sub:    func(s *Subscription) { s.Role, s.Filter.Projects = RoleConsumer, []string{"p1"} },
			own:    []*correlate.Alarm{minor, alarm("theirs", 4, correlate.Raised, "p2")},
			others: []*correlate.Alarm{another("far", "cmp-2", correlate.SeverityMajor, "p2", "p1")},
			want:   map[string]any{"alarms": 2.0, "severity": "major", "pending": 4.0, "parked": 2.0, "hosts": nil, "reporter": nil},
		},
		"what this host owes waits": {
			own: []*correlate.Alarm{minor}, fault: 503,
			want: map[string]any{"alarms": 1.0, "severity": "minor", "pending": 5.0, "parked": 2.0},
		},
		"what this host owes is parked": {
			own: []*correlate.Alarm{minor}, fault: 400,
			want: map[string]any{"alarms": 1.0, "severity": "minor", "pending": 4.0, "parked": 3.0},
		},
		"what it owes each endpoint": {
			sub: func(s *Subscription) { s.Endpoints, s.DeliverTo = append(s.Endpoints, "http://other/"), DeliverAll },
			own: []*correlate.Alarm{minor}, fault: 503,
			want: map[string]any{"alarms": 1.0, "severity": "minor", "pending": 6.0, "parked": 2.0},
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				// One that is taken hurries what waits: only the first is looked at.
				c, o := &pulseTaker{beat: 200, fault: 200}, newOthers()
				o.pulse = Pulse{Mine: true, Alive: 3, Lost: []string{"cmp-9", "cmp-8"}, Pending: 4, Parked: 2}
				o.standing = test.others
				if test.fault != 0 {
					c.fault = test.fault
				}
				s := beating("a", time.Hour)
				if test.sub != nil {
					test.sub(&s)
				}
				n, _, stop := pulsing(t, c, o, s)
				sub := n.list()[0].subscription()
				due := sub.slot(time.Now()).Add(time.Hour)
				time.Sleep(time.Until(due) - 3*time.Second)
				if test.mute != nil {
					if _, err := n.SetMute(t.Context(), mute("m", *test.mute, time.Hour)); err != nil {
						t.Fatal(err)
					}
				}
				n.Publish(effects(test.own...))
				time.Sleep(4 * time.Second)
				want := map[string]any{
					"notification": "heartbeat", "subscription": sub.ID, "reporter": "cmp-1", "interval": 3600.0,
					"next": due.Add(time.Hour).Format("2006-01-02T15:04:05.000000000Z"), "hosts": map[string]any{"alive": 3.0, "lost": []any{"cmp-8", "cmp-9"}},
				}
				for k, v := range test.want {
					if want[k] = v; v == nil {
						delete(want, k)
					}
				}
				got := c.data(t)
				delete(got, "text")
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("-want +got:\n%s", diff)
				}
				stop()
			})
		})
	}
}

// A peer that makes the request in a host's place does so for a heartbeat that was asked for, and says what it knows itself.
func TestAPeerSendsAHeartbeatInAHostsPlaceIfItWasAskedFor(t *testing.T) {
	c := newConsumer(t, nil)
	asked, silent, paused := fileSub("asked", c.URL), fileSub("silent", c.URL), fileSub("paused", c.URL)
	tenants := fileSub("tenant", c.URL)
	tenants.Role, tenants.Filter.Projects = RoleConsumer, []string{"p1"}
	asked.Heartbeat, paused.Heartbeat, tenants.Heartbeat = time.Minute, time.Minute, time.Minute
	doctor := fileSub("doctor", c.URL)
	doctor.Format = "aodh"
	cfg, _ := testConfig(t, t.TempDir())
	cfg.Node, cfg.Peers = "cmp-2", newOthers()
	n, _ := start(t, cfg, asked, silent, paused, tenants, doctor)
	if _, err := n.Update(t.Context(), FileID("prod", "paused"), SubscriptionPatch{Paused: ptr("enough")}); err != nil {
		t.Fatal(err)
	}
	slot := time.Date(2026, 11, 29, 4, 0, 0, 0, time.UTC)
	request := func(s Subscription) HandOver {
		s.ID, s.Version = FileID("prod", s.Name), FileVersion(s)
		return HandOver{NotificationID: s.beatID(slot), Subscription: s.ID, Version: s.Version, Beat: slot, Attempt: 1}
	}
	former, nameless := request(asked), request(asked)
	former.Version++
	nameless.NotificationID = ""
	for name, test := range map[string]struct {
		h    HandOver
		want error
	}{
		"nobody asked": {request(silent), ErrInvalid}, "a form without": {request(doctor), ErrInvalid}, "paused": {request(paused), ErrPaused},
		"another version": {former, ErrNotFound}, "no id": {nameless, ErrInvalid},
	} {
		if _, err := n.Deliver(t.Context(), test.h); !errors.Is(err, test.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for i, s := range []Subscription{asked, tenants} {
		h := request(s)
		if a, err := n.Deliver(t.Context(), h); err != nil || a.By != "cmp-2" || a.Answered.IsZero() {
			t.Fatalf("%s: %+v %v", s.Name, a, err)
		}
		m := c.waitFor(t, i+1)[i]
		if m.event.ID != h.NotificationID || m.header.Get(HeaderID) != h.NotificationID || m.event.Type != format.TypeHeartbeat || m.event.Source != "/paramedic/prod" {
			t.Errorf("%s", m.body)
		}
		if tenant := s.Role == RoleConsumer; strings.Contains(string(m.body), "hosts") == tenant || strings.Contains(string(m.body), "cmp-2") == tenant {
			t.Errorf("%s of role %s is told %s", s.Name, s.Role, m.body)
		}
	}
	if got := len(c.messages()); got != 2 {
		t.Errorf("%d messages came", got)
	}
}

// A host whose way to the consumer is cut has a peer send its heartbeat, and what the consumer answers the peer counts here.
func TestAHeartbeatThatThisHostCannotSendIsHandedOver(t *testing.T) {
	c := newConsumer(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusGone) })
	s := beating("a", time.Second)
	s.Endpoints = []string{c.URL}
	cfg, _ := testConfig(t, t.TempDir())
	cfg.Node, cfg.Peers = "cmp-2", newOthers() // which has none to send itself
	peer, _ := start(t, cfg, s)
	o, g := newOthers(), &gate{}
	o.deliver, o.pulse = peer.Deliver, Pulse{Mine: true, Alive: 2}
	g.shut.Store(true)
	cfg, _ = testConfig(t, t.TempDir())
	cfg.Peers = o
	home, err := newNotifier(cfg, g.dial)
	if err != nil {
		t.Fatal(err)
	}
	if err := home.SetFile([]Subscription{s}); err != nil {
		t.Fatal(err)
	}
	run(t, home)
	m := c.waitFor(t, 1)[0]
	if m.event.Type != format.TypeHeartbeat || m.event.Data.Reporter != "cmp-2" {
		t.Errorf("%s", m.body)
	}
	eventually(t, "the answer counts at home", func() bool { return strings.Contains(home.Subscriptions()[0].Paused, "410") })
	o.mu.Lock()
	defer o.mu.Unlock()
	if !slices.ContainsFunc(o.asked, func(h HandOver) bool { return h.beats() && h.NotificationID == m.event.ID }) {
		t.Errorf("it handed over %+v", o.asked)
	}
}

func TestAChangedHeartbeatIsAnotherVersion(t *testing.T) {
	was := beating("a", 30*time.Second)
	for _, every := range []time.Duration{0, time.Second, 31 * time.Second} {
		if now := beating("a", every); FileVersion(was) == FileVersion(now) || digest(was) == digest(now) || sameContents(was, now) {
			t.Errorf("%v and %v are one", was.Heartbeat, every)
		}
	}
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		p := newPiped(t, dir, nil)
		s := beating("a", 0)
		s.Origin = OriginAPI
		s, _, err := p.Subscribe(t.Context(), s, false)
		if err != nil {
			t.Fatal(err)
		}
		quick, slow := time.Second, time.Millisecond
		if _, err := p.Update(t.Context(), s.ID, SubscriptionPatch{Heartbeat: &slow}); !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), "heartbeat") {
			t.Errorf("%v: %v", slow, err)
		}
		if now, err := p.Update(t.Context(), s.ID, SubscriptionPatch{Heartbeat: &quick}); err != nil || now.Version == s.Version || now.Heartbeat != quick {
			t.Errorf("%+v %v; the version was %d", now, err, s.Version)
		}
		p.stop()
		p = newPiped(t, dir, nil) // it is kept over a restart
		time.Sleep(10*time.Second + time.Millisecond)
		if n := p.taken(); n != 10 && n != 9 {
			t.Errorf("%d heartbeats in ten seconds after a restart", n)
		}
		p.stop()
	})
}

// The file owns its subscriptions: its heartbeat is changed there, at a reload, and whoever changes it wants it tried again.
func TestTheHeartbeatOfAFilesSubscriptionIsChangedInTheFile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &pulseTaker{beat: 410, fault: 200}
		n, _, stop := pulsing(t, c, nil, beating("a", 10*time.Second))
		id, quick := FileID("prod", "a"), time.Second
		if _, err := n.Update(t.Context(), id, SubscriptionPatch{Heartbeat: &quick}); !errors.Is(err, ErrFromFile) {
			t.Errorf("%v", err)
		}
		time.Sleep(time.Minute)
		if err := n.SetFile([]Subscription{beating("a", 10*time.Second)}); err != nil {
			t.Fatal(err)
		}
		if beats, _ := c.heard(); beats != 1 || n.Subscriptions()[0].Paused == "" {
			t.Fatalf("%d heartbeats, %+v", beats, n.Subscriptions()[0])
		}
		c.set(200, 200, "")
		if err := n.SetFile([]Subscription{beating("a", 5*time.Second)}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		if beats, _ := c.heard(); n.Subscriptions()[0].Paused != "" || beats < 12 || beats > 13 {
			t.Errorf("%d heartbeats after the reload, %+v", beats, n.Subscriptions()[0])
		}
		stop()
	})
}
