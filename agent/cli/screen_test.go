package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/paramedic-ha/paramedic/agent/api"
)

// answering is an agent that can go away and come back, with a picture that stays the same.
type answering struct {
	t    *testing.T
	path string
	p    picture

	mu     sync.Mutex
	server *http.Server
}

func (a *answering) start() {
	a.t.Helper()
	listener, err := net.Listen("unix", a.path)
	if err != nil {
		a.t.Fatal(err)
	}
	answers := map[string]any{
		"/v1/status": a.p.Status, "/v1/hosts": api.HostList{Hosts: a.p.Hosts}, "/v1/alarms": api.AlarmPage{Alarms: a.p.Alarms}, "/v1/profile": api.StageList{},
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _ = json.NewEncoder(w).Encode(answers[r.URL.Path]) })}
	a.mu.Lock()
	a.server = server
	a.mu.Unlock()
	go func() { _ = server.Serve(listener) }()
}

func (a *answering) stop() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.server != nil {
		_ = a.server.Close() // and the socket goes
	}
	a.server = nil
}

// pane is a terminal in tmux, in which a shell runs one command and then says how it ended.
type pane struct {
	t      *testing.T
	socket string
}

func (p pane) tmux(args ...string) string {
	p.t.Helper()
	out, err := exec.CommandContext(p.t.Context(), "tmux", append([]string{"-S", p.socket, "-f", "/dev/null"}, args...)...).CombinedOutput()
	if err != nil {
		p.t.Fatalf("tmux %v: %v: %s", args, err, out)
	}
	return string(out)
}

func newPane(t *testing.T, w, h int, command string) pane {
	t.Helper()
	p := pane{t, filepath.Join(t.TempDir(), "tmux")}
	// What the shell says before stands on the screen that must come back.
	script := `trap : INT; echo before; ` + command + `; echo "ended $?"; stty -a | grep -o -- '-*icanon\|-*echo ' | tr '\n' ' '; exec cat`
	p.tmux("new-session", "-d", "-x", fmt.Sprint(w), "-y", fmt.Sprint(h), "sh", "-c", script)
	t.Cleanup(func() {
		_ = exec.CommandContext(context.Background(), "tmux", "-S", p.socket, "kill-server").Run()
	})
	return p
}

// until waits for a screen, and returns its lines.
func (p pane) until(what string, ok func(lines []string) bool) []string {
	p.t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(time.Minute)
	for {
		lines := strings.Split(strings.TrimSuffix(p.tmux("capture-pane", "-p"), "\n"), "\n")
		if ok(lines) {
			return lines
		}
		select {
		case <-tick.C:
		case <-deadline:
			p.t.Fatalf("waited in vain for %s; the screen is\n%s", what, strings.Join(lines, "\n"))
		}
	}
}

func contains(text string) func([]string) bool {
	return func(lines []string) bool { return strings.Contains(strings.Join(lines, "\n"), text) }
}

// restored waits for the shell's own screen, as it was, with its cursor and its modes.
func (p pane) restored(status string) {
	p.t.Helper()
	p.until("the end", contains("ended "+status+"\n"))
	lines := p.until("the modes of the terminal", contains("icanon"))
	if text := strings.Join(lines, "\n"); lines[0] != "before" || strings.Contains(text, "-icanon") || strings.Contains(text, "-echo ") || strings.Contains(text, "HOST") {
		p.t.Errorf("the screen after it:\n%s", text)
	}
	if got := strings.TrimSpace(p.tmux("display-message", "-p", "#{alternate_on} #{cursor_flag} #{wrap_flag}")); got != "0 1 1" {
		p.t.Errorf("alternate screen, cursor, wrapping: %s, want 0 1 1", got)
	}
}

// In a real terminal: drawn at each size, kept when the agent goes away, and given back as it was however it ends.
func TestTopInATerminal(t *testing.T) {
	a := &answering{t: t, path: filepath.Join(t.TempDir(), "api.sock"), p: busy(3, 9)}
	a.start()
	t.Cleanup(a.stop)
	command := "paramedic top --interval 200ms --server unix://" + a.path

	p := newPane(t, 80, 24, command)
	drawn := func(w, h int) {
		t.Helper()
		lines := p.until(fmt.Sprintf("%d by %d", w, h), func(lines []string) bool {
			return len(lines) == h && strings.HasPrefix(lines[h-1], "q quit") && strings.HasPrefix(lines[0], "paramedic cmp-1")
		})
		heads := 0
		for _, line := range lines {
			if columns(line) > w {
				t.Errorf("%d columns: %s", columns(line), line)
			}
			if strings.HasPrefix(line, "HOST") || strings.HasPrefix(line, "ALARM") {
				heads++
			}
		}
		if heads != 2 {
			t.Errorf("%d by %d has %d tables:\n%s", w, h, heads, strings.Join(lines, "\n"))
		}
	}
	drawn(80, 24)
	if got := strings.TrimSpace(p.tmux("display-message", "-p", "#{alternate_on} #{cursor_flag}")); got != "1 0" {
		t.Errorf("alternate screen, cursor: %s, want 1 0", got)
	}
	for _, size := range [][2]int{{120, 40}, {40, 10}, {80, 24}} {
		p.tmux("resize-window", "-x", fmt.Sprint(size[0]), "-y", fmt.Sprint(size[1]))
		drawn(size[0], size[1])
	}
	p.tmux("send-keys", "s")
	p.until("another order", contains("s sort hosts by domains"))
	p.tmux("send-keys", "C-\\") // no signal that Go would end by, with the terminal as it is
	p.tmux("send-keys", "p")
	p.until("a pause", contains("PAUSED"))
	p.tmux("send-keys", "Up", "Space")
	p.until("no pause", contains("every 200ms"))

	a.stop()
	lines := p.until("an old picture", contains("OLD: as it was"))
	if !contains("cmp-3")(lines) || !contains("nic/eth0")(lines) {
		t.Errorf("the last picture is gone:\n%s", strings.Join(lines, "\n"))
	}
	a.start()
	p.until("a new picture", contains("every 200ms"))
	p.tmux("send-keys", "q")
	p.restored("0")

	for name, end := range map[string]func(pane){
		"SIGINT": func(p pane) { p.tmux("send-keys", "C-c") },
		"SIGTERM": func(p pane) {
			shell := strings.TrimSpace(p.tmux("display-message", "-p", "#{pane_pid}"))
			if out, err := exec.CommandContext(t.Context(), "pkill", "-TERM", "-P", shell).CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPane(t, 80, 24, command)
			p.until("a picture", contains("q quit"))
			end(p)
			p.restored("0")
		})
	}
}

func TestKeysThatSendSequencesMeanNothing(t *testing.T) {
	for typed, want := range map[string]string{"q": "q", "\x1b[A ": " ", "p\x1b[1;5Cq\x1bOPs": "pqs", "\x1b": "", "\x1bq": "", "\x1b[": "", "\x1b[12": ""} {
		if got := string(letters([]byte(typed))); got != want {
			t.Errorf("%q: %q, want %q", typed, got, want)
		}
	}
}

// pty is both ends of a terminal.
func pty(t *testing.T) (master, slave *os.File) {
	t.Helper()
	fd, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	master = os.NewFile(uintptr(fd), "ptmx")
	t.Cleanup(func() { _ = master.Close() })
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	slave, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = slave.Close() })
	if err := unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Col: 80, Row: 24}); err != nil {
		t.Fatal(err)
	}
	return master, slave
}

func TestAPanicGivesTheTerminalBack(t *testing.T) {
	master, slave := pty(t)
	before, err := unix.IoctlGetTermios(int(slave.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	s := &session{Process: Process{Stdin: slave, Stdout: slave, now: time.Now}, ctx: t.Context()}
	screen, ok := s.terminal()
	if !ok {
		t.Fatal("a terminal is taken for none")
	}
	read := make(chan string)
	go func() {
		var all []byte
		buffer := make([]byte, 4096)
		for !strings.Contains(string(all), fromScreen) {
			n, err := master.Read(buffer)
			if err != nil {
				break
			}
			all = append(all, buffer[:n]...)
		}
		read <- string(all)
	}()
	func() {
		defer func() {
			if recover() != "a bug" {
				t.Error("the panic is swallowed")
			}
		}()
		v := topView{picture: busy(1, 1), live: true, every: time.Hour, sort: "health", paint: func(string) string { panic("a bug") }}
		t.Errorf("it ended with %v", s.watchTop(v, screen))
	}()
	if text := <-read; !strings.HasPrefix(text, toScreen) || !strings.HasSuffix(text, fromScreen) {
		t.Errorf("the terminal was told %q", text)
	}
	after, err := unix.IoctlGetTermios(int(slave.Fd()), unix.TCGETS)
	if err != nil || *after != *before {
		t.Errorf("the terminal was %+v and is %+v: %v", before, after, err)
	}
}
