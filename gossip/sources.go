package gossip

import (
	"encoding/binary"
	"net/netip"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"
)

// sources limits the datagrams of each address, before anybody could look who wrote them. For one goroutine, except
// for loudest.
type sources struct {
	all    map[netip.Addr]*sender
	window int64 // the second that is being counted
	top    sender
	loud   atomic.Pointer[netip.Addr] // of the second before
}

type sender struct {
	limit  *rate.Limiter
	addr   netip.Addr
	window int64
	count  int // within the window
}

func (s *sources) admit(from netip.Addr, now time.Time) bool {
	one := s.all[from]
	if one == nil {
		if len(s.all) >= maxSources {
			clear(s.all)
		}
		one = &sender{limit: rate.NewLimiter(sourceRate, 2*sourceRate), addr: from}
		s.all[from] = one
	}
	if second := now.Unix(); second != s.window {
		if s.top.addr.IsValid() {
			s.loud.Store(new(s.top.addr))
		}
		s.window, s.top = second, sender{}
	}
	if one.window != s.window {
		one.window, one.count = s.window, 0
	}
	if one.count++; one.count > s.top.count {
		s.top = *one
	}
	return one.limit.AllowN(now, 1)
}

// loudest is the address that sent most within a second lately. Safe from any goroutine.
func (s *sources) loudest() (netip.Addr, bool) {
	addr := s.loud.Load()
	if addr == nil {
		return netip.Addr{}, false
	}
	return *addr, true
}

// Of memberlist's framing, see its label.go, net.go and security.go.
const (
	frameLabel     = 244
	frameEncrypted = 10
	shortestSealed = 1 + 12 + 16 // version, nonce, tag: around nothing
)

// unlabelled takes the header with the cluster's label off; false: there is not all of it yet.
func unlabelled(b []byte) ([]byte, bool) {
	switch {
	case len(b) == 0 || b[0] != frameLabel:
		return b, len(b) > 0
	case len(b) < 2 || len(b) < 2+int(b[1]):
		return nil, false
	}
	return b[2+int(b[1]):], true
}

// retired reports a datagram that is encrypted in memberlist's version 0, or not at all: no agent sends that, and
// memberlist v0.7.0 panics on a wrong padding in it.
func retired(b []byte) bool {
	b, ok := unlabelled(b)
	return ok && len(b) > 0 && b[0] == 0
}

// judgeStream looks at the beginning of a connection. It is bad when it is encrypted as retired says, or holds nothing,
// on which memberlist v0.7.0 panics as well. Done: no more need be seen.
func judgeStream(b []byte) (done, bad bool) {
	b, ok := unlabelled(b)
	switch {
	case !ok || len(b) == 0:
		return false, false
	case b[0] != frameEncrypted:
		return true, false
	case len(b) < 6:
		return false, false
	}
	return true, b[5] == 0 || binary.BigEndian.Uint32(b[1:]) <= shortestSealed
}
