package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/paramedic-ha/paramedic/agent/e2e/lab"
)

// consumer is "paramedic receive -o json" on the other machine, and what it has said.
type consumer struct {
	name       string
	project    string // empty: an administrator
	confidence string // the least that it wants to hear of a host's loss; empty: the default, confirmed
	addr       string

	mu      sync.Mutex
	partial []byte
	told    []told
	news    chan struct{} // closed and replaced with each line
}

// told is one line of paramedic receive.
type told struct {
	Received  time.Time `json:"received"`
	Signature string    `json:"signature"`
	Event     struct {
		Type string `json:"type"`
		Data struct {
			Reporter string `json:"reporter"`
			Host     string `json:"host"`
			Alarm    struct {
				Condition     string `json:"condition"`
				Confidence    string `json:"confidence"`
				Severity      string `json:"severity"`
				ProbableCause string `json:"probable_cause"`
				ClearReason   string `json:"clear_reason"`
			} `json:"alarm"`
			Affected []struct {
				Name  string `json:"name"`
				State string `json:"state"`
			} `json:"affected"`
			Evidence map[string]any `json:"evidence"`
		} `json:"data"`
	} `json:"event"`
}

// machines are those that it names.
func (t *told) machines() string {
	var list []string
	for _, d := range t.Event.Data.Affected {
		list = append(list, fmt.Sprintf("%q %s", d.Name, d.State))
	}
	return strings.Join(list, ", ")
}

// listen starts the consumer on a host.
func (c *consumer) listen(host *lab.Host, bin, addr string) error {
	c.addr, c.news = addr, make(chan struct{})
	if err := host.WriteFile(c.secretFile(), c.secret(), 0o600); err != nil {
		return err
	}
	p, err := host.StartWith(nil, c, bin, "receive", "-o", "json", "--listen", addr, "--secret-file", c.secretFile())
	if err != nil {
		return err
	}
	for deadline := time.Now().Add(patience); !strings.Contains(p.Log(), "listening"); {
		if time.Now().After(deadline) {
			return fmt.Errorf("consumer %s does not listen: %s", c.name, p.Log())
		}
		<-time.After(5 * time.Millisecond)
	}
	return nil
}

// Write takes the lines that paramedic receive prints.
func (c *consumer) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.partial = append(c.partial, p...)
	for {
		line, rest, found := bytes.Cut(c.partial, []byte("\n"))
		if !found {
			return len(p), nil
		}
		c.partial = rest
		var t told
		if err := json.Unmarshal(line, &t); err != nil {
			return 0, fmt.Errorf("consumer %s said %q: %w", c.name, line, err)
		}
		if t.Event.Type == "paramedic.verification" { // paramedic receive has taken the challenge
			continue
		}
		c.told = append(c.told, t)
		close(c.news)
		c.news = make(chan struct{})
	}
}

// take removes and returns the oldest unread line, waiting for it.
func (c *consumer) take(timeout time.Duration) (told, error) {
	deadline := time.NewTimer(timeout)
	defer deadline.Stop()
	for {
		c.mu.Lock()
		if len(c.told) > 0 {
			t := c.told[0]
			c.told = c.told[1:]
			c.mu.Unlock()
			return t, nil
		}
		news := c.news
		c.mu.Unlock()
		select {
		case <-news:
		case <-deadline.C:
			return told{}, errors.New("no notification arrived")
		}
	}
}
