package agent

import (
	"context"
	"runtime"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/paramedic-ha/paramedic/correlate"
	"github.com/paramedic-ha/paramedic/hw"
)

// buildInfo says which version runs.
func buildInfo(version string) prometheus.Collector {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "paramedic_build_info", Help: "1; the version of the agent and of the Go that built it.",
		ConstLabels: prometheus.Labels{"version": version, "goversion": runtime.Version()},
	}, func() float64 { return 1 })
}

// collector reads the agent's figures when it is scraped.
type collector struct {
	agent *Agent

	alarms, resources                        *prometheus.Desc
	sight, restarts, sourceEvents            *prometheus.Desc
	queueDepth, queueCoalesced, queueDropped *prometheus.Desc
	historyAlarms, historyKept, historyLost  *prometheus.Desc
}

func newCollector(a *Agent) *collector {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("paramedic_"+name, help, labels, nil)
	}
	return &collector{
		agent:          a,
		alarms:         desc("alarms", "Standing alarms.", "severity"),
		resources:      desc("resources", "Resources in the topology."),
		sight:          desc("source_sight", "1 for how the source sees: clear, degraded (a right is missing), absent (nothing is there to see), blind, or failed (it is started again).", "source", "sight"),
		restarts:       desc("source_restarts_total", "Times that the source failed and was started again.", "source"),
		sourceEvents:   desc("source_events_total", "What the source has counted since it was configured: its own work and its own troubles.", "source", "kind"),
		queueDepth:     desc("queue_items", "Resources, removals and events that wait for the engine.", "source"),
		queueCoalesced: desc("queue_coalesced_total", "Items that replaced one that still waited.", "source"),
		queueDropped:   desc("queue_dropped_total", "Items dropped because the queue was full.", "source"),
		historyAlarms:  desc("history_alarms", "Alarms that have cleared and are remembered."),
		historyKept:    desc("history_durable", "1 when what became of alarms survives a restart."),
		historyLost:    desc("history_lost_total", "Alarms of which the disk did not take what became of them, and that were forgotten."),
	}
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		c.alarms, c.resources, c.sight, c.restarts, c.sourceEvents, c.queueDepth, c.queueCoalesced, c.queueDropped, c.historyAlarms,
		c.historyKept, c.historyLost,
	} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	counter := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, v, labels...)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	bySeverity := make(map[correlate.Severity]int)
	resources := 0
	err := c.agent.Query(ctx, func(e *correlate.Engine) {
		for _, a := range e.Alarms() {
			bySeverity[a.Severity]++
		}
		resources = e.Len()
	})
	if err == nil { // a loop that does not answer leaves a gap in the curve, which is the truth
		for s := correlate.SeverityIndeterminate; s <= correlate.SeverityCritical; s++ {
			gauge(c.alarms, float64(bySeverity[s]), s.String())
		}
		gauge(c.resources, float64(resources))
	}
	for _, s := range c.agent.supervised() {
		h, restarts, failure := s.condition()
		now, _ := sightOf(h, failure)
		for _, sight := range []string{hw.SightClear.String(), hw.SightDegraded.String(), hw.SightAbsent.String(), hw.SightBlind.String(), sightFailed} {
			is := 0.0
			if sight == now {
				is = 1
			}
			gauge(c.sight, is, s.source.Name(), sight)
		}
		counter(c.restarts, float64(restarts), s.source.Name())
		if counted, ok := s.source.(hw.Counted); ok {
			for kind, n := range counted.Counts() {
				counter(c.sourceEvents, float64(n), s.source.Name(), kind)
			}
		}
	}
	past := c.agent.past.Status()
	gauge(c.historyAlarms, float64(past.Ended))
	durable := 1.0
	if past.Problem != "" {
		durable = 0
	}
	gauge(c.historyKept, durable)
	counter(c.historyLost, float64(past.Lost))
	for _, q := range c.agent.loop.snapshotQueues() {
		depth, coalesced, dropped := q.depth()
		gauge(c.queueDepth, float64(depth), q.source)
		counter(c.queueCoalesced, float64(coalesced), q.source)
		counter(c.queueDropped, float64(dropped), q.source)
	}
}
