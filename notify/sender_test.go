package notify

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/paramedic-ha/paramedic/correlate"
	"github.com/paramedic-ha/paramedic/notify/delivery"
)

func post(t testing.TB, url string) answer {
	t.Helper()
	s := newSender("test", direct(nil), time.Now)
	t.Cleanup(s.close)
	return s.post(t.Context(), []string{url}, request{id: "id", contentType: "text/plain", body: []byte("body")})
}

func TestEachAnswerIsTakenForWhatItIs(t *testing.T) {
	elsewhere := newConsumer(t, nil)
	for name, test := range map[string]struct {
		handle func(http.ResponseWriter)
		want   delivery.Verdict
		after  time.Duration
	}{
		"200 with a gigabyte": {func(w http.ResponseWriter) {
			b := make([]byte, 1<<20)
			for range 1024 {
				if _, err := w.Write(b); err != nil {
					return
				}
			}
		}, delivery.Settled, 0},
		"202":      {func(w http.ResponseWriter) { w.WriteHeader(202) }, delivery.Settled, 0},
		"204":      {func(w http.ResponseWriter) { w.WriteHeader(204) }, delivery.Settled, 0},
		"redirect": {func(w http.ResponseWriter) { w.Header().Set("Location", elsewhere.URL); w.WriteHeader(307) }, delivery.Park, 0},
		"404":      {func(w http.ResponseWriter) { w.WriteHeader(404) }, delivery.Park, 0},
		"410":      {func(w http.ResponseWriter) { w.WriteHeader(410) }, delivery.Pause, 0},
		"429":      {func(w http.ResponseWriter) { w.Header().Set("Retry-After", "7"); w.WriteHeader(429) }, delivery.Retry, 7 * time.Second},
		"503":      {func(w http.ResponseWriter) { w.WriteHeader(503) }, delivery.Retry, 0},
		"500":      {func(w http.ResponseWriter) { w.WriteHeader(500) }, delivery.Retry, 0},
		"huge header": {func(w http.ResponseWriter) {
			w.Header().Set("X", strings.Repeat("x", 1<<20))
		}, delivery.Retry, 0},
		"reset": {func(w http.ResponseWriter) {
			c, _, _ := http.NewResponseController(w).Hijack()
			_ = c.(*net.TCPConn).SetLinger(0)
			_ = c.Close()
		}, delivery.Retry, 0},
		"closes early": {func(w http.ResponseWriter) {
			c, _, _ := http.NewResponseController(w).Hijack()
			_, _ = io.WriteString(c, "HTTP/1.1 20")
			_ = c.Close()
		}, delivery.Retry, 0},
		"closes mid-body": {func(w http.ResponseWriter) {
			c, _, _ := http.NewResponseController(w).Hijack()
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc")
			_ = c.Close()
		}, delivery.Settled, 0},
		"no HTTP": {func(w http.ResponseWriter) {
			c, _, _ := http.NewResponseController(w).Hijack()
			_, _ = io.WriteString(c, "SSH-2.0-OpenSSH_9.2\r\n")
			_ = c.Close()
		}, delivery.Retry, 0},
	} {
		t.Run(name, func(t *testing.T) {
			c := newConsumer(t, func(w http.ResponseWriter, _ *http.Request) { test.handle(w) })
			if a := post(t, c.URL); a.outcome.Verdict != test.want || a.outcome.RetryAfter != test.after || (a.outcome.Err == "") != (test.want == delivery.Settled) {
				t.Errorf("%+v", a.outcome)
			}
		})
	}
	if n := len(elsewhere.messages()); n != 0 {
		t.Errorf("a redirect was followed %d times", n)
	}
}

func TestBrokenTLSAndDeadAddressesAreRetriedWithAPlainReason(t *testing.T) {
	c := newConsumer(t, nil)
	dead, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = dead.Close()
	for what, url := range map[string]string{
		"no TLS there":    strings.Replace(c.URL, "http:", "https:", 1) + "/?token=HUSH",
		"nobody listens":  "http://" + dead.Addr().String() + "/?token=HUSH",
		"no such name":    "http://nowhere.invalid/?token=HUSH",
		"no address left": "http://[::1]:0/?token=HUSH",
	} {
		if a := post(t, url); a.outcome.Verdict != delivery.Retry || a.outcome.Err == "" || strings.Contains(a.outcome.Err, "HUSH") {
			t.Errorf("%s: %+v", what, a.outcome)
		}
	}
}

func TestAnUntrustedCertificateIsRefused(t *testing.T) {
	c := newConsumer(t, nil)
	c.Server.Close()
	c.Server = newTLSServer(t)
	if a := post(t, c.URL); a.outcome.Verdict != delivery.Retry || !strings.Contains(a.outcome.Err, "certificate") {
		t.Fatalf("%+v", a.outcome)
	}
}

func TestCallbacksGoOnlyWhereAllowed(t *testing.T) {
	c := newConsumer(t, nil)
	for prefix, want := range map[string]delivery.Verdict{"127.0.0.0/8": delivery.Settled, "10.0.0.0/8": delivery.Retry} {
		s := newSender("test", &way{dial: newDialer(prefixes(prefix), nil), tls: new(tls.Config)}, time.Now)
		a := s.post(t.Context(), []string{c.URL}, request{id: "id", body: []byte("x")})
		if s.close(); a.outcome.Verdict != want {
			t.Errorf("%s: %+v", prefix, a.outcome)
		}
	}
}

func TestTheNextEndpointStandsInForADeadOne(t *testing.T) {
	dead, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = dead.Close()
	c := newConsumer(t, nil)
	s := newSender("test", direct(nil), time.Now)
	defer s.close()
	for range 2 {
		if a := s.post(t.Context(), []string{"http://" + dead.Addr().String(), c.URL}, request{id: "id"}); a.outcome.Verdict != delivery.Settled {
			t.Fatalf("%+v", a.outcome)
		}
	}
	if s.preferred.Load() != 1 {
		t.Fatal("the dead one is still tried first")
	}
}

// TestAConnectionThatDiedWhileIdleCostsNoRetry: the server closes each connection right after its first answer, behind the
// sender's back.
func TestAConnectionThatDiedWhileIdleCostsNoRetry(t *testing.T) {
	var mu sync.Mutex
	conns := map[net.Conn]bool{}
	c := newConsumer(t, nil)
	c.Config.ConnState = nil
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: c.Config.Handler, ConnState: func(c net.Conn, s http.ConnState) {
		mu.Lock()
		defer mu.Unlock()
		conns[c] = s != http.StateClosed
	}}
	go func() { _ = srv.Serve(l) }()
	defer srv.Close()
	s := newSender("test", direct(nil), time.Now)
	defer s.close()
	if err := s.warm.ensure(t.Context(), "http://"+l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	for range 20 {
		if a := s.post(t.Context(), []string{"http://" + l.Addr().String()}, request{id: "id", body: []byte("x")}); a.outcome.Verdict != delivery.Settled {
			t.Fatalf("%+v", a.outcome)
		}
		mu.Lock()
		for c, open := range conns {
			if open {
				_ = c.(*net.TCPConn).SetLinger(0)
				_ = c.Close()
			}
		}
		mu.Unlock()
	}
}

func TestTheFirstDeliveryFindsAWarmConnection(t *testing.T) {
	var opened atomic.Int64
	c := newConsumer(t, nil)
	s := newSender("test", &way{tls: new(tls.Config), dial: func(ctx context.Context, network, address string) (net.Conn, error) {
		opened.Add(1)
		return newDialer(anywhere, nil)(ctx, network, address)
	}}, time.Now)
	defer s.close()
	for range 3 {
		if err := s.warm.ensure(t.Context(), c.URL); err != nil {
			t.Fatal(err)
		}
	}
	for range 3 {
		if a := s.post(t.Context(), []string{c.URL}, request{id: "id"}); a.outcome.Verdict != delivery.Settled {
			t.Fatal(a.outcome.Err)
		}
	}
	if n := opened.Load(); n != 1 {
		t.Fatalf("%d connections were opened", n)
	}
	s.transport.Load().CloseIdleConnections()
	if err := s.warm.ensure(t.Context(), c.URL); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it is warmed again", func() bool {
		_ = s.warm.ensure(t.Context(), c.URL)
		return opened.Load() == 2
	})
}

// begun returns when a request has begun, and reads the rest of it in the background.
func begun(c net.Conn) {
	_, _ = io.ReadFull(c, make([]byte, 10))
	go func() { _, _ = io.Copy(io.Discard, c) }()
}

// TestAHangAtAnyStageIsCutOff runs on a virtual clock over pipes; the HTTP and TLS on them are real.
func TestAHangAtAnyStageIsCutOff(t *testing.T) {
	for name, test := range map[string]struct {
		scheme string
		server func(net.Conn) // nil: the dial itself hangs
		within time.Duration
		want   delivery.Verdict
	}{
		"dial":    {"http", nil, totalTimeout, delivery.Retry},
		"tls":     {"https", func(c net.Conn) { _, _ = io.Copy(io.Discard, c) }, tlsTimeout, delivery.Retry},
		"headers": {"http", func(c net.Conn) { _, _ = io.Copy(io.Discard, c) }, headerTimeout, delivery.Retry},
		"request": {"http", func(c net.Conn) {
			b := make([]byte, 10)
			_, _ = io.ReadFull(c, b)
			time.Sleep(time.Hour)
		}, totalTimeout, delivery.Retry},
		"drip": {"http", func(c net.Conn) {
			begun(c)
			for _, b := range []byte("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n") {
				time.Sleep(time.Second)
				if _, err := c.Write([]byte{b}); err != nil {
					return
				}
			}
		}, headerTimeout, delivery.Retry},
		"body": {"http", func(c net.Conn) {
			begun(c)
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc")
			time.Sleep(time.Hour)
		}, drainTimeout, delivery.Settled},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
					if test.server == nil {
						<-ctx.Done()
						return nil, ctx.Err()
					}
					here, there := net.Pipe()
					go func() { defer there.Close(); test.server(there) }()
					return here, nil
				}
				s := newSender("test", &way{dial: dial, tls: new(tls.Config)}, time.Now)
				defer time.Sleep(2 * time.Hour) // the servers above end
				defer s.close()
				begin := time.Now()
				a := s.post(t.Context(), []string{test.scheme + "://consumer/x"}, request{id: "id", body: make([]byte, 1<<20)})
				if took := time.Since(begin); took > test.within+time.Second || a.outcome.Verdict != test.want {
					t.Errorf("after %v: %+v", took, a.outcome)
				}
			})
		})
	}
}

func TestASlowConsumerDelaysNobody(t *testing.T) {
	block := make(chan struct{})
	slow := newConsumer(t, func(http.ResponseWriter, *http.Request) { <-block })
	defer close(block)
	well := newConsumer(t, nil)
	cfg, _ := testConfig(t, t.TempDir())
	n, _ := start(t, cfg, fileSub("slow", slow.URL), fileSub("well", well.URL))
	for i := range 50 {
		n.Publish(effects(alarm(fmt.Sprint("a", i), uint64(i+1), correlate.Raised)))
	}
	well.waitFor(t, 50)
	if got := len(slow.waitFor(t, 8)); got != 8 {
		t.Fatalf("%d requests at once to one consumer", got)
	}
}
