package notify

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/paramedic-ha/paramedic/notify/delivery"
)

// metrics has one series per subscription and outcome at most.
type metrics struct {
	registry  prometheus.Registerer
	attempts  *prometheus.CounterVec
	replaced  *prometheus.CounterVec
	dropped   *prometheus.CounterVec
	handed    *prometheus.CounterVec
	guests    *prometheus.CounterVec
	stage     *prometheus.HistogramVec
	commits   prometheus.Histogram
	records   prometheus.Counter
	unwritten prometheus.Gauge
	queue     *queueCollector
}

func newMetrics(registry prometheus.Registerer, n *Notifier) (*metrics, error) {
	fast := prometheus.ExponentialBuckets(50e-6, 2, 20) // 50 µs … 26 s
	m := &metrics{
		registry: registry,
		attempts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "paramedic_notify_attempts_total", Help: "Requests to consumers, by what came of them.",
		}, []string{"subscription", "outcome"}),
		replaced: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "paramedic_notify_superseded_total", Help: "Revisions that a newer one replaced before they were delivered.",
		}, []string{"subscription"}),
		dropped: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "paramedic_notify_evicted_total", Help: "Deliveries dropped because a subscription's queue was full.",
		}, []string{"subscription"}),
		handed: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "paramedic_notify_handovers_total", Help: "Requests handed over to a peer, by what came of them; failed: no peer could.",
		}, []string{"subscription", "outcome"}),
		guests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "paramedic_notify_peer_deliveries_total", Help: "Requests made, or refused, for the homes of other hosts' alarms.",
		}, []string{"outcome"}),
		stage: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "paramedic_notify_stage_seconds", Help: "Time of settled notifications that this host sent by stage: outbox is T02 to T06, send T06 to T08, answer T08 to T09, total T00 to T09.", Buckets: fast,
		}, []string{"stage"}),
		commits: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "paramedic_notify_outbox_commit_seconds", Help: "Time of the outbox's commits.", Buckets: fast,
		}),
		records: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "paramedic_notify_outbox_records_total", Help: "Records that the outbox has committed.",
		}),
		unwritten: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "paramedic_notify_outbox_broken", Help: "1 while the outbox can't be written and notifications are not durable.",
		}),
		queue: newQueueCollector(n),
	}
	if registry == nil {
		return m, nil
	}
	for _, c := range m.all() {
		if err := registry.Register(c); err != nil {
			m.unregister()
			return nil, err
		}
	}
	return m, nil
}

func (m *metrics) all() []prometheus.Collector {
	return []prometheus.Collector{m.attempts, m.replaced, m.dropped, m.handed, m.guests, m.stage, m.commits, m.records, m.unwritten, m.queue}
}

func (m *metrics) unregister() {
	if m.registry == nil {
		return
	}
	for _, c := range m.all() {
		m.registry.Unregister(c)
	}
}

func (m *metrics) attempt(subscription string, v delivery.Verdict) {
	m.attempts.WithLabelValues(subscription, v.String()).Inc()
}

func (m *metrics) handOver(subscription, outcome string) {
	m.handed.WithLabelValues(subscription, outcome).Inc()
}

func (m *metrics) guest(outcome string) { m.guests.WithLabelValues(outcome).Inc() }

func (m *metrics) superseded(subscription string) { m.replaced.WithLabelValues(subscription).Inc() }

func (m *metrics) evicted(subscription string, n int) {
	if n > 0 {
		m.dropped.WithLabelValues(subscription).Add(float64(n))
	}
}

func (m *metrics) broken(yes bool) {
	m.unwritten.Set(0)
	if yes {
		m.unwritten.Set(1)
	}
}

func (m *metrics) commit(records int, took time.Duration) {
	m.records.Add(float64(records))
	m.commits.Observe(took.Seconds())
}

func (m *metrics) stages(s Stages) {
	between := func(name string, a, b time.Time) {
		if !a.IsZero() && !b.IsZero() {
			m.stage.WithLabelValues(name).Observe(max(0, b.Sub(a)).Seconds())
		}
	}
	between("outbox", s.Found, s.Outbox)
	between("send", s.Outbox, s.Sent)
	between("answer", s.Sent, s.Answered)
	between("total", s.Occurred, s.Answered)
}

// forget drops the series of a subscription that ended.
func (m *metrics) forget(subscription string) {
	match := prometheus.Labels{"subscription": subscription}
	m.attempts.DeletePartialMatch(match)
	m.replaced.DeletePartialMatch(match)
	m.dropped.DeletePartialMatch(match)
	m.handed.DeletePartialMatch(match)
}

// queueCollector reads the queues when asked, so that nothing is counted twice.
type queueCollector struct {
	n    *Notifier
	desc *prometheus.Desc
}

func newQueueCollector(n *Notifier) *queueCollector {
	return &queueCollector{n: n, desc: prometheus.NewDesc("paramedic_notify_deliveries", "Deliveries by state: pending, in-flight, parked.", []string{"subscription", "state"}, nil)}
}

func (q *queueCollector) Describe(ch chan<- *prometheus.Desc) { ch <- q.desc }

func (q *queueCollector) Collect(ch chan<- prometheus.Metric) {
	type count struct{ pending, flying, parked int }
	counts := map[string]count{} // several endpoints have one name, and those of API subscriptions need not be unique
	for _, w := range q.n.list() {
		w.mu.Lock()
		name := w.sub.Name
		owed, parked, flying := w.machine.Counts()
		w.mu.Unlock()
		c := counts[name]
		counts[name] = count{c.pending + owed - parked - flying, c.flying + flying, c.parked + parked}
	}
	for name, c := range counts {
		for state, v := range map[string]int{"pending": c.pending, "in-flight": c.flying, "parked": c.parked} {
			ch <- prometheus.MustNewConstMetric(q.desc, prometheus.GaugeValue, float64(v), name, state)
		}
	}
}
