package cluster

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/paramedic-ha/paramedic/gossip/lookout"
	"github.com/paramedic-ha/paramedic/gossip/watch"
)

// watchCollector reads the figures of the watch for lost hosts when it is scraped. There are none before its sockets are open.
type watchCollector struct {
	c                                             *Cluster
	packets, refused, failed, echoes              *prometheus.Desc
	isolated, blind, echo, observed, noEcho       *prometheus.Desc
	late, latest                                  *prometheus.Desc
	verdicts, falseAlarms, accused, speaks, turns *prometheus.Desc
	claims, dropped                               *prometheus.Desc
}

func newWatchCollector(c *Cluster) *watchCollector {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("paramedic_watch_"+name, help, labels, nil)
	}
	return &watchCollector{
		c:           c,
		packets:     desc("packets_total", "Frames that this host sent and received.", "direction"),
		refused:     desc("refused_total", "Frames that were received and refused.", "reason"),
		failed:      desc("unsent_total", "Frames and echoes that could not be sent.", "reason"),
		echoes:      desc("echoes_total", "Echoes that kernels were asked for, and what came of it.", "event"),
		isolated:    desc("isolated", "1: this host reaches half of the hosts or less, and accuses nobody."),
		blind:       desc("blind", "1: the agent of no other host was ever heard."),
		echo:        desc("echo", "1 for the way in which kernels are asked for echoes; none makes every deadline the longer one.", "kind"),
		observed:    desc("observed", "Hosts that this one watches."),
		noEcho:      desc("no_echo", "Hosts whose kernels answer no echoes, which get the longer deadline."),
		late:        desc("late_total", "Wake-ups of the watch more than 30 ms after their time."),
		latest:      desc("worst_late_seconds", "By how much the latest of them came late, since the start."),
		verdicts:    desc("verdicts_total", "Verdicts about other hosts that came to this one.", "level"),
		falseAlarms: desc("false_alarms_total", "Hosts that this one watched and that were heard again before their loss was confirmed."),
		accused:     desc("accused_total", "Times that others took this host for lost."),
		speaks:      desc("speaks", "Hosts for which this one speaks."),
		turns:       desc("turns_total", "Times that this host began to speak for others or said more of them, and that it ended that.", "turn"),
		claims:      desc("claims_total", "Claims to speak that were sent."),
		dropped:     desc("dropped_total", "Words of peers that came too fast."),
	}
}

// Describe implements prometheus.Collector.
func (m *watchCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		m.packets, m.refused, m.failed, m.echoes, m.isolated, m.blind, m.echo, m.observed, m.noEcho, m.late, m.latest, m.verdicts,
		m.falseAlarms, m.accused, m.speaks, m.turns, m.claims, m.dropped,
	} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (m *watchCollector) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	counter := func(d *prometheus.Desc, v uint64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
	}
	s := m.c.watchStatus()
	if s == nil {
		return
	}
	n := &s.Counters
	counter(m.packets, n.Sent, "sent")
	counter(m.packets, n.Received, "received")
	for reason, count := range n.Refused() {
		counter(m.refused, count, reason)
	}
	counter(m.failed, n.SendErrors, "error")
	counter(m.failed, n.Unsent, "no address")
	counter(m.failed, n.EchoesHeldBack, "echoes held back")
	counter(m.echoes, n.EchoesSent, "sent")
	counter(m.echoes, n.EchoReplies, "answered")
	counter(m.echoes, n.EchoesForeign, "foreign")
	counter(m.echoes, n.Closed, "port closed")
	gauge(m.isolated, oneIf(s.Isolated))
	gauge(m.blind, oneIf(s.Blind))
	for _, kind := range []lookout.EchoKind{lookout.EchoRaw, lookout.EchoPing, lookout.EchoNone} {
		gauge(m.echo, oneIf(kind == s.Echo), string(kind))
	}
	gauge(m.observed, float64(len(s.Observed)))
	gauge(m.noEcho, float64(len(s.NoEcho)))
	counter(m.late, n.Late)
	gauge(m.latest, n.Latest.Seconds())
	for level := watch.LevelSilent; level <= watch.LevelConfirmed; level++ {
		counter(m.verdicts, s.Counts.Verdicts[level], level.String())
	}
	counter(m.falseAlarms, s.Counts.FalseAlarms)
	counter(m.accused, s.Counts.Accused)
	gauge(m.speaks, float64(len(s.SpeaksFor)))
	counter(m.turns, s.Counts.Spoke, "spoke")
	counter(m.turns, s.Counts.Hushed, "hushed")
	counter(m.claims, s.Counts.Claims)
	counter(m.dropped, s.Counts.Dropped)
}

func oneIf(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
