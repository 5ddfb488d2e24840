package gossip

import (
	"bytes"
	"fmt"
	"log/slog"
	"testing"
	"time"
)

func TestGossipCoversLostDatagrams(t *testing.T) {
	n := newTestNet(t)
	all := n.start(t, 10)
	n.lose(0.2)
	const count = 50
	for i := range count {
		if err := all[0].Broadcast([]byte(fmt.Sprint("change ", i))); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "19 of 20 messages arrive, where without gossip it were 16", func() bool {
		got := 0
		for _, r := range all[1:] {
			for i := range count {
				got += r.received("cmp-1", fmt.Sprint("change ", i))
			}
		}
		return got >= count*9*95/100
	})
}

func TestLongMessagesGoReliably(t *testing.T) {
	n := newTestNet(t)
	all := n.start(t, 3)
	n.lose(1) // no datagram gets through, yet:
	for _, size := range []int{all[0].Datagram() + 1, 60 << 10, 900 << 10} {
		msg := append([]byte(fmt.Sprint(size, " bytes ")), bytes.Repeat([]byte{'x'}, size)...)
		if err := all[0].Broadcast(msg); err != nil {
			t.Fatal(err)
		}
		if err := all[1].Send("cmp-3", msg); err != nil {
			t.Fatal(err)
		}
		eventually(t, "it is there", func() bool {
			return all[1].received("cmp-1", string(msg)) == 1 && all[2].received("cmp-1", string(msg)) == 1 && all[2].received("cmp-2", string(msg)) == 1
		})
	}
	if err := all[0].Broadcast(make([]byte, maxMessage)); err == nil {
		t.Error("a message of more than the bound is taken")
	}
	n.lose(0)
	// The longest datagram takes no connection. The library takes one now and then, for its own, so that several are tried.
	letter := byte('a')
	eventually(t, "the longest datagram is there, without a connection", func() bool {
		edge := bytes.Repeat([]byte{letter}, all[0].Datagram())
		letter++
		streams := all[0].Stats().StreamsOut
		if err := all[0].Broadcast(edge); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the longest datagram is there", func() bool { return all[2].received("cmp-1", string(edge)) == 1 })
		return all[0].Stats().StreamsOut == streams
	})
	eventually(t, "and it is gossiped, not stuck", func() bool { return all[0].Stats().Queued == 0 })
}

func TestFullInboxDropsAndCounts(t *testing.T) {
	p, err := NewPeer(PeerConfig{Node: "a", Bind: "127.0.0.1:0", Insecure: true, Log: slog.New(slog.DiscardHandler), Deliver: func(string, []byte) {}})
	if err != nil {
		t.Fatal(err)
	}
	big := make([]byte, maxMessage/2)
	for i := range 40 {
		p.delegate().NotifyMsg(envelope{from: fmt.Sprint("n", i), payload: big}.encode())
	}
	if p.Stats().Dropped["inbox-full"] < 7 || p.Stats().Waiting != inboxBytes/len(big) {
		t.Errorf("%d wait, dropped %v", p.Stats().Waiting, p.Stats().Dropped)
	}
	p.delegate().NotifyMsg(make([]byte, maxMessage+1))
	p.delegate().NotifyMsg([]byte{1, 2, 3})
	p.delegate().NotifyMsg(envelope{from: "a", id: 77}.encode())
	for _, reason := range []string{"oversize", "malformed", "own-name"} {
		if p.Stats().Dropped[reason] != 1 {
			t.Errorf("%s: dropped %v", reason, p.Stats().Dropped)
		}
	}
}

func FuzzEnvelope(f *testing.F) {
	f.Add(envelope{relay: true, id: 5, from: "cmp-1", payload: []byte("x")}.encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		if e, err := decodeEnvelope(b); err == nil && b[1] <= flagRelay|flagKeys && !bytes.Equal(e.encode(), b) {
			t.Errorf("%x becomes %x", b, e.encode())
		}
	})
}

func FuzzIdentity(f *testing.F) {
	f.Add(identity{Zone: "z", API: "a", Term: 4, Settled: true, Started: time.UnixMilli(5)}.encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		i, err := decodeIdentity(b)
		if err != nil {
			return
		}
		again, err := decodeIdentity(i.encode())
		if err != nil || !bytes.Equal(again.encode(), i.encode()) {
			t.Errorf("%+v becomes %+v, %v", i, again, err)
		}
	})
}
