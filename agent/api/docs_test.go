package api

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/paramedic-ha/paramedic/correlate"
	"github.com/paramedic-ha/paramedic/notify"
)

func guide(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("../../docs/api.md")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// blocks returns the fenced blocks of a language.
func blocks(markdown, language string) []string {
	var found []string
	for _, part := range strings.Split(markdown, "\n```"+language+"\n")[1:] {
		block, _, _ := strings.Cut(part, "\n```")
		found = append(found, block)
	}
	return found
}

// echo is a callback that proves that it wants what it is asked about, in the way of native and in that of sol.
func echo(t *testing.T) (endpoint string) {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			w.WriteHeader(http.StatusNoContent)
			return
		}
		var event struct{ Data struct{ Challenge string } }
		body, _ := io.ReadAll(r.Body)
		if json.Unmarshal(body, &event) == nil && event.Data.Challenge != "" {
			_ = json.NewEncoder(w).Encode(map[string]string{"challenge": event.Data.Challenge})
		}
	}))
	t.Cleanup(server.Close)
	return server.URL
}

// TestTheExamplesOfTheGuideRun runs the guide's shell examples in one shell, as a reader would who pastes them.
func TestTheExamplesOfTheGuideRun(t *testing.T) {
	h := newHost(t)
	h.cluster = threeHosts(t)
	c := serve(t, h)
	err := h.notifier.SetFile([]notify.Subscription{{
		ID: notify.FileID("prod", "refusing"), Name: "refusing", Endpoints: []string{consumer(t, http.StatusForbidden)},
		Format: notify.FormatNative, Role: notify.RoleAdmin, Origin: notify.OriginFile,
	}})
	if err != nil {
		t.Fatal(err)
	}
	h.carrier("nic/eth0", correlate.StatusFailed)
	h.step(correlate.Delta{Source: "virt", Events: []correlate.Event{{
		Resource: domain, Condition: correlate.CondCrash, Status: correlate.StatusFailed, Occurred: h.now,
	}}})
	eventually(t, "a parked delivery", func() bool { return len(h.notifier.Deliveries(notify.DeliveryParked)) == 2 })

	var script strings.Builder
	script.WriteString("set -eu\n")
	examples := blocks(guide(t), "sh")
	if len(examples) < 8 {
		t.Fatalf("found %d examples only", len(examples))
	}
	for i, example := range examples {
		fmt.Fprintf(&script, "echo '=== example %d'\n%s\n", i+1, example)
	}
	cmd := exec.CommandContext(t.Context(), "sh", "-c", script.String())
	cmd.Env = append(os.Environ(), "SOCKET="+c.socket, "CALLBACK="+echo(t))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v in the last of these examples:\n%s", err, out)
	}
}

func TestTheSampleAlarmOfTheGuideIsOne(t *testing.T) {
	samples := blocks(guide(t), "json")
	if len(samples) == 0 {
		t.Fatal("no sample")
	}
	d := readDescription(t)
	for _, sample := range samples {
		if err := d.validate([]string{"components", "schemas", "Alarm"}, []byte(sample)); err != nil {
			t.Error(err)
		}
	}
}

func TestTheGuideNamesEveryPath(t *testing.T) {
	text := guide(t)
	for path := range readDescription(t).Paths {
		if !strings.Contains(text, "`"+path+"`") {
			t.Errorf("docs/api.md does not name `%s`", path)
		}
	}
}
