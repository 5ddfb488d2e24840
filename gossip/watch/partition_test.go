package watch

import (
	"testing"
	"time"
)

// A partition of a cluster that loses a twentieth of all packets: more than half declares all the others, and nobody else
// declares anybody. Halves keep quiet.
func TestOnlyAMajorityAccuses(t *testing.T) {
	const hosts = 60
	for _, few := range []int{1, 12, 24, 29, 30} {
		c := newCluster(t, hosts, detect, "a", "b", "c", "d")
		c.loss = 0.05
		c.run(5*time.Second + time.Duration(few)*7*time.Millisecond)
		cut := c.now
		c.split = true
		for i := range few {
			c.side[c.nodes[i*37%hosts].Name] = 1
		}
		c.run(2 * time.Second)
		found := map[Level]map[string]time.Duration{LevelProbable: {}, LevelConfirmed: {}}
		for _, told := range c.told {
			v := told.news.Verdict
			if told.news.Kind != NewsVerdict {
				continue
			}
			if c.side[told.by] == 1 || c.side[v.Host] == 0 || few == hosts/2 {
				t.Errorf("%d of %d cut off: %s says %s", few, hosts, told.by, describe(told.news))
			} else if _, ok := found[v.Level][v.Host]; !ok {
				found[v.Level][v.Host] = told.at.Sub(cut)
			}
		}
		if few == hosts/2 {
			continue
		}
		for level, most := range map[Level]time.Duration{LevelProbable: time.Second, LevelConfirmed: 1400 * time.Millisecond} {
			var last time.Duration
			for _, at := range found[level] {
				last = max(last, at)
			}
			t.Logf("%d of %d cut off: the last is %s after %s", few, hosts, level, last.Round(time.Millisecond))
			if len(found[level]) != few || last > most {
				t.Errorf("%d of %d cut off: %d are %s, the last after %s", few, hosts, len(found[level]), level, last)
			}
		}
	}
}
