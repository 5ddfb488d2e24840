package config

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/paramedic-ha/paramedic/notify"
)

// pair makes a certificate and its key in PEM.
func pair(t *testing.T, name string) (certificate, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotAfter: time.Now().Add(time.Hour)}
	raw, err := x509.CreateCertificate(rand.Reader, &template, &template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	bare, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: raw})), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: bare}))
}

func TestLoadReadsCertificatesAndCredentialsAndSaysWhatIsWrongWithThem(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string, mode os.FileMode) {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := errors.Join(os.WriteFile(path, []byte(text), mode), os.Chmod(path, mode)); err != nil {
			t.Fatal(err)
		}
	}
	certificate, key := pair(t, "paramedic")
	_, other := pair(t, "other")
	write("ca.pem", "a comment: HUSHHUSH\n"+certificate+"\n"+certificate, 0o644)
	write("with-key.pem", certificate+key, 0o644)
	write("empty.pem", "", 0o644)
	write("c.pem", certificate, 0o644)
	write("k.pem", key, 0o600)
	write("open.pem", key, 0o644)
	write("other.pem", other, 0o600)
	write("locked.pem", strings.ReplaceAll(key, "PRIVATE", "ENCRYPTED PRIVATE"), 0o600)
	write("password", "HUSH HUSH\n", 0o600)
	write("two-lines", "HUSH\nHUSH\n", 0o600)
	write("token", "HUSH.HUSH_HUSH\r\n", 0o600)
	write("spaced", "HUSH HUSH\n", 0o600)
	load := func(lines ...string) (*Config, Errors) {
		t.Helper()
		text := "notify:\n  proxy: {url: 'http://proxy:3128', user: p, password_file: password}\n  subscriptions:\n"
		for i, line := range lines {
			text += fmt.Sprintf("  - {name: s%d, endpoints: ['https://h/'], %s}\n", i, line)
		}
		write("paramedic.yaml", text, 0o644)
		cfg, err := Load(filepath.Join(dir, "paramedic.yaml"))
		var problems Errors
		if err != nil && !errors.As(err, &problems) {
			t.Fatal(err)
		}
		return cfg, problems
	}
	cfg, problems := load(
		"tls: {ca_file: ca.pem, cert_file: c.pem, key_file: k.pem}, auth: {basic: {user: me, password_file: password}}",
		"auth: {bearer: {token_file: token}}",
	)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	subs := cfg.Subscriptions()
	if got := subs[0].Link.Authorities; strings.Contains(got, "HUSH") || len(subs[0].Link.Trusted()) != 2 {
		t.Errorf("trusts %q", got)
	}
	basic, err := notify.BasicCredentials("me", "HUSH HUSH")
	client, err2 := notify.ClientCertificate([]byte(certificate), []byte(key))
	bearer, err3 := notify.BearerCredentials("HUSH.HUSH_HUSH")
	if err := errors.Join(err, err2, err3); err != nil {
		t.Fatal(err)
	}
	proxied, err := notify.BasicCredentials("p", "HUSH HUSH")
	if err != nil || !subs[0].Credentials.Equal(basic.With(client)) || !subs[1].Credentials.Equal(bearer) || !cfg.Proxy().Credentials.Equal(proxied) {
		t.Errorf("not what the files hold: %v", err)
	}
	for _, s := range subs {
		if err := s.Validate(); err != nil {
			t.Error(err)
		}
	}

	if fresh, changed, err := cfg.Renewed(); err != nil || changed || !fresh.Subscriptions()[0].Credentials.Equal(subs[0].Credentials) {
		t.Errorf("what has not changed is new: %v %v", changed, err)
	}
	write("token", "another\n", 0o600)
	if fresh, changed, err := cfg.Renewed(); err != nil || !changed || fresh.Subscriptions()[1].Credentials.Equal(bearer) || !cfg.Subscriptions()[1].Credentials.Equal(bearer) {
		t.Errorf("a new token is not taken, or not apart: %v %v", changed, err)
	}
	write("password", "HUSH\nHUSH", 0o600)
	if _, _, err := cfg.Renewed(); err == nil || !strings.Contains(err.Error(), "password: want one line") || strings.Contains(err.Error(), "HUSH") {
		t.Errorf("%v", err)
	}
	write("password", "HUSH HUSH\n", 0o600)

	_, problems = load(
		"tls: {ca_file: with-key.pem}", "tls: {ca_file: empty.pem}", "tls: {ca_file: absent.pem}", "tls: {cert_file: c.pem, key_file: open.pem}",
		"tls: {cert_file: c.pem, key_file: other.pem}", "tls: {cert_file: c.pem, key_file: locked.pem}", "tls: {cert_file: k.pem, key_file: k.pem}",
		"auth: {basic: {user: me, password_file: two-lines}}", "auth: {bearer: {token_file: spaced}}", "auth: {bearer: {token_file: absent}}",
	)
	wants := []string{
		"something else than certificates", "no certificate in it", "no such file", "everybody may use it", "not that of the certificate", "it is encrypted",
		"something else than certificates", "password: want one line", "token: want one line", "no such file",
	}
	if len(problems) != len(wants) {
		t.Fatalf("%d problems, want %d:\n%v", len(problems), len(wants), problems)
	}
	for i, want := range wants {
		p := problems[i]
		if !strings.Contains(p.Message, want) || p.Line != 4+i || p.Column == 0 || p.Remedy == "" || strings.Contains(fmt.Sprint(p), "HUSH") {
			t.Errorf("problem %d is not about %q in line %d with a remedy:\n%v", i, want, 4+i, p)
		}
	}
}
