package notify

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/paramedic-ha/paramedic/correlate"
)

func TestEveryProblemOfASubscriptionIsNamedAtOnce(t *testing.T) {
	err := Subscription{
		Name: "a\x1b[31m", Endpoints: []string{"ftp://x", "http://user:pw@h/", "nonsense", "http://h/#f"}, Format: "pigeon", Role: "king",
		Filter: Filter{
			ResourceTypes: []correlate.Kind{"toaster"}, Kinds: []string{"maintenance", "x"}, States: []correlate.State{correlate.StateOK},
			MinConfidence: "sure", MinSeverity: correlate.SeverityCleared, Projects: []string{""},
		},
	}.Validate()
	for _, field := range []string{
		"name:", "endpoints[0]:", "endpoints[1]:", "endpoints[2]:", "endpoints[3]:", "format:", "role:", "filter.resource_types[0]:",
		"filter.kinds[0]:", "filter.kinds[1]:", "filter.states[0]:", "filter.min_confidence:", "filter.min_severity:", "filter.projects:",
	} {
		if err == nil || !strings.Contains(err.Error(), field) {
			t.Errorf("%s is not named in %v", field, err)
		}
	}
	if strings.Contains(err.Error(), "pw") || strings.Contains(err.Error(), "\x1b") {
		t.Errorf("%q", err)
	}
	if err := (Subscription{Name: "a", Endpoints: []string{"http://h"}, Role: RoleConsumer}).Validate(); err == nil || !strings.Contains(err.Error(), "filter.projects") {
		t.Error(err)
	}
	if err := fileSub("a", "http://10.0.0.1:80/x?y=z").Validate(); err != nil {
		t.Error(err)
	}
}

func TestFilters(t *testing.T) {
	a := alarm("a1", 1, correlate.Raised, "p1", "p2")
	a.Affected[1].State = correlate.StateDegraded
	a.AtRisk = []correlate.Affected{{Resource: "domain/r", Name: "risky", Project: "p3", State: correlate.StateAtRisk}}
	probable, indeterminate := *a, *a
	probable.Confidence, indeterminate.Severity = correlate.ConfidenceProbable, correlate.SeverityIndeterminate
	probable.Key.Condition = correlate.CondHostLost
	confirmed := probable
	confirmed.Confidence = correlate.ConfidenceConfirmed
	cleared := alarm("a1", 2, correlate.Cleared, "p1", "p2")
	cleared.Affected[0].State, cleared.Affected[1].State = correlate.StateOK, correlate.StateOK
	for name, test := range map[string]struct {
		f     Filter
		a     *correlate.Alarm
		match bool
		list  int
	}{
		"state, of a clear":  {Filter{Projects: []string{"p1"}, States: []correlate.State{correlate.StateFailed}}, cleared, true, 1},
		"none":               {Filter{}, a, true, 2},
		"project":            {Filter{Projects: []string{"p1"}}, a, true, 1},
		"other project":      {Filter{Projects: []string{"p9"}}, a, false, 0},
		"at risk, unasked":   {Filter{Projects: []string{"p3"}}, a, false, 0},
		"at risk, asked":     {Filter{Projects: []string{"p3"}, States: []correlate.State{correlate.StateAtRisk}}, a, true, 1},
		"domain uuid":        {Filter{Domains: []string{"00000000-0000-4000-8000-000000000001"}}, a, true, 1},
		"domain id":          {Filter{Domains: []string{"domain/00000000-0000-4000-8000-000000000001"}}, a, true, 1},
		"domain name":        {Filter{Domains: []string{"instance-0"}}, a, true, 1},
		"both must fit":      {Filter{Domains: []string{"instance-0"}, Projects: []string{"p2"}}, a, false, 0},
		"state":              {Filter{States: []correlate.State{correlate.StateDegraded}}, a, true, 1},
		"type":               {Filter{ResourceTypes: []correlate.Kind{correlate.KindBond}}, a, true, 2},
		"other type":         {Filter{ResourceTypes: []correlate.Kind{correlate.KindNIC}}, a, false, 2},
		"condition":          {Filter{Conditions: []correlate.Condition{correlate.CondCrash}}, a, false, 2},
		"severity":           {Filter{MinSeverity: correlate.SeverityCritical}, a, true, 2},
		"indeterminate":      {Filter{MinSeverity: correlate.SeverityCritical}, &indeterminate, true, 2},
		"probable":           {Filter{}, &probable, false, 2},
		"probable, asked":    {Filter{MinConfidence: correlate.ConfidenceProbable}, &probable, true, 2},
		"fenced asked":       {Filter{MinConfidence: correlate.ConfidenceFenced}, &confirmed, false, 2},
		"fenced, of a link":  {Filter{MinConfidence: correlate.ConfidenceFenced}, a, true, 2},
		"kind":               {Filter{Kinds: []string{"fault"}}, a, true, 2},
		"project, none left": {Filter{Projects: []string{"p1"}}, alarm("a", 1, correlate.Raised), false, 0},
	} {
		if got := (Subscription{Filter: test.f}).passes(test.a, nil); got != test.match {
			t.Errorf("%s: match %v", name, got)
		}
		if got := len(test.f.Affected(test.a)); got != test.list {
			t.Errorf("%s: %d affected, want %d", name, got, test.list)
		}
	}
}

func TestWhoIsToldWhat(t *testing.T) {
	s := fileSub("a", "http://x")
	raised, under, cleared := alarm("a", 1, correlate.Raised), alarm("a", 2, correlate.Changed), alarm("a", 3, correlate.Cleared)
	under.Under = "root"
	own := alarm("own", 1, correlate.Raised)
	own.Key.Resource, own.Key.Condition = s.resource(), correlate.CondSubscription
	for what, test := range map[string]struct {
		a          *correlate.Alarm
		pair, owed bool
		want       bool
	}{
		"raised":                       {raised, false, false, true},
		"cleared, told":                {cleared, true, false, true},
		"cleared, not told":            {cleared, false, false, false},
		"under another":                {under, false, false, false},
		"told, then under another":     {under, true, false, false},
		"owed, then under another":     {under, true, true, true},
		"its own failure":              {own, false, false, false},
		"its own failure, owed before": {own, true, true, false},
	} {
		if got := s.Wants(test.a, nil, test.pair, test.owed); got != test.want {
			t.Errorf("%s: %v", what, got)
		}
	}
}

func TestATenantIsToldOfItsOwnOnly(t *testing.T) {
	c := newConsumer(t, nil)
	cfg, _ := testConfig(t, t.TempDir())
	s := fileSub("tenant", c.URL)
	s.Role, s.Filter.Projects = RoleConsumer, []string{"p2"}
	n, _ := start(t, cfg, s)
	n.Publish(effects(alarm("other", 1, correlate.Raised, "p1"), alarm("mine", 2, correlate.Raised, "p1", "p2")))
	m := c.waitFor(t, 1)[0]
	for _, hidden := range []string{"cmp-1", "bond", "carrier", "p1", "loss-of-signal", "instance-0"} {
		if strings.Contains(string(m.body), hidden) {
			t.Errorf("%q shows in %s", hidden, m.body)
		}
	}
	if m.event.Source != "/paramedic/prod" || m.event.Subject != "domain/00000000-0000-4000-8000-000000000001" {
		t.Errorf("%s", m.body)
	}
}

func TestNotificationsAreSigned(t *testing.T) {
	c := newConsumer(t, nil)
	cfg, _ := testConfig(t, t.TempDir())
	text := GenerateSecret()
	s := fileSub("a", c.URL)
	s.Secret, _ = ParseSecret(text)
	n, _ := start(t, cfg, s)
	n.Publish(effects(alarm("a1", 1, correlate.Raised)))
	m := c.waitFor(t, 1)[0]
	wh, _ := standardwebhooks.NewWebhook(text)
	if err := wh.Verify(m.body, m.header); err != nil {
		t.Fatal(err)
	}
	if m.header.Get(HeaderID) != m.event.ID || m.event.ID != NotificationID("a1", correlate.Revision{Term: 2, Counter: 1}, FileID("prod", "a"), FileVersion(s)) {
		t.Fatal(m.header)
	}
	if m.header.Get("Content-Type") != "application/cloudevents+json" {
		t.Fatal(m.header)
	}
}

func TestAfter410ASubscriptionIsPausedReportedAndResumed(t *testing.T) {
	var gone atomic.Bool
	gone.Store(true)
	c := newConsumer(t, func(w http.ResponseWriter, _ *http.Request) {
		if gone.Load() {
			w.WriteHeader(410)
		}
	})
	dir := t.TempDir()
	cfg, r := testConfig(t, dir)
	n, stop := start(t, cfg, fileSub("a", c.URL))
	n.Publish(effects(alarm("a1", 1, correlate.Raised)))
	eventually(t, "it is reported", func() bool { return r.last(correlate.CondSubscription) == correlate.StatusFailed })
	stop()
	cfg, r = testConfig(t, dir)
	n, _ = start(t, cfg, fileSub("a", c.URL)) // the pause outlives a restart
	eventually(t, "it is reported again", func() bool { return r.last(correlate.CondSubscription) == correlate.StatusFailed })
	s := n.Subscriptions()[0]
	if s.Paused == "" || len(n.Deliveries(DeliveryPending)) != 1 {
		t.Fatalf("%+v", s)
	}
	gone.Store(false)
	if _, err := n.Update(t.Context(), s.ID, SubscriptionPatch{Paused: ptr("")}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it is delivered", func() bool { return len(n.Deliveries("")) == 0 })
	eventually(t, "it is well", func() bool { return r.last(correlate.CondSubscription) == correlate.StatusOK })
	if _, err := n.Update(t.Context(), s.ID, SubscriptionPatch{Name: ptr("b")}); !errors.Is(err, ErrFromFile) {
		t.Fatal(err)
	}
}

func TestWhatAConsumerRefusesIsParkedAndCanBeRetried(t *testing.T) {
	var status atomic.Int64
	status.Store(400)
	c := newConsumer(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(int(status.Load())) })
	cfg, _ := testConfig(t, t.TempDir())
	n, _ := start(t, cfg, fileSub("a", c.URL))
	n.Publish(effects(alarm("a1", 1, correlate.Raised)))
	eventually(t, "it is parked", func() bool { return len(n.Deliveries(DeliveryParked)) == 1 })
	d := n.Deliveries(DeliveryParked)[0]
	if d.LastError == "" || d.Attempts != 1 || d.AlarmID != "a1" || d.Resource != "bond/bond0" {
		t.Fatalf("%+v", d)
	}
	status.Store(204)
	if err := n.Retry(t.Context(), d.ID); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it is delivered", func() bool { return len(n.Deliveries("")) == 0 })
	if err := n.Retry(t.Context(), d.ID); !errors.Is(err, ErrNotFound) {
		t.Fatal(err)
	}
}

// echo answers verification as docs/delivery.md says.
func echo(w http.ResponseWriter, c *consumer) {
	all := c.messages()
	_ = json.NewEncoder(w).Encode(map[string]string{"challenge": all[len(all)-1].event.Data.Challenge})
}

func TestSubscribingVerifiesTheCallback(t *testing.T) {
	cfg, _ := testConfig(t, t.TempDir())
	n, _ := start(t, cfg)
	var c *consumer
	c = newConsumer(t, func(w http.ResponseWriter, _ *http.Request) { echo(w, c) })
	handshake := newConsumer(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodOptions || r.Header.Get("WebHook-Request-Origin") != "prod" {
			w.WriteHeader(405)
			return
		}
		w.Header().Set("WebHook-Allowed-Origin", "prod")
		w.Header().Set("WebHook-Allowed-Rate", "600")
	})
	silent := newConsumer(t, nil)
	wrong := newConsumer(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(`{"challenge":"x"}`)) })
	for url, ok := range map[string]bool{c.URL: true, handshake.URL: true, silent.URL: false, wrong.URL: false} {
		s, _, err := n.Subscribe(t.Context(), Subscription{Name: "x", Endpoints: []string{url}, Secret: NewSecret(make([]byte, 32))}, true)
		if ok != (err == nil) || err != nil && !errors.Is(err, ErrVerification) {
			t.Errorf("%v", err)
		}
		if ok {
			if _, err := n.Update(t.Context(), s.ID, SubscriptionPatch{Endpoints: &[]string{silent.URL}}); !errors.Is(err, ErrVerification) {
				t.Errorf("moved without proof: %v", err)
			}
		}
		if url == handshake.URL && s.Rate != 600 || url == c.URL && s.Rate != 0 {
			t.Errorf("rate %d", s.Rate)
		}
		if !s.Secret.IsZero() {
			t.Error("the secret is returned")
		}
	}
	if _, _, err := n.Subscribe(t.Context(), Subscription{}, true); !errors.Is(err, ErrInvalid) {
		t.Error(err)
	}
}

// TestNothingFallsBetweenSnapshotAndStream subscribes while revisions pour in: snapshot and stream together must end with
// the newest revision of every alarm.
func TestNothingFallsBetweenSnapshotAndStream(t *testing.T) {
	cfg, _ := testConfig(t, t.TempDir())
	n, _ := start(t, cfg)
	const alarms, rounds = 20, 50
	var done sync.WaitGroup
	done.Go(func() {
		for i := range uint64(alarms * rounds) {
			last := correlate.Changed
			if i < alarms {
				last = correlate.Raised
			}
			n.Publish(effects(alarm(fmt.Sprint("a", i%alarms), i+1, last)))
		}
	})
	type seen struct {
		c    *consumer
		snap map[string]correlate.Revision
	}
	var all []seen
	for range 10 {
		c := newConsumer(t, nil)
		_, snapshot, err := n.Subscribe(t.Context(), Subscription{Name: "x", Endpoints: []string{c.URL}}, false)
		if err != nil {
			t.Fatal(err)
		}
		s := seen{c, map[string]correlate.Revision{}}
		for _, a := range snapshot {
			s.snap[a.ID] = a.Revision
		}
		all = append(all, s)
	}
	done.Wait()
	n.dispatch() // of what was published nothing waits from here on, nor is it in nobody's hands
	eventually(t, "all is delivered", func() bool { return len(n.Deliveries("")) == 0 })
	for _, s := range all {
		for _, m := range s.c.messages() {
			r, _ := correlate.ParseRevision(m.event.Data.Alarm.Revision)
			if id := m.event.Data.Alarm.ID; r.Compare(s.snap[id]) > 0 {
				s.snap[id] = r
			}
		}
		for i := range uint64(alarms) {
			if want := (correlate.Revision{Term: 2, Counter: alarms*(rounds-1) + i + 1}); s.snap[fmt.Sprint("a", i)] != want {
				t.Fatalf("a%d: %v, want %v", i, s.snap[fmt.Sprint("a", i)], want)
			}
		}
	}
}

func TestSubscriptionsOutliveARestart(t *testing.T) {
	var down atomic.Bool
	down.Store(true)
	c := newConsumer(t, func(w http.ResponseWriter, _ *http.Request) {
		if down.Load() {
			w.WriteHeader(500)
		}
	})
	text := GenerateSecret()
	secret, _ := ParseSecret(text)
	cfg, _ := testConfig(t, t.TempDir())
	n, stop := start(t, cfg)
	s, _, err := n.Subscribe(t.Context(), Subscription{Name: "api", Endpoints: []string{c.URL}, Secret: secret}, false)
	if err != nil {
		t.Fatal(err)
	}
	version := s.Version
	if s, err = n.Update(t.Context(), s.ID, SubscriptionPatch{Name: ptr("renamed")}); err != nil || s.Version <= version || s.Name != "renamed" {
		t.Fatalf("%+v %v", s, err)
	}
	n.Publish(effects(alarm("a1", 1, correlate.Raised)))
	c.waitFor(t, 1)
	eventually(t, "the failure is noted", func() bool { d := n.Deliveries(""); return len(d) == 1 && d[0].Attempts > 0 })
	stop()
	down.Store(false)
	n, _ = start(t, cfg)
	if got := n.Subscriptions(); len(got) != 1 || got[0].ID != s.ID || got[0].Version != s.Version || got[0].Name != "renamed" {
		t.Fatalf("%+v", got)
	}
	eventually(t, "it is delivered", func() bool { return len(n.Deliveries("")) == 0 })
	m := c.messages()
	if last := m[len(m)-1]; last.event.ID != m[0].event.ID || last.header.Get(HeaderSignature) == "" {
		t.Fatalf("%+v", last)
	}
	if err := n.Unsubscribe(t.Context(), s.ID); err != nil || len(n.Subscriptions()) != 0 {
		t.Fatal(err)
	}
	if err := n.Unsubscribe(t.Context(), s.ID); !errors.Is(err, ErrNotFound) {
		t.Fatal(err)
	}
}

func TestTheFilesSubscriptionsAreReplacedAllAtOnce(t *testing.T) {
	a, b := newConsumer(t, nil), newConsumer(t, nil)
	cfg, _ := testConfig(t, t.TempDir())
	n, stop := start(t, cfg, fileSub("a", a.URL))
	n.Publish(effects(alarm("a1", 1, correlate.Raised)))
	a.waitFor(t, 1)
	if err := n.SetFile([]Subscription{fileSub("b", b.URL), {Name: "broken"}}); !errors.Is(err, ErrInvalid) || len(n.Subscriptions()) != 1 {
		t.Fatal(err)
	}
	changed := fileSub("a", a.URL)
	changed.Filter.MinSeverity = correlate.SeverityMajor
	if err := n.SetFile([]Subscription{changed, fileSub("b", b.URL)}); err != nil {
		t.Fatal(err)
	}
	b.waitFor(t, 1) // the standing alarm is owed to the new one
	versions := func() (v []uint64) {
		for _, s := range n.Subscriptions() {
			v = append(v, s.Version)
		}
		return v
	}
	if !slices.Equal(versions(), []uint64{FileVersion(changed), FileVersion(fileSub("b", b.URL))}) || FileVersion(changed) == FileVersion(fileSub("a", a.URL)) {
		t.Fatal(versions())
	}
	eventually(t, "all is delivered", func() bool { return len(n.Deliveries("")) == 0 })
	stop()
	n, _ = start(t, cfg, changed)
	if !slices.Equal(versions(), []uint64{FileVersion(changed)}) || len(a.messages()) != 1 {
		t.Fatal(versions(), len(a.messages()))
	}
}

func TestATestTellsHowThingsAre(t *testing.T) {
	var status atomic.Int64
	status.Store(200)
	c := newConsumer(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(int(status.Load())) })
	cfg, _ := testConfig(t, t.TempDir())
	cfg.Metrics = prometheus.NewRegistry()
	n, _ := start(t, cfg, fileSub("a", c.URL))
	id := n.Subscriptions()[0].ID
	st, err := n.Test(t.Context(), id)
	if err != nil || st.Answered.Before(st.Sent) || st.Sent.IsZero() {
		t.Fatalf("%+v %v", st, err)
	}
	if m := c.messages()[0]; m.event.Type != "paramedic.test" {
		t.Fatalf("%s", m.body)
	}
	status.Store(500)
	if _, err := n.Test(t.Context(), id); err == nil || !strings.Contains(err.Error(), "500") {
		t.Fatal(err)
	}
	if _, err := n.Test(t.Context(), "x"); !errors.Is(err, ErrNotFound) {
		t.Fatal(err)
	}
}

// TestAlarmsThatNobodyIsOwedAreForgotten keeps the outbox and the memory from growing.
func TestAlarmsThatNobodyIsOwedAreForgotten(t *testing.T) {
	c := newConsumer(t, nil)
	cfg, _ := testConfig(t, t.TempDir())
	n, stop := start(t, cfg, fileSub("a", c.URL))
	for i := range uint64(100) {
		n.Publish(effects(alarm(fmt.Sprint("a", i), 2*i+1, correlate.Raised)))
		n.Publish(effects(alarm(fmt.Sprint("a", i), 2*i+2, correlate.Cleared)))
	}
	n.dispatch() // nothing waits from here on
	eventually(t, "nothing is kept", func() bool { n.mu.Lock(); defer n.mu.Unlock(); return len(n.alarms) == 0 && len(c.messages()) > 0 })
	stop()
	n, _ = start(t, cfg, fileSub("a", c.URL))
	if len(n.Restored().Alarms) != 0 || len(n.alarms) != 0 {
		t.Fatalf("%d alarms came back", len(n.alarms))
	}
}

func BenchmarkPublish(b *testing.B) {
	for _, subs := range []int{1, 10, 200} {
		b.Run(fmt.Sprint(subs, " subscriptions"), func(b *testing.B) {
			c := newConsumer(b, nil)
			cfg, _ := testConfig(b, b.TempDir())
			cfg.Log = nil
			var all []Subscription
			for i := range subs {
				all = append(all, fileSub(fmt.Sprint("s", i), c.URL))
				if i > 0 { // only the first matches: the rest are the tenants that a fault doesn't hit
					all[i].Filter.Projects = []string{fmt.Sprint("p", i)}
				}
			}
			n, _ := start(b, cfg, all...)
			alarms := make([]*correlate.Alarm, b.N)
			for i := range alarms {
				alarms[i] = alarm(fmt.Sprint("a", i%1000), uint64(i+1), correlate.Changed, "p0")
			}
			b.ResetTimer()
			for i, a := range alarms {
				n.Publish(effects(a))
				if i%256 == 255 { // the engine steps, too: let what waits be taken
					for n.in.waiting() > 0 {
						<-time.After(10 * time.Microsecond)
					}
				}
			}
			for n.in.waiting() > 0 {
				<-time.After(10 * time.Microsecond)
			}
			n.box.await(b.Context(), n.box.put(), time.Minute)
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "changes/s")
		})
	}
}

// BenchmarkPublishToWire is the way from Publish to the consumer's handler, one alarm at a time, over a warm connection.
func BenchmarkCommitOfOne(b *testing.B) {
	cfg, _ := testConfig(b, b.TempDir())
	o, _, err := openOutbox(cfg.Dir, time.Now, discard, nil)
	if err != nil {
		b.Fatal(err)
	}
	a := alarm("a", 1, correlate.Changed, "p0")
	for b.Loop() {
		o.put(write{place{shelfAlarms, "a"}, alarmRecord{Alarm: a}}, write{pairPlace("s", "a"), pairRecord{AlarmID: "a"}})
		o.commit()
	}
	o.finish()
}

func BenchmarkPublishToWire(b *testing.B) {
	arrived := make(chan time.Time, 1)
	c := newConsumer(b, func(http.ResponseWriter, *http.Request) { arrived <- time.Now() })
	cfg, _ := testConfig(b, b.TempDir())
	cfg.Log = nil
	n, _ := start(b, cfg, fileSub("a", c.URL))
	var took []time.Duration
	for i := range b.N {
		a := alarm("a", uint64(i+1), correlate.Changed, "p0")
		begin := time.Now()
		n.Publish(effects(a))
		took = append(took, (<-arrived).Sub(begin))
		eventually(b, "it is settled", func() bool { return len(n.Deliveries("")) == 0 })
	}
	var box []time.Duration
	for _, p := range n.Profile() {
		box = append(box, p.Sent.Sub(p.Outbox))
	}
	slices.Sort(box)
	b.ReportMetric(float64(box[len(box)/2].Microseconds()), "p50-send-us")
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-us")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-us")
	b.ReportMetric(0, "ns/op")
}
