package api

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"time"

	"github.com/paramedic-ha/paramedic/agent/access"
)

// Access is who may call over TCP.
type Access struct {
	Directory   *access.Directory
	Certificate *tls.Certificate // of this host; nil: no TLS, which is for loopback alone
	ClientCAs   *x509.CertPool   // nil: no certificate is asked for
}

// grant is an Access in use.
type grant struct {
	Access
	tls *tls.Config
}

// SetAccess replaces who may call over TCP: for the next request, on connections that are open too.
func (s *Server) SetAccess(a Access) {
	if a.Directory == nil {
		a.Directory = new(access.Directory)
	}
	s.access.Store(&grant{a, tlsConfig(a)})
}

// call is one request: who makes it and from where, and what the audit log says of it.
type call struct {
	identity identity
	err      error      // why the identity is nobody's
	from     string     // "uid 1000", or an address and port
	addr     netip.Addr // of TCP
	local    bool       // over the socket
	status   int        // of the answer; zero: none was given
	object   string     // what it is about, when the path does not say
	attrs    []slog.Attr
	silent   bool // it has changed nothing
}

// note adds to what the audit log says of a call.
func (c *call) note(key, value string) { c.attrs = append(c.attrs, slog.String(key, value)) }

type callKey struct{}

func withCall(ctx context.Context, c *call) context.Context {
	return withIdentity(context.WithValue(ctx, callKey{}, c), c.identity)
}

// callOf is the call that a handler answers.
func callOf(ctx context.Context) *call {
	c, ok := ctx.Value(callKey{}).(*call)
	if !ok {
		return new(call) // outside of guard nobody reads it
	}
	return c
}

// newCall finds out who makes a request.
func (s *Server) newCall(r *http.Request) *call {
	if peer, ok := r.Context().Value(peerKey{}).(peer); ok {
		return &call{identity: peer.identity, from: peer.from, local: true}
	}
	c := &call{from: r.RemoteAddr}
	if at, err := netip.ParseAddrPort(r.RemoteAddr); err == nil {
		c.addr = at.Addr().Unmap()
	}
	c.identity, c.err = s.identify(r)
	return c
}

// identify reads what a request over TCP shows. A token goes before a certificate: a proxy has one of its own.
func (s *Server) identify(r *http.Request) (identity, error) {
	grant := s.access.Load()
	token, err := access.TokenOf(r.Header)
	if err != nil {
		return identity{}, unauthorized("%v", err)
	}
	if token != "" {
		i, ok := grant.Directory.ByToken(token)
		if !ok {
			return identity{}, unauthorized("the token is nobody's: api.tokens of this host names the files of those that are known")
		}
		return fromIdentity(i), nil
	}
	if r.TLS != nil && len(r.TLS.PeerCertificates) > 0 {
		if err := stillGood(r, grant, s.now()); err != nil {
			return identity{}, unauthorized("the certificate is not accepted: %v", err)
		}
		i, ok := grant.Directory.ByCertificate(r.TLS.PeerCertificates[0])
		if !ok {
			return identity{}, unauthorized("the certificate is nobody's: api.certificates of this host names those that are known")
		}
		return fromIdentity(i), nil
	}
	return identity{}, unauthorized("show a token (Authorization: Bearer TOKEN), or a certificate")
}

func fromIdentity(i access.Identity) identity { return identity{i.Name, i.Role, i.Projects} }

// stillGood verifies a certificate once more, when its issuer may be accepted no longer or its time may be over: the handshake was
// maybe long ago.
func stillGood(r *http.Request, g *grant, now time.Time) error {
	conn, _ := r.Context().Value(tcpKey{}).(*tcpConn)
	leaf := r.TLS.PeerCertificates[0]
	switch {
	case now.After(leaf.NotAfter):
		return fmt.Errorf("it has expired at %s", leaf.NotAfter.Format(time.RFC3339))
	case conn == nil || g.ClientCAs == nil:
		return errors.New("no certificate is accepted any more")
	case conn.verified.Load().Equal(g.ClientCAs):
		return nil
	}
	between := x509.NewCertPool()
	for _, c := range r.TLS.PeerCertificates[1:] {
		between.AddCert(c)
	}
	_, err := leaf.Verify(x509.VerifyOptions{
		Roots: g.ClientCAs, Intermediates: between, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	if err == nil {
		conn.verified.Store(g.ClientCAs)
	}
	return err
}

func unauthorized(format string, args ...any) error {
	return &refusal{http.StatusUnauthorized, "unauthorized", "the caller is not known", fmt.Sprintf(format, args...)}
}

// permit lets only the callers of a route through.
func (s *Server) permit(c callers, next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		who := identityOf(r.Context())
		switch {
		case c.admits(who):
			next(w, r)
		case who.role == "":
			w.Header().Set("WWW-Authenticate", `Bearer realm="paramedic"`) // RFC 6750, 3
			s.refuse(w, r, cmp.Or(callOf(r.Context()).err, unauthorized("say who you are")))
		default:
			s.refuse(w, r, forbidden("%s %s is not for role %s: ask an administrator of the infrastructure", r.Method, r.URL.Path, who.role))
		}
	}
}

func forbidden(format string, args ...any) error {
	return &refusal{http.StatusForbidden, "forbidden", "the caller may not do this", fmt.Sprintf(format, args...)}
}
