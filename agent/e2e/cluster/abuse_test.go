package cluster

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"
	"golang.org/x/sys/unix"

	"github.com/paramedic-ha/paramedic/gossip"

	"github.com/paramedic-ha/paramedic/agent/e2e/fleet"
)

// healthy fails unless all are members still, and a fault is told.
func healthy(t *testing.T, as fleet.Agents, c *fleet.Consumer) {
	t.Helper()
	as.Level(fleet.Patience)
	c.Forget()
	at := as[len(as)-1]
	fleet.Must(t, at.Uplink.Pull())
	c.Hears(t, "raised", "carrier", at.Machine)
	fleet.Must(t, at.Uplink.Plug())
	c.Hears(t, "cleared", "carrier", at.Machine)
	as.Level(fleet.Patience)
}

// resident is the agent's resident memory in MB.
func resident(a *fleet.Agent) int {
	a.T.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", a.Process().PID()))
	fleet.Must(a.T, err)
	_, rest, _ := strings.Cut(string(text), "VmRSS:")
	kb, err := strconv.Atoi(strings.Fields(rest)[0])
	fleet.Must(a.T, err)
	return kb >> 10
}

func TestRubbishAtThePortHarmsNobody(t *testing.T) {
	c := w.Consume(t, "a")
	all := w.Form(t, 3)
	c.Subscribe(all[0])
	healthy(t, all, c)
	victim := all[0]
	before := resident(victim)
	target := victim.Addr() + ":7946"

	heard := sniff(t, victim.Machine, 15)
	udp, err := w.Consumers.ListenPacket(fleet.ConsumerAddr + ":0")
	fleet.Must(t, err)
	defer udp.Close()
	to, err := net.ResolveUDPAddr("udp", target)
	fleet.Must(t, err)
	say := func(b []byte) {
		if _, err := udp.WriteTo(b, to); err != nil && !errors.Is(err, unix.ENOBUFS) {
			t.Fatal(err)
		}
	}
	noise := make([]byte, 1400)
	label := []byte("\xf4\x03lab") // memberlist's label header
	for n := range 20000 {
		_, _ = rand.Read(noise)
		if b := noise[:n%1400]; n%2 == 0 {
			say(b)
		} else {
			say(append(bytes.Clone(label), b...))
		}
	}
	for _, one := range heard { // replayed, cut off and bent
		for range 200 {
			say(one)
		}
		for cut := 0; cut < len(one); cut += 37 {
			say(one[:cut])
			bent := bytes.Clone(one)
			bent[cut] ^= 0x55
			say(bent)
		}
	}
	for _, first := range [][]byte{nil, label, []byte("GET / HTTP/1.1\r\n\r\n")} { // 10 MB over a connection
		conn, err := w.Consumers.Dial(target)
		fleet.Must(t, err)
		_, _ = conn.Write(first)
		_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
		_, _ = io.CopyN(conn, rand.Reader, 10<<20) // it may hang up
		_ = conn.Close()
	}
	for range 200 { // connections that say nothing
		conn, err := w.Consumers.Dial(target)
		fleet.Must(t, err)
		defer conn.Close()
	}
	healthy(t, all, c)
	victim.Complains("", "wrong-key", "wrong-label", "malformed")
	if after := resident(victim); after > before+64*w.Inflated {
		t.Errorf("resident memory went from %d to %d MB", before, after)
	}
}

// sniff records datagrams that come to the machine's gossip port.
func sniff(t *testing.T, m *fleet.Machine, count int) [][]byte {
	t.Helper()
	out, err := m.Packets(m.Port.A.Link)
	fleet.Must(t, err)
	defer out.Close()
	var got [][]byte
	fleet.Within(t, fleet.Patience, fmt.Sprint(count, " datagrams"), func() error {
		frame := make([]byte, 2048)
		for {
			_ = out.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
			n, err := out.Read(frame)
			if err != nil {
				return fmt.Errorf("%d came: %w", len(got), err)
			}
			// Ethernet, IPv4 without options, UDP (RFC 894, 791, 768).
			if f := frame[:n]; n > 42 && f[12] == 8 && f[13] == 0 && f[14] == 0x45 && f[23] == 17 && int(f[36])<<8|int(f[37]) == gossip.DefaultPort {
				got = append(got, bytes.Clone(f[42:]))
				if len(got) == count {
					return nil
				}
			}
		}
	})
	return got
}

func TestAPeerThatFloodsIsNamed(t *testing.T) {
	c := w.Consume(t, "a")
	all := w.Form(t, 3)
	c.Subscribe(all[0])
	healthy(t, all, c)
	fleet.Must(t, w.Machines[5].WriteFile(fleet.GossipKeyFile, w.GossipKey, 0o600))
	evil, err := w.Machines[5].StartWith([]string{"PM_EVIL=" + w.Machines[5].Addr() + " " + all[0].Addr()}, nil, os.Args[0])
	fleet.Must(t, err)
	t.Cleanup(func() { _ = evil.Kill() })
	// It sends to the others, too; whether that is a flood depends on how fast this machine is.
	for a, kinds := range map[*fleet.Agent][]string{all[0]: {"flood"}, all[1]: {"flood", "malformed"}, all[2]: {"flood", "malformed"}} {
		if peer := a.Complains("", kinds...).Peer; peer != "evil" && peer != w.Machines[5].Addr() {
			t.Errorf("%s blames %s", a.Name, peer)
		}
	}
	// While it goes on, faults are told.
	c.Forget()
	fleet.Must(t, all[1].Uplink.Pull())
	c.Hears(t, "raised", "carrier", all[1].Machine)
	fleet.Must(t, all[1].Uplink.Plug())
	c.Hears(t, "cleared", "carrier", all[1].Machine)
	select {
	case <-evil.Exited():
		t.Fatalf("the peer that floods has ended: %s", evil.Log())
	default:
	}
	fleet.Must(t, evil.Kill())
	fleet.Within(t, fleet.Patience, "its end to be seen", func() error {
		v, err := all[0].View()
		if err == nil && len(v.Members) != 3 {
			err = fmt.Errorf("members: %v", v.Members)
		}
		return err
	})
	healthy(t, all, c)
	for _, a := range all {
		if mb := resident(a); mb > 150*w.Inflated {
			t.Errorf("%s has %d MB resident", a.Name, mb)
		}
	}
}

// runEvil is a process of its own in a machine: a peer that holds the key and sends whatever it likes, as fast as it can.
func runEvil(bind, target string) error {
	text, err := os.ReadFile(fleet.GossipKeyFile)
	if err != nil {
		return err
	}
	keys, err := gossip.ParseKeys(text)
	if err != nil {
		return err
	}
	p, err := gossip.NewPeer(gossip.PeerConfig{
		Node: "evil", Bind: bind, Join: []string{target}, Label: "lab", Keys: gossip.Keyring{Keys: keys},
		Log: slog.New(slog.NewTextHandler(os.Stderr, nil)), Deliver: func(string, []byte) {},
	})
	if err != nil {
		return err
	}
	failed := make(chan error, 1)
	go func() { failed <- p.Run(context.Background()) }() // until we are killed
	<-p.Ready()
	// A second voice of the same key, without our own transport's limits: 10 MB in one message.
	c := memberlist.DefaultLANConfig()
	c.Name, c.Label, c.BindAddr, c.BindPort, c.SecretKey = "evil-too", "lab", bind, 7999, keys[0]
	c.Logger = log.New(io.Discard, "", 0)
	list, err := memberlist.Create(c)
	if err != nil {
		return err
	}
	// A third without any key, which costs it nothing: more than the victim is ready for, also from a slow machine.
	raw, err := net.Dial("udp", net.JoinHostPort(target, strconv.Itoa(gossip.DefaultPort)))
	if err != nil {
		return err
	}
	huge := make([]byte, 10<<20)
	to := &memberlist.Node{Name: "cmp-01", Addr: net.ParseIP(target), Port: gossip.DefaultPort}
	noise := make([]byte, 1000)
	for n := 0; ; n++ {
		if n%50000 == 0 {
			_ = list.SendReliable(to, huge)
		}
		_, _ = rand.Read(noise)
		if err := p.Broadcast(noise[:100+n%900]); err != nil {
			return err
		}
		_ = list.SendBestEffort(to, noise[:n%900])
		for range 10 {
			_, _ = raw.Write(noise[:100])
		}
		if n%20 == 0 { // as fast as may be, but the machine has two cores and others want them
			select {
			case err := <-failed:
				return err
			case <-time.After(time.Millisecond):
			}
		}
	}
}
