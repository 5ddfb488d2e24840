package agent

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/paramedic-ha/paramedic/agent/config"
	"github.com/paramedic-ha/paramedic/correlate"
	"github.com/paramedic-ha/paramedic/gossip/loopback"
	"github.com/paramedic-ha/paramedic/hw"
)

// block is the one of the manual that begins with a line.
func block(t *testing.T, first string) string {
	t.Helper()
	page, err := os.ReadFile(manual)
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile("(?s)```yaml\n" + regexp.QuoteMeta(first) + "\n(.*?)```").FindStringSubmatch(string(page))
	if m == nil {
		t.Fatalf("docs/metrics.md has no block %q", first)
	}
	return m[1]
}

func write(t *testing.T, path, text string) string {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// certify writes a certificate of 127.0.0.1 that is its own authority, and its key.
func certify(t *testing.T, dir string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	cert, err := x509.CreateCertificate(rand.Reader, &template, &template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "api.crt"), string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert})))
	write(t, filepath.Join(dir, "api.key"), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret})))
}

// prometheusProcess is Debian's, as a process.
type prometheusProcess struct {
	t       *testing.T
	address string
}

func runPrometheus(t *testing.T, dir string) prometheusProcess {
	t.Helper()
	path, err := exec.LookPath("prometheus")
	if err != nil {
		t.Fatalf("prometheus is Debian's package of that name, which make deps installs: %v", err)
	}
	p := prometheusProcess{t, loopback.Address(t)}
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, path, "--config.file="+filepath.Join(dir, "prometheus.yml"), "--storage.tsdb.path="+filepath.Join(dir, "tsdb"),
		"--web.listen-address="+p.address, "--log.level=warn")
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 10 * time.Second
	var said syncBuffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("prometheus said:\n%s", said.String())
		}
	})
	return p
}

// ask is a call of its API. False: it does not answer yet.
func (p prometheusProcess) ask(call string, to any) bool {
	p.t.Helper()
	request, err := http.NewRequestWithContext(p.t.Context(), http.MethodGet, "http://"+p.address+"/api/v1/"+call, http.NoBody)
	if err != nil {
		p.t.Fatal(err)
	}
	answer, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(request)
	if err != nil {
		return false
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if answer.StatusCode == http.StatusServiceUnavailable { // it reads its disk
		return false
	}
	if err != nil || answer.StatusCode != http.StatusOK {
		p.t.Logf("GET %s: %s %s", call, answer.Status, body)
		return false
	}
	if err := json.Unmarshal(body, to); err != nil {
		p.t.Fatalf("GET %s: %v\n%s", call, err, body)
	}
	return true
}

// until waits for what comes with a scrape.
func (p prometheusProcess) until(what string, cond func() bool) {
	p.t.Helper()
	poll := time.NewTicker(100 * time.Millisecond)
	defer poll.Stop()
	for deadline := time.After(patience); !cond(); {
		select {
		case <-poll.C:
		case <-deadline:
			p.t.Fatalf("%s: not within %v", what, patience)
		}
	}
}

// series is what an expression gives.
func (p prometheusProcess) series(expr string) (n int, ok bool) {
	p.t.Helper()
	var got struct {
		Data struct{ Result []any }
	}
	ok = p.ask("query?query="+url.QueryEscape(expr), &got)
	return len(got.Data.Result), ok
}

// firing are the alerts that do, by name, with their summaries.
func (p prometheusProcess) firing() map[string]string {
	p.t.Helper()
	var got struct {
		Data struct {
			Alerts []struct {
				Labels, Annotations map[string]string
				State               string
			}
		}
	}
	p.ask("alerts", &got)
	all := make(map[string]string)
	for _, a := range got.Data.Alerts {
		if a.State == "firing" {
			all[a.Labels["alertname"]] = a.Annotations["summary"]
		}
	}
	return all
}

// Debian's Prometheus scrapes an agent with the manual's configuration, over TLS and with a monitor's token. A source that goes blind raises the alert;
// when it sees again the alert ends. Every expression of the dashboard is one that it can answer.
func TestAPrometheusScrapesWithTheManualsConfigurationAndAlerts(t *testing.T) {
	dir := t.TempDir()
	certify(t, dir)
	token := strings.Repeat("0123456789abcdef", 3)
	write(t, filepath.Join(dir, "prometheus.token"), token+"\n")
	at := loopback.Address(t)
	ours := strings.NewReplacer("10.0.0.1:7480", at, "api:\n", "api:\n  socket: "+filepath.Join(dir, "api.sock")+"\n").Replace(block(t, "# paramedic.yaml"))
	path := write(t, filepath.Join(dir, "paramedic.yaml"), "node: {name: cmp-1}\nnotify: {dir: "+filepath.Join(dir, "state")+"}\n"+ours)
	c, err := config.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	sight := make(chan hw.Health)
	a, err := New(Options{Config: c, Version: "test", Log: slog.New(slog.DiscardHandler), sources: oneSource("nic", func(ctx context.Context, sink hw.Sink) error {
		if err := sink.Emit(ctx, correlate.Delta{Full: true, Set: well.Set}); err != nil {
			return err
		}
		for {
			select {
			case h := <-sight:
				sink.Health(h)
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	})})
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stop(t, a) })
	sight <- hw.Health{Sight: hw.SightClear}

	rules, err := os.ReadFile(rulesFile)
	if err != nil {
		t.Fatal(err)
	}
	// Nothing is to be waited for but a second's scrape.
	write(t, filepath.Join(dir, "paramedic.rules.yml"), regexp.MustCompile(`(?m)^\s+for: .*\n`).ReplaceAllString(string(rules), ""))
	write(t, filepath.Join(dir, "prometheus.yml"), strings.NewReplacer(
		"10.0.0.1:7480, 10.0.0.2:7480, 10.0.0.3:7480", at, "/etc/prometheus/paramedic.token", filepath.Join(dir, "prometheus.token"),
		"/etc/prometheus/paramedic-ca.crt", filepath.Join(dir, "api.crt"), "15s", "1s",
	).Replace(block(t, "# prometheus.yml")))
	promtool(t, nil, "check", "config", filepath.Join(dir, "prometheus.yml"))
	p := runPrometheus(t, dir)
	p.until("the agent is scraped", func() bool { n, _ := p.series(`up{job="paramedic"} == 1`); return n == 1 })
	p.until("no alert fires", func() bool {
		n, ok := p.series(`paramedic_source_sight{source="nic",sight="clear"} == 1`)
		return ok && n == 1 && len(p.firing()) == 0
	})
	sight <- hw.Health{Sight: hw.SightBlind, Text: "netlink is gone"}
	p.until("the alert fires", func() bool {
		return p.firing()["ParamedicSourceBlind"] == fmt.Sprintf("%s does not see its nic", at)
	})
	sight <- hw.Health{Sight: hw.SightClear}
	p.until("it ends", func() bool { return len(p.firing()) == 0 })
	for _, expr := range readDashboard(t).expressions() {
		if _, ok := p.series(expr); !ok {
			t.Errorf("prometheus does not take %s", expr)
		}
	}
}
