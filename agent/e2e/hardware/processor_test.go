package hardware

import "testing"

// processor is taken offline, which nothing tells from one that failed.
func processor(t *testing.T, h *host) {
	f := fault{condition: "cpu-offline", on: "cpu/package0", severity: "critical", affected: all("degraded")}
	h.fails(t, f, h.shell("echo 0 >/sys/devices/system/cpu/cpu1/online"))
	h.heals(t, f, h.shell("echo 1 >/sys/devices/system/cpu/cpu1/online"))
}
