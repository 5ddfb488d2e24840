package ledger

import (
	"testing"
	"time"

	"github.com/paramedic-ha/paramedic/agent/seal"
	"github.com/paramedic-ha/paramedic/correlate"
	"github.com/paramedic-ha/paramedic/gossip"
	"github.com/paramedic-ha/paramedic/notify"
)

// A change of the secrets key comes to an end: what is sealed under the old one, or was bare, is sealed under the new one by
// the first host that has begun with it.
func TestSecretsAreSealedAnewUnderAChangedKey(t *testing.T) {
	oldKey, newKey := seal.GenerateKey(), seal.GenerateKey()
	ring := func(keys string) *seal.Keyring {
		r, err := seal.ParseKeyring([]byte(keys))
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	secret, err := notify.ParseSecret(notify.GenerateSecret())
	if err != nil {
		t.Fatal(err)
	}
	sub := notify.Subscription{
		ID: "2ec84f5b-60f4-424f-8e97-45acb767f72b", Version: 7, Name: "vnfm", Endpoints: []string{"http://10.0.0.5/"}, Format: notify.FormatNative,
		Role: notify.RoleAdmin, Origin: notify.OriginAPI, Secret: secret, Credentials: bearer("t"), Paused: "for a while",
	}
	for _, c := range []struct {
		name   string
		before notify.Sealer
		writes int
	}{
		{"under the old key", ring(oldKey), 1},
		{"bare", nil, 1},
		{"under the new key", ring(newKey), 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			first := New(Config{Node: "cmp-1", Label: "prod", Sealer: c.before})
			first.Begin(noon)
			o, err := first.Publish(noon, sub, map[string]correlate.Revision{})
			if err != nil || len(o.Write) != 1 {
				t.Fatalf("%d writes, %v", len(o.Write), err)
			}
			published := o.Write[0]

			l := New(Config{Node: "cmp-2", Label: "prod", Sealer: ring(newKey + "\n" + oldKey)})
			l.Begin(noon)
			put := l.Take(noon, gossip.Changes{Changed: []gossip.Record{{
				Key: gossip.Key{Kind: gossip.KindSubscription, ID: sub.ID}, Version: gossip.Version{A: 9, Node: "cmp-1"}, Payload: published.Payload,
			}}})
			if len(put.Put) != 1 {
				t.Fatalf("%d put", len(put.Put))
			}
			var again []Write
			for at := noon; at.Before(noon.Add(2 * settleAfter)); at = at.Add(time.Second) {
				for _, w := range l.Tick(at).Write {
					if w.Kind == gossip.KindSubscription {
						again = append(again, w)
					}
				}
			}
			if len(again) != c.writes {
				t.Fatalf("sealed anew %d times, want %d", len(again), c.writes)
			}
			if c.writes == 0 {
				return
			}
			var p Subscription
			if err := l.codec.decode(again[0].Payload, &p); err != nil {
				t.Fatal(err)
			}
			got, err := notify.OpenSecret(p.Secret, ring(newKey), []byte(sub.ID))
			if err != nil || p.Unsealed || string(got.Seal(nil, nil)) != string(secret.Seal(nil, nil)) {
				t.Errorf("the new key does not open it to the same: %v", err)
			}
			if got, err := notify.OpenCredentials(p.Credentials, ring(newKey), sub.ID); err != nil || p.BareCredentials || !got.Equal(sub.Credentials) {
				t.Errorf("the new key does not open the credentials to the same: %v", err)
			}
			if p.Version != sub.Version || p.Paused != sub.Paused || p.Name != sub.Name {
				t.Errorf("it has changed: %+v", p)
			}
		})
	}
}
