package notify

import (
	"bufio"
	"context"
	"encoding/base64"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/paramedic-ha/paramedic/correlate"
	"github.com/paramedic-ha/paramedic/notify/delivery"
)

// proxy is a forward proxy that knows CONNECT alone. answer, when it is set, says what it answers instead.
type proxy struct {
	net.Listener
	answer atomic.Pointer[func(net.Conn)]

	mu    sync.Mutex
	asked []*http.Request
	open  []net.Conn
}

func newProxy(t testing.TB) *proxy {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{Listener: ln}
	var group sync.WaitGroup
	group.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			p.hold(conn)
			group.Go(func() { p.serve(conn) })
		}
	})
	t.Cleanup(func() {
		_ = ln.Close()
		p.cut()
		group.Wait()
	})
	return p
}

func (p *proxy) hold(conn net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.open = append(p.open, conn)
}

// cut closes all connections.
func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.open {
		_ = c.Close()
	}
	p.open = nil
}

func (p *proxy) serve(conn net.Conn) {
	defer conn.Close()
	in := bufio.NewReader(conn)
	r, err := http.ReadRequest(in)
	if err != nil {
		return
	}
	p.mu.Lock()
	p.asked = append(p.asked, r)
	p.mu.Unlock()
	if answer := p.answer.Load(); answer != nil {
		(*answer)(conn)
		return
	}
	to, err := net.Dial("tcp", r.Host)
	if err != nil {
		_, _ = io.WriteString(conn, "HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n")
		return
	}
	p.hold(to)
	defer to.Close()
	_, _ = io.WriteString(conn, "HTTP/1.1 200 Connection established\r\n\r\n")
	go func() { _, _ = io.Copy(to, in); _ = to.(*net.TCPConn).CloseWrite() }()
	_, _ = io.Copy(conn, to)
}

func (p *proxy) says(text string) {
	answer := func(c net.Conn) { _, _ = io.WriteString(c, text) }
	p.answer.Store(&answer)
}

func (p *proxy) requests() []*http.Request {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]*http.Request(nil), p.asked...)
}

// by is the way of a subscription by a proxy, with a name server of its own.
func (p *proxy) by(s Subscription, names *net.Resolver) *way {
	return &way{dial: newProxyDialer(Proxy{Address: p.Addr().String()}, "test", anywhere, names), tls: s.tlsConfig()}
}

// TestAProxyIsAskedForTheAddressThatWasJudged, for http and https alike; the name stays here, and in the TLS of the consumer.
func TestAProxyIsAskedForTheAddressThatWasJudged(t *testing.T) {
	a := newAuthority(t)
	names := nameServer(t, func(int64) []string { return []string{"127.0.0.1"} })
	plain := newConsumer(t, nil)
	secure := secureConsumer(t, a, "consumer.example", time.Now().Add(time.Hour), nil, nil)
	for _, c := range []*consumer{plain, secure} {
		p := newProxy(t)
		scheme, address, _ := strings.Cut(c.URL, "://")
		_, port, _ := net.SplitHostPort(address)
		s := Subscription{Endpoints: []string{scheme + "://consumer.example:" + port + "/x"}, Link: Link{Authorities: a.pem}}
		out := newSender("test", p.by(s, names), time.Now)
		if err := out.warm.ensure(t.Context(), s.Endpoints[0]); err != nil || len(out.warm.warm) != 1 {
			t.Errorf("no warm connection: %v", err)
		}
		for range 2 {
			if r := out.post(t.Context(), s.Endpoints, s.request("id", []byte("body"))); r.outcome.Verdict != delivery.Settled {
				t.Errorf("%+v", r.outcome)
			}
		}
		out.close()
		asked := p.requests()
		if len(asked) != 1 || asked[0].Method != http.MethodConnect || asked[0].Host != "127.0.0.1:"+port || asked[0].Header.Get("Proxy-Authorization") != "" {
			t.Errorf("the proxy was asked %+v", asked)
		}
		if got := c.messages(); len(got) != 2 || got[0].header.Get("Proxy-Authorization") != "" {
			t.Errorf("%d messages came", len(got))
		}
	}
}

// TestAProxyLeadsNowhereThatIsNotAllowed: it is not even asked.
func TestAProxyLeadsNowhereThatIsNotAllowed(t *testing.T) {
	p := newProxy(t)
	metadata := nameServer(t, func(int64) []string { return []string{"169.254.169.254"} })
	for _, host := range []string{"169.254.169.254", "[::ffff:169.254.169.254]", "metadata.example", "127.0.0.1"} {
		out := newSender("test", &way{dial: newProxyDialer(Proxy{Address: p.Addr().String()}, "test", nil, metadata), tls: Subscription{}.tlsConfig()}, time.Now)
		r := out.post(t.Context(), []string{"http://" + host + "/latest/meta-data"}, request{id: "id"})
		out.close()
		if r.reached || r.outcome.Verdict != delivery.Retry || !strings.Contains(r.outcome.Err, "allow_callbacks") {
			t.Errorf("%s: %+v", host, r)
		}
	}
	if n := len(p.requests()); n != 0 {
		t.Errorf("asked %d times", n)
	}
}

// TestAProxyThatDoesNotConnectIsRetriedWithAPlainReason: nothing has reached the consumer, so a peer may be asked.
func TestAProxyThatDoesNotConnectIsRetriedWithAPlainReason(t *testing.T) {
	c := newConsumer(t, nil)
	p := newProxy(t)
	secret := basic(t, "me", "HUSHHUSH")
	try := func(want string) {
		t.Helper()
		w := &way{dial: newProxyDialer(Proxy{Address: p.Addr().String(), Credentials: secret}, "test", anywhere, nil), tls: Subscription{}.tlsConfig()}
		out := newSender("test", w, time.Now)
		defer out.close()
		begin := time.Now()
		r := out.post(t.Context(), []string{c.URL}, request{id: "id", connect: connectTimeout})
		if r.reached || r.outcome.Verdict != delivery.Retry || !strings.Contains(r.outcome.Err, want) || strings.Contains(r.outcome.Err, "HUSH") {
			t.Errorf("reached %v, %+v, want %q", r.reached, r.outcome, want)
		}
		if took := time.Since(begin); took > patience/4 {
			t.Errorf("after %v", took)
		}
	}
	for answer, want := range map[string]string{
		"HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic realm=\"HUSH\"\r\n\r\n": "407: it wants a user and password",
		"HTTP/1.1 403 HUSH\r\nContent-Length: 4\r\n\r\nHUSH":                                             "it answered 403 to CONNECT 127.0.0.1:",
		"HTTP/1.1 503 Busy\r\nRetry-After: 60\r\n\r\n":                                                   "it answered 503",
		"HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 200 OK\r\n\r\n":                                                 "more than an answer",
		"SSH-2.0-OpenSSH\r\n": "its answer: ",
		"":                    "its answer: ",
		"HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 2*maxHeader): "its answer: ",
	} {
		p.says(answer)
		try(want)
	}
	hang := func(c net.Conn) { _, _ = io.Copy(io.Discard, c) }
	p.answer.Store(&hang)
	try("no connection in time (250ms")
	for _, r := range p.requests() {
		if r.Header.Get("Proxy-Authorization") != "Basic "+base64.StdEncoding.EncodeToString([]byte("me:HUSHHUSH")) {
			t.Errorf("%v", r.Header)
		}
	}
	_ = p.Close()
	p.cut()
	try("connection refused")
	if len(c.messages()) != 0 {
		t.Error("the consumer was told")
	}
}

// TestAProxyThatHangsIsCutOff with what was waited for, in either state of the asking.
func TestAProxyThatHangsIsCutOff(t *testing.T) {
	p := newProxy(t)
	hang := func(c net.Conn) { _, _ = io.Copy(io.Discard, c) }
	p.answer.Store(&hang)
	ctx, cancel := context.WithTimeoutCause(t.Context(), 100*time.Millisecond, errConnect)
	defer cancel()
	if _, err := newProxyDialer(Proxy{Address: p.Addr().String()}, "test", anywhere, nil)(ctx, "tcp", "192.0.2.1:80"); !errors.Is(err, errConnect) || len(p.requests()) != 1 {
		t.Errorf("%v, asked %d times", err, len(p.requests()))
	}
	if _, err := newProxyDialer(Proxy{Address: p.Addr().String()}, "test", anywhere, nil)(ctx, "tcp", "192.0.2.1:80"); err == nil {
		t.Error("a connection behind the end")
	}
}

// TestTheNextAddressStandsInForOneThatTheProxyDoesNotReach.
func TestTheNextAddressStandsInForOneThatTheProxyDoesNotReach(t *testing.T) {
	c := newConsumer(t, nil)
	_, port, _ := net.SplitHostPort(strings.TrimPrefix(c.URL, "http://"))
	p := newProxy(t)
	s := Subscription{Endpoints: []string{"http://consumer.example:" + port + "/"}}
	out := newSender("test", p.by(s, nameServer(t, func(int64) []string { return []string{"127.0.0.9", "127.0.0.1"} })), time.Now)
	defer out.close()
	if r := out.post(t.Context(), s.Endpoints, s.request("id", nil)); r.outcome.Verdict != delivery.Settled {
		t.Error(r.outcome.Err)
	}
}

// TestTheProxyOfTheHostIsTakenUnlessASubscriptionGoesPastIt; one of the environment never is.
func TestTheProxyOfTheHostIsTakenUnlessASubscriptionGoesPastIt(t *testing.T) {
	p, other := newProxy(t), newProxy(t)
	for _, name := range []string{"HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"} {
		t.Setenv(name, "http://"+other.Addr().String())
	}
	c, d := newConsumer(t, nil), newConsumer(t, nil)
	cfg, _ := testConfig(t, t.TempDir())
	cfg.Proxy = &Proxy{Address: p.Addr().String()}
	by, past := fileSub("by", c.URL), fileSub("past", d.URL)
	past.Link.Direct = true
	n, _ := start(t, cfg, by, past)
	eventually(t, "the proxy is asked for a warm connection", func() bool { return len(p.requests()) > 0 })
	n.Publish(effects(alarm("a1", 1, correlate.Raised)))
	c.waitFor(t, 1)
	d.waitFor(t, 1)
	eventually(t, "both have settled", func() bool { return len(n.Profile()) == 2 })
	for _, r := range p.requests() { // two, if the warm connection was not there yet
		if "http://"+r.Host != c.URL {
			t.Errorf("the proxy was asked for %s", r.Host)
		}
	}
	if len(other.requests()) != 0 {
		t.Error("the proxy of the environment was asked")
	}
}

// TestAProxyThatDiesCostsNothingButAnAttempt: what is owed is told when it is back.
func TestAProxyThatDiesCostsNothingButAnAttempt(t *testing.T) {
	p := newProxy(t)
	c := newConsumer(t, nil)
	cfg, _ := testConfig(t, t.TempDir())
	cfg.Proxy = &Proxy{Address: p.Addr().String()}
	n, _ := start(t, cfg, fileSub("a", c.URL))
	n.Publish(effects(alarm("a1", 1, correlate.Raised)))
	c.waitFor(t, 1)
	p.says("HTTP/1.1 502 Bad Gateway\r\n\r\n")
	p.cut()
	n.Publish(effects(alarm("a1", 2, correlate.Changed)))
	eventually(t, "an attempt has failed", func() bool {
		d := n.Deliveries("")
		return len(d) == 1 && strings.Contains(d[0].LastError, "it answered 502")
	})
	p.answer.Store(nil)
	if got := c.waitFor(t, 2); got[1].event.Data.Alarm.Revision != rev(2).String() {
		t.Errorf("%s", got[1].body)
	}
}

// TestAPeerDeliversWhatTheProxyOfThisHostDoesNot: nothing of the request has left, and the peer has a way of its own.
func TestAPeerDeliversWhatTheProxyOfThisHostDoesNot(t *testing.T) {
	c := newConsumer(t, nil)
	peerConfig, _ := testConfig(t, t.TempDir())
	peerConfig.Node = "cmp-2"
	peer, _ := start(t, peerConfig, fileSub("a", c.URL))
	o := newOthers()
	o.deliver = peer.Deliver
	p := newProxy(t)
	p.says("HTTP/1.1 403 Forbidden\r\n\r\n")
	cfg, _ := testConfig(t, t.TempDir())
	cfg.Peers, cfg.Proxy = o, &Proxy{Address: p.Addr().String()}
	n, _ := start(t, cfg, fileSub("a", c.URL))
	n.Publish(effects(alarm("a1", 1, correlate.Raised)))
	if m := c.waitFor(t, 1)[0]; m.event.Data.Reporter != "cmp-2" {
		t.Errorf("%s", m.body)
	}
	eventually(t, "it has settled", func() bool { return len(n.Deliveries("")) == 0 })
}
