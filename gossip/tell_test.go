package gossip

import (
	"bytes"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestApplicationMessagesPassTheReplicaBy(t *testing.T) {
	n := newTestNet(t)
	type heard struct {
		from string
		msg  []byte
	}
	got := make(chan heard, 8)
	start := func(i int, hear func(string, []byte) error) *replicating {
		cfg := n.config(i)
		cfg.Log = slog.New(slog.DiscardHandler)
		r, err := NewReplicator(ReplicatorConfig{Peer: cfg, Term: 2, Log: cfg.Log, Heard: hear})
		if err != nil {
			t.Fatal(err)
		}
		return run(t, r)
	}
	a := start(1, func(from string, msg []byte) error {
		got <- heard{from, msg}
		if len(msg) == 3 {
			return errors.New("no such question")
		}
		return nil
	})
	b := start(2, nil)
	allMembers(t, a, b)

	short := []byte{FormatVersion, byte(TypeReserved), 'h', 'i'}
	long := append([]byte{FormatVersion, 200}, bytes.Repeat([]byte{'x'}, 100_000)...) // over a connection
	for _, msg := range [][]byte{short, long} {
		if err := b.Tell(a.peer.cfg.Node, msg); err != nil {
			t.Fatal(err)
		}
		select {
		case h := <-got:
			if h.from != b.peer.cfg.Node || !bytes.Equal(h.msg, msg) {
				t.Errorf("heard %d bytes from %s, want %d from %s", len(h.msg), h.from, len(msg), b.peer.cfg.Node)
			}
		case <-time.After(20 * time.Second):
			t.Fatalf("a message of %d bytes does not arrive", len(msg))
		}
	}

	for what, msg := range map[string][]byte{
		"of the replica": {FormatVersion, byte(TypeDigest)}, "of another format": {9, 64}, "too short": {FormatVersion},
		"too long": append([]byte{FormatVersion, 64}, make([]byte, maxMessage)...),
	} {
		if err := b.Tell(a.peer.cfg.Node, msg); err == nil {
			t.Errorf("a message %s is sent", what)
		}
	}
	if err := b.Tell("nobody", short); !errors.Is(err, ErrUnknownNode) {
		t.Errorf("tell nobody: %v", err)
	}

	// What the application can't read, and what finds nobody who wants it, is a trouble with its sender.
	if err := b.Tell(a.peer.cfg.Node, short[:3]); err != nil {
		t.Fatal(err)
	}
	if err := a.Tell(b.peer.cfg.Node, short); err != nil {
		t.Fatal(err)
	}
	for r, from := range map[*replicating]*replicating{a: b, b: a} {
		eventually(t, "the trouble is shown", func() bool {
			return slices.ContainsFunc(r.peer.Stats().Troubles, func(x Trouble) bool {
				return x.Kind == TroubleMalformed && x.Peer == from.peer.cfg.Node && strings.Contains(x.Text, "dropped")
			})
		})
	}
}
