package agent

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/paramedic-ha/paramedic/correlate"
)

// What feeds the watchdog is the loop that decides, between its steps, and no clock beside it: when it stands still in a call or in a
// step, nothing is fed, however well all the rest does.
func TestALoopThatStandsStillFeedsNoWatchdog(t *testing.T) {
	for where, block := range map[string]func(l *loop, until <-chan struct{}){
		"in a call": func(l *loop, until <-chan struct{}) {
			go func() { _ = l.call(context.Background(), func(time.Time) { <-until }) }()
		},
		"in a step": func(l *loop, _ <-chan struct{}) { l.queue("nic").offer(carrierLost) },
	} {
		t.Run(where, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newLoop(prometheus.NewRegistry(), remembering(), time.Now)
				l.engine = correlate.New(correlate.Config{Home: "cmp-1", Term: 2}, nil)
				until := make(chan struct{})
				l.publish = func(correlate.Effects) { <-until }
				var beats atomic.Int64
				l.beat = func() { beats.Add(1) }
				// in is how often it beats in a time.
				in := func(d time.Duration) int64 {
					before := beats.Load()
					time.Sleep(d)
					return beats.Load() - before
				}
				ctx, cancel := context.WithCancel(t.Context())
				ended := make(chan error)
				go func() { ended <- l.run(ctx) }()
				synctest.Wait()
				if got := in(10 * l.beatGap); got < 9 {
					t.Errorf("it turns, and beat %d times in ten gaps", got)
				}
				block(l, until)
				synctest.Wait()
				if got := in(100 * l.beatGap); got != 0 {
					t.Errorf("it stands still, and beat %d times", got)
				}
				close(until)
				if got := in(10 * l.beatGap); got < 9 {
					t.Errorf("it turns again, and beat %d times in ten gaps", got)
				}
				cancel()
				if err := <-ended; !errors.Is(err, context.Canceled) {
					t.Errorf("it ended with %v", err)
				}
			})
		})
	}
}
