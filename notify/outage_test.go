package notify

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	dto "github.com/prometheus/client_model/go"

	"github.com/paramedic-ha/paramedic/correlate"
)

// never is the status of who reads a request and does not answer.
const never = -1

// pipes are consumers of a virtual clock, by host name. Each answers over pipes as it is told; a status of 0 can't be connected to.
type pipes struct {
	judge func(*reading) int // the status of one that is well; nil: 204

	mu     sync.Mutex
	status map[string]int
	got    map[string][]*reading
}

func newPipes(hosts ...string) *pipes {
	p := &pipes{status: map[string]int{}, got: map[string][]*reading{}}
	for _, h := range hosts {
		p.status[h] = 204
	}
	return p
}

func (p *pipes) set(host string, status int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.status[host] = status
}

// take is what has come since the last time.
func (p *pipes) take(host string) []*reading {
	p.mu.Lock()
	defer p.mu.Unlock()
	got := p.got[host]
	delete(p.got, host)
	return got
}

func (p *pipes) dial(_ context.Context, _, address string) (net.Conn, error) {
	host, _, _ := net.SplitHostPort(address)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.status[host] == 0 {
		return nil, errors.New("connection refused")
	}
	here, there := net.Pipe()
	var last *reading
	r := &receiver{behaviour: behaviour{answer: func(c net.Conn) (bool, bool) {
		p.mu.Lock()
		code := p.status[host]
		p.mu.Unlock()
		switch {
		case code == 0:
			return false, false
		case code == never:
			hang(c)
			return false, false
		case code == 204 && p.judge != nil:
			code = p.judge(last)
		}
		return status(fmt.Sprint(code, " As It Is"))(c)
	}}}
	go func() {
		defer there.Close()
		r.serve(&watched{Conn: there, gone: make(chan struct{})}, func(one *reading) {
			last = one
			p.mu.Lock()
			defer p.mu.Unlock()
			p.got[host] = append(p.got[host], one)
		})
	}()
	return here, nil
}

// TestAConsumerThatIsDownForLongReturnsToTheTruth runs a whole Notifier, its outbox on a disk, and the engine on a virtual clock. Forty machines
// fail and are well again for longer than what is owed may grow old; the consumers, who knew of ten, can't be connected to, or answer 503. Then
// they are well.
func TestAConsumerThatIsDownForLongReturnsToTheTruth(t *testing.T) {
	for _, form := range []string{"native", "aodh", "alertmanager", "sol"} {
		t.Run(form, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { outageOf(t, form) })
		})
	}
}

func outageOf(t *testing.T, form string) {
	p := newPipes("away", "overloaded")
	cfg, r := testConfig(t, t.TempDir())
	cfg.Now, cfg.Log, cfg.MaxAge = time.Now, discard, 3*time.Minute
	random := rand.New(rand.NewPCG(3, 4))
	n, err := newNotifier(cfg, p.dial)
	if err != nil {
		t.Fatal(err)
	}
	var subs []Subscription
	for _, host := range []string{"away", "overloaded"} {
		s := fileSub(host, "http://"+host+"/x")
		s.Format = form
		subs = append(subs, s)
	}
	if err := n.SetFile(subs); err != nil {
		t.Fatal(err)
	}
	stop := run(t, n)
	s := matrixSender{n: n, engine: correlate.New(correlate.Config{Home: "cmp-1", Term: n.Restored().Term}, nil), newest: map[string]*correlate.Alarm{}}
	world := []byte(strings.Repeat("1", 10) + strings.Repeat("0", 30))
	s.world(string(world))
	time.Sleep(time.Second)
	known := map[string][]*reading{"away": p.take("away"), "overloaded": p.take("overloaded")}
	p.set("away", 0)
	p.set("overloaded", 503)
	for end := time.Now().Add(cfg.MaxAge + cfg.MaxAge/2); time.Now().Before(end); time.Sleep(5 * time.Second) {
		world[random.IntN(len(world))] ^= 1
		s.world(string(world))
	}
	if r.last(correlate.CondSubscription) != correlate.StatusFailed || r.count(correlate.CondSubscription) != 2 {
		t.Errorf("%d reports about two subscriptions", r.count(correlate.CondSubscription))
	}
	parked := len(n.Deliveries(DeliveryParked))
	tried := len(p.take("overloaded"))
	p.set("away", 204)
	p.set("overloaded", 204)
	time.Sleep(5 * time.Minute)
	if owed := n.Deliveries(""); len(owed) != 0 {
		t.Errorf("%d are owed yet, the first: %+v", len(owed), owed[0])
	}
	if r.last(correlate.CondSubscription) != correlate.StatusOK {
		t.Error("the failure still stands")
	}
	synctest.Wait()
	truth := map[string]string{}
	for id, a := range s.newest {
		if a.Standing() {
			truth[string(a.Key.Resource)] = id + " " + a.Revision.String()
		}
	}
	sent := map[string]int{}
	for host, before := range known {
		got := p.take(host)
		sent[host] = len(got)
		judged := &receiver{form: form, got: slices.Concat(before, got)}
		judged.judge(t, truth)
	}
	info, err := os.Stat(filepath.Join(cfg.Dir, dbName))
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d alarms, %d stand; %d were parked, %d requests were answered 503; %v sent at the end; outbox %d kB", len(s.newest), len(truth), parked, tried, sent, info.Size()>>10)
	if parked == 0 || info.Size() > 4<<20 {
		t.Error("nothing grew too old, or the outbox grew without bound")
	}
	stop()
}

// TestAQueueThatWasFullIsFilledAgain: more stands than a subscription may be owed.
func TestAQueueThatWasFullIsFilledAgain(t *testing.T) {
	const stands = 4096 + 600
	p := newPipes("consumer")
	p.set("consumer", 0)
	cfg, _ := testConfig(t, t.TempDir())
	cfg.Log = discard
	n, err := newNotifier(cfg, p.dial)
	if err != nil {
		t.Fatal(err)
	}
	if err := n.SetFile([]Subscription{fileSub("a", "http://consumer/x")}); err != nil {
		t.Fatal(err)
	}
	run(t, n)
	for i := range stands {
		n.Publish(effects(alarm(fmt.Sprint("a", i), uint64(i+1), correlate.Raised)))
	}
	n.dispatch()
	if owed := len(n.Deliveries("")); owed > 4096 {
		t.Errorf("%d are owed", owed)
	}
	p.set("consumer", 204)
	if _, err := n.RetryAll(t.Context(), FileID("prod", "a")); err != nil {
		t.Fatal(err)
	}
	told := map[string]bool{}
	eventually(t, "all that stands is told", func() bool {
		for _, one := range p.take("consumer") {
			told[one.id] = true
		}
		return len(told) == stands
	})
}

// TestWhatStaysParkedIsReportedUntilItIsGone although everything else is taken: the consumer refuses one alarm for good.
func TestWhatStaysParkedIsReportedUntilItIsGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPipes("consumer")
		p.judge = func(one *reading) int {
			if bytes.Contains(one.body, []byte("poison")) {
				return 400
			}
			return 204
		}
		cfg, r := testConfig(t, t.TempDir())
		cfg.Now, cfg.Log = time.Now, discard
		n, err := newNotifier(cfg, p.dial)
		if err != nil {
			t.Fatal(err)
		}
		if err := n.SetFile([]Subscription{fileSub("a", "http://consumer/x")}); err != nil {
			t.Fatal(err)
		}
		stop := run(t, n)
		poison := alarm("poison", 1, correlate.Raised)
		poison.Text = "poison"
		n.Publish(effects(poison))
		for i := range uint64(12) {
			time.Sleep(10 * time.Second)
			n.Publish(effects(alarm(fmt.Sprint("a", i), i+2, correlate.Raised)))
		}
		time.Sleep(time.Second)
		parked := n.Deliveries("")
		if len(parked) != 1 || parked[0].State != DeliveryParked || parked[0].Again {
			t.Fatalf("%+v", parked)
		}
		if got := p.take("consumer"); len(got) != 14 { // it was tried once more when the consumer took something, and not again
			t.Errorf("%d requests", len(got))
		}
		if r.last(correlate.CondSubscription) != correlate.StatusFailed || r.count(correlate.CondSubscription) != 1 || !strings.Contains(r.text(correlate.CondSubscription), "parked since") {
			t.Errorf("%d reports, the last: %s", r.count(correlate.CondSubscription), r.text(correlate.CondSubscription))
		}
		if err := n.Discard(t.Context(), parked[0].ID); err != nil {
			t.Fatal(err)
		}
		if r.last(correlate.CondSubscription) != correlate.StatusOK || len(n.Deliveries("")) != 0 {
			t.Error("it stands although nothing is parked any more")
		}
		stop()
	})
}

func gathered(t *testing.T, registry *prometheus.Registry) map[string][]*dto.Metric {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	problems, err := promlint.NewWithMetricFamilies(families).Lint()
	if err != nil || len(problems) > 0 {
		t.Errorf("%v %+v", err, problems)
	}
	all := map[string][]*dto.Metric{}
	for _, f := range families {
		all[f.GetName()] = f.GetMetric()
	}
	return all
}

// value is that of the one series with these labels, a counter or a gauge; -1 when there is none.
func value(series []*dto.Metric, labels ...string) float64 {
	for _, m := range series {
		if slices.EqualFunc(m.GetLabel(), labels, func(p *dto.LabelPair, want string) bool { return p.GetValue() == want }) {
			return m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	return -1
}

func TestEachSubscriptionHasItsSeriesAndTakesThemAlong(t *testing.T) {
	well := newConsumer(t, nil)
	refusing := newConsumer(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadRequest) })
	cfg, _ := testConfig(t, t.TempDir())
	registry := prometheus.NewRegistry()
	cfg.Metrics = registry
	n, _ := start(t, cfg, fileSub("well", well.URL), fileSub(`"quoted" \ ünïcode`, refusing.URL))
	var made []Subscription
	for range 2 { // of one name
		s, _, err := n.Subscribe(t.Context(), Subscription{Name: "well", Endpoints: []string{well.URL}}, false)
		if err != nil {
			t.Fatal(err)
		}
		made = append(made, s)
	}
	for i := range uint64(3) {
		n.Publish(effects(alarm(fmt.Sprint("a", i), i+1, correlate.Raised)))
	}
	well.waitFor(t, 9)
	eventually(t, "all is settled or parked", func() bool { return len(n.Deliveries(DeliveryParked)) == 3 && len(n.Deliveries("")) == 3 })
	eventually(t, "all is counted", func() bool {
		all := gathered(t, registry)
		attempts := all["paramedic_notify_attempts_total"]
		return value(attempts, "settled", "well") == 3 && value(attempts, "settled", made[0].series()) == 3 && value(attempts, "parked", `"quoted" \ ünïcode`) >= 3
	})
	all := gathered(t, registry)
	if v := value(all["paramedic_notify_deliveries"], "parked", `"quoted" \ ünïcode`); v != 3 {
		t.Errorf("%v are parked", v)
	}
	for _, name := range []string{"paramedic_notify_superseded_total", "paramedic_notify_evicted_total", "paramedic_notify_oldest_pending_seconds", "paramedic_notify_paused", "paramedic_notify_failing_seconds", "paramedic_notify_delivery_seconds"} {
		if len(all[name]) != 4 {
			t.Errorf("%s has %d series, want one for each subscription", name, len(all[name]))
		}
	}
	for _, m := range all["paramedic_notify_delivery_seconds"] {
		if m.GetLabel()[0].GetValue() == "well" && m.GetHistogram().GetSampleCount() != 3 {
			t.Errorf("%v", m)
		}
	}
	paused := "tea"
	if _, err := n.Update(t.Context(), made[1].ID, SubscriptionPatch{Paused: &paused}); err != nil {
		t.Fatal(err)
	}
	if v := value(gathered(t, registry)["paramedic_notify_paused"], made[1].series()); v != 1 {
		t.Errorf("paused: %v", v)
	}
	if err := n.Unsubscribe(t.Context(), made[0].ID); err != nil {
		t.Fatal(err)
	}
	if err := n.SetFile([]Subscription{fileSub("well", well.URL)}); err != nil {
		t.Fatal(err)
	}
	for name, series := range gathered(t, registry) {
		for _, m := range series {
			for _, l := range m.GetLabel() {
				if l.GetName() == "subscription" && l.GetValue() != "well" && l.GetValue() != made[1].series() {
					t.Errorf("%s has a series of %q still", name, l.GetValue())
				}
			}
		}
	}
}
