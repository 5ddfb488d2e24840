package nic

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/vishvananda/netns"

	"github.com/paramedic-ha/paramedic/correlate"
	"github.com/paramedic-ha/paramedic/hw"
)

// flood changes the links of a bridge n times each, and leaves the uplink without carrier.
func flood(h *host, ports, n int) {
	h.t.Helper()
	var b strings.Builder
	for i := range n {
		for p := range ports {
			fmt.Fprintf(&b, "link set flood%d %s\n", p, []string{"down", "up"}[i%2])
		}
	}
	b.WriteString("link set wire down\nlink del vnet0\n")
	h.ip(b.String())
}

func floodPorts(h *host, ports int) {
	h.t.Helper()
	var b strings.Builder
	for p := range ports {
		fmt.Fprintf(&b, "link add flood%d type veth peer name doolf%d\nlink set flood%d master br0\n", p, p, p)
	}
	h.ip(b.String())
}

func checkAfterFlood(t *testing.T, l *ledger) {
	t.Helper()
	l.awaitStatus(t, "nic/up0", correlate.CondCarrier, correlate.StatusFailed)
	l.awaitGone(t, "nic/vnet0", correlate.GoneByFault)
	l.await(t, "a full statement after the loss", func() bool {
		for _, d := range l.deltas[1:] {
			if d.Full {
				return true
			}
		}
		return false
	})
}

func TestOverrunOfTheSocketIsRepaired(t *testing.T) {
	h := newHost(t)
	h.ip(bridged)
	floodPorts(h, 20)
	s, l := watchHost(t, h, Config{Include: []string{"up*"}}, func(s *Source) { s.buffer = 1 }) // the kernel's least: one message
	l.awaitStated(t, "nic/up0", "nic/vnet0")
	flood(h, 20, 10)
	checkAfterFlood(t, l)
	if n := s.Stats().Overruns; n == 0 {
		t.Errorf("the flood caused no overrun: %+v", s.Stats())
	}
	h.ip("link set wire up")
	l.awaitStatus(t, "nic/up0", correlate.CondCarrier, correlate.StatusOK)
	l.await(t, "sight is clear again", func() bool { return l.health[len(l.health)-1].Sight == hw.SightClear })
}

func TestUpdatesThatNobodyTakesAreRepaired(t *testing.T) {
	h := newHost(t)
	h.ip(bridged)
	floodPorts(h, 20)
	s, l := watchHost(t, h, Config{Include: []string{"up*"}})
	l.awaitStated(t, "nic/up0", "nic/vnet0")
	block := make(chan struct{})
	l.mu.Lock()
	l.block = block
	l.mu.Unlock()
	h.ip("link set up0 mtu 1400")
	<-l.blocked
	flood(h, 20, 80) // more than the queue of updates holds
	poll(t, "the queue of updates overflows", func() bool { return s.Stats().Overruns > 0 })
	l.mu.Lock()
	l.block = nil
	l.mu.Unlock()
	close(block)
	checkAfterFlood(t, l)
}

func TestClosedSubscriptionIsMadeAnew(t *testing.T) {
	h := newHost(t)
	h.ip(bridged)
	ns, err := netns.GetFromPath(h.path())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ns.Close() }()
	s, err := New(Config{Include: []string{"up*"}, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	l := newLedger()
	w := &watch{Source: s, sink: l, ns: ns, table: newTable(hw.Root{}, s.config.Include, nil)}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()

	f, _, err := s.openFeed(ctx, ns)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.list(ctx, true); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- w.watch(ctx, f, hw.Health{}) }()
	f.socket.Close()
	if err := <-ended; err == nil || !strings.Contains(err.Error(), "receive link changes") {
		t.Errorf("ended with %v", err)
	}
	f.close()

	h.ip("link del vnet0\nlink set wire down") // nobody listens
	go func() { ended <- w.run(ctx) }()
	checkAfterFlood(t, l)
	cancel()
	<-ended
}

func TestLinkThatReturnedUnderAnotherIndexUnseen(t *testing.T) {
	table := newTable(nowhere(t), nil, nil)
	messages := bondMessages()
	apply(t, table, messages...)
	table.delta(true, clock())
	var l listing
	for _, m := range messages {
		if m.name == "eth1" {
			m.index = 42
		}
		l.links = append(l.links, mustDecode(t, m).link)
	}
	table.relist(l, clock())
	d := table.delta(false, clock())
	if len(d.Gone) != 0 || len(d.Set) != 1 || d.Set[0].Facts["ifindex"] != "42" {
		t.Errorf("delta %+v", d)
	}
}

func TestListCutShortTakesNothingAway(t *testing.T) {
	table := newTable(nowhere(t), nil, nil)
	apply(t, table, bondMessages()...)
	table.delta(true, clock())
	table.relist(listing{interrupted: true}, clock())
	table.relist(listing{unread: map[int]bool{2: true, 3: true, 7: true, 9: true, 11: true}}, clock())
	if d := table.delta(false, clock()); len(d.Gone)+len(d.Set)+len(d.Events) > 0 {
		t.Errorf("delta %+v", d)
	}
}
