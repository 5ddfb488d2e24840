package hardware

import (
	"fmt"
	"testing"
)

// figures measures what the agent needs when nothing happens. Emulated, a processor is some ten times slower than one that is real.
func figures(t *testing.T, h *host) {
	const seconds = 20
	commands := h.count(t, "ipmi", "commands")
	var before, after int
	for i, ticks := range []*int{&before, &after} {
		if i > 0 {
			h.run(t, fmt.Sprint("sleep ", seconds))
		}
		out := h.run(t, "cut -d' ' -f14,15 /proc/$(cat /run/paramedic.pid)/stat")
		var user, system int
		if _, err := fmt.Sscan(out, &user, &system); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		*ticks = user + system
	}
	const ticksPerSecond = 100 // USER_HZ
	t.Logf("%.1f %% of an emulated core; %d commands a minute to the BMC", float64(after-before)*100/ticksPerSecond/seconds,
		(h.count(t, "ipmi", "commands")-commands)*60/seconds)
}
