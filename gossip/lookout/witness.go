package lookout

import (
	"context"
	"net"
	"net/netip"
	"time"
)

const (
	resolveTimeout = 3 * time.Second
	resolveAgain   = time.Minute
	resolveRetry   = 5 * time.Second
)

// witnessHost is the part of a witness without its port.
func witnessHost(witness string) string {
	if host, _, err := net.SplitHostPort(witness); err == nil {
		return host
	}
	return witness
}

// resolve tells the owner where the witness is, again and again until the context ends. When a name cannot be resolved its last
// address is kept: that is often so in the moment when the witness is needed.
func (l *Lookout) resolve(ctx context.Context) {
	host := witnessHost(l.cfg.Witness)
	if addr, err := netip.ParseAddr(host); err == nil {
		l.post(func(m *mailbox) { m.witness = addr })
		return
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	failing := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		addr, err := l.lookUp(ctx, host)
		if err != nil {
			if !failing && ctx.Err() == nil {
				l.cfg.Log.Warn("the address of the witness is unknown, or what it was", "witness", l.cfg.Witness, "error", err)
			}
			failing = true
			timer.Reset(resolveRetry)
			continue
		}
		failing = false
		l.post(func(m *mailbox) { m.witness = addr })
		timer.Reset(resolveAgain)
	}
}

// lookUp returns the first address that there is a socket for.
func (l *Lookout) lookUp(ctx context.Context, host string) (netip.Addr, error) {
	ctx, cancel := context.WithTimeout(ctx, resolveTimeout)
	defer cancel()
	addrs, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return netip.Addr{}, err
	}
	for _, a := range addrs {
		if l.echoes.reaches(a) {
			return a, nil
		}
	}
	return netip.Addr{}, &net.AddrError{Err: "no address of a family that echoes are asked with", Addr: host}
}
