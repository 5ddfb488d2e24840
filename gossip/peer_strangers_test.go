package gossip

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/go-msgpack/v2/codec"
	"github.com/hashicorp/memberlist"
	"golang.org/x/time/rate"
)

func TestWrongLabelIsNamedOnBothSides(t *testing.T) {
	t.Parallel()
	n := newTestNet(t)
	all := n.start(t, 1)
	cfg := n.config(2)
	cfg.Label = "other"
	stranger := start(t, cfg)
	eventually(t, "both sides name the label", func() bool {
		a, here := all[0].trouble(TroubleLabel)
		b, there := stranger.trouble(TroubleLabel)
		return here && there && strings.Contains(a.Text, `"other", ours is "test"`) && strings.Contains(b.Text, "cluster.label") && b.Peer == n.addr(1)
	})
	if len(stranger.Members()) != 1 || len(all[0].Members()) != 1 {
		t.Error("the stranger got in")
	}
}

func TestNewcomerWithTheNameOfAnotherRefusesToRun(t *testing.T) {
	t.Parallel()
	n := newTestNet(t)
	all := n.start(t, 3)
	cfg := n.config(9)
	cfg.Node = "cmp-2"
	twin := start(t, cfg)
	select {
	case err := <-twin.done:
		close(twin.done)
		if err == nil || !strings.Contains(err.Error(), "node.name") || !strings.Contains(err.Error(), n.addr(2)) {
			t.Errorf("it ends with %v", err)
		}
	case <-time.After(15 * time.Second):
		t.Fatal("it runs on")
	}
	// It may end before it was heard of by more than one of them.
	eventually(t, "one of the others knows", func() bool {
		for _, p := range all {
			if trouble, ok := p.trouble(TroubleDuplicate); ok && trouble.Peer == "cmp-2" {
				return true
			}
		}
		return false
	})
	together(t, all...)
}

func TestFloodUnderOneNameIsLimitedAndNamed(t *testing.T) {
	t.Parallel()
	n := newTestNet(t)
	cfg := n.config(1)
	gate := make(chan struct{}) // while it is shut the victim does not come to reading
	var calm atomic.Int64
	cfg.Deliver = func(from string, _ []byte) {
		<-gate
		if from == "cmp-2" {
			calm.Add(1)
		}
	}
	victim := start(t, cfg)
	open := sync.OnceFunc(func() { close(gate) })
	t.Cleanup(open)
	other, mad := start(t, n.config(2)), start(t, n.config(3))
	together(t, victim, other, mad)
	id := uint64(0)
	eventually(t, "the flood is limited", func() bool {
		for range 2 * messageRate {
			id++
			victim.delegate().NotifyMsg(envelope{from: "cmp-3", id: id, payload: []byte("flood")}.encode())
		}
		return victim.Stats().Dropped["flood"] > 0
	})
	trouble, ok := victim.trouble(TroubleFlood)
	if !ok || trouble.Peer != "cmp-3" || !strings.Contains(trouble.Text, "in its name") {
		t.Errorf("the flood is not named: %+v", victim.Stats().Troubles)
	}
	if victim.Stats().Waiting > inboxLength || victim.Stats().Dropped["inbox-full"] == 0 {
		t.Errorf("the inbox has no bound: %+v", victim.Stats())
	}
	open()
	eventually(t, "the others are heard", func() bool {
		if err := other.Send("cmp-1", []byte("calm")); err != nil {
			t.Fatal(err)
		}
		return calm.Load() > 0
	})
	together(t, victim, other, mad)
}

func TestLiarAtOneAddressDoesNotUseUpTheShareOfAnother(t *testing.T) {
	if 2*sourceRate > messageRate {
		t.Errorf("one address may send %d messages a second, and a name has %d", sourceRate, messageRate)
	}
	s := sources{all: map[netip.Addr]*sender{}}
	liar, other := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	now, passed := time.Unix(1_700_000_000, 0), 0
	names := inbound{limits: map[string]*rate.Limiter{}}
	for second := range 10 {
		for i := range 100_000 {
			at := now.Add(time.Duration(second)*time.Second + time.Duration(i)*10*time.Microsecond)
			if s.admit(liar, at) {
				passed++
				if !names.allow("cmp-2", at) && second > 0 {
					t.Fatalf("the share of the name is used up after %d messages", passed)
				}
			}
		}
		if at := now.Add(time.Duration(second) * time.Second); !s.admit(other, at) || !names.allow("cmp-2", at) {
			t.Fatal("the other does not get through")
		}
	}
	if most := sourceRate * 12; passed > most {
		t.Errorf("%d of a million passed, not %d at most", passed, most)
	}
	if addr, ok := s.loudest(); !ok || addr != liar {
		t.Errorf("the loudest is %v", addr)
	}
}

// fires sends from an address of its own, until the end of the test.
func fire(t *testing.T, from, to string, packets func(yield func([]byte) bool)) {
	t.Helper()
	dialer := net.Dialer{LocalAddr: &net.UDPAddr{IP: net.ParseIP(from)}}
	conn, err := dialer.Dial("udp", to)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for b := range packets {
		_, _ = conn.Write(b)
	}
}

func TestFloodFromOneAddressIsLimitedAndNamed(t *testing.T) {
	t.Parallel()
	n := newTestNet(t)
	all := n.start(t, 3)
	junk := bytes.Repeat([]byte{1}, 64)
	fire(t, n.addr(66), all[0].Addr().String(), func(yield func([]byte) bool) {
		eventually(t, "the flood is limited", func() bool {
			for range 2 * sourceRate {
				if !yield(junk) {
					return true
				}
			}
			return all[0].Stats().Dropped["datagram-flood"] > 0
		})
	})
	found := false
	for _, one := range all[0].Stats().Troubles {
		found = found || one.Kind == TroubleFlood && one.Peer == n.addr(66) && strings.Contains(one.Text, "Look what runs there")
	}
	if !found {
		t.Errorf("the flood is not named: %+v", all[0].Stats().Troubles)
	}
	eventually(t, "the others are heard", func() bool {
		if err := all[1].Send("cmp-1", []byte("calm")); err != nil {
			t.Fatal(err)
		}
		return all[0].received("cmp-2", "calm") > 0
	})
	together(t, all...)
}

func TestConnectionsOfOneAddressDoNotShutOutTheOthers(t *testing.T) {
	t.Parallel()
	n := newTestNet(t)
	all := n.start(t, 2)
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(n.addr(66))}}
	open := func(n int) {
		for range n {
			conn, err := dialer.Dial("tcp", all[0].Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = conn.Close() }) // and says nothing
		}
	}
	open(10 * maxPerSource)
	long := bytes.Repeat([]byte{'l'}, 100_000)
	if err := all[1].Send("cmp-1", long); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a long message gets through", func() bool { return all[0].received("cmp-2", string(long)) == 1 })
	eventually(t, "the connections are refused, and named", func() bool {
		trouble, ok := all[0].trouble(TroubleFlood)
		if ok && trouble.Peer == n.addr(66) && all[0].Stats().Dropped["connection-refused"] >= 9*maxPerSource {
			return true
		}
		open(1) // on a slow machine the first were given up for their silence, and made room for others
		return false
	})
	tr := all[0].transport.Load()
	tr.mu.Lock()
	defer tr.mu.Unlock()
	if got := tr.open[netip.MustParseAddr(n.addr(66))]; got > maxPerSource {
		t.Errorf("%d of one address are open, want %d at most", got, maxPerSource)
	}
}

func TestTenMegabytesAreCutAndNamed(t *testing.T) {
	t.Parallel()
	n := newTestNet(t)
	all := n.start(t, 2)
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(n.addr(66))}}
	conn, err := dialer.Dial("tcp", all[0].Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		t.Fatal(err)
	}
	head := append([]byte{frameLabel, 4}, "test"...)
	head = binary.BigEndian.AppendUint32(append(head, frameEncrypted), 10<<20)
	_, _ = conn.Write(append(append(head, 1), make([]byte, 10<<20)...)) // it hangs up on us amid this, or says why after it
	eventually(t, "it is counted and named", func() bool {
		trouble, ok := all[0].trouble(TroubleFlood)
		return ok && trouble.Peer == n.addr(66) && strings.Contains(trouble.Text, "8 MiB") && all[0].Stats().Dropped["connection-cut"] > 0
	})
	eventually(t, "nothing of it is held", func() bool { return all[0].transport.Load().held.Load() == 0 })
	together(t, all...)
}

func TestWhatTheLibraryPanicsOnDoesNotReachIt(t *testing.T) {
	label := append([]byte{frameLabel, 4}, "test"...)
	stream := func(length uint32, version byte) []byte {
		return append(binary.BigEndian.AppendUint32(append(bytes.Clone(label), frameEncrypted), length), version)
	}
	for _, c := range []struct {
		b         []byte
		done, bad bool
	}{
		{nil, false, false},
		{label[:4], false, false},
		{label, false, false},
		{append(bytes.Clone(label), frameEncrypted, 0, 0), false, false},
		{stream(shortestSealed+1, 1), true, false},
		{stream(shortestSealed, 1), true, true},
		{stream(1000, 0), true, true},
		{append(bytes.Clone(label), 6), true, false},
	} {
		if done, bad := judgeStream(c.b); done != c.done || bad != c.bad {
			t.Errorf("%x: %v %v", c.b, done, bad)
		}
	}
	n := newTestNet(t)
	all := n.start(t, 2)
	conn, err := net.Dial("tcp", all[0].Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	// A connection that holds nothing, encrypted as it must be: the length is a part of what is authenticated.
	head := stream(shortestSealed, 1)
	context := append(bytes.Clone(head[6:len(head)-1]), "test"...)
	if _, err := conn.Write(append(head[:len(head)-1], sealedWith(t, nil, context)...)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it is named", func() bool { _, ok := all[0].trouble(TroubleKey); return ok })
	together(t, all...)
}

// tap hands on what a peer sends.
type tap struct {
	memberlist.NodeAwareTransport
	mu   sync.Mutex
	seen [][]byte
}

func (w *tap) WriteToAddress(b []byte, to memberlist.Address) (time.Time, error) {
	w.mu.Lock()
	if len(w.seen) < 1000 {
		w.seen = append(w.seen, bytes.Clone(b))
	}
	w.mu.Unlock()
	return w.NodeAwareTransport.WriteToAddress(b, to)
}

func TestReplayedAndTruncatedDatagramsHarmNobody(t *testing.T) {
	t.Parallel()
	n := newTestNet(t)
	first := start(t, n.config(1))
	cfg := n.config(2)
	recorder := &tap{}
	cfg.wrap = func(t memberlist.NodeAwareTransport) memberlist.NodeAwareTransport {
		recorder.NodeAwareTransport = t
		return recorder
	}
	second := start(t, cfg)
	together(t, first, second)
	for i := range 20 {
		if err := errors.Join(second.Send("cmp-1", []byte(fmt.Sprint("direct ", i))), second.Broadcast([]byte(fmt.Sprint("to all ", i)))); err != nil {
			t.Fatal(err)
		}
	}
	all := func() bool {
		for i := range 20 {
			if first.received("cmp-2", fmt.Sprint("direct ", i)) != 1 || first.received("cmp-2", fmt.Sprint("to all ", i)) != 1 {
				return false
			}
		}
		return true
	}
	eventually(t, "each is there once", all)
	recorder.mu.Lock()
	seen := recorder.seen
	recorder.mu.Unlock()
	fire(t, n.addr(66), first.Addr().String(), func(yield func([]byte) bool) {
		for _, b := range seen {
			for _, cut := range [][]byte{b, b, b[:len(b)-1], b[:len(b)/2], b[:min(len(b), 7)]} {
				if !yield(cut) {
					return
				}
			}
		}
	})
	eventually(t, "the truncated are named", func() bool {
		trouble, ok := first.trouble(TroubleKey)
		return ok && trouble.Peer == n.addr(66)
	})
	eventually(t, "the replayed are counted", func() bool { return first.Stats().Dropped["replayed"] >= 20 })
	if !all() {
		t.Error("a replayed message was delivered again")
	}
	together(t, first, second)
}

func TestWrongWireVersionIsNamedOnBothSides(t *testing.T) {
	t.Parallel()
	n := newTestNet(t)
	all := n.start(t, 2)
	cfg := n.config(3)
	cfg.wire = wireVersions{2, 3, 3}
	stranger := start(t, cfg)
	eventually(t, "both sides name the version", func() bool {
		a, here := all[0].trouble(TroubleVersion)
		b, there := stranger.trouble(TroubleVersion)
		return here && there && strings.Contains(a.Text, "Upgrade") && strings.Contains(b.Text, "Upgrade") && b.Peer == n.addr(1)
	})
	if len(stranger.Members()) != 1 || len(all[0].Members()) != 2 {
		t.Error("the stranger got in")
	}
	newer := n.config(4) // of the next version, but it speaks ours as long as it must
	newer.wire = wireVersions{1, 2, 1}
	together(t, append(all, start(t, newer))...)
}

func TestOneOfAWrongVersionInTheGossipKeepsNobodyOut(t *testing.T) {
	t.Parallel()
	n := newTestNet(t)
	all := n.start(t, 2)
	for _, bad := range []*memberlist.Node{
		{Name: "newer", Addr: net.IP{192, 0, 2, 1}, Port: 7946, PMin: 1, PMax: 5, PCur: 2, DMin: 7, DMax: 9, DCur: 8},
		{Name: "older", Addr: net.IP{192, 0, 2, 1}, Port: 7946, PMin: 1, PMax: 5, PCur: 2},
		{Name: "no such\x1b[2J/name", Addr: net.IP{192, 0, 2, 1}, Port: 7946, PMin: 1, PMax: 5, PCur: 2, DMin: 1, DMax: 1, DCur: 1},
		{Name: "nowhere", Addr: net.IP{1, 2, 3}, Port: 7946, PMin: 1, PMax: 5, PCur: 2, DMin: 1, DMax: 1, DCur: 1},
		{Name: "anywhere", Addr: net.IP{0, 0, 0, 0}, Port: 7946, PMin: 1, PMax: 5, PCur: 2, DMin: 1, DMax: 1, DCur: 1},
	} {
		// As a compound of memberlist's messages has it: a liar who has the key.
		var msg bytes.Buffer
		msg.WriteByte(4) // alive
		err := codec.NewEncoder(&msg, &codec.MsgpackHandle{}).Encode(map[string]any{
			"Incarnation": uint32(1), "Node": bad.Name, "Addr": []byte(bad.Addr), "Port": bad.Port,
			"Vsn": []byte{bad.PMin, bad.PMax, bad.PCur, bad.DMin, bad.DMax, bad.DCur},
		})
		if err != nil {
			t.Fatal(err)
		}
		fire(t, n.addr(2), all[0].Addr().String(), func(yield func([]byte) bool) { yield(sealed(t, msg.Bytes())) })
	}
	eventually(t, "each is named", func() bool { return len(all[0].Stats().Troubles) >= 5 })
	for _, one := range all[0].Stats().Troubles {
		if strings.ContainsRune(one.Peer+one.Text, 0x1b) {
			t.Errorf("control characters reach the operator: %q", one.Peer+one.Text)
		}
	}
	together(t, append(all, start(t, n.config(3)))...)
	if hosts := all[0].Hosts(); len(hosts) != 3 {
		t.Errorf("on the roster: %+v", hosts)
	}
}

// sealed is a datagram as memberlist encrypts it: with the label before it, which is the context as well.
func sealed(t *testing.T, msg []byte) []byte {
	return append(append([]byte{frameLabel, 4}, "test"...), sealedWith(t, msg, []byte("test"))...)
}

// sealedWith is version 1, nonce, and what AES-GCM makes of the message within a context.
func sealedWith(t *testing.T, msg, context []byte) []byte {
	t.Helper()
	block, err := aes.NewCipher(testKey)
	if err != nil {
		t.Fatal(err)
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		t.Fatal(err)
	}
	nonce := make([]byte, gcm.NonceSize())
	random := rand.NewChaCha8([32]byte(bytes.Repeat([]byte{byte(len(msg))}, 32)))
	_, _ = random.Read(nonce)
	return gcm.Seal(append([]byte{1}, nonce...), nonce, msg, context)
}

func TestGarbageHarmsNobody(t *testing.T) {
	n := newTestNet(t)
	all := n.start(t, 2)
	conn, err := net.Dial("udp", all[0].Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	random := rand.NewChaCha8([32]byte{1})
	for size := range 1400 {
		b := make([]byte, size)
		random.Read(b)
		conn.Write(b)
	}
	for range 20 {
		stream, err := net.Dial("tcp", all[0].Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		b := make([]byte, 10<<20)
		random.Read(b[:1024])
		stream.SetDeadline(time.Now().Add(2 * time.Second))
		stream.Write(b)
		stream.Close()
	}
	eventually(t, "it is counted", func() bool { return len(all[0].Stats().Troubles) > 0 })
	if err := all[1].Broadcast([]byte("well?")); err != nil {
		t.Fatal(err)
	}
	eventually(t, "and all is well", func() bool { return all[0].received("cmp-2", "well?") == 1 })
	together(t, all...)
}
