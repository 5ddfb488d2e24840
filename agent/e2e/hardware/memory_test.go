package hardware

import "testing"

// correctedMemory has a storm of corrected errors; it ends a window after it has calmed down.
func correctedMemory(t *testing.T, h *host) {
	f := fault{condition: "memory-degraded", on: "dimm/mc0/dimm1", severity: "warning", affected: all("at-risk")}
	h.fails(t, f, h.shell("for i in 1 2 3; do echo ce 1 100 >/sys/module/labedac/parameters/inject; sleep 0.3; done"))
	h.heals(t, f, func() error { return nil })
}

func uncorrectedMemory(t *testing.T, h *host) {
	f := fault{condition: "memory-uncorrected", on: "dimm/mc0/dimm2", severity: "critical", affected: all("degraded")}
	h.acknowledged(t, f, h.fails(t, f, h.shell("echo ue 2 1 >/sys/module/labedac/parameters/inject")))
}
