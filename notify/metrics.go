package notify

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are those of the whole notifier; each subscription's are its own (tally), and end with it.
type metrics struct {
	registry  prometheus.Registerer
	guests    *prometheus.CounterVec
	stage     *prometheus.HistogramVec
	commits   prometheus.Histogram
	records   prometheus.Counter
	unwritten prometheus.Gauge
	tallies   tallies
}

func newMetrics(registry prometheus.Registerer, n *Notifier) (*metrics, error) {
	fast := prometheus.ExponentialBuckets(50e-6, 2, 20) // 50 µs … 26 s
	m := &metrics{
		registry: registry,
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
		tallies: tallies{n},
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
	return []prometheus.Collector{m.guests, m.stage, m.commits, m.records, m.unwritten, m.tallies}
}

func (m *metrics) unregister() {
	if m.registry == nil {
		return
	}
	for _, c := range m.all() {
		m.registry.Unregister(c)
	}
}

func (m *metrics) guest(outcome string) { m.guests.WithLabelValues(outcome).Inc() }

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
