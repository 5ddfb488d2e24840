package notify

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/paramedic-ha/paramedic/correlate"
)

// TestTwoHundredConsumersDoNotWaitForThoseThatFail: among them one that never answers, one that can't be connected to, and one that answers
// 500. The clock is a virtual one, which moves only when everybody waits: who waited for another's time limit would be seen to. All others have each
// fault within 2 ms, which is the hold of the outbox and one turn of a timer.
func TestTwoHundredConsumersDoNotWaitForThoseThatFail(t *testing.T) {
	for name, test := range map[string]struct {
		consumers, faults int
		every             time.Duration
	}{
		"200 consumers":         {200, 6, 10 * time.Second},
		"an hour, 10 consumers": {10, 4, 15 * time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var hosts []string
				var subs []Subscription
				for i := range test.consumers {
					hosts = append(hosts, fmt.Sprint("consumer-", i))
					subs = append(subs, fileSub(hosts[i], "http://"+hosts[i]+"/x"))
				}
				p := newPipes(hosts...)
				p.set(hosts[0], 0)
				p.set(hosts[1], 500)
				p.set(hosts[2], never)
				cfg, _ := testConfig(t, t.TempDir())
				cfg.Now, cfg.Log = time.Now, discard
				n, err := newNotifier(cfg, p.dial)
				if err != nil {
					t.Fatal(err)
				}
				if err := n.SetFile(subs); err != nil {
					t.Fatal(err)
				}
				stop := run(t, n)
				time.Sleep(time.Second)
				for i := range uint64(test.faults) {
					n.Publish(effects(alarm(fmt.Sprint("a", i), i+1, correlate.Raised)))
					time.Sleep(2 * time.Millisecond)
					for _, host := range hosts[3:] {
						if got := p.take(host); len(got) != 1 {
							t.Errorf("fault %d: %s has %d requests after 2 ms", i, host, len(got))
						}
					}
					time.Sleep(test.every)
				}
				if owed := len(n.Deliveries("")); owed != 3*test.faults {
					t.Errorf("%d are owed to the three", owed)
				}
				stop()
			})
		})
	}
}

// series counts those that have a label subscription, and those of them that are the others'.
func series(all map[string][]*dto.Metric) (own, others int) {
	for _, metrics := range all {
		for _, m := range metrics {
			for _, l := range m.GetLabel() {
				if l.GetName() == "subscription" {
					own++
					if l.GetValue() == otherSeries {
						others++
					}
				}
			}
		}
	}
	return own, others
}

// TestFiveThousandSubscriptionsHaveAsManySeriesAsAHundredAndThirty.
func TestFiveThousandSubscriptionsHaveAsManySeriesAsAHundredAndThirty(t *testing.T) {
	of := func(n int) []Subscription {
		subs := []Subscription{fileSub(otherSeries, "http://127.0.0.1/x")}
		for i := range n {
			subs = append(subs, fileSub(fmt.Sprint("s-", i), "http://127.0.0.1/x"))
		}
		return subs
	}
	cfg, _ := testConfig(t, t.TempDir())
	registry := prometheus.NewRegistry()
	cfg.Metrics = registry
	n, err := newNotifier(cfg, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer n.box.closeQuietly()
	count := func(subscriptions int) (int, int) {
		t.Helper()
		if err := n.SetFile(of(subscriptions)); err != nil {
			t.Fatal(err)
		}
		return series(gathered(t, registry))
	}
	few, _ := count(1)
	per := few / 2 // of s-0, and of the one whose name is that of the others
	for _, subscriptions := range []int{ownSeries + 1, 5000} {
		if own, others := count(subscriptions); own != (ownSeries+1)*per || others != per {
			t.Errorf("%d subscriptions have %d series, %d of the others; want %d and %d", subscriptions, own, others, (ownSeries+1)*per, per)
		}
	}
	if v := value(gathered(t, registry)["paramedic_notify_other_subscriptions"]); v != 5001-ownSeries {
		t.Errorf("%v others", v)
	}
	if own, _ := count(1); own != few {
		t.Errorf("%d series when they have ended, want %d", own, few)
	}
}

// TestWhatOthersAreToldIsCountedTogether: no delivery is lost to the figures, and none goes back when a subscription ends.
func TestWhatOthersAreToldIsCountedTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const consumers = ownSeries + 20
		var hosts []string
		var subs []Subscription
		for i := range consumers {
			hosts = append(hosts, fmt.Sprint("consumer-", i))
			subs = append(subs, fileSub(hosts[i], "http://"+hosts[i]+"/x"))
		}
		p := newPipes(hosts...)
		cfg, _ := testConfig(t, t.TempDir())
		registry := prometheus.NewRegistry()
		cfg.Now, cfg.Log, cfg.Metrics = time.Now, discard, registry
		n, err := newNotifier(cfg, p.dial)
		if err != nil {
			t.Fatal(err)
		}
		if err := n.SetFile(subs); err != nil {
			t.Fatal(err)
		}
		stop := run(t, n)
		time.Sleep(time.Second)
		n.Publish(effects(alarm("a", 1, correlate.Raised)))
		time.Sleep(time.Second)
		settled := func() (sum, others float64) {
			for _, m := range gathered(t, registry)["paramedic_notify_attempts_total"] {
				if m.GetLabel()[0].GetValue() == "settled" {
					sum += m.GetCounter().GetValue()
				}
				if m.GetLabel()[0].GetValue() == "settled" && m.GetLabel()[1].GetValue() == otherSeries {
					others = m.GetCounter().GetValue()
				}
			}
			return sum, others
		}
		if sum, others := settled(); sum != consumers || others != 20 {
			t.Errorf("%v are settled, %v of the others; want %d and 20", sum, others, consumers)
		}
		if err := n.SetFile(subs[:ownSeries]); err != nil {
			t.Fatal(err)
		}
		if sum, others := settled(); sum != consumers || others != 20 {
			t.Errorf("%v are settled, %v of the others, when the others have ended", sum, others)
		}
		stop()
	})
}
