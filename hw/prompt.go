package hw

import (
	"context"
	"time"
)

// Prompt asks a source that polls to look now: another one has seen a sign that there is something to see. Nil asks nobody.
type Prompt chan struct{}

// NewPrompt makes one. It belongs to the source that looks and outlives its Runs.
func NewPrompt() Prompt { return make(Prompt, 1) }

// Give never blocks. What was given since the source looked last is one prompt.
func (p Prompt) Give() {
	select {
	case p <- struct{}{}:
	default:
	}
}

// soon and settle are how long after a prompt a source looks again, and once more.
const (
	soon   = 10 * time.Millisecond
	settle = 100 * time.Millisecond
)

// Rounds say when a source looks: every interval, and at once when it is prompted. The kernel writes its line before it
// counts, so that a look after a prompt may come too early: others follow after ten and a hundred milliseconds, and until then
// no prompt is taken. A storm costs ten looks a second. Not safe for several goroutines.
type Rounds struct {
	tick   *time.Ticker
	again  *time.Timer
	prompt Prompt
	left   time.Duration // what comes after the look that again is for; zero: nothing
	busy   bool          // again runs
}

// NewRounds begins now. prompt may be nil.
func NewRounds(interval time.Duration, prompt Prompt) *Rounds {
	r := &Rounds{tick: time.NewTicker(interval), again: time.NewTimer(settle), prompt: prompt}
	r.again.Stop()
	return r
}

// Next waits for the time of the next look; an error is that of ctx.
func (r *Rounds) Next(ctx context.Context) error {
	prompt := r.prompt
	if r.busy {
		prompt = nil
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-r.tick.C:
		return nil
	case <-r.again.C:
		if r.left > 0 {
			r.again.Reset(r.left)
			r.left = 0
			return nil
		}
		select {
		case <-r.prompt:
			r.again.Reset(settle)
		default:
			r.busy = false
		}
		return nil
	case <-prompt:
		r.busy, r.left = true, settle-soon
		r.again.Reset(soon)
		return nil
	}
}

// Stop lets go of the timers.
func (r *Rounds) Stop() {
	r.tick.Stop()
	r.again.Stop()
}
