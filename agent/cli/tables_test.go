package cli

import (
	"bytes"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"
)

// Each archive tells a story of one command: its comment is the command line, then come the agent's answers ("METHOD
// /path" and the body, an error's status in front), then the output at 80 columns. The agent is played over a real
// Unix socket, because the answers need times and ids that stay the same.
func TestTablesFitEightyColumns(t *testing.T) {
	eachTable(t, func(t *testing.T, file string, archive *txtar.Archive, answers map[string]string) {
		server := play(t, answers)
		args := append(strings.Fields(string(archive.Comment)), "--server", server)
		var stdout, stderr bytes.Buffer
		status := Main(args, Process{
			Stdout: &stdout, Stderr: &stderr, Version: "test", wide: 80,
			now: func() time.Time { return time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC) },
		})
		got := stdout.String() + stderr.String() + fmt.Sprintf("exit status %d\n", status)
		got = strings.ReplaceAll(got, server, "SERVER")
		last := &archive.Files[len(archive.Files)-1]
		if flag.Lookup("update").Value.String() == "true" {
			last.Data = []byte(got)
			if err := os.WriteFile(file, txtar.Format(archive), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if diff := cmp.Diff(string(last.Data), got); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		for line := range strings.Lines(stdout.String()) {
			if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > 80 && !strings.Contains(string(archive.Comment), "-o") {
				t.Errorf("%d columns: %s", n, line)
			}
		}
		if strings.ContainsAny(stdout.String(), "\x1b\u202e") {
			t.Errorf("control characters reach the terminal:\n%q", stdout.String())
		}
	})
}

// eachTable runs f on each archive; answers are all of it but the output.
func eachTable(t *testing.T, f func(t *testing.T, file string, archive *txtar.Archive, answers map[string]string)) {
	t.Helper()
	files, err := filepath.Glob("testdata/tables/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no cases: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			archive, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			answers := make(map[string]string)
			for _, part := range archive.Files[:len(archive.Files)-1] {
				answers[part.Name] = string(part.Data)
			}
			f(t, file, archive, answers)
		})
	}
}

// play serves answers on a Unix socket and returns its --server.
func play(t *testing.T, answers map[string]string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "api.sock")
	listener, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, ok := answers[r.Method+" "+r.URL.RequestURI()]
		if !ok {
			t.Errorf("the command asks for %s %s", r.Method, r.URL.RequestURI())
			w.WriteHeader(http.StatusTeapot)
			return
		}
		if status, rest, ok := strings.Cut(body, "\n"); ok && len(status) == 3 {
			w.Header().Set("Content-Type", "application/problem+json")
			code := 0
			if _, err := fmt.Sscan(status, &code); err != nil {
				t.Error(err)
			}
			w.WriteHeader(code)
			body = rest
		}
		_, _ = w.Write([]byte(body))
	})}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(listener)
	}()
	t.Cleanup(func() {
		_ = server.Close()
		<-done
	})
	return "unix://" + path
}
