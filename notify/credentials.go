package notify

import (
	"bytes"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Credentials are what a subscription shows its consumer, so that it lets the requests in: a certificate of TLS, and a user and
// password (RFC 7617) or a token (RFC 6750). They print as "[credentials]" wherever they are formatted, logged or marshalled. The
// version of a subscription does not count them: they are renewed from time to time, and may be each host's own.
//
// Those that were sealed under a key that is not held here are Locked, as a Secret is.
type Credentials struct {
	is     credentials
	hidden bool   // what is secret was taken away
	sealed []byte // of locked ones
	why    string // they are locked
}

// credentials is what is sealed.
type credentials struct {
	Certificate string `json:"certificate,omitempty"` // PEM, with those between it and its authority
	Key         string `json:"key,omitempty"`         // PEM
	User        string `json:"user,omitempty"`
	Password    string `json:"password,omitempty"`
	Token       string `json:"token,omitempty"`
}

const (
	maxChain    = 8 << 10 // bytes of PEM
	maxClient   = 8 << 10 // the key's
	maxUser     = 256
	maxPassword = 1024
	maxToken    = 8 << 10
)

// ClientCertificate makes credentials of a certificate and its key, both in PEM. Errors never show what was read.
func ClientCertificate(certificate, key []byte) (Credentials, error) {
	blocks, err := certificates(certificate)
	if err != nil {
		return Credentials{}, fmt.Errorf("certificate: %w", err)
	}
	if len(certificate) > maxChain || len(key) > maxClient {
		return Credentials{}, fmt.Errorf("certificate and key: want at most %d and %d bytes", maxChain, maxClient)
	}
	var chain bytes.Buffer
	for _, b := range blocks {
		_ = pem.Encode(&chain, &pem.Block{Type: b.Type, Bytes: b.Bytes}) // into memory
	}
	if bytes.Contains(key, []byte("ENCRYPTED")) {
		return Credentials{}, errors.New("key: it is encrypted: give it without a passphrase, in a file that the agent alone reads")
	}
	if _, err := tls.X509KeyPair(chain.Bytes(), key); err != nil {
		return Credentials{}, errors.New("key: it is none in PEM (BEGIN PRIVATE KEY), or not that of the certificate")
	}
	return Credentials{is: credentials{Certificate: chain.String(), Key: string(key)}}, nil
}

// BasicCredentials are a user and a password.
func BasicCredentials(user, password string) (Credentials, error) {
	switch {
	case user == "" || len(user) > maxUser || !utf8.ValidString(user) || strings.ContainsFunc(user, unicode.IsControl) || strings.Contains(user, ":"):
		return Credentials{}, fmt.Errorf("user: want 1 to %d bytes of UTF-8 without a colon", maxUser)
	case password == "" || len(password) > maxPassword || !utf8.ValidString(password) || strings.ContainsFunc(password, unicode.IsControl):
		return Credentials{}, fmt.Errorf("password: want one line of 1 to %d bytes of UTF-8", maxPassword)
	}
	return Credentials{is: credentials{User: user, Password: password}}, nil
}

// BearerCredentials are a token.
func BearerCredentials(token string) (Credentials, error) {
	if token == "" || len(token) > maxToken || strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return Credentials{}, fmt.Errorf("token: want one line of 1 to %d characters without spaces", maxToken)
	}
	return Credentials{is: credentials{Token: token}}, nil
}

// With are these credentials with the certificate, or the user or token, of o in the place of their own.
func (c Credentials) With(o Credentials) Credentials {
	if o.is.Certificate != "" {
		c.is.Certificate, c.is.Key = o.is.Certificate, o.is.Key
	}
	if o.is.User != "" || o.is.Token != "" {
		c.is.User, c.is.Password, c.is.Token = o.is.User, o.is.Password, o.is.Token
	}
	return c
}

func (c Credentials) withoutCertificate() Credentials {
	c.is.Certificate, c.is.Key = "", ""
	return c
}

func (c Credentials) withoutLogin() Credentials {
	c.is.User, c.is.Password, c.is.Token = "", "", ""
	return c
}

// Certificate is what may be shown of the certificate; nil when there is none.
func (c Credentials) Certificate() *Certificate {
	if all := describe(c.is.Certificate); len(all) > 0 {
		return &all[0]
	}
	return nil
}

// User is the user of a password; empty when there is none.
func (c Credentials) User() string { return c.is.User }

// Bearer reports whether there is a token.
func (c Credentials) Bearer() bool { return c.is.Token != "" }

// hide leaves what Certificate, User, Bearer and WhyLocked say.
func (c Credentials) hide() Credentials {
	c.hidden, c.sealed = true, nil
	c.is.Key, c.is.Password = "", ""
	if c.Bearer() {
		c.is.Token = "-"
	}
	return c
}

// pair is the certificate for TLS; nil when there is none.
func (c Credentials) pair() *tls.Certificate {
	if c.is.Key == "" || c.hidden {
		return nil
	}
	pair, err := tls.X509KeyPair([]byte(c.is.Certificate), []byte(c.is.Key))
	if err != nil { // who made them has looked
		return nil
	}
	return &pair
}

// authorize writes the header of that name (RFC 9110 11.6.2, 11.7.2); nothing without user or token.
func (c Credentials) authorize(h http.Header, name string) {
	switch {
	case c.hidden:
	case c.is.Token != "":
		h.Set(name, "Bearer "+c.is.Token)
	case c.is.User != "":
		h.Set(name, "Basic "+base64.StdEncoding.EncodeToString([]byte(c.is.User+":"+c.is.Password)))
	}
}

// context is what credentials are bound to: those of one subscription are of no use in another, nor in a secret's place.
func (Credentials) context(subscription string) []byte { return []byte(subscription + "/credentials") }

// Seal returns them as one text, sealed for a subscription; of locked ones what they were opened from, of none nil. With a nil
// sealer the text is bare.
func (c Credentials) Seal(by Sealer, subscription string) []byte {
	if c.Locked() || c.IsZero() {
		return bytes.Clone(c.sealed)
	}
	plain, _ := json.Marshal(c.is) // texts can't fail
	if by == nil {
		return plain
	}
	return by.Seal(plain, c.context(subscription))
}

// OpenCredentials is the inverse of Seal. With an error, which says why and never what, they are Locked.
func OpenCredentials(sealed []byte, by Sealer, subscription string) (Credentials, error) {
	if len(sealed) == 0 {
		return Credentials{}, nil
	}
	var c Credentials
	plain, err := sealed, error(nil)
	if by != nil {
		plain, err = by.Open(sealed, c.context(subscription))
	}
	if err == nil && (json.Unmarshal(plain, &c.is) != nil || !c.sound()) { // json's own error could show a part
		err = errors.New("there is no key for them, or they are damaged")
	}
	if err != nil {
		return Credentials{sealed: bytes.Clone(sealed), why: err.Error()}, fmt.Errorf("open credentials: %w", err)
	}
	return c, nil
}

// sound holds what was opened to what its makers ask.
func (c Credentials) sound() bool {
	var errs []error
	check := func(_ Credentials, err error) { errs = append(errs, err) }
	if c.is.Certificate != "" || c.is.Key != "" {
		check(ClientCertificate([]byte(c.is.Certificate), []byte(c.is.Key)))
	}
	if c.is.User != "" || c.is.Password != "" {
		check(BasicCredentials(c.is.User, c.is.Password))
	}
	if c.is.Token != "" {
		check(BearerCredentials(c.is.Token))
	}
	return len(errs) > 0 && errors.Join(errs...) == nil && (c.is.User == "" || c.is.Token == "")
}

// Locked reports that they can't be opened here.
func (c Credentials) Locked() bool { return len(c.sealed) > 0 }

// IsZero reports whether there are none.
func (c Credentials) IsZero() bool { return c.is == (credentials{}) && len(c.sealed) == 0 }

// Equal reports whether both show a consumer the same.
func (c Credentials) Equal(o Credentials) bool {
	return c.is == o.is && bytes.Equal(c.sealed, o.sealed)
}

func (Credentials) String() string { return "[credentials]" }

// Format keeps every verb from printing them.
func (c Credentials) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, c.String()) }

// LogValue keeps them out of logs.
func (c Credentials) LogValue() slog.Value { return slog.StringValue(c.String()) }

// MarshalText keeps them out of every encoding.
func (c Credentials) MarshalText() ([]byte, error) { return []byte(c.String()), nil }
