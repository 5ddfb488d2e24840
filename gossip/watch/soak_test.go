package watch

import (
	"slices"
	"testing"
	"time"
)

// A host dies every other second while a twentieth of all packets is lost and kernels and agents stand still now and then:
// all deaths are found in time, and the living are let live.
func TestLossAndStallsAccuseNobody(t *testing.T) {
	cfg := Config{Probable: 350 * time.Millisecond, Confirmed: 700 * time.Millisecond, Echo: true}
	const hosts, rounds = 24, 15
	c := newCluster(t, hosts, cfg, "a", "b", "c")
	c.loss = 0.05
	c.run(6 * time.Second)
	var probable, confirmed []time.Duration
	for round := range rounds {
		dead := c.nodes[c.chance.IntN(hosts)]
		died := c.now
		dead.off = true
		for range 4 { // others stand still meanwhile: kernels for as long as is forgiven, agents for longer
			nd := c.nodes[c.chance.IntN(hosts)]
			if nd == dead {
				continue
			}
			if c.chance.IntN(2) == 0 {
				nd.stalled = c.now.Add(time.Duration(50+c.chance.IntN(180)) * time.Millisecond)
			} else {
				nd.frozen = c.now.Add(time.Duration(100+c.chance.IntN(1200)) * time.Millisecond)
			}
		}
		c.told = nil
		c.run(2 * time.Second)
		first := map[Level]time.Duration{}
		for _, told := range c.told {
			v := told.news.Verdict
			if told.news.Kind == NewsIsolated || told.news.Kind == NewsVerdict && v.Host != dead.Name {
				t.Errorf("round %d: %s says %s", round, told.by, describe(told.news))
			}
			if _, ok := first[v.Level]; !ok && told.news.Kind == NewsVerdict {
				first[v.Level] = told.at.Sub(died)
			}
		}
		probable = append(probable, first[LevelProbable])
		confirmed = append(confirmed, first[LevelConfirmed])
		dead.Term += 2
		c.boot(dead, uint64(100+round))
		c.view()
		c.run(6 * time.Second)
	}
	slices.Sort(probable)
	slices.Sort(confirmed)
	t.Logf("probable after %v, confirmed after %v", probable, confirmed)
	if probable[0] == 0 || probable[rounds-1] > 450*time.Millisecond || confirmed[0] == 0 || confirmed[rounds-1] > 800*time.Millisecond {
		t.Errorf("probable after %v, confirmed after %v", probable, confirmed)
	}
}
