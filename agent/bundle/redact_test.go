package bundle

import (
	"encoding/base64"
	"encoding/hex"
	"net/url"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestWhatLooksLikeASecretIsTakenOut(t *testing.T) {
	r := NewRedactor()
	for _, c := range [][2]string{
		{"password=hunter2", "password=(removed)"},
		{`client_secret: "a b"`, `client_secret: "(removed)"`},
		{`{"api_token":"x","n":1}`, `{"api_token":"(removed)","n":1}`},
		{`msg="{\"password\":\"x y\",\"n\":1}"`, `msg="{\"password\":\"(removed)\",\"n\":1}"`},
		{"Authorization: Bearer abc.def", "Authorization: Bearer (removed)"},
		{"got Basic dTpwYXNz back", "got Basic (removed) back"},
		{"--token abc --secret-file /etc/x", "--token (removed) --secret-file /etc/x"},
		{"secret_file=/etc/paramedic/x.secret", "secret_file=/etc/paramedic/x.secret"},
		{"whsec_MfKQ9r8GKYqrTwjU", "(removed)"},
		{"-----BEGIN PRIVATE KEY-----\nMIIx\n-----END PRIVATE KEY-----\nnext", "(removed)\nnext"},
		{"-----BEGIN PRIVATE KEY-----\nMIIx", "(removed)"},
		{"key 0123456789abcdef0123456789abcdef01234567", "key (removed)"},
		{"alarm 3f9c0d7e3f9c0d7e3f9c0d7e3f9c0d7e", "alarm 3f9c0d7e3f9c0d7e3f9c0d7e3f9c0d7e"},
		{"domain/6e5b0e3a-0d0f-4a52-9a4e-2f6c7c3e0f0a", "domain/6e5b0e3a-0d0f-4a52-9a4e-2f6c7c3e0f0a"},
		{"/usr/lib/x86_64-linux-gnu/Some1/and/some/more", "/usr/lib/x86_64-linux-gnu/Some1/and/some/more"},
		{"AbCdEfGh01234567/IjKlMnOp89+AbCdEfGhIjKl=", "(removed)"},
		{"http://u:p@h:80/a?b=c#d", "http://(removed)@h:80/(removed)"},
		{`Post "http://h/x": refused`, `Post "http://h/(removed)": refused`},
		{"http://h:80: refused", "http://h:80: refused"},
		{"https://h?x=y", "https://h?(removed)"},
		{"unix:///run/paramedic/api.sock qemu:///system", "unix:///run/paramedic/api.sock qemu:///system"},
		{"unix:///run/x?token=y", "unix:///(removed)"},
	} {
		if got := r.Text(c[0]); got != c[1] {
			t.Errorf("%q becomes %q, want %q", c[0], got, c[1])
		}
		if again := r.Text(r.Text(c[0])); again != r.Text(c[0]) {
			t.Errorf("%q: done twice it is another: %q", c[0], again)
		}
	}
}

// Whatever a secret is, and wherever in an encoded text it stands: of it nothing is left but the digits that it shares with its neighbours.
func TestAKnownValueIsTakenOutOfEveryEncoding(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		secret := rapid.StringMatching(`[!-~]([ -~]{6,30})[!-~]`).Draw(t, "secret")
		before := rapid.StringMatching(`[a-z ]{0,5}`).Draw(t, "before")
		after := rapid.StringMatching(`[a-z ]{0,5}`).Draw(t, "after")
		r := NewRedactor()
		r.Add(secret)
		encodings := map[string]func(string) string{
			"plain": func(s string) string { return s }, "hex": func(s string) string { return hex.EncodeToString([]byte(s)) },
			"HEX":            func(s string) string { return strings.ToUpper(hex.EncodeToString([]byte(s))) },
			"base64":         func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) },
			"base64 of URLs": func(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) },
			"query":          url.QueryEscape, "path": url.PathEscape,
		}
		for name, encode := range encodings {
			core := encode(secret)
			if strings.HasPrefix(name, "base64") {
				core = encode(strings.Repeat("x", len(before)%3) + secret)
				core = core[4 : len(core)-4]
			}
			if got := r.Text(encode(before + secret + after)); len(core) >= shortest && strings.Contains(got, core) {
				t.Fatalf("%s of %q within %q and %q: %q is left in %q", name, secret, before, after, core, got)
			}
		}
	})
}

func TestTreesLoseSecretsAndNothingElse(t *testing.T) {
	type inner struct{ Text string }
	v := struct {
		Labels map[string]string
		List   []inner
		N      int
		To     *inner
	}{map[string]string{"az": "nova", "api_token": "x", "url": "http://h/x"}, []inner{{"password=x"}}, 7, &inner{"fine"}}
	NewRedactor().Tree(&v)
	if v.Labels["api_token"] != removed || v.Labels["az"] != "nova" || v.Labels["url"] != "http://h/"+removed || v.List[0].Text != "password="+removed || v.N != 7 || v.To.Text != "fine" {
		t.Errorf("%+v %+v", v, v.To)
	}
}
