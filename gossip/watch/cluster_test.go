package watch

import (
	"cmp"
	"container/heap"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// latency of the test network, one way.
const latency = 200 * time.Microsecond

// spreading is how long it takes until all know of a verdict.
const spreading = 10 * time.Millisecond

// cluster is a few machines on a network in memory, under virtual time.
type cluster struct {
	t       testing.TB
	now     time.Time
	cfg     Config
	nodes   []*node // by name
	events  events
	seq     uint64
	witness bool           // the outside witness is up
	side    map[string]int // in a partition; the witness's is that of ""
	split   bool
	loss    float64 // of packets and echoes, each way; what more of it does is for the simulation to show
	chance  *rand.Rand
	told    []told
	packets map[PacketKind]int
}

type node struct {
	Host
	machine *Machine
	wake    time.Time
	off     bool // no power
	noEcho  bool
	running bool              // the agent
	frozen  time.Time         // the agent, until then
	stalled time.Time         // the kernel and all on it
	blind   map[string]bool   // whom its membership doesn't show
	lost    map[string]uint64 // the term of a verdict that it was told of
}

type told struct {
	at   time.Time
	by   string
	news News
}

type event struct {
	at  time.Time
	seq uint64
	do  func()
}

type events []event

func (e events) Len() int { return len(e) }
func (e events) Less(i, j int) bool {
	return e[i].at.Before(e[j].at) || e[i].at.Equal(e[j].at) && e[i].seq < e[j].seq
}
func (e events) Swap(i, j int) { e[i], e[j] = e[j], e[i] }
func (e *events) Push(x any)   { *e = append(*e, x.(event)) }
func (e *events) Pop() any {
	last := (*e)[len(*e)-1]
	*e = (*e)[:len(*e)-1]
	return last
}

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// newCluster starts n hosts, cmp-1 and so on, in the zones given in turn.
func newCluster(t testing.TB, n int, cfg Config, zones ...string) *cluster {
	c := &cluster{t: t, now: noon, cfg: cfg, witness: true, side: map[string]int{}, packets: map[PacketKind]int{}, chance: rand.New(rand.NewPCG(3, 4))}
	if len(zones) == 0 {
		zones = []string{""}
	}
	for i := range n {
		nd := &node{Host: Host{Name: fmt.Sprintf("cmp-%d", i+1), Zone: zones[i%len(zones)], Term: 2, Member: true, Watched: true}}
		c.nodes = append(c.nodes, nd)
	}
	slices.SortFunc(c.nodes, func(a, b *node) int { return cmp.Compare(a.Name, b.Name) })
	for i, nd := range c.nodes {
		c.boot(nd, uint64(i))
	}
	c.view()
	return c
}

func (c *cluster) boot(nd *node, seed uint64) {
	cfg := c.cfg
	cfg.Self = nd.Name
	nd.machine = New(cfg, rand.New(rand.NewPCG(7, seed)).Uint64, c.now)
	nd.running, nd.off, nd.wake, nd.lost = true, false, time.Time{}, map[string]uint64{}
}

// view tells every machine what the membership knows.
func (c *cluster) view() {
	for _, nd := range c.nodes {
		if nd.running && !nd.off {
			c.carry(nd, nd.machine.Hosts(c.now, c.hostsFor(nd)))
		}
	}
}

func (c *cluster) hostsFor(nd *node) []Host {
	var hosts []Host
	for _, o := range c.nodes {
		h := o.Host
		if nd.blind[h.Name] {
			h.Member = false
		}
		if term, ok := nd.lost[h.Name]; ok {
			h.Lost = h.Term <= term
		}
		hosts = append(hosts, h)
	}
	return hosts
}

func (c *cluster) node(name string) *node {
	for _, nd := range c.nodes {
		if nd.Name == name {
			return nd
		}
	}
	c.t.Fatalf("no host %q", name)
	return nil
}

func (c *cluster) after(d time.Duration, do func()) { c.when(c.now.Add(d), do) }

func (c *cluster) when(at time.Time, do func()) {
	c.seq++
	heap.Push(&c.events, event{at, c.seq, do})
}

func (c *cluster) lost() bool { return c.loss > 0 && c.chance.Float64() < c.loss }

func (c *cluster) connected(a, b string) bool { return !c.split || c.side[a] == c.side[b] }

// carry does what a machine asks for.
func (c *cluster) carry(nd *node, eff Effects) {
	if eff.Wake.IsZero() {
		c.t.Fatalf("%s: no wake", nd.Name)
	}
	nd.wake = eff.Wake
	for _, n := range eff.News {
		c.told = append(c.told, told{c.now, nd.Name, n})
		c.spread(nd, n)
	}
	for _, s := range eff.Send {
		c.packets[s.Packet.Kind]++
		raw := s.Packet.Encode()
		if len(raw) > MaxPacket {
			c.t.Fatalf("a packet of %d bytes", len(raw))
		}
		pkt, err := Decode(raw)
		if err != nil {
			c.t.Fatalf("%+v: %v", s.Packet, err)
		}
		if c.connected(nd.Name, s.To) && !c.lost() {
			c.after(latency, func() { c.arrive(nd, c.node(s.To), pkt) })
		}
	}
	for _, to := range eff.Ping {
		asked := c.now
		if c.connected(nd.Name, to) && !c.lost() {
			c.after(latency, func() { c.echo(nd, c.node(to), asked) })
		}
	}
	if asked := c.now; eff.PingWitness && c.witness && c.connected(nd.Name, "") {
		c.after(2*latency, func() {
			c.whenAwake(nd, func() { c.carry(nd, nd.machine.WitnessEchoed(c.now, asked)) })
		})
	}
}

// spread tells the others of a verdict and of its end, as the shell does.
func (c *cluster) spread(by *node, n News) {
	verdict := n.Kind == NewsVerdict && n.Verdict.Level >= LevelProbable
	if !verdict && n.Kind != NewsHeard {
		return
	}
	for _, nd := range c.nodes {
		if nd.Name == n.Host || !c.connected(by.Name, nd.Name) {
			continue
		}
		c.after(spreading, func() {
			c.whenAwake(nd, func() {
				_, knows := nd.lost[n.Host]
				switch {
				case verdict && !knows:
					nd.lost[n.Host] = n.Verdict.Term
				case !verdict && knows:
					delete(nd.lost, n.Host)
				default:
					return
				}
				c.carry(nd, nd.machine.Hosts(c.now, c.hostsFor(nd)))
			})
		})
	}
}

// whenAwake waits until the agent reads its socket.
func (c *cluster) whenAwake(nd *node, do func()) {
	until := nd.frozen
	if nd.stalled.After(until) {
		until = nd.stalled
	}
	switch {
	case nd.off || !nd.running:
	case until.After(c.now):
		c.when(until, func() { c.whenAwake(nd, do) })
	default:
		do()
	}
}

func (c *cluster) arrive(from, to *node, pkt Packet) {
	switch {
	case to.off:
	case to.stalled.After(c.now):
		c.when(to.stalled, func() { c.arrive(from, to, pkt) })
	case !to.running:
		c.after(latency, func() {
			c.whenAwake(from, func() { c.carry(from, from.machine.Closed(c.now, to.Name)) })
		})
	default:
		c.whenAwake(to, func() { c.carry(to, to.machine.Receive(c.now, from.Name, pkt)) })
	}
}

func (c *cluster) echo(from, to *node, asked time.Time) {
	switch {
	case to.off || to.noEcho:
	case to.stalled.After(c.now):
		c.when(to.stalled, func() { c.echo(from, to, asked) })
	case !c.connected(from.Name, to.Name) || c.lost():
	default:
		c.after(latency, func() {
			c.whenAwake(from, func() { c.carry(from, from.machine.Echoed(c.now, to.Name, asked)) })
		})
	}
}

// run lets time pass. What arrives at an instant is handed in before the ticks of that instant.
func (c *cluster) run(d time.Duration) {
	end := c.now.Add(d)
	for {
		next, due := end, (*node)(nil)
		for _, nd := range c.nodes {
			if nd.off || !nd.running {
				continue
			}
			wake := nd.wake
			for _, until := range []time.Time{nd.frozen, nd.stalled} {
				if until.After(wake) {
					wake = until
				}
			}
			if wake.Before(next) {
				next, due = wake, nd
			}
		}
		switch {
		case len(c.events) > 0 && !c.events[0].at.After(next) && c.events[0].at.Before(end):
			e := heap.Pop(&c.events).(event)
			c.advance(e.at)
			e.do()
		case due != nil:
			c.advance(next)
			c.carry(due, due.machine.Tick(c.now))
		default:
			c.now = end
			return
		}
	}
}

func (c *cluster) advance(to time.Time) {
	if to.After(c.now) {
		c.now = to
	}
}
