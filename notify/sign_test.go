package notify

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

func signedHeader(id string, at time.Time, body []byte, s Secret) http.Header {
	h := http.Header{}
	h.Set(HeaderID, id)
	h.Set(HeaderTimestamp, fmt.Sprint(at.Unix()))
	h.Set(HeaderSignature, Sign(id, at, body, s))
	return h
}

func TestTheStandardWebhooksLibraryAcceptsOurSignatures(t *testing.T) {
	text, other := GenerateSecret(), GenerateSecret()
	both, err := ParseSecret(other + "\n" + text + "\n")
	if err != nil {
		t.Fatal(err)
	}
	body := []byte(`{"a":1}`)
	wh, err := standardwebhooks.NewWebhook(text)
	if err != nil {
		t.Fatal(err)
	}
	if err := wh.Verify(body, signedHeader("msg_1", time.Now(), body, both)); err != nil {
		t.Fatal(err)
	}
	if err := wh.Verify([]byte(`{"a":2}`), signedHeader("msg_1", time.Now(), body, both)); err == nil {
		t.Fatal("accepted another body")
	}
}

func TestWeVerifyWhatTheLibrarySigns(t *testing.T) {
	text, now := GenerateSecret(), time.Now()
	secret, err := ParseSecret(text)
	if err != nil {
		t.Fatal(err)
	}
	wh, _ := standardwebhooks.NewWebhook(text)
	body := []byte("hello")
	sig, _ := wh.Sign("msg_1", now, body)
	h := signedHeader("msg_1", now, body, secret)
	if h.Get(HeaderSignature) != sig {
		t.Fatalf("we sign %q, the library %q", h.Get(HeaderSignature), sig)
	}
	h.Set(HeaderSignature, "v1a,abcd v1,!! "+sig)
	if err := Verify(h, body, secret, time.Minute, now); err != nil {
		t.Fatal(err)
	}
	for what, bad := range map[string]func() error{
		"another body":   func() error { return Verify(h, []byte("hello!"), secret, time.Minute, now) },
		"another secret": func() error { s, _ := ParseSecret(GenerateSecret()); return Verify(h, body, s, time.Minute, now) },
		"no secret":      func() error { return Verify(h, body, Secret{}, time.Minute, now) },
		"too late":       func() error { return Verify(h, body, secret, time.Minute, now.Add(2*time.Minute)) },
		"too early":      func() error { return Verify(h, body, secret, time.Minute, now.Add(-2*time.Minute)) },
		"no header":      func() error { return Verify(http.Header{}, body, secret, time.Minute, now) },
		"no number": func() error {
			h := h.Clone()
			h.Set(HeaderTimestamp, "x")
			return Verify(h, body, secret, time.Minute, now)
		},
	} {
		if bad() == nil {
			t.Errorf("accepted: %s", what)
		}
	}
}

func TestBadSecretsAreRefusedWithoutShowingThem(t *testing.T) {
	for _, bad := range []string{
		"", " \n", "whsec_", "c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0", "whsec_!!!SENSITIVE", "whsec_U0VOU0lUSVZF",
		"whsec_" + strings.Repeat("QUFB", 30), strings.Repeat(GenerateSecret()+"\n", 5),
	} {
		_, err := ParseSecret(bad)
		if err == nil {
			t.Errorf("%q is accepted", bad)
		} else if strings.Contains(err.Error(), "SENS") || strings.Contains(err.Error(), "U0VO") {
			t.Errorf("the error shows the secret: %v", err)
		}
	}
}

func TestASecretNeverShows(t *testing.T) {
	s := NewSecret([]byte("SENSITIVE-SENSITIVE-SENSITIVE"))
	sub := Subscription{Name: "a", Secret: s}
	j, _ := json.Marshal(sub)
	for _, shown := range []string{fmt.Sprint(s), fmt.Sprintf("%#v %+v %x %d %s", s, sub, s, s, s), string(j)} {
		if strings.Contains(shown, "SENS") || strings.Contains(shown, "53454e53") || strings.Contains(shown, "83 69 78") {
			t.Errorf("shown: %s", shown)
		}
	}
}

func FuzzParseSecret(f *testing.F) {
	f.Add(GenerateSecret())
	f.Add("whsec_\nwhsec_")
	f.Fuzz(func(t *testing.T, text string) {
		if s, err := ParseSecret(text); err == nil {
			for _, k := range s.keys {
				if len(k) < minKey || len(k) > maxKey {
					t.Fatalf("key of %d bytes", len(k))
				}
			}
		}
	})
}

func FuzzVerify(f *testing.F) {
	s := NewSecret(make([]byte, 32))
	now := time.Unix(1_800_000_000, 0)
	f.Add("id", "1800000000", Sign("id", now, nil, s), []byte{})
	f.Add("id", "-9223372036854775808", "v1,", []byte{1})
	f.Fuzz(func(t *testing.T, id, at, sig string, body []byte) {
		h := http.Header{}
		h.Set(HeaderID, id)
		h.Set(HeaderTimestamp, at)
		h.Set(HeaderSignature, sig)
		if Verify(h, body, s, time.Minute, now) == nil && !strings.Contains(sig, "v1,") {
			t.Fatal("accepted without a signature")
		}
	})
}
