package main

import (
	"context"
	"fmt"
	"time"

	"github.com/paramedic-ha/paramedic/agent/sim/hostloss"
)

// lossModel runs the real watch, takeover and delivery of a hundred hosts in virtual time (agent/sim/hostloss), under loss and
// stalls that a laboratory can't make: how soon a dead host is told of, and how often a living one.
func lossModel(_ context.Context, _ plan, r *report) error {
	before, began := machineNow(), time.Now()
	load := hostloss.Load{
		Hosts: 100, For: 40 * time.Minute, Loss: 0.05, Deaths: 600,
		Stalls: 36, StallLeast: 50 * time.Millisecond, StallMost: 300 * time.Millisecond, BrownOuts: 12,
	}
	got := hostloss.Measure(1, load)
	if got.Err != nil {
		return got.Err
	}
	r.section(fmt.Sprintf("Host loss: 100 simulated hosts, %.0f host-hours, virtual time from the death", got.HostHours()), before)
	r.note("Real watch, takeover and delivery; %g %% of packets lost, and each host's agent stalls %g times an hour for %v to %v and its network browns out %g times; %.0f s of processor.",
		100*load.Loss, load.Stalls, load.StallLeast, load.StallMost, load.BrownOuts, time.Since(began).Seconds())
	r.times("probable, verdict", got.ProbableVerdict)
	r.times("**probable, consumer's POST**", got.ProbableCall, aim{99, probableAim})
	r.times("confirmed, verdict", got.ConfirmedVerdict)
	r.times("**confirmed, consumer's POST**", got.ConfirmedCall, aim{99, confirmedAim})
	for _, level := range []string{"probable", "confirmed"} {
		n := got.Count(level, "false")
		r.atMost(level+", about a living host", float64(n), "", 0)
		r.note("At 95 %%: less than %.3f an hour.", hostloss.UpperBound(n)/got.HostHours())
	}
	r.value(fmt.Sprintf("of %d calls, with an id that the consumer had", got.Calls), float64(got.Doubled), "")
	r.note("%d of %d times two spoke.", got.Twice, got.Spoken)
	return nil
}
