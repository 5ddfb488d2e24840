package api

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"
)

const (
	// maxTCP keeps strangers from using up this process's files; maxFromOne keeps one of them from using up maxTCP.
	maxTCP     = 256
	maxFromOne = 32
	keepAlive  = 15 * time.Second
)

// tlsConfig is nil without TLS.
func tlsConfig(a Access) *tls.Config {
	if a.Certificate == nil {
		return nil
	}
	c := &tls.Config{
		MinVersion:   tls.VersionTLS12,
		Certificates: []tls.Certificate{*a.Certificate},
		NextProtos:   []string{"http/1.1"},
		// A session that is resumed would bring back a certificate whose issuer is maybe accepted no longer.
		SessionTicketsDisabled: true,
	}
	if a.ClientCAs != nil {
		c.ClientAuth, c.ClientCAs = tls.VerifyClientCertIfGiven, a.ClientCAs
	}
	return c
}

// overTCP is the listener of TCP, with TLS if there is any. Whether there is any can't change.
func (s *Server) overTCP() net.Listener {
	if s.access.Load().tls == nil {
		return s.tcp
	}
	return tls.NewListener(s.tcp, &tls.Config{
		MinVersion: tls.VersionTLS12,
		GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
			grant := s.access.Load()
			if conn, ok := hello.Conn.(*tcpConn); ok {
				conn.verified.Store(grant.ClientCAs)
			}
			return grant.tls, nil
		},
	})
}

// tcpListener hands out at most maxTCP connections at a time, of one address at most maxFromOne; what is beyond that it closes.
type tcpListener struct {
	*net.TCPListener
	log      *slog.Logger
	complain *rate.Limiter

	mu   sync.Mutex
	all  int
	from map[netip.Prefix]int
}

func listenTCP(address string, log *slog.Logger) (*tcpListener, error) {
	config := net.ListenConfig{KeepAlive: keepAlive}
	l, err := config.Listen(context.Background(), "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", address, err)
	}
	return &tcpListener{
		TCPListener: l.(*net.TCPListener), log: log, //nolint:forcetypeassert // "tcp" gives no other
		complain: rate.NewLimiter(0.1, 1), from: make(map[netip.Prefix]int),
	}, nil
}

// Accept implements net.Listener.
func (l *tcpListener) Accept() (net.Conn, error) {
	for {
		conn, err := l.AcceptTCP()
		if err != nil {
			return nil, err
		}
		c := &tcpConn{TCPConn: conn}
		if at, ok := conn.RemoteAddr().(*net.TCPAddr); ok {
			c.from = network(at.AddrPort().Addr())
		}
		if l.take(c.from) {
			c.release = sync.OnceFunc(func() { l.give(c.from) })
			return c, nil
		}
		if l.complain.Allow() {
			l.log.Warn("connections to the API were refused: too many are open", "from", c.from.Addr(), "most", maxTCP, "most_from_one", maxFromOne)
		}
		_ = conn.SetLinger(0) // no state of it stays behind
		_ = conn.Close()
	}
}

func (l *tcpListener) take(from netip.Prefix) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.all >= maxTCP || l.from[from] >= maxFromOne {
		return false
	}
	l.all++
	l.from[from]++
	return true
}

func (l *tcpListener) give(from netip.Prefix) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all--
	if l.from[from]--; l.from[from] == 0 {
		delete(l.from, from)
	}
}

// network is what counts as one address: of IPv6 a /64, which one machine has all of.
func network(addr netip.Addr) netip.Prefix {
	addr = addr.Unmap().WithZone("")
	bits := addr.BitLen()
	if addr.Is6() {
		bits = 64
	}
	p, _ := addr.Prefix(bits) // the zero one for the zero address
	return p
}

type tcpConn struct {
	*net.TCPConn
	from     netip.Prefix
	release  func()
	verified atomic.Pointer[x509.CertPool] // that the client's certificate was verified with
}

// Close implements net.Conn.
func (c *tcpConn) Close() error {
	defer c.release()
	return c.TCPConn.Close()
}

type tcpKey struct{}
