package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/paramedic-ha/paramedic/agent/e2e/lab"
)

// change is an event of an agent's stream (GET /v1/watch). All streams end in this process, so all stamps are of one clock.
type change struct {
	at time.Time // when the line was there, before it was parsed
	by int       // index of the member whose stream it is

	Transition string `json:"transition"`
	Alarm      struct {
		Host      string `json:"host"`
		Condition string `json:"condition"`
	} `json:"alarm"`
}

// follow reads the streams of all members into one channel, until ctx ends. It returns when all of them run.
func (c *cloud) follow(ctx context.Context) (<-chan change, error) {
	changes := make(chan change, 16384)
	for i, m := range c.members {
		client := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", m.Path(lab.Socket))
		}}}
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://paramedic/v1/watch", http.NoBody)
		if err != nil {
			return nil, err
		}
		resp, err := client.Do(req) //nolint:bodyclose // its reader below does
		if err != nil {
			return nil, fmt.Errorf("watch %s: %w", m.Name, err)
		}
		lines := bufio.NewReader(resp.Body)
		if first, err := lines.ReadString('\n'); err != nil || resp.StatusCode != http.StatusOK {
			_ = resp.Body.Close()
			return nil, fmt.Errorf("watch %s: %s, %q: %w", m.Name, resp.Status, first, err)
		}
		go func() {
			defer resp.Body.Close()
			for {
				line, err := lines.ReadString('\n')
				at := time.Now()
				if err != nil {
					return // ctx has ended, or whoever waits for the stream complains
				}
				data, ok := strings.CutPrefix(line, "data: ")
				if !ok {
					continue
				}
				one := change{at: at, by: i}
				if json.Unmarshal([]byte(data), &one) == nil {
					changes <- one
				}
			}
		}()
	}
	return changes, nil
}

// carrierSeen waits until all members have told that a host lost its carrier (raised) or has it again (cleared), and returns
// when each did.
func (c *cloud) carrierSeen(changes <-chan change, host, transition string, limit time.Duration) ([]time.Time, error) {
	at := make([]time.Time, len(c.members))
	late := time.NewTimer(limit)
	defer late.Stop()
	for left := len(at); left > 0; {
		select {
		case one := <-changes:
			if one.Alarm.Host == host && one.Alarm.Condition == "carrier" && one.Transition == transition && at[one.by].IsZero() {
				at[one.by] = one.at
				left--
			}
		case <-late.C:
			return at, fmt.Errorf("%s of %s: %d of %d hosts have not told of it after %v", transition, host, left, len(at), limit)
		}
	}
	return at, nil
}
