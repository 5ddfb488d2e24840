package gossip

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"github.com/hashicorp/memberlist"
)

// The search for the others never ends: a healed partition heals, and a cluster that lost power comes back in any order.
const (
	searchAlone   = time.Second            // between attempts while nobody is there
	searchPerHost = 200 * time.Millisecond // times members, between one member's attempts while somebody is missing:
	// five a second in all, however many we are
	resolveEvery   = 30 * time.Second // of names, when somebody is there
	resolveTimeout = 2 * time.Second
	maxJoins       = 16              // at once
	differEvery    = 5 * time.Second // between states asked for because a peer knows of others
	rosterEvery    = 5 * time.Second
	maxSeeds       = 256 // addresses that all names together may have
	duplicateProbe = 3   // questions to an agent that has our name before it counts as gone
)

// search is the state of the goroutine that looks after the membership. Nothing here is shared.
type search struct {
	p    *Peer
	list *memberlist.Memberlist

	seeds     []netip.AddrPort // of names, when they were resolved last
	resolving bool
	resolved  time.Time
	joining   map[netip.AddrPort]bool
	hangups   map[netip.AddrPort]int
	first     bool // the first attempt is under way
	asked     time.Time
	contested bool
	told      time.Time

	answers chan []netip.AddrPort
	results chan joinResult
	rivals  chan rival
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
		answers: make(chan []netip.AddrPort, 1), results: make(chan joinResult, maxJoins), rivals: make(chan rival, 1),
	}
	next := time.NewTimer(0)
	defer next.Stop()
	settle := time.NewTimer(settledAfter + rand.N(settledAfter))
	defer settle.Stop()
	save := time.NewTicker(rosterEvery)
	defer save.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-next.C:
			s.attempt(ctx)
			next.Reset(s.pause())
		case seeds := <-s.answers:
			s.resolving, s.seeds, s.resolved = false, seeds, time.Now()
			for _, a := range s.missing(s.seeds) {
				s.join(a)
			}
			s.settleFirst()
		case r := <-s.results:
			s.joined(r)
		case addr := <-p.contests:
			if !s.contested {
				s.contested = true
				go s.question(ctx, addr)
			}
		case r := <-s.rivals:
			s.contested = false
			if r.alive {
				return fmt.Errorf("the agent at %s has our name %q and was there first: give one of the two another node.name", r.addr, p.cfg.Node)
			}
			p.cfg.Log.Info("our name is still held by an address that does not answer, presumably our own before; the peers give it up within seconds", "addr", r.addr)
		case addr := <-p.differences:
			if time.Since(s.asked) >= differEvery {
				s.asked = time.Now()
				s.join(addr)
			}
		case <-p.announce:
			_ = list.UpdateNode(time.Millisecond) // it is queued; that nobody took it yet is no error
		case <-settle.C:
			p.say(func(i *identity) { i.Settled = true })
		case <-save.C:
			p.roster.seen(p.members.list(), time.Now())
			if err := p.roster.save(false); err != nil {
				p.cfg.Log.Error("the roster is not on disk", "err", err)
			}
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

// attempt asks all seeds and a few of the roster while we are alone, else one that is missing.
func (s *search) attempt(ctx context.Context) {
	literal, names := s.split()
	if len(names) > 0 && !s.resolving && (s.alone() || time.Since(s.resolved) >= resolveEvery) {
		s.resolving = true
		go s.resolve(ctx, names)
	}
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
	rand.Shuffle(len(known), func(i, j int) { known[i], known[j] = known[j], known[i] })
	if s.alone() {
		for _, a := range append(s.missing(literal), known[:min(3, len(known))]...) {
			s.join(a)
		}
	} else if all := append(s.missing(append(literal, s.seeds...)), known...); len(all) > 0 {
		s.join(all[rand.N(len(all))])
	}
	s.settleFirst()
	s.complain()
}

// split parts Join into addresses and names.
func (s *search) split() (literal []netip.AddrPort, names []string) {
	for _, j := range s.p.cfg.Join {
		if a, err := parseAddr(j); err == nil {
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

// resolve asks the DNS anew: names may have several addresses, and others tomorrow.
func (s *search) resolve(ctx context.Context, names []string) {
	asking, cancel := context.WithTimeout(ctx, resolveTimeout)
	defer cancel()
	var seeds []netip.AddrPort
	for _, name := range names {
		host, port := name, uint16(DefaultPort)
		if h, text, err := net.SplitHostPort(name); err == nil {
			n, err := strconv.ParseUint(text, 10, 16)
			if err != nil {
				s.p.joinError.Store(new(fmt.Sprintf("cluster.join: %q has no port that is a number", name)))
				continue
			}
			host, port = h, uint16(n)
		}
		addrs, err := net.DefaultResolver.LookupNetIP(asking, "ip", host)
		if err != nil {
			s.p.joinError.Store(new(fmt.Sprintf("resolve %s of cluster.join: %v", host, err)))
			continue
		}
		for _, a := range addrs {
			if len(seeds) < maxSeeds {
				seeds = append(seeds, netip.AddrPortFrom(a.Unmap(), port))
			}
		}
	}
	select {
	case s.answers <- seeds:
	case <-ctx.Done():
	}
}

// join exchanges states with one address, unless that is under way.
func (s *search) join(addr netip.AddrPort) {
	if s.joining[addr] || len(s.joining) >= maxJoins || s.p.isSelf(addr) {
		return
	}
	s.joining[addr] = true
	go func() { // ends with the transport at the latest: each dial and each stream has a deadline and is closed by it
		_, err := s.list.Join([]string{addr.String()})
		s.results <- joinResult{addr, err} // has room for all
	}()
}

func (s *search) joined(r joinResult) {
	delete(s.joining, r.addr)
	if r.err == nil {
		delete(s.hangups, r.addr)
		s.p.joinError.Store(nil)
	} else {
		s.p.joinError.Store(new(r.err.Error()))
		kind, text := joinTrouble(r.err)
		switch {
		case kind == TroubleLabel: // one hang-up may be an agent that ends
			if s.hangups[r.addr]++; s.hangups[r.addr] >= 3 {
				s.p.troubles.note(kind, r.addr.Addr().String(), text)
			}
		case kind != "":
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
	if s.first && (!s.alone() || !s.resolving && len(s.joining) == 0) {
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
	s.p.cfg.Log.Warn("none of the peers can be joined", "join", s.p.cfg.Join, "last_error", *err)
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
