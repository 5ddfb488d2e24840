package agent

import (
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/paramedic-ha/paramedic/agent/config"
	"github.com/paramedic-ha/paramedic/notify"
)

// TestATokenIsRenewedByItsFileForAllHosts: the other one has the subscription from its peer alone, and sends its own alarms.
func TestATokenIsRenewedByItsFileForAllHosts(t *testing.T) {
	seen := make(chan string, 100)
	consumer := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { seen <- r.Header.Get("Authorization") }))
	t.Cleanup(consumer.Close)
	file := filepath.Join(t.TempDir(), "token")
	write := func(text string) notify.Credentials {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		c, _ := notify.BearerCredentials(strings.TrimSpace(text)) // none of what is no token
		return c
	}
	h := newHosts(t, 2)
	h.all[0].config.Notify.Subscriptions = []config.Subscription{{
		Name: "vnfm", Endpoints: []string{consumer.URL}, Format: "native", Role: "admin", Auth: config.SubscriptionAuth{Bearer: config.BearerAuth{TokenFile: file}},
		Credentials: write("first\n"), Filter: config.Filter{Conditions: []string{"carrier"}},
	}}
	h.start()
	has := func(c notify.Credentials) func(*clusterHost) bool {
		return func(one *clusterHost) bool {
			held := one.notifier.Held()
			return len(held) == 1 && held[0].Credentials.Equal(c)
		}
	}
	h.everywhere("the token is known", has(write("first\n")))
	version := h.all[1].notifier.Subscriptions()[0].Version
	h.all[1].say(fails)
	if got := <-seen; got != "Bearer first" {
		t.Errorf("authorized by %q", got)
	}

	write("not a token\n")
	if err := h.all[0].renew(); err == nil || !strings.Contains(err.Error(), "token: want one line") || strings.Contains(err.Error(), "not a") {
		t.Errorf("%v", err)
	}
	second := write("second\n")
	if err := h.all[0].renew(); err != nil {
		t.Fatal(err)
	}
	h.everywhere("the new token is known", has(second))
	h.all[1].say(recovers)
	if got := <-seen; got != "Bearer second" {
		t.Errorf("authorized by %q", got)
	}
	if got := h.all[1].notifier.Subscriptions()[0].Version; got != version {
		t.Errorf("version %d became %d", version, got)
	}
}

func TestAReloadChangesWhereCallbacksMayGo(t *testing.T) {
	r := receive(t)
	c := testConfig(t)
	c.Notify.AllowCallbacks = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}
	c.Notify.Subscriptions = []config.Subscription{{Name: "vnfm", Endpoints: []string{r.URL}, Format: "native", Role: "admin"}}
	a := start(t, c, oneSource("nic", idle))
	sub := a.notifier.Subscriptions()[0]
	if _, err := a.notifier.Test(t.Context(), sub.ID); err == nil || !strings.Contains(err.Error(), "allow_callbacks") {
		t.Errorf("%v", err)
	}
	wider := *c
	wider.Notify.AllowCallbacks = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	if err := a.Reload(&wider); err != nil {
		t.Fatal(err)
	}
	if _, err := a.notifier.Test(t.Context(), sub.ID); err != nil {
		t.Error(err)
	}
	proxied := wider
	proxied.Notify.Proxy.URL = "http://127.0.0.1:1"
	if err := a.Reload(&proxied); err != nil {
		t.Fatal(err)
	}
	if _, err := a.notifier.Test(t.Context(), sub.ID); err == nil || !strings.Contains(err.Error(), "proxy") {
		t.Errorf("%v", err)
	}
}
