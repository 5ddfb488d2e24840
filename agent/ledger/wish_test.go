package ledger

import (
	"reflect"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/paramedic-ha/paramedic/correlate"
	"github.com/paramedic-ha/paramedic/notify"
)

// full is a subscription of the API in which every field says something, but for those that full's test names.
func full() notify.Subscription {
	return notify.Subscription{
		ID: "4fe1c0de-0000-4000-8000-000000000001", Version: 9, Name: "vnfm", Endpoints: []string{"https://10.0.0.9/in"}, DeliverTo: notify.DeliverAll, Format: "sol",
		Secret: notify.NewSecret([]byte("24 bytes are the least it takes")), Role: notify.RoleAdmin, Origin: notify.OriginAPI, Owner: "vnfm-a",
		Filter: notify.Filter{
			Projects: []string{"red"}, Domains: []string{"web"}, ResourceTypes: []correlate.Kind{correlate.KindNIC},
			Conditions: []correlate.Condition{correlate.CondCarrier}, MinSeverity: correlate.SeverityMinor, Kinds: []string{"fault"},
			States: []correlate.State{correlate.StateFailed}, MinConfidence: correlate.ConfidenceProbable,
			Resources: []string{"nic/*"}, Hosts: []string{"cmp-*"}, Zones: []string{"rack-a"}, Labels: map[string][]string{"az": {"nova-1"}},
			VNFs: []string{"vnf-a"},
			SOL: notify.SOLFilter{
				NotificationTypes: []string{"AlarmNotification"}, FaultyResourceTypes: []string{"NETWORK"}, PerceivedSeverities: []string{"CRITICAL"},
				EventTypes: []string{"QOS_ALARM"}, ProbableCauses: []string{"network"},
			},
		},
		Verified: true, Rate: 60, MaxRate: 600, Created: noon, Expires: noon.Add(time.Hour),
		Credentials: bearer("t"), Link: notify.Link{Authorities: authority, ServerName: "vnfm", Direct: true},
	}
}

// authority is a certificate, read as any must be that comes from a peer.
const authority = `-----BEGIN CERTIFICATE-----
MIIBhTCCASugAwIBAgIUSadMPCroOiPCByS7WXVHJiWTFnMwCgYIKoZIzj0EAwIw
FzEVMBMGA1UEAwwMYW4gYXV0aG9yaXR5MCAXDTI2MTEyOTAyNTY0MVoYDzIxMjYx
MTA1MDI1NjQxWjAXMRUwEwYDVQQDDAxhbiBhdXRob3JpdHkwWTATBgcqhkjOPQIB
BggqhkjOPQMBBwNCAATUpyWKdD/+Ya87Ou9Q58/oQAV4MXvgAa0iaCBYLSBDpbEJ
YQnS3HbKnzM0f+lqmcM+cKfRtkaL8lMqE53v/n3go1MwUTAdBgNVHQ4EFgQUPgoj
SAFldo7t1aKq+m4B32C9VegwHwYDVR0jBBgwFoAUPgojSAFldo7t1aKq+m4B32C9
VegwDwYDVR0TAQH/BAUwAwEB/zAKBggqhkjOPQQDAgNIADBFAiAjZFFsTFy45snV
kvWmWqD+122MnmOC/yYfcyvupyMEHAIhAOwNnGQLNfxGz8kahFTXbBKBS79ymW8V
Mt38ggUzLzsP
-----END CERTIFICATE-----
`

// TestEveryFieldOfASubscriptionReachesThePeers: a new one that does not would be lost at the next takeover. A pause has its own way
// (target), and whether the consumer can be reached is for each host to say.
func TestEveryFieldOfASubscriptionReachesThePeers(t *testing.T) {
	s := full()
	here := map[string]bool{
		"Paused": true, "Unreachable": true, "Withheld": true, "SecretKeys": true, "EndpointStates": true,
		"Heartbeat": true, // a form of SOL has none: below
	}
	var unsaid func(v reflect.Value, at string)
	unsaid = func(v reflect.Value, at string) {
		for i := range v.NumField() {
			f := v.Type().Field(i)
			switch {
			case here[f.Name]:
			case v.Field(i).IsZero():
				t.Errorf("full says nothing of %s%s", at, f.Name)
			case f.Type == reflect.TypeFor[notify.Filter](), f.Type == reflect.TypeFor[notify.SOLFilter](), f.Type == reflect.TypeFor[notify.Link]():
				unsaid(v.Field(i), at+f.Name+".")
			}
		}
	}
	unsaid(reflect.ValueOf(s), "")
	beating := s
	beating.Format, beating.Filter.SOL, beating.Heartbeat = "native", notify.SOLFilter{}, 30*time.Second
	l := New(Config{Node: "cmp-1", Sealer: toySealer{"k", new(uint64)}})
	for _, s := range []notify.Subscription{s, beating} {
		b, err := l.codec.encode(l.seal(s))
		if err != nil {
			t.Fatal(err)
		}
		var p Subscription
		if err := l.codec.decode(b, &p); err != nil {
			t.Fatal(err)
		}
		w := l.open(s.ID, p, s.Origin)
		if w.refused != nil || w.locked != nil {
			t.Fatal(w.refused, w.locked)
		}
		if diff := cmp.Diff(s, w.sub, cmp.AllowUnexported(notify.Secret{}), cmp.Comparer(notify.Credentials.Equal)); diff != "" {
			t.Error(diff)
		}
	}
}
