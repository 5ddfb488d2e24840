package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/paramedic-ha/paramedic/agent/e2e/lab"
)

// What Prometheus and Alertmanager are told is what their own tools take.
func TestConfigurationsOfTheChain(t *testing.T) {
	dir := t.TempDir()
	rules := filepath.Join(dir, "rules.yml")
	for name, text := range map[string]string{
		"rules.yml": chainRules(uplink, 3), "alertmanager.yml": alertmanagerConfig("http://10.0.0.2:80/"),
		"prometheus.yml": strings.Replace(prometheusConfig("10.0.0.1", "10.0.0.2"), rulesFile, rules, 1),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, command := range [][]string{
		{"promtool", "check", "config", filepath.Join(dir, "prometheus.yml")}, {"amtool", "check-config", filepath.Join(dir, "alertmanager.yml")},
	} {
		if out, err := exec.Command(command[0], command[1:]...).CombinedOutput(); err != nil {
			t.Errorf("%s: %v: %s (make deps installs it)", strings.Join(command, " "), err, out)
		}
	}
}

// The chain that paramedic is compared with works: it tells of a carrier that is lost, and of its return, also after a shift.
func TestTheChainTells(t *testing.T) {
	l, err := lab.New()
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	}()
	host, err := l.Host("cmp-1")
	if err != nil {
		t.Fatal(err)
	}
	others, err := l.Host("monitor")
	if err != nil {
		t.Fatal(err)
	}
	cable, err := l.Connect(lab.End{Host: host, Link: uplink}, lab.End{Host: others, Link: "switch0"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.Connect(lab.End{Host: host, Link: "mgmt0", Addr: hostAddr + "/24"}, lab.End{Host: others, Link: "mgmt0", Addr: consumerAddr + "/24"}); err != nil {
		t.Fatal(err)
	}
	c, err := newChain(host, hostAddr, others, consumerAddr, uplink)
	if err != nil {
		t.Fatal(err)
	}
	for round := range 2 {
		if round > 0 {
			if err := c.shift(uplink); err != nil {
				t.Fatal(err)
			}
		}
		for _, edge := range []struct {
			firing bool
			act    func() error
		}{{true, cable.Pull}, {false, cable.Plug}} {
			began := time.Now()
			if err := edge.act(); err != nil {
				t.Fatal(err)
			}
			select {
			case w := <-c.words:
				if w.err != nil || w.firing != edge.firing || w.device != uplink || w.at.Before(began) {
					t.Fatalf("round %d: got %+v, want firing %v", round, w, edge.firing)
				}
			case <-time.After(patience):
				t.Fatalf("round %d: nothing told; Prometheus: %s; Alertmanager: %s", round, c.prometheus.Log(), c.alertmanager.Log())
			}
		}
	}
	if err := c.stop(); err != nil {
		t.Error(err)
	}
}
