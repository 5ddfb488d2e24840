package lookout

import (
	"errors"
	"net/netip"
	"time"

	"github.com/paramedic-ha/paramedic/gossip/watch"
)

// seal makes our frames.
type seal struct {
	session  sessionID
	sequence uint64
	seal     interface {
		Seal(dst, nonce, plaintext, additionalData []byte) []byte
	}
}

// useKey seals with the first key from now on.
func (l *Lookout) useKey() error {
	if l.sessions.plain {
		return nil
	}
	s, err := deriveSeal(l.sessions.keys[0], l.seal.session)
	if err != nil {
		return err
	}
	l.seal.seal = s
	return nil
}

// apply carries out what the machine wants.
func (l *Lookout) apply(now time.Time, e watch.Effects) {
	for _, s := range e.Send {
		l.send(s.To, body{kind: framePacket, packet: s.Packet})
	}
	for _, host := range e.Ping {
		if where := l.hosts[host].addr.Addr(); where.IsValid() {
			l.askEcho(now, host, where)
		} else {
			l.counters.Unsent++
		}
	}
	if e.PingWitness && l.witness.IsValid() {
		l.askEcho(now, "", l.witness)
	}
	if l.cfg.News != nil {
		for _, n := range e.News {
			l.cfg.News(n)
		}
	}
	l.calm, l.last = e.Calm, now
	if !e.Wake.IsZero() {
		l.wake = e.Wake
	}
}

func (l *Lookout) askEcho(now time.Time, host string, where netip.Addr) {
	switch err := l.echoes.ask(now, host, where); {
	case err == nil:
		l.counters.EchoesSent++
	case errors.Is(err, errPace):
		l.counters.EchoesHeldBack++
	default:
		l.counters.SendErrors++
	}
}

// send sends a frame to where a host is, or else to where it was heard from, or drops it.
func (l *Lookout) send(host string, b body) {
	to := l.hosts[host].to
	if p := l.sessions.peers[host]; to == nil && p != nil && p.from.IsValid() {
		to = l.udp.sockaddr(p.from)
	}
	if to == nil {
		l.counters.Unsent++
		return
	}
	b.name, b.started, b.boot = l.cfg.Self, l.cfg.Started.UnixMilli(), l.cfg.Boot
	l.out = l.frame(l.out[:0], b)
	if err := l.udp.send(l.out, to); err != nil {
		l.counters.SendErrors++
		return
	}
	l.counters.Sent++
}

// frame appends the next frame of our session.
func (l *Lookout) frame(to []byte, b body) []byte {
	l.seal.sequence++
	h := header{version: versionSealed, session: l.seal.session, sequence: l.seal.sequence}
	if l.seal.seal == nil {
		h.version = versionPlain
		return b.append(h.append(to))
	}
	to = h.append(to)
	n := sealNonce(h.sequence)
	l.clear = b.append(l.clear[:0])
	return l.seal.seal.Seal(to, n[:], l.clear, to[:headerSize])
}
