// Package simnet runs replicas of package gossip on a network that exists in memory: virtual time, one seed, and every
// fault a network has. The same seed gives the same run. It is for tests: of the replica itself, and of the simulation of
// whole agents.
package simnet

import (
	"container/heap"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/paramedic-ha/paramedic/gossip"
)

// Datagram is the longest message, in bytes, that goes as a datagram. Longer ones go over a stream, as in gossip.Peer: they
// are not lost while both ends live and are connected, but late.
const Datagram = 1300

// Link is how the network treats what is on its way.
type Link struct {
	Delay, Jitter time.Duration // one way: Delay plus up to Jitter, drawn for each message, so that they overtake each other
	Loss          float64       // of datagrams, 0 to 1; on a stream each loss costs a retransmission of 200 ms
	Duplicate     float64       // of datagrams
}

// LAN is a network as it should be.
var LAN = Link{Delay: 200 * time.Microsecond, Jitter: 300 * time.Microsecond}

// Periods of a node: those of gossip.Peer.
const (
	ExchangeEvery = time.Second
	ExchangeAgain = 200 * time.Millisecond // after a repair that changed something: there may be more

	// AskTermFor is how long a host without a term waits to be in sync with a peer, before it takes what it has seen. If
	// that was too low it is told, and takes a higher one.
	AskTermFor = 5 * time.Second
)

// Net is the network, its nodes, and the clock.
type Net struct {
	Link Link

	now    time.Time
	rand   *rand.Rand
	events eventQueue
	order  uint64
	nodes  []*Node
	side   map[string]int // of a partition; all zero when whole
}

// Node is a host with its agent. What it says of itself is in Truth, which survives a crash of the agent and the host, and
// not its reimaging.
type Node struct {
	Name    string
	Replica *gossip.Replica // nil while it is down
	Skew    time.Duration   // of its clock
	Truth   map[gossip.Key]string

	// Receive takes what comes to a node that was attached: whoever sets it drives a replica of his own behind it. Nil: it is
	// down.
	Receive func(from *Node, message []byte)

	// OnResult, when set, sees each result of its replica before the replies leave.
	OnResult func(gossip.Result)

	Sent     int // bytes
	Messages int
	Errors   int // messages that could not be read

	net   *Net
	life  int
	term  uint64 // on disk
	again bool   // an early exchange is planned
}

type event struct {
	at    time.Time
	order uint64
	do    func()
}

type eventQueue []event

func (q eventQueue) Len() int { return len(q) }
func (q eventQueue) Less(i, j int) bool {
	if !q[i].at.Equal(q[j].at) {
		return q[i].at.Before(q[j].at)
	}
	return q[i].order < q[j].order
}
func (q eventQueue) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *eventQueue) Push(x any)   { *q = append(*q, x.(event)) }
func (q *eventQueue) Pop() any {
	last := len(*q) - 1
	e := (*q)[last]
	(*q)[last] = event{}
	*q = (*q)[:last]
	return e
}

// New makes an empty network. Nodes is then filled with Add.
func New(seed uint64, link Link) *Net {
	return &Net{
		Link: link, now: time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC),
		rand: rand.New(rand.NewPCG(seed, 0x70617261)), side: map[string]int{},
	}
}

// Now is the virtual time.
func (n *Net) Now() time.Time { return n.now }

// Rand is the source of all chance in this network: draw from it what the test needs, so that one seed is the whole story.
func (n *Net) Rand() *rand.Rand { return n.rand }

// Nodes are all nodes, in the order of Add.
func (n *Net) Nodes() []*Node { return n.nodes }

// Live are the nodes that are not down.
func (n *Net) Live() []*Node {
	return slices.DeleteFunc(slices.Clone(n.nodes), func(x *Node) bool { return x.Replica == nil })
}

// Add makes a node and starts it under term 2.
func (n *Net) Add(name string) (*Node, error) {
	x := &Node{Name: name, Truth: map[gossip.Key]string{}, net: n}
	n.nodes = append(n.nodes, x)
	return x, x.Start()
}

// Attach makes a node without a replica, which is down until its Receive is set.
func (n *Net) Attach(name string) *Node {
	x := &Node{Name: name, net: n}
	n.nodes = append(n.nodes, x)
	return x
}

// After calls do in the virtual future.
func (n *Net) After(d time.Duration, do func()) {
	n.order++
	heap.Push(&n.events, event{n.now.Add(d), n.order, do})
}

// Run lets time pass.
func (n *Net) Run(d time.Duration) {
	end := n.now.Add(d)
	for len(n.events) > 0 && !n.events[0].at.After(end) {
		e := heap.Pop(&n.events).(event)
		n.now = e.at
		e.do()
	}
	n.now = end
}

// RunUntil lets time pass in steps until the condition holds, at most for limit, and returns how long it took. It is false
// when the condition never held.
func (n *Net) RunUntil(step, limit time.Duration, holds func() bool) (time.Duration, bool) {
	start := n.now
	for !holds() {
		if n.now.Sub(start) >= limit {
			return n.now.Sub(start), false
		}
		n.Run(step)
	}
	return n.now.Sub(start), true
}

// Partition puts each node on the side that the function says; sides do not reach each other.
func (n *Net) Partition(side func(*Node) int) {
	for _, x := range n.nodes {
		n.side[x.Name] = side(x)
	}
}

// Connected says that no partition is between two nodes.
func (n *Net) Connected(a, b *Node) bool { return n.side[a.Name] == n.side[b.Name] }

// Heal joins all sides. What was on its way between them is lost all the same.
func (n *Net) Heal() { clear(n.side) }

// Converged says that all live nodes hold the same.
func (n *Net) Converged() bool {
	var first *Node
	for _, x := range n.nodes {
		switch {
		case x.Replica == nil:
		case first == nil:
			first = x
		case x.Replica.Root() != first.Replica.Root():
			return false
		}
	}
	return true
}

// send carries a message. It draws the same numbers whatever becomes of it.
func (n *Net) send(from, to *Node, message []byte) {
	from.Sent += len(message)
	from.Messages++
	lost := n.rand.Float64() < n.Link.Loss
	twice := n.rand.Float64() < n.Link.Duplicate
	delay := n.delay()
	if !n.Connected(from, to) || to.down() {
		return
	}
	life := to.life
	deliver := func() {
		if to.life == life && !to.down() && n.Connected(from, to) {
			to.receive(from, slices.Clone(message))
		}
	}
	if len(message) > Datagram {
		if lost {
			delay += 200 * time.Millisecond
		}
		n.After(3*delay, deliver) // a handshake comes first
		return
	}
	if lost {
		return
	}
	n.After(delay, deliver)
	if twice {
		n.After(delay+n.delay(), deliver)
	}
}

func (n *Net) delay() time.Duration {
	if n.Link.Jitter <= 0 {
		return n.Link.Delay
	}
	return n.Link.Delay + time.Duration(n.rand.Int64N(int64(n.Link.Jitter)))
}

// Now is the time as the node's own clock tells it.
func (x *Node) Now() time.Time { return x.net.now.Add(x.Skew) }

// Crash ends the agent at once, with all that its replica held.
func (x *Node) Crash() {
	x.Replica, x.Receive = nil, nil
	x.life++
}

func (x *Node) down() bool { return x.Replica == nil && x.Receive == nil }

// Start starts the agent under the next even term above the one on disk; without one it asks its peers for it and says
// nothing of itself before.
func (x *Node) Start() error {
	if x.Replica != nil {
		return fmt.Errorf("node %s: it runs already", x.Name)
	}
	x.life++
	x.again = false
	if x.term > 0 || x.life == 1 {
		x.term += 2
	}
	r, err := gossip.New(gossip.Config{Self: x.Name, Term: x.term})
	if err != nil {
		return err
	}
	x.Replica = r
	if x.term != 0 {
		if err := x.restate(); err != nil {
			return err
		}
	}
	life := x.life
	x.net.After(AskTermFor, func() {
		if x.life == life && x.Replica.Term() == 0 {
			x.takeTerm(x.Replica.SeenTerm())
		}
	})
	var tick func()
	tick = func() {
		if x.life != life {
			return
		}
		x.took(x.Replica.Tick(x.Now()))
		x.exchange()
		x.net.After(ExchangeEvery, tick)
	}
	x.net.After(time.Duration(x.net.rand.Int64N(int64(ExchangeEvery))), tick)
	return nil
}

// Reimage crashes the node and takes its disk: its term and what it knew of itself.
func (x *Node) Reimage() {
	x.Crash()
	x.term = 0
	clear(x.Truth)
}

// Set makes something true of this node, and tells.
func (x *Node) Set(kind gossip.Kind, id, payload string) error {
	x.Truth[gossip.Key{Space: x.Name, Kind: kind, ID: id}] = payload
	if x.Replica == nil || x.Replica.Term() == 0 {
		return nil
	}
	rec, changed, err := x.Replica.Set(x.Now(), kind, id, []byte(payload))
	x.pushed(rec, changed)
	return err
}

// Delete ends what was true of this node, and tells.
func (x *Node) Delete(kind gossip.Kind, id string) error {
	delete(x.Truth, gossip.Key{Space: x.Name, Kind: kind, ID: id})
	if x.Replica == nil || x.Replica.Term() == 0 {
		return nil
	}
	rec, changed, err := x.Replica.Delete(x.Now(), kind, id)
	x.pushed(rec, changed)
	return err
}

// SetShared writes a shared record at this node, and tells.
func (x *Node) SetShared(kind gossip.Kind, id, payload string) error {
	rec, changed, err := x.Replica.SetShared(x.Now(), kind, id, []byte(payload))
	x.pushed(rec, changed)
	return err
}

// DeleteShared deletes one.
func (x *Node) DeleteShared(kind gossip.Kind, id string) error {
	rec, changed, err := x.Replica.DeleteShared(x.Now(), kind, id)
	x.pushed(rec, changed)
	return err
}

// Send hands a message of any content to another node, as a broken or hostile one would.
func (x *Node) Send(to *Node, message []byte) { x.net.send(x, to, message) }

func (x *Node) pushed(rec gossip.Record, changed bool) {
	if changed {
		x.push([]gossip.Record{rec})
	}
}

// push tells all others directly. What gets lost the repair brings.
func (x *Node) push(records []gossip.Record) {
	if len(records) == 0 {
		return
	}
	for _, m := range gossip.EncodeRecords(records, Datagram) {
		for _, to := range x.net.nodes {
			if to != x {
				x.net.send(x, to, m)
			}
		}
	}
}

// exchange begins a repair with a random other node; it may be one that is down.
func (x *Node) exchange() {
	if len(x.net.nodes) < 2 {
		return
	}
	to := x.net.nodes[x.net.rand.IntN(len(x.net.nodes))]
	for to == x {
		to = x.net.nodes[x.net.rand.IntN(len(x.net.nodes))]
	}
	x.net.send(x, to, x.Replica.Digest(x.Now()))
}

func (x *Node) receive(from *Node, message []byte) {
	if x.Receive != nil {
		x.Receive(from, message)
		return
	}
	res, err := x.Replica.Handle(x.Now(), from.Name, message)
	if err != nil {
		x.Errors++
		return
	}
	if x.OnResult != nil {
		x.OnResult(res)
	}
	for _, reply := range res.Replies {
		x.net.send(x, from, reply)
	}
	if res.Repair && len(res.Changed) > 0 && !x.again {
		x.again = true
		life := x.life
		x.net.After(ExchangeAgain, func() {
			if x.life == life {
				x.again = false
				x.exchange()
			}
		})
	}
	switch {
	case x.Replica.Term() == 0:
		if res.InSync {
			x.takeTerm(x.Replica.SeenTerm())
		}
	case res.OwnTerm != 0:
		x.takeTerm(res.OwnTerm)
	}
}

// takeTerm takes the next even term above one, durably, and says again under it what is true.
func (x *Node) takeTerm(above uint64) {
	x.term = above + 2 - above%2
	res, err := x.Replica.SetTerm(x.Now(), x.term)
	if err != nil {
		panic(err) // the arithmetic above is wrong
	}
	x.push(res.Changed)
	if err := x.restate(); err != nil {
		panic(err)
	}
}

func (x *Node) restate() error {
	keys := make([]gossip.Key, 0, len(x.Truth))
	for k := range x.Truth {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, func(a, b gossip.Key) int {
		if a.Kind != b.Kind {
			return int(a.Kind) - int(b.Kind)
		}
		if a.ID < b.ID {
			return -1
		}
		return 1
	})
	var records []gossip.Record
	for _, k := range keys {
		rec, changed, err := x.Replica.Set(x.Now(), k.Kind, k.ID, []byte(x.Truth[k]))
		if err != nil {
			return err
		}
		if changed {
			records = append(records, rec)
		}
	}
	x.push(records)
	x.Replica.Restated(x.Now())
	return nil
}

func (x *Node) took(res gossip.Result) {
	if x.OnResult != nil {
		x.OnResult(res)
	}
	x.push(res.Changed)
}
