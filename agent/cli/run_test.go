package cli_test

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/paramedic-ha/paramedic/agent"
	"github.com/paramedic-ha/paramedic/agent/cli"
)

// The real agent under a service manager that we play: sd_notify(3) datagrams on a real socket.
func TestRunTellsSystemdWhatItDoes(t *testing.T) {
	dir := t.TempDir()
	manager, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(dir, "notify"), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer manager.Close()
	t.Setenv("NOTIFY_SOCKET", filepath.Join(dir, "notify"))
	t.Setenv("WATCHDOG_USEC", "60000")
	t.Setenv("WATCHDOG_PID", fmt.Sprint(os.Getpid()))

	file := filepath.Join(dir, "paramedic.yaml")
	write := func(level string) {
		t.Helper()
		text := fmt.Sprintf("api: {socket: %[1]s/api.sock}\nhw: {nic: {disabled: true}, virt: {disabled: true}}\n"+
			"notify: {dir: %[1]s/state}\nlog: {level: %[2]s}\n", dir, level)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("info")
	var stderr bytes.Buffer
	ended := make(chan int, 1)
	go func() {
		ended <- cli.Main([]string{"run", "--config", file}, cli.Process{
			Stdout: &bytes.Buffer{}, Stderr: &stderr, Version: "test",
			NewAgent: func(o cli.AgentOptions) (cli.Agent, error) {
				return agent.New(agent.Options{Config: o.Config, Version: o.Version, Log: o.Log, Beat: o.Beat, BeatGap: o.BeatGap})
			},
		})
	}()
	// told waits for a datagram with the word; what comes before it is passed over.
	told := func(want string) {
		t.Helper()
		if err := manager.SetReadDeadline(time.Now().Add(patience)); err != nil {
			t.Fatal(err)
		}
		buffer := make([]byte, 4096)
		for {
			n, err := manager.Read(buffer)
			if err != nil {
				t.Fatalf("systemd was not told %q: %v", want, err)
			}
			if strings.Contains(string(buffer[:n]), want) {
				return
			}
		}
	}
	hangup := func() {
		t.Helper()
		if err := syscall.Kill(os.Getpid(), syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
	}
	told("READY=1")
	told("WATCHDOG=1")
	hangup()
	told("RELOADING=1\nMONOTONIC_USEC=")
	told("READY=1\nSTATUS=running")
	write("loud")
	hangup()
	told("RELOADING=1")
	told("STATUS=running with the earlier configuration")
	told("WATCHDOG=1")
	if err := syscall.Kill(os.Getpid(), syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	told("STOPPING=1")
	go func() { // as systemd does to the end: who writes to a full socket waits
		for buffer := make([]byte, 4096); ; {
			if _, err := manager.Read(buffer); err != nil {
				return
			}
		}
	}()
	if status := <-ended; status != 0 {
		t.Errorf("exit status %d", status)
	}
	for _, want := range []string{"msg=started", `msg="the configuration stays as it was"`, "level: \\\"loud\\\"", "msg=stopping"} {
		if !strings.Contains(stderr.String(), want) {
			t.Errorf("the log has no %s:\n%s", want, stderr.String())
		}
	}
}
