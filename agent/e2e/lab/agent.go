package lab

import (
	"context"
	"debug/elf"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"
)

// Where an agent of the lab keeps things, as the host's processes see them.
const (
	ConfigFile = Dir + "/paramedic.yaml"
	Socket     = Dir + "/api.sock"
	StateDir   = Dir + "/state"
)

// NotTheMachine configures away, below hw, the sources of what the lab's hosts share: the machine that they are namespaces of.
const NotTheMachine = "kmsg: {disabled: true}, mem: {disabled: true}, host: {disabled: true}, disk: {disabled: true}, ipmi: {disabled: true}, " +
	"ovs: {disabled: true}, pressure: {disabled: true}, service: {disabled: true}, clock: {disabled: true}"

// Agent is the real binary, running on a host.
type Agent struct {
	host *Host
	bin  string
	http *http.Client
	proc *Process
}

// Agent writes the configuration and starts the binary. The configuration must name Socket as api.socket.
func (h *Host) Agent(bin, config string) (*Agent, error) {
	a, err := h.NewAgent(bin, config)
	if err != nil {
		return nil, err
	}
	return a, a.Start()
}

// NewAgent writes the configuration and starts nothing yet.
func (h *Host) NewAgent(bin, config string) (*Agent, error) {
	a := &Agent{host: h, bin: bin}
	a.http = &http.Client{
		Timeout: 30 * time.Second,
		Transport: &http.Transport{
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return new(net.Dialer).DialContext(ctx, "unix", h.Path(Socket))
			},
		},
	}
	return a, a.Configure(config)
}

// Host is where the agent runs.
func (a *Agent) Host() *Host { return a.host }

// Configure replaces the configuration file; Start or Reload use it.
func (a *Agent) Configure(config string) error { return a.host.WriteFile(ConfigFile, config, 0o600) }

// Start starts the binary and waits until it is ready. The error carries its log.
func (a *Agent) Start() error {
	if err := a.StartOnly(); err != nil {
		return err
	}
	return a.Ready(time.Minute)
}

// StartOnly starts the binary and does not wait.
func (a *Agent) StartOnly() error {
	proc, err := a.host.Start(a.bin, "run", "--config", ConfigFile)
	if err != nil {
		return err
	}
	a.proc = proc
	return nil
}

// Ready waits for /readyz.
func (a *Agent) Ready(timeout time.Duration) error {
	deadline := time.Now().Add(timeout)
	for {
		_, err := a.Get("/readyz")
		if err == nil {
			return nil
		}
		select {
		case <-a.proc.Exited():
			return fmt.Errorf("host %s: the agent ended (%w): %s", a.host.Name, a.proc.err, a.proc.Log())
		case <-time.After(10 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("host %s: the agent is not ready after %v: %w: %s", a.host.Name, timeout, err, a.proc.Log())
		}
	}
}

// Process is the running binary, nil before the first start.
func (a *Agent) Process() *Process { return a.proc }

// Log is what the present run has written.
func (a *Agent) Log() string {
	if a.proc == nil {
		return ""
	}
	return a.proc.Log()
}

// Kill is kill -9.
func (a *Agent) Kill() error { return a.proc.Kill() }

// Stop ends the agent in order.
func (a *Agent) Stop() error { return a.proc.Stop(30 * time.Second) }

// Hangup makes the agent read its configuration again.
func (a *Agent) Hangup() error { return a.proc.Signal(syscall.SIGHUP) }

// Get asks the API; any status but 200 is an error that carries the answer.
func (a *Agent) Get(path string) ([]byte, error) {
	return a.Call(http.MethodGet, path, nil, http.StatusOK)
}

// Call sends body (nil: none) as JSON and wants the status.
func (a *Agent) Call(method, path string, body any, want int) ([]byte, error) {
	var in io.Reader
	if body != nil {
		r, w := io.Pipe()
		go func() { w.CloseWithError(json.NewEncoder(w).Encode(body)) }()
		in = r
	}
	req, err := http.NewRequestWithContext(context.Background(), method, "http://paramedic"+path, in)
	if err != nil {
		return nil, err
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := a.http.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	out, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", method, path, err)
	}
	if resp.StatusCode != want {
		return out, fmt.Errorf("%s %s: %s: %s", method, path, resp.Status, out)
	}
	return out, nil
}

// Command runs a subcommand of the binary on the host and returns all its output.
func (a *Agent) Command(args ...string) (string, error) {
	return a.host.Run(a.bin, append(args, "--server", "unix://"+Socket)...)
}

// Build builds the agent from the module that dir lies in, or takes the binary that PARAMEDIC_BIN names.
func (l *Lab) Build(dir string) (string, error) {
	if bin := os.Getenv("PARAMEDIC_BIN"); bin != "" {
		if _, err := os.Stat(bin); err != nil {
			return "", fmt.Errorf("PARAMEDIC_BIN: %w", err)
		}
		return filepath.Abs(bin)
	}
	return l.build(dir)
}

// Static is a binary of the agent that needs no library: bin if it is such a one, as that with the race detector is not, or
// else another build of the module that dir lies in.
func (l *Lab) Static(bin, dir string) (string, error) {
	f, err := elf.Open(bin)
	if err != nil {
		return "", fmt.Errorf("read the agent's binary: %w", err)
	}
	static := !slices.ContainsFunc(f.Progs, func(p *elf.Prog) bool { return p.Type == elf.PT_INTERP })
	if err := f.Close(); err != nil || static {
		return bin, err
	}
	return l.build(dir)
}

func (l *Lab) build(dir string) (string, error) {
	out, err := os.MkdirTemp("", "pm-bin-")
	if err != nil {
		return "", fmt.Errorf("build the agent: %w", err)
	}
	l.onClose(func() error { return os.RemoveAll(out) })
	bin := filepath.Join(out, "paramedic")
	if err := goBuild(dir, bin); err != nil {
		return "", errors.Join(fmt.Errorf("build the agent: %w", err), os.RemoveAll(out))
	}
	return bin, nil
}
