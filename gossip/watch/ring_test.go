package watch

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func somePeers(n int, zone func(int) string) []*peer {
	peers := make([]*peer, n)
	for i := range peers {
		name := fmt.Sprintf("cmp-%d", i)
		peers[i] = &peer{Host: Host{Name: name, Zone: zone(i)}, places: hashes(name), live: true}
	}
	return peers
}

func TestEachHostHasItsObservers(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		zones := make([]int, rapid.IntRange(1, 40).Draw(t, "hosts"))
		for i := range zones {
			zones[i] = rapid.IntRange(0, 4).Draw(t, "zone")
		}
		all := somePeers(len(zones), func(i int) string { return fmt.Sprint(zones[i]) })
		var live []*peer
		for _, p := range all {
			if p.live = rapid.IntRange(0, 3).Draw(t, "live") > 0; p.live {
				live = append(live, p)
			}
		}
		rs := newRings(live)
		for _, p := range all {
			candidates, outside := 0, 0
			for _, o := range live {
				if o != p {
					candidates++
					if o.Zone != p.Zone {
						outside++
					}
				}
			}
			got := rs.observers(p, nil)
			if len(got) != min(maxObservers, candidates) {
				t.Fatalf("%s has %d observers of %d candidates", p.Name, len(got), candidates)
			}
			foreign := 0
			for i, o := range got {
				if o == p || !o.live || slices.Contains(got[:i], o) {
					t.Fatalf("%s is watched by %s", p.Name, o.Name)
				}
				if o.Zone != p.Zone {
					foreign++
				}
			}
			if foreign != min(len(got), outside) {
				t.Fatalf("%s has %d observers of other zones, and could have %d", p.Name, foreign, min(len(got), outside))
			}
		}
	})
}

// When one goes, those that it didn't watch keep nearly all of their observers, and nobody has to watch very many.
func TestRingsMoveLittle(t *testing.T) {
	live := somePeers(200, func(i int) string { return fmt.Sprint(i % 7) })
	before := newRings(live)
	gone := live[17]
	gone.live = false
	after := newRings(slices.DeleteFunc(slices.Clone(live), func(p *peer) bool { return p == gone }))
	watches := map[*peer]int{}
	moved := 0
	for _, p := range live {
		was, is := before.observers(p, nil), after.observers(p, nil)
		for _, o := range is {
			watches[o]++
		}
		for _, o := range was {
			if o != gone && !slices.Contains(is, o) {
				moved++
			}
		}
	}
	if moved > 2 {
		t.Errorf("%d observers moved without need", moved)
	}
	for p, n := range watches {
		if n > 40 {
			t.Errorf("%s watches %d", p.Name, n)
		}
	}
}

func TestEverybodySeesTheSameRings(t *testing.T) {
	c := newCluster(t, 30, Config{Probable: 350 * time.Millisecond, Confirmed: 700 * time.Millisecond, Echo: true}, "a", "b", "c", "d")
	for _, nd := range c.nodes {
		for _, o := range nd.machine.Status(c.now).Observers {
			watched := c.node(o).machine.Status(c.now).Observed
			if !slices.ContainsFunc(watched, func(w Observed) bool { return w.Host == nd.Name }) {
				t.Errorf("%s takes %s for its observer, which doesn't watch it", nd.Name, o)
			}
		}
	}
}
