package cluster

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/paramedic-ha/paramedic/agent/ledger"
	"github.com/paramedic-ha/paramedic/correlate"
	"github.com/paramedic-ha/paramedic/gossip"
	"github.com/paramedic-ha/paramedic/gossip/lookout"
	"github.com/paramedic-ha/paramedic/gossip/takeover"
	"github.com/paramedic-ha/paramedic/gossip/watch"
)

// The defaults of cluster.detect.
const (
	DefaultProbable  = 350 * time.Millisecond
	DefaultConfirmed = 700 * time.Millisecond
)

// WatchConfig is what the watch for lost hosts must know.
type WatchConfig struct {
	Bind      netip.AddrPort // of its socket
	Advertise netip.AddrPort // what the others are told; zero: the socket's own
	Witness   string
	Probable  time.Duration
	Confirmed time.Duration
	Boot      string // of the kernel; empty: unknown
	Started   time.Time
	Policies  []correlate.Policy
}

// watching is what the pump has to do with lost hosts: it takes news of the lookout and words of peers, and decides with the
// takeover who speaks.
type watching struct {
	lookout  *lookout.Lookout
	takeover *takeover.Machine        // of the pump
	wakeAt   time.Time                // of the takeover; the pump's
	addrs    map[string]watchedAt     // of hosts that are or were members, where they are watched; the pump's
	known    map[string]watch.Verdict // by host: the newest, so that it is passed on once; the pump's
	began    bool                     // this host has a term; the pump's
	catchUp  time.Time                // until then it does not speak for others; zero: it may, or is isolated; the pump's
	mourned  time.Time                // the pump's
	stale    bool                     // the lookout must be told who is lost; the pump's
	keys     [][]byte                 // of the gossip, as the lookout has them; the pump's
	isolated atomic.Bool
	// listening: this host does not speak for others yet.
	listening atomic.Bool
	left      atomic.Uint32 // watch.Left: the last word
	wake      chan struct{} // capacity 1

	shown  atomic.Pointer[lookout.Lookout] // lookout, for those who only look
	speaks atomic.Pointer[[]string]        // the hosts that the takeover speaks for

	mu     sync.Mutex
	news   []watch.News // at most maxWords of each
	words  []word
	size   int // of words, as they came
	missed uint64

	counts watchCounts
}

// watchedAt is what a member told last of itself.
type watchedAt struct {
	addr netip.AddrPort
	term uint64
}

// word is what a peer says.
type word struct {
	from    string
	verdict *watch.Verdict
	claim   *takeover.Claim
}

// watchCounts are metrics.
type watchCounts struct {
	verdicts              [watch.LevelConfirmed + 1]atomic.Uint64
	spoke, hushed, claims atomic.Uint64
	falseAlarms, accused  atomic.Uint64
}

const (
	// catchUpFor is how long a host that has begun, or was isolated, listens at most before it speaks for others: some exchanges of digests.
	catchUpFor = 2 * time.Second
	mournEvery = 10 * time.Second
)

// maxWords bounds what waits for the pump; what is beyond is dropped, counted, and said again by others.
const (
	maxWords   = 4096
	maxWord    = 256 << 10 // bytes of one: a zone of a thousand hosts
	maxWaiting = 16 << 20  // bytes of all
)

func newWatching(node string) *watching {
	w := &watching{
		takeover: takeover.New(node), wake: make(chan struct{}, 1), addrs: map[string]watchedAt{}, known: map[string]watch.Verdict{},
	}
	w.takeover.Isolated(time.Time{}, true) // see catchUp
	w.listening.Store(true)
	return w
}

// openWatch opens the sockets of the watch, and tells the others where we are watched.
func (c *Cluster) openWatch() error {
	cfg := c.cfg.Watch
	boot, _ := uuid.Parse(cfg.Boot) // unknown: all zero
	c.watch.keys = c.repl.Peer().RawKeys()
	if !cfg.Bind.IsValid() { // a port beside the gossip's that nobody else has
		cfg.Bind = netip.AddrPortFrom(c.repl.Peer().Addr().Addr(), 0)
	}
	l, err := lookout.New(lookout.Config{
		Self: c.node, Bind: cfg.Bind, Boot: boot, Started: cfg.Started, Keys: c.watch.keys, Witness: cfg.Witness,
		Probable: cmp.Or(cfg.Probable, DefaultProbable), Confirmed: cmp.Or(cfg.Confirmed, DefaultConfirmed), Log: c.log, News: c.watch.newsOf,
	})
	if err != nil {
		return fmt.Errorf("open the watch for lost hosts (cluster.watch): %w", err)
	}
	c.watch.lookout = l
	c.watch.shown.Store(l)
	at := cfg.Advertise
	if !at.IsValid() || at.Port() == 0 {
		addr := cmp.Or(at.Addr(), l.Addr().Addr())
		if addr.IsUnspecified() {
			addr = c.repl.Peer().Addr().Addr()
		}
		at = netip.AddrPortFrom(addr, l.Addr().Port())
	}
	c.repl.Peer().SetWatch(at)
	return nil
}

// runWatch runs the lookout until ctx ends. One that ends before is told of at once, and this host watches nobody until its agent
// is started again.
func (c *Cluster) runWatch(ctx context.Context) error {
	err := c.watch.lookout.Run(ctx)
	if err == nil || ctx.Err() != nil {
		return err
	}
	c.log.Error("the watch for lost hosts has ended: this host watches nobody until the agent is restarted", "error", err)
	c.cfg.Home.Report(correlate.Event{
		Source: correlate.SpokenSource, Resource: correlate.NewID(correlate.KindService, "paramedic/watch"), Condition: correlate.CondSourceFailed,
		Status: correlate.StatusFailed, Observed: time.Now(), Text: fmt.Sprintf("the watch for lost hosts has ended: %v; restart the agent", err),
	})
	return nil
}

// put lets the pump know what was heard. What others flood us with takes no room from what this host has seen itself, which
// its watch says once.
func (w *watching) put(room func() bool, f func()) {
	w.mu.Lock()
	if room() {
		f()
	} else {
		w.missed++
	}
	w.mu.Unlock()
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// newsOf takes news of the lookout, on its goroutine.
func (w *watching) newsOf(n watch.News) {
	w.put(func() bool { return len(w.news) < maxWords }, func() { w.news = append(w.news, n) })
}

// heard takes a peer's word. It does not block.
func (w *watching) heard(from string, t gossip.MessageType, body []byte) error {
	one := word{from: from}
	if len(body) > maxWord {
		return fmt.Errorf("a word about a lost host of %d bytes, at most %d are allowed", len(body), maxWord)
	}
	if t == typeClaim {
		one.claim = new(takeover.Claim)
		if err := json.Unmarshal(body, one.claim); err != nil {
			return fmt.Errorf("claim to speak: %w", err)
		}
		if c := one.claim; (c.Host == "") == (c.Zone == "") || c.Level > watch.LevelConfirmed {
			return errors.New("claim to speak: it names no host or zone, or no level")
		}
	} else {
		one.verdict = new(watch.Verdict)
		if err := json.Unmarshal(body, one.verdict); err != nil {
			return fmt.Errorf("verdict: %w", err)
		}
		v := one.verdict
		if v.Host == "" || v.Term%2 != 0 || v.Term >= gossip.MaxTerm || v.Level == watch.LevelNone || v.Level > watch.LevelConfirmed || len(v.Votes) > 64 {
			return errors.New("verdict: it names no host, no level or an odd term")
		}
	}
	w.put(func() bool { return len(w.words) < maxWords && w.size+len(body) <= maxWaiting }, func() {
		w.words, w.size = append(w.words, one), w.size+len(body)
	})
	return nil
}

func (w *watching) take() ([]watch.News, []word) {
	w.mu.Lock()
	defer w.mu.Unlock()
	news, words := w.news, w.words
	w.news, w.words, w.size = nil, nil, 0
	return news, words
}

// listen takes in what was heard.
func (c *Cluster) listen() {
	w := c.watch
	news, words := w.take()
	for i := range news {
		c.hearNews(&news[i])
	}
	for _, one := range words {
		switch {
		case one.claim != nil:
			c.carryOutTakeover(w.takeover.Claim(time.Now(), one.from, *one.claim))
		case one.verdict.Host == c.node:
			c.accused(*one.verdict)
		default:
			c.takeVerdict(*one.verdict)
		}
	}
}

// decide lets the takeover do what is due, when all that was said is taken in.
func (c *Cluster) decide() {
	if c.watch.stale {
		c.lookAround()
	}
	c.carryOutTakeover(c.watch.takeover.Tick(time.Now()))
	speaks := c.watch.takeover.Speaks()
	c.watch.speaks.Store(&speaks)
}

func (c *Cluster) hearNews(n *watch.News) {
	w := c.watch
	switch n.Kind {
	case watch.NewsVerdict:
		if v := n.Verdict; c.takeVerdict(v) {
			c.log.Warn("a host does not answer", "host", v.Host, "verdict", v.Level, "silence", v.Silence(), "votes", len(v.Votes), "suspects", v.Suspects)
			if body, err := json.Marshal(v); err == nil {
				_ = c.repl.Peer().Broadcast(encodeMessage(typeVerdict, body)) // an error is about its length: some have it from the other voters
			}
		}
	case watch.NewsHeard:
		c.log.Info("a host is heard again", "host", n.Host, "verdict", n.Verdict.Level)
		if v, ok := w.known[n.Host]; ok && v.Term == n.Verdict.Term { // should it be lost again before it takes a higher term
			delete(w.known, n.Host)
			w.stale = true
		}
		if n.Verdict.Level == watch.LevelProbable {
			w.counts.falseAlarms.Add(1)
		}
	case watch.NewsIsolated, watch.NewsRejoined:
		isolated := n.Kind == watch.NewsIsolated
		w.isolated.Store(isolated)
		c.reportIsolated(n, isolated)
		clear(w.known) // what still holds is said again, or recorded
		w.stale, w.catchUp = true, time.Time{}
		w.listening.Store(false)
		if isolated {
			c.carryOutTakeover(w.takeover.Isolated(time.Now(), true))
		} else if w.began {
			w.listenFrom(time.Now())
		}
	case watch.NewsAccused:
		c.accused(n.Verdict)
	}
}

// takeVerdict takes a verdict, of this host's own or of a peer's watch, and reports whether it is new.
func (c *Cluster) takeVerdict(v watch.Verdict) bool {
	w := c.watch
	if !onRoster(c.repl.Peer().Hosts(), v.Host) { // it was forgotten, or never was
		return false
	}
	if was, ok := w.known[v.Host]; ok && (was.Term > v.Term || was.Term == v.Term && was.Level >= v.Level) {
		return false
	}
	w.known[v.Host], w.stale = v, true
	w.counts.verdicts[v.Level].Add(1)
	c.carryOutTakeover(w.takeover.Verdict(time.Now(), c.zoneOf(v.Host), v))
	return true
}

// accused says that others take this host for lost, which it is not: under a higher term it says so.
func (c *Cluster) accused(v watch.Verdict) {
	if own := c.term.Load(); own == 0 || v.Term < own {
		return
	}
	c.watch.counts.accused.Add(1)
	c.log.Warn("other hosts took this one for lost; it says that it lives", "verdict", v.Level, "term", v.Term)
	c.cfg.Home.Claim(v.Term + 1)
}

func (c *Cluster) reportIsolated(n *watch.News, isolated bool) {
	e := correlate.Event{
		Source: correlate.SpokenSource, Resource: correlate.NewID(correlate.KindHost, c.node), Condition: correlate.CondIsolated,
		Status: correlate.StatusOK, Observed: time.Now(),
		Evidence: map[string]string{"reached": fmt.Sprint(n.Reached), "roster": fmt.Sprint(n.Roster)},
	}
	if isolated {
		e.Status = correlate.StatusFailed
		e.Text = fmt.Sprintf("this host reaches %d of %d hosts, itself included, and accuses none of them", n.Reached, n.Roster)
		c.log.Warn("this host is isolated", "reached", n.Reached, "roster", n.Roster)
	} else {
		c.log.Info("this host is isolated no more", "reached", n.Reached, "roster", n.Roster)
	}
	c.cfg.Home.Report(e)
}

// carryOutTakeover does what the takeover has decided, and notes when it wants to look again.
func (c *Cluster) carryOutTakeover(e takeover.Effects) {
	w := c.watch
	for _, home := range e.Hush {
		w.counts.hushed.Add(1)
		c.log.Info("this host no longer speaks for another", "host", home)
		c.step(func(now time.Time, l *ledger.Ledger) ledger.Orders { return l.Hush(now, home) })
	}
	for i := range e.Send {
		if body, err := json.Marshal(e.Send[i].Claim); err == nil {
			w.counts.claims.Add(1)
			_ = c.repl.Tell(e.Send[i].To, encodeMessage(typeClaim, body)) // it is said again
		}
	}
	for i := range e.Speak {
		w.counts.spoke.Add(1)
		s := e.Speak[i]
		hosts := make([]string, len(s.Hosts))
		for i := range s.Hosts {
			hosts[i] = s.Hosts[i].Host
		}
		c.log.Info("this host speaks for others", "hosts", strings.Join(hosts, ", "), "zone", s.Zone)
		c.step(func(now time.Time, l *ledger.Ledger) ledger.Orders { return l.Speak(now, s) })
	}
	w.wakeAt = e.Wake
}

// speak carries out what the ledger has ordered about other hosts.
func (c *Cluster) speak(o *ledger.Orders) {
	w := c.watch
	for _, b := range o.Back {
		c.back(b)
	}
	for _, home := range o.Hush {
		c.shared.Hush(home)
	}
	for i := range o.Guests {
		g := &o.Guests[i]
		if owed := c.shared.Speak(g.Alarms, g.Pairs); owed == 0 {
			c.carryOutTakeover(w.takeover.Told(time.Now(), strings.TrimPrefix(g.Home, ledger.ZoneSpace)))
		}
	}
	if len(o.Spoken) > 0 {
		err := c.repl.Update(context.Background(), func(_ time.Time, wr *gossip.Writer) error { // ends with the replicator
			var errs []error
			for _, s := range o.Spoken {
				errs = append(errs, wr.Speak(s.Space, s.Term, s.Kind, s.ID, s.Payload))
			}
			return errors.Join(errs...)
		})
		if err != nil && !errors.Is(err, gossip.ErrStopped) && c.complain.Allow() {
			c.log.Error("what this host says for another could not be written for the peers", "error", err)
		}
	}
	for _, home := range o.Finished {
		c.carryOutTakeover(w.takeover.Told(time.Now(), strings.TrimPrefix(home, ledger.ZoneSpace)))
	}
	for _, r := range o.Recorded {
		c.carryOutTakeover(w.takeover.Recorded(time.Now(), c.zoneOf(r.Host), r))
	}
}

// back says that a host speaks for itself again.
func (c *Cluster) back(b ledger.Back) {
	if v, ok := c.watch.known[b.Host]; ok && v.Term < b.Term {
		delete(c.watch.known, b.Host)
		c.watch.stale = true
	}
	c.carryOutTakeover(c.watch.takeover.Returned(time.Now(), b.Host, b.Term))
}

func (c *Cluster) zoneOf(host string) string {
	for _, h := range c.repl.Peer().Hosts() {
		if h.Node == host {
			return h.Zone
		}
	}
	return ""
}

// catchUp lets this host speak for others again, or for the first time, when it has had the time to learn who is lost and who is back.
func (c *Cluster) catchUp(now time.Time) {
	w := c.watch
	if !w.began && c.begun.Load() {
		w.began = true
		if !w.isolated.Load() { // else when it is no more
			w.listenFrom(now)
		}
	}
	if w.catchUp.IsZero() {
		return
	}
	// Level with a peer it knows what that one knows.
	if level := c.repl.Stats().LastInSync; now.Before(w.catchUp) && !level.After(w.catchUp.Add(-catchUpFor)) {
		return
	}
	w.catchUp = time.Time{}
	w.listening.Store(false)
	c.mu.Lock()
	lost := c.ledger.Lost()
	c.mu.Unlock()
	c.carryOutTakeover(w.takeover.Isolated(now, false))
	for _, r := range lost {
		c.carryOutTakeover(w.takeover.Recorded(now, c.zoneOf(r.Host), r))
	}
	for _, host := range slices.Sorted(maps.Keys(w.known)) {
		c.carryOutTakeover(w.takeover.Verdict(now, c.zoneOf(host), w.known[host]))
	}
}

func (w *watching) listenFrom(now time.Time) {
	w.catchUp = now.Add(catchUpFor)
	w.listening.Store(true)
}

// mourn ends the alarms of zones of which all hosts are back, and whose speaker has not said so.
func (c *Cluster) mourn(now time.Time) {
	w := c.watch
	if now.Before(w.mourned.Add(mournEvery)) || w.isolated.Load() || !w.catchUp.IsZero() {
		return
	}
	w.mourned = now
	c.mu.Lock()
	orphans := c.ledger.Orphans(now)
	c.mu.Unlock()
	for _, o := range orphans {
		c.carryOutTakeover(w.takeover.Orphaned(now, o.Zone, o.Term))
	}
}

// lookAround tells the watch who is there.
func (c *Cluster) lookAround() {
	w := c.watch
	w.stale = false
	peer := c.repl.Peer()
	var members []takeover.Member
	live := map[string]bool{}
	for _, m := range peer.Members() {
		live[m.Node] = true
		members = append(members, takeover.Member{Name: m.Node, Zone: m.Zone})
		if m.Watch.IsValid() {
			w.addrs[m.Node] = watchedAt{m.Watch, max(m.Term, w.addrs[m.Node].term)}
		}
	}
	roster := peer.Hosts()
	hosts := make([]lookout.Host, 0, len(roster))
	type departed struct {
		host string
		term uint64
	}
	var gone []departed
	c.mu.Lock()
	for _, h := range roster {
		at := w.addrs[h.Node]
		one := lookout.Host{Addr: at.addr, Host: watch.Host{Name: h.Node, Zone: h.Zone, Member: live[h.Node], Watched: at.addr.IsValid()}}
		one.Term = max(at.term, c.ledger.TermOf(h.Node))
		v, accused := w.known[h.Node]
		one.Lost = accused && v.Level >= watch.LevelProbable && v.Term >= one.Term
		if h.Node == c.node {
			one.Term = c.term.Load()
		} else if record, ok := c.ledger.HostRecord(h.Node); ok && !live[h.Node] {
			switch record.Left {
			case ledger.LeftStopped:
				one.Left = watch.LeftStopped
			case ledger.LeftShutdown:
				one.Left = watch.LeftShutdown
				gone = append(gone, departed{h.Node, one.Term})
			}
		}
		hosts = append(hosts, one)
	}
	c.mu.Unlock()
	for name := range w.addrs {
		if !live[name] && !onRoster(roster, name) {
			delete(w.addrs, name)
			delete(w.known, name)
		}
	}
	w.lookout.SetHosts(hosts)
	if keys := peer.RawKeys(); !slices.EqualFunc(keys, w.keys, bytes.Equal) {
		w.keys = keys
		if err := w.lookout.SetKeys(keys); err != nil {
			c.log.Error("the watch goes on with the keys that it has", "error", err)
		}
	}
	c.carryOutTakeover(w.takeover.Members(time.Now(), members))
	for _, d := range gone {
		c.carryOutTakeover(w.takeover.Departed(time.Now(), d.host, d.term))
	}
}

func onRoster(roster []gossip.Host, name string) bool {
	for i := range roster {
		if roster[i].Node == name {
			return true
		}
	}
	return false
}

// Leaving says why this host is about to leave, before Run's context ends: the others are told.
func (c *Cluster) Leaving(why watch.Left) { c.watch.left.Store(uint32(why)) }

func (w *watching) leaving() watch.Left {
	if left := watch.Left(w.left.Load()); left != watch.LeftNot {
		return left
	}
	return watch.LeftStopped
}

// sayLeft writes the last word of this host for the peers.
func (c *Cluster) sayLeft() {
	self := c.self.Load()
	if self == nil || !c.begun.Load() {
		return
	}
	h := *self
	h.Left, h.At = ledger.LeftStopped, time.Now().Round(0).UTC()
	if c.watch.leaving() == watch.LeftShutdown {
		h.Left = ledger.LeftShutdown
	}
	c.step(func(now time.Time, l *ledger.Ledger) ledger.Orders { return l.Host(now, h) })
}

// KernelBoot is the id of this run of the kernel (proc(5), /proc/sys/kernel/random/boot_id); empty when it can't be read.
func KernelBoot() string {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

// SetPolicies says how severe what this host says of others is.
func (c *Cluster) SetPolicies(policies []correlate.Policy) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ledger.SetPolicies(policies)
}
