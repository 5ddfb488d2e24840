package notify

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/paramedic-ha/paramedic/correlate"
	"github.com/paramedic-ha/paramedic/notify/format"
)

const receivers = "../docs/receivers/"

// TestTheReceiversOfTheManualAreWhatItShows: the page has the files word for word, and each works with a real Notifier.
func TestTheReceiversOfTheManualAreWhatItShows(t *testing.T) {
	doc, err := os.ReadFile(consumersDoc)
	if err != nil {
		t.Fatal(err)
	}
	text := string(doc)
	for name, language := range map[string]string{"receiver.go": "go", "receiver.py": "python"} {
		code, err := os.ReadFile(receivers + name)
		if err != nil {
			t.Fatal(err)
		}
		before, rest, found := strings.Cut(text, "<!-- file: receivers/"+name+" -->\n```"+language+"\n")
		shown, after, ended := strings.Cut(rest, "```\n")
		switch {
		case !found || !ended:
			t.Errorf("%s is not shown", name)
		case *rewriteManual:
			text = strings.TrimSuffix(before, "") + "<!-- file: receivers/" + name + " -->\n```" + language + "\n" + string(code) + "```\n" + after
		case shown != string(code):
			t.Errorf("the manual shows another %s (-rewrite writes it anew)", name)
		}
	}
	if *rewriteManual {
		if err := os.WriteFile(consumersDoc, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func TestTheReceiversOfTheManualWork(t *testing.T) {
	t.Run("go", func(t *testing.T) {
		t.Parallel()
		program := filepath.Join(t.TempDir(), "receiver")
		if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", program, receivers+"receiver.go").CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		works(t, program)
	})
	t.Run("python", func(t *testing.T) {
		t.Parallel()
		works(t, "python3", receivers+"receiver.py")
	})
}

// program is a receiver that runs; lines are what it has handled.
type program struct {
	url   string
	lines chan string
}

func runProgram(t *testing.T, secret string, command ...string) *program {
	t.Helper()
	file := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(file, []byte(secret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, command[0], append(command[1:], "127.0.0.1:0", file)...)
	var errors bytes.Buffer
	cmd.Stderr = &errors
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	p := &program{lines: make(chan string, 100)}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			p.lines <- lines.Text()
		}
	}()
	t.Cleanup(func() {
		cancel()
		<-ended
		_ = cmd.Wait() // killed
		if t.Failed() {
			t.Log(errors.String())
		}
	})
	_, addr, ok := strings.Cut(p.next(t), "listening on ")
	if !ok {
		t.Fatal("it does not listen")
	}
	p.url = "http://" + addr + "/failure"
	return p
}

func (p *program) next(t *testing.T) string {
	t.Helper()
	select {
	case line := <-p.lines:
		return line
	case <-time.After(10 * time.Second):
		t.Fatal("it says nothing")
		return ""
	}
}

// works holds a receiver to what the manual says of it.
func works(t *testing.T, command ...string) {
	text := GenerateSecret()
	secret, err := ParseSecret(text)
	if err != nil {
		t.Fatal(err)
	}
	p := runProgram(t, text, command...)
	cfg, _ := testConfig(t, t.TempDir())
	n, _ := start(t, cfg)
	sub := fileSub("vnfm", p.url)
	sub.Secret = secret
	made, _, err := n.Subscribe(t.Context(), sub, true)
	if err != nil || !made.Verified {
		t.Fatalf("it does not prove that it wants this: %v", err)
	}
	last := ""
	for i, state := range []correlate.Transition{correlate.Raised, correlate.Changed, correlate.Cleared} {
		n.Publish(effects(alarm("5a1e", uint64(9+i), state, "p1", "p2")))
		last = p.next(t)
		if want := fmt.Sprintf("%s 5a1e 2.%d ", state, 9+i); !strings.HasPrefix(last, want) || strings.Count(last, "domain/") != 2 {
			t.Fatalf("it says %q, want %q and two machines", last, want)
		}
	}
	settledAll(t, n)
	if _, err := n.Test(t.Context(), made.ID); err != nil {
		t.Errorf("a test: %v", err)
	}

	other, _ := ParseSecret(GenerateSecret())
	rotating := Secret{keys: append(other.keys, secret.keys...)}
	now := time.Now()
	say := func(a *correlate.Alarm) []byte {
		body, err := format.Native(format.Fault{ID: "1", Label: "prod", Alarm: a, Affected: a.Affected})
		if err != nil {
			t.Fatal(err)
		}
		return body
	}
	again, next := say(alarm("5a1e", 9, correlate.Raised, "p1")), say(alarm("5a1f", 10, correlate.Raised, "p1"))
	for _, c := range []struct {
		what string
		body []byte
		by   Secret
		at   time.Time
		bent func(http.Header)
		want int
	}{
		{what: "what came before, and is older than what is known", body: again, by: secret, at: now, want: http.StatusNoContent},
		{what: "another's secret", body: next, by: other, at: now, want: http.StatusUnauthorized},
		{what: "no secret", body: next, at: now, want: http.StatusUnauthorized},
		{what: "old", body: next, by: secret, at: now.Add(-time.Hour), want: http.StatusUnauthorized},
		{what: "of the future", body: next, by: secret, at: now.Add(time.Hour), want: http.StatusUnauthorized},
		{what: "no headers", body: next, by: secret, at: now, bent: func(h http.Header) { clear(h) }, want: http.StatusUnauthorized},
		{what: "another id", body: next, by: secret, at: now, bent: func(h http.Header) { h.Set(HeaderID, "2") }, want: http.StatusUnauthorized},
		{what: "no number for a time", body: next, by: secret, at: now, bent: func(h http.Header) { h.Set(HeaderTimestamp, "x") }, want: http.StatusUnauthorized},
		{what: "no text for a signature", body: next, by: secret, at: now, bent: func(h http.Header) { h.Set(HeaderSignature, "v1,\xff\xfe") }, want: http.StatusUnauthorized},
		{what: "signed by the secret of before, too", body: next, by: rotating, at: now, want: http.StatusNoContent},
		{what: "the same once more", body: next, by: secret, at: now, want: http.StatusNoContent},
	} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, p.url, bytes.NewReader(c.body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set(HeaderID, "1")
		req.Header.Set(HeaderTimestamp, strconv.FormatInt(c.at.Unix(), 10))
		req.Header.Set(HeaderSignature, Sign("1", c.at, c.body, c.by))
		if c.bent != nil {
			c.bent(req.Header)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatalf("%s: %v", c.what, err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != c.want {
			t.Errorf("%s: answered %d, want %d", c.what, resp.StatusCode, c.want)
		}
	}
	n.Publish(effects(alarm("end", 20, correlate.Raised, "p1")))
	if got := []string{p.next(t), p.next(t)}; !strings.HasPrefix(got[0], "raised 5a1f 2.10 ") || !strings.HasPrefix(got[1], "raised end 2.20 ") {
		t.Errorf("it handled %q after %q", got, cmp.Or(last, "nothing"))
	}
}
