package gossip

import (
	"bytes"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/memberlist"
	"golang.org/x/time/rate"
)

// Bounds on what comes in.
const (
	maxMessage  = 1 << 20 // bytes of one message
	messageRate = 10_000  // messages a second from one node, and as many in a burst: twice what sourceRate lets through of one address
	maxSenders  = 4_096   // nodes that are told apart
	inboxLength = 8_192   // messages that wait to be delivered
	inboxBytes  = 16 << 20
	maxCopies   = 8_192 // messages, twice, whose copies are known
)

// inbox is a bounded queue between memberlist and the one goroutine that delivers. What finds it full is dropped by the
// caller and counted: the repair brings it back.
type inbox struct {
	bytes   atomic.Int64
	waiting chan message
}

type message struct {
	from    string
	payload []byte
}

func newInbox() *inbox { return &inbox{waiting: make(chan message, inboxLength)} }

// put copies the payload. It never blocks; false is full.
func (i *inbox) put(from string, payload []byte) bool {
	n := int64(len(payload))
	if i.bytes.Add(n) > inboxBytes {
		i.bytes.Add(-n)
		return false
	}
	select {
	case i.waiting <- message{from, bytes.Clone(payload)}:
		return true
	default:
		i.bytes.Add(-n)
		return false
	}
}

func (i *inbox) taken(m message) { i.bytes.Add(-int64(len(m.payload))) }

// inbound limits the messages of each node, by the name in the envelope. A name is a claim: whoever has the key can
// make up others. So it takes more to use up another's share than the transport lets through from one address, and what
// is dropped here all the same is brought by the repair under the names of others.
type inbound struct {
	mu     sync.Mutex
	limits map[string]*rate.Limiter
}

func (i *inbound) allow(from string, now time.Time) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	l := i.limits[from]
	if l == nil {
		if len(i.limits) >= maxSenders {
			clear(i.limits)
		}
		l = rate.NewLimiter(messageRate, messageRate)
		i.limits[from] = l
	}
	return l.AllowN(now, 1)
}

// copies remembers which relayed messages were here, the last maxCopies of them at least.
type copies struct {
	mu       sync.Mutex
	now, old map[copyKey]struct{}
}

type copyKey struct {
	from string
	id   uint64
}

// had reports whether it was here before, and remembers it.
func (c *copies) had(from string, id uint64) bool {
	key := copyKey{from, id}
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.now[key]; ok {
		return true
	}
	_, ok := c.old[key]
	if len(c.now) >= maxCopies {
		c.now, c.old = map[copyKey]struct{}{}, c.now
	}
	c.now[key] = struct{}{}
	return ok
}

// membership is our own copy of who is there: memberlist's nodes change under the reader.
type membership struct {
	mu    sync.Mutex
	told  []chan struct{} // capacity 1 each
	nodes map[string]member
	sum   uint64 // exclusive or of all hashes
}

type member struct {
	Member
	node memberlist.Node
	hash uint64
}

func newMembership() *membership {
	return &membership{nodes: map[string]member{}}
}

func (m *membership) put(n *memberlist.Node) Member {
	own := *n
	own.Addr, own.Meta = slices.Clone(n.Addr), slices.Clone(n.Meta)
	id, _ := decodeIdentity(own.Meta) // what we can't read we do without: it is a newer or a mad agent, but there
	one := member{node: own, hash: nodeHash(&own), Member: Member{
		Node: own.Name, Addr: nodeAddr(&own), Zone: id.Zone, API: id.API, Term: id.Term, Boot: id.Boot, Started: id.Started,
		WireMin: own.DMin, WireMax: own.DMax, keys: id.Keys,
	}}
	one.Watch, _ = netip.ParseAddrPort(id.Watch)
	m.mu.Lock()
	if was := m.nodes[own.Name]; was.Boot == one.Boot && was.keys.newer(one.keys) {
		one.keys = was.keys // its own word came first
	}
	m.sum ^= m.nodes[own.Name].hash ^ one.hash
	m.nodes[own.Name] = one
	m.signal()
	m.mu.Unlock()
	return one.Member
}

// took notes a member's own word of what it took of the cluster's keys.
func (m *membership) took(name string, keys mark) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if one, ok := m.nodes[name]; ok && keys.newer(one.keys) {
		one.keys = keys
		m.nodes[name] = one
	}
}

func (m *membership) remove(name string) {
	m.mu.Lock()
	m.sum ^= m.nodes[name].hash
	delete(m.nodes, name)
	m.signal()
	m.mu.Unlock()
}

func (m *membership) signal() {
	for _, c := range m.told {
		select {
		case c <- struct{}{}:
		default:
		}
	}
}

func (m *membership) watch() <-chan struct{} {
	c := make(chan struct{}, 1)
	m.mu.Lock()
	m.told = append(m.told, c)
	m.mu.Unlock()
	return c
}

func (m *membership) hash() uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.sum
}

func (m *membership) count() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.nodes)
}

func (m *membership) get(name string) (memberlist.Node, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	one, ok := m.nodes[name]
	return one.node, ok
}

// others are all but one, in no order.
func (m *membership) others(self string) []memberlist.Node {
	m.mu.Lock()
	defer m.mu.Unlock()
	nodes := make([]memberlist.Node, 0, len(m.nodes))
	for name, one := range m.nodes {
		if name != self {
			nodes = append(nodes, one.node)
		}
	}
	return nodes
}

// list is by name.
func (m *membership) list() []Member {
	m.mu.Lock()
	all := make([]Member, 0, len(m.nodes))
	for one := range maps.Values(m.nodes) {
		all = append(all, one.Member)
	}
	m.mu.Unlock()
	slices.SortFunc(all, func(a, b Member) int { return strings.Compare(a.Node, b.Node) })
	return all
}
