package cluster

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/paramedic-ha/paramedic/gossip"
)

// collector reads the figures when it is scraped. Those of the membership are the peer's own.
type collector struct {
	c                                                  *Cluster
	records, bytes, digests, level, age, asked, served *prometheus.Desc
	written, unwritten, waiting, undecodable, rejected *prometheus.Desc
}

func newCollector(c *Cluster) *collector {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("paramedic_cluster_"+name, help, labels, nil)
	}
	return &collector{
		c:           c,
		records:     desc("records", "Records of all hosts that are held here, deleted ones included."),
		bytes:       desc("record_bytes", "Bytes that the records of all hosts carry."),
		rejected:    desc("rejected_total", "Records of others that were refused, by reason; others: once 256 hosts and reasons were noted, whatever the reason.", "reason"),
		digests:     desc("digests_total", "Exchanges with a peer that were begun here."),
		level:       desc("digests_equal_total", "Digests of peers that were equal to ours."),
		age:         desc("in_sync_timestamp_seconds", "When we were last found level with a peer; 0: never."),
		undecodable: desc("undecodable_total", "Messages of peers that could not be read."),
		asked:       desc("handovers_total", "Deliveries that peers were asked to make for us, by what came of it.", "result"),
		served:      desc("served_total", "Deliveries that were made here for others, by what came of it.", "result"),
		written:     desc("written_total", "Records written for the peers."),
		unwritten:   desc("unwritten_total", "Records that could not be written."),
		waiting:     desc("mailbox_waiting", "Changes of this host that wait to be written."),
	}
}

// Describe implements prometheus.Collector.
func (m *collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		m.records, m.bytes, m.rejected, m.digests, m.level, m.age, m.undecodable, m.asked, m.served, m.written, m.unwritten, m.waiting,
	} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (m *collector) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	counter := func(d *prometheus.Desc, v uint64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
	}
	c := m.c
	if st := c.replica.Load(); st != nil {
		gauge(m.records, float64(st.Records))
		gauge(m.bytes, float64(st.Bytes))
		byReason := make(map[gossip.Reason]uint64)
		for _, r := range st.Rejected {
			byReason[r.Reason] += r.Count
		}
		for _, reason := range gossip.Reasons() { // each from the first scrape on
			counter(m.rejected, byReason[reason], reason.String())
		}
		counter(m.rejected, st.RejectedElse, "others")
	}
	s := c.repl.Stats()
	counter(m.digests, s.Digests)
	counter(m.level, s.InSync)
	counter(m.undecodable, s.Undecodable)
	at := 0.0
	if !s.LastInSync.IsZero() {
		at = float64(s.LastInSync.UnixMilli()) / 1000
	}
	gauge(m.age, at)
	n := &c.relay.counts
	counter(m.asked, n.answered.Load(), "answered")
	counter(m.asked, n.refused.Load(), "refused")
	counter(m.asked, n.silent.Load(), "silent")
	counter(m.served, n.served.Load(), "made")
	counter(m.served, n.settled.Load(), "settled before")
	counter(m.served, n.busy.Load(), "too many")
	counter(m.written, c.written.Load())
	counter(m.unwritten, c.failed.Load())
	gauge(m.waiting, float64(c.box.depth()))
}
