package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/paramedic-ha/paramedic/agent/bundle"
)

type bundleCommand struct {
	File   string `help:"The archive to write; when empty, one in this directory that is named by host and time." placeholder:"FILE"`
	Config string `help:"The configuration file of the agent." default:"${defaultConfig}" placeholder:"FILE"`
	Log    string `help:"The log of an agent that systemd does not run, in the place of systemd's journal." placeholder:"FILE"`
	Lines  int    `help:"How much of the log, from its end." default:"20000" placeholder:"N"`
	Unit   string `help:"The unit of the agent." default:"paramedic" placeholder:"NAME"`
}

// written is what -o json says of a bundle.
type written struct {
	File    string        `json:"file"`
	Bytes   int64         `json:"bytes"`
	Warning string        `json:"warning"` // of what could not be searched for; empty: of nothing
	Parts   []bundle.Part `json:"parts"`
}

// Run gathers what is there; that the agent is down is a reason to do so and no error.
func (c *bundleCommand) Run(s *session) error {
	now := s.now()
	file := c.File
	if file == "" {
		name, err := os.Hostname()
		if err != nil {
			name = "host"
		}
		file = fmt.Sprintf("paramedic-%s-%s.tar.gz", name, now.UTC().Format("20060102T150405Z"))
	}
	switch _, err := os.Lstat(file); { // before the work, and again behind it
	case err == nil:
		return fmt.Errorf("%s is there already and is not overwritten: name another file with --file", file)
	case c.Lines < 1:
		return &exitError{exitUsage, fmt.Errorf("--lines %d: want a number from 1", c.Lines)}
	}
	b := bundle.Gather(s.ctx, bundle.Options{
		Version: s.Version, Now: now, ConfigFile: c.Config, LogFile: c.Log, LogLines: c.Lines, Unit: c.Unit,
		Agent: asked{s.client}, Overview: s.overview, Values: []string{s.client.token},
	})
	if err := s.ctx.Err(); err != nil {
		return fmt.Errorf("the bundle was not written: it was interrupted")
	}
	size, err := b.WriteFile(file)
	if err != nil {
		return err
	}
	return s.out.show(written{file, size, b.Warning, b.Parts}, func() {
		var rows [][]string
		reason := ""
		for _, p := range b.Parts {
			note := p.Note
			switch p.Missing {
			case "":
			case reason:
				note = "NOT THERE: as above"
			default:
				note = "NOT THERE: " + p.Missing
			}
			reason = p.Missing
			rows = append(rows, []string{p.Name, fmt.Sprint(p.Bytes), fmt.Sprint(p.Removed), word(note)})
		}
		s.out.table([]string{"PART", "BYTES", "REMOVED", "NOTE"}, rows)
		if b.Warning != "" {
			s.out.line("\nBEWARE: " + escape(b.Warning))
		}
		s.out.line(fmt.Sprintf("\n%s: %d bytes, for you alone. Its MANIFEST says what was taken out, and what was not: names and addresses. Read it before you give it away.", escape(file), size))
	})
}

// asked is the agent as a bundle asks it.
type asked struct{ *client }

// Get implements bundle.Agent.
func (a asked) Get(ctx context.Context, path string, query url.Values, answer any) error {
	return a.get(ctx, path, query, answer)
}

// Text implements bundle.Agent.
func (a asked) Text(ctx context.Context, path string, limit int64) (string, error) {
	response, err := a.send(ctx, "GET", path, nil, nil)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	data, err := io.ReadAll(io.LimitReader(response.Body, limit))
	if err != nil {
		return "", fmt.Errorf("read the answer of the agent at %s: %w", a.name, err)
	}
	return string(data), nil
}

// Name implements bundle.Agent.
func (a asked) Name() string { return bundle.URL(a.name) }

// PID implements bundle.Agent: the kernel knows who listens at a Unix socket.
func (a asked) PID(ctx context.Context) int {
	path, ok := strings.CutPrefix(a.name, "unix://")
	if !ok {
		return 0
	}
	conn, err := new(net.Dialer).DialContext(ctx, "unix", path)
	if err != nil {
		return 0
	}
	defer conn.Close()
	raw, err := conn.(*net.UnixConn).SyscallConn()
	if err != nil {
		return 0
	}
	pid := 0
	if err := raw.Control(func(fd uintptr) {
		if cred, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); err == nil {
			pid = int(cred.Pid)
		}
	}); err != nil {
		return 0
	}
	return pid
}

// overview is what an operator would look at first, as the commands print it.
func (s *session) overview(ctx context.Context) (string, error) {
	var text bytes.Buffer
	other := *s
	other.ctx = ctx
	other.out = &printer{w: &text, format: "table", now: func() time.Time { return s.now().UTC() }}
	for _, c := range []struct {
		name string
		run  func(*session) error
	}{
		{"status", new(statusCommand).Run},
		{"hosts", new(hostsListCommand).Run},
		{"alarms --state all --limit 200", (&alarmsCommand{State: "all", Limit: 200}).Run},
		{"subscriptions", new(subscriptionsCommand).Run},
		{"deliveries", new(deliveriesCommand).Run},
		{"events --limit 200", (&eventsCommand{Limit: 200}).Run},
	} {
		fmt.Fprintf(&text, "# paramedic %s\n\n", c.name)
		if err := c.run(&other); err != nil {
			var ee *exitError
			if ctx.Err() != nil || errors.As(err, &ee) && ee.status == exitUnreachable {
				return "", err
			}
			fmt.Fprintf(&text, "%v\n", err)
		}
		text.WriteString("\n")
	}
	return text.String(), nil
}
