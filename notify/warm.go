package notify

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"sync"
)

// warmer dials for one subscription, and keeps a connection ready so that a fault does not pay for TCP and TLS set-up.
type warmer struct {
	dial   dialFunc
	config *tls.Config
	mu     sync.Mutex
}

func newWarmer(dial dialFunc, config *tls.Config) *warmer { return &warmer{dial: dial, config: config} }

func (w *warmer) dialPlain(ctx context.Context, network, address string) (net.Conn, error) {
	return w.dial(ctx, network, address)
}

func (w *warmer) dialTLS(ctx context.Context, network, address string) (net.Conn, error) {
	raw, err := w.dial(ctx, network, address)
	if err != nil {
		return nil, err
	}
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		_ = raw.Close()
		return nil, err
	}
	config := w.config.Clone()
	if config == nil {
		config = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	if config.ServerName == "" {
		config.ServerName = host
	}
	c := tls.Client(raw, config)
	ctx, cancel := context.WithTimeout(ctx, tlsTimeout)
	defer cancel()
	if err := c.HandshakeContext(ctx); err != nil {
		_ = raw.Close()
		return nil, fmt.Errorf("tls handshake: %w", err)
	}
	return c, nil
}

func (w *warmer) wasWarm(net.Conn) bool { return false }
func (w *warmer) drop()                 {}
func (w *warmer) close()                {}

func (w *warmer) keep(ctx context.Context, stop <-chan struct{}, _ func() []string) {
	select {
	case <-ctx.Done():
	case <-stop:
	}
}
