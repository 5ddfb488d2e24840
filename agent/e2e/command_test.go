package e2e

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/paramedic-ha/paramedic/agent/e2e/lab"
)

// secretOf is a signing secret as a configuration or request holds it.
func secretOf(name string) string {
	return "whsec_" + base64.StdEncoding.EncodeToString([]byte(strings.Repeat(name+"-key-", 8)[:32]))
}

func TestReloadIsAllOrNothing(t *testing.T) {
	a := consume(t, "a", projectA)
	ag := start(t, a)
	fault := func() {
		t.Helper()
		a.Forget()
		must(t, w.uplink0.Pull())
		a.hears(t, "raised", "carrier")
		must(t, w.uplink0.Plug())
		a.hears(t, "cleared", "carrier")
	}

	good := configuration(t, "", a)
	must(t, ag.Configure(strings.Replace(good, "notify:", "notfiy:", 1)))
	must(t, ag.Hangup())
	ag.logged(t, "notfiy")
	fault() // as before

	b := consume(t, "b", projectB)
	must(t, ag.Configure(configuration(t, "", a, b)))
	must(t, ag.Hangup())
	eventually(t, "the second subscription", func() bool {
		out, err := ag.Get("/v1/subscriptions")
		return err == nil && strings.Contains(string(out), `"b"`)
	}, ag.Log)
	fault()
	affects(t, b.hears(t, "raised", "carrier"), vmB1)
	b.hears(t, "cleared", "carrier")

	must(t, ag.Configure(good))
	must(t, ag.Hangup())
	eventually(t, "the second subscription to end", func() bool {
		out, err := ag.Get("/v1/subscriptions")
		return err == nil && !strings.Contains(string(out), `"b"`)
	}, ag.Log)
	b.Forget()
	fault()
	b.heard(t, 0)
}

func TestCheckConfigSaysEverythingThatIsWrong(t *testing.T) {
	file := lab.Dir + "/wrong.yaml"
	must(t, w.host.WriteFile(file, `node: {nam: x}
hw:
  virt: {timeout: soon}
notify:
  subscriptions:
  - {name: a, endpoints: ["http://10.0.0.2/"], secret_file: /nowhere/secret}
  - {name: a, endpoints: "ftp://x"}
`, 0o600))
	out, err := w.host.Run(w.bin, "check-config", file)
	if err == nil || !strings.Contains(err.Error(), "exit status 1") {
		t.Errorf("want exit status 1, got %v", err)
	}
	for _, want := range []string{`wrong\.yaml:1:\d+`, `wrong\.yaml:3:\d+`, `wrong\.yaml:6:\d+`, `wrong\.yaml:7:\d+`, `nam\b`, `soon`, `secret file named here`} {
		if !regexp.MustCompile(want).MatchString(out) {
			t.Errorf("nothing matches %s in:\n%s", want, out)
		}
	}
	if strings.Contains(out, "/nowhere/secret") { // it may be the secret itself
		t.Errorf("what stands for a secret's file is repeated:\n%s", out)
	}
	must(t, w.host.WriteFile(file, configuration(t, ""), 0o600))
	if out, err := w.host.Run(w.bin, "check-config", file); err != nil {
		t.Errorf("a good file: %v\n%s", err, out)
	}
	must(t, w.host.WriteFile(file, "node: {name: x}\n---\nnode: {name: y}\n", 0o600))
	if out, err := w.host.Run(w.bin, "check-config", file); err == nil {
		t.Errorf("a second document passes:\n%s", out)
	}
	if out, err := w.host.Run(w.bin, "run", "--config", "/nowhere.yaml"); err == nil || !strings.Contains(out, "/nowhere.yaml") {
		t.Errorf("run without its file: %v\n%s", err, out)
	}
}

// What an operator types while a fault stands and after it.
func TestTheCommandsTellWhatGoesOn(t *testing.T) {
	a := consume(t, "a", projectA)
	ag := start(t, a)
	must(t, w.uplink0.Pull())
	raised := a.hears(t, "raised", "carrier")
	ag.settled(t)
	for command, want := range map[string]string{
		"status":               "cmp-1",
		"alarms":               "carrier",
		"alarms -o json":       raised.Data.Alarm.ID,
		"events":               "uplink0",
		"topology":             "uplink0",
		"topology nic/uplink0": vmA1.Name,
		"subscriptions":        "a",
		"deliveries":           "",
		"profile":              "T08",
		"test a":               "",
	} {
		out, err := ag.Command(strings.Fields(command)...)
		if err != nil || !strings.Contains(out, want) {
			t.Errorf("paramedic %s lacks %q (%v):\n%s", command, want, err, out)
		}
	}
	if _, err := a.Wait(patience, func(n lab.Notification) bool { return n.Type == "paramedic.test" }); err != nil {
		t.Errorf("paramedic test: %v", err)
	}
	if _, err := ag.Command("ack", raised.Data.Alarm.ID); err != nil {
		t.Errorf("paramedic ack: %v", err)
	}
	if out, err := ag.Command("alarms", "-o", "json"); err != nil || !json.Valid([]byte(out)) || !strings.Contains(out, `"by"`) {
		t.Errorf("the acknowledgement does not show (%v):\n%s", err, out)
	}
	for _, args := range [][]string{{"version"}, {"keygen"}} {
		if out, err := w.host.Run(w.bin, args...); err != nil || strings.TrimSpace(out) == "" {
			t.Errorf("paramedic %s: %v: %q", args[0], err, out)
		}
	}
	metrics, err := ag.Get("/metrics")
	must(t, err)
	if !strings.Contains(string(metrics), "paramedic_") {
		t.Errorf("no metric of ours:\n%s", metrics)
	}
	for _, path := range []string{"/healthz", "/readyz", "/v1/openapi.yaml"} {
		if _, err := ag.Get(path); err != nil {
			t.Error(err)
		}
	}
}

func TestWatchStreamsAlarms(t *testing.T) {
	ag := start(t)
	var out lab.Buffer
	watch, err := w.host.StartWith(nil, &out, w.bin, "watch", "-o", "json", "--server", "unix://"+lab.Socket)
	must(t, err)
	t.Cleanup(func() { _ = watch.Kill() })
	// The stream begins when it begins: faults until one is seen.
	pulled := false
	eventually(t, "the watch to show a fault", func() bool {
		pulled = !pulled
		if pulled {
			must(t, w.uplink0.Pull())
		} else {
			must(t, w.uplink0.Plug())
		}
		return strings.Contains(out.String(), `"carrier"`)
	}, func() string { return fmt.Sprintf("%q\n%s", out.String(), ag.Log()) })
}
