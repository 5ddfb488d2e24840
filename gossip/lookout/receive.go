package lookout

import (
	"errors"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// drain reads all that waits, and returns a time before which nothing is unread. Under a flood more may have come since.
func (l *Lookout) drain() time.Time {
	now := l.now()
	l.measure(now) // packets may bring another time
	for range l.udp.fill {
		n, control, _, from, err := unix.Recvmsg(l.udp.fd, l.in, l.oob, unix.MSG_DONTWAIT)
		if err == nil {
			l.receive(l.arrived(now, l.oob[:control]), l.in[:n], addrPort(from))
			continue
		}
		if errors.Is(err, unix.EAGAIN) {
			break
		} // else it is what became of something that was sent, see IP_RECVERR in ip(7)
	}
	for range maxRefused {
		to, sent, more := l.udp.refused(l.in, l.oob)
		if !more {
			break
		}
		l.closedAt(now, to, sent)
	}
	for _, s := range l.echoes.sockets {
		for range s.fill {
			n, from, err := unix.Recvfrom(s.fd, l.in, unix.MSG_DONTWAIT)
			if errors.Is(err, unix.EAGAIN) {
				break
			}
			if err == nil {
				l.echoed(now, s, l.in[:n], addrPort(from).Addr())
			}
		}
	}
	return now
}

// arrived is when a packet came, by the kernel's stamp: not before the machine was last told the time, and not after now, whatever
// the wall clock did meanwhile.
func (l *Lookout) arrived(now time.Time, control []byte) time.Time {
	stamp, ok := stampOf(control)
	if !ok {
		return now
	}
	at := now.Add(-max(0, time.Since(stamp)))
	if at.Before(l.last) {
		return l.last
	}
	return at
}

// closedAt says that nobody listens where a frame of ours went. Who makes that up must have seen one.
func (l *Lookout) closedAt(now time.Time, to netip.AddrPort, sent []byte) {
	h, _, err := splitFrame(sent)
	host := l.byAddr[netip.AddrPortFrom(to.Addr().WithZone(""), to.Port())]
	if err != nil || h.session != l.seal.session || host == "" {
		return
	}
	l.counters.Closed++
	l.apply(now, l.machine.Closed(now, host))
}

func (l *Lookout) echoed(now time.Time, s echoSocket, b []byte, from netip.Addr) {
	a, ok := l.echoes.reply(now, s, b, from)
	switch {
	case !ok:
		l.counters.EchoesForeign++
		return
	case a.host == "":
		l.apply(now, l.machine.WitnessEchoed(now, a.at))
	default:
		l.apply(now, l.machine.Echoed(now, a.host, a.at))
	}
	l.counters.EchoReplies++
}

// receive takes a datagram.
func (l *Lookout) receive(now time.Time, frame []byte, from netip.AddrPort) {
	l.counters.Received++
	_, known := l.byAddr[from]
	x, b, why := l.sessions.open(now, frame, known, l.clear)
	if why != accepted {
		l.counters.refuse(why)
		return
	}
	p := l.sessions.peers[x.host]
	p.from = from
	switch {
	case b.kind == frameChallenge:
		if now.Sub(x.answered) >= challengeEvery/2 { // its jitter must not cost it an answer
			x.answered = now
			l.send(x.host, body{kind: frameAnswer, nonce: b.nonce})
		}
	case b.kind == frameAnswer:
		if l.sessions.believed(x) || b.nonce != x.challenge {
			return
		}
		l.believe(x)
		if x.waiting != nil { // it would not be said again before long
			l.apply(now, l.machine.Receive(now, x.host, *x.waiting))
			x.waiting = nil
		}
		return
	case l.sessions.believed(x):
		l.apply(now, l.machine.Receive(now, x.host, b.packet))
		return
	default:
		l.counters.Unchallenged++
		x.waiting = &b.packet
	}
	if !l.sessions.believed(x) && now.Sub(x.challenged) >= challengeEvery {
		x.challenged = now
		l.send(x.host, body{kind: frameChallenge, nonce: x.challenge})
	}
}

func (l *Lookout) believe(x *session) {
	before := l.sessions.believe(x)
	if before != [16]byte{} && before != x.boot && l.cfg.Restarted != nil {
		l.cfg.Restarted(Restarted{Host: x.host, Started: time.UnixMilli(x.started), Boot: x.boot, Before: before})
	}
}
