package api

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// start runs a server; stop ends it and returns what Run did.
func start(t *testing.T, s *Server) (stop func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(cancel)
	return func() error {
		cancel()
		return <-done
	}
}

func absent(t *testing.T, path string) {
	t.Helper()
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%s is still there: %v", path, err)
	}
}

func TestTheSocketIsForItsGroupOnly(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "paramedic", "api.sock")
	umask := unix.Umask(0o077) // a strict one must not shut the group out
	l, err := listen(socket, 1)
	unix.Umask(umask)
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]fs.FileMode{socket: 0o660, filepath.Dir(socket): 0o750} {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if got := info.Mode().Perm(); got != want {
			t.Errorf("%s has mode %v, want %v", path, got, want)
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	absent(t, socket)
}

func TestASocketThatACrashLeftIsReplaced(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "api.sock")
	old, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	old.SetUnlinkOnClose(false)
	if err := old.Close(); err != nil {
		t.Fatal(err)
	}
	l, err := listen(socket, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
}

func TestASecondAgentIsRefusedAndTheFirstUnharmed(t *testing.T) {
	h := newHost(t)
	c := serve(t, h)
	second, err := New(Config{Backend: h, Node: "cmp-1", Socket: c.socket, Log: slog.New(slog.DiscardHandler), Gatherer: h.metrics})
	if err == nil {
		t.Fatal("two agents on one socket", second.Close())
	}
	if !strings.Contains(err.Error(), "another agent is listening") || !strings.Contains(err.Error(), c.socket) {
		t.Errorf("the error does not say what and where: %v", err)
	}
	get[Status](c, "GET", "/v1/status", nil, 200)
}

func TestTwoAgentsThatStartAtOnceDoNotBothGetTheSocket(t *testing.T) {
	dir := t.TempDir()
	lock, err := lockDirectory(dir, 0) // the other one, between its look and its bind
	if err != nil {
		t.Fatal(err)
	}
	if _, err := lockDirectory(dir, 0); err == nil || !strings.Contains(err.Error(), "just starting") {
		t.Errorf("got %v", err)
	}
	var l *listener
	listening := make(chan error, 1)
	go func() {
		var err error
		l, err = listen(filepath.Join(dir, "api.sock"), 1)
		listening <- err
	}()
	if err := lock.Close(); err != nil { // it is done
		t.Fatal(err)
	}
	if err := <-listening; err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
}

func TestWhatIsNoSocketIsLeftAlone(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "notes")
	if err := os.WriteFile(file, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		file:                            "no socket",
		filepath.Join(file, "api.sock"): "directory",
		filepath.Join(dir, strings.Repeat("x", 108)): "shorter api.socket",
	} {
		if _, err := listen(path, 1); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v, want an error with the path and %q", path, err, want)
		}
	}
	if got, err := os.ReadFile(file); err != nil || string(got) != "mine" {
		t.Errorf("%q, %v", got, err)
	}
}

func TestConnectionsAreLimitedAndFurtherOnesWait(t *testing.T) {
	l, err := listen(filepath.Join(t.TempDir(), "api.sock"), 1)
	if err != nil {
		t.Fatal(err)
	}
	accepted := make(chan net.Conn)
	go func() {
		defer close(accepted)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			accepted <- conn
		}
	}()
	dial := func() net.Conn {
		conn, err := (&net.Dialer{}).DialContext(t.Context(), "unix", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		return conn
	}
	dial()
	first := <-accepted
	dial() // connects, and waits in the backlog
	select {
	case <-accepted:
		t.Fatal("accepted one more than the limit")
	default:
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	second := <-accepted
	if err := errors.Join(l.Close(), second.Close()); err != nil { // also while Accept waits for a slot
		t.Fatal(err)
	}
	if _, more := <-accepted; more {
		t.Error("accepted after Close")
	}
}
