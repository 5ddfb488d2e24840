package access

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/paramedic-ha/paramedic/notify"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const good = "0123456789abcdefghijklmnopqrstuv"

func TestATokenFileHoldsTokensAndSaysNothingOfThem(t *testing.T) {
	for file, want := range map[string]string{
		good:                                "",
		good + "\n":                         "",
		"\n" + good + "\r\n\n" + good + "x": "",
		GenerateToken():                     "",
		strings.Repeat("a", 31):             "token 1 has 31 characters",
		good + "\nshort":                    "token 2 has 5 characters",
		good + " " + good:                   "token 1 has characters other than",
		good + "\x00":                       "token 1 has characters other than",
		good + "ä":                          "token 1 has characters other than",
		strings.Repeat("a", 1025):           "more than 1024",
		strings.Repeat(good+"\n", 17):       "more than 16 tokens",
		"":                                  "no token",
		" \n":                               "no token",
		strings.Repeat("=", 32):             "characters other than",
	} {
		tokens, err := ParseTokens([]byte(file))
		switch {
		case want == "" && (err != nil || len(tokens) == 0):
			t.Errorf("%q: %v", file, err)
		case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
			t.Errorf("%q: %v, want %q", file, err, want)
		case err != nil && (strings.Contains(err.Error(), "0123") || strings.Contains(err.Error(), "short")):
			t.Errorf("%v tells of the token", err)
		}
	}
}

func TestARequestShowsOneToken(t *testing.T) {
	for _, c := range []struct {
		bearer, doctor []string
		want           string
		bad            bool
	}{
		{want: ""},
		{bearer: []string{"Bearer " + good}, want: good},
		{bearer: []string{"bEARER   " + good + " "}, want: good},
		{doctor: []string{good}, want: good},
		{bearer: []string{"Bearer " + good}, doctor: []string{good}, want: good},
		{bearer: []string{"Bearer " + good}, doctor: []string{good + "x"}, bad: true},
		{bearer: []string{"Bearer " + good, "Bearer " + good + "x"}, bad: true},
		{bearer: []string{"Basic " + good}, bad: true},
		{bearer: []string{"Bearer"}, bad: true},
		{bearer: []string{"Bearer "}, bad: true},
		{bearer: []string{good}, bad: true},
		{bearer: []string{"Bearer a b"}, bad: true},
		{bearer: []string{""}, bad: true},
		{doctor: []string{""}, bad: true},
		{doctor: []string{"a,b"}, bad: true},
	} {
		got, err := TokenOf(http.Header{"Authorization": c.bearer, TokenHeader: c.doctor})
		if got != c.want || (err != nil) != c.bad || err != nil && !errors.Is(err, ErrToken) {
			t.Errorf("%q %q: %q %v", c.bearer, c.doctor, got, err)
		}
	}
}

func TestACertificateIsFoundByTheNamesItSays(t *testing.T) {
	a, b := Identity{Name: "a", Role: notify.RoleConsumer, Projects: []string{"red"}}, Identity{Name: "b", Role: notify.RoleAdmin}
	var d Directory
	d.AddCertificate("dns:A.example", a)
	d.AddCertificate("cn:a", a)
	d.AddCertificate("uri:spiffe://prod/b", b)
	d.AddCertificate("dns:*.wild.example", b)
	for _, c := range []struct {
		name string
		cert x509.Certificate
		want string
	}{
		{"a DNS name, whatever its case", x509.Certificate{DNSNames: []string{"x", "a.EXAMPLE"}}, "a"},
		{"a common name", x509.Certificate{Subject: pkix.Name{CommonName: "a"}}, "a"},
		{"a common name in another case", x509.Certificate{Subject: pkix.Name{CommonName: "A"}}, ""},
		{"a common name that is a DNS name", x509.Certificate{Subject: pkix.Name{CommonName: "a.example"}}, ""},
		{"a URI", x509.Certificate{URIs: []*url.URL{{Scheme: "spiffe", Host: "prod", Path: "/b"}}}, "b"},
		{"a name under a star", x509.Certificate{DNSNames: []string{"x.wild.example"}}, ""},
		{"the names of two", x509.Certificate{DNSNames: []string{"a.example"}, URIs: []*url.URL{{Scheme: "spiffe", Host: "prod", Path: "/b"}}}, ""},
		{"two names of one", x509.Certificate{DNSNames: []string{"a.example"}, Subject: pkix.Name{CommonName: "a"}}, "a"},
		{"none", x509.Certificate{}, ""},
		{"a mail address", x509.Certificate{EmailAddresses: []string{"a"}}, ""},
	} {
		got, ok := d.ByCertificate(&c.cert)
		if got.Name != c.want || ok != (c.want != "") {
			t.Errorf("%s: %q %v, want %q", c.name, got.Name, ok, c.want)
		}
	}
	if all := d.Consumers(); len(all) != 1 || !slices.Equal(all["a"], []string{"red"}) {
		t.Errorf("consumers: %v", all)
	}
}

// FuzzTokenFile: what is read is found again by what was written, and no error repeats it.
func FuzzTokenFile(f *testing.F) {
	f.Add(good)
	f.Add(good + "\n" + good + "=\n")
	f.Add("\x00")
	f.Fuzz(func(t *testing.T, text string) {
		tokens, err := ParseTokens([]byte(text))
		if err != nil {
			if line := strings.TrimSpace(text); len(line) >= 8 && strings.Contains(err.Error(), line) {
				t.Errorf("%v repeats %q", err, line)
			}
			return
		}
		var d Directory
		for _, token := range tokens {
			d.AddToken(token, Identity{Name: "a"})
		}
		for _, token := range strings.Fields(text) {
			if _, ok := d.ByToken(token); !ok {
				t.Errorf("%q was read and is not found", token)
			}
		}
		if len(tokens) != len(strings.Fields(text)) {
			t.Errorf("%d tokens of %q", len(tokens), text)
		}
	})
}

// FuzzTokenHeader: a token comes out as it went in, or not at all.
func FuzzTokenHeader(f *testing.F) {
	f.Add("Bearer "+good, "")
	f.Add("", good)
	f.Add("Bearer \t", " ")
	f.Fuzz(func(t *testing.T, bearer, doctor string) {
		h := http.Header{}
		if bearer != "" {
			h.Set("Authorization", bearer)
		}
		if doctor != "" {
			h.Set(TokenHeader, doctor)
		}
		token, err := TokenOf(h)
		if err != nil && token != "" || token != "" && (!token68(token) || !strings.Contains(bearer+" "+doctor, token)) {
			t.Errorf("%q %q: %q %v", bearer, doctor, token, err)
		}
		if err == nil && token == "" && bearer+doctor != "" {
			t.Errorf("%q %q show none", bearer, doctor)
		}
	})
}

// FuzzCertificate: whatever a certificate says, it is somebody only by a name that it has.
func FuzzCertificate(f *testing.F) {
	f.Add("a.example", "a", "spiffe://prod/b")
	f.Add("A.EXAMPLE", "dns:a.example", "dns:a.example")
	f.Add("", "\x00a", "%zz")
	f.Fuzz(func(t *testing.T, dns, cn, uri string) {
		var d Directory
		d.AddCertificate("dns:a.example", Identity{Name: "dns"})
		d.AddCertificate("cn:a", Identity{Name: "cn"})
		d.AddCertificate("uri:spiffe://prod/b", Identity{Name: "uri"})
		c := x509.Certificate{DNSNames: []string{dns}, Subject: pkix.Name{CommonName: cn}}
		if u, err := url.Parse(uri); err == nil {
			c.URIs = []*url.URL{u}
		}
		i, ok := d.ByCertificate(&c)
		is := map[string]bool{"dns": strings.EqualFold(dns, "a.example"), "cn": cn == "a", "uri": len(c.URIs) > 0 && c.URIs[0].String() == "spiffe://prod/b"}
		if ok && !is[i.Name] {
			t.Errorf("%q %q %q is %s", dns, cn, uri, i.Name)
		}
	})
}
