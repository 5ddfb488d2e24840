package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/signal"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/paramedic-ha/paramedic/agent/ledger"
	"github.com/paramedic-ha/paramedic/correlate"
	"github.com/paramedic-ha/paramedic/gossip"
)

// fleetCommand is the first argument of this program when it is the fleet: the peers of one real agent, all in one process.
// Each is a real gossip.Peer with sockets on an address of its own: membership, encryption, messages. What a real host adds
// to that, its replica, all of them share: one real gossip.Replica, as if all were level with each other all the time. Each
// begins an exchange a second with a random member, as gossip.Replicator does; the share of it that goes to the agent is
// sent, what would go to each other is not. The records are what the ledgers of such hosts write.
const fleetCommand = "fleet"

// fleetSpec is the second argument, as JSON.
type fleetSpec struct {
	Hosts, Domains int // Domains on each
	Key            string
	Agent          string // its name
}

func fleetName(n int) string { return fmt.Sprintf("fleet-%03d", n) }

// fleetAddr is on the loopback interface of the fleet's host; the agent has a route.
func fleetAddr(n int) string { return fmt.Sprintf("10.98.%d.%d", n/250, n%250+1) }

const fleetPrefix = "10.98.0.0/16"

func fleet(args []string) error {
	var spec fleetSpec
	if len(args) != 1 {
		return fmt.Errorf("want one argument, not %d", len(args))
	}
	if err := json.Unmarshal([]byte(args[0]), &spec); err != nil {
		return err
	}
	key, err := gossip.ParseKey(spec.Key)
	if err != nil {
		return err
	}
	f := &fleetOf{agent: spec.Agent}
	if f.replica, err = gossip.New(gossip.Config{Self: "fleet", Term: 2}); err != nil {
		return err
	}
	for n := range spec.Hosts {
		records, err := recordsOf(n, spec.Domains)
		if err != nil {
			return err
		}
		if res := f.replica.Merge(time.Now(), records); len(res.Rejected) > 0 {
			return fmt.Errorf("host %d: %v", n, res.Rejected)
		}
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	var group sync.WaitGroup
	errs := make(chan error, spec.Hosts)
	for n := range spec.Hosts {
		p, err := f.peer(n, key)
		if err != nil {
			return err
		}
		group.Go(func() {
			if err := p.Run(ctx); err != nil {
				errs <- fmt.Errorf("peer %d: %w", n, err)
				stop()
			}
		})
		group.Go(func() { f.exchange(ctx, p) })
	}
	fmt.Println("running")
	group.Wait()
	close(errs)
	return <-errs
}

type fleetOf struct {
	agent string

	mu      sync.Mutex
	replica *gossip.Replica
}

func (f *fleetOf) peer(n int, key gossip.CipherKey) (p *gossip.Peer, err error) {
	p, err = gossip.NewPeer(gossip.PeerConfig{
		Node: fleetName(n), Term: 2, Bind: fleetAddr(n), Join: []string{fleetAddr(0), fleetAddr(1)}, Label: cloudLabel,
		Keys: gossip.Keyring{Keys: []gossip.CipherKey{key}}, Log: slog.New(slog.DiscardHandler),
		Deliver: func(from string, msg []byte) {
			if t, err := gossip.TypeOf(msg); err != nil || t >= gossip.TypeReserved {
				return // of the agents to each other
			}
			f.mu.Lock()
			res, err := f.replica.Handle(time.Now(), from, msg)
			f.mu.Unlock()
			if err != nil {
				return
			}
			for _, reply := range res.Replies {
				_ = p.Send(from, reply)
			}
		},
	})
	return p, err
}

func (f *fleetOf) exchange(ctx context.Context, p *gossip.Peer) {
	every := time.NewTicker(time.Second)
	defer every.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-every.C:
		}
		if others := len(p.Members()) - 1; others < 1 || rand.N(others) != 0 {
			continue // with somebody of the fleet
		}
		f.mu.Lock()
		digest := f.replica.Digest(time.Now())
		f.mu.Unlock()
		_ = p.Send(f.agent, digest) // before it is a member: in vain
	}
}

// recordsOf is what host n says of itself and of its domains, each with two ports, as its ledger writes it.
func recordsOf(n, domains int) ([]gossip.Record, error) {
	name, now := fleetName(n), time.Now()
	random := rand.New(rand.NewPCG(uint64(n), 0x666c6565))
	uuid := func() string {
		return fmt.Sprintf("%08x-%04x-4%03x-9%03x-%012x", random.Uint32(), random.Uint32()>>16, random.Uint32()>>20, random.Uint32()>>20, random.Uint64()>>16)
	}
	l := ledger.New(ledger.Config{Node: name, Label: cloudLabel})
	d := correlate.Delta{Source: "virt", Full: true}
	for range domains {
		id := uuid()
		domain := correlate.NewID(correlate.KindDomain, id)
		d.Set = append(d.Set, correlate.Resource{ID: domain, Name: fmt.Sprintf("instance-%08x", random.Uint32()), Project: uuid()})
		for range 2 {
			mac := fmt.Sprintf("fa:16:3e:%02x:%02x:%02x", random.Uint32()>>24, random.Uint32()>>24, random.Uint32()>>24)
			d.Set = append(d.Set, correlate.Resource{
				ID: correlate.NewID(correlate.KindVNIC, id+"/"+mac), Domain: domain, Port: &correlate.Port{MAC: mac, PortID: uuid()},
			})
		}
	}
	l.Host(now, ledger.Host{Zone: "zone-1", Version: "1.0.0", Started: now, Facts: map[string]string{"kernel": "6.1.0-18-amd64", "libvirt": "9.0.0", "qemu": "7.2.9"}})
	l.Inventory(now, &d)
	replica, err := gossip.New(gossip.Config{Self: name, Term: 2})
	if err != nil {
		return nil, err
	}
	for _, w := range l.Begin(now).Write {
		if _, _, err := replica.Set(now, w.Kind, w.ID, w.Payload); err != nil {
			return nil, err
		}
	}
	return slices.Collect(replica.Records()), nil
}

// fleetRun is one agent among a fleet.
type fleetRun struct {
	hosts, domains int
	filled         time.Duration // from its start until it holds all
	records, bytes int
	traffic        linkCount // at rest, a second
	percent        float64
	rss, highest   float64 // MiB
	live           float64 // MiB: what the last collection left, by the pace of the collector
	listed         float64 // MiB, the highest after all domains were asked for three times
}

// fleets measures one real agent among many.
func fleets(ctx context.Context, p plan, r *report) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	before := machineNow()
	sizes := []struct{ hosts, domains int }{{10, 50}, {200, 50}, {200, 0}}
	runs, errs := make([]fleetRun, len(sizes)), make([]error, len(sizes))
	var group sync.WaitGroup
	for i, size := range sizes { // at once: they have nothing to do but to sit there
		group.Go(func() {
			var err error
			if runs[i], err = fleetOnce(ctx, self, size.hosts, size.domains, p.rest); err != nil {
				errs[i] = fmt.Errorf("%d hosts of %d domains: %w", size.hosts, size.domains, err)
			}
		})
	}
	group.Wait()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	few, full, none := runs[0], runs[1], runs[2]
	bytes := func(o fleetRun) float64 { return o.traffic.txBytes + o.traffic.rxBytes }
	mb := func(mib float64) float64 { return mib * (1 << 20) / 1e6 }
	remote := float64((full.hosts - 1) * full.domains)
	r.section("One real agent among a fleet: hosts of 50 domains, in one process", before)
	r.value(fmt.Sprintf("%d hosts: frames at rest, sent + received", few.hosts), bytes(few), "bytes/s")
	r.value(fmt.Sprintf("%d hosts", full.hosts), bytes(full), "bytes/s")
	r.flat(fmt.Sprintf("from %d to %d hosts", few.hosts, full.hosts), bytes(full)/bytes(few))
	r.atMost(fmt.Sprintf("**%d hosts: resident memory at rest**", full.hosts), mb(full.rss), "MB", 40)
	r.value("its highest while it learned all that", mb(full.highest), "MB")
	r.value("its highest after all domains were listed three times", mb(full.listed), "MB")
	r.value(fmt.Sprintf("%d hosts without domains: resident memory at rest", none.hosts), mb(none.rss), "MB")
	r.atMost("live heap for a remote domain", (full.live-none.live)*(1<<20)/remote, "bytes", 1000)
	r.value(fmt.Sprintf("%d hosts: processor at rest, of a core", full.hosts), full.percent, "%")
	r.value("it holds all so long after its start", full.filled.Seconds(), "s")
	r.note("%d records, %d bytes of them. Resident memory grows by %.0f bytes for a remote domain, with what the collector leaves to be collected.",
		full.records, full.bytes, (full.rss-none.rss)*(1<<20)/remote)
	return nil
}

func fleetOnce(ctx context.Context, self string, hosts, domains int, period time.Duration) (one fleetRun, err error) {
	one = fleetRun{hosts: hosts, domains: domains}
	s, err := buildFleet(self, hosts, domains)
	if s != nil {
		defer func() { err = errors.Join(err, s.lab.Close()) }()
	}
	if err != nil {
		return one, err
	}
	began := time.Now()
	if err := s.agent.Start(); err != nil {
		return one, err
	}
	m := &member{Host: s.host, agent: s.agent}
	want := (hosts - 1) * (domains + 1)
	err = m.until(2*time.Minute, func(st status) bool {
		one.records, one.bytes = st.Cluster.Replica.Records, st.Cluster.Replica.Bytes
		return one.records >= want && st.Cluster.Members == hosts
	})
	if err != nil {
		return one, fmt.Errorf("%w; the fleet says: %s", err, s.process.Log())
	}
	one.filled = time.Since(began)
	c := &cloud{members: []*member{m}}
	rest, err := c.atRest(ctx, c.members, settled, period)
	if err != nil {
		return one, err
	}
	one.traffic, one.percent, one.rss = rest.traffic, rest.percent, rest.rss[0]
	u, err := usageOf(s.agent.Process().PID())
	if err != nil {
		return one, err
	}
	one.highest = float64(u.highest) / 1024
	if one.live, err = liveHeap(s.agent); err != nil {
		return one, err
	}
	for range 3 {
		size, next := 0, ""
		for more := true; more; more = next != "" {
			body, err := s.agent.Get("/v1/resources?limit=1000&after=" + next)
			if err != nil {
				return one, err
			}
			var page struct{ Next string }
			if err := json.Unmarshal(body, &page); err != nil {
				return one, fmt.Errorf("read a page of the resources: %w", err)
			}
			size, next = size+len(body), page.Next
		}
		if size < 100*domains*(hosts-1) {
			return one, fmt.Errorf("the list of domains is only %d bytes", size)
		}
	}
	if u, err = usageOf(s.agent.Process().PID()); err != nil {
		return one, err
	}
	one.listed = float64(u.highest) / 1024
	return one, nil
}
