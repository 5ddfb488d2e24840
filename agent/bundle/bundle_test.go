package bundle

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// down is an agent that is not there.
type down struct{}

var errDown = errors.New("the agent can't be reached")

func (down) Get(context.Context, string, url.Values, any) error  { return errDown }
func (down) Text(context.Context, string, int64) (string, error) { return "", errDown }
func (down) PID(context.Context) int                             { return 0 }
func (down) Name() string                                        { return "unix:///none" }

// silent is an agent that takes questions and never answers.
type silent struct{ deaf bool }

func (s silent) wait(ctx context.Context) error {
	if s.deaf {
		select {} // not even its end
	}
	<-ctx.Done()
	return ctx.Err()
}
func (s silent) Get(ctx context.Context, _ string, _ url.Values, _ any) error { return s.wait(ctx) }
func (s silent) Text(ctx context.Context, _ string, _ int64) (string, error) {
	return "", s.wait(ctx)
}
func (s silent) PID(ctx context.Context) int { _ = s.wait(ctx); return 0 }
func (silent) Name() string                  { return "unix:///none" }

// What hangs, an agent or journalctl, costs its part and one deadline, however many parts hang.
func TestWhatHangsCostsItsDeadlineAndNotTheBundle(t *testing.T) {
	bin := t.TempDir()
	if err := os.WriteFile(filepath.Join(bin, "journalctl"), []byte("#!/bin/sh\nsleep 30 & wait\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	for _, deaf := range []bool{false, true} {
		const limit = 500 * time.Millisecond
		began := time.Now()
		b := Gather(t.Context(), Options{
			Version: "test", Now: began, ConfigFile: filepath.Join(bin, "none.yaml"), LogLines: 10, Unit: "paramedic", Agent: silent{deaf}, Deadline: limit,
			Overview: func(ctx context.Context) (string, error) { return "", silent{deaf}.wait(ctx) },
		})
		if took := time.Since(began); took < limit || took > 20*limit { // one after the other it would be 18 times as long, and for ever
			t.Errorf("it took %v", took)
		}
		for _, p := range b.Parts {
			local := p.Name == "version.txt" || p.Name == "host.txt" || p.Name == "links.txt" || p.Name == "rights.txt"
			hangs := strings.HasPrefix(p.Name, "agent/") || p.Name == "overview.txt" || p.Name == "log.txt"
			if local && p.Missing != "" || hangs && !strings.Contains(p.Missing, "it took longer than") {
				t.Errorf("%s: %q", p.Name, p.Missing)
			}
		}
		file := filepath.Join(t.TempDir(), "b.tar.gz")
		if _, err := b.WriteFile(file); err != nil {
			t.Fatal(err)
		}
	}
}

// Of what is too long the newest is kept, and the manifest says so.
func TestALongLogLosesItsBeginning(t *testing.T) {
	dir := t.TempDir()
	var log strings.Builder
	for i := range 130_000 {
		fmt.Fprintf(&log, "line %07d %s\n", i, strings.Repeat("x", 60))
	}
	file := filepath.Join(dir, "log")
	if err := os.WriteFile(file, []byte(log.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	gather := func(lines int) string {
		b := Gather(t.Context(), Options{
			Version: "test", Now: time.Now(), ConfigFile: filepath.Join(dir, "none.yaml"), LogFile: file, LogLines: lines, Unit: "paramedic", Agent: down{},
			Deadline: 5 * time.Minute, Overview: func(context.Context) (string, error) { return "", nil },
		})
		at := filepath.Join(dir, fmt.Sprint(lines, ".tar.gz"))
		if _, err := b.WriteFile(at); err != nil {
			t.Fatal(err)
		}
		f, err := os.Open(at)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		zip, err := gzip.NewReader(f)
		if err != nil {
			t.Fatal(err)
		}
		for archive := tar.NewReader(zip); ; {
			h, err := archive.Next()
			if err != nil {
				t.Fatal(err)
			}
			if strings.HasSuffix(h.Name, "/log.txt") {
				data, err := io.ReadAll(archive)
				if err != nil {
					t.Fatal(err)
				}
				return string(data)
			}
		}
	}
	if got := gather(3); strings.Count(got, "\n") != 3 || !strings.HasPrefix(got, "line 0129997 ") {
		t.Errorf("of three lines there is %.100q", got)
	}
	got := gather(1_000_000)
	if len(got) > maxPart || len(got) < maxPart-100 || !strings.HasPrefix(got, "line ") || !strings.Contains(got, "line 0129999 ") {
		t.Errorf("%d bytes from %.40q", len(got), got)
	}
}

// The newest of what a program prints is kept, too.
func TestAnEndingKeepsTheEnd(t *testing.T) {
	e := ending{most: 100}
	for i := range 1000 {
		fmt.Fprintf(&e, "%03d\n", i)
	}
	if got := e.String(); !strings.HasSuffix(got, "998\n999\n") || len(got) < 100 || len(got) > 200 {
		t.Errorf("%d bytes: %q", len(got), got)
	}
}

// An agent of before has written into its log what stood where the file of a secret belongs; the configuration was mended since.
func TestTheLogOfAConfigurationThatWasMendedHasNoSecret(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	said := "/etc/paramedic/paramedic.yaml:8:40: file /etc/paramedic/HUSH4dor3: can't read it: no such file or directory\n    8 |     auth: {basic: {user: u, password_file: HUSH4dor3}}\n      |     ^\n" +
		"      = put it there\n/etc/paramedic/paramedic.yaml:9:3: secret file /etc/paramedic/HUSH 4/dor3: can't read it: not a directory\n    9 |   secret_file: \"HUSH 4/dor3\"\n      |   ^\n" +
		"/etc/paramedic/paramedic.yaml:10:3: key file /etc/paramedic/HUSHkey: can't read it: file name too long\n   10 |   secrets_key_file: HUSHkey\n      |   ^\n" +
		"      = make it with \"paramedic keygen --secrets --file /etc/paramedic/HUSHkey\"\n"
	var log bytes.Buffer
	for _, h := range []slog.Handler{slog.NewTextHandler(&log, nil), slog.NewJSONHandler(&log, nil)} {
		slog.New(h).Error("the configuration stays as it was", "error", said, "attempts", 1)
		slog.New(h).Info("configuration reloaded")
	}
	log.WriteString(said) // as the last words of an agent that does not start
	for name, text := range map[string]string{"log": log.String(), "paramedic.yaml": "node: {name: cmp-1}\n"} {
		if err := os.WriteFile(at(name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	b := Gather(t.Context(), Options{
		Agent: down{}, ConfigFile: at("paramedic.yaml"), LogFile: at("log"), LogLines: 100, Unit: "paramedic", Now: time.Now(),
		Overview: func(context.Context) (string, error) { return "", errDown },
	})
	for _, p := range b.Parts {
		if strings.Contains(p.text, "HUSH") {
			t.Errorf("%s has it:\n%s", p.Name, p.text)
		}
		if p.Name != "log.txt" {
			continue
		}
		if n := strings.Count(p.text, "file name too long"); n != 3 || strings.Count(p.text, "configuration reloaded") != 2 || strings.Count(p.text, "password_file: (removed)") != 3 {
			t.Errorf("more is taken out than that:\n%s", p.text)
		}
	}
}
