// Package virt watches the host's virtual machines through libvirt: which there are, whose they are, what they hang
// on, and what befalls them. docs/virt.md says what is read, which right it takes and which stops count as faults.
package virt

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"net/url"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/paramedic-ha/paramedic/correlate"
	"github.com/paramedic-ha/paramedic/hw"
)

// Name is the source's name.
const Name = "virt"

// Hypervisor is the resource that stands for libvirt itself. Domains don't need it: without it we are blind, and
// they go on.
const Hypervisor correlate.ID = "hypervisor/libvirt"

// Config is what a source is made of. The zero value of each field is its default.
type Config struct {
	// URI is libvirt's connection URI, of this host; default qemu:///system.
	URI string
	// Socket is libvirt's socket; default: the first of the known ones that answers (see docs/virt.md). The
	// read-only one suffices.
	Socket string
	// Timeout is how long libvirt may take to open, to subscribe and to answer a ping; default 2 s. Calls that may have
	// to wait for a domain get ten times as much as long as pings are answered.
	Timeout time.Duration
	// Resync is how often the state of all domains is read again; default 10 s.
	Resync time.Duration
	Owners Owners
	VNFs   VNFs
	// Host is the resource that every domain needs; empty: none.
	Host correlate.ID
	// Devices is told when the list of a domain's vnics or vdisks has changed, after it was emitted. It is called by
	// the goroutine that runs the source and must not block. May be nil.
	Devices func(domain correlate.ID)
	Log     *slog.Logger
}

const (
	defaultURI     = "qemu:///system"
	defaultTimeout = 2 * time.Second
	defaultResync  = 10 * time.Second
	// pingEvery bounds how long a frozen daemon goes unnoticed, beside Timeout.
	pingEvery = 2 * time.Second
	// A connection that broke is tried again at once, then less and less often.
	firstBackoff, lastBackoff = 20 * time.Millisecond, 2 * time.Second
)

type source struct {
	Config
	sockets []string
	owners  *ownership
	counts  counters
}

// counters are of the source's whole life, over all connections.
type counters struct{ connections, events, dropped atomic.Uint64 }

// New checks the configuration. The source holds no connection before Run.
func New(cfg Config) (hw.Source, error) {
	if cfg.URI == "" {
		cfg.URI = defaultURI
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = defaultTimeout
	}
	if cfg.Resync == 0 {
		cfg.Resync = defaultResync
	}
	if cfg.Timeout < 0 || cfg.Resync < 0 {
		return nil, fmt.Errorf("hw.virt: timeout %v and resync %v must not be negative", cfg.Timeout, cfg.Resync)
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	sockets, err := socketsFor(cfg.URI, cfg.Socket)
	if err != nil {
		return nil, err
	}
	owners, err := newOwnership(cfg.Owners, cfg.VNFs)
	if err != nil {
		return nil, err
	}
	return &source{Config: cfg, sockets: sockets, owners: owners}, nil
}

// The daemon of each driver in libvirt's modular form (https://libvirt.org/daemons.html).
var modular = map[string]string{"qemu": "virtqemud", "lxc": "virtlxcd", "xen": "virtxend", "ch": "virtchd", "bhyve": "virtbhyved", "vz": "virtvzd"}

// socketsFor lists the sockets to try, in order. The modular daemon comes before libvirtd's socket, because that may
// be virtproxyd's: a proxy in between would hide that the daemon behind it was restarted.
func socketsFor(uri, socket string) ([]string, error) {
	u, err := url.Parse(uri)
	if err != nil {
		return nil, fmt.Errorf("hw.virt.uri: %w", err)
	}
	switch {
	case u.Scheme == "":
		return nil, fmt.Errorf("hw.virt.uri: %q has no driver: want, for instance, qemu:///system", uri)
	case u.Host != "" || strings.Contains(u.Scheme, "+"):
		return nil, fmt.Errorf("hw.virt.uri: %q is on another host or over a transport: only this host's libvirt is watched, for instance qemu:///system", uri)
	case socket != "":
		return []string{socket}, nil
	case u.Path == "/session":
		return nil, fmt.Errorf("hw.virt.uri: %q is one user's libvirt: name its socket in hw.virt.socket", uri)
	}
	var list []string
	if daemon := modular[u.Scheme]; daemon != "" {
		list = append(list, "/run/libvirt/"+daemon+"-sock-ro")
	}
	return append(list, "/run/libvirt/libvirt-sock-ro"), nil
}

func (s *source) Name() string { return Name }

// Counts implements hw.Counted.
func (s *source) Counts() map[string]uint64 {
	return map[string]uint64{
		"connections": s.counts.connections.Load(), "events": s.counts.events.Load(), "dropped": s.counts.dropped.Load(),
	}
}

// Run implements hw.Source.
func (s *source) Run(ctx context.Context, sink hw.Sink) error {
	r := &run{source: s, sink: sink, track: newTracker(s.Host, s.owners), log: s.Log}
	backoff := firstBackoff
	for {
		began := time.Now()
		err := r.session(ctx)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		var denied *emitError
		if errors.As(err, &denied) {
			return denied.err
		}
		if err := r.lost(ctx, err, time.Now()); err != nil {
			return err
		}
		if time.Since(began) > 10*lastBackoff {
			backoff = firstBackoff // it held for a while
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(backoff):
		}
		backoff = min(2*backoff, lastBackoff)
	}
}

// run is one Run of a source.
type run struct {
	*source
	sink  hw.Sink
	track *tracker
	log   *slog.Logger

	facts         map[string]string // of the hypervisor, as last read
	everConnected bool
	said          string // the text of the last unreachable event; empty while reachable
	saidAbsent    bool
}

// emitError ends Run: the sink takes nothing any more.
type emitError struct{ err error }

func (e *emitError) Error() string { return "emitting: " + e.err.Error() }
func (e *emitError) Unwrap() error { return e.err }

func (r *run) emit(ctx context.Context, d correlate.Delta) error {
	if !d.Full && len(d.Set) == 0 && len(d.Gone) == 0 && len(d.Events) == 0 {
		return nil
	}
	if err := r.sink.Emit(ctx, d); err != nil {
		return &emitError{err}
	}
	for _, id := range r.track.changed {
		if r.Devices != nil {
			r.Devices(id)
		}
	}
	r.track.changed = r.track.changed[:0]
	return nil
}

// lost says once that libvirt can't be reached, and why.
func (r *run) lost(ctx context.Context, err error, at time.Time) error {
	if !r.everConnected && errors.Is(err, fs.ErrNotExist) {
		r.saidAbsent = true
		r.sink.Health(hw.Health{Sight: hw.SightAbsent, Text: "no libvirt socket (" + strings.Join(r.sockets, ", ") + ")"})
		return nil
	}
	text := err.Error() + remedy(err)
	r.sink.Health(hw.Health{Sight: hw.SightDegraded, Text: text})
	if r.said != "" {
		return nil // while it lasts, each try may fail in its own way
	}
	r.said = text
	return r.emit(ctx, correlate.Delta{
		Source: Name,
		Set:    []correlate.Resource{r.hypervisor()},
		Events: []correlate.Event{{
			Source: Name, Resource: Hypervisor, Condition: correlate.CondHypervisorUnreachable, Status: correlate.StatusFailed,
			Text: text, Observed: at,
		}},
	})
}

func remedy(err error) string {
	switch {
	case errors.Is(err, fs.ErrPermission):
		return ": give the agent's user the right to it (usually the group libvirt), or name another socket in hw.virt.socket"
	case errors.Is(err, syscall.ECONNREFUSED):
		return ": nobody listens there; is the daemon running?"
	}
	return ""
}

func (r *run) hypervisor() correlate.Resource {
	return correlate.Resource{ID: Hypervisor, Name: "libvirt", Facts: maps.Clone(r.facts)}
}

// found is the full truth after a connection was made.
func (r *run) found(ctx context.Context, a *answer, facts map[string]string) error {
	r.counts.connections.Add(1)
	d := r.track.take(a, true)
	if r.facts == nil {
		r.facts = facts // the versions follow; until then those of the last connection stand
	}
	d.Set = append(d.Set, r.hypervisor())
	d.Events = append(d.Events, correlate.Event{
		Source: Name, Resource: Hypervisor, Condition: correlate.CondHypervisorUnreachable, Status: correlate.StatusOK, Observed: a.at,
	})
	if r.said != "" || r.saidAbsent || !r.everConnected {
		r.log.Info("libvirt is watched", "uri", r.URI, "socket", facts["socket"], "domains", len(r.track.domains))
	}
	r.everConnected, r.said, r.saidAbsent = true, "", false
	if err := r.emit(ctx, d); err != nil {
		return err
	}
	r.sink.Health(hw.Health{Sight: hw.SightClear}) // last: not before the domains are told
	return nil
}
