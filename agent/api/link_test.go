package api

import (
	"crypto/x509"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// TestHowRequestsLeaveIsGivenChangedAndShown without what is secret of it.
func TestHowRequestsLeaveIsGivenChangedAndShown(t *testing.T) {
	seen := make(chan string, 10)
	receiver := httptest.NewTLSServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { seen <- r.Header.Get("Authorization") }))
	t.Cleanup(receiver.Close)
	bare, err := x509.MarshalPKCS8PrivateKey(receiver.TLS.Certificates[0].PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	certificate := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: receiver.Certificate().Raw}))
	key := string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: bare}))

	c := serve(t, newHost(t))
	tell := func(id string) string {
		t.Helper()
		get[Stages](c, "POST", "/v1/subscriptions/"+id+"/test", nil, 200)
		return <-seen
	}
	body := map[string]any{
		"name": "vnfm", "endpoints": []string{receiver.URL}, "verify": false, "proxy": "direct",
		"tls":  map[string]any{"ca": certificate, "server_name": "example.com", "certificate": certificate, "key": key},
		"auth": map[string]any{"basic": map[string]any{"user": "me", "password": "HUSHHUSH"}},
	}
	_, made := c.send("POST", "/v1/subscriptions", body)
	sub := get[SubscriptionList](c, "GET", "/v1/subscriptions", nil, 200).Subscriptions[0]
	if own := sub.TLS.Certificate; len(sub.TLS.Authorities) != 1 || sub.TLS.ServerName != "example.com" || own == nil || len(own.Fingerprint) != 64 || own.Expires == nil ||
		sub.Auth != (LinkAuth{Kind: "basic", User: "me"}) || sub.Proxy != "direct" {
		t.Errorf("%+v", sub)
	}
	if got := tell(sub.ID); got != "Basic bWU6SFVTSEhVU0g=" {
		t.Errorf("authorized by %q", got)
	}

	changed := get[Subscription](c, "PATCH", "/v1/subscriptions/"+sub.ID, map[string]any{"auth": map[string]any{"bearer": map[string]any{"token": "HUSH.HUSH"}}, "proxy": ""}, 200)
	if changed.Auth != (LinkAuth{Kind: "bearer"}) || changed.TLS.Certificate == nil || changed.Proxy != "" || changed.Version <= sub.Version {
		t.Errorf("%+v", changed)
	}
	if got := tell(sub.ID); got != "Bearer HUSH.HUSH" {
		t.Errorf("authorized by %q", got)
	}
	changed = get[Subscription](c, "PATCH", "/v1/subscriptions/"+sub.ID, map[string]any{"auth": map[string]any{}, "tls": map[string]any{"ca": certificate}}, 200)
	if changed.Auth != (LinkAuth{}) || changed.TLS.Certificate != nil || changed.TLS.ServerName != "" || len(changed.TLS.Authorities) != 1 {
		t.Errorf("%+v", changed)
	}
	if got := tell(sub.ID); got != "" {
		t.Errorf("authorized by %q", got)
	}

	_, list := c.send("GET", "/v1/subscriptions", nil)
	for _, answer := range [][]byte{made, list} {
		if s := string(answer); strings.Contains(s, "HUSH") || strings.Contains(s, "BEGIN") {
			t.Errorf("shows %s", s)
		}
	}
	for want, change := range map[string]any{
		"tls.ca: there is no certificate":  map[string]any{"tls": map[string]any{"ca": "HUSH"}},
		"tls: a certificate and its key":   map[string]any{"tls": map[string]any{"certificate": certificate}},
		"tls.key: it is none in PEM":       map[string]any{"tls": map[string]any{"certificate": certificate, "key": "HUSH"}},
		"auth: a request has one":          map[string]any{"auth": map[string]any{"basic": map[string]any{"user": "u", "password": "HUSH"}, "bearer": map[string]any{"token": "HUSH"}}},
		"auth.bearer.token: want one line": map[string]any{"auth": map[string]any{"bearer": map[string]any{"token": "HUSH HUSH"}}},
		"auth.basic.user: want":            map[string]any{"auth": map[string]any{"basic": map[string]any{"user": "u:v", "password": "HUSH"}}},
		"proxy: want":                      map[string]any{"proxy": "http://other:3128"},
		"is not known here":                map[string]any{"tls": map[string]any{"insecure": true}},
	} {
		status, answer := c.send("PATCH", "/v1/subscriptions/"+sub.ID, change)
		if s := string(answer); status.StatusCode != http.StatusBadRequest || !strings.Contains(s, want) || strings.Contains(s, "HUSH") {
			t.Errorf("want 400 about %q: %s", want, s)
		}
	}
	if status, answer := c.send("PATCH", "/v1/subscriptions/"+sub.ID, map[string]any{"endpoints": []string{"http://10.0.0.1/"}}); status.StatusCode != http.StatusUnprocessableEntity || !strings.Contains(string(answer), "no endpoint is https") {
		t.Errorf("%s", answer)
	}
	if status, answer := c.send("PATCH", "/v1/subscriptions/"+sub.ID, map[string]any{"endpoints": []string{"https://169.254.169.254/"}}); status.StatusCode != http.StatusUnprocessableEntity || !strings.Contains(string(answer), "allow_callbacks") {
		t.Errorf("%s", answer)
	}
}
