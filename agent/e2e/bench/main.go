// Command bench measures fault to callback on real parts, beside the floor: what a bare listener on the same host
// takes for the very same faults. Root, Debian; make bench installs what is lacking.
//
// It prints Markdown. What runs where:
//   - the compute host, a set of namespaces: libvirtd, the qemu processes, the agent (bin/paramedic), and during each
//     block the bare listener, which is this program again as a process of its own;
//   - this process: the consumers' HTTP servers, whose sockets are in the consumers' namespace, and who makes the faults.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// plan is how much is measured.
type plan struct {
	domains   int
	faults    int // of each kind, with the agent and the bare listener both listening
	alone     int // of each kind, with only one of them
	idle      time.Duration
	instances int // domains of the throughput loop
	consumers int // that one fault is told to
	feed      time.Duration
	only      string // one of the blocks; empty: all

	agents        int // real ones of the cluster
	changes       int // at them: cables pulled and plugged
	subscriptions int
	handOvers     int // hosts that are cut off from their consumer
	partitions    int
	simulated     int           // hosts
	rest          time.Duration // how long the traffic of a cluster at rest is counted
	cuts          int           // of hosts, for each size of the cluster
	sizes         sizes         // of the clusters that lose hosts
}

// sizes are numbers of hosts, rising.
type sizes []int

func (s *sizes) String() string {
	return strings.Trim(strings.ReplaceAll(fmt.Sprint(*s), " ", ","), "[]")
}

func (s *sizes) Set(text string) error {
	*s = nil
	for word := range strings.SplitSeq(text, ",") {
		n, err := strconv.Atoi(word)
		if err != nil || n < 5 || len(*s) > 0 && n <= (*s)[len(*s)-1] {
			return errors.New("want rising numbers from 5 on, with commas")
		}
		*s = append(*s, n)
	}
	return nil
}

func main() {
	if len(os.Args) > 1 && os.Args[1] == floorCommand {
		fmt.Fprintln(os.Stderr, "bare listener:", listen(os.Args[2:]))
		os.Exit(1)
	}
	if len(os.Args) > 1 && os.Args[1] == fleetCommand {
		if err := fleet(os.Args[2:]); err != nil {
			fmt.Fprintln(os.Stderr, "fleet:", err)
			os.Exit(1)
		}
		return
	}
	var p plan
	flag.IntVar(&p.domains, "domains", 50, "domains on the compute host")
	flag.IntVar(&p.faults, "faults", 120, "faults of each kind that the agent and the bare listener both see")
	flag.IntVar(&p.alone, "alone", 40, "faults of each kind that only one of them sees")
	flag.DurationVar(&p.idle, "idle", 30*time.Second, "how long the idle agent is watched")
	flag.IntVar(&p.instances, "instances", 1000, "domains of the throughput loop")
	flag.IntVar(&p.consumers, "consumers", 200, "consumers that one fault is told to")
	flag.DurationVar(&p.feed, "feed", 5*time.Second, "how long the throughput loop is fed")
	flag.StringVar(&p.only, "only", "", "measure nothing but this: throughput, many, link, domain, idle, peers, hostloss (of it lossmodel) or cluster (of it agents, fleet or simulated)")
	flag.IntVar(&p.agents, "agents", 50, "real agents of the cluster")
	flag.IntVar(&p.changes, "changes", 200, "changes at one agent that all others hear of")
	flag.IntVar(&p.subscriptions, "subscriptions", 20, "subscriptions that all agents hear of")
	flag.IntVar(&p.handOvers, "handovers", 6, "agents that are cut off from their consumer")
	flag.IntVar(&p.partitions, "partitions", 3, "partitions of the cluster")
	flag.IntVar(&p.simulated, "simulated", 1000, "simulated hosts")
	flag.DurationVar(&p.rest, "rest", 10*time.Second, "how long the traffic of a cluster at rest is counted")
	flag.IntVar(&p.cuts, "cuts", 20, "hosts that are cut off, one after the other, at each size of the cluster")
	p.sizes = sizes{10, 30, 50}
	flag.Var(&p.sizes, "sizes", "how many real agents the clusters have that lose hosts")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, p, os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, p plan, out io.Writer) (err error) {
	began := time.Now()
	r := report{out: out}
	wanted := func(block string) bool { return p.only == "" || p.only == block }
	if wanted("throughput") {
		if err := throughput(ctx, p, &r); err != nil {
			return fmt.Errorf("throughput: %w", err)
		}
	}
	if wanted("many") {
		if err := many(ctx, p, &r); err != nil {
			return fmt.Errorf("many: %w", err)
		}
	}
	for _, b := range []struct {
		block, name string
		measure     func(context.Context, plan, *report) error
	}{{"cluster", "agents", agents}, {"cluster", "fleet", fleets}, {"cluster", "simulated", simulated}, {"hostloss", "hostloss", hostLoss}, {"hostloss", "lossmodel", lossModel}} {
		if wanted(b.block) || p.only == b.name {
			if err := b.measure(ctx, p, &r); err != nil {
				return fmt.Errorf("%s: %w", b.name, err)
			}
			r.line("%.0f s so far.", time.Since(began).Seconds())
		}
	}
	if slices.Contains([]string{"throughput", "many", "cluster", "agents", "fleet", "simulated", "hostloss", "lossmodel"}, p.only) {
		return nil
	}
	s, err := build(p)
	if s != nil {
		defer func() { err = errors.Join(err, s.close()) }()
	}
	if err != nil {
		return err
	}
	for _, k := range []kind{s.linkFault(), s.domainFault()} {
		if !wanted(k.short) {
			continue
		}
		if err := s.measure(ctx, k, p, &r); err != nil {
			return fmt.Errorf("%s: %w; the agent says: %s", k.name, err, s.agentLog())
		}
	}
	if wanted("idle") {
		if err := s.idle(ctx, p, &r); err != nil {
			return fmt.Errorf("idle: %w", err)
		}
	}
	if wanted("peers") {
		if err := s.peers(ctx, p, &r); err != nil {
			return fmt.Errorf("peers: %w; the agent says: %s", err, s.agentLog())
		}
	}
	r.line("%.0f s in all.", time.Since(began).Seconds())
	return nil
}
