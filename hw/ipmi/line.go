package ipmi

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/paramedic-ha/paramedic/hw"
)

const (
	// strikes is after how many commands in a row without an answer the BMC counts as silent.
	strikes = 3
	// While it is silent one command is sent now and then, the pause doubling from the first to the longest.
	firstPause   = time.Second
	longestPause = 30 * time.Second
	// A BMC that is busy, or starts, is asked again so often, after so long.
	busyTries = 4
	busyPause = 50 * time.Millisecond
)

// line is the way to the BMC. It belongs to one goroutine. Each command ends within the timeout; one that the driver has not
// answered by then is given up, and until its answer comes, or the driver's own end of it, no other is sent.
type line struct {
	open    func() (Transport, error)
	timeout time.Duration

	transport Transport
	pending   chan answer // of a command that was given up
	missed    int         // commands in a row without an answer

	commands, timeouts atomic.Uint64
}

type answer struct {
	data []byte
	err  error
}

// do sends a command. The error is a CompletionError when the BMC refuses, errSilent when it does not answer, ctx.Err(), or else
// that of the transport, which then is to be closed.
func (l *line) do(ctx context.Context, r Request) ([]byte, error) {
	for try := 1; ; try++ {
		data, err := l.once(ctx, r)
		var code CompletionError
		if !errors.As(err, &code) || code != errBusy || try == busyTries {
			return data, err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(busyPause):
		}
	}
}

func (l *line) once(ctx context.Context, r Request) ([]byte, error) {
	limit := time.NewTimer(l.timeout)
	defer limit.Stop()
	if l.pending != nil {
		select {
		case late := <-l.pending:
			l.pending = nil
			if _, err := l.judge(late); isBroken(err) && l.transport != nil {
				return nil, err
			}
		case <-limit.C:
			return nil, errSilent
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	if l.transport == nil {
		t, err := l.open()
		if err != nil {
			return nil, err
		}
		l.transport = t
	}
	l.commands.Add(1)
	answered := make(chan answer, 1)
	go func(t Transport) {
		var a answer
		if err := hw.Contain(func() error { a.data, a.err = t.Do(r); return nil }); err != nil {
			a.err = err
		}
		answered <- a
	}(l.transport)
	select {
	case a := <-answered:
		return l.judge(a)
	case <-ctx.Done():
		l.pending = answered
		return nil, ctx.Err()
	case <-limit.C:
		l.pending = answered
		l.missed++
		l.timeouts.Add(1)
		return nil, errSilent
	}
}

// judge sees from an answer whether the BMC lives.
func (l *line) judge(a answer) ([]byte, error) {
	var code CompletionError
	switch {
	case a.err == nil:
	case !errors.As(a.err, &code):
		return nil, a.err
	case code == errTimedOut: // the driver's word for no answer
		l.missed++
		l.timeouts.Add(1)
		return nil, errSilent
	}
	l.missed = 0
	return a.data, a.err
}

// isBroken reports whether an error of do says that the transport is of no use.
func isBroken(err error) bool {
	var code CompletionError
	return err != nil && !errors.As(err, &code) && !errors.Is(err, errSilent) &&
		!errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded)
}

// silent reports whether the BMC has not answered for a while: only answering can end it.
func (l *line) silent() bool { return l.missed >= strikes }

// attention is that of the transport; nil without one.
func (l *line) attention() <-chan struct{} {
	if l.transport == nil {
		return nil
	}
	return l.transport.Attention()
}

// close gives the device up, and with it a command that is under way. One that is stuck in the driver nevertheless keeps its
// goroutine, the only one there can be, as no other is sent before it ends.
func (l *line) close() error {
	if l.transport == nil {
		return nil
	}
	err := l.transport.Close()
	l.transport = nil
	if l.pending != nil {
		select {
		case <-l.pending:
			l.pending = nil
		case <-time.After(l.timeout):
		}
	}
	if err != nil {
		return fmt.Errorf("close the BMC's device: %w", err)
	}
	return nil
}
