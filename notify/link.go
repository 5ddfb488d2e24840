package notify

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode"
)

// Bounds of what a subscription may hold for its connections, so that it fits into a record of the peers.
const (
	maxAuthorities = 16 << 10 // bytes of PEM
	maxServerName  = 253
)

// Link is how the requests of a subscription leave, as far as that is no secret; its version counts it.
type Link struct {
	Authorities string `json:",omitempty"` // PEM of those whose word a consumer's certificate is taken by; empty: the system's
	ServerName  string `json:",omitempty"` // what its certificate must name; empty: the host of the endpoint
	Direct      bool   `json:",omitempty"` // past Config.Proxy
}

// Certificate is what may be shown of one.
type Certificate struct {
	Subject     string
	Fingerprint string // SHA-256 of it, in hexadecimal
	Expires     time.Time
}

// ParseAuthorities reads certificates in PEM and returns them and nothing else of the text, so that no key or comment beside
// them is handed on.
func ParseAuthorities(text []byte) (string, error) {
	blocks, err := certificates(text)
	if err != nil {
		return "", err
	}
	var out bytes.Buffer
	for _, b := range blocks {
		_ = pem.Encode(&out, &pem.Block{Type: b.Type, Bytes: b.Bytes}) // into memory
	}
	if out.Len() > maxAuthorities {
		return "", fmt.Errorf("the certificates take %d bytes, want at most %d: name those of the consumer's own authority", out.Len(), maxAuthorities)
	}
	return out.String(), nil
}

// certificates are the blocks of a text, each a certificate that can be read.
func certificates(text []byte) ([]*pem.Block, error) {
	var blocks []*pem.Block
	for {
		var b *pem.Block
		if b, text = pem.Decode(text); b == nil {
			break
		}
		if b.Type != "CERTIFICATE" {
			return nil, errors.New("there is something else than certificates in it: want blocks of BEGIN CERTIFICATE alone")
		}
		if _, err := x509.ParseCertificate(b.Bytes); err != nil {
			return nil, fmt.Errorf("certificate %d can't be read", len(blocks)+1)
		}
		blocks = append(blocks, b)
	}
	if len(blocks) == 0 {
		return nil, errors.New("there is no certificate in it: want PEM, BEGIN CERTIFICATE")
	}
	return blocks, nil
}

// describe is what may be shown of certificates in PEM.
func describe(text string) []Certificate {
	blocks, err := certificates([]byte(text))
	if err != nil {
		return nil
	}
	var out []Certificate
	for _, b := range blocks {
		c, err := x509.ParseCertificate(b.Bytes)
		if err != nil {
			continue
		}
		sum := sha256.Sum256(b.Bytes)
		out = append(out, Certificate{Subject: c.Subject.String(), Fingerprint: hex.EncodeToString(sum[:]), Expires: c.NotAfter})
	}
	return out
}

// Trusted are the certificates of Authorities.
func (l Link) Trusted() []Certificate { return describe(l.Authorities) }

func (s Subscription) linkProblems(bad func(field, format string, args ...any)) {
	l := s.Link
	if l.Authorities != "" {
		if _, err := ParseAuthorities([]byte(l.Authorities)); err != nil {
			bad("tls.ca", "%v", err)
		}
	}
	if _, err := netip.ParseAddr(l.ServerName); err != nil && (len(l.ServerName) > maxServerName || strings.ContainsFunc(l.ServerName, func(r rune) bool {
		return r > unicode.MaxASCII || !unicode.IsLetter(r) && !unicode.IsDigit(r) && r != '.' && r != '-'
	})) {
		bad("tls.server_name", "want a host name or an address, without a port")
	}
	if (l.Authorities != "" || l.ServerName != "" || s.Credentials.Certificate() != nil) && !slices.ContainsFunc(s.Endpoints, func(e string) bool {
		u, err := url.Parse(e)
		return err == nil && u.Scheme == "https"
	}) {
		bad("tls", "no endpoint is https: name one, or leave tls out")
	}
}

// tlsConfig is what the connections of a valid subscription are secured by.
func (s Subscription) tlsConfig() *tls.Config {
	c := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: s.Link.ServerName}
	if s.Link.Authorities != "" {
		c.RootCAs = x509.NewCertPool()
		c.RootCAs.AppendCertsFromPEM([]byte(s.Link.Authorities))
	}
	if pair := s.Credentials.pair(); pair != nil {
		// Whatever authorities the consumer asks for: it then says what is wrong with ours, instead of getting none.
		c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return pair, nil }
	}
	return c
}
