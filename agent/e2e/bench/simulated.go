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
	few, err := simulate(few)
	if err != nil {
		return err
	}
	all, err := simulate(p.simulated)
	if err != nil {
		return err
	}
	bytes := [2]float64{sentAtRest(few), sentAtRest(all)}
	var rows []func()
	row := func(name string, s spread) { rows = append(rows, func() { r.times(name, s) }) }
	for _, loss := range []float64{0, 0.01, 0.05, 0.2} {
		all.Link.Loss = loss
		each, last, err := spreadOf(ctx, all)
		if err != nil {
			return fmt.Errorf("loss %g: %w", loss, err)
		}
		row(fmt.Sprintf("a change at each other host, %g %% lost", 100*loss), each)
		row(fmt.Sprintf("**a change at the last of all, %g %% lost**", 100*loss), last)
	}
	all.Link.Loss = 0
	healed, err := healOf(ctx, all)
	if err != nil {
		return err
	}
	r.section(fmt.Sprintf("%d simulated hosts, virtual time", p.simulated), before)
	for _, f := range rows {
		f()
	}
	r.times("**halves with 100 changes each, and 30 s apart, are level**", healed, aim{100, healAim})
	r.value("at rest: digests of each host, sent", bytes[1], "bytes/s")
	r.flat(fmt.Sprintf("the same, from 10 to %d hosts", p.simulated), bytes[1]/bytes[0])
	return nil
}

const simulatedLimit = time.Minute // of virtual time

// simulate makes a network of hosts that hold each other's first record and have nothing more to say.
func simulate(hosts int) (*simnet.Net, error) {
	net := simnet.New(1, simnet.LAN)
	for n := range hosts {
		if _, err := net.Add(fmt.Sprintf("cmp-%04d", n)); err != nil {
			return nil, err
		}
	}
	for _, x := range net.Nodes() {
		if err := x.Set(gossip.KindHost, "", "{}"); err != nil {
			return nil, err
		}
	}
	net.Run(2 * gossip.FloorDelay) // what is void of a former life is said, too
	if _, ok := net.RunUntil(time.Second, simulatedLimit, net.Converged); !ok {
		return nil, errors.New("the hosts do not become level at first")
	}
	return net, nil
}

// sentAtRest is what each host sends a second while nothing happens, in bytes.
func sentAtRest(net *simnet.Net) float64 {
	sent := func() (sum int) {
		for _, x := range net.Nodes() {
			sum += x.Sent
		}
		return sum
	}
	const period = 20
	first := sent()
	net.Run(period * time.Second)
	return float64(sent()-first) / period / float64(len(net.Nodes()))
}

// spreadOf changes something at one host after the other and notes when each other one has it.
func spreadOf(ctx context.Context, net *simnet.Net) (each, all spread, err error) {
	const changes = 8
	for range changes {
		if err := ctx.Err(); err != nil {
			return nil, nil, err
		}
		from := net.Nodes()[net.Rand().IntN(len(net.Nodes()))]
		key := gossip.Key{Space: from.Name, Kind: gossip.KindAlarm, ID: fmt.Sprint("alarm-", net.Now().UnixNano())}
		began, left, last := net.Now(), len(net.Nodes())-1, time.Duration(0)
		for _, x := range net.Nodes() {
			had := x == from
			x.OnResult = func(res gossip.Result) {
				for i := range res.Changed {
					if !had && res.Changed[i].Key == key {
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
		if _, ok := net.RunUntil(50*time.Millisecond, simulatedLimit, func() bool { return left == 0 }); !ok {
			return nil, nil, fmt.Errorf("%d hosts never heard of a change", left)
		}
		all = append(all, last)
	}
	for _, x := range net.Nodes() {
		x.OnResult = nil
	}
	return each, all, nil
}

// healOf parts the hosts in halves that both go on, and heals them, three times.
func healOf(ctx context.Context, net *simnet.Net) (healed spread, err error) {
	for range 3 {
		side := map[*simnet.Node]int{}
		for n, x := range net.Nodes() {
			side[x] = n % 2
		}
		net.Partition(func(x *simnet.Node) int { return side[x] })
		for n := range 200 {
			if err := net.Nodes()[n%len(side)].Set(gossip.KindAlarm, fmt.Sprint("alarm-", n), net.Now().String()); err != nil {
				return nil, err
			}
			net.Run(150 * time.Millisecond)
		}
		net.Heal()
		took, ok := net.RunUntil(50*time.Millisecond, simulatedLimit, net.Converged)
		if !ok {
			return nil, errors.New("the halves do not become level")
		}
		healed = append(healed, took)
		if err := ctx.Err(); err != nil {
			return nil, err
		}
	}
	return healed, nil
}
