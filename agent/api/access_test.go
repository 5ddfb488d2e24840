package api

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/paramedic-ha/paramedic/agent/access"
	"github.com/paramedic-ha/paramedic/correlate"
	"github.com/paramedic-ha/paramedic/notify"
)

// otherProject has domains of its own, behind the same uplink.
const (
	otherProject = "9d8d5b1e-0f0a-4c55-8f6f-6a6b7a3b0c02"
	otherDomain  = correlate.ID("domain/bbbbbbbb-4f5a-4a77-9d9c-0a5d3c9a1b03")
)

// authority issues certificates.
type authority struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pool *x509.CertPool
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{t: t, pool: x509.NewCertPool()}
	a.key = newKey(t)
	a.cert = a.sign(&x509.Certificate{
		Subject: pkix.Name{CommonName: "an authority"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}, a.key)
	a.pool.AddCert(a.cert)
	return a
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func (a *authority) sign(c *x509.Certificate, key *ecdsa.PrivateKey) *x509.Certificate {
	a.t.Helper()
	parent := a.cert
	if parent == nil {
		parent = c
	}
	c.SerialNumber = big.NewInt(time.Now().UnixNano())
	c.NotBefore = time.Now().Add(-time.Hour)
	if c.NotAfter.IsZero() {
		c.NotAfter = time.Now().Add(1000 * time.Hour)
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, &key.PublicKey, a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	signed, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	return signed
}

// client is a certificate for a client with some names.
func (a *authority) client(c x509.Certificate) tls.Certificate {
	a.t.Helper()
	key := newKey(a.t)
	c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	return tls.Certificate{Certificate: [][]byte{a.sign(&c, key).Raw}, PrivateKey: key}
}

func (a *authority) server() *tls.Certificate {
	a.t.Helper()
	key := newKey(a.t)
	cert := a.sign(&x509.Certificate{
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
	}, key)
	return &tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key}
}

func tokenFor(name string) string { return "a-token-of-" + name + "-with-more-than-32-characters" }

// the identities of the tests: token tokenFor(name), certificate dns:name.example.
var identities = []access.Identity{
	{Name: "ops", Role: notify.RoleAdmin},
	{Name: "vnfm-a", Role: notify.RoleConsumer, Projects: []string{project}},
	{Name: "vnfm-b", Role: notify.RoleConsumer, Projects: []string{otherProject}},
	{Name: "collectd", Role: access.RoleMonitor},
}

func directoryOf(ids ...access.Identity) *access.Directory {
	d := new(access.Directory)
	for _, i := range ids {
		d.AddToken(sha256.Sum256([]byte(tokenFor(i.Name))), i)
		d.AddCertificate("dns:"+i.Name+".example", i)
	}
	return d
}

// guarded is a server that is reached over TCP and the socket, and what it has logged.
type guarded struct {
	*client // of the socket
	ca      *authority
	address string
	log     *lines
}

type lines struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

// audit are the lines of the audit log since the last call.
func (l *lines) audit(t *testing.T) (all []map[string]any) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	for line := range strings.Lines(l.text.String()) {
		var m map[string]any
		if err := json.Unmarshal([]byte(line), &m); err != nil {
			t.Fatal(err)
		}
		if m["msg"] == "audit" {
			all = append(all, m)
		}
	}
	l.text.Reset()
	return all
}

// serveGuarded serves a host over TCP with TLS, for the identities of the tests.
func serveGuarded(t *testing.T, h *host, change ...func(*Server)) *guarded {
	t.Helper()
	ca, log := newAuthority(t), new(lines)
	socket := filepath.Join(t.TempDir(), "run", "api.sock")
	server, err := New(Config{
		Backend: h, Node: "cmp-1", Socket: socket, Listen: "127.0.0.1:0", Log: slog.New(slog.NewJSONHandler(log, nil)), Gatherer: h.metrics,
		Access: Access{Directory: directoryOf(identities...), Certificate: ca.server(), ClientCAs: ca.pool},
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range change {
		f(server)
	}
	run(t, server.Run)
	return &guarded{client: newClient(t, server, socket), ca: ca, address: server.tcp.Addr().String(), log: log}
}

// unhurried lets a minute pass between two requests: nobody asks too much.
func unhurried(s *Server) {
	var minutes atomic.Int64
	s.now = func() time.Time { return time.Now().Add(time.Duration(minutes.Add(1)) * time.Minute) }
}

// as is a client over TCP, with the header and the certificates of somebody.
func (g *guarded) as(token string, certs ...tls.Certificate) *client {
	g.t.Helper()
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: g.ca.pool, Certificates: certs}}
	g.t.Cleanup(transport.CloseIdleConnections)
	over := &tcpTransport{address: g.address, token: token, next: transport}
	return &client{
		t: g.t, server: g.server, doc: g.doc, seen: g.seen, http: &http.Client{Transport: over, Timeout: 30 * time.Second},
	}
}

type tcpTransport struct {
	address, token string
	next           http.RoundTripper
}

func (t *tcpTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.URL.Scheme, r.URL.Host = "https", t.address
	if t.token != "" {
		r.Header.Set("Authorization", "Bearer "+t.token)
	}
	return t.next.RoundTrip(r)
}

// named is a client with the token of an identity.
func (g *guarded) named(name string) *client { return g.as(tokenFor(name)) }

// addOther adds a domain of another project, which needs something.
func (h *host) addOther(needs correlate.ID) {
	h.step(correlate.Delta{Source: "virt", Set: []correlate.Resource{{
		ID: otherDomain, Name: "instance-3", Project: otherProject,
		Needs: []correlate.Need{{Mode: correlate.AllOf, Of: []correlate.ID{needs}}},
	}}})
}

// owned makes a subscription of somebody's.
func (h *host) owned(t *testing.T, owner, project, endpoint string) notify.Subscription {
	t.Helper()
	return h.ownedIn(t, "", owner, project, endpoint)
}

func (h *host) ownedIn(t *testing.T, form, owner, project, endpoint string) notify.Subscription {
	t.Helper()
	wish := notify.Subscription{Name: "of " + owner, Endpoints: []string{endpoint}, Owner: owner, Format: form}
	if owner != "" {
		wish.Role, wish.Filter.Projects = notify.RoleConsumer, []string{project}
	}
	sub, _, err := h.notifier.Subscribe(t.Context(), wish, false)
	if err != nil {
		t.Fatal(err)
	}
	return sub
}

func TestATokenOrACertificateSaysWhoCalls(t *testing.T) {
	h := newHost(t)
	g := serveGuarded(t, h)
	spiffe, err := url.Parse("spiffe://prod/ops")
	if err != nil {
		t.Fatal(err)
	}
	g.server.SetAccess(Access{
		Directory: func() *access.Directory {
			d := directoryOf(identities...)
			d.AddCertificate("uri:spiffe://prod/ops", identities[0])
			d.AddCertificate("cn:Ops", identities[0])
			return d
		}(), Certificate: g.ca.server(), ClientCAs: g.ca.pool,
	})
	dns := func(names ...string) tls.Certificate { return g.ca.client(x509.Certificate{DNSNames: names}) }
	for name, c := range map[string]struct {
		client *client
		status int
	}{
		"a token":                                  {g.named("ops"), 200},
		"a certificate by a DNS name":              {g.as("", dns("OPS.example")), 200},
		"a certificate by a URI":                   {g.as("", g.ca.client(x509.Certificate{URIs: []*url.URL{spiffe}})), 200},
		"a certificate by its common name":         {g.as("", g.ca.client(x509.Certificate{Subject: pkix.Name{CommonName: "Ops"}})), 200},
		"nothing":                                  {g.as(""), 401},
		"a wrong token":                            {g.as(tokenFor("nobody")), 401},
		"a wrong token beside a good certificate":  {g.as(tokenFor("nobody"), dns("ops.example")), 401},
		"a certificate of nobody":                  {g.as("", dns("stranger.example")), 401},
		"a DNS name in the place of a common name": {g.as("", dns("Ops")), 401},
		"a certificate of two":                     {g.as("", dns("ops.example", "vnfm-a.example")), 401},
		"a role that may not":                      {g.named("vnfm-a"), 403},
		"a token of a role that may not beside a certificate of one that may": {g.as(tokenFor("vnfm-a"), dns("ops.example")), 403},
	} {
		res, body := c.client.send("GET", "/v1/status", nil)
		if res.StatusCode != c.status {
			t.Errorf("%s: %d, want %d: %s", name, res.StatusCode, c.status, body)
		}
		if challenge := res.Header.Get("WWW-Authenticate"); (challenge != "") != (c.status == 401) {
			t.Errorf("%s: WWW-Authenticate is %q", name, challenge)
		}
	}
	for name, cert := range map[string]tls.Certificate{
		"another issuer": newAuthority(t).client(x509.Certificate{DNSNames: []string{"ops.example"}}),
		"expired":        g.ca.client(x509.Certificate{DNSNames: []string{"ops.example"}, NotAfter: time.Now().Add(-time.Minute)}),
		"of a server":    *g.ca.server(),
	} {
		if _, err := g.as("", cert).http.Get("http://localhost/v1/status"); err == nil {
			t.Errorf("a certificate: %s: it is accepted", name)
		}
	}
}

func TestTheTokenMayStandInTheHeaderOfDoctorsMonitors(t *testing.T) {
	g := serveGuarded(t, newHost(t))
	req, err := http.NewRequestWithContext(t.Context(), "POST", "http://localhost/v1/events", strings.NewReader(
		`{"time":"2026-11-22T10:00:00","type":"compute.host.down","details":{"hostname":"cmp-1","status":"down","monitor":"m","monitor_event_id":"1"}}`))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set(access.TokenHeader, tokenFor("collectd"))
	if res, body := g.as("").do(req); res.StatusCode != 202 {
		t.Errorf("%d: %s", res.StatusCode, body)
	}
}

// A reload takes a token away while its owner's connection is open; the other's goes on.
func TestAReloadCountsForOpenConnectionsAndDropsNone(t *testing.T) {
	h := newHost(t)
	g := serveGuarded(t, h)
	ops, vnfm, byCert := g.named("ops"), g.named("vnfm-a"), g.as("", g.ca.client(x509.Certificate{DNSNames: []string{"ops.example"}}))
	dialled := make(map[*client]int)
	for _, c := range []*client{ops, vnfm, byCert} {
		transport := c.http.Transport.(*tcpTransport).next.(*http.Transport)
		transport.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
			dialled[c]++
			return new(net.Dialer).DialContext(ctx, network, address)
		}
	}
	for _, c := range []*client{ops, vnfm, byCert} {
		if res, _ := c.send("GET", "/v1/alarms", nil); res.StatusCode != 200 {
			t.Fatal(res.StatusCode)
		}
	}
	without := directoryOf(identities[0], identities[2])
	g.server.SetAccess(Access{Directory: without, Certificate: g.ca.server(), ClientCAs: g.ca.pool})
	for c, want := range map[*client]int{ops: 200, vnfm: 401, byCert: 200} {
		if res, body := c.send("GET", "/v1/alarms", nil); res.StatusCode != want || dialled[c] != 1 {
			t.Errorf("%d after %d connections, want %d: %s", res.StatusCode, dialled[c], want, body)
		}
	}
	g.server.SetAccess(Access{Directory: without, Certificate: g.ca.server(), ClientCAs: newAuthority(t).pool})
	if res, body := byCert.send("GET", "/v1/alarms", nil); res.StatusCode != 401 || !strings.Contains(string(body), "certificate") {
		t.Errorf("its issuer is accepted no more: %d %s", res.StatusCode, body)
	}
}

func TestTLSBefore12IsRefusedAndHTTP2NotOffered(t *testing.T) {
	g := serveGuarded(t, newHost(t))
	dial := func(c *tls.Config) (*tls.Conn, error) {
		c.RootCAs = g.ca.pool
		conn, err := (&tls.Dialer{Config: c}).DialContext(t.Context(), "tcp", g.address)
		if err != nil {
			return nil, err
		}
		return conn.(*tls.Conn), nil
	}
	if _, err := dial(&tls.Config{MaxVersion: tls.VersionTLS11, MinVersion: tls.VersionTLS10}); err == nil {
		t.Error("TLS 1.1 is spoken")
	}
	conn, err := dial(&tls.Config{MaxVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"}})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if got := conn.ConnectionState().NegotiatedProtocol; got != "http/1.1" {
		t.Errorf("speaks %q", got)
	}
}

func TestWhoAsksTooMuchWaits(t *testing.T) {
	h := newHost(t)
	var seconds atomic.Int64
	g := serveGuarded(t, h, func(s *Server) { s.now = func() time.Time { return time.Unix(2e9+seconds.Load(), 0) } })
	count := func(c *client, path string, status, most int) (n int) {
		for ; n < most; n++ {
			res, _ := c.send("GET", path, nil)
			if res.StatusCode == 429 {
				if res.Header.Get("Retry-After") == "" {
					t.Error("429 without Retry-After")
				}
				return n
			}
			if res.StatusCode != status {
				t.Fatalf("%s: %d", path, res.StatusCode)
			}
		}
		return n
	}
	if n := count(g.named("vnfm-a"), "/v1/alarms", 200, knownBurst+1); n != knownBurst {
		t.Errorf("%d requests of one identity are answered", n)
	}
	if n := count(g.named("vnfm-b"), "/v1/alarms", 200, 3); n != 3 {
		t.Error("another identity waits with it")
	}
	if n := count(g.as(""), "/v1/alarms", 401, strangerBurst+1); n != strangerBurst {
		t.Errorf("%d requests of a stranger are answered", n)
	}
	if n := count(g.as(tokenFor("x")), "/healthz", 200, 1); n != 0 {
		t.Error("a stranger of the same address is answered")
	}
	if n := count(g.client, "/healthz", 200, knownBurst+1); n != knownBurst+1 {
		t.Error("the socket is limited")
	}
	seconds.Add(1)
	if n := count(g.named("vnfm-a"), "/v1/alarms", 200, knownRate+1); n != knownRate {
		t.Errorf("%d requests are answered in the second after", n)
	}
}

func TestStrangersWithManyAddressesTakeNoMemory(t *testing.T) {
	l := newLimits()
	now := time.Now()
	address := netip.MustParseAddr("2001:db8::1")
	for i := range 3 * maxBudgets {
		b := address.As16()
		b[2], b[3], b[4] = byte(i>>16), byte(i>>8), byte(i)
		l.wait(&call{addr: netip.AddrFrom16(b)}, now)
	}
	if len(l.budgets) > maxBudgets {
		t.Errorf("%d budgets", len(l.budgets))
	}
	if wait := l.wait(&call{identity: identity{name: "ops", role: notify.RoleAdmin}}, now); wait != 0 {
		t.Errorf("an identity waits %v for strangers", wait)
	}
	for i := range 8 { // one network
		b := address.As16()
		b[15] = byte(i)
		if n := network(netip.AddrFrom16(b)); n.String() != "2001:db8::/64" {
			t.Error(n)
		}
	}
	if n := network(netip.MustParseAddr("::ffff:10.0.0.1")); n.String() != "10.0.0.1/32" {
		t.Error(n)
	}
}

func TestOneAddressGetsSoManyConnectionsAndGivesThemBack(t *testing.T) {
	g := serveGuarded(t, newHost(t))
	open := make([]net.Conn, 0, maxFromOne)
	closed := func(c net.Conn) bool {
		_ = c.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
		_, err := c.Read(make([]byte, 1))
		var timeout net.Error
		return err != nil && (!asTimeout(err, &timeout) || !timeout.Timeout())
	}
	dial := func() net.Conn {
		c, err := new(net.Dialer).DialContext(t.Context(), "tcp", g.address)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	for range maxFromOne {
		open = append(open, dial())
	}
	eventually(t, "they are taken", func() bool {
		g.server.tcp.mu.Lock()
		defer g.server.tcp.mu.Unlock()
		return g.server.tcp.all == maxFromOne
	})
	if beyond, err := new(net.Dialer).DialContext(t.Context(), "tcp", g.address); err == nil { // else it was closed already
		defer beyond.Close()
		eventually(t, "one more is closed", func() bool { return closed(beyond) })
	}
	if closed(open[0]) {
		t.Error("one that was there is closed")
	}
	for _, c := range open {
		c.Close()
	}
	eventually(t, "they are given back", func() bool {
		g.server.tcp.mu.Lock()
		defer g.server.tcp.mu.Unlock()
		return g.server.tcp.all == 0 && len(g.server.tcp.from) == 0
	})
	if res, _ := g.named("ops").send("GET", "/v1/alarms", nil); res.StatusCode != 200 {
		t.Error(res.StatusCode)
	}
}

func asTimeout(err error, target *net.Error) bool {
	ne, ok := err.(net.Error) //nolint:errorlint // as the connection gives it
	*target = ne
	return ok
}

func TestOneIdentityHasSoManyStreams(t *testing.T) {
	g := serveGuarded(t, newHost(t))
	watch := func(c *client) *http.Response {
		req, err := http.NewRequestWithContext(t.Context(), "GET", "http://localhost/v1/watch", nil)
		if err != nil {
			t.Fatal(err)
		}
		res, err := c.http.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { res.Body.Close() })
		return res
	}
	vnfm := g.named("vnfm-a")
	for range maxStreams {
		if res := watch(vnfm); res.StatusCode != 200 {
			t.Fatal(res.StatusCode)
		}
	}
	if res := watch(vnfm); res.StatusCode != 429 {
		t.Errorf("one more: %d", res.StatusCode)
	}
	if res := watch(g.named("vnfm-b")); res.StatusCode != 200 {
		t.Errorf("another identity: %d", res.StatusCode)
	}
}

// Each slow client is cut: one that sends no header, no body, or does not even shake hands.
func TestWhoDoesNotSayWhoItIsKeepsNoConnection(t *testing.T) {
	g := serveGuarded(t, newHost(t))
	conn, err := (&tls.Dialer{Config: &tls.Config{RootCAs: g.ca.pool}}).DialContext(t.Context(), "tcp", g.address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := fmt.Fprint(conn, "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if answer, err := io.ReadAll(conn); err != nil || !strings.Contains(string(answer), "Connection: close") {
		t.Errorf("%v: %s", err, answer)
	}
}
