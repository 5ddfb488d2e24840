package ledger

import (
	"testing"
	"time"

	"github.com/paramedic-ha/paramedic/gossip"
	"github.com/paramedic-ha/paramedic/notify"
)

// A host that starts while it is cut off from all others can't hear that another's file names a subscription: it goes on, with what
// it is owed. It ends when somebody was heard, for long enough, and nobody has named it.
func TestWhatAnothersFileNamedOutlivesAStartInIsolation(t *testing.T) {
	sub := notify.Subscription{
		ID: notify.FileID("prod", "vnfm"), Version: 7, Name: "vnfm", Endpoints: []string{"http://10.0.0.5/"}, Format: notify.FormatNative,
		Role: notify.RoleAdmin, Origin: notify.OriginPeer,
	}
	namer := New(Config{Node: "cmp-2", Label: "prod"})
	named := sub
	named.Origin = notify.OriginFile
	namer.Begin(noon)
	wish := namer.File(noon, []notify.Subscription{named}).Write[0].Payload

	const away = 10 * time.Minute
	for _, c := range []struct {
		name  string
		heard []gossip.Record
		drops int
	}{
		{"still named", []gossip.Record{
			{Key: gossip.Key{Space: "cmp-2", Kind: gossip.KindFileWish, ID: sub.ID}, Version: gossip.Version{A: 2, B: 1, Node: "cmp-2"}, Payload: wish},
		}, 0},
		{"named no more", []gossip.Record{
			{Key: gossip.Key{Space: "cmp-2", Kind: gossip.KindReceipt, ID: pairID("s", "a")}, Version: gossip.Version{A: 2, B: 1, Node: "cmp-2"}, Payload: receiptOf(t)},
		}, 1},
		{"for ever alone", nil, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := New(Config{Node: "cmp-1", Label: "prod"})
			l.Known(noon, []notify.Subscription{sub})
			l.Begin(noon)
			drops := 0
			for at := noon; at.Before(noon.Add(away + 3*settleAfter)); at = at.Add(time.Second) {
				var o Orders
				if at.Equal(noon.Add(away)) {
					o = l.Take(at, gossip.Changes{Changed: c.heard})
					drops += len(o.Drop)
				}
				o = l.Tick(at)
				if drops += len(o.Drop); drops > 0 && at.Before(noon.Add(away+settleAfter/2)) {
					t.Fatalf("dropped %v after the start", at.Sub(noon))
				}
				if len(o.Put) > 0 {
					t.Errorf("put again, as it is: %+v", o.Put)
				}
			}
			if drops != c.drops {
				t.Errorf("dropped %d times, want %d", drops, c.drops)
			}
		})
	}
}

func receiptOf(t *testing.T) []byte {
	t.Helper()
	var c codec
	b, err := c.encode(Receipt{Home: "cmp-3", Told: "2.1"})
	if err != nil {
		t.Fatal(err)
	}
	return b
}
