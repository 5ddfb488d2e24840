package gossip

import (
	"testing"
	"time"
)

func TestOurClockIsJudgedByTheMedianOfAll(t *testing.T) {
	const h = time.Hour
	for _, c := range []struct {
		name  string
		peers []time.Duration // how far theirs are ahead of ours
		want  PeersClock
	}{
		{"nobody is known", nil, PeersClock{}},
		{"all are well", []time.Duration{time.Second, 0, -time.Second}, PeersClock{Peers: 3}},
		{"of two hosts", []time.Duration{h}, PeersClock{Peers: 1, Ahead: -h, Disputed: true}},
		{"of two hosts, ours is ahead", []time.Duration{-h}, PeersClock{Peers: 1, Ahead: h, Disputed: true}},
		{"one of three, another", []time.Duration{0, h}, PeersClock{Peers: 2}},
		{"one of three, ours", []time.Duration{h, h}, PeersClock{Peers: 2, Ahead: -h}},
		{"one of four, another", []time.Duration{0, 0, -h}, PeersClock{Peers: 3}},
		{"half of four", []time.Duration{0, -h, -h}, PeersClock{Peers: 3, Ahead: h, Disputed: true}},
		{"three of four, ours among the wrong", []time.Duration{0, 0, h}, PeersClock{Peers: 3}},
		{"all differ", []time.Duration{-2 * h, -h}, PeersClock{Peers: 2, Ahead: h}},
	} {
		r, err := New(Config{Self: "cmp-1"})
		if err != nil {
			t.Fatal(err)
		}
		for i, off := range c.peers {
			now := time.Date(2027, time.January, 1, 0, 0, 0, 0, time.UTC)
			p := &peerState{}
			r.peers[string(rune('a'+i))] = p
			r.measure(p, now, nanos(now.Add(off)))
		}
		got := r.PeersClock()
		if got.Peers != c.want.Peers || got.Disputed != c.want.Disputed || (got.Ahead-c.want.Ahead).Abs() > time.Second {
			t.Errorf("%s: %+v, want %+v", c.name, got, c.want)
		}
	}
}
