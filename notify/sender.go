package notify

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/paramedic-ha/paramedic/notify/delivery"
)

// Bounds of each stage of a request. A consumer that hangs costs one of its own slots for totalTimeout at most.
const (
	dialTimeout   = 3 * time.Second
	tlsTimeout    = 3 * time.Second
	headerTimeout = 10 * time.Second
	totalTimeout  = 15 * time.Second
	maxAnswer     = 64 << 10 // bytes of an answer that are read
	maxHeader     = 64 << 10
	drainTimeout  = 2 * time.Second
	preferFor     = 30 * time.Second // how long an endpoint that stood in for a dead one is tried first
	// connectTimeout is how long all endpoints together may take to be connected to before a peer is asked instead.
	connectTimeout = 250 * time.Millisecond
)

var errConnect = fmt.Errorf("no connection in time (%v for all endpoints, with peers to ask instead)", connectTimeout)

var keepAlive = net.KeepAliveConfig{Enable: true, Idle: 10 * time.Second, Interval: 5 * time.Second, Count: 3}

type dialFunc func(ctx context.Context, network, address string) (net.Conn, error)

// newDialer dials only where CheckCallback permits, judged on the very address that is connected to, so that no name leads
// elsewhere, however often it changes. A nil resolver is the system's.
func newDialer(allow []netip.Prefix, names *net.Resolver) dialFunc {
	d := &net.Dialer{
		Timeout:         dialTimeout,
		Resolver:        names,
		KeepAliveConfig: keepAlive,
		Control: func(_, address string, _ syscall.RawConn) error {
			at, err := netip.ParseAddrPort(address)
			if err != nil {
				return fmt.Errorf("callback address %s: %w", address, err)
			}
			return CheckCallback(allow, at.Addr())
		},
	}
	return d.DialContext
}

// sender makes one subscription's requests over its own connections. Safe for concurrent use.
type sender struct {
	agent     string
	transport atomic.Pointer[http.Transport]
	warm      *warmer
	now       func() time.Time
	preferred atomic.Int64 // index of the endpoint to try first
	until     atomic.Int64 // Unix ns; preferred holds until then
}

func newSender(agent string, by *way, now func() time.Time) *sender {
	s := &sender{agent: agent, now: now, warm: newWarmer()}
	s.use(by)
	return s
}

// use has all requests from now on go another way; those that are under way end as they began, and their connections with them.
func (s *sender) use(by *way) {
	s.warm.way.Store(by)
	dial := func(secure bool) dialFunc {
		return func(ctx context.Context, _, address string) (net.Conn, error) {
			return s.warm.take(ctx, by, address, secure)
		}
	}
	before := s.transport.Swap(&http.Transport{
		Proxy:                  nil, // never from the environment: a callback goes where it says
		DialContext:            dial(false),
		DialTLSContext:         dial(true),
		MaxIdleConns:           16,
		MaxIdleConnsPerHost:    8,
		IdleConnTimeout:        90 * time.Second,
		ResponseHeaderTimeout:  headerTimeout,
		MaxResponseHeaderBytes: maxHeader,
		DisableCompression:     true,
		ForceAttemptHTTP2:      false,
	})
	if before != nil {
		before.CloseIdleConnections() // and those that become idle: nobody asks it for one any more
		s.warm.drop()
	}
}

func (s *sender) close() {
	s.transport.Load().CloseIdleConnections()
	s.warm.close()
}

// request is one message to a consumer.
type request struct {
	id, contentType string
	header          map[string]string // beside those that every request has; nil: none
	body            []byte
	secret          Secret
	credentials     Credentials
	want            int           // how much of the answer is kept; 0: only judged
	connect         time.Duration // for all endpoints to be connected to; 0: dialTimeout and tlsTimeout alone count
}

// answer is what came back.
type answer struct {
	outcome        delivery.Outcome
	status         int
	reached        bool // bytes of the request may have come to a consumer
	sent, answered time.Time
	body           []byte
}

// post tries the endpoints in order until one answers at all. It never returns later than totalTimeout for each.
func (s *sender) post(ctx context.Context, endpoints []string, r request) answer {
	first := 0
	if s.now().UnixNano() < s.until.Load() {
		first = int(s.preferred.Load()) % len(endpoints)
	}
	var a answer
	reached, begin := false, s.now()
	for i := range endpoints {
		n := (first + i) % len(endpoints)
		var err error
		share := time.Duration(0)
		if r.connect > 0 { // what is left, evenly: a dead endpoint, or a deaf one, does not take the time of those behind it
			share = max(r.connect/time.Duration(len(endpoints)), (r.connect-s.now().Sub(begin))/time.Duration(len(endpoints)-i))
		}
		a, err = s.attempt(ctx, endpoints[n], r, share)
		reached = reached || a.reached
		if a.reached = reached; err == nil {
			s.warm.back()
			if i > 0 {
				s.preferred.Store(int64(n))
				s.until.Store(s.now().Add(preferFor).UnixNano())
			}
			return a
		}
		a.outcome = delivery.Outcome{Verdict: delivery.Retry, Err: plain(err)}
		if ctx.Err() != nil {
			return a
		}
	}
	if !reached {
		s.warm.leave(s.now())
	}
	return a
}

// attempt posts to one endpoint. A connection that had died while idle costs nothing but a second, fresh one; so does one
// that is deaf, for that may be a firewall's doing, which has forgotten it.
func (s *sender) attempt(ctx context.Context, endpoint string, r request, connect time.Duration) (answer, error) {
	ctx, cancel := context.WithTimeout(ctx, totalTimeout)
	defer cancel()
	a, old, err := s.once(ctx, endpoint, r, connect)
	deaf := errors.Is(err, errDeaf)
	if err != nil && old && (deaf || stale(err)) && ctx.Err() == nil {
		s.transport.Load().CloseIdleConnections()
		s.warm.drop()
		if deaf {
			connect /= 2
		}
		first := a.reached
		a, _, err = s.once(ctx, endpoint, r, connect)
		a.reached = a.reached || first
	}
	return a, err
}

// once makes one request. With connect, which says that somebody else can be asked, it gives up early: when no connection
// is there in that time, and when the consumer's host doesn't acknowledge what it is sent. Neither counts as reached.
func (s *sender) once(ctx context.Context, endpoint string, r request, connect time.Duration) (a answer, old bool, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var connected atomic.Bool
	if connect > 0 {
		defer time.AfterFunc(connect, func() {
			if !connected.Load() {
				cancel(errConnect) // the dial itself goes on for a while, and leaves a connection for the next request
			}
		}).Stop()
	}
	trace := &httptrace.ClientTrace{GotConn: func(i httptrace.GotConnInfo) {
		connected.Store(true)
		l, ours := i.Conn.(*line)
		a.reached, old = true, i.Reused || ours && l.kept
		if ours && connect > 0 {
			l.watch(ctx, func() { cancel(errDeaf) })
		}
	}}
	req, err := http.NewRequestWithContext(httptrace.WithClientTrace(ctx, trace), http.MethodPost, endpoint, bytes.NewReader(r.body))
	if err != nil {
		return a, false, err
	}
	a.sent = s.now()
	req.Header.Set("Content-Type", r.contentType)
	req.Header.Set("User-Agent", s.agent)
	for name, value := range r.header {
		req.Header.Set(name, value)
	}
	req.Header[http.CanonicalHeaderKey(HeaderID)] = []string{r.id}
	req.Header[http.CanonicalHeaderKey(HeaderTimestamp)] = []string{strconv.FormatInt(a.sent.Unix(), 10)}
	if !r.secret.IsZero() {
		req.Header[http.CanonicalHeaderKey(HeaderSignature)] = []string{Sign(r.id, a.sent, r.body, r.secret)}
	}
	r.credentials.authorize(req.Header, "Authorization")
	resp, err := s.transport.Load().RoundTrip(req)
	if err != nil {
		cause := context.Cause(ctx)
		if errors.Is(cause, errDeaf) {
			a.reached = false
		}
		if errors.Is(cause, errConnect) || errors.Is(cause, errDeaf) {
			err = cause
		}
		return a, old, err
	}
	a.answered, a.status = s.now(), resp.StatusCode
	a.outcome = delivery.Classify(resp.StatusCode, resp.Header.Get("Retry-After"), a.answered)
	if resp.StatusCode == http.StatusUnauthorized && req.Header.Get("Authorization") != "" { // they are renewed, and here not at the same moment
		a.outcome = delivery.Outcome{Verdict: delivery.Retry, Err: "answered 401: it does not take the subscription's credentials"}
	}
	a.body = drain(resp.Body, r.want)
	return a, old, nil
}

// drain reads an answer's body so far that the connection can be used again, and no further. The status has judged the
// delivery already, so that a body which never ends harms nobody.
func drain(body io.ReadCloser, want int) []byte {
	cut := time.AfterFunc(drainTimeout, func() { _ = body.Close() })
	defer cut.Stop()
	defer body.Close()
	var kept []byte
	if want > 0 {
		kept, _ = io.ReadAll(io.LimitReader(body, int64(want)))
	}
	_, _ = io.CopyN(io.Discard, body, maxAnswer)
	return kept
}

// stale reports whether err may come from a connection that its peer had closed: not a timeout, and no answer began.
func stale(err error) bool {
	var t net.Error
	return !errors.As(err, &t) || !t.Timeout()
}

// plain is an error's text without the URL, which may hold what the consumer keeps secret.
func plain(err error) string {
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return "no answer in time" // headerTimeout or totalTimeout: a header's end, or all of it
	}
	const most = 300
	text := err.Error()
	return strings.ToValidUTF8(text[:min(len(text), most)], "") // it may quote the consumer, and be cut within a letter
}
