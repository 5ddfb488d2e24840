package cluster

import (
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"github.com/paramedic-ha/paramedic/agent/e2e/fleet"
	"github.com/paramedic-ha/paramedic/agent/e2e/lab"
)

// resolver answers for one name with these addresses, like an operator's DNS with several A records.
func resolver(t *testing.T, name string, addrs ...string) {
	t.Helper()
	conn, err := w.Consumers.ListenPacket(fleet.ConsumerAddr + ":53")
	fleet.Must(t, err)
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
	w.Form(t, 5, func(m *fleet.Machine, s *fleet.Settings) {
		fleet.Must(t, m.Replace("/etc/resolv.conf", "nameserver "+fleet.ConsumerAddr+"\n"))
		s.Join = []string{"peers.lab.example"}
	})
}

func TestAHostComesBackUnderAnotherAddress(t *testing.T) {
	c := w.Consume(t, "a")
	all := w.Form(t, 3)
	c.Subscribe(all[0])
	all.Level(fleet.Patience)
	moved := all[2]
	fleet.Must(t, moved.Kill())
	const addr = "10.99.0.103"
	fleet.Must(t, moved.Port.Readdress(addr+"/24"))
	t.Cleanup(func() { fleet.Must(t, moved.Port.Readdress(moved.Addr()+"/24")) })
	s := w.Settings(moved.Machine)
	s.Bind = addr
	fleet.Must(t, moved.Configure(moved.Configuration(t, s)))
	fleet.Must(t, moved.Start())
	fleet.Within(t, fleet.Patience, "all to know the new address", func() error {
		for _, a := range all {
			hosts, err := a.ClusterHosts()
			if err != nil {
				return err
			}
			i := slices.IndexFunc(hosts, func(h fleet.HostLine) bool { return h.Name == moved.Name })
			if i < 0 || hosts[i].State != "member" || !strings.HasPrefix(hosts[i].Address, addr+":") {
				return fmt.Errorf("%s says %+v", a.Name, hosts)
			}
		}
		return nil
	})
	all.Level(fleet.Patience)
	fleet.Must(t, moved.Uplink.Pull())
	c.Hears(t, "raised", "carrier", moved.Machine)
	all[0].Carrier(moved.Machine)
}

func TestASecondAgentOfOneNameIsRefused(t *testing.T) {
	all := w.Form(t, 3)
	twin := w.Machines[3]
	s := w.Settings(twin)
	s.Name = all[1].Name
	second := w.Prepare(t, twin, s)
	fleet.Must(t, second.StartOnly())
	fleet.Within(t, fleet.Patience, "the second of the name to end", func() error {
		select {
		case <-second.Process().Exited():
			return nil
		default:
			return fmt.Errorf("it runs: %s", fleet.Tail(second.Log()))
		}
	})
	for _, word := range []string{all[1].Name, all[1].Addr(), "node.name"} {
		if !strings.Contains(second.Log(), word) {
			t.Errorf("it does not say %q: %s", word, second.Log())
		}
	}
	fleet.Within(t, fleet.Patience, "a host that it has reached to complain", func() error { // it ends when it knows from the first
		for _, a := range all {
			s, err := a.Status()
			if err != nil {
				return err
			}
			if slices.ContainsFunc(s.Cluster.Troubles, func(x fleet.Trouble) bool {
				return x.Kind == "duplicate-name" && strings.Contains(x.Text, "node.name")
			}) {
				return nil
			}
		}
		return errors.New("none does")
	})
	all.Level(fleet.Patience)
}

func TestAWrongKeyAndAWrongLabelAreNamedOnBothSides(t *testing.T) {
	all := w.Form(t, 2)
	for i, wrong := range []struct {
		kind, word string
		edit       func(*fleet.Settings)
	}{
		{"wrong-key", "cluster.key_file", func(s *fleet.Settings) { s.GossipKey = w.NewKey(t, "--gossip") }},
		{"wrong-label", "cluster.label", func(s *fleet.Settings) { s.Label = "other" }},
	} {
		t.Run(wrong.kind, func(t *testing.T) {
			m := w.Machines[4+i]
			s := w.Settings(m)
			wrong.edit(&s)
			stranger := w.Prepare(t, m, s)
			fleet.Must(t, stranger.StartOnly()) // it waits for its peers before it is ready
			stranger.Complains(wrong.word, wrong.kind)
			if peer := all[0].Complains(wrong.word, wrong.kind).Peer; !strings.Contains(peer, m.Addr()) {
				t.Errorf("the cluster blames %s, not %s", peer, m.Addr())
			}
			// What an operator types says it too.
			for _, a := range []*fleet.Agent{stranger, all[0]} {
				out, err := a.Command("status")
				fleet.Must(t, err)
				if !strings.Contains(out, wrong.kind) || !strings.Contains(out, wrong.word) {
					t.Errorf("%s's fleet.Status names neither %s nor %s:\n%s", a.Name, wrong.kind, wrong.word, out)
				}
			}
			if s, err := stranger.Status(); err != nil || s.Cluster.Members != 1 {
				t.Errorf("the stranger says %+v, %v", s, err)
			}
		})
	}
	all.Level(fleet.Patience)
}

func TestHostsAreRememberedUntilTheyAreForgotten(t *testing.T) {
	all := w.Form(t, 3)
	gone, rest := all[2], all[:2]
	if _, err := rest[0].Command("hosts", "forget", gone.Name); err == nil {
		t.Error("a member was forgotten")
	}
	fleet.Must(t, gone.Stop())
	rest.Level(fleet.Patience)
	known := func(a *fleet.Agent) bool {
		hosts, err := a.ClusterHosts()
		fleet.Must(t, err)
		return slices.ContainsFunc(hosts, func(h fleet.HostLine) bool { return h.Name == gone.Name })
	}
	fleet.Must(t, rest[0].Kill())
	fleet.Must(t, rest[0].Start())
	rest.Level(fleet.Patience)
	for _, a := range rest {
		if !known(a) {
			t.Errorf("%s has forgotten %s by itself", a.Name, gone.Name)
		}
	}
	out, err := rest[0].Command("hosts")
	fleet.Must(t, err)
	if !strings.Contains(out, gone.Name) {
		t.Errorf("hosts does not show it:\n%s", out)
	}
	_, err = rest[0].Command("hosts", "forget", gone.Name)
	fleet.Must(t, err)
	if known(rest[0]) {
		t.Error("it is still on the roster")
	}
	// It may come again.
	fleet.Must(t, gone.Start())
	all.Level(fleet.Patience)
}

func TestAReimagedHostGoesOnWithItsFormerAlarms(t *testing.T) {
	c := w.Consume(t, "a")
	all := w.Form(t, 4)
	c.Subscribe(all[0])
	all.Level(fleet.Patience)
	stays, ends := all[2], all[3]
	for _, a := range []*fleet.Agent{stays, ends} {
		fleet.Must(t, a.Uplink.Pull())
		c.Hears(t, "raised", "carrier", a.Machine)
	}
	// That they were told is said some 50 ms later; who loses disk and power before that owes the clears all the same.
	before := map[*fleet.Agent]fleet.Alarm{stays: all[0].Carrier(stays.Machine), ends: all[0].Carrier(ends.Machine)}
	terms := map[*fleet.Agent]uint64{}
	for a := range before {
		s, err := a.Status()
		fleet.Must(t, err)
		terms[a] = s.Term
		fleet.Must(t, a.Kill())
		fleet.Must(t, os.RemoveAll(a.Path(lab.StateDir)))
	}
	fleet.Must(t, ends.Uplink.Plug())
	for a := range before {
		fleet.Must(t, a.Start())
	}
	if n := c.Hears(t, "cleared", "carrier", ends.Machine); n.Data.Alarm.ID != before[ends].ID {
		t.Errorf("another alarm was cleared: %s", n)
	}
	all.Level(fleet.Patience)
	if after := all[0].Carrier(stays.Machine); after.ID != before[stays].ID {
		t.Errorf("the alarm was %+v, is %+v", before[stays], after)
	}
	for a := range before { // no revision of the former life can come again
		s, err := a.Status()
		fleet.Must(t, err)
		if s.Term <= terms[a] || s.Term%2 != 0 {
			t.Errorf("%s was in term %d, and is in %d", a.Name, terms[a], s.Term)
		}
	}
	fleet.Must(t, stays.Uplink.Plug())
	if n := c.Hears(t, "cleared", "carrier", stays.Machine); n.Data.Alarm.ID != before[stays].ID {
		t.Errorf("another alarm was cleared: %s", n)
	}
	c.Identities(t)
}
