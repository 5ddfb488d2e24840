package ledger

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// Of any hosts that know the same exactly one sends, and the death of another one moves nothing.
func TestOneOfTheHostsThatAreThereSendsAHeartbeat(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var hosts []string
		for i := range rapid.IntRange(1, 9).Draw(t, "hosts") {
			hosts = append(hosts, fmt.Sprintf("cmp-%d", i))
		}
		subscription := rapid.StringMatching(`[a-z0-9-]{1,36}`).Draw(t, "subscription")
		sender := func(among []string) (who string) {
			for _, name := range among {
				members := slices.DeleteFunc(slices.Clone(among), func(m string) bool { return m == name })
				p := New(Config{Node: name}).Pulse(subscription, members)
				if p.Alive != len(among) {
					t.Fatalf("%s counts %d of %d", name, p.Alive, len(among))
				}
				if p.Mine && who != "" {
					t.Fatalf("%s and %s both send", who, name)
				}
				if p.Mine {
					who = name
				}
			}
			if who == "" {
				t.Fatalf("of %v none sends", among)
			}
			return who
		}
		was := sender(hosts)
		gone := rapid.SampledFrom(hosts).Draw(t, "gone")
		left := slices.DeleteFunc(slices.Clone(hosts), func(m string) bool { return m == gone })
		if len(left) == 0 {
			return
		}
		if now := sender(left); gone != was && now != was {
			t.Fatalf("%s has died, and %s sends in place of %s", gone, now, was)
		}
	})
}
