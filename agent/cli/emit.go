package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/paramedic-ha/paramedic/agent/api"
)

type emitCommand struct {
	Type     string            `arg:"" optional:"" help:"What kind of event, for instance compute.host.nic.error."`
	File     string            `help:"Send the JSON in this file instead; - is standard input." placeholder:"FILE"`
	Resource string            `help:"The resource id, when the mapping of the type does not say it." placeholder:"ID"`
	Host     string            `help:"The host that it is about. Default: that of the agent." placeholder:"NAME"`
	Severity string            `help:"critical, major, minor, warning or indeterminate. Default: that of the type." enum:",critical,major,minor,warning,indeterminate" default:"" placeholder:"SEVERITY"`
	Status   string            `help:"down, or up when it is over." enum:"down,up" default:"down"`
	Monitor  string            `help:"Who says so." default:"emit" placeholder:"NAME"`
	ID       string            `help:"The event's id: the same event, sent again, changes nothing." placeholder:"ID"`
	Time     string            `help:"When it happened: RFC 3339, or how long ago: 10s. Default: now." placeholder:"TIME"`
	Text     string            `help:"What happened, for people." placeholder:"TEXT"`
	Detail   map[string]string `help:"More of it, repeatable: source=eth0, what the mapping of the type asks for." placeholder:"NAME=VALUE" mapsep:"none"`
}

func (c *emitCommand) Run(s *session) error {
	body, err := c.body(s)
	if err != nil {
		return err
	}
	var done api.Verdicts
	if err := s.client.do(s.ctx, "POST", "/v1/events", body, &done); err != nil {
		return err
	}
	err = s.out.show(done, func() {
		for _, v := range done.Verdicts {
			line := v.Verdict + ": " + word(v.Type)
			if v.Resource != "" {
				line += " on " + word(v.Resource)
			}
			if v.Alarm != "" {
				line += ", alarm " + word(short(v.Alarm))
			}
			if v.Text != "" {
				line += ": " + word(v.Text)
			}
			s.out.text(line)
		}
	})
	for _, v := range done.Verdicts {
		if v.Verdict == "refused" && err == nil {
			err = &exitError{exitBad, nil}
		}
	}
	return err
}

// body is the JSON to send.
func (c *emitCommand) body(s *session) (json.RawMessage, error) {
	if c.File != "" {
		if c.Type != "" {
			return nil, &exitError{exitUsage, errors.New("--file has the whole event: leave the type out")}
		}
		return c.read(s)
	}
	if c.Type == "" {
		return nil, &exitError{exitUsage, errors.New("want the type of the event, or --file")}
	}
	at := s.now().UTC().Format(time.RFC3339Nano)
	if c.Time != "" {
		var err error
		if at, err = parseTime(c.Time, s.now()); err != nil {
			return nil, &exitError{exitUsage, fmt.Errorf("--time %q: %w", c.Time, err)}
		}
	}
	details := make(map[string]string)
	for name, value := range c.Detail {
		details[name] = value
	}
	for name, value := range map[string]string{
		"hostname": c.Host, "resource": c.Resource, "severity": c.Severity, "status": c.Status, "monitor": c.Monitor,
		"monitor_event_id": c.ID, "cause": c.Text,
	} {
		if value != "" {
			details[name] = value
		}
	}
	body, err := json.Marshal(map[string]any{"time": at, "type": c.Type, "details": details})
	if err != nil {
		return nil, fmt.Errorf("write the event: %w", err)
	}
	return body, nil
}

func (c *emitCommand) read(s *session) (json.RawMessage, error) {
	in, name := s.Stdin, "standard input"
	if c.File != "-" {
		f, err := os.Open(c.File)
		if err != nil {
			return nil, fmt.Errorf("read the event: %w", err)
		}
		defer f.Close()
		in, name = f, c.File
	}
	body, err := io.ReadAll(in)
	switch {
	case err != nil:
		return nil, fmt.Errorf("read the event: %w", err)
	case !json.Valid(body):
		return nil, fmt.Errorf("%s does not hold JSON", name)
	}
	return body, nil
}
