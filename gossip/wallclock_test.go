package gossip

import (
	"log/slog"
	"testing"
	"time"
)

// A time with a monotonic reading runs evenly whatever is done to the clock, and the replica would never learn that it was set.
func TestTheReplicaIsGivenTheClockAsItIsSet(t *testing.T) {
	cfg := newTestNet(t).config(1)
	cfg.Log = slog.New(slog.DiscardHandler)
	r, err := NewReplicator(ReplicatorConfig{Peer: cfg, Term: 2, Log: cfg.Log})
	if err != nil {
		t.Fatal(err)
	}
	a := run(t, r)
	err = a.Update(t.Context(), func(now time.Time, w *Writer) error {
		if now != now.Round(0) || w.now != now.Round(0) {
			t.Errorf("it is given %v", now)
		}
		return w.SetShared(KindAck, "a", nil)
	})
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "it looks at the clock", func() bool {
		var looked time.Time
		if err := a.View(t.Context(), func(r *Replica) { looked = r.looked }); err != nil {
			t.Fatal(err)
		}
		if looked != looked.Round(0) {
			t.Fatalf("it looks at %v", looked)
		}
		return !looked.IsZero()
	})
}
