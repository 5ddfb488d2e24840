package hostloss

import (
	"time"

	"github.com/paramedic-ha/paramedic/gossip/watch"
)

// inputKind says what comes in at a host's network card.
type inputKind uint8

const (
	inPacket    inputKind = iota // of a peer's watch
	inEchoAsk                    // for the kernel
	inEcho                       // a kernel's answer
	inClosed                     // a kernel's refusal: nobody listens on its agent's port
	inWitness                    // the outside witness's answer
	inChallenge                  // from a peer that does not know this session: answer it
	inProof                      // the answer
	inMessage                    // between takeovers
)

// input is what is on the wire, or lies in a buffer.
type input struct {
	kind    inputKind
	from    int32
	session uint32 // the sender's life
	asked   time.Duration
	packet  watch.Packet
	message *message
}

// Lengths of the buffers, in packets: the agent's socket and the network card's ring.
const (
	socketBuffer = 4096
	cardRing     = 512
)

// network is what lies between the hosts.
type network struct {
	loss  float64
	side  []int32 // of a partition, by host; all zero when whole
	parts bool
	// relearn: a switch has forgotten where some are; relearnShare of the pairs are cut until then.
	relearnUntil time.Duration
	relearnSalt  uint64
	relearnShare float64
	witnessSide  int32 // on which side the witness is

	pool []input
	free []uint32
}

func (n *network) take(in input) uint32 {
	if len(n.free) == 0 {
		n.pool = append(n.pool, in)
		return uint32(len(n.pool) - 1) //nolint:gosec // as many as are under way
	}
	i := n.free[len(n.free)-1]
	n.free = n.free[:len(n.free)-1]
	n.pool[i] = in
	return i
}

func (n *network) release(i uint32) {
	n.pool[i] = input{}
	n.free = append(n.free, i)
}

// apart reports whether two are on different sides of a partition.
func (n *network) apart(a, b int32) bool { return n.parts && n.side[a] != n.side[b] }

// cut reports whether a switch has lost the way between two.
func (n *network) cut(now time.Duration, a, b int32) bool {
	if now >= n.relearnUntil {
		return false
	}
	x := uint64(min(a, b))<<32 | uint64(max(a, b)) //nolint:gosec // indexes
	return float64(mix(x^n.relearnSalt)>>11)/(1<<53) < n.relearnShare
}

// mix spreads bits (splitmix64's finaliser).
func mix(x uint64) uint64 {
	x ^= x >> 30
	x *= 0xbf58476d1ce4e5b9
	x ^= x >> 27
	x *= 0x94d049bb133111eb
	return x ^ x>>31
}

// carried reports whether a packet that leaves now arrives.
func (s *simulation) carried(from, to *host) bool {
	now := s.now
	if now < from.linkUntil || now < to.linkUntil || s.net.apart(from.id, to.id) || s.net.cut(now, from.id, to.id) {
		return false
	}
	arrives := (1 - s.net.loss)
	if now < from.brownUntil {
		arrives *= 1 - from.brown
	}
	if now < to.brownUntil {
		arrives *= 1 - to.brown
	}
	return arrives == 1 || s.rng.Float64() < arrives
}

// delay is how long a packet takes: 0.1 to 0.3 ms, one in a hundred to 3 ms, one in two thousand to 20 ms.
func (s *simulation) delay() time.Duration {
	r := s.rng.Uint64()
	d := 100*time.Microsecond + time.Duration(r>>32)*200*time.Microsecond>>32 //nolint:gosec // 32 bits
	switch tail := r & 0xffff; {
	case tail < 32:
		d += time.Duration(r>>16&0xffff) * 20 * time.Millisecond >> 16 //nolint:gosec // 16 bits
	case tail < 650:
		d += time.Duration(r>>16&0xffff) * 3 * time.Millisecond >> 16 //nolint:gosec // 16 bits
	}
	return d
}

// send puts an input on the wire.
func (s *simulation) send(from, to *host, in input) {
	s.report.Packets++
	if !s.carried(from, to) {
		return
	}
	in.from = from.id
	s.agenda.push(event{at: s.now + s.delay(), kind: evArrive, host: to.id, arg: s.net.take(in)})
}

// arrive is an input at a host's card.
func (h *host) arrive(i uint32) {
	s := h.s
	if !h.up || s.now < h.linkUntil {
		s.net.release(i)
		return
	}
	if s.now < h.kernelUntil {
		if h.kernelDrops || len(h.ring) >= cardRing {
			s.net.release(i)
			return
		}
		h.ring = append(h.ring, i)
		return
	}
	in := &s.net.pool[i]
	switch {
	case in.kind == inEchoAsk:
		from, asked := s.hosts[in.from], in.asked
		s.net.release(i)
		if !h.noEcho {
			s.send(h, from, input{kind: inEcho, asked: asked})
		}
	case !h.running:
		if in.kind == inPacket && s.now >= h.refused[in.from]+time.Second { // a kernel refuses once a second (icmp_ratelimit)
			h.refused[in.from] = s.now
			s.send(h, s.hosts[in.from], input{kind: inClosed})
		}
		s.net.release(i)
	case s.now < h.frozenUntil:
		if len(h.socket) >= socketBuffer {
			s.net.release(i)
			return
		}
		h.socket = append(h.socket, i)
	default:
		h.handle(i)
	}
}

// ask asks the outside witness, which answers whoever reaches it.
func (h *host) askWitness() {
	s := h.s
	if s.now < h.linkUntil || s.net.parts && s.net.side[h.id] != s.net.witnessSide || s.rng.Float64() < s.net.loss || s.rng.Float64() < s.net.loss {
		return
	}
	s.agenda.push(event{at: s.now + s.delay() + s.delay(), kind: evArrive, host: h.id, arg: s.net.take(input{kind: inWitness, from: h.id, asked: s.now})})
}
