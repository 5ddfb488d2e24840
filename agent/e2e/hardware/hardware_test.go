package hardware

import (
	"os"
	"testing"
	"time"

	"github.com/paramedic-ha/paramedic/agent/e2e/fleet"
)

// TestAHostWhoseHardwareFails goes through the fault catalogue on one host; each test puts back what it broke. What the kernel's
// log tells passes by itself five minutes later: the log comes first, and its end is waited for when all else is done. Until then
// the host and its domains are degraded.
func TestAHostWhoseHardwareFails(t *testing.T) {
	h := boot(t)
	for _, test := range []struct {
		name string
		do   func(*testing.T, *host)
	}{
		{"tasks that make no progress", hungTask},
		{"memory runs out", outOfMemory},
		{"a processor corrects an error", correctedMachineCheck},
		{"a processor can't correct an error", machineCheck},
		{"a card has an error on PCI Express", busError},
		{"the BMC logs an error of a bus", busEvent},
		{"the BMC logs twenty errors at once, and its log is cleared", burst},
		{"one leg of a bond is a loss of redundancy, both are a fault", bond},
		{"a card that is alone loses its carrier", card},
		{"a processor goes offline", processor},
		{"a memory module that corrects too much", correctedMemory},
		{"a memory module that loses data", uncorrectedMemory},
		{"it is too warm", temperature},
		{"a fan fails", fan},
		{"one power supply fails, then both", powerSupplies},
		{"the BMC hangs", frozen},
		{"a mirror loses a disk", mirror},
		{"a file system is full", full},
		{"a file system is damaged", readOnly},
		{"a drive says that it will fail", failing},
		{"a drive is gone", gone},
		{"what it costs", figures},
		{"what the kernel's log told has passed", passed},
		{"the kernel panics and the host comes back", panics},
	} {
		t.Run(test.name, func(t *testing.T) {
			test.do(t, h)
			if t.Failed() {
				out, _ := h.Run("paramedic alarms " + server)
				t.Logf("standing:\n%s\ntold:%s", out, lines(h.ops.All()))
			}
		})
	}
}

// passed waits for the end of what passes.
func passed(t *testing.T, h *host) {
	for _, f := range h.passing {
		fleet.Within(t, 6*time.Minute, f.condition+" to pass", func() error {
			for _, n := range h.ops.All() {
				if h.is(n, "cleared", f) {
					return nil
				}
			}
			return os.ErrNotExist
		})
	}
}
