package cli_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/paramedic-ha/paramedic/gossip/loopback"
)

// canaries are secrets that must be found nowhere; by what each is.
type canaries map[string]string

// forms are how one may stand in a text: also as a part of what was encoded.
func forms(secret string) []string {
	all := []string{secret, hex.EncodeToString([]byte(secret)), strings.ToUpper(hex.EncodeToString([]byte(secret))), url.QueryEscape(secret), url.PathEscape(secret)}
	for _, e := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
		for before := range 3 { // without the digits that are shared with what stands beside it
			text := e.EncodeToString([]byte(strings.Repeat("x", before) + secret))
			all = append(all, text[4:len(text)-2])
		}
	}
	return all
}

// found names the secrets that stand in a text.
func (c canaries) found(text string) []string {
	var names []string
	for name, secret := range c {
		for _, form := range forms(secret) {
			if strings.Contains(text, form) {
				names = append(names, fmt.Sprintf("%s as %s", name, form))
				break
			}
		}
	}
	slices.Sort(names)
	return names
}

// unpack reads an archive: its files in their order, and their texts.
func unpack(t *testing.T, file string) (names []string, texts map[string]string) {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	zip, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	texts = make(map[string]string)
	for archive := tar.NewReader(zip); ; {
		h, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return names, texts
		}
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(archive)
		if err != nil {
			t.Fatal(err)
		}
		_, name, _ := strings.Cut(h.Name, "/")
		names, texts[name] = append(names, name), string(data)
	}
}

// run runs the command as a process of its own, and returns what it prints.
func run(t *testing.T, env []string, args ...string) (stdout, stderr string, status int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	c := exec.CommandContext(ctx, "paramedic", args...)
	c.Env = append(os.Environ(), env...)
	var out, complaint bytes.Buffer
	c.Stdout, c.Stderr = &out, &complaint
	err := c.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return out.String(), complaint.String(), c.ProcessState.ExitCode()
}

// A real agent with a secret in every place where one can stand, whose consumers fail: neither its log nor a bundle has any.
func TestABundleHasNoSecretAndTheLogNeither(t *testing.T) {
	dir, err := os.MkdirTemp("", "bundle") // the test's own name would look like a secret
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	at := func(name string) string { return filepath.Join(dir, name) }
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(at(name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	key := func(seed string) string { // 32 bytes that are written as base64
		return base64.StdEncoding.EncodeToString([]byte(seed + "0123456789abcdefghijklmnopqrstuv")[:32])
	}
	known := canaries{ // what is read from files
		"gossip key": key("GossipKeyCanary"), "secrets key": key("SecretsKeyCanary"), "signing secret": key("SigningCanary"),
		"API token": "ApiTokenCanary.7f3kQ9-wWz2LmT5rXbN8vC1", "consumer's password": "BasicCanary/p4ss w0rd+&?", "bearer token": "BearerCanaryQ7x81mZ", "proxy password": "ProxyCanaryK3y9",
	}
	written := canaries{ // what is only written somewhere
		"path of a callback": "PathCanary9Xw2", "query of a callback": "QueryCanary5Tt8", "path of a callback over the API": "ApiPathCanary3Jd7", "environment": "EnvironmentCanary6Pq4",
		"command line": "CommandCanary2Rs9", "comment of the configuration": "CommentCanary1Uv3", "label": "LabelCanary8Wx5", "text of an event": "TextCanary4Yz6", "text of an event, a URL": "UrlCanary7Ab2",
		"user of a URL": "UserinfoCanary9Cd1", "password over the API": "SolCanary%22pa:ss8", "signing secret over the API": key("ApiSigningCanary"),
	}
	planted := canaries{ // and in a log, by whoever
		"assigned": "AssignedCanary3Ef5", "in JSON": "JsonCanary6Gh8", "a flag": "FlagCanary2Ij4", "authorization": "HeaderCanary9Kl7", "a PEM block": "PemCanary1Mn3",
		"signing secret of somebody": "SomebodyCanary5Op8Qr2St4", "random": "Rand0mCanary8Uv6Wx2Yz4Ab9Cd1Ef5Gh7Ij",
	}
	write("gossip.key", known["gossip key"]+"\n")
	write("secrets.key", "sealkey_"+known["secrets key"]+"\n")
	write("file.secret", "whsec_"+known["signing secret"]+"\n")
	write("api.secret", "whsec_"+written["signing secret over the API"]+"\n")
	write("ops.token", known["API token"]+"\n")
	write("basic.password", known["consumer's password"]+"\n")
	write("bearer.token", known["bearer token"]+"\n")
	write("proxy.password", known["proxy password"]+"\n")
	write("api.password", written["password over the API"]+"\n")
	free := func() string { return loopback.Address(t) }
	write("paramedic.yaml", fmt.Sprintf(`# nobody may see %[1]s
node: {name: cmp-1, labels: {api_token: %[2]s, az: nova-1}}
cluster: {bind: %[3]q, watch: %[4]q, key_file: gossip.key, secrets_key_file: secrets.key}
api:
  socket: %[5]s
  listen: %[6]q
  tokens: [{name: ops, token_file: ops.token, role: admin}]
hw: {nic: {disabled: true}, virt: {disabled: true}}
notify:
  dir: %[7]s
  allow_callbacks: [127.0.0.0/8]
  proxy: {url: "http://%[8]s", user: proxy-user, password_file: proxy.password}
  subscriptions:
    - name: by-file
      endpoints: ["http://%[8]s/hook/%[9]s?key=%[10]s"]
      secret_file: file.secret
      proxy: direct
      auth: {basic: {user: file-user, password_file: basic.password}}
    - name: by-proxy
      endpoints: ["http://%[8]s/%[9]s"]
      auth: {bearer: {token_file: bearer.token}}
`, written["comment of the configuration"], written["label"], free(), free(), at("api.sock"), free(), at("state"), free(), written["path of a callback"], written["query of a callback"]))

	logged, err := os.Create(at("log"))
	if err != nil {
		t.Fatal(err)
	}
	defer logged.Close()
	server := "unix://" + at("api.sock")
	env := []string{"CANARY_PASSWORD=" + written["environment"], "PARAMEDIC_SERVER=" + server}
	agent := exec.Command("paramedic", "run", "--config", at("paramedic.yaml"), "--server", "unix:///none?token="+written["command line"])
	agent.Env, agent.Stderr = append(os.Environ(), env...), logged
	if err := agent.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- agent.Wait() }()
	defer func() {
		_ = agent.Process.Signal(os.Interrupt)
		<-ended
	}()
	read := func() string {
		data, err := os.ReadFile(at("log"))
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	eventually(t, func() (bool, string) { return strings.Contains(read(), "msg=started"), read() })

	must := func(args ...string) string {
		t.Helper()
		stdout, stderr, status := run(t, env, args...)
		if status != 0 {
			t.Fatalf("paramedic %q ends with %d: %s", args, status, stderr)
		}
		return stdout
	}
	must("subscribe", "http://"+free()+"/"+written["path of a callback over the API"], "--no-verify", "--name", "by-api", "--secret-file", at("api.secret"),
		"--user", "api-user", "--password-file", at("api.password"))
	if _, stderr, status := run(t, env, "subscribe", "http://u:"+written["user of a URL"]+"@127.0.0.1:9/", "--no-verify", "--name", "refused"); status != 1 {
		t.Errorf("a URL with a password is not refused: %d %s", status, stderr)
	}
	eventually(t, func() (bool, string) { // an agent that is starting refuses what is emitted
		out := must("status")
		return !strings.Contains(out, "is starting"), out
	})
	must("emit", "lab.fault", "--severity", "critical", "--text", "told by https://u:"+written["user of a URL"]+"@example.org/x?sig="+written["text of an event, a URL"]+" password="+written["text of an event"])
	eventually(t, func() (bool, string) {
		out := must("deliveries")
		return strings.Contains(out, "by-file") && strings.Contains(out, "by-api") && strings.Contains(out, "by-proxy"), out
	})
	eventually(t, func() (bool, string) {
		return strings.Contains(read(), "a delivery failed") || strings.Contains(read(), "can't be connected to"), read()
	})

	// What the agent itself writes.
	all := canaries{}
	for _, c := range []canaries{known, written} {
		for name, secret := range c {
			all[name] = secret
		}
	}
	if found := all.found(read()); len(found) > 0 {
		t.Errorf("the log has secrets: %q\n%s", found, read())
	}

	// What others have written into its log.
	basic := base64.StdEncoding.EncodeToString([]byte("u:" + planted["authorization"]))
	stray := "db_password=" + planted["assigned"] + "\n" +
		`{"msg":"x","client_secret":"` + planted["in JSON"] + `","n":1}` + "\n" +
		"sh -c curl --api-token " + planted["a flag"] + " x\n" +
		"GET / HTTP/1.1 Authorization: Basic " + basic + "\n" +
		"-----BEGIN PRIVATE KEY-----\n" + planted["a PEM block"] + "\n-----END PRIVATE KEY-----\n" +
		"whsec_" + planted["signing secret of somebody"] + " and " + planted["random"] + "\n"
	for name, secret := range known { // in every form
		stray += name + " " + secret + " " + url.QueryEscape(secret) + " " + hex.EncodeToString([]byte(secret))
		for before := range 3 {
			text := []byte("<<<"[:before] + secret + ">>")
			stray += " " + base64.StdEncoding.EncodeToString(text) + " " + base64.URLEncoding.EncodeToString(text)
		}
		stray += "\n"
	}
	if _, err := logged.WriteString(stray); err != nil {
		t.Fatal(err)
	}
	for name, secret := range planted {
		all[name] = secret
	}
	if found := all.found(read()); len(found) != len(known)+len(planted) {
		t.Fatalf("this test is blind: of what was planted it finds only %q", found)
	}

	stdout := must("-o", "json", "bundle", "--config", at("paramedic.yaml"), "--log", at("log"), "--file", at("b.tar.gz"))
	var said struct {
		File  string
		Bytes int64
		Parts []struct{ Name, Missing string }
	}
	if err := json.Unmarshal([]byte(stdout), &said); err != nil || said.File != at("b.tar.gz") || said.Bytes == 0 {
		t.Errorf("it says %v: %s", err, stdout)
	}
	info, err := os.Stat(at("b.tar.gz"))
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o600 || info.Size() != said.Bytes {
		t.Errorf("the archive has mode %v and %d bytes, said were %d", info.Mode().Perm(), info.Size(), said.Bytes)
	}
	names, texts := unpack(t, at("b.tar.gz"))
	for name, text := range texts {
		if found := all.found(text); len(found) > 0 {
			t.Errorf("%s has secrets: %q\n%s", name, found, text)
		}
		for _, user := range []string{"file-user", "api-user", "proxy-user"} {
			if strings.Contains(text, user) {
				t.Errorf("%s has the user of a password, %s", name, user)
			}
		}
	}
	if found := all.found(stdout); len(found) > 0 {
		t.Errorf("what is printed has secrets: %q", found)
	}
	// It tells what happened all the same.
	for name, words := range map[string][]string{
		"MANIFEST":                 {"agent/status.json", "What is not here", "unit.txt"},
		"overview.txt":             {"by-file", "by-api", "lab.fault"},
		"agent/deliveries.json":    {"by-file", "refused"},
		"agent/alarms.json":        {"lab.fault", "password=(removed)", "https://(removed)@example.org/(removed)"},
		"agent/alarm-lives.json":   {"lab.fault", `"what": "raised"`},
		"agent/subscriptions.json": {"/(removed)", `"fingerprint"`},
		"agent/keys.json":          {`"in_use": true`},
		"agent/metrics.txt":        {"paramedic_alarms"},
		"config.yaml":              {"it is good", "az: nova-1", "ops.token (-rw-------", "user: (removed)", "name: by-file"},
		"log.txt":                  {"msg=started", "(removed)"},
		"process.txt":              {fmt.Sprint("pid ", agent.Process.Pid), "CapEff"},
		"host.txt":                 {"MemTotal"},
		"state.txt":                {"paramedic.db"},
	} {
		for _, word := range words {
			if !strings.Contains(texts[name], word) {
				t.Errorf("%s does not say %q:\n%s", name, word, texts[name])
			}
		}
	}

	// Again: the same parts in the same order, and never over another file.
	_, stderr, status := run(t, env, "bundle", "--config", at("paramedic.yaml"), "--log", at("log"), "--file", at("b.tar.gz"))
	if status != 1 || !strings.Contains(stderr, "is there already and is not overwritten") {
		t.Errorf("a file is overwritten: %d %s", status, stderr)
	}
	must("bundle", "--config", at("paramedic.yaml"), "--log", at("log"), "--file", at("c.tar.gz"))
	if again, _ := unpack(t, at("c.tar.gz")); !slices.Equal(names, again) {
		t.Errorf("the order is another one: %q, %q", names, again)
	}
	if left, _ := filepath.Glob(at(".paramedic-bundle-*")); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}

// A configuration in which people have written secrets where none belong, and an agent that is down.
func TestABundleOfABrokenConfigurationHasNoSecret(t *testing.T) {
	dir := t.TempDir()
	secrets := canaries{
		"as a name of a file": "whsec_" + base64.StdEncoding.EncodeToString([]byte("PastedCanary7Xy2Zw4 and more")), "as a plain name": "PlainNameCanary3Qq8", "under a key that there is not": "UnknownKeyCanary5Rr1",
		"in a URL": "UrlCanary9Ss4", "below a key that there is not": "BelowCanary2Tt6", "in place of a number": "NumberCanary8Uu3", "as a key": "KeyCanary1Vv7",
	}
	text := fmt.Sprintf(`notify:
  password: %[3]s
  extra: {deep: [%[5]s]}
  %[7]s: x
  retry: {max_age: %[6]s}
  subscriptions:
    - {name: a, endpoints: ["http://u:%[4]s@h/"], secret_file: %[1]q}
    - {name: b, endpoints: ["http://h/"], secret_file: %[2]s}
`, secrets["as a name of a file"], secrets["as a plain name"], secrets["under a key that there is not"], secrets["in a URL"], secrets["below a key that there is not"],
		secrets["in place of a number"], secrets["as a key"])
	file := filepath.Join(dir, "paramedic.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if found := secrets.found(text); len(found) != len(secrets) {
		t.Fatalf("this test is blind: it finds only %q", found)
	}
	stdout, stderr, status := run(t, []string{"PARAMEDIC_SERVER=unix://" + dir + "/none.sock"}, "bundle", "--config", file, "--file", filepath.Join(dir, "b.tar.gz"), "--log", filepath.Join(dir, "none"))
	if status != 0 {
		t.Fatalf("with the agent down it ends with %d: %s", status, stderr)
	}
	_, texts := unpack(t, filepath.Join(dir, "b.tar.gz"))
	for name, text := range texts {
		if found := secrets.found(text); len(found) > 0 {
			t.Errorf("%s has secrets: %q\n%s", name, found, text)
		}
	}
	if found := secrets.found(stdout + stderr); len(found) > 0 {
		t.Errorf("what is printed has secrets: %q", found)
	}
	for name, words := range map[string][]string{
		"MANIFEST":    {"agent/status.json", "can't be reached", "as above", "log.txt", "BEWARE: this user can't read 2 of the secret files"},
		"config.yaml": {"it has problems, read as this user: ", "line 2, column", "(an unknown key in line 2): (removed)", "no such file"},
	} {
		for _, word := range words {
			if !strings.Contains(texts[name], word) {
				t.Errorf("%s does not say %q:\n%s", name, word, texts[name])
			}
		}
	}
}

// eventually polls: a process of its own offers nothing to wait for.
func eventually(t *testing.T, done func() (bool, string)) {
	t.Helper()
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	for {
		ok, is := done()
		if ok {
			return
		}
		select {
		case <-ticker.C:
		case <-deadline.C:
			t.Fatalf("gave up waiting; it is:\n%s", is)
		}
	}
}
