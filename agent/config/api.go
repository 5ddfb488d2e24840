package config

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/paramedic-ha/paramedic/agent/access"
)

// maxIdentity is what a subscription's owner may have (notify).
const maxIdentity = 128

func checkIdentity(s string) *wrong {
	if len(s) > maxIdentity {
		return &wrong{fmt.Sprintf("a name of %d bytes is too long", len(s)), fmt.Sprintf("write at most %d", maxIdentity)}
	}
	return checkName(s)
}

func checkListen(s string) *wrong {
	addr, err := netip.ParseAddrPort(s)
	if err != nil || addr.Port() == 0 || addr.Addr().IsMulticast() {
		return &wrong{fmt.Sprintf("%q is not an address with a port", s), "write for instance 127.0.0.1:7480, 10.0.0.1:7480 or [2001:db8::1]:7480"}
	}
	return nil
}

func checkSubject(s string) *wrong {
	kind, name, _ := strings.Cut(s, ":")
	switch kind {
	case access.SubjectDNS:
		if checkName(name) == nil && name != "" {
			return nil
		}
	case access.SubjectURI:
		if u, err := url.Parse(name); err == nil && u.Scheme != "" {
			return nil
		}
	case access.SubjectCN:
		if name != "" && checkText(name) == nil {
			return nil
		}
	}
	return &wrong{fmt.Sprintf("%q names no certificate", s), "write for instance dns:vnfm-a.example.org, uri:spiffe://prod/vnfm-a or cn:vnfm-a"}
}

// namedIdentity is what tokens and certificates have in common.
type namedIdentity struct {
	at, name, role string
	projects       []string
}

// acrossAPI checks what the keys of the API ask of each other.
func (p *parser) acrossAPI(cfg *Config) {
	a := &cfg.API
	files := []struct{ key, value string }{
		{"cert_file", a.TLS.CertFile}, {"key_file", a.TLS.KeyFile}, {"client_ca_file", a.TLS.ClientCAFile},
	}
	if a.Listen == "" {
		if n := p.at["api.listen"]; n != nil && n.Kind == yaml.ScalarNode && n.Value != "" {
			return // said already
		}
		for _, f := range files {
			if f.value != "" {
				p.add("api.tls."+f.key, "nothing listens over TCP", "write api.listen, or remove this line")
			}
		}
		p.acrossIdentities(a) // who calls other hosts only: what a consumer may hear counts here, too
		return
	}
	if addr, err := netip.ParseAddrPort(a.Listen); err == nil && !addr.Addr().Unmap().IsLoopback() && a.TLS.CertFile == "" {
		p.add("api.listen", fmt.Sprintf("%s is not loopback, and without TLS everybody on the way reads tokens and answers", addr.Addr()),
			"write api.tls.cert_file and key_file, or listen on 127.0.0.1")
	}
	if a.Listen != "" && len(a.Tokens) == 0 && len(a.Certificates) == 0 {
		p.add("api.listen", "nobody could call it: no token and no certificate is named", "write api.tokens or api.certificates, or remove api.listen")
	}
	switch {
	case a.TLS.CertFile != "" && a.TLS.KeyFile == "":
		p.add("api.tls.cert_file", "the certificate has no key", "write api.tls.key_file")
	case a.TLS.CertFile == "" && a.TLS.KeyFile != "":
		p.add("api.tls.key_file", "the key has no certificate", "write api.tls.cert_file")
	case a.TLS.CertFile == "" && a.TLS.ClientCAFile != "":
		p.add("api.tls.client_ca_file", "without TLS no client shows a certificate", "write api.tls.cert_file and key_file")
	}
	if len(a.Certificates) > 0 && a.TLS.ClientCAFile == "" {
		p.add("api.certificates", "nobody is named who may issue the certificates", "write api.tls.client_ca_file")
	}
	if len(a.Certificates) == 0 && a.TLS.ClientCAFile != "" {
		p.add("api.tls.client_ca_file", "no certificate that it has issued is anybody's", "write api.certificates, or remove this line")
	}
	p.acrossIdentities(a)
}

func (p *parser) acrossIdentities(a *API) {
	var all []namedIdentity
	for i, t := range a.Tokens {
		all = append(all, namedIdentity{fmt.Sprintf("api.tokens[%d]", i), t.Name, t.Role, t.Projects})
	}
	subjects := map[string]string{}
	for i, c := range a.Certificates {
		at := fmt.Sprintf("api.certificates[%d]", i)
		all = append(all, namedIdentity{at, c.Name, c.Role, c.Projects})
		key := access.Subject(c.Subject)
		if first, again := subjects[key]; again && c.Subject != "" {
			p.add(at+".subject", fmt.Sprintf("certificate %q is given twice, first in line %d", c.Subject, p.at[first].Line), "remove one of them")
			continue
		}
		subjects[key] = at + ".subject"
	}
	names := map[string]namedIdentity{}
	for _, i := range all {
		if n := p.at[i.at]; n == nil || n.Kind != yaml.MappingNode || i.name == "" || i.role == "" {
			continue // said already
		}
		first, again := names[i.name]
		switch {
		case again && (first.role != i.role || !equalSets(first.projects, i.projects)):
			p.add(i.at+".name", fmt.Sprintf("%q has another role, or other projects, in line %d", i.name, p.at[first.at+".name"].Line),
				"give both the same, or this one another name")
		case i.role == "consumer" && len(i.projects) == 0:
			p.add(i.at+".role", "a consumer sees its own projects' resources only, and none is named", "write projects: […]")
		case i.role != "consumer" && len(i.projects) > 0:
			p.add(i.at+".projects", fmt.Sprintf("projects bound a consumer, and this is role %s", i.role), "remove them, or write role: consumer")
		}
		if !again {
			names[i.name] = i
		}
	}
}

func equalSets(a, b []string) bool {
	within := func(x, y []string) bool {
		return !slices.ContainsFunc(x, func(s string) bool { return !slices.Contains(y, s) })
	}
	return within(a, b) && within(b, a)
}

// loadAPI reads the files of api.tls and of the tokens.
func (p *parser) loadAPI(cfg *Config, credentials string) {
	a := &cfg.API
	beside := filepath.Dir(p.file)
	// read gives the contents of a file that a key names, private or not; nil when that was a problem.
	read := func(at, what, name string, private bool) []byte {
		if name == "" {
			return nil
		}
		file := SecretPath(name, credentials, beside)
		allow := os.FileMode(0o777)
		if private {
			allow = 0o770
		}
		data, problem := readPrivate(file, maxPEM, allow)
		if problem != nil {
			if _, err := os.Stat(file); errors.Is(err, os.ErrNotExist) {
				problem.Remedy = "put it there, or make it a systemd credential (LoadCredential=)"
			}
			p.add(at, p.named(at, what, file)+": "+problem.Message, problem.Remedy)
			return nil
		}
		return data
	}
	certificate := read("api.tls.cert_file", "certificate file", a.TLS.CertFile, false)
	key := read("api.tls.key_file", "key file", a.TLS.KeyFile, true)
	if certificate != nil && key != nil {
		pair, err := tls.X509KeyPair(certificate, key)
		if err != nil {
			p.add("api.tls.cert_file", "certificate and key don't make a pair: "+err.Error(), "name a certificate and its own key, both PEM")
		} else {
			a.TLS.Certificate = &pair
		}
	}
	if data := read("api.tls.client_ca_file", "file of certificates", a.TLS.ClientCAFile, false); data != nil {
		pool, err := readPool(data)
		if err != nil {
			p.add("api.tls.client_ca_file", err.Error(), "name a file of certificates in PEM")
		}
		a.TLS.ClientCAs = pool
	}
	seen := map[access.Digest]string{}
	for i := range a.Tokens {
		t := &a.Tokens[i]
		at := fmt.Sprintf("api.tokens[%d].token_file", i)
		data := read(at, "token file", t.TokenFile, true)
		if data == nil {
			continue
		}
		tokens, err := access.ParseTokens(data)
		if err != nil {
			p.add(at, "token file "+t.TokenFile+": "+err.Error(), `"paramedic keygen --token" makes a good one`)
			continue
		}
		for _, token := range tokens {
			if first, again := seen[token]; again && first != t.Name {
				p.add(at, fmt.Sprintf("its token is also that of %q", first), `give each identity its own: "paramedic keygen --token" makes one`)
			}
			seen[token] = t.Name
			t.Tokens = append(t.Tokens, token)
		}
	}
}

// readPool reads certificates in PEM, and nothing else.
func readPool(data []byte) (*x509.CertPool, error) {
	pool := x509.NewCertPool()
	n := 0
	for len(bytes.TrimSpace(data)) > 0 {
		block, rest := pem.Decode(data)
		if block == nil {
			break
		}
		data = rest
		if block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("it holds a %s", strings.ToLower(block.Type))
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("certificate %d in it: %w", n+1, err)
		}
		pool.AddCert(c)
		n++
	}
	if n == 0 {
		return nil, errors.New("there is no certificate in it")
	}
	return pool, nil
}

// ReadCertificates reads a file of certificates in PEM.
func ReadCertificates(file string) (*x509.CertPool, *Problem) {
	data, problem := readFile(file, maxPEM)
	if problem != nil {
		return nil, problem
	}
	pool, err := readPool(data)
	if err != nil {
		return nil, &Problem{File: file, Message: err.Error()}
	}
	return pool, nil
}

// ReadAPIToken reads the token that a client shows, the first of its file. The problem never holds any of it.
func ReadAPIToken(file string) (string, *Problem) {
	data, problem := readPrivate(file, maxToken, 0o770)
	if problem != nil {
		problem.File = file
		return "", problem
	}
	if _, err := access.ParseTokens(data); err != nil {
		return "", &Problem{File: file, Message: err.Error(), Remedy: `"paramedic keygen --token" makes a good one`}
	}
	return strings.Fields(string(data))[0], nil
}
