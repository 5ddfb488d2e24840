package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"

	"github.com/paramedic-ha/paramedic/agent/config"
)

// Agent is what run needs of an agent.
type Agent interface {
	// Start returns when it watches.
	Start() error
	// Failed delivers the error of a part that ended although nobody stopped it.
	Failed() <-chan error
	// Reload takes over all of a configuration, or on an error none of it.
	Reload(*config.Config) error
	// Stop returns when everything is durable, or ctx ends.
	Stop(context.Context) error
}

// AgentOptions is what an agent is made of.
type AgentOptions struct {
	Config  *config.Config
	Version string
	Log     *slog.Logger
	Beat    func() // to be called every BeatGap by the goroutine that matters most; it never blocks
	BeatGap time.Duration
}

// stopTimeout is how long an orderly stop may take. What is cut off then was committed before, or is told again after
// the next start.
const stopTimeout = 5 * time.Second

type runCommand struct {
	Config string `help:"The configuration file." default:"${defaultConfig}" placeholder:"FILE"`
}

// Run is the agent's process: it ends with SIGTERM or SIGINT and reads the configuration again on SIGHUP.
func (c *runCommand) Run(s *session) error {
	cfg, err := config.Load(c.Config)
	if err != nil {
		return configError(s.Stderr, err)
	}
	defer keepPace()()
	level := new(slog.LevelVar)
	log, gate := newLog(s.Stderr, cfg.Log, level)
	defer func() { _ = gate.releaseAll(time.Now()) }() // to standard error, like all of the log: there is no other place to complain
	room := time.NewTicker(oneLine)
	defer room.Stop()

	hangup := make(chan os.Signal, 1) // one that waits is enough: the file is read after it
	signal.Notify(hangup, syscall.SIGHUP)
	defer signal.Stop(hangup)

	beat := newHeartbeat(log)
	defer beat.stop()
	agent, err := s.NewAgent(AgentOptions{Config: cfg, Version: s.Version, Log: log, Beat: beat.beat, BeatGap: beat.gap})
	if err != nil {
		return fmt.Errorf("set up the agent: %w", err)
	}
	if err := agent.Start(); err != nil {
		return errors.Join(fmt.Errorf("start the agent: %w", err), stopAgent(agent))
	}
	log.Info("started", "version", s.Version, "host", cfg.Node.Name, "config", c.Config)
	tellSystemd(log, daemon.SdNotifyReady)

	for {
		select {
		case now := <-room.C:
			_ = gate.release(now)
		case <-hangup:
			tellSystemd(log, daemon.SdNotifyReloading+"\n"+daemon.SdNotifyMonotonicUsec())
			status := "STATUS=running"
			if err := reload(agent, c.Config, level); err != nil {
				log.Error("the configuration stays as it was", "error", err)
				status = "STATUS=running with the earlier configuration: the last reload was refused, see the log"
			}
			tellSystemd(log, daemon.SdNotifyReady+"\n"+status)
		case err := <-agent.Failed():
			tellSystemd(log, daemon.SdNotifyStopping)
			return errors.Join(fmt.Errorf("the agent ends: %w", err), stopAgent(agent))
		case <-s.ctx.Done():
			log.Info("stopping")
			tellSystemd(log, daemon.SdNotifyStopping)
			return stopAgent(agent)
		}
	}
}

func stopAgent(agent Agent) error {
	ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	return agent.Stop(ctx)
}

func reload(agent Agent, file string, level *slog.LevelVar) error {
	cfg, err := config.Load(file)
	if err != nil {
		return err
	}
	if err := agent.Reload(cfg); err != nil {
		return err
	}
	level.Set(levels[cfg.Log.Level])
	return nil
}

// tellSystemd says how we are, when systemd asked to be told (sd_notify(3)).
func tellSystemd(log *slog.Logger, state string) {
	if err := sendToSystemd(os.Getenv("NOTIFY_SOCKET"), state); err != nil {
		log.Warn("can't tell systemd", "error", err)
	}
}

// systemdTimeout is how long systemd may take to take what it is told. The library's own call waits for ever.
const systemdTimeout = time.Second

func sendToSystemd(socket, state string) error {
	if socket == "" {
		return nil
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		return err
	}
	if err = conn.SetWriteDeadline(time.Now().Add(systemdTimeout)); err == nil {
		_, err = conn.Write([]byte(state))
	}
	return errors.Join(err, conn.Close())
}

// heartbeat feeds systemd's watchdog, off the goroutine that proves to be alive.
type heartbeat struct {
	gap   time.Duration // 0: nobody watches
	beats chan struct{}
	quit  chan struct{}
	done  chan struct{}
}

func newHeartbeat(log *slog.Logger) *heartbeat {
	h := &heartbeat{beats: make(chan struct{}, 1), quit: make(chan struct{}), done: make(chan struct{})}
	timeout, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		log.Warn("can't read what systemd's watchdog wants", "error", err)
	}
	h.gap = timeout / 3
	go func() {
		defer close(h.done)
		for {
			select {
			case <-h.quit:
				return
			case <-h.beats:
				if h.gap > 0 {
					tellSystemd(log, daemon.SdNotifyWatchdog)
				}
			}
		}
	}()
	return h
}

// beat never blocks: a beat that still waits says enough. It may be called after stop.
func (h *heartbeat) beat() {
	select {
	case h.beats <- struct{}{}:
	default:
	}
}

func (h *heartbeat) stop() {
	close(h.quit)
	<-h.done
}

type checkCommand struct {
	File string `arg:"" optional:"" help:"The configuration file." default:"${defaultConfig}"`
}

// Run prints every problem of the file, as a compiler would.
func (c *checkCommand) Run(s *session) error {
	_, err := config.Load(c.File)
	if err == nil {
		return s.out.show(map[string]any{"file": c.File, "problems": []config.Problem{}}, func() { s.out.line(c.File + ": good") })
	}
	var problems config.Errors
	if s.out.format != "table" && errors.As(err, &problems) {
		if err := s.out.show(map[string]any{"file": c.File, "problems": problems}, nil); err != nil {
			return err
		}
		return &exitError{status: exitBad}
	}
	return configError(s.Stderr, err)
}

// configError prints the problems of a configuration and is the error that says how many.
func configError(w io.Writer, err error) error {
	var problems config.Errors
	if !errors.As(err, &problems) {
		return err
	}
	fmt.Fprintln(w, problems.Error())
	if len(problems) == 1 {
		return errors.New("the configuration has a problem")
	}
	return fmt.Errorf("the configuration has %d problems", len(problems))
}
