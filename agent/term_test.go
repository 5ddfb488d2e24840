package agent

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/paramedic-ha/paramedic/gossip"
)

// rogue is a host that has the key, and says what it likes.
func (h *hosts) rogue() *gossip.Replicator {
	h.t.Helper()
	r, err := gossip.NewReplicator(gossip.ReplicatorConfig{
		Peer: gossip.PeerConfig{
			Node: "rogue", Bind: h.net + ".66", Join: []string{h.net + ".1"}, Label: "test",
			Keys: gossip.Keyring{Keys: []gossip.CipherKey{h.gossip}}, Log: slog.New(slog.DiscardHandler),
		},
		Term: 2, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		h.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	h.t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			h.t.Error(err)
		}
	})
	return r
}

// Whoever has the key can use up a host's terms. That takes its voice among the peers, and must not take that to its consumers.
func TestAHostWhoseTermsAreUsedUpStillNotifies(t *testing.T) {
	h := newHosts(t, 2)
	h.start()
	r := receive(t)
	h.subscribe(0, r)
	h.everywhere("the subscription is active", func(one *clusterHost) bool { return len(one.notifier.Subscriptions()) == 1 })

	forged := gossip.Record{
		Key:     gossip.Key{Space: "cmp-2", Kind: gossip.KindHost},
		Version: gossip.Version{A: gossip.MaxTerm, B: 1, Node: "cmp-2"}, Payload: []byte("\x01\x00{\"zone\":\"forged\"}"),
	}
	rogue := h.rogue()
	if err := rogue.Update(t.Context(), func(_ time.Time, w *gossip.Writer) error { w.Merge([]gossip.Record{forged}); return nil }); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the peers have what was forged", func() bool {
		for _, v := range h.all[0].Cluster().Hosts() {
			if v.Name == "cmp-2" && v.Zone == "forged" {
				return true
			}
		}
		return false
	})
	h.all[1].say(fails)
	if got := r.await(t, 1); got[0].Data.Host != "cmp-2" || got[0].Data.Alarm.State != "raised" {
		t.Errorf("told %v", got)
	}
	h.all[1].stop()
	h.all[1].first = broken
	h.all[1].start()
	h.ready()
	h.all[1].say(recovers)
	if got := r.await(t, 2); len(got) != 2 || got[1].Data.Host != "cmp-2" || got[1].Data.Alarm.State != "cleared" {
		t.Errorf("told %v after a restart", got)
	}
	if !strings.Contains(h.all[1].log.String(), "highest term there is") {
		t.Error("the log does not say it")
	}
}
