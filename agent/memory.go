package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	systemd "github.com/coreos/go-systemd/v22/dbus"

	"github.com/paramedic-ha/paramedic/correlate"
	"github.com/paramedic-ha/paramedic/gossip/durable"
	"github.com/paramedic-ha/paramedic/gossip/watch"
	"github.com/paramedic-ha/paramedic/hw"
	hosthw "github.com/paramedic-ha/paramedic/hw/host"
)

// memory is what this host must know of itself when it comes back under another kernel: which one ran, and what ran on it.
type memory struct {
	path string
	log  *slog.Logger
	boot string // of the present kernel; empty: it can't be read
	last memoryDocument
}

// memoryDocument is the file. Domains are those that ran.
type memoryDocument struct {
	Version int                  `json:"version"`
	Boot    string               `json:"boot"`
	Domains []correlate.Affected `json:"domains"`
}

const (
	memoryFile    = "host.json"
	memoryVersion = 1
	rememberEvery = 2 * time.Second
	maxMemory     = 16 << 20 // bytes
)

// recall reads what the last run has left. A file that can't be understood is as if there were none: what it says is of use once.
func recall(dir, boot string, log *slog.Logger) *memory {
	m := &memory{path: filepath.Join(dir, memoryFile), log: log, boot: boot}
	err := durable.Sweep(m.path)
	if err == nil {
		var info os.FileInfo
		if info, err = os.Stat(m.path); err == nil && info.Size() > maxMemory {
			err = fmt.Errorf("it is %d bytes long", info.Size())
		}
	}
	var text []byte
	if err == nil {
		text, err = os.ReadFile(m.path)
	}
	if err == nil {
		err = json.Unmarshal(text, &m.last)
	}
	if err == nil && m.last.Version != memoryVersion {
		err = fmt.Errorf("version %d is unknown, this agent writes %d", m.last.Version, memoryVersion)
	}
	if err != nil {
		m.last = memoryDocument{}
		if !errors.Is(err, os.ErrNotExist) {
			log.Warn("what ran on this host before is not known: a restart of the host will not be noticed this time", "file", m.path, "error", err)
		}
	}
	return m
}

// restarted reports whether the kernel is another one than when the agent ran last.
func (m *memory) restarted() bool { return m.boot != "" && m.last.Boot != "" && m.boot != m.last.Boot }

// events are what this host says of itself at the start: what peers have said of it, and it of itself on its way down, is over;
// and if the kernel is another one, that it was restarted.
func (m *memory) events(host correlate.ID, now time.Time) []correlate.Event {
	reason := correlate.ReasonReturned
	if m.restarted() {
		reason = correlate.ReasonRestarted
	}
	var events []correlate.Event
	for _, c := range []correlate.Condition{
		correlate.CondHostLost, correlate.CondAgentSilent, correlate.CondHostHung, correlate.CondHostShutdown, correlate.CondIsolated,
	} {
		events = append(events, correlate.Event{
			Source: selfSource, Resource: host, Condition: c, Status: correlate.StatusOK, Observed: now, Reason: reason,
		})
	}
	if m.restarted() {
		hit := slices.Clone(m.last.Domains)
		for i := range hit {
			hit[i].State = correlate.StateFailed
		}
		booted, err := hw.Root{}.BootTime(now)
		if err != nil {
			booted = now
		}
		why := hosthw.LastRestart(hw.Root{}, booted)
		evidence := map[string]string{"boot_id": m.boot, "boot_id_before": m.last.Boot}
		maps.Copy(evidence, why.Evidence)
		events = append(events, correlate.Event{
			Source: selfSource, Resource: host, Condition: correlate.CondHostRestarted, Status: correlate.StatusFailed, Observed: now,
			Occurred: booted, Hit: hit,
			Text:     fmt.Sprintf("the host was restarted (%s); %d domains were running on it", why.Text, len(hit)),
			Evidence: evidence,
		})
	}
	return events
}

// remember keeps the file in step with the domains that run, until ctx ends.
func (a *Agent) remember(ctx context.Context) error {
	every := time.NewTicker(rememberEvery)
	defer every.Stop()
	for {
		select {
		case <-every.C:
			a.rememberOnce(ctx)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// rememberOnce writes the file if it has changed. Before the domains were listed once there is nothing to say.
func (a *Agent) rememberOnce(ctx context.Context) {
	m := a.memory
	if m.boot == "" || !a.loop.turning() || a.restating() {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	doc := memoryDocument{Version: memoryVersion, Boot: m.boot}
	if err := a.Query(ctx, func(e *correlate.Engine) { doc.Domains = e.Running() }); err != nil {
		return // it is asked again
	}
	if m.last.Boot == doc.Boot && slices.EqualFunc(m.last.Domains, doc.Domains, correlate.SameAffected) {
		return
	}
	text, err := json.Marshal(doc)
	if err == nil {
		err = durable.Replace(m.path, text)
	}
	if err != nil {
		m.log.Warn("what runs on this host could not be noted for the case that it is restarted", "file", m.path, "error", err)
	}
	m.last = doc // and not again before it changes, if the disk does not take it
}

// shutdownNotice bounds how long the last word of a host that goes down may take to reach its consumers.
const shutdownNotice = 1500 * time.Millisecond

// goodbye says why this host leaves: to its consumers when it goes down, and to its peers in any case.
func (a *Agent) goodbye(ctx context.Context) {
	a.mu.Lock()
	c := a.config
	running := a.running != nil
	a.mu.Unlock()
	if !running || !a.loop.turning() || !a.shuttingDown(ctx) {
		return
	}
	if a.cluster != nil {
		a.cluster.Leaving(watch.LeftShutdown)
	}
	a.self.offer(correlate.Delta{Events: []correlate.Event{{
		Source: selfSource, Resource: hostID(c), Condition: correlate.CondHostShutdown, Status: correlate.StatusFailed, Observed: time.Now(),
		Text: "the host is going down",
	}}})
	ctx, cancel := context.WithTimeout(ctx, shutdownNotice)
	defer cancel()
	poll := time.NewTicker(5 * time.Millisecond)
	defer poll.Stop()
	for raised := false; ; {
		if !raised {
			if a.Query(ctx, func(e *correlate.Engine) { raised = e.Stands(hostID(c), correlate.CondHostShutdown) }) != nil {
				return
			}
		} else if !a.notifier.Owes(correlate.CondHostShutdown) {
			return
		}
		select {
		case <-poll.C:
		case <-ctx.Done():
			return // peers go on with it
		}
	}
}

// systemStopping asks systemd whether it is shutting the host down (SystemState of org.freedesktop.systemd1.Manager). Without
// systemd nobody knows: then the agent is stopped, and the host is not.
func systemStopping(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, 500*time.Millisecond)
	defer cancel()
	conn, err := systemd.NewSystemConnectionContext(ctx)
	if err != nil {
		return false
	}
	defer conn.Close()
	state, err := conn.SystemStateContext(ctx)
	if err != nil {
		return false
	}
	name, _ := state.Value.Value().(string)
	return name == "stopping"
}
