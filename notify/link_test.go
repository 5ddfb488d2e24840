package notify

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/paramedic-ha/paramedic/correlate"
	"github.com/paramedic-ha/paramedic/notify/delivery"
)

// authority issues certificates.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  string
}

func newAuthority(t testing.TB) *authority {
	t.Helper()
	a := &authority{}
	a.key, _ = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	raw := sign(t, &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "an authority"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}, nil, a.key, a.key)
	a.cert, _ = x509.ParseCertificate(raw)
	a.pem = asPEM("CERTIFICATE", raw)
	return a
}

func asPEM(kind string, raw []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: raw}))
}

func sign(t testing.TB, template, parent *x509.Certificate, key, by *ecdsa.PrivateKey) []byte {
	t.Helper()
	if parent == nil {
		parent = template
	}
	raw, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), by)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// issue makes a certificate for a name (an address is one too) with its key, in PEM; good until a time.
func (a *authority) issue(t testing.TB, name string, until time.Time) (certificate, key string) {
	t.Helper()
	private, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: until,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	if ip := net.ParseIP(name); ip != nil {
		template.IPAddresses = []net.IP{ip}
	} else {
		template.DNSNames = []string{name}
	}
	bare, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return asPEM("CERTIFICATE", sign(t, template, a.cert, private, a.key)), asPEM("PRIVATE KEY", bare)
}

func (a *authority) client(t testing.TB, name string) Credentials {
	t.Helper()
	certificate, key := a.issue(t, name, time.Now().Add(time.Hour))
	c, err := ClientCertificate([]byte(certificate), []byte(key))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// secureConsumer is a consumer with a certificate for a name; configure may change how it listens.
func secureConsumer(t testing.TB, a *authority, name string, until time.Time, configure func(*tls.Config), handle http.HandlerFunc) *consumer {
	t.Helper()
	c := newConsumer(t, handle)
	plain := c.Server
	c.Server = httptest.NewUnstartedServer(plain.Config.Handler)
	certificate, key := a.issue(t, name, until)
	pair, err := tls.X509KeyPair([]byte(certificate), []byte(key))
	if err != nil {
		t.Fatal(err)
	}
	c.Server.TLS = &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS10}
	if configure != nil {
		configure(c.Server.TLS)
	}
	c.Config.ErrorLog = log.New(io.Discard, "", 0)
	c.StartTLS()
	plain.Close()
	t.Cleanup(c.Close)
	return c
}

// once makes one request as a subscription would, over connections of its own.
func once(t testing.TB, s Subscription) answer {
	t.Helper()
	out := newSender("test", &way{dial: newDialer(anywhere, nil), tls: s.tlsConfig()}, time.Now)
	defer out.close()
	return out.post(t.Context(), s.Endpoints, s.request("id", []byte("body")))
}

func TestAConsumerIsKnownByTheAuthoritiesOfItsSubscription(t *testing.T) {
	ours, theirs := newAuthority(t), newAuthority(t)
	soon := time.Now().Add(time.Hour)
	good := secureConsumer(t, ours, "127.0.0.1", soon, nil, nil)
	named := secureConsumer(t, ours, "vnfm.example", soon, nil, nil)
	expired := secureConsumer(t, ours, "127.0.0.1", time.Now().Add(-time.Minute), nil, nil)
	old := secureConsumer(t, ours, "127.0.0.1", soon, func(c *tls.Config) { c.MaxVersion = tls.VersionTLS11 }, nil)
	for name, test := range map[string]struct {
		url  string
		link Link
		want string // in the error; empty: it is taken
	}{
		"its own authority":           {good.URL, Link{Authorities: ours.pem}, ""},
		"one of several":              {good.URL, Link{Authorities: theirs.pem + ours.pem}, ""},
		"the system's":                {good.URL, Link{}, "unknown authority"},
		"another one":                 {good.URL, Link{Authorities: theirs.pem}, "unknown authority"},
		"a name that is not its":      {good.URL, Link{Authorities: ours.pem, ServerName: "vnfm.example"}, "match vnfm.example"},
		"an address, under a name":    {named.URL, Link{Authorities: ours.pem, ServerName: "vnfm.example"}, ""},
		"an address it has not":       {named.URL, Link{Authorities: ours.pem}, "127.0.0.1"},
		"expired":                     {expired.URL, Link{Authorities: ours.pem}, "expired"},
		"a version of TLS before 1.2": {old.URL, Link{Authorities: ours.pem}, "protocol version"},
	} {
		t.Run(name, func(t *testing.T) {
			s := Subscription{Name: "a", Endpoints: []string{test.url}, Link: test.link}
			if err := s.Validate(); err != nil {
				t.Fatal(err)
			}
			a := once(t, s)
			if test.want == "" && a.outcome.Verdict != delivery.Settled || test.want != "" && (a.outcome.Verdict != delivery.Retry || !strings.Contains(a.outcome.Err, test.want) || a.reached) {
				t.Errorf("%+v", a)
			}
		})
	}
}

// demand makes a server ask for a certificate of an authority, in a version of TLS.
func demand(a *authority, version uint16) func(*tls.Config) {
	return func(c *tls.Config) {
		c.ClientAuth, c.MaxVersion = tls.RequireAndVerifyClientCert, version
		c.ClientCAs = x509.NewCertPool()
		c.ClientCAs.AppendCertsFromPEM([]byte(a.pem))
	}
}

func TestAConsumerThatAsksForACertificateIsShownIt(t *testing.T) {
	ours, theirs := newAuthority(t), newAuthority(t)
	for name, version := range map[string]uint16{"TLS 1.2": tls.VersionTLS12, "TLS 1.3": tls.VersionTLS13} {
		t.Run(name, func(t *testing.T) {
			var seen atomic.Value
			c := secureConsumer(t, ours, "127.0.0.1", time.Now().Add(time.Hour), demand(ours, version), func(_ http.ResponseWriter, r *http.Request) {
				seen.Store(r.TLS.PeerCertificates[0].Subject.CommonName)
			})
			s := Subscription{Endpoints: []string{c.URL}, Link: Link{Authorities: ours.pem}}
			if a := once(t, s); a.outcome.Verdict != delivery.Retry || !strings.Contains(a.outcome.Err, "tls: ") {
				t.Errorf("without: %+v", a.outcome)
			}
			s.Credentials = theirs.client(t, "cmp-1")
			if a := once(t, s); a.outcome.Verdict != delivery.Retry || !strings.Contains(a.outcome.Err, "tls: ") {
				t.Errorf("of another authority: %+v", a.outcome)
			}
			s.Credentials = ours.client(t, "cmp-1")
			if a := once(t, s); a.outcome.Verdict != delivery.Settled || seen.Load() != "cmp-1" {
				t.Errorf("%+v, seen %v", a.outcome, seen.Load())
			}
		})
	}
}

// TestAConnectionOfTLSIsKeptWarm although the server sends tickets behind the handshake, and one that refuses our
// certificate only then is not kept.
func TestAConnectionOfTLSIsKeptWarm(t *testing.T) {
	a := newAuthority(t)
	soon := time.Now().Add(time.Hour)
	var made atomic.Int64
	count := func(c *tls.Config) {
		c.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) { made.Add(1); return nil, nil }
	}
	c := secureConsumer(t, a, "127.0.0.1", soon, count, nil)
	s := Subscription{Endpoints: []string{c.URL}, Link: Link{Authorities: a.pem}}
	config := s.tlsConfig()
	config.ClientSessionCache = tls.NewLRUClientSessionCache(1) // asks for tickets, as servers on OpenSSL send them unasked
	out := newSender("test", &way{dial: newDialer(anywhere, nil), tls: config}, time.Now)
	defer out.close()
	for range 3 {
		if err := out.warm.ensure(t.Context(), c.URL); err != nil {
			t.Fatal(err)
		}
	}
	if r := out.post(t.Context(), s.Endpoints, s.request("id", nil)); r.outcome.Verdict != delivery.Settled {
		t.Fatal(r.outcome.Err)
	}
	if n := made.Load(); n != 1 {
		t.Errorf("%d connections for one request", n)
	}

	strict := secureConsumer(t, a, "127.0.0.1", soon, demand(a, tls.VersionTLS13), nil)
	other := newSender("test", &way{dial: newDialer(anywhere, nil), tls: s.tlsConfig()}, time.Now)
	defer other.close()
	if err := other.warm.ensure(t.Context(), strict.URL); err != nil || len(other.warm.warm) != 0 {
		t.Errorf("%v, %d kept", err, len(other.warm.warm))
	}
}

func login(t testing.TB, c Credentials, err error) Credentials {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func basic(t testing.TB, user, password string) Credentials {
	c, err := BasicCredentials(user, password)
	return login(t, c, err)
}

func bearer(t testing.TB, token string) Credentials {
	c, err := BearerCredentials(token)
	return login(t, c, err)
}

// TestEveryRequestIsAuthorized: the challenge, the handshake behind it, a test, and notifications.
func TestEveryRequestIsAuthorized(t *testing.T) {
	const want = "Basic dm5mbTpvcGVuIHNlc2FtZQ==" // vnfm:open sesame
	var wrong, asked atomic.Int64
	c := newConsumer(t, func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		if r.Header.Get("Authorization") != want {
			wrong.Add(1)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		w.Header().Set("WebHook-Allowed-Origin", "*")
	})
	cfg, _ := testConfig(t, t.TempDir())
	n, _ := start(t, cfg)
	s, _, err := n.Subscribe(t.Context(), Subscription{Name: "a", Endpoints: []string{c.URL}, Credentials: basic(t, "vnfm", "open sesame")}, true)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := n.Test(t.Context(), s.ID); err != nil {
		t.Fatal(err)
	}
	n.Publish(effects(alarm("a1", 1, correlate.Raised)))
	eventually(t, "it is told", func() bool { return len(n.Profile()) == 1 })
	if wrong.Load() != 0 || asked.Load() != 4 {
		t.Errorf("%d of %d requests were not authorized", wrong.Load(), asked.Load())
	}
}

// TestATokenThatExpiredIsRetriedUntilThereIsAnother; who shows none is parked, for it will never be let in.
func TestATokenThatExpiredIsRetriedUntilThereIsAnother(t *testing.T) {
	var valid atomic.Value
	valid.Store("Bearer new")
	c := newConsumer(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != valid.Load() {
			w.WriteHeader(http.StatusUnauthorized)
		}
	})
	cfg, _ := testConfig(t, t.TempDir())
	n, _ := start(t, cfg)
	wish := Subscription{Name: "a", Endpoints: []string{c.URL}, Credentials: bearer(t, "old")}
	s, _, err := n.Subscribe(t.Context(), wish, false)
	if err != nil {
		t.Fatal(err)
	}
	n.Publish(effects(alarm("a1", 1, correlate.Raised)))
	eventually(t, "it is refused twice", func() bool { d := n.Deliveries(DeliveryPending); return len(d) == 1 && d[0].Attempts > 1 })
	if d := n.Deliveries("")[0]; !strings.Contains(d.LastError, "401") || strings.Contains(d.LastError, "old") {
		t.Errorf("%q", d.LastError)
	}
	fresh := bearer(t, "new")
	changed, err := n.Update(t.Context(), s.ID, SubscriptionPatch{Login: &fresh})
	if err != nil || changed.Version <= s.Version {
		t.Fatal(changed, err)
	}
	eventually(t, "it is told", func() bool { return len(n.Deliveries("")) == 0 })

	wish.Name, wish.Credentials = "b", Credentials{}
	if _, _, err := n.Subscribe(t.Context(), wish, false); err != nil {
		t.Fatal(err)
	}
	n.Publish(effects(alarm("a2", 1, correlate.Raised)))
	eventually(t, "it is parked", func() bool { return len(n.Deliveries(DeliveryParked)) == 1 })
}

// TestWhatIsChangedCountsForTheNextRequest, over a connection of its own: the old ones show the certificate of before.
func TestWhatIsChangedCountsForTheNextRequest(t *testing.T) {
	a := newAuthority(t)
	seen := make(chan string, 10)
	c := secureConsumer(t, a, "127.0.0.1", time.Now().Add(time.Hour), demand(a, tls.VersionTLS13), func(_ http.ResponseWriter, r *http.Request) {
		seen <- r.TLS.PeerCertificates[0].Subject.CommonName
	})
	cfg, _ := testConfig(t, t.TempDir())
	n, _ := start(t, cfg)
	s, _, err := n.Subscribe(t.Context(), Subscription{
		Name: "a", Endpoints: []string{c.URL}, Link: Link{Authorities: a.pem}, Credentials: a.client(t, "first").With(bearer(t, "t")),
	}, false)
	if err != nil {
		t.Fatal(err)
	}
	tell := func() (string, error) {
		_, err := n.Test(t.Context(), s.ID)
		if err != nil {
			return "", err
		}
		return <-seen, nil
	}
	if got, err := tell(); got != "first" {
		t.Fatal(got, err)
	}
	second := a.client(t, "second")
	if s, err = n.Update(t.Context(), s.ID, SubscriptionPatch{Client: &second}); err != nil {
		t.Fatal(err)
	}
	if got, err := tell(); got != "second" {
		t.Fatal(got, err)
	}
	if got := n.Held()[0].Credentials; !got.Equal(second.With(bearer(t, "t"))) {
		t.Error("the token is gone with the certificate")
	}
	if s, err = n.Update(t.Context(), s.ID, SubscriptionPatch{Authorities: ptr(newAuthority(t).pem)}); err != nil {
		t.Fatal(err)
	}
	if _, err := tell(); err == nil || !strings.Contains(err.Error(), "unknown authority") {
		t.Fatal(err)
	}
	if _, err = n.Update(t.Context(), s.ID, SubscriptionPatch{Authorities: &a.pem, Client: &Credentials{}}); err != nil {
		t.Fatal(err)
	}
	if _, err := tell(); err == nil || !strings.Contains(err.Error(), "tls: ") {
		t.Fatal(err)
	}
}

// TestCredentialsOutliveARestartSealed, or bare where there is no key, and are shown by nobody.
func TestCredentialsOutliveARestartSealed(t *testing.T) {
	a := newAuthority(t)
	certificate, key := a.issue(t, "cmp-1", time.Now().Add(time.Hour))
	client, err := ClientCertificate([]byte(certificate), []byte(key))
	if err != nil {
		t.Fatal(err)
	}
	for name, sealer := range map[string]Sealer{"sealed": newSealer(t, 1), "bare": nil} {
		for what, credentials := range map[string]Credentials{"basic": client.With(basic(t, "vnfm", "HUSHHUSH")), "bearer": client.With(bearer(t, "HUSHHUSH"))} {
			t.Run(name+" "+what, func(t *testing.T) {
				dir := t.TempDir()
				cfg, _ := testConfig(t, dir)
				cfg.Sealer = sealer
				n, stop := start(t, cfg)
				want := apiSubscription("https://10.0.0.5/")
				want.Link, want.Credentials = Link{Authorities: a.pem, ServerName: "vnfm", Direct: true}, credentials
				put(t, n, want, nil)
				stop()
				if rests := restingSubscription(t, dir, want.ID); sealer != nil && bytes.Contains(rests, []byte("HUSH")) {
					t.Errorf("rests as %s", rests)
				}
				n, stop = start(t, cfg)
				defer stop()
				got := n.Held()[0]
				if got.Link != want.Link || !got.Credentials.Equal(want.Credentials) {
					t.Errorf("came back as %+v", got)
				}
				shown := n.Subscriptions()[0]
				text, _ := json.Marshal(shown)
				printed := fmt.Sprintf("%+v %#v %s %s %x %v", shown, shown, text, shown.Credentials.is.Password, shown.Credentials.is.Key, shown.Credentials.is.Token)
				if strings.Contains(printed, "HUSH") || strings.Contains(printed, fmt.Sprintf("%x", key[:20])) {
					t.Errorf("shows %s", printed)
				}
				if c := shown.Credentials.Certificate(); c == nil || c.Subject != "CN=cmp-1" || len(c.Fingerprint) != 64 || shown.Credentials.Bearer() != (what == "bearer") ||
					(shown.Credentials.User() == "vnfm") != (what == "basic") || len(shown.Link.Trusted()) != 1 {
					t.Errorf("%+v %+v", c, shown.Link.Trusted())
				}
				for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%d"} {
					if s := fmt.Sprintf(verb, got.Credentials); s != "[credentials]" {
						t.Errorf("%s prints %s", verb, s)
					}
				}
			})
		}
	}
}

// TestCredentialsThatCannotBeOpenedAreKept, nothing is sent without them, and they can be replaced as a whole.
func TestCredentialsThatCannotBeOpenedAreKept(t *testing.T) {
	c := newConsumer(t, nil)
	dir := t.TempDir()
	cfg, _ := testConfig(t, dir)
	cfg.Sealer = newSealer(t, 1)
	s := apiSubscription(c.URL)
	s.Secret, s.Role, s.Verified = Secret{}, RoleAdmin, false
	s.Credentials = bearer(t, "t")
	n, stop := start(t, cfg)
	put(t, n, s, nil)
	stop()
	sealed := restingSubscription(t, dir, s.ID)

	cfg, r := testConfig(t, dir)
	cfg.Sealer = newSealer(t, 2)
	n, stop = start(t, cfg)
	n.Publish(effects(alarm("a1", 1, correlate.Raised, "p1")))
	eventually(t, "it is reported", func() bool { return r.last(correlate.CondSubscription) == correlate.StatusFailed })
	if _, err := n.Test(t.Context(), s.ID); !errors.Is(err, ErrLocked) {
		t.Error(err)
	}
	if why := n.Subscriptions()[0].WhyLocked(); !strings.Contains(why, "the key is not held here") {
		t.Errorf("%q", why)
	}
	fresh := bearer(t, "u")
	if _, err := n.Update(t.Context(), s.ID, SubscriptionPatch{Login: &fresh}); !errors.Is(err, ErrLocked) {
		t.Errorf("a part of what can't be opened was replaced: %v", err)
	}
	if len(c.messages()) != 0 {
		t.Error("sent without credentials")
	}
	stop()
	if b := restingSubscription(t, dir, s.ID); !bytes.Equal(b, sealed) {
		t.Errorf("it rests as %q", b)
	}
	n, _ = start(t, cfg)
	if _, err := n.Update(t.Context(), s.ID, SubscriptionPatch{Login: &fresh, Client: &Credentials{}}); err != nil {
		t.Fatal(err)
	}
	if m := c.waitFor(t, 1)[0]; m.header.Get("Authorization") != "Bearer u" {
		t.Errorf("%v", m.header)
	}
}

// TestAPeerThatHasTheKeyDeliversWithTheCredentials for a home that can't open them; the home makes nobody's requests meanwhile.
func TestAPeerThatHasTheKeyDeliversWithTheCredentials(t *testing.T) {
	c := newConsumer(t, nil)
	s := apiSubscription(c.URL)
	s.Secret, s.Role, s.Rate = Secret{}, RoleAdmin, 0
	s.Credentials = bearer(t, "t")
	by := newSealer(t, 1)
	locked := s
	locked.Credentials, _ = OpenCredentials(s.Credentials.Seal(by, s.ID), newSealer(t, 2), s.ID)
	if _, err := OpenCredentials(s.Credentials.Seal(by, s.ID), by, "another"); err == nil {
		t.Error("opened for another subscription")
	}
	peerConfig, _ := testConfig(t, t.TempDir())
	peerConfig.Node = "cmp-2"
	peer, _ := start(t, peerConfig)
	put(t, peer, s, nil)
	o := newOthers()
	o.deliver = peer.Deliver
	cfg, _ := testConfig(t, t.TempDir())
	cfg.Peers = o
	n, _ := start(t, cfg)
	put(t, n, locked, nil)
	n.Publish(effects(alarm("a1", 1, correlate.Raised, "p1")))
	if m := c.waitFor(t, 1)[0]; m.event.Data.Reporter != "cmp-2" || m.header.Get("Authorization") != "Bearer t" {
		t.Errorf("%v %s", m.header, m.body)
	}
	if _, err := n.Deliver(t.Context(), HandOver{NotificationID: "n", Subscription: s.ID, Version: s.Version, Change: correlate.Change{Alarm: alarm("a", 1, correlate.Raised)}}); !errors.Is(err, ErrLocked) {
		t.Error(err)
	}
	eventually(t, "it has settled", func() bool { return len(n.Deliveries("")) == 0 })
}

// TestTheVersionOfAFileCountsItsLinkAndNotItsCredentials, which may be each host's own; of one with neither it is what it was
// before there were any.
func TestTheVersionOfAFileCountsItsLinkAndNotItsCredentials(t *testing.T) {
	s := fileSub("a", "https://10.0.0.5/failure")
	if got := FileVersion(s); got != 2325255066569533 {
		t.Errorf("version %d", got)
	}
	with := s
	with.Credentials = bearer(t, "t")
	if FileVersion(with) != FileVersion(s) || sameContents(with, s) || digest(with) != digest(s) {
		t.Error("credentials count")
	}
	for _, l := range []Link{{Authorities: "x"}, {ServerName: "x"}, {Direct: true}} {
		with.Link = l
		if FileVersion(with) == FileVersion(s) || sameContents(with, s) {
			t.Errorf("%+v does not count", l)
		}
	}
}

func TestAFilesNewTokenCountsAtTheNextReload(t *testing.T) {
	c := newConsumer(t, nil)
	cfg, _ := testConfig(t, t.TempDir())
	s := fileSub("a", c.URL)
	s.Credentials = bearer(t, "old")
	n, _ := start(t, cfg, s)
	version := n.Subscriptions()[0].Version
	n.Publish(effects(alarm("a1", 1, correlate.Raised)))
	c.waitFor(t, 1)
	s.Credentials = bearer(t, "new")
	if err := n.SetFile([]Subscription{s}); err != nil {
		t.Fatal(err)
	}
	n.Publish(effects(alarm("a1", 2, correlate.Changed)))
	got := c.waitFor(t, 2)
	if got[0].header.Get("Authorization") != "Bearer old" || got[1].header.Get("Authorization") != "Bearer new" || n.Subscriptions()[0].Version != version {
		t.Errorf("%v, then %v", got[0].header, got[1].header)
	}
}

func TestALinkThatMakesNoSenseIsRefused(t *testing.T) {
	a := newAuthority(t)
	_, key := a.issue(t, "x", time.Now().Add(time.Hour))
	for want, s := range map[string]Subscription{
		"tls: no endpoint is https":   {Endpoints: []string{"http://h/"}, Link: Link{Authorities: a.pem}},
		"tls: no endpoint":            {Endpoints: []string{"http://h/"}, Credentials: a.client(t, "x")},
		"tls.server_name: want":       {Endpoints: []string{"https://h/"}, Link: Link{ServerName: "h:443"}},
		"tls.ca: there is no":         {Endpoints: []string{"https://h/"}, Link: Link{Authorities: "HUSH"}},
		"tls.ca: there is something ": {Endpoints: []string{"https://h/"}, Link: Link{Authorities: a.pem + key}},
	} {
		s.Name = "a"
		if err := s.Validate(); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "HUSH") {
			t.Errorf("%v, want %q", err, want)
		}
	}
	if _, err := ParseAuthorities([]byte(strings.Repeat(a.pem, 40))); err == nil || !strings.Contains(err.Error(), "at most") {
		t.Error(err)
	}
	for _, test := range []struct{ user, password string }{{"", "p"}, {"u", ""}, {"u:v", "p"}, {"u\n", "p"}, {"u", "HUSH\r\nX: y"}, {"u", strings.Repeat("p", 2000)}, {"u", "\xff"}} {
		if _, err := BasicCredentials(test.user, test.password); err == nil || strings.Contains(err.Error(), "HUSH") {
			t.Errorf("%q: %v", test, err)
		}
	}
	for _, token := range []string{"", "HUSH HUSH", "HUSH\r\n", "ü", strings.Repeat("t", 9000)} {
		if _, err := BearerCredentials(token); err == nil || strings.Contains(err.Error(), "HUSH") {
			t.Errorf("%q: %v", token, err)
		}
	}
}

func FuzzCertificates(f *testing.F) {
	a := newAuthority(f)
	certificate, key := a.issue(f, "x", time.Now().Add(time.Hour))
	f.Add([]byte(a.pem), []byte(key))
	f.Add([]byte(certificate), []byte(key))
	f.Add([]byte("text\n"+certificate+a.pem), []byte("-----BEGIN ENCRYPTED PRIVATE KEY-----"))
	f.Add([]byte("-----BEGIN CERTIFICATE-----\nHUSH\n-----END CERTIFICATE-----\n"), []byte{})
	f.Fuzz(func(t *testing.T, text, key []byte) {
		once, err := ParseAuthorities(text)
		if err == nil {
			if again, err := ParseAuthorities([]byte(once)); err != nil || again != once {
				t.Errorf("%q became %q: %v", once, again, err)
			}
			if strings.Contains(once, "PRIVATE") {
				t.Errorf("a key in %q", once)
			}
		}
		c, err := ClientCertificate(text, key)
		if err == nil && (c.pair() == nil || c.Certificate() == nil || !c.sound()) {
			t.Error("taken, and of no use")
		}
	})
}

func FuzzOpenCredentials(f *testing.F) {
	f.Add([]byte(`{"user":"u","password":"p"}`))
	f.Add([]byte(`{"token":"t"}`))
	f.Add([]byte(`{"token":"t","user":"u","password":"p"}`))
	f.Add([]byte(`{"certificate":"-----BEGIN CERTIFICATE-----","key":"k"}`))
	f.Add([]byte(`{}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := OpenCredentials(b, nil, "id")
		if (err != nil) != c.Locked() {
			t.Errorf("%v, locked %v", err, c.Locked())
		}
		again, err := OpenCredentials(c.Seal(nil, "id"), nil, "id")
		if (err != nil) != c.Locked() || !again.Equal(c) {
			t.Errorf("sealed and opened it is another: %v", err)
		}
		h := http.Header{}
		c.authorize(h, "Authorization")
		var wire bytes.Buffer
		if err := h.Write(&wire); err != nil || bytes.Count(wire.Bytes(), []byte("\n")) > 1 {
			t.Errorf("%q", wire.Bytes())
		}
	})
}
