package gossip

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/memberlist"
)

// The search for the others never ends: a healed partition heals, and a cluster that lost power comes back in any order.
const (
	searchAlone   = time.Second            // between attempts while nobody is there
	searchPerHost = 200 * time.Millisecond // times members, between one member's attempts while somebody is missing:
	// five a second in all, however many we are
	resolveEvery   = 30 * time.Second // of names, when somebody is there
	resolveTimeout = 12 * time.Second // of one name: two name servers that don't answer take five seconds each
	maxResolving   = 16               // names at once
	firstAttempt   = 3 * time.Second  // then Ready, whoever hangs
	maxJoins       = 16               // at once
	differEvery    = 5 * time.Second  // between states asked for because a peer knows of others
	rosterEvery    = 5 * time.Second
	rosterSoon     = 20 * time.Millisecond // after a change of the members; several at once are written once
	remindEvery    = time.Second
	maxSeeds       = 256 // addresses that a name may have
	duplicateProbe = 3   // questions to an agent that has our name before it counts as gone
)

// search is the state of the goroutine that looks after the membership. Nothing here is shared.
type search struct {
	p    *Peer
	list *memberlist.Memberlist

	seeds     map[string][]netip.AddrPort // of names, when they could be resolved last
	resolving map[string]bool
	resolved  time.Time
	joining   map[netip.AddrPort]bool
	hangups   map[netip.AddrPort]int
	first     bool // the first attempt is under way
	asked     time.Time
	contested bool
	told      time.Time
	turned    time.Time
	full      time.Time

	answers chan answer
	results chan joinResult
	rivals  chan rival
}

type answer struct {
	name  string
	seeds []netip.AddrPort // none: the name could not be resolved
}

type joinResult struct {
	addr netip.AddrPort
	err  error
}

type rival struct {
	addr  netip.AddrPort
	alive bool
}

// watch looks after the membership until ctx ends, or another agent proves to have our name.
func (p *Peer) watch(ctx context.Context, list *memberlist.Memberlist) error {
	s := &search{
		p: p, list: list, joining: map[netip.AddrPort]bool{}, hangups: map[netip.AddrPort]int{}, first: true,
		seeds: map[string][]netip.AddrPort{}, resolving: map[string]bool{},
		answers: make(chan answer, maxResolving), results: make(chan joinResult, maxJoins), rivals: make(chan rival, 1),
	}
	next := time.NewTimer(0)
	defer next.Stop()
	first := time.NewTimer(firstAttempt)
	defer first.Stop()
	settle := time.NewTimer(settledAfter + rand.N(settledAfter))
	defer settle.Stop()
	remind := time.NewTicker(remindEvery)
	defer remind.Stop()
	save := time.NewTicker(rosterEvery)
	defer save.Stop()
	changes := p.Changes()
	soon := time.NewTimer(0) // the roster is the denominator of every majority: who is new is on disk at once, should we be killed
	defer soon.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-next.C:
			s.attempt(ctx)
			next.Reset(s.pause())
		case a := <-s.answers:
			delete(s.resolving, a.name)
			if len(a.seeds) > 0 { // else what it was known by last
				s.seeds[a.name] = a.seeds
			}
			if s.alone() {
				s.joinAll(s.missing(a.seeds))
			}
			s.settleFirst()
		case <-first.C:
			s.giveUpFirst()
		case r := <-s.results:
			s.joined(r)
		case addr := <-p.contests:
			if !s.contested {
				s.contested = true
				p.helpers.Go(func() { s.question(ctx, addr) })
			}
		case r := <-s.rivals:
			s.contested = false
			if r.alive {
				return fmt.Errorf("the agent at %s has our name %q and was there first: give one of the two another node.name", r.addr, p.cfg.Node)
			}
			p.cfg.Log.Info("our name is still held by an address that does not answer, presumably our own before; the peers give it up within seconds", "address", r.addr)
		case addr := <-p.differences:
			if time.Since(s.asked) >= differEvery {
				s.asked = time.Now()
				s.join(addr)
			}
		case <-p.announce:
			_ = list.UpdateNode(time.Millisecond) // it is queued; that nobody took it yet is no error
		case <-changes:
			soon.Reset(rosterSoon)
		case <-soon.C:
			p.roster.seen(p.members.list(), time.Now())
			if err := p.roster.save(false); err != nil {
				p.cfg.Log.Error("the roster is not on disk", "error", err)
			}
		case <-settle.C:
			p.say(func(i *identity) { i.Settled = true })
		case <-save.C:
			p.roster.seen(p.members.list(), time.Now())
			if p.roster.overflowed() && time.Since(s.full) >= troubleAgain {
				s.full = time.Now()
				p.cfg.Log.Error("the roster is full: further hosts are members, but not remembered; forget those that are gone", "most", maxRoster)
			}
			if err := p.roster.save(false); err != nil {
				p.cfg.Log.Error("the roster is not on disk", "error", err)
			}
		case h := <-p.heard:
			p.heardKeys(h.from, h.agreed)
		case <-remind.C:
			p.remindOfKeys()
		case r := <-p.lines:
			_ = p.cfg.Log.Handler().Handle(ctx, r)
		}
	}
}

// logLines writes what is left at the end.
func (p *Peer) logLines() {
	for {
		select {
		case r := <-p.lines:
			_ = p.cfg.Log.Handler().Handle(context.Background(), r)
		default:
			return
		}
	}
}

func (s *search) alone() bool { return s.p.members.count() <= 1 }

// pause until the next attempt, a random one so that not all try at once.
func (s *search) pause() time.Duration {
	wait := searchAlone
	if !s.alone() {
		wait = max(wait, time.Duration(s.p.members.count())*searchPerHost)
	}
	return wait/2 + rand.N(wait)
}

// attempt asks seeds and a few of the roster while we are alone, else one that is missing.
func (s *search) attempt(ctx context.Context) {
	literal, names := s.split()
	if s.alone() || time.Since(s.resolved) >= resolveEvery {
		s.resolved = time.Now()
		rand.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
		for _, name := range names {
			s.resolve(ctx, name)
		}
	}
	seeds := literal
	for _, found := range s.seeds {
		seeds = append(seeds, found...)
	}
	seeds = s.missing(seeds)
	var known []netip.AddrPort
	members := map[string]bool{}
	for _, m := range s.p.Members() {
		members[m.Node] = true
	}
	for _, h := range s.p.roster.list() {
		if !members[h.Node] && h.Node != s.p.cfg.Node {
			known = append(known, h.Addr)
		}
	}
	if s.alone() {
		shuffle(known)
		s.joinAll(append(seeds, known[:min(3, len(known))]...))
	} else if all := append(seeds, known...); len(all) > 0 {
		s.join(all[rand.N(len(all))])
	}
	s.settleFirst()
	s.complain()
}

// joinAll in an order of its own each time: of many that don't answer none keeps the others from being asked.
func (s *search) joinAll(addrs []netip.AddrPort) {
	shuffle(addrs)
	for _, a := range addrs {
		s.join(a)
	}
}

func shuffle(addrs []netip.AddrPort) {
	rand.Shuffle(len(addrs), func(i, j int) { addrs[i], addrs[j] = addrs[j], addrs[i] })
}

// split parts Join into addresses and names.
func (s *search) split() (literal []netip.AddrPort, names []string) {
	for _, j := range s.p.cfg.Join {
		if a, err := ParseAddr(j); err == nil {
			literal = append(literal, a)
		} else {
			names = append(names, j)
		}
	}
	return literal, names
}

// missing are those of the addresses where no member is.
func (s *search) missing(addrs []netip.AddrPort) []netip.AddrPort {
	here := map[netip.AddrPort]bool{s.p.Addr(): true}
	for _, m := range s.p.Members() {
		here[m.Addr] = true
	}
	var out []netip.AddrPort
	for _, a := range addrs {
		if !here[a] && !slices.Contains(out, a) {
			out = append(out, a)
		}
	}
	return out
}

// splitSeed reads host[:port] of cluster.join.
func splitSeed(seed string) (host string, port uint16, err error) {
	if a, err := ParseAddr(seed); err == nil {
		return a.Addr().String(), a.Port(), nil
	}
	host, port = seed, DefaultPort
	if h, text, err := net.SplitHostPort(seed); err == nil {
		n, err := strconv.ParseUint(text, 10, 16)
		if err != nil || n == 0 {
			return "", 0, fmt.Errorf("%q has no port from 1 to 65535", seed)
		}
		host, port = h, uint16(n)
	}
	if host == "" || strings.ContainsAny(host, " /:[]") {
		return "", 0, fmt.Errorf("%q is not a host or address, with or without :port", seed)
	}
	return host, port, nil
}

// resolve asks the DNS anew: names may have several addresses, and others tomorrow. Each name has a deadline of its own.
func (s *search) resolve(ctx context.Context, name string) {
	if s.resolving[name] || len(s.resolving) >= maxResolving {
		return
	}
	s.resolving[name] = true
	s.p.helpers.Go(func() {
		asking, cancel := context.WithTimeout(ctx, resolveTimeout)
		defer cancel()
		seeds, err := s.p.lookup(asking, name)
		if err != nil && ctx.Err() == nil {
			s.p.joinError.Store(new(printable(err.Error())))
		}
		s.answers <- answer{name, seeds} // has room for all
	})
}

func (p *Peer) lookup(ctx context.Context, name string) ([]netip.AddrPort, error) {
	host, port, err := splitSeed(name)
	if err != nil {
		return nil, err
	}
	resolver := p.cfg.resolver
	if resolver == nil {
		resolver = net.DefaultResolver
	}
	addrs, err := resolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return nil, fmt.Errorf("resolve %s of cluster.join: %w", host, err)
	}
	var seeds []netip.AddrPort
	for _, a := range addrs[:min(len(addrs), maxSeeds)] {
		seeds = append(seeds, netip.AddrPortFrom(a.Unmap(), port))
	}
	return seeds, nil
}

// join exchanges states with one address, unless that is under way.
func (s *search) join(addr netip.AddrPort) {
	if s.joining[addr] || len(s.joining) >= maxJoins || s.p.isSelf(addr) {
		return
	}
	s.joining[addr] = true
	s.p.helpers.Go(func() { // ends with the transport at the latest: each dial and each stream has a deadline and is closed by it
		_, err := s.list.Join([]string{addr.String()})
		if inner := errors.Unwrap(err); inner != nil { // of the library's list of one
			err = inner
		}
		s.results <- joinResult{addr, err} // has room for all
	})
}

func (s *search) joined(r joinResult) {
	delete(s.joining, r.addr)
	if r.err == nil {
		delete(s.hangups, r.addr)
		s.p.joinError.Store(nil)
	} else {
		s.p.joinError.Store(new(printable(r.err.Error())))
		kind, text := joinTrouble(r.err)
		switch {
		case kind == TroubleLabel:
			if s.hangups[r.addr]++; s.hangups[r.addr] >= enoughHangups {
				s.p.troubles.note(kind, r.addr.Addr().String(), text)
			}
		case kind != "":
			if kind == TroubleKey && s.p.ring != nil && s.alone() && time.Since(s.turned) >= searchAlone {
				s.turned = time.Now()
				s.p.turnKeys()
			}
			s.p.troubles.note(kind, r.addr.Addr().String(), text)
		}
	}
	if len(s.hangups) > maxSeeds {
		clear(s.hangups)
	}
	s.settleFirst()
}

// settleFirst says that the first attempt is over: somebody is there, or nobody can be found now.
func (s *search) settleFirst() {
	if s.first && (!s.alone() || len(s.resolving) == 0 && len(s.joining) == 0) {
		s.giveUpFirst()
	}
}

func (s *search) giveUpFirst() {
	if s.first {
		s.first = false
		close(s.p.ready)
	}
}

// complain once a minute while we are alone against our configuration.
func (s *search) complain() {
	err := s.p.joinError.Load()
	if err == nil || !s.alone() || len(s.p.cfg.Join) == 0 || time.Since(s.told) < troubleAgain {
		return
	}
	s.told = time.Now()
	s.p.cfg.Log.Warn("none of the peers can be joined", "join", s.p.cfg.Join, "error", *err)
}

// question finds out whether the other bearer of our name is alive, or a shadow of our own former address.
func (s *search) question(ctx context.Context, addr netip.AddrPort) {
	alive := false
	for range duplicateProbe {
		if ctx.Err() != nil {
			break
		}
		if _, err := s.list.Ping(s.p.cfg.Node, net.UDPAddrFromAddrPort(addr)); err == nil {
			alive = true
			break
		}
	}
	s.rivals <- rival{addr, alive} // has room: one question at a time
}
