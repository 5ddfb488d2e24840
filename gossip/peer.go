package gossip

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/memberlist"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
	"golang.org/x/time/rate"
)

// DefaultPort of the gossip, UDP and TCP.
const DefaultPort = 7946

// The versions of what the delegates say to each other: agents whose ranges don't meet refuse each other.
const (
	wireMin = 1
	wireMax = 1
	wireNow = 1
)

type wireVersions struct{ min, max, now uint8 }

// PeerConfig is what a peer must know.
type PeerConfig struct {
	Node string // name of this host, unique in the cluster
	Zone string
	API  string // address of our API for the others; may be empty
	Term uint64 // see SetTerm

	Bind      string   // address:port to listen on, UDP and TCP; the port may be left out
	Advertise string   // address[:port] that the others are told, when it is not Bind
	Join      []string // hosts to find the cluster by: names or addresses, with :port if it is not DefaultPort
	Label     string   // of the cluster: agents with another one are refused

	Keys     Keyring // as LoadKeyring gives it
	Insecure bool    // go without keys
	Dir      string  // where the roster and the keyring are kept; empty: nowhere

	Log     *slog.Logger
	Metrics prometheus.Registerer // may be nil

	// Deliver gets each message, from one goroutine, which it may block: then up to 8192 messages or 16 MiB wait, and the
	// rest is dropped and counted. The name of the sender is what the message says; only a holder of the key can lie.
	// The message belongs to the callee.
	Deliver func(from string, msg []byte)

	wrap      func(memberlist.NodeAwareTransport) memberlist.NodeAwareTransport // a test's bad network
	wire      wireVersions                                                      // a test's other version
	resolver  *net.Resolver                                                     // a test's name server
	advertise netip.AddrPort                                                    // Advertise, once parsed
	addr      netip.AddrPort                                                    // of Bind, once parsed
}

// Member is a host that is there at this moment, ourselves included.
type Member struct {
	Node             string
	Addr             netip.AddrPort
	Zone             string
	API              string
	Watch            netip.AddrPort // where it is watched; zero: nowhere
	Term             uint64
	Boot             [16]byte  // of this run of its agent
	Started          time.Time // by its own clock
	WireMin, WireMax uint8

	keys mark // of what it took of the cluster's keys
}

type heardKeys struct {
	from   string
	agreed agreement
}

// Peer is this host among its peers: membership, and messages to the others. Its methods are safe from any goroutine;
// before Run and after it they find nobody.
type Peer struct {
	cfg      PeerConfig
	ring     *memberlist.Keyring // nil: not encrypted
	roster   *roster
	queue    memberlist.TransmitLimitedQueue
	datagram int // the longest envelope that goes into one

	keyLock sync.Mutex  // taken before any other
	file    []CipherKey // what the key file says
	agreed  agreement
	heard   chan heardKeys

	mu   sync.Mutex // never held while calling memberlist
	self identity

	list      atomic.Pointer[memberlist.Memberlist] // while Run runs
	transport atomic.Pointer[transport]
	wire      wireVersions
	helpers   sync.WaitGroup // short goroutines of the search
	members   *membership
	links     *links
	inbox     *inbox
	inbound   inbound
	copies    copies
	counter   atomic.Uint64 // of envelopes
	drops     [dropReasons]atomic.Uint64
	traffic   traffic

	troubles    *troubles
	lines       chan slog.Record
	contests    chan netip.AddrPort // agents that have our name and outrank us
	differences chan netip.AddrPort // members that know of others than we do
	differing   atomic.Int32
	announce    chan struct{} // what we say of ourselves has changed
	ready       chan struct{}
	started     atomic.Bool
	joinError   atomic.Pointer[string]
}

// Reasons to drop a message.
type dropReason int

const (
	dropInbox dropReason = iota
	dropFlood
	dropMalformed
	dropOversize
	dropOwn
	dropLink
	dropReplayed
	dropReasons
)

var dropNames = [dropReasons]string{"inbox-full", "flood", "malformed", "oversize", "own-name", "link-full", "replayed"}

func (p *Peer) drop(r dropReason) { p.drops[r].Add(1) }

// gossipMult times the digits of the number of members is how often each agent passes a message on. The direct push
// has reached most; what this leaves out the repair finds within seconds.
const gossipMult = 2

const (
	maxQueue     = 128              // messages that wait to be gossiped, about 20 go a second; the most often sent is dropped
	settledAfter = 30 * time.Second // then we are a member that a newcomer of the same name can't push out
	leaveTimeout = 500 * time.Millisecond
)

// NewPeer checks the configuration and reads what is in Dir. It opens nothing and starts nothing.
func NewPeer(cfg PeerConfig) (*Peer, error) {
	var err error
	if err := checkName(cfg.Node); err != nil {
		return nil, err
	}
	if len(cfg.Zone) > maxText || len(cfg.API) > maxText {
		return nil, fmt.Errorf("zone and address of the API may have %d bytes each", maxText)
	}
	if len(cfg.Label) > memberlist.LabelMaxSize {
		return nil, fmt.Errorf("cluster.label is %d bytes long, more than %d", len(cfg.Label), memberlist.LabelMaxSize)
	}
	if cfg.addr, err = ParseAddr(cfg.Bind); err != nil {
		return nil, fmt.Errorf("cluster.bind: %w", err)
	}
	if cfg.Advertise != "" {
		if cfg.advertise, err = ParseAddr(cfg.Advertise); err != nil {
			return nil, fmt.Errorf("cluster.advertise: %w", err)
		}
		if cfg.advertise.Addr().IsUnspecified() || cfg.advertise.Addr().IsMulticast() {
			return nil, fmt.Errorf("cluster.advertise: no peer can reach us at %s", cfg.advertise.Addr())
		}
	}
	for _, j := range cfg.Join {
		if _, _, err := splitSeed(j); err != nil {
			return nil, fmt.Errorf("cluster.join: %w", err)
		}
	}
	if cfg.Log == nil || cfg.Deliver == nil {
		return nil, errors.New("a peer needs Log and Deliver")
	}
	p := &Peer{
		cfg: cfg,
		// A new number space for each run, so that nobody takes our messages for copies of a former life's.
		members: newMembership(), inbox: newInbox(), inbound: inbound{limits: map[string]*rate.Limiter{}},
		copies:   copies{now: map[copyKey]struct{}{}},
		heard:    make(chan heardKeys, 4),
		lines:    make(chan slog.Record, 256),
		contests: make(chan netip.AddrPort, 1), differences: make(chan netip.AddrPort, 1),
		announce: make(chan struct{}, 1), ready: make(chan struct{}),
		wire: cfg.wire,
		self: identity{Started: time.Now(), Term: cfg.Term, Zone: cfg.Zone, API: cfg.API},
	}
	if p.wire == (wireVersions{}) {
		p.wire = wireVersions{wireMin, wireMax, wireNow}
	}
	_, _ = rand.Read(p.self.Boot[:]) // never fails, see crypto/rand
	p.counter.Store(binary.BigEndian.Uint64(p.self.Boot[:]))
	p.troubles = newTroubles(p.lines)
	p.links = newLinks(p)
	p.queue = memberlist.TransmitLimitedQueue{RetransmitMult: gossipMult, NumNodes: p.members.count}
	if p.roster, err = loadRoster(cfg.Dir); err != nil {
		var damaged *damagedError
		if !errors.As(err, &damaged) {
			return nil, err
		}
		cfg.Log.Error("the roster was damaged", "error", err)
	}
	// Of 1 400 bytes: header of a compound, its entry, user message, checksum, label, encryption.
	p.datagram = 1400 - 2 - 2 - 1 - 5
	if cfg.Label != "" {
		p.datagram -= 2 + len(cfg.Label)
	}
	switch {
	case len(cfg.Keys.Keys) > maxKeys:
		return nil, fmt.Errorf("%d gossip keys are more than %d", len(cfg.Keys.Keys), maxKeys)
	case len(cfg.Keys.Keys) > 0:
		p.datagram -= 29 // version, nonce, tag
		raw := make([][]byte, len(cfg.Keys.Keys))
		for i, k := range cfg.Keys.Keys {
			raw[i] = append([]byte(nil), k...)
		}
		if p.ring, err = memberlist.NewKeyring(raw, raw[0]); err != nil {
			return nil, fmt.Errorf("gossip keys: %w", err)
		}
		if p.file = cfg.Keys.File; p.file == nil {
			p.file = cfg.Keys.Keys
		}
		p.agreed = cfg.Keys.agreed.clone()
		p.self.Keys = p.agreed.mark()
	case !cfg.Insecure:
		return nil, errors.New(`the cluster has no key: "paramedic keygen --gossip" makes one, cluster.key_file names it, the same on all hosts; or say cluster.insecure: true`)
	}
	return p, nil
}

// ParseAddr reads address[:port]; the port is DefaultPort unless written.
func ParseAddr(text string) (netip.AddrPort, error) {
	if addr, err := netip.ParseAddr(text); err == nil {
		return netip.AddrPortFrom(addr, DefaultPort), nil
	}
	addr, err := netip.ParseAddrPort(text)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("%q is not an address[:port]", text)
	}
	return addr, nil
}

// Run opens the sockets, finds the others and stays with them until ctx ends; then it says goodbye. It returns nil at
// the end of ctx, and an error when it can't listen or when another agent has our name. Call it once.
func (p *Peer) Run(ctx context.Context) error {
	if p.started.Swap(true) {
		return errors.New("this peer has run already")
	}
	if err := p.forgetOldKeyring(); err != nil {
		return err
	}
	t, err := newTransport(p.cfg.addr, p.cfg.advertise, p.ring != nil, &p.traffic, p.troubles.note, p.cfg.Log)
	if err != nil {
		return err
	}
	p.transport.Store(t)
	p.mu.Lock()
	p.cfg.addr = t.advertise
	p.mu.Unlock()
	unregister, err := p.register()
	if err != nil {
		return errors.Join(err, t.Shutdown())
	}
	defer unregister()

	list, err := memberlist.Create(p.library(t))
	if err != nil {
		return errors.Join(fmt.Errorf("start the gossip: %w", err), t.Shutdown())
	}
	p.list.Store(list)
	group, inner := errgroup.WithContext(ctx)
	group.Go(func() error { p.deliver(inner); return nil })
	group.Go(func() error { return p.watch(inner, list) })
	err = group.Wait()

	if err == nil && !errors.Is(context.Cause(ctx), errAbandon) {
		if e := list.Leave(leaveTimeout); e != nil {
			p.cfg.Log.Info("nobody heard our goodbye", "error", e)
		}
	}
	p.list.Store(nil)
	err = errors.Join(err, list.Shutdown())
	p.links.wait()
	p.helpers.Wait()
	p.logLines()
	p.roster.seen(p.members.list(), time.Now())
	return errors.Join(err, p.roster.save(true))
}

// errAbandon as the cause of the end: no goodbye, as if the host had died.
var errAbandon = errors.New("abandoned")

// library is memberlist's configuration. The periods are HOSTLOSS's: it is the membership, not the watch.
func (p *Peer) library(t *transport) *memberlist.Config {
	c := memberlist.DefaultLANConfig()
	c.Name = p.cfg.Node
	c.Label = p.cfg.Label
	c.Transport = t
	if p.cfg.wrap != nil {
		c.Transport = p.cfg.wrap(t)
	}
	c.BindPort, c.AdvertisePort = int(t.advertise.Port()), int(t.advertise.Port())
	c.ProbeInterval, c.ProbeTimeout = time.Second, 400*time.Millisecond
	c.SuspicionMult, c.AwarenessMaxMultiplier = 4, 8
	c.GossipInterval, c.GossipNodes = 50*time.Millisecond, 4
	// All states to all would grow with the square of the members. Instead each probe's answer carries a hash over the
	// members, and who differs asks for the states (differences), as who is missing is asked to join (join.go).
	c.PushPullInterval = 0
	c.TCPTimeout = streamLimit
	c.DeadNodeReclaimTime = time.Second // a host that comes back elsewhere, once it is known to be gone
	c.EnableCompression = false         // 64 KiB of work memory for each datagram, for little
	c.Keyring = p.ring
	c.DelegateProtocolMin, c.DelegateProtocolMax, c.DelegateProtocolVersion = p.wire.min, p.wire.max, p.wire.now
	d := delegate{p}
	c.Delegate, c.Events, c.Conflict, c.Merge, c.Ping, c.Alive = d, d, d, d, d, d
	c.LogOutput = nil
	c.Logger = slog.NewLogLogger(&libraryLog{
		troubles: p.troubles, label: p.cfg.Label, out: p.lines, limit: rate.NewLimiter(5, 20), min: enabledFrom(p.cfg.Log),
	}, slog.LevelDebug)
	return c
}

func enabledFrom(log *slog.Logger) slog.Level {
	for _, level := range []slog.Level{slog.LevelDebug, slog.LevelInfo} {
		if log.Enabled(context.Background(), level) {
			return level
		}
	}
	return slog.LevelWarn
}

// deliver is the goroutine that Deliver runs on.
func (p *Peer) deliver(ctx context.Context) {
	for {
		select {
		case m := <-p.inbox.waiting:
			p.inbox.taken(m)
			p.cfg.Deliver(m.from, m.payload)
		case <-ctx.Done():
			return
		}
	}
}

// Ready is closed when the first attempt to find the others has ended, well or not.
func (p *Peer) Ready() <-chan struct{} { return p.ready }

// Addr is what the others are told; before Run it is Bind.
func (p *Peer) Addr() netip.AddrPort {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.cfg.addr
}

func (p *Peer) isSelf(addr netip.AddrPort) bool { return p.Addr() == addr }

// Members are the hosts that are there, ourselves included, by name.
func (p *Peer) Members() []Member { return p.members.list() }

// Changes gives a new channel on which something can be read when Members may have changed since the last read: a level,
// not a list of events. It is fed for the life of the peer.
func (p *Peer) Changes() <-chan struct{} { return p.members.watch() }

// Datagram is the longest message that Send and Broadcast put into one datagram, in bytes. Longer ones, up to 1 MiB, go
// over a connection.
func (p *Peer) Datagram() int { return p.datagram - envelopeFixed - len(p.cfg.Node) }

// ErrUnknownNode says that a node is not a member now.
var ErrUnknownNode = errors.New("no such member")

var errTooLong = fmt.Errorf("message is longer than %d bytes", maxMessage)

// Send passes a message to one member: in a datagram that may be lost, or, when it is too long, over a connection,
// in the order of the calls. It does not wait for either. What a connection does not carry is counted (link-full when
// more waits than 256 messages or 4 MiB for the node).
func (p *Peer) Send(node string, msg []byte) error {
	to, ok := p.members.get(node)
	list := p.list.Load()
	if !ok || list == nil || node == p.cfg.Node {
		return fmt.Errorf("send to %s: %w", node, ErrUnknownNode)
	}
	b := envelope{from: p.cfg.Node, id: p.counter.Add(1), payload: msg}.encode()
	switch {
	case len(b) > maxMessage:
		return fmt.Errorf("send to %s: %w", node, errTooLong)
	case len(b) > p.datagram:
		p.links.send(to, b)
		return nil
	}
	if err := list.SendBestEffort(&to, b); err != nil {
		return fmt.Errorf("send to %s: %w", node, err)
	}
	return nil
}

// Broadcast passes a message to all members: at once to each, and behind that by gossip, so that a lost datagram does
// not matter. A message too long for a datagram goes to each over a connection. Nobody waits for anything. An error is
// about the message, not about who got it.
func (p *Peer) Broadcast(msg []byte) error {
	list := p.list.Load()
	if list == nil {
		return nil // nobody there
	}
	e := envelope{relay: true, from: p.cfg.Node, id: p.counter.Add(1), payload: msg}
	b := e.encode()
	if len(b) > maxMessage {
		return fmt.Errorf("broadcast: %w", errTooLong)
	}
	others := p.members.others(p.cfg.Node)
	if len(b) > p.datagram {
		for _, to := range others {
			p.links.send(to, b)
		}
		return nil
	}
	if len(others) == 0 {
		return nil
	}
	p.copies.had(e.from, e.id)
	for i := range others {
		_ = list.SendBestEffort(&others[i], b) // the gossip and the repair stand behind it
	}
	p.gossip(b)
	return nil
}

func (p *Peer) gossip(b []byte) {
	p.queue.QueueBroadcast(relayed(b))
	p.queue.Prune(maxQueue)
}

// relayed is a message in the queue of the gossip.
type relayed []byte

var _ memberlist.UniqueBroadcast = relayed(nil)

// Invalidates is never so: what a newer message makes void the replica knows.
func (relayed) Invalidates(memberlist.Broadcast) bool { return false }

// Message is the envelope.
func (r relayed) Message() []byte { return r }

// Finished tells nobody.
func (relayed) Finished() {}

// UniqueBroadcast spares the queue to look for another of its kind.
func (relayed) UniqueBroadcast() {}

// SetTerm tells the others our term.
func (p *Peer) SetTerm(term uint64) {
	p.say(func(i *identity) { i.Term = term })
}

// SetWatch tells the others where we are watched.
func (p *Peer) SetWatch(addr netip.AddrPort) {
	p.say(func(i *identity) { i.Watch = addr.String() })
}

func (p *Peer) say(change func(*identity)) {
	p.mu.Lock()
	change(&p.self)
	p.mu.Unlock()
	select {
	case p.announce <- struct{}{}:
	default:
	}
}

// Hosts is the roster: who was ever seen, by name, those of this moment marked.
func (p *Peer) Hosts() []Host {
	members := p.members.list()
	p.roster.seen(members, time.Now())
	hosts := p.roster.list()
	here := make(map[string]bool, len(members))
	for _, m := range members {
		here[m.Node] = true
	}
	for i := range hosts {
		hosts[i].Alive = here[hosts[i].Node]
	}
	return hosts
}

// Forget takes a host off the roster that will not come back. A member can't be forgotten: stop its agent first.
func (p *Peer) Forget(node string) error {
	if _, ok := p.members.get(node); ok {
		return fmt.Errorf("forget %s: %w; stop its agent first", node, ErrMember)
	}
	if !p.roster.forget(node) {
		return fmt.Errorf("forget %s: %w", node, ErrUnknownHost)
	}
	return p.roster.save(false)
}

// ErrMember says that a host is there, and would be back at once.
var ErrMember = errors.New("it is a member")

// ErrUnknownHost says that a host is not on the roster.
var ErrUnknownHost = errors.New("no such host on the roster")
