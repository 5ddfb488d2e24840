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
	mutes     muteFigures
	tallies   tallies
	seats     *seats
}

func newMetrics(registry prometheus.Registerer, n *Notifier) (*metrics, error) {
	fast := prometheus.ExponentialBuckets(50e-6, 2, 20) // 50 µs … 26 s
	m := &metrics{
		registry: registry,
		guests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "paramedic_notify_peer_deliveries_total", Help: "Requests made, or refused, for the homes of other hosts' alarms.",
		}, []string{"outcome"}),
		stage: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "paramedic_notify_stage_seconds", Help: "Time of settled deliveries by stage, from one of T00 to T09 to another.", Buckets: fast,
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
		mutes:   muteFigures{n},
		tallies: tallies{n},
		seats:   newSeats(),
	}
	for _, v := range verdicts {
		m.guests.WithLabelValues(v.String())
	}
	m.guests.WithLabelValues("refused")
	for _, s := range stages {
		m.stage.WithLabelValues(s.Name()) // each is a series from the first scrape on
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
	return []prometheus.Collector{m.guests, m.stage, m.commits, m.records, m.unwritten, m.mutes, m.tallies}
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

// stages takes in a settled delivery. node is this host.
func (m *metrics) stages(l Stages, node string) {
	for _, s := range stages {
		if took, ok := s.took(l, node); ok {
			m.stage.WithLabelValues(s.Name()).Observe(took.Seconds())
		}
	}
}

// muteFigures reads what is muted when asked.
type muteFigures struct{ n *Notifier }

var (
	descMutes      = prometheus.NewDesc("paramedic_notify_mutes", "Mutes that hold: what they match is told to nobody.", nil, nil)
	descMuteOldest = prometheus.NewDesc("paramedic_notify_oldest_mute_seconds", "How long the oldest mute has held; 0 when there is none.", nil, nil)
)

// Describe is part of prometheus.Collector.
func (f muteFigures) Describe(ch chan<- *prometheus.Desc) {
	ch <- descMutes
	ch <- descMuteOldest
}

// Collect is part of prometheus.Collector.
func (f muteFigures) Collect(ch chan<- prometheus.Metric) {
	now, held, oldest := f.n.cfg.Now(), f.n.Mutes(), time.Duration(0)
	for _, m := range held {
		oldest = max(oldest, now.Sub(m.Made))
	}
	ch <- prometheus.MustNewConstMetric(descMutes, prometheus.GaugeValue, float64(len(held)))
	ch <- prometheus.MustNewConstMetric(descMuteOldest, prometheus.GaugeValue, oldest.Seconds())
}
