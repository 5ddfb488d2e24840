package main

import (
	"context"
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
	r.heading("Host loss: 100 simulated hosts, virtual time", before)
	r.line("Real watch, takeover and delivery; %g %% of packets lost, and each host's agent stalls %g times an hour for %v to %v and its network browns out %g times; %.0f s of processor for %.0f host-hours.\n",
		100*load.Loss, load.Stalls, load.StallLeast, load.StallMost, load.BrownOuts, time.Since(began).Seconds(), got.HostHours())
	r.table("from the death, virtual time")
	r.row("probable, verdict", got.ProbableVerdict)
	probable := r.row("**probable, consumer's POST**", got.ProbableCall)
	r.row("confirmed, verdict", got.ConfirmedVerdict)
	confirmed := r.row("**confirmed, consumer's POST**", got.ConfirmedCall)
	r.line("")
	for _, level := range []string{"probable", "confirmed"} {
		n := got.Count(level, "false")
		r.line("%s, about a living host: %d in %.0f host-hours (at 95 %%: less than %.3f an hour).", level, n, got.HostHours(), hostloss.UpperBound(n)/got.HostHours())
	}
	r.line("%d calls, %d of them with an id that the consumer had; %d of %d times two spoke.", got.Calls, got.Doubled, got.Twice, got.Spoken)
	r.verdict("from the death to the POST, probable, at p99", probable.at(99), probableAim)
	r.verdict("from the death to the POST, confirmed, at p99", confirmed.at(99), confirmedAim)
	return nil
}
