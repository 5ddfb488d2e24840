package api

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/paramedic-ha/paramedic/notify"
)

func TestTheHeartbeatOfASubscriptionIsGivenChangedAndTakenBack(t *testing.T) {
	h := newHost(t)
	c := serve(t, h)
	made := get[Subscribed](c, "POST", "/v1/subscriptions", SubscriptionRequest{Name: "a", Endpoints: []string{echo(t)}, Heartbeat: "90s"}, 201).Subscription
	if made.Heartbeat != "1m30s" {
		t.Errorf("made: %+v", made)
	}
	path, version := "/v1/subscriptions/"+made.ID, made.Version
	for _, test := range []struct {
		say, want string
		kept      time.Duration
	}{
		{"24h", "24h0m0s", 24 * time.Hour}, {"1s", "1s", time.Second}, {"", "", 0}, {"30s", "30s", 30 * time.Second},
	} {
		got := get[Subscription](c, "PATCH", path, map[string]any{"heartbeat": test.say}, 200)
		if again := get[Subscription](c, "GET", path, nil, 200); got.Heartbeat != test.want || again.Heartbeat != test.want || got.Version == version {
			t.Errorf("%q: answered %+v, then %+v", test.say, got, again)
		}
		if s := h.notifier.Subscriptions()[0]; s.Heartbeat != test.kept {
			t.Errorf("%q: it is kept as %v", test.say, s.Heartbeat)
		}
		version = got.Version
	}
	if got := get[Subscription](c, "PATCH", path, map[string]any{"name": "b"}, 200); got.Heartbeat != "30s" {
		t.Errorf("a change of something else: %+v", got)
	}
	for say, want := range map[string]struct {
		status int
		detail string
	}{
		"often": {400, `heartbeat: "often": want a time with its unit`}, "0s": {400, "heartbeat"}, "-1s": {400, "heartbeat"},
		"999ms": {422, "want 1s to 24h"}, "24h1s": {422, "want 1s to 24h"},
	} {
		if p := c.problem("PATCH", path, map[string]any{"heartbeat": say}, want.status); !strings.Contains(p.Detail, want.detail) {
			t.Errorf("%q: %+v", say, p)
		}
	}
	if got := get[Subscription](c, "GET", path, nil, 200); got.Heartbeat != "30s" {
		t.Errorf("after what was refused: %+v", got)
	}
	p := c.problem("POST", "/v1/subscriptions", SubscriptionRequest{Name: "d", Endpoints: []string{"http://a/"}, Format: "aodh", Heartbeat: "30s"}, 422)
	if !strings.Contains(p.Detail, "heartbeat") || !strings.Contains(p.Detail, "native") {
		t.Errorf("a form that has none: %+v", p)
	}
}

func TestTheHeartbeatOfTheFilesSubscriptionIsShownAndChangedThere(t *testing.T) {
	h := newHost(t)
	c := serve(t, h)
	sub := notify.Subscription{
		ID: notify.FileID("prod", "oncall"), Name: "oncall", Endpoints: []string{consumer(t, 204)}, Role: notify.RoleAdmin, Origin: notify.OriginFile, Heartbeat: time.Hour,
	}
	if err := h.notifier.SetFile([]notify.Subscription{sub}); err != nil {
		t.Fatal(err)
	}
	path := "/v1/subscriptions/" + sub.ID
	for _, say := range []string{"30s", ""} {
		if p := c.problem("PATCH", path, map[string]any{"heartbeat": say}, 409); !strings.Contains(p.Detail, "configuration file") {
			t.Errorf("%+v", p)
		}
	}
	if got := get[Subscription](c, "GET", path, nil, 200); got.Heartbeat != "1h0m0s" || got.Version != notify.FileVersion(sub) {
		t.Errorf("%+v", got)
	}
}

// A consumer asks for heartbeats of its own subscriptions, and of nobody else's.
func TestAConsumerAsksForHeartbeatsOfItsOwnSubscriptions(t *testing.T) {
	h := newHost(t)
	g := serveGuarded(t, h)
	a := g.named("vnfm-a")
	made := get[Subscribed](a, "POST", "/v1/subscriptions", SubscriptionRequest{Name: "a", Endpoints: []string{echo(t)}, Heartbeat: "1h"}, 201).Subscription
	if made.Heartbeat != "1h0m0s" || made.Role != "consumer" {
		t.Errorf("made: %+v", made)
	}
	path := "/v1/subscriptions/" + made.ID
	if got := get[Subscription](a, "PATCH", path, map[string]any{"heartbeat": "2h"}, 200); got.Heartbeat != "2h0m0s" || got.Role != "consumer" || len(got.Filter.Projects) != 1 {
		t.Errorf("changed: %+v", got)
	}
	theirs := h.owned(t, "vnfm-b", otherProject, consumer(t, http.StatusOK))
	a.problem("PATCH", "/v1/subscriptions/"+theirs.ID, map[string]any{"heartbeat": "30s"}, 404)
	for _, s := range h.notifier.Subscriptions() {
		if s.ID == theirs.ID && s.Heartbeat != 0 {
			t.Errorf("%+v", s)
		}
	}
}
