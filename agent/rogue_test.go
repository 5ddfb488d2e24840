package agent

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"testing"
	"time"

	"github.com/paramedic-ha/paramedic/gossip"
)

// A peer that holds the key and says what cannot be is named at each agent, harms nobody, and changes nothing of what
// anybody else says.
func TestAPeerThatContradictsItselfIsNamedAndHarmsNobody(t *testing.T) {
	h := newHosts(t, 2)
	h.start()
	r := receive(t)
	id := h.subscribe(0, r).ID

	mad, err := gossip.NewPeer(gossip.PeerConfig{
		Node: "mad", Bind: h.net + ".9", Join: []string{h.net + ".1"}, Label: "test", Keys: gossip.Keyring{Keys: []gossip.CipherKey{h.gossip}},
		Log: slog.New(slog.DiscardHandler), Deliver: func(string, []byte) {},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- mad.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	eventually(t, "the peer is a member everywhere", func() bool { return len(mad.Members()) == 3 })

	own := gossip.Record{Key: gossip.Key{Space: "mad", Kind: gossip.KindAlarm, ID: "x"}, Version: gossip.Version{A: 2, B: 1, Node: "mad"}, Payload: []byte("one")}
	other := own
	other.Payload = []byte("another")
	foreign := gossip.Record{Key: gossip.Key{Space: "cmp-1", Kind: gossip.KindHost}, Version: gossip.Version{A: 1 << 40, B: 1, Node: "mad"}, Payload: []byte("{}")}
	ahead := gossip.Record{
		Key:     gossip.Key{Kind: gossip.KindSubscription, ID: id},
		Version: gossip.Version{A: uint64(time.Now().Add(time.Hour).UnixNano()), Node: "mad"}, Deleted: true, //nolint:gosec // this century
	}
	says := gossip.EncodeRecords([]gossip.Record{own, other, foreign, ahead}, 1200)
	next := slices.Clone(says[0])
	next[0] = gossip.FormatVersion + 1
	says = append(says, next, says[0][:len(says[0])-3])
	named := func(one *clusterHost) error {
		got := map[string]bool{}
		for _, rejected := range one.Cluster().Status().Replica.Rejected {
			got[rejected.Host+" "+rejected.Reason.String()] = true
		}
		for _, want := range []string{"mad contradiction", "cmp-1 foreign", "mad ahead-of-clock", "mad undecodable"} {
			if !got[want] {
				return fmt.Errorf("%s does not name %q, but %v", one.config.Node.Name, want, got)
			}
		}
		return nil
	}
	t.Cleanup(func() {
		for _, one := range h.all {
			if err := named(one); t.Failed() && err != nil {
				t.Log(err)
			}
		}
	})
	eventually(t, "it is named everywhere", func() bool {
		for _, msg := range says {
			if err := mad.Broadcast(msg); err != nil {
				t.Fatal(err)
			}
		}
		return named(h.all[0]) == nil && named(h.all[1]) == nil
	})
	for _, one := range h.all {
		if one.knows(id) == nil {
			t.Errorf("%s has lost the subscription", one.config.Node.Name)
		}
		for _, v := range one.Cluster().Hosts() {
			if v.Name == "cmp-1" && v.Zone != "z1" {
				t.Errorf("%s believes of cmp-1 %+v", one.config.Node.Name, v.Host)
			}
		}
	}
	h.all[1].say(fails)
	if got := r.await(t, 1)[0]; got.Data.Host != "cmp-2" {
		t.Errorf("told %s", got)
	}
}
