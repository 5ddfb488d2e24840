// Package hw is what paramedic knows of its own host: each subpackage is one source (links, domains, …).
//
// A source is level-triggered: it can restate its full current state at any time, and edges only make it faster. It
// never touches the engine; it hands deltas to a Sink, and the process in agent/ does the rest.
package hw

import (
	"context"
	"fmt"
	"runtime/debug"

	"github.com/paramedic-ha/paramedic/correlate"
)

// Source watches one part of the host.
type Source interface {
	// Name is short, constant and unique; it is Delta.Source and the name in status and metrics.
	Name() string
	// Run watches until ctx ends and then returns ctx.Err(). Any other return is a failure: the supervisor starts Run
	// again with backoff. Each Run starts by stating the full truth (Delta.Full). Run owns every goroutine that it
	// starts and has ended them all when it returns. A panic is caught by the supervisor.
	Run(ctx context.Context, sink Sink) error
}

// Sink takes what a source sees. Safe for concurrent use.
type Sink interface {
	// Emit queues a delta. It coalesces per resource and condition with what is still queued from the same source, and
	// blocks while that source's queue is full; it returns early only with ctx.Err(). The delta is the Sink's from then on.
	Emit(ctx context.Context, d correlate.Delta) error
	// Health says how well the source sees. It never blocks; only changes are acted on.
	Health(h Health)
}

// Sight is how well a source sees.
type Sight uint8

// SightBlind raises an alarm about ourselves; SightAbsent (nothing to watch: no BMC, no libvirt) is said once in the
// log and stands in status; SightDegraded (a missing right) stands in status and is no alarm.
const (
	SightClear Sight = iota
	SightDegraded
	SightAbsent
	SightBlind
)

func (s Sight) String() string {
	switch s {
	case SightClear:
		return "clear"
	case SightDegraded:
		return "degraded"
	case SightAbsent:
		return "absent"
	case SightBlind:
		return "blind"
	}
	return "sight?"
}

// Health is a source's word about itself.
type Health struct {
	Sight Sight
	// Text says what is wrong and the remedy; empty when clear.
	Text string
}

// Counted is implemented by sources that count what happens to them; the process exports the counts.
type Counted interface {
	// Counts gives the present value of each counter by its name, in the form of a metric label. Values only grow while
	// the source lives. It may be called from any goroutine and does not block.
	Counts() map[string]uint64
}

// PanicError is a panic that Contain caught. Its text is one line; the stack is for the log.
type PanicError struct {
	Value any
	Stack []byte
}

func (e *PanicError) Error() string { return fmt.Sprintf("panic: %v", e.Value) }

// Contain runs f and returns a panic of it as a *PanicError. The supervisor catches the panics of Run's own goroutine
// only, so whatever else a source starts runs in here.
func Contain(f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = &PanicError{Value: p, Stack: debug.Stack()}
		}
	}()
	return f()
}
