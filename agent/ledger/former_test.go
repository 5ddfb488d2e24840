package ledger

import (
	"testing"

	"github.com/paramedic-ha/paramedic/gossip"
	"github.com/paramedic-ha/paramedic/notify"
)

// What a host has on its disk of a peer's file may have been paused once. The tombstone of that pause, which it has on its disk
// too, is not the end of the subscription: what was told and is owed would be lost.
func TestTheEndOfAPauseDoesNotEndAFilesSubscription(t *testing.T) {
	sub := notify.Subscription{ID: "vnfm", Version: 1, Name: "vnfm", Endpoints: []string{"http://10.0.0.9/in"}, Origin: notify.OriginPeer}
	end := gossip.Record{
		Key: gossip.Key{Space: gossip.Shared, Kind: gossip.KindSubscription, ID: sub.ID}, Version: gossip.Version{A: 1, Node: "cmp-1"}, Deleted: true,
	}
	for origin, dropped := range map[notify.Origin]bool{notify.OriginPeer: false, notify.OriginAPI: true} {
		l := New(Config{Node: "cmp-2"})
		sub.Origin = origin
		l.Known(noon, []notify.Subscription{sub})
		l.Take(noon, gossip.Changes{Changed: []gossip.Record{end}})
		if o := l.Begin(noon); (len(o.Drop) > 0) != dropped {
			t.Errorf("of origin %s: dropped %v", origin, o.Drop)
		}
	}
}

// Of files that say the same, one whose secret was sealed under another key is no choice when there is another.
func TestAWishThatCanBeOpenedIsPreferred(t *testing.T) {
	n := uint64(0)
	sub := notify.Subscription{ID: "vnfm", Version: 1, Name: "vnfm", Endpoints: []string{"http://10.0.0.9/in"}, Secret: notify.NewSecret(make([]byte, 24))}
	l := New(Config{Node: "cmp-3", Sealer: toySealer{"k", &n}})
	for i, name := range []string{"cmp-1", "cmp-2"} {
		other := New(Config{Node: name, Sealer: toySealer{[]string{"another", "k"}[i], &n}})
		sub.Created = noon.AddDate(0, 0, -i) // the one that can't be opened is the later one
		other.File(noon, []notify.Subscription{sub})
		for _, w := range other.Begin(noon).Write {
			l.Take(noon, gossip.Changes{Changed: []gossip.Record{{
				Key: gossip.Key{Space: name, Kind: w.Kind, ID: w.ID}, Version: gossip.Version{A: 2, B: 1, Node: name}, Payload: w.Payload,
			}}})
		}
	}
	o := l.Begin(noon)
	if len(o.Put) != 1 || o.Put[0].Subscription.Secret.Locked() || len(o.Report) > 0 {
		t.Errorf("%+v", o)
	}
}
