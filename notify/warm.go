package notify

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// warmPause is the least time between two dials that keep an endpoint warm. It doubles to warmPauseMax while they fail, but
// not where peers deliver meanwhile: it is what takes the consumer back.
const (
	warmPause    = 5 * time.Second
	warmPauseMax = time.Minute
)

// warmer dials for one subscription, and keeps one connection per endpoint ready while no other is open to it, so that
// a fault does not pay for TCP and TLS set-up. Safe for concurrent use.
type warmer struct {
	way atomic.Pointer[way] // of connections that are made from now on

	// moved is told when the consumer can't be connected to any more, and when it can again. It must not block.
	moved func(away bool)
	away  atomic.Int64 // Unix ns since when no endpoint can be connected to; 0: one can, or nobody tried

	mu     sync.Mutex
	open   map[string]int   // connections by address, warm ones included
	warm   map[string]*line // by address: dialled, and not used yet
	closed bool
}

func newWarmer() *warmer {
	return &warmer{moved: func(bool) {}, open: map[string]int{}, warm: map[string]*line{}}
}

// leave notes that no endpoint could be connected to.
func (w *warmer) leave(now time.Time) {
	if w.away.CompareAndSwap(0, now.UnixNano()) {
		w.moved(true)
	}
}

// back notes that one could.
func (w *warmer) back() {
	if w.away.Swap(0) != 0 {
		w.moved(false)
	}
}

// since is when the consumer went out of reach; zero when it did not.
func (w *warmer) since() time.Time {
	if at := w.away.Load(); at != 0 {
		return time.Unix(0, at)
	}
	return time.Time{}
}

// line is a connection that tells the warmer when it closes.
type line struct {
	net.Conn
	w       *warmer
	way     *way
	address string
	raw     net.Conn                  // below TLS
	kept    bool                      // was warm
	wrote   atomic.Pointer[time.Time] // when Write was first called since watch; nil: not yet
	once    sync.Once
}

func (l *line) Close() error {
	l.once.Do(func() {
		l.w.mu.Lock()
		if l.w.open[l.address]--; l.w.open[l.address] <= 0 {
			delete(l.w.open, l.address)
		}
		if l.w.warm[l.address] == l {
			delete(l.w.warm, l.address)
		}
		l.w.mu.Unlock()
	})
	return l.Conn.Close()
}

const (
	settleTimeout = 200 * time.Millisecond
	ticketTimeout = time.Millisecond
)

// settled waits for what a server of TLS 1.3 says behind the handshake: tickets, or that it refuses our certificate, which it
// has not seen before (RFC 8446 4.6.1, 4.4.2.4).
func (l *line) settled() bool {
	_, secure := l.Conn.(*tls.Conn)
	return !secure || l.quiet(settleTimeout)
}

// quiet reports whether nothing but what belongs to TLS itself comes within a time.
func (l *line) quiet(within time.Duration) bool {
	_ = l.Conn.SetReadDeadline(time.Now().Add(within))
	var b [1]byte
	n, err := l.Conn.Read(b[:])
	return n == 0 && errors.Is(err, os.ErrDeadlineExceeded) && l.Conn.SetReadDeadline(time.Time{}) == nil
}

// alive reports whether a connection on which nothing was sent yet is as silent as it should be: what can be read from
// it is its end, or an error, or of TLS a late ticket.
func (l *line) alive() bool {
	if l.silent() {
		return true
	}
	_, secure := l.Conn.(*tls.Conn)
	return secure && l.quiet(ticketTimeout)
}

// silent reports whether there is nothing to be read from the kernel.
func (l *line) silent() bool {
	sc, ok := l.raw.(syscall.Conn)
	if !ok {
		return true
	}
	rc, err := sc.SyscallConn()
	if err != nil {
		return false
	}
	silent := false
	if err := rc.Control(func(fd uintptr) {
		var b [1]byte
		_, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		silent = errors.Is(err, syscall.EAGAIN)
	}); err != nil {
		return false
	}
	return silent
}

// take hands out the warm connection, or dials.
func (w *warmer) take(ctx context.Context, by *way, address string, secure bool) (net.Conn, error) {
	w.mu.Lock()
	l := w.warm[address]
	delete(w.warm, address)
	w.mu.Unlock()
	if l != nil {
		if l.way == by && l.alive() {
			return l, nil
		}
		_ = l.Close()
	}
	return w.connect(ctx, by, address, secure)
}

func (w *warmer) connect(ctx context.Context, by *way, address string, secure bool) (*line, error) {
	raw, err := by.dial(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	l := &line{Conn: raw, raw: raw, w: w, way: by, address: address}
	if secure {
		if l.Conn, err = secured(ctx, by.tls, raw, address); err != nil {
			_ = raw.Close()
			return nil, err
		}
	}
	w.mu.Lock()
	w.open[address]++
	w.mu.Unlock()
	w.back()
	return l, nil
}

func secured(ctx context.Context, config *tls.Config, raw net.Conn, address string) (net.Conn, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, fmt.Errorf("address %s: %w", address, err)
	}
	if config.ServerName == "" {
		config = config.Clone()
		config.ServerName = host
	}
	c := tls.Client(raw, config)
	ctx, cancel := context.WithTimeoutCause(ctx, tlsTimeout, fmt.Errorf("not within %v", tlsTimeout))
	defer cancel()
	if err := c.HandshakeContext(ctx); err != nil {
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		return nil, fmt.Errorf("tls handshake with %s: %w", address, err)
	}
	return c, nil
}

// drop closes what is warm.
func (w *warmer) drop() {
	w.mu.Lock()
	var all []*line
	for _, l := range w.warm {
		all = append(all, l)
	}
	w.mu.Unlock()
	for _, l := range all {
		_ = l.Close()
	}
}

func (w *warmer) close() {
	w.mu.Lock()
	w.closed = true
	w.mu.Unlock()
	w.drop()
}

// keep keeps endpoints warm until ctx or stop ends, with pauses of at most longest while one can't be connected to. It looks
// every warmPause, because the end of an idle connection shows only when it is looked at.
func (w *warmer) keep(ctx context.Context, stop <-chan struct{}, longest time.Duration, now func() time.Time, endpoints func() []string) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	pause := time.Duration(0)
	for {
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
		case <-stop:
		case <-timer.C:
			all := endpoints()
			failed := w.ensureAll(ctx, all)
			if failed > 0 && failed == len(all) && ctx.Err() == nil {
				w.leave(now())
			}
			if failed > 0 {
				pause = min(max(2*pause, warmPause), longest)
			} else {
				pause = warmPause
			}
			continue
		}
		timer.Stop()
		return
	}
}

// ensureAll returns how many failed. They don't wait for each other: one that is silent takes its time.
func (w *warmer) ensureAll(ctx context.Context, endpoints []string) int {
	var failed atomic.Int64
	var group sync.WaitGroup
	for _, e := range endpoints {
		group.Go(func() {
			if err := w.ensure(ctx, e); err != nil {
				failed.Add(1)
			}
		})
	}
	group.Wait()
	return int(failed.Load())
}

// ensure has one live connection open to an endpoint.
func (w *warmer) ensure(ctx context.Context, endpoint string) error {
	u, err := url.Parse(endpoint)
	if err != nil {
		return err
	}
	port := u.Port()
	if port == "" {
		if port = "80"; u.Scheme == "https" {
			port = "443"
		}
	}
	address := net.JoinHostPort(u.Hostname(), port)
	w.mu.Lock()
	l, n, closed := w.warm[address], w.open[address], w.closed
	w.mu.Unlock()
	if closed || n > 0 && (l == nil || l.alive()) && w.away.Load() == 0 { // a connection that hangs proves nothing
		return nil
	}
	if l != nil {
		_ = l.Close()
	}
	ctx, cancel := context.WithTimeout(ctx, dialTimeout+tlsTimeout)
	defer cancel()
	by := w.way.Load()
	if l, err = w.connect(ctx, by, address, u.Scheme == "https"); err != nil {
		return err
	}
	l.kept = true
	if !l.settled() {
		return l.Close() // the consumer is there; why it wants no such connection a request will tell
	}
	w.mu.Lock()
	if w.closed || w.warm[address] != nil || w.way.Load() != by {
		w.mu.Unlock()
		return l.Close()
	}
	w.warm[address] = l
	w.mu.Unlock()
	return nil
}
