package cluster

import (
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"github.com/paramedic-ha/paramedic/agent/e2e/lab"
)

// resolver answers for one name with these addresses, like an operator's DNS with several A records.
func resolver(t *testing.T, name string, addrs ...string) {
	t.Helper()
	conn, err := w.consumers.ListenPacket(consumerAddr + ":53")
	must(t, err)
	server := &dns.Server{PacketConn: conn, Handler: dns.HandlerFunc(func(out dns.ResponseWriter, q *dns.Msg) {
		answer := new(dns.Msg).SetReply(q)
		if q.Question[0].Qtype == dns.TypeA && q.Question[0].Name == name+"." {
			for _, a := range addrs {
				answer.Answer = append(answer.Answer, &dns.A{
					Hdr: dns.RR_Header{Name: name + ".", Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 1}, A: net.ParseIP(a),
				})
			}
		}
		_ = out.WriteMsg(answer)
	})}
	go func() { _ = server.ActivateAndServe() }() // ends with Shutdown
	t.Cleanup(func() { _ = server.Shutdown() })
}

func TestAgentsFindEachOtherByOneNameWithSeveralAddresses(t *testing.T) {
	// Of the addresses the first two have no agent.
	resolver(t, "peers.lab.example", "10.99.0.19", "10.99.0.20", "10.99.0.1", "10.99.0.2", "10.99.0.3")
	form(t, 5, func(m *machine, s *settings) {
		must(t, m.Replace("/etc/resolv.conf", "nameserver "+consumerAddr+"\n"))
		s.join = []string{"peers.lab.example"}
	})
}

func TestAHostComesBackUnderAnotherAddress(t *testing.T) {
	c := consume(t, "a")
	all := form(t, 3)
	c.subscribe(all[0])
	all.level(patience)
	moved := all[2]
	must(t, moved.Kill())
	const addr = "10.99.0.103"
	must(t, moved.port.Readdress(addr+"/24"))
	t.Cleanup(func() { must(t, moved.port.Readdress(moved.addr()+"/24")) })
	s := w.settings(moved.machine)
	s.bind = addr
	must(t, moved.Configure(moved.configuration(t, s)))
	must(t, moved.Start())
	within(t, patience, "all to know the new address", func() error {
		for _, a := range all {
			hosts, err := a.clusterHosts()
			if err != nil {
				return err
			}
			i := slices.IndexFunc(hosts, func(h host) bool { return h.Name == moved.Name })
			if i < 0 || hosts[i].State != "member" || !strings.HasPrefix(hosts[i].Address, addr+":") {
				return fmt.Errorf("%s says %+v", a.Name, hosts)
			}
		}
		return nil
	})
	all.level(patience)
	must(t, moved.uplink.Pull())
	c.hears(t, "raised", "carrier", moved.machine)
	all[0].carrier(moved.machine)
}

func TestASecondAgentOfOneNameIsRefused(t *testing.T) {
	all := form(t, 3)
	twin := w.machines[3]
	s := w.settings(twin)
	s.name = all[1].Name
	second := prepare(t, twin, s)
	must(t, second.StartOnly())
	within(t, patience, "the second of the name to end", func() error {
		select {
		case <-second.Process().Exited():
			return nil
		default:
			return fmt.Errorf("it runs: %s", tail(second.Log()))
		}
	})
	for _, word := range []string{all[1].Name, all[1].addr(), "node.name"} {
		if !strings.Contains(second.Log(), word) {
			t.Errorf("it does not say %q: %s", word, second.Log())
		}
	}
	for _, a := range all[:2] {
		a.complains("node.name", "duplicate-name")
	}
	all.level(patience)
}

func TestAWrongKeyAndAWrongLabelAreNamedOnBothSides(t *testing.T) {
	all := form(t, 2)
	for i, wrong := range []struct {
		kind, word string
		edit       func(*settings)
	}{
		{"wrong-key", "cluster.key_file", func(s *settings) { s.gossipKey = w.newKey(t, "--gossip") }},
		{"wrong-label", "cluster.label", func(s *settings) { s.label = "other" }},
	} {
		t.Run(wrong.kind, func(t *testing.T) {
			m := w.machines[4+i]
			s := w.settings(m)
			wrong.edit(&s)
			stranger := prepare(t, m, s)
			must(t, stranger.StartOnly()) // it waits for its peers before it is ready
			stranger.complains(wrong.word, wrong.kind)
			if peer := all[0].complains(wrong.word, wrong.kind).Peer; !strings.Contains(peer, m.addr()) {
				t.Errorf("the cluster blames %s, not %s", peer, m.addr())
			}
			// What an operator types says it too.
			for _, a := range []*agent{stranger, all[0]} {
				out, err := a.Command("status")
				must(t, err)
				if !strings.Contains(out, wrong.kind) || !strings.Contains(out, wrong.word) {
					t.Errorf("%s's status names neither %s nor %s:\n%s", a.Name, wrong.kind, wrong.word, out)
				}
			}
			if s, err := stranger.status(); err != nil || s.Cluster.Members != 1 {
				t.Errorf("the stranger says %+v, %v", s, err)
			}
		})
	}
	all.level(patience)
}

// newKey is what keygen prints.
func (w *world) newKey(t *testing.T, kind string) string {
	t.Helper()
	out, err := w.consumers.Output(w.bin, "keygen", kind)
	must(t, err)
	return out
}

func TestHostsAreRememberedUntilTheyAreForgotten(t *testing.T) {
	all := form(t, 3)
	gone, rest := all[2], all[:2]
	if _, err := rest[0].Command("hosts", "forget", gone.Name); err == nil {
		t.Error("a member was forgotten")
	}
	must(t, gone.Stop())
	rest.level(patience)
	known := func(a *agent) bool {
		hosts, err := a.clusterHosts()
		must(t, err)
		return slices.ContainsFunc(hosts, func(h host) bool { return h.Name == gone.Name })
	}
	must(t, rest[0].Kill())
	must(t, rest[0].Start())
	rest.level(patience)
	for _, a := range rest {
		if !known(a) {
			t.Errorf("%s has forgotten %s by itself", a.Name, gone.Name)
		}
	}
	out, err := rest[0].Command("hosts")
	must(t, err)
	if !strings.Contains(out, gone.Name) {
		t.Errorf("hosts does not show it:\n%s", out)
	}
	_, err = rest[0].Command("hosts", "forget", gone.Name)
	must(t, err)
	if known(rest[0]) {
		t.Error("it is still on the roster")
	}
	// It may come again.
	must(t, gone.Start())
	all.level(patience)
}

func TestAReimagedHostGoesOnWithItsFormerAlarms(t *testing.T) {
	c := consume(t, "a")
	all := form(t, 4)
	c.subscribe(all[0])
	all.level(patience)
	stays, ends := all[2], all[3]
	for _, a := range []*agent{stays, ends} {
		must(t, a.uplink.Pull())
		c.hears(t, "raised", "carrier", a.machine)
	}
	// That they were told is said some 50 ms later; who loses disk and power before that owes the clears all the same.
	before := map[*agent]alarm{stays: all[0].carrier(stays.machine), ends: all[0].carrier(ends.machine)}
	terms := map[*agent]uint64{}
	for a := range before {
		s, err := a.status()
		must(t, err)
		terms[a] = s.Term
		must(t, a.Kill())
		must(t, os.RemoveAll(a.Path(lab.StateDir)))
	}
	must(t, ends.uplink.Plug())
	for a := range before {
		must(t, a.Start())
	}
	if n := c.hears(t, "cleared", "carrier", ends.machine); n.Data.Alarm.ID != before[ends].ID {
		t.Errorf("another alarm was cleared: %s", n)
	}
	all.level(patience)
	if after := all[0].carrier(stays.machine); after.ID != before[stays].ID {
		t.Errorf("the alarm was %+v, is %+v", before[stays], after)
	}
	for a := range before { // no revision of the former life can come again
		s, err := a.status()
		must(t, err)
		if s.Term <= terms[a] || s.Term%2 != 0 {
			t.Errorf("%s was in term %d, and is in %d", a.Name, terms[a], s.Term)
		}
	}
	must(t, stays.uplink.Plug())
	if n := c.hears(t, "cleared", "carrier", stays.machine); n.Data.Alarm.ID != before[stays].ID {
		t.Errorf("another alarm was cleared: %s", n)
	}
	c.identities(t)
}
