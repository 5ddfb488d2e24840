package agent

import (
	"fmt"
	"testing"

	"github.com/paramedic-ha/paramedic/correlate"
)

// An alarm that hits 500 domains fits no datagram: it and what it needs go over connections, whole.
func TestAnAlarmThatHitsFiveHundredDomainsIsKnownEverywhere(t *testing.T) {
	const domains = 500
	h := newHosts(t, 3)
	first := h.all[0].first
	for i := range domains - 1 { // and the one that every host of the lab has
		first.Set = append(first.Set, correlate.Resource{
			ID: correlate.NewID(correlate.KindDomain, fmt.Sprintf("00000000-0000-4000-8000-%012d", i)), Name: fmt.Sprintf("vnf-%d", i), Project: "red",
			Needs: []correlate.Need{{Of: []correlate.ID{"nic/tap0"}}},
		})
	}
	h.all[0].first = first
	h.start()
	r := receive(t)
	h.subscribe(2, r)
	h.all[0].say(fails)
	for _, one := range h.all[1:] {
		eventually(t, "the alarm with all that it hits is known at "+one.config.Node.Name, func() bool {
			for _, a := range one.Cluster().Alarms() {
				if a.Key.Condition == correlate.CondCarrier && a.Key.Home == "cmp-1" {
					return len(a.Affected) == domains
				}
			}
			return false
		})
	}
	if got := r.await(t, 1)[0]; got.Data.Reporter != "cmp-1" {
		t.Errorf("told %s", got)
	}
	h.all[0].say(recovers)
	for _, one := range h.all[1:] {
		eventually(t, "its end is known at "+one.config.Node.Name, func() bool { return len(one.Cluster().Alarms()) == 0 })
	}
	r.await(t, 2)
}
