package gossip

import (
	"fmt"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Stats are the figures of a peer since its start.
type Stats struct {
	Members   int
	Hosts     int // on the roster
	Health    int // of ourselves as memberlist judges it: 0 is well, up to 7 is slow
	Encrypted bool
	Keys      []string // fingerprints, the primary first
	JoinError string   // of the last attempt to join somebody, empty when it went well

	PacketsIn, PacketsOut uint64 // datagrams
	BytesIn, BytesOut     uint64 // of datagrams and connections together, without IP and TCP headers
	StreamsIn, StreamsOut uint64 // connections

	Dropped  map[string]uint64 // messages, by reason; only reasons that occurred
	Queued   int               // messages that are still to be gossiped
	Waiting  int               // messages that wait for Deliver
	Troubles []Trouble
}

// floodNames are why the transport drops.
var floodNames = []string{"datagram-flood", "connection-refused", "connection-cut"}

// Stats are the figures of this moment.
func (p *Peer) Stats() Stats {
	t := &p.traffic
	s := Stats{
		Members: p.members.count(), Hosts: len(p.roster.list()), Encrypted: p.ring != nil, Keys: p.Keys(),
		PacketsIn: t.packetsIn.Load(), PacketsOut: t.packetsOut.Load(),
		BytesIn: t.bytesIn.Load() + t.streamRx.Load(), BytesOut: t.bytesOut.Load() + t.streamTx.Load(),
		StreamsIn: t.streamsIn.Load(), StreamsOut: t.streamsOut.Load(),
		Dropped: map[string]uint64{}, Queued: p.queue.NumQueued(), Waiting: len(p.inbox.waiting), Troubles: p.troubles.list(),
	}
	if list := p.list.Load(); list != nil {
		s.Health = list.GetHealthScore()
	}
	if err := p.joinError.Load(); err != nil {
		s.JoinError = *err
	}
	for r := range p.drops {
		if n := p.drops[r].Load(); n > 0 {
			s.Dropped[dropNames[r]] = n
		}
	}
	for i, n := range []uint64{t.droppedPackets.Load(), t.droppedStreams.Load(), t.cutStreams.Load()} {
		if n > 0 {
			s.Dropped[floodNames[i]] = n
		}
	}
	return s
}

// register shows the figures; they are read when somebody asks.
func (p *Peer) register() (unregister func(), err error) {
	if p.cfg.Metrics == nil {
		return func() {}, nil
	}
	c := &peerCollector{p}
	if err := p.cfg.Metrics.Register(c); err != nil {
		return nil, fmt.Errorf("register the figures of the gossip: %w", err)
	}
	return func() { p.cfg.Metrics.Unregister(c) }, nil
}

type peerCollector struct{ p *Peer }

var (
	descMembers  = prometheus.NewDesc("paramedic_cluster_members", "Hosts that are there, this one included.", nil, nil)
	descHosts    = prometheus.NewDesc("paramedic_cluster_hosts", "Hosts on the roster.", nil, nil)
	descPackets  = prometheus.NewDesc("paramedic_cluster_datagrams_total", "Datagrams between peers.", []string{"direction"}, nil)
	descBytes    = prometheus.NewDesc("paramedic_cluster_bytes_total", "Payload of datagrams and connections between peers.", []string{"direction"}, nil)
	descStreams  = prometheus.NewDesc("paramedic_cluster_connections_total", "Connections between peers.", []string{"direction"}, nil)
	descDropped  = prometheus.NewDesc("paramedic_cluster_dropped_total", "Messages dropped, by reason; the repair brings back what mattered.", []string{"reason"}, nil)
	descTroubles = prometheus.NewDesc("paramedic_cluster_troubled_peers", "Peers that there was trouble with in the last five minutes, by kind.", []string{"kind"}, nil)
	descTrouble  = prometheus.NewDesc("paramedic_cluster_troubles_total", "What was wrong between us and other agents, by kind.", []string{"kind"}, nil)
	descWaiting  = prometheus.NewDesc("paramedic_cluster_waiting", "Messages that wait, by queue.", []string{"queue"}, nil)
)

// Describe implements prometheus.Collector.
func (c *peerCollector) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(c, ch) }

// Collect implements prometheus.Collector.
func (c *peerCollector) Collect(ch chan<- prometheus.Metric) {
	s := c.p.Stats()
	gauge := func(d *prometheus.Desc, v int, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(v), labels...)
	}
	count := func(d *prometheus.Desc, v uint64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
	}
	gauge(descMembers, s.Members)
	gauge(descHosts, s.Hosts)
	count(descPackets, s.PacketsIn, "in")
	count(descPackets, s.PacketsOut, "out")
	count(descBytes, s.BytesIn, "in")
	count(descBytes, s.BytesOut, "out")
	count(descStreams, s.StreamsIn, "in")
	count(descStreams, s.StreamsOut, "out")
	for _, reason := range slices.Concat(dropNames[:], floodNames) { // each from the first scrape on
		count(descDropped, s.Dropped[reason], reason)
	}
	recent := map[TroubleKind]int{}
	for _, t := range s.Troubles {
		if time.Since(t.Last) < 5*time.Minute {
			recent[t.Kind]++
		}
	}
	ever := c.p.troubles.counts()
	for _, k := range []TroubleKind{TroubleKey, TroubleLabel, TroubleVersion, TroubleDuplicate, TroubleFlood, TroubleMalformed} {
		gauge(descTroubles, recent[k], string(k))
		count(descTrouble, ever[k], string(k))
	}
	gauge(descWaiting, s.Queued, "gossip")
	gauge(descWaiting, s.Waiting, "inbox")
}
