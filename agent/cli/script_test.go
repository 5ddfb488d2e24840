package cli_test

import (
	"bytes"
	"cmp"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"flag"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/paramedic-ha/paramedic/agent"
	"github.com/paramedic-ha/paramedic/agent/cli"
	"github.com/paramedic-ha/paramedic/gossip/loopback"
	"github.com/paramedic-ha/paramedic/notify"
)

var update = flag.Bool("update", false, "write the golden files anew")

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"paramedic": func() {
			os.Exit(cli.Main(os.Args[1:], cli.Process{
				Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, Version: "v0.0.0-test",
				NewAgent: func(o cli.AgentOptions) (cli.Agent, error) {
					return agent.New(agent.Options{Config: o.Config, Version: o.Version, Log: o.Log, Beat: o.Beat, BeatGap: o.BeatGap})
				},
			}))
		},
	})
}

// The command line as a user types it, with the real agent where one is needed.
func TestCommandLine(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		UpdateScripts:       *update,
		RequireExplicitExec: true,
		Setup: func(env *testscript.Env) error {
			env.Setenv("NO_COLOR", "1")
			env.Setenv("PARAMEDIC_SERVER", "unix://"+env.WorkDir+"/api.sock")
			env.Setenv("CREDENTIALS_DIRECTORY", "")
			env.Setenv("GORACE", "atexit_sleep_ms=0") // else each command of a binary with the race detector takes a second to end
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"waitfor": waitFor,
			"freeport": func(ts *testscript.TestScript, _ bool, args []string) { // NAME: sets $NAME to 127.0.0.1:port
				ts.Setenv(args[0], loopback.Address(t))
			},
			"issue":  issue,
			"post":   post,
			"status": status,
			"expand": expand,
			"until":  untilPrinted,
			"readme": readme,
			"manual": manual,
			"shows":  shows,
		},
	})
}

const patience = time.Minute

// until polls a condition, ever less often: a process in the background offers nothing to wait for, and each look is in the log.
func until(ts *testscript.TestScript, what string, done func() bool) {
	deadline := time.Now().Add(patience)
	for wait := 10 * time.Millisecond; !done(); wait = min(wait*3/2, 500*time.Millisecond) {
		if time.Now().After(deadline) {
			logs, err := filepath.Glob(ts.MkAbs("*.log"))
			ts.Check(err)
			for _, log := range logs {
				ts.Logf("%s:\n%s", filepath.Base(log), ts.ReadFile(log))
			}
			ts.Fatalf("gave up waiting for %s", what)
		}
		<-time.After(wait)
	}
}

// waitfor FILE: until a socket or file is there.
func waitFor(ts *testscript.TestScript, _ bool, args []string) {
	until(ts, args[0], func() bool {
		_, err := os.Stat(ts.MkAbs(args[0]))
		return err == nil
	})
}

// issue CA NAME: writes NAME.crt and NAME.key, a certificate of 127.0.0.1 and of the DNS name NAME, issued by CA.crt and CA.key,
// which are made when they are not there.
func issue(ts *testscript.TestScript, _ bool, args []string) {
	write := func(name, kind string, der []byte) {
		ts.Check(os.WriteFile(ts.MkAbs(name), pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600))
	}
	newCert := func(name string, c, parent *x509.Certificate, by *ecdsa.PrivateKey) {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		ts.Check(err)
		if by == nil {
			by = key
		}
		c.SerialNumber, c.Subject = big.NewInt(time.Now().UnixNano()), pkix.Name{CommonName: name}
		c.NotBefore, c.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(24*time.Hour)
		der, err := x509.CreateCertificate(rand.Reader, c, parent, &key.PublicKey, by)
		ts.Check(err)
		keyDER, err := x509.MarshalECPrivateKey(key)
		ts.Check(err)
		write(name+".crt", "CERTIFICATE", der)
		write(name+".key", "EC PRIVATE KEY", keyDER)
	}
	if _, err := os.Stat(ts.MkAbs(args[0] + ".crt")); err != nil {
		ca := &x509.Certificate{IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
		newCert(args[0], ca, ca, nil)
	}
	pair, err := tls.LoadX509KeyPair(ts.MkAbs(args[0]+".crt"), ts.MkAbs(args[0]+".key"))
	ts.Check(err)
	newCert(args[1], &x509.Certificate{
		DNSNames: []string{args[1]}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}, pair.Leaf, pair.PrivateKey.(*ecdsa.PrivateKey))
}

// post URL FILE [SECRETFILE]: sends a notification, signed when a secret is given; prints status and body.
func post(ts *testscript.TestScript, _ bool, args []string) {
	body := ts.ReadFile(args[1])
	request, err := http.NewRequest(http.MethodPost, args[0], nil)
	ts.Check(err)
	if len(args) > 2 {
		secret, err := notify.ParseSecret(ts.ReadFile(args[2]))
		ts.Check(err)
		now := time.Now()
		request.Header.Set(notify.HeaderID, "id-1")
		request.Header.Set(notify.HeaderTimestamp, strconv.FormatInt(now.Unix(), 10))
		request.Header.Set(notify.HeaderSignature, notify.Sign("id-1", now, []byte(body), secret))
	}
	until(ts, args[0], func() bool {
		request.Body = io.NopCloser(strings.NewReader(body))
		response, err := http.DefaultClient.Do(request)
		var refused *net.OpError
		if errors.As(err, &refused) && refused.Op == "dial" {
			return false
		}
		ts.Check(err)
		defer response.Body.Close()
		answer, err := io.ReadAll(response.Body)
		ts.Check(err)
		_, err = ts.Stdout().Write([]byte(response.Status + "\n" + string(bytes.TrimSpace(answer)) + "\n"))
		ts.Check(err)
		return true
	})
}

// status CODE COMMAND…: the command must end with exactly this exit status.
func status(ts *testscript.TestScript, _ bool, args []string) {
	err := ts.Exec(args[1], args[2:]...)
	got := "0"
	var exit interface{ ExitCode() int }
	switch {
	case errors.As(err, &exit):
		got = strconv.Itoa(exit.ExitCode())
	case err != nil:
		ts.Fatalf("%v", err)
	}
	if got != args[0] {
		ts.Fatalf("exit status %s, want %s", got, args[0])
	}
}

// readme FILE: writes the README's first try as a script, with bin/paramedic beside it; the consumer listens at $AT.
func readme(ts *testscript.TestScript, _ bool, args []string) {
	text, err := os.ReadFile("../../README.md")
	ts.Check(err)
	_, section, _ := strings.Cut(string(text), "\n## A first try on one host\n")
	section, _, _ = strings.Cut(section, "\n## ")
	var script strings.Builder
	script.WriteString("trap 'kill $(cat pids); wait' EXIT\n") // a shell without a terminal has no %1
	for line := range strings.Lines(section) {
		if command, ok := strings.CutPrefix(line, "    "); ok {
			command = strings.ReplaceAll(command, "127.0.0.1:9900", ts.Getenv("AT"))
			script.WriteString(strings.ReplaceAll(command, " &\n", " & echo $! >> pids\n"))
		}
	}
	if !strings.Contains(script.String(), "bin/paramedic run") {
		ts.Fatalf("the README's first try is not where it was:\n%s", section)
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(script.String()), 0o600))
	ts.Check(os.Mkdir(ts.MkAbs("bin"), 0o700))
	for dir := range strings.SplitSeq(ts.Getenv("PATH"), string(os.PathListSeparator)) {
		program := filepath.Join(dir, "paramedic")
		if _, err := os.Stat(program); err == nil {
			ts.Check(os.Symlink(program, ts.MkAbs("bin/paramedic")))
			return
		}
	}
	ts.Fatalf("no paramedic in PATH")
}

// manual FILE HEADING KIND OUT [OLD=NEW]…: writes what stands in a section of docs/FILE, with OLD replaced by NEW in which
// variables are expanded. KIND is sh for all commands, those indented and those in fences, or the language of a fence. A
// section ends with the next heading of its level.
func manual(ts *testscript.TestScript, _ bool, args []string) {
	ts.Check(os.WriteFile(ts.MkAbs(args[3]), []byte(section(ts, args[0], args[1], args[2], args[4:])), 0o600))
}

// section is what blocks of a kind in a section of the manual hold.
func section(ts *testscript.TestScript, file, heading, kind string, replace []string) string {
	text, err := os.ReadFile(filepath.Join("../../docs", file))
	ts.Check(err)
	_, section, found := strings.Cut(string(text), "\n## "+heading+"\n")
	if !found {
		ts.Fatalf("docs/%s has no section %q", file, heading)
	}
	section, _, _ = strings.Cut(section, "\n## ")
	var out strings.Builder
	fence := ""
	for line := range strings.Lines(section) {
		language, edge := strings.CutPrefix(line, "```")
		command, indented := strings.CutPrefix(line, "    ")
		switch {
		case edge && fence != "":
			fence = ""
		case edge:
			fence = cmp.Or(strings.TrimSpace(language), "output")
		case fence == kind:
			out.WriteString(line)
		case fence == "" && indented && kind == "sh":
			out.WriteString(command)
		}
	}
	contents := out.String()
	for _, pair := range replace {
		before, after, _ := strings.Cut(pair, "=")
		if !strings.Contains(contents, before) {
			ts.Fatalf("there is no %q in the section %q of docs/%s:\n%s", before, heading, file, contents)
		}
		contents = strings.ReplaceAll(contents, before, os.Expand(after, func(name string) string {
			if value := ts.Getenv(name); value != "" {
				return value
			}
			return "$" + name
		}))
	}
	if contents == "" {
		ts.Fatalf("the section %q of docs/%s holds no %s", heading, file, kind)
	}
	return contents
}

// What differs from run to run in what a command prints: ids, times, durations and numbers.
var varying = []struct{ pattern, name string }{
	{`\d{4}-\d\d-\d\d`, "DATE"},
	{`(\d\d-\d\d )?\d\d:\d\d(:\d\d(\.\d+)?)?`, "TIME"},
	{`\b[0-9a-f]{8}[0-9a-f-]*\b`, "ID"},
	{`\d+(\.\d+)? ?(ms|s|m|h)\b`, "DURATION"},
	{`\d+\.\d+`, "NUMBER"},
}

// shows FILE HEADING [OLD=NEW]…: each line that a section of docs/FILE shows as output is one that the last command printed, in this
// order, but for ids, times and the like.
func shows(ts *testscript.TestScript, _ bool, args []string) {
	same := func(line string) string {
		for _, v := range varying {
			line = regexp.MustCompile(v.pattern).ReplaceAllString(line, v.name)
		}
		words := strings.Fields(line)
		for i, word := range words {
			if _, err := strconv.Atoi(word); err == nil {
				words[i] = "N"
			}
		}
		return strings.Join(words, " ")
	}
	printed := ts.ReadFile("stdout")
	rest := strings.Split(printed, "\n")
	for line := range strings.Lines(section(ts, args[0], args[1], "output", args[2:])) {
		at := slices.IndexFunc(rest, func(p string) bool { return same(p) == same(line) })
		if at < 0 {
			ts.Fatalf("docs/%s shows under %q\n\t%swhich is not what is printed (or not there):\n%s", args[0], args[1], line, printed)
		}
		rest = rest[at+1:]
	}
}

// until REGEXP COMMAND…: again and again, until the command is good and prints what matches; after ! until it fails and says it.
func untilPrinted(ts *testscript.TestScript, fails bool, args []string) {
	want, err := regexp.Compile("(?m)" + args[0])
	ts.Check(err)
	printed := "stdout"
	if fails {
		printed = "stderr"
	}
	until(ts, args[0], func() bool {
		return (ts.Exec(args[1], args[2:]...) != nil) == fails && want.MatchString(ts.ReadFile(printed))
	})
}

// expand FILE: replaces $WORK and the like in it.
func expand(ts *testscript.TestScript, _ bool, args []string) {
	text := os.Expand(ts.ReadFile(args[0]), ts.Getenv)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(text), 0o600))
}
