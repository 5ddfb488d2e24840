package notify

import (
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/paramedic-ha/paramedic/notify/delivery"
)

// verdicts are the outcomes of an attempt, each a series from the first scrape on.
var verdicts = []delivery.Verdict{delivery.Settled, delivery.Retry, delivery.Park, delivery.Pause}

// delays are the upper bounds of the histogram of a subscription's delays, in seconds.
var delays = [...]float64{0.001, 0.005, 0.025, 0.1, 0.5, 2.5, 15, 60, 600, 3600}

// tally counts what became of one subscription's deliveries, at all its endpoints. It ends with the subscription, and its series with it. Safe for
// concurrent use; a leaf in the order of locks.
type tally struct {
	mu         sync.Mutex
	attempts   map[delivery.Verdict]uint64
	handovers  map[string]uint64
	superseded uint64
	evicted    uint64
	within     [len(delays)]uint64 // settled ones that took that long at most, and longer than the bound before
	settled    uint64
	seconds    float64 // of them together
}

func (t *tally) attempt(v delivery.Verdict) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.attempts == nil {
		t.attempts = map[delivery.Verdict]uint64{}
	}
	t.attempts[v]++
}

func (t *tally) handOver(outcome string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.handovers == nil {
		t.handovers = map[string]uint64{}
	}
	t.handovers[outcome]++
}

func (t *tally) replaced() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.superseded++
}

func (t *tally) dropped(n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.evicted += uint64(n)
}

// told counts a settled delivery by how long after the decision that was.
func (t *tally) told(after time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := max(0, after).Seconds()
	t.settled++
	t.seconds += s
	if i, _ := slices.BinarySearch(delays[:], s); i < len(delays) {
		t.within[i]++
	}
}

// series is the label of a subscription: the names of API subscriptions need not be unique.
func (s Subscription) series() string {
	if s.Origin == OriginAPI {
		return s.Name + "/" + s.ID
	}
	return s.Name
}

func perSubscription(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(name, help, append([]string{"subscription"}, labels...), nil)
}

var (
	descAttempts   = perSubscription("paramedic_notify_attempts_total", "Requests to consumers, by what came of them.", "outcome")
	descHandovers  = perSubscription("paramedic_notify_handovers_total", "Requests handed over to a peer, by what came of them; failed: no peer could.", "outcome")
	descSuperseded = perSubscription("paramedic_notify_superseded_total", "Revisions that a newer one replaced before they were delivered.")
	descEvicted    = perSubscription("paramedic_notify_evicted_total", "Deliveries dropped because a subscription's queue was full; what stands is owed again when there is room.")
	descDelay      = perSubscription("paramedic_notify_delivery_seconds", "Time of settled deliveries from T02, the affected resources found, to the consumer's answer, with all retries.")
	descQueue      = perSubscription("paramedic_notify_deliveries", "Deliveries by state: pending, in-flight, parked.", "state")
	descOldest     = perSubscription("paramedic_notify_oldest_pending_seconds", "How long the oldest delivery that is neither settled nor parked has been owed; 0 when there is none.")
	descPaused     = perSubscription("paramedic_notify_paused", "1 while nothing is sent: paused by an operator or by the consumer's 410.")
	descFailing    = perSubscription("paramedic_notify_failing_seconds", "How long every attempt has failed; 0 when the last one did not.")
)

// tallies reads what every subscription has counted and owes when asked.
type tallies struct{ n *Notifier }

// Describe is part of prometheus.Collector.
func (c tallies) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{descAttempts, descHandovers, descSuperseded, descEvicted, descDelay, descQueue, descOldest, descPaused, descFailing} {
		ch <- d
	}
}

// Collect is part of prometheus.Collector.
func (c tallies) Collect(ch chan<- prometheus.Metric) {
	seen := map[string]bool{}
	for _, lead := range c.n.leads() {
		s := lead.subscription()
		if series := s.series(); !seen[series] { // a file's name may end like the id of one of the API: two of a series would fail the scrape
			seen[series] = true
			c.queues(ch, series, s.Paused != "", c.n.legsOf(lead.owner))
			lead.kin.tally.collect(ch, series)
		}
	}
}

// queues says what the legs of a subscription owe together, and the worst of them.
func (c tallies) queues(ch chan<- prometheus.Metric, series string, paused bool, legs []*worker) {
	now := c.n.cfg.Now()
	states := map[string]int{"pending": 0, "in-flight": 0, "parked": 0}
	var oldest, failing float64
	since := func(at time.Time) float64 {
		if at.IsZero() {
			return 0
		}
		return max(0, now.Sub(at)).Seconds()
	}
	for _, w := range legs {
		w.mu.Lock()
		owed, parked, flying := w.machine.Counts()
		oldest, failing = max(oldest, since(w.machine.OldestOwed())), max(failing, since(w.machine.FailingSince()))
		w.mu.Unlock()
		states["pending"] += max(0, owed-parked-flying)
		states["in-flight"] += flying
		states["parked"] += parked
	}
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, append([]string{series}, labels...)...)
	}
	for state, n := range states {
		gauge(descQueue, float64(n), state)
	}
	gauge(descOldest, oldest)
	gauge(descFailing, failing)
	if paused {
		gauge(descPaused, 1)
	} else {
		gauge(descPaused, 0)
	}
}

func (t *tally) collect(ch chan<- prometheus.Metric, series string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	count := func(d *prometheus.Desc, v uint64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), append([]string{series}, labels...)...)
	}
	for _, v := range verdicts {
		count(descAttempts, t.attempts[v], v.String())
	}
	for outcome, v := range t.handovers {
		count(descHandovers, v, outcome)
	}
	count(descSuperseded, t.superseded)
	count(descEvicted, t.evicted)
	buckets, sum := make(map[float64]uint64, len(delays)), uint64(0)
	for i, bound := range delays {
		sum += t.within[i]
		buckets[bound] = sum
	}
	ch <- prometheus.MustNewConstHistogram(descDelay, t.settled, t.seconds, buckets, series)
}
