package api

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/time/rate"

	"github.com/paramedic-ha/paramedic/notify/format"
)

const (
	requestTimeout = 10 * time.Second // for the backend to answer
	// consumerTimeout is for answers that wait for a consumer: a callback is asked in two ways, 15 s each.
	consumerTimeout = 35 * time.Second
	headerTimeout   = 5 * time.Second
	writeTimeout    = requestTimeout + 5*time.Second // for the client to take the answer, from the request's end
	idleTimeout     = 2 * time.Minute
	shutdownWithin  = 1500 * time.Millisecond
	maxHeader       = 16 << 10
	maxConnections  = 256
	// maxWatchers keeps connections free for everything else.
	maxWatchers = 64
	// streamWrite is how long a watcher may take for one event before it is cut; heartbeat is how often an idle one
	// hears from us.
	streamWrite = 5 * time.Second
	heartbeat   = 15 * time.Second
)

// Config is what a Server is made of; all fields are needed that do not say otherwise.
type Config struct {
	Backend  Backend
	Node     string // name of this host
	Socket   string // path of the Unix socket
	Listen   string // address and port of TCP; empty: the socket alone
	Access   Access // of TCP
	Log      *slog.Logger
	Gatherer prometheus.Gatherer // of /metrics
	SOL      format.SOLSite      // may be zero
}

// Server serves the API.
type Server struct {
	backend  Backend
	node     string
	sol      format.SOLSite
	now      func() time.Time
	log      *slog.Logger
	listener *listener
	tcp      *tcpListener // nil: the socket alone
	access   atomic.Pointer[grant]
	limits   *limits
	audits   *auditLog
	http     *http.Server
	watchers chan struct{} // holds one of each running watch
	closing  chan struct{} // closed when the server shuts down: streams end
	complain *rate.Limiter // of lines about refused events

	heartbeat, streamWrite, health time.Duration // the constants, but for tests
}

// New opens the socket, and the port of TCP; clients that connect wait until Run. Call Run or Close, or the socket stays.
//
// A socket on which another process listens is an error; one that a crashed agent left is replaced.
func New(c Config) (*Server, error) {
	s := &Server{
		backend:  c.Backend,
		node:     c.Node,
		sol:      c.SOL,
		now:      time.Now,
		log:      c.Log,
		limits:   newLimits(),
		audits:   newAuditLog(),
		watchers: make(chan struct{}, maxWatchers),
		closing:  make(chan struct{}),
		complain: rate.NewLimiter(1, 10),

		heartbeat: heartbeat, streamWrite: streamWrite, health: healthTimeout,
	}
	var err error
	if s.listener, err = listen(c.Socket, maxConnections); err != nil {
		return nil, err
	}
	s.SetAccess(c.Access)
	if c.Listen != "" {
		if s.tcp, err = listenTCP(c.Listen, s.log); err != nil {
			return nil, errors.Join(err, s.listener.Close())
		}
	}
	var protocols http.Protocols
	protocols.SetHTTP1(true) // many streams over one connection would pass the limits of connections by
	s.http = &http.Server{
		Protocols:         &protocols,
		Handler:           s.handler(c.Gatherer),
		ReadHeaderTimeout: headerTimeout,
		ReadTimeout:       requestTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
		ConnContext:       s.withPeer,
		ErrorLog:          slog.NewLogLogger(c.Log.Handler(), slog.LevelDebug),
	}
	s.http.RegisterOnShutdown(func() { close(s.closing) })
	return s, nil
}

// Close gives the socket back when Run was never called.
func (s *Server) Close() error {
	if s.tcp != nil {
		return errors.Join(s.listener.Close(), s.tcp.Close())
	}
	return s.listener.Close()
}

// Run serves until ctx ends. Then streams end, requests in flight have a moment to finish and are cut, the socket is
// removed, and Run returns nil, all within two seconds. Call it once.
func (s *Server) Run(ctx context.Context) error {
	requests, cut := context.WithCancel(context.WithoutCancel(ctx))
	defer cut()
	s.http.BaseContext = func(net.Listener) context.Context { return requests }

	listeners := []net.Listener{s.listener}
	if s.tcp != nil {
		listeners = append(listeners, s.overTCP())
	}
	served := make(chan error, len(listeners))
	for _, l := range listeners {
		go func() { served <- s.http.Serve(l) }()
	}
	select {
	case err := <-served:
		err = errors.Join(err, s.http.Close(), s.Close())
		for range len(listeners) - 1 {
			err = errors.Join(err, <-served)
		}
		return fmt.Errorf("serve the API: %w", err)
	case <-ctx.Done():
	}
	grace, cancel := context.WithTimeout(requests, shutdownWithin)
	defer cancel()
	if err := s.http.Shutdown(grace); err != nil {
		s.log.Warn("API requests were cut", "error", err)
		cut()
		if err := s.http.Close(); err != nil {
			return fmt.Errorf("close the API: %w", err)
		}
	}
	for range listeners {
		if err := <-served; !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("serve the API: %w", err)
		}
	}
	return nil
}

// guard finds out who calls, bounds how often, keeps the audit log, and turns a panic into an answer.
func (s *Server) guard(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		c := s.newCall(r)
		w = &recorder{ResponseWriter: w, call: c}
		r = r.WithContext(withCall(r.Context(), c))
		defer s.audit(r, c)
		defer func() {
			// ErrAbortHandler is net/http's way to drop a connection.
			if p := recover(); p != nil && p != http.ErrAbortHandler { //nolint:errorlint // a panic's value, compared as net/http does
				s.log.Error("request panicked", "method", r.Method, "path", r.URL.Path, "panic", p, "stack", string(debug.Stack()))
				s.refuse(w, r, &refusal{
					http.StatusInternalServerError, "internal", "the agent failed",
					"a defect in the agent: please report it with the agent's log",
				})
			} else if p != nil {
				panic(p)
			}
		}()
		w.Header().Set("Cache-Control", "no-store")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		if c.identity.role == "" {
			w.Header().Set("Connection", "close") // nobody keeps a place
		}
		if wait := s.limits.wait(c, s.now()); wait > 0 {
			s.refuse(w, r, tooManyRequests(w, wait))
			return
		}
		next(w, r)
	}
}

// within gives the backend so long, and the connection a little more.
func (s *Server) within(limit time.Duration, next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if limit > requestTimeout {
			control, end := http.NewResponseController(w), time.Now().Add(limit+writeTimeout-requestTimeout)
			if err := errors.Join(control.SetReadDeadline(end), control.SetWriteDeadline(end)); err != nil {
				s.refuse(w, r, fmt.Errorf("take time for the request: %w", err))
				return
			}
		}
		ctx, cancel := context.WithTimeout(r.Context(), limit)
		defer cancel()
		next(w, r.WithContext(ctx))
	}
}
