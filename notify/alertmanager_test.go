package notify

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/paramedic-ha/paramedic/correlate"
)

// alertManager is a real one (Debian's prometheus-alertmanager) on loopback, which passes on what it is told to a receiver.
type alertManager struct {
	url      string
	received *consumer
}

func newAlertManager(t testing.TB) *alertManager {
	t.Helper()
	am := &alertManager{received: newConsumer(t, nil)}
	dir := t.TempDir()
	config := filepath.Join(dir, "alertmanager.yml")
	text := fmt.Sprintf(`
route: {receiver: all, group_by: ['...'], group_wait: 10ms, group_interval: 100ms}
receivers: [{name: all, webhook_configs: [{url: %q, send_resolved: true}]}]
`, am.received.URL)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "prometheus-alertmanager", "--config.file="+config, "--storage.path="+dir,
		"--web.listen-address=127.0.0.1:0", "--cluster.listen-address=")
	log, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatalf("%v: make deps installs it", err)
	}
	drained := make(chan struct{})
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-drained
		_ = cmd.Wait()
	})
	address := make(chan string, 1)
	go func() {
		defer close(drained)
		listening := regexp.MustCompile(`msg="?Listening on"? address=(\S+)`)
		for lines := bufio.NewScanner(log); lines.Scan(); {
			if m := listening.FindStringSubmatch(lines.Text()); m != nil {
				address <- m[1]
			}
		}
	}()
	select {
	case at := <-address:
		am.url = "http://" + at + "/api/v2/alerts"
	case <-drained:
		t.Fatal("it has ended")
	case <-time.After(patience):
		t.Fatal("it does not listen")
	}
	return am
}

type firing struct {
	Labels, Annotations map[string]string
	StartsAt, EndsAt    time.Time
	GeneratorURL        string
}

// firing are its alerts that are not over.
func (am *alertManager) firing(t testing.TB) []firing {
	t.Helper()
	resp, err := http.Get(am.url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	var all []firing
	if err := json.Unmarshal(body, &all); err != nil {
		t.Fatalf("%v: %s", err, body)
	}
	return all
}

// list is alertname, severity and the domain's last digit of each.
func list(all []firing) string {
	var out []string
	for _, f := range all {
		d := f.Labels["domain"]
		out = append(out, strings.TrimSpace(fmt.Sprint(f.Labels["alertname"], " ", f.Labels["severity"], " ", d[max(0, len(d)-1):])))
	}
	slices.Sort(out)
	return strings.Join(out, ", ")
}

func (am *alertManager) eventually(t testing.TB, want string) {
	t.Helper()
	var got string
	eventually(t, want, func() bool { got = list(am.firing(t)); return got == want })
}

// passesOn waits until the receiver behind it was told of so many alerts that they began, and that they are over.
func (am *alertManager) passesOn(t testing.TB, firing, resolved int) {
	t.Helper()
	var counts map[string]int
	eventually(t, fmt.Sprintf("its receiver hears of %d beginnings and %d ends", firing, resolved), func() bool {
		counts = map[string]int{}
		heard := map[string]bool{} // what goes on is told again
		for _, m := range am.received.messages() {
			var body struct {
				Alerts []struct{ Status, Fingerprint string }
			}
			_ = json.Unmarshal(m.body, &body)
			for _, a := range body.Alerts {
				if !heard[a.Status+a.Fingerprint] {
					counts[a.Status]++
				}
				heard[a.Status+a.Fingerprint] = true
			}
		}
		return counts["firing"] == firing && counts["resolved"] == resolved
	})
}

func TestARealAlertmanagerKnowsWhatStandsAndWhatIsOver(t *testing.T) {
	am := newAlertManager(t)
	cfg, _ := testConfig(t, t.TempDir())
	ops := fileSub("ops", am.url)
	ops.Format = "alertmanager"
	n, stop := start(t, cfg, ops)
	now := time.Now()
	revision := func(counter uint64, last correlate.Transition, s correlate.Severity, hit ...int) *correlate.Alarm {
		a := only(alarm("a1", counter, last, "p", "q", "p"), hit...)
		a.Severity, a.Times = s, correlate.Times{Occurred: now, Raised: now, Changed: time.Now()}
		if last == correlate.Cleared {
			a.Times.Cleared = time.Now()
		}
		return a
	}
	const critical, warning = correlate.SeverityCritical, correlate.SeverityWarning
	n.Publish(effects(revision(1, correlate.Raised, critical, 0, 1)))
	am.eventually(t, "carrier critical, carrier critical 0, carrier critical 1")
	am.passesOn(t, 3, 0)
	for _, f := range am.firing(t) {
		if left := time.Until(f.EndsAt); f.Labels["instance"] != "cmp-1" || f.Labels["resource"] != "bond/bond0" || left < 4*time.Minute || left > 5*time.Minute ||
			f.GeneratorURL == "" || f.Annotations["summary"] == "" || f.Labels["domain"] != "" && f.Labels["project"] == "" {
			t.Errorf("%+v", f)
		}
	}
	n.Publish(effects(revision(2, correlate.Changed, critical, 1)))
	am.eventually(t, "carrier critical, carrier critical 1")
	am.passesOn(t, 3, 1)
	n.Publish(effects(revision(3, correlate.Changed, warning, 1, 2)))
	am.eventually(t, "carrier warning, carrier warning 1, carrier warning 2")
	am.passesOn(t, 6, 3)
	settledAll(t, n)
	before := am.firing(t)
	stop()
	n, _ = start(t, cfg, ops) // what stands is said again at once
	eventually(t, "all is said again", func() bool {
		for _, f := range am.firing(t) {
			for _, b := range before {
				if f.Labels["domain"] == b.Labels["domain"] && !f.EndsAt.After(b.EndsAt) {
					return false
				}
			}
		}
		return true
	})
	n.Publish(effects(revision(4, correlate.Cleared, correlate.SeverityCleared, 1, 2)))
	am.eventually(t, "")
	am.passesOn(t, 6, 6)
	if _, err := n.Test(t.Context(), n.Subscriptions()[0].ID); err != nil {
		t.Error(err)
	}
	am.eventually(t, "paramedic.test indeterminate")
}

func TestATenantsAlertmanagerIsToldOfItsOwnMachinesAlone(t *testing.T) {
	am := newAlertManager(t)
	cfg, _ := testConfig(t, t.TempDir())
	s := fileSub("tenant", am.url)
	s.Format, s.Role, s.Filter.Projects = "alertmanager", RoleConsumer, []string{"q"}
	n, _ := start(t, cfg, s)
	a := alarm("a1", 1, correlate.Raised, "p", "q")
	a.Times.Occurred = time.Now()
	n.Publish(effects(a, alarm("a2", 2, correlate.Raised, "p")))
	am.eventually(t, "network critical 1")
	settledAll(t, n)
	if text := fmt.Sprint(am.firing(t)); strings.Contains(text, "cmp-1") || strings.Contains(text, "bond") || strings.Contains(text, "carrier") {
		t.Error(text)
	}
}

func TestAnAlertmanagersAddressNeedsItsPath(t *testing.T) {
	s := fileSub("ops", "http://10.0.0.5:9093/")
	s.Format = "alertmanager"
	if err := s.Validate(); err == nil || !strings.Contains(err.Error(), "/api/v2/alerts") {
		t.Error(err)
	}
	s.Endpoints[0] += "alertmanager/api/v2/alerts"
	if err := s.Validate(); err != nil {
		t.Error(err)
	}
}
