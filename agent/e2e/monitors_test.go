package e2e

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/paramedic-ha/paramedic/agent/e2e/lab"
)

// shown is the block of YAML in docs/monitors.md that has a word.
func shown(t *testing.T, word string) string {
	t.Helper()
	text, err := os.ReadFile("../../docs/monitors.md")
	must(t, err)
	for _, m := range regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllStringSubmatch(string(text), -1) {
		if strings.Contains(m[1], word) {
			return m[1]
		}
	}
	t.Fatalf("docs/monitors.md shows no YAML with %q", word)
	return ""
}

// selfSigned is a certificate for a name, which is its own authority.
func selfSigned(t *testing.T, name string) (certificate, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(1, 0, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	must(t, err)
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	must(t, err)
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}))
}

// fire says to the Alertmanager, as Prometheus does, that an alert stands, or that it is over.
func fire(t *testing.T, labels map[string]string, over bool) {
	t.Helper()
	alert := map[string]any{
		"labels": labels, "annotations": map[string]string{"summary": "port 7 of sw-1 is down"}, "startsAt": time.Now().Add(-time.Minute).Format(time.RFC3339Nano),
	}
	if over {
		alert["endsAt"] = time.Now().Format(time.RFC3339Nano)
	}
	body, err := json.Marshal([]any{alert})
	must(t, err)
	client := http.Client{Transport: &http.Transport{
		DialContext:       func(_ context.Context, _, addr string) (net.Conn, error) { return w.consumers.Dial(addr) },
		DisableKeepAlives: true,
	}}
	resp, err := client.Post("http://"+alertmanagerAddr+"/api/v2/alerts", "application/json", bytes.NewReader(body))
	must(t, err)
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("Alertmanager answers %s", resp.Status)
	}
}

// A real Alertmanager, configured as docs/monitors.md shows, hands its alerts in over TLS with a token: they stand as the mapping there says,
// name the domains behind them, reach a consumer, and clear. With another token it is refused.
func TestWhatAnAlertmanagerSaysStandsAndClears(t *testing.T) {
	const name = "cmp-1.example"
	c := consume(t, "a")
	certificate, key := selfSigned(t, name)
	token, err := w.host.Output(w.bin, "keygen", "--token")
	must(t, err)
	stranger, err := w.host.Output(w.bin, "keygen", "--token")
	must(t, err)
	for file, content := range map[string]string{"api.crt": certificate, "api.key": key, "alertmanager.token": token} {
		must(t, w.host.WriteFile(lab.Dir+"/"+file, content, 0o600))
	}
	config := configuration(t, shown(t, "type: SwitchPortDown"), c)
	socket := "api: {socket: " + lab.Socket
	if !strings.Contains(config, socket+"}") {
		t.Fatal(config)
	}
	config = strings.Replace(config, socket, socket+", listen: '10.0.0.1:7480', tls: {cert_file: "+lab.Dir+"/api.crt, key_file: "+lab.Dir+"/api.key}, "+
		"tokens: [{name: alertmanager, token_file: "+lab.Dir+"/alertmanager.token, role: monitor}]", 1)
	w.heal(t)
	ag := launchWith(t, w.host, config)
	ag.knows(tinyVMs...)

	must(t, w.consumers.Replace("/etc/hosts", "10.0.0.1 "+name+"\n"))
	must(t, w.consumers.WriteFile(lab.Dir+"/paramedic.crt", certificate, 0o600))
	must(t, w.consumers.WriteFile(lab.Dir+"/paramedic.token", stranger, 0o600))
	its := strings.ReplaceAll(shown(t, "webhook_configs"), "/etc/alertmanager/", lab.Dir+"/")
	if !strings.Contains(its, "https://"+name+":7480/") {
		t.Fatalf("docs/monitors.md names another host than %s:\n%s", name, its)
	}
	am := alertmanagerWith(t, its)
	labels := map[string]string{"alertname": "SwitchPortDown", "hostname": "cmp-1", "device": "uplink0", "severity": "critical"}
	fire(t, labels, false)
	eventually(t, "a stranger's token to be refused", func() bool { return strings.Contains(ag.Log(), `call="POST /v1/events"`) }, func() string { return am.Log() + ag.Log() })
	if log := ag.Log(); !strings.Contains(log, "status=401") || strings.Contains(log, strings.TrimSpace(stranger)) || len(ag.alarms()) != 0 {
		t.Errorf("%+v\n%s", ag.alarms(), log)
	}
	must(t, w.consumers.WriteFile(lab.Dir+"/paramedic.token", token, 0o600)) // it reads the file again for each request

	began := time.Now()
	fire(t, labels, false)
	n := c.hears(t, "raised", "switch.port")
	t.Logf("raised %v after a token that is known", n.Arrived.Sub(began))
	affects(t, n, vmA1, vmA2, vmB1)
	var it standing
	eventually(t, "the alarm to stand", func() bool {
		for _, x := range ag.alarms() {
			if x.Condition == "switch.port" {
				it = x
				return true
			}
		}
		return false
	}, func() string { return fmt.Sprintf("%+v", ag.alarms()) })
	if it.Resource != "nic/uplink0" || it.Severity != "critical" {
		t.Errorf("it stands as %+v", it)
	}
	if log := ag.Log(); !strings.Contains(log, `who=alertmanager role=monitor`) {
		t.Errorf("nobody is said to have handed it in:\n%s", log)
	}

	began = time.Now()
	fire(t, labels, true)
	over := c.hears(t, "cleared", "switch.port")
	t.Logf("cleared %v after the end was said", over.Arrived.Sub(began))
	if over.Data.Alarm.ID != n.Data.Alarm.ID || len(ag.alarms()) != 0 {
		t.Errorf("%s ends %s; %+v stand", over, n, ag.alarms())
	}
}
