// Command bench measures on real parts: fault to callback beside the floor, which is what a bare listener on the same host
// takes for the very same faults, and beside Prometheus; then many consumers, clusters, hosts that are lost. Root, Debian;
// make bench installs what is lacking.
//
// It prints one table, as Markdown, when all is measured, and on standard error what is measured as soon as it is. What runs where:
//   - the compute host, a set of namespaces: libvirtd, the qemu processes, the agent (bin/paramedic), and during each
//     block the bare listener, which is this program again as a process of its own;
//   - another host of the lab: Prometheus and Alertmanager, while they are measured;
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
	instances int           // domains of the throughput loop
	consumers int           // that one fault is told to
	stream    time.Duration // of faults at an even rate, without what it takes to get going
	feed      time.Duration
	beside    int           // faults that Prometheus tells, too
	benchtime time.Duration // of each Go benchmark
	only      string        // one of the blocks; empty: all
	short     bool          // one host's blocks alone, with fewer faults
	update    string        // file that keeps the table

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
	flag.IntVar(&p.alone, "alone", 20, "faults of each kind that only one of them sees")
	flag.DurationVar(&p.idle, "idle", 20*time.Second, "how long the idle agent is watched")
	flag.IntVar(&p.instances, "instances", 1000, "domains of the throughput loop")
	flag.IntVar(&p.consumers, "consumers", 200, "consumers that one fault is told to")
	flag.DurationVar(&p.stream, "stream", 5*time.Second, "how long each of the four streams of faults to fifty consumers is")
	flag.DurationVar(&p.feed, "feed", 5*time.Second, "how long the throughput loop is fed")
	flag.IntVar(&p.beside, "beside", 48, "faults that Prometheus tells, too")
	flag.DurationVar(&p.benchtime, "benchtime", time.Second, "how long each Go benchmark runs")
	flag.StringVar(&p.only, "only", "", "measure nothing but this: link, beside, domain, idle, peers, many, throughput, go, cluster (of it agents, fleet or simulated) or hostloss (of it lossmodel)")
	flag.BoolVar(&p.short, "short", false, "measure one host alone, with fewer faults: some four minutes")
	flag.StringVar(&p.update, "update", "", "put the table into this `page`, between its markers, when all of it was measured")
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
	if p.short {
		p.shorten()
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, p, os.Stdout, os.Stderr)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// shorten leaves alone what was said on the command line.
func (p *plan) shorten() {
	said := map[string]bool{}
	flag.Visit(func(f *flag.Flag) { said[f.Name] = true })
	for name, value := range map[string]string{"faults": "40", "alone": "10", "beside": "24", "idle": "10s", "feed": "2s", "stream": "1s", "benchtime": "200ms"} {
		if !said[name] {
			if err := flag.Set(name, value); err != nil {
				panic(err) // the names are ours
			}
		}
	}
}

// block is a part that can be had alone, by either of its names.
type block struct {
	name, group string
	measure     func(context.Context, plan, *report) error
}

func (b block) wanted(p plan) bool {
	if p.only != "" {
		return p.only == b.name || p.only == b.group
	}
	return !p.short || b.group == ""
}

func run(ctx context.Context, p plan, out, progress io.Writer) error {
	began := time.Now()
	r := &report{progress: progress}
	one := []block{{name: "link"}, {name: "beside"}, {name: "domain"}, {name: "idle"}, {name: "peers"}}
	more := []block{
		{"many", "", many},
		{"throughput", "", throughput},
		{"go", "", goBenchmarks},
		{"agents", "cluster", agents},
		{"fleet", "cluster", fleets},
		{"simulated", "cluster", simulated},
		{"hostloss", "hostloss", hostLoss},
		{"lossmodel", "hostloss", lossModel},
	}
	known := func(b block) bool { return b.wanted(plan{only: p.only}) }
	if p.only != "" && !slices.ContainsFunc(slices.Concat(one, more), known) {
		return fmt.Errorf("-only %s: there is no such part; see -help", p.only)
	}
	if p.update != "" {
		if p.only != "" {
			return errors.New("-update wants the whole, not -only a part")
		}
		if err := update(p.update, ""); err != nil { // now, not when all is measured
			return err
		}
	}
	var problems []error
	// A part that fails does not take the others' figures away.
	done := func(name string, before machine, err error) {
		r.note("%s took %.0f s.", name, time.Since(before.at).Seconds())
		if err == nil {
			return
		}
		problems = append(problems, fmt.Errorf("%s: %w", name, err))
		r.section(name, before)
		r.add(row{what: "failed", verdict: "**failed**"})
		r.note("%s: %v", name, err)
	}
	before := machineNow()
	if err := oneHost(ctx, one, p, r, done); err != nil {
		done("the compute host", before, err)
	}
	for _, b := range more {
		if b.wanted(p) && ctx.Err() == nil {
			before := machineNow()
			done(b.name, before, b.measure(ctx, p, r))
		}
	}
	bin := os.Getenv("PARAMEDIC_BIN")
	if bin == "" {
		bin = "bin/paramedic"
	}
	t := table{about: about(context.WithoutCancel(ctx), command(os.Args[1:]), bin, began), sections: r.sections}
	if _, err := io.WriteString(out, t.String()); err != nil {
		return err
	}
	r.note("\n%.0f s in all.", time.Since(began).Seconds())
	if err := errors.Join(append(problems, ctx.Err())...); err != nil || p.update == "" {
		return err
	}
	return update(p.update, t.String())
}

// command is how such a table is had.
func command(args []string) string {
	var left []string
	short := false
	for i := 0; i < len(args); i++ {
		switch name, _, whole := strings.Cut(strings.TrimLeft(args[i], "-"), "="); {
		case name == "update" && !whole:
			i++ // its value
		case name == "update":
		case name == "short" && !whole:
			short = true
		default:
			left = append(left, args[i])
		}
	}
	switch {
	case len(left) > 0 && short:
		return "go run ./agent/e2e/bench -short " + strings.Join(left, " ")
	case len(left) > 0:
		return "go run ./agent/e2e/bench " + strings.Join(left, " ")
	case short:
		return "make bench SHORT=1"
	}
	return "make bench"
}

// update puts a table into a page; without one it looks whether it could.
func update(file, table string) error {
	page, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	text, err := replaceTable(string(page), table)
	if err != nil {
		return fmt.Errorf("update %s: %w", file, err)
	}
	if table == "" {
		return nil
	}
	return os.WriteFile(file, []byte(text), 0o644)
}

// oneHost measures what needs the compute host with its domains.
func oneHost(ctx context.Context, blocks []block, p plan, r *report, done func(string, machine, error)) (err error) {
	if !slices.ContainsFunc(blocks, func(b block) bool { return b.wanted(p) }) {
		return nil
	}
	s, err := build(p)
	if s != nil {
		defer func() { err = errors.Join(err, s.close()) }()
	}
	if err != nil {
		return err
	}
	measure := map[string]func(context.Context, plan, *report) error{
		"link":   func(ctx context.Context, p plan, r *report) error { return s.measure(ctx, s.linkFault(), p, r) },
		"domain": func(ctx context.Context, p plan, r *report) error { return s.measure(ctx, s.domainFault(), p, r) },
		"beside": s.beside, "idle": s.idle, "peers": s.peers,
	}
	for _, b := range blocks {
		if !b.wanted(p) || ctx.Err() != nil {
			continue
		}
		before := machineNow()
		err := measure[b.name](ctx, p, r)
		if err != nil {
			err = fmt.Errorf("%w; the agent says: %s", err, lastOf(s.agentLog()))
			err = errors.Join(err, s.cable.Plug()) // the next part finds it as this one did
		}
		done(b.name, before, err)
	}
	return nil
}
