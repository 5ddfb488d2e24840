package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/paramedic-ha/paramedic/gossip"
	"github.com/paramedic-ha/paramedic/gossip/simnet"
)

// simulated runs the real replica and codec on a network in memory (gossip/simnet), in virtual time: what a change and a
// repair take in messages and round trips. It knows of no processor that is busy, of no switch that is full, and of no
// membership: a change is pushed to each once, and what is lost waits for the exchange of digests, without the gossip that a
// real cluster has behind the push. So losses cost more here than they do there.
func simulated(ctx context.Context, p plan, r *report) error {
	before := machineNow()
	var rows []func()
	row := func(name string, s spread) { rows = append(rows, func() { r.row(name, s) }) }
	for _, loss := range []float64{0, 0.01, 0.05, 0.2} {
		each, all, err := spreadOf(ctx, p.simulated, loss)
		if err != nil {
			return fmt.Errorf("loss %g: %w", loss, err)
		}
		row(fmt.Sprintf("a change at each other host, %g %% lost", 100*loss), each)
		row(fmt.Sprintf("**a change at the last of all, %g %% lost**", 100*loss), all)
	}
	healed, bytes, err := healOf(ctx, p.simulated)
	if err != nil {
		return err
	}
	r.heading(fmt.Sprintf("%d simulated hosts, virtual time", p.simulated), before)
	r.line("Real replica and codec, 0.2 to 0.5 ms one way; no processor, no membership, no gossip behind the direct push.\n")
	r.table("virtual time")
	for _, f := range rows {
		f()
	}
	total := r.row("**halves with 100 changes each, and 30 s apart, are level**", healed)
	r.line("\nAt rest each host sends %.0f bytes a second of digests (payload, without headers), and as much to %d hosts as to 10 (%.0f).",
		bytes[1], p.simulated, bytes[0])
	r.flat(fmt.Sprintf("digests of each host at rest from 10 to %d simulated hosts", p.simulated), bytes[1]/bytes[0])
	r.verdict("until all are level, longest, virtual", total.at(100), healAim)
	return nil
}

const simulatedLimit = time.Minute // of virtual time

// simulate makes a network of hosts that hold each other's first record.
func simulate(seed uint64, hosts int, loss float64) (*simnet.Net, error) {
	net := simnet.New(seed, simnet.LAN)
	for n := range hosts {
		x, err := net.Add(fmt.Sprintf("cmp-%04d", n))
		if err != nil {
			return nil, err
		}
		if err := x.Set(gossip.KindHost, "", "{}"); err != nil {
			return nil, err
		}
	}
	if _, ok := net.RunUntil(time.Second, simulatedLimit, net.Converged); !ok {
		return nil, errors.New("the hosts do not become level at first")
	}
	net.Link.Loss = loss
	return net, nil
}

// spreadOf changes something at one host after the other and notes when each other one has it.
func spreadOf(ctx context.Context, hosts int, loss float64) (each, all spread, err error) {
	net, err := simulate(1, hosts, loss)
	if err != nil {
		return nil, nil, err
	}
	const changes = 20
	for n := range changes {
		if err := ctx.Err(); err != nil {
			return nil, nil, err
		}
		from := net.Nodes()[net.Rand().IntN(hosts)]
		key := gossip.Key{Space: from.Name, Kind: gossip.KindAlarm, ID: fmt.Sprint("alarm-", n)}
		began, left, last := net.Now(), hosts-1, time.Duration(0)
		for _, x := range net.Nodes() {
			had := x == from
			x.OnResult = func(res gossip.Result) {
				for _, rec := range res.Changed {
					if !had && rec.Key == key {
						had = true
						left--
						last = net.Now().Sub(began)
						each = append(each, last)
					}
				}
			}
		}
		if err := from.Set(key.Kind, key.ID, "raised"); err != nil {
			return nil, nil, err
		}
		if _, ok := net.RunUntil(10*time.Millisecond, simulatedLimit, func() bool { return left == 0 }); !ok {
			return nil, nil, fmt.Errorf("%d hosts never heard of change %d", left, n)
		}
		all = append(all, last)
		net.Run(200 * time.Millisecond)
	}
	return each, all, nil
}

// healOf parts the hosts in halves that both go on, and heals them; and counts what few and all of them send at rest.
func healOf(ctx context.Context, hosts int) (healed spread, bytes [2]float64, err error) {
	for seed := range uint64(3) {
		net, err := simulate(seed+10, hosts, 0)
		if err != nil {
			return nil, bytes, err
		}
		net.Partition(func(x *simnet.Node) int {
			var n int
			_, _ = fmt.Sscanf(x.Name, "cmp-%d", &n)
			return n % 2
		})
		for n := range 200 {
			if err := net.Nodes()[n%hosts].Set(gossip.KindAlarm, fmt.Sprint("alarm-", n), "raised"); err != nil {
				return nil, bytes, err
			}
			net.Run(150 * time.Millisecond)
		}
		net.Heal()
		took, ok := net.RunUntil(10*time.Millisecond, simulatedLimit, net.Converged)
		if !ok {
			return nil, bytes, errors.New("the halves do not become level")
		}
		healed = append(healed, took)
		if err := ctx.Err(); err != nil {
			return nil, bytes, err
		}
	}
	for i, count := range []int{10, hosts} {
		net, err := simulate(20, count, 0)
		if err != nil {
			return nil, bytes, err
		}
		sent := func() (sum int) {
			for _, x := range net.Nodes() {
				sum += x.Sent
			}
			return sum
		}
		const period = 20
		net.Run(2 * gossip.FloorDelay) // what each says of its former life is said
		first := sent()
		net.Run(period * time.Second)
		bytes[i] = float64(sent()-first) / period / float64(count)
	}
	return healed, bytes, nil
}
