package api

import (
	"fmt"
	"strings"
	"testing"

	"github.com/paramedic-ha/paramedic/correlate"
)

func TestEachChangeAndEachRefusalIsOneLineOfTheAuditLogWithoutSecrets(t *testing.T) {
	h := newHost(t)
	h.carrier("nic/eth0", correlate.StatusFailed)
	g := serveGuarded(t, h)
	consumer := g.named("vnfm-a")
	secret := "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	alarm := get[AlarmPage](consumer, "GET", "/v1/alarms", nil, 200).Alarms[0]
	g.log.audit(t)
	for _, c := range []struct {
		by                 *client
		method, path, body string
		status             int
		want               string // who, object, outcome; empty: no line
	}{
		{consumer, "GET", "/v1/alarms", "", 200, ""},
		{consumer, "POST", "/v1/alarms/" + alarm.ID + "/ack", `{"comment":"seen"}`, 200, "vnfm-a " + alarm.ID + " done"},
		{consumer, "POST", "/v1/subscriptions", `{"name":"mine","endpoints":["http://127.0.0.1:1/"],"secret":"` + secret + `","auth":{"bearer":{"token":"never-shown"}}}`, 422, "vnfm-a mine refused"},
		{consumer, "GET", "/v1/hosts", "", 403, "vnfm-a  refused"},
		{g.as(tokenFor("nobody")), "GET", "/v1/alarms", "", 401, "  refused"},
		{g.named("ops"), "DELETE", "/v1/keys/none", "", 0, "ops none refused"},
	} {
		status, answer := ask(t, c.by, c.method, c.path, c.body)
		if c.status != 0 && status != c.status {
			t.Errorf("%s %s: %d: %s", c.method, c.path, status, answer)
		}
		said := g.log.audit(t)
		if c.want == "" {
			if len(said) != 0 {
				t.Errorf("%s %s: %v", c.method, c.path, said)
			}
			continue
		}
		if len(said) != 1 {
			t.Fatalf("%s %s: %v", c.method, c.path, said)
		}
		line := said[0]
		if got := fmt.Sprintf("%v %v %v", line["who"], line["object"], line["outcome"]); got != c.want || line["status"] != float64(status) {
			t.Errorf("%s %s: %v, want %s", c.method, c.path, line, c.want)
		}
		if from, _ := line["from"].(string); !strings.HasPrefix(from, "127.0.0.1:") {
			t.Errorf("%s %s comes from %v", c.method, c.path, line["from"])
		}
		text := fmt.Sprint(line)
		for _, word := range []string{secret, "never-shown", tokenFor("nobody"), tokenFor("vnfm-a")} {
			if strings.Contains(text, word) {
				t.Errorf("%s %s: %q is in the log", c.method, c.path, word)
			}
		}
	}
	for range 3 * refusalBurst {
		ask(t, consumer, "GET", "/v1/hosts", "")
	}
	if n := len(g.log.audit(t)); n > 2*refusalBurst {
		t.Errorf("%d refusals are %d lines", 3*refusalBurst, n)
	}
}
