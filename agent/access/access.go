// Package access finds out who calls the API over TCP, by the token or the certificate that a request shows. It opens nothing
// and keeps no token, only digests.
package access

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/paramedic-ha/paramedic/notify"
)

// RoleMonitor may hand in events, and nothing else.
const RoleMonitor notify.Role = "monitor"

// Identity is somebody whom the configuration names. Projects are a consumer's.
type Identity struct {
	Name     string
	Role     notify.Role
	Projects []string
}

// Digest stands for a token.
type Digest = [sha256.Size]byte

// The kinds of names that a certificate may be known by.
const (
	SubjectDNS = "dns"
	SubjectURI = "uri"
	SubjectCN  = "cn"
)

// Directory knows the identities. It is immutable but for Add, which is for who makes it.
type Directory struct {
	tokens   []tokenOf
	subjects map[string]Identity
}

type tokenOf struct {
	digest Digest
	Identity
}

// AddToken names the identity of a token.
func (d *Directory) AddToken(token Digest, i Identity) {
	d.tokens = append(d.tokens, tokenOf{token, i})
}

// AddCertificate names the identity of the certificates with a subject; see Subject.
func (d *Directory) AddCertificate(subject string, i Identity) {
	if d.subjects == nil {
		d.subjects = make(map[string]Identity)
	}
	d.subjects[Subject(subject)] = i
}

// Consumers holds the projects of each consumer, by name.
func (d *Directory) Consumers() map[string][]string {
	all := make(map[string][]string)
	add := func(i Identity) {
		if i.Role == notify.RoleConsumer {
			all[i.Name] = i.Projects
		}
	}
	for _, t := range d.tokens {
		add(t.Identity)
	}
	for _, i := range d.subjects {
		add(i)
	}
	return all
}

// ByToken finds whose a token is. How long it takes says nothing of the tokens that there are.
func (d *Directory) ByToken(token string) (Identity, bool) {
	digest := sha256.Sum256([]byte(token))
	found := -1
	for i := range d.tokens {
		if subtle.ConstantTimeCompare(digest[:], d.tokens[i].digest[:]) == 1 {
			found = i
		}
	}
	if found < 0 {
		return Identity{}, false
	}
	return d.tokens[found].Identity, true
}

// ByCertificate finds whose a certificate is, which the caller has verified. One that says the names of two is nobody's.
func (d *Directory) ByCertificate(c *x509.Certificate) (found Identity, ok bool) {
	for _, subject := range subjectsOf(c) {
		i, known := d.subjects[subject]
		switch {
		case !known:
		case ok && i.Name != found.Name:
			return Identity{}, false
		default:
			found, ok = i, true
		}
	}
	return found, ok
}

func subjectsOf(c *x509.Certificate) []string {
	var all []string
	for _, name := range c.DNSNames {
		all = append(all, Subject(SubjectDNS+":"+name))
	}
	for _, u := range c.URIs {
		all = append(all, Subject(SubjectURI+":"+u.String()))
	}
	if cn := c.Subject.CommonName; cn != "" {
		all = append(all, Subject(SubjectCN+":"+cn))
	}
	return all
}

// Subject writes dns:name, uri:URI or cn:name so that two which mean the same are the same.
func Subject(s string) string {
	kind, name, _ := strings.Cut(s, ":")
	switch kind {
	case SubjectDNS:
		name = strings.ToLower(name)
	case SubjectURI:
		if u, err := url.Parse(name); err == nil {
			name = u.String()
		}
	}
	return kind + ":" + name
}

// GenerateToken makes one that nobody guesses: 256 random bits.
func GenerateToken() string {
	b := make([]byte, 32)
	_, _ = rand.Read(b) // crypto/rand: it never fails
	return base64.RawURLEncoding.EncodeToString(b)
}

const (
	minToken  = 32
	maxToken  = 1024
	maxTokens = 16 // of one file
)

// ParseTokens reads a token file: one token a line, several during a rotation. The error says nothing of what they are.
func ParseTokens(file []byte) ([]Digest, error) {
	var all []Digest
	for line := range strings.Lines(string(file)) {
		token := strings.TrimSpace(line)
		if token == "" {
			continue
		}
		switch {
		case len(token) < minToken:
			return nil, fmt.Errorf("token %d has %d characters, at least %d are needed", len(all)+1, len(token), minToken)
		case len(token) > maxToken:
			return nil, fmt.Errorf("token %d has more than %d characters", len(all)+1, maxToken)
		case !token68(token):
			return nil, fmt.Errorf("token %d has characters other than letters, digits and -._~+/", len(all)+1)
		case len(all) == maxTokens:
			return nil, fmt.Errorf("there are more than %d tokens", maxTokens)
		}
		all = append(all, sha256.Sum256([]byte(token)))
	}
	if len(all) == 0 {
		return nil, errors.New("there is no token in it")
	}
	return all, nil
}

// token68 is what RFC 6750 (2.1) lets a bearer token be.
func token68(s string) bool {
	s = strings.TrimRight(s, "=")
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("-._~+/", r)
	})
}

// TokenHeader is where OpenStack's clients, and so OPNFV Doctor's monitors, show their token.
const TokenHeader = "X-Auth-Token"

// ErrToken is a request whose token can't be read.
var ErrToken = errors.New("want one token, as Authorization: Bearer TOKEN or as " + TokenHeader + ": TOKEN")

// TokenOf reads the token that a request shows; empty when it shows none.
func TokenOf(h http.Header) (string, error) {
	var tokens []string
	for _, value := range h.Values("Authorization") {
		scheme, token, ok := strings.Cut(value, " ")
		token = strings.Trim(token, " ")
		if !ok || !strings.EqualFold(scheme, "Bearer") || !token68(token) {
			return "", ErrToken
		}
		tokens = append(tokens, token)
	}
	for _, value := range h.Values(TokenHeader) {
		token := strings.Trim(value, " ")
		if !token68(token) {
			return "", ErrToken
		}
		tokens = append(tokens, token)
	}
	switch tokens = slices.Compact(tokens); len(tokens) {
	case 0:
		return "", nil
	case 1:
		return tokens[0], nil
	}
	return "", ErrToken
}
