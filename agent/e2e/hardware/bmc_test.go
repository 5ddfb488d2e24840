package hardware

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/paramedic-ha/paramedic/agent/e2e/fleet"
)

// The sensors are those of hw/ipmi/testdata/sim/bmc.emu.

func temperature(t *testing.T, h *host) {
	f := fault{condition: "temperature", on: "sensor/bmc-01", severity: "warning", affected: all("at-risk")}
	h.fails(t, f, func() error { return h.BMC.Measure("ambient", 45) })
	h.heals(t, f, func() error { return h.BMC.Reset("ambient") })
}

func fan(t *testing.T, h *host) {
	f := fault{condition: "fan-failed", on: "fan/bmc-04", severity: "warning", affected: all("at-risk")}
	h.fails(t, f, func() error { return h.BMC.Measure("fan1", 5) })
	h.heals(t, f, func() error { return h.BMC.Reset("fan1") })
}

// powerSupplies fail one after the other.
func powerSupplies(t *testing.T, h *host) {
	one := fault{condition: "power-supply-failed", on: "psu/bmc-10.1", severity: "warning", affected: all("at-risk")}
	power := fault{condition: "power-lost", severity: "critical", affected: all("failed")}
	h.fails(t, one, func() error { return h.BMC.Bit(0x10, 1, true) })
	h.fails(t, power, func() error { return h.BMC.Bit(0x11, 3, true) })
	h.heals(t, power, func() error { return h.BMC.Bit(0x11, 3, false) })
	h.heals(t, one, func() error { return h.BMC.Bit(0x10, 1, false) })
}

// busEvent is a PCI system error in the event log.
func busEvent(t *testing.T, h *host) {
	f := fault{condition: "bus-error", severity: "critical", affected: all("degraded")}
	h.fails(t, f, func() error { return h.BMC.Log([7]byte{4, 0x13, 0x30, 0x6f, 0xa5, 0, 0}) })
	h.passes(f)
}

// burst is twenty corrected memory errors at once, and a log that somebody else clears right behind them and behind one more.
func burst(t *testing.T, h *host) {
	f := fault{condition: "hardware-corrected", on: "dimm/bmc-31", severity: "warning", affected: all("at-risk")}
	before := h.records(t)
	var records [][7]byte
	for i := range 20 {
		records = append(records, [7]byte{4, 0x0c, 0x31, 0x6f, 0xa0, 0xff, byte(i)})
	}
	h.fails(t, f, func() error { return h.BMC.Log(records...) })
	h.read(t, before+20)
	fleet.Must(t, h.BMC.Tool("sel", "clear"))
	fleet.Must(t, h.BMC.Log([7]byte{4, 0x0c, 0x31, 0x6f, 0xa0, 0xff, 20}))
	h.read(t, before+21)
	h.passes(f)
}

// read waits until the agent has read so many records of the event log, and finds it has read no more.
func (h *host) read(t *testing.T, want int) {
	t.Helper()
	fleet.Within(t, fleet.Patience, "the records to be read", func() error {
		if n := h.records(t); n != want {
			return fmt.Errorf("%d of %d", n, want)
		}
		return nil
	})
}

// records are how many of the event log the agent has read.
func (h *host) records(t *testing.T) int { return h.count(t, "ipmi", "records") }

// count is one of the counters of a source.
func (h *host) count(t *testing.T, source, kind string) (n int) {
	t.Helper()
	out := h.run(t, fmt.Sprintf(`curl -s --unix-socket /run/paramedic.sock http://paramedic/metrics | grep ^paramedic_source_events_total | grep '"%s"' | grep '"%s"'`, kind, source))
	if _, err := fmt.Sscan(out[strings.LastIndex(out, "}")+1:], &n); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return n
}

// frozen is a BMC that hangs: the agent says that it can't see, all else goes on, and what was known stands.
func frozen(t *testing.T, h *host) {
	power := fault{condition: "power-supply-failed", on: "psu/bmc-10.2", severity: "warning", affected: all("at-risk")}
	h.fails(t, power, func() error { return h.BMC.Bit(0x11, 1, true) })
	fleet.Must(t, h.BMC.Freeze())
	h.blind(t, true)
	f := fault{condition: "machine-check", severity: "critical", affected: all("degraded")}
	h.acknowledged(t, f, h.fails(t, f, h.shell(inject(uncorrectedStatus))))
	fleet.Must(t, h.BMC.Thaw())
	h.blind(t, false)
	h.heals(t, power, func() error { return h.BMC.Bit(0x11, 1, false) })
}

// blind waits until a peer knows that the host can't see its BMC, or that it can again. It hits no domain: the consumer, who asks
// for states of domains, is not told.
func (h *host) blind(t *testing.T, want bool) {
	t.Helper()
	took := fleet.Within(t, fleet.Patience, "the alarm about the BMC", func() error {
		standing, err := h.peers[0].Standing()
		if err != nil {
			return err
		}
		if slices.ContainsFunc(standing, func(a fleet.Alarm) bool {
			return a.Host == h.self.Name && a.Condition == "source-blind" && a.Resource == "service/paramedic/ipmi"
		}) != want {
			return fmt.Errorf("%+v", standing)
		}
		return nil
	})
	transition := map[bool]string{true: "raised", false: "cleared"}[want]
	h.log(t, transition, fault{condition: "source-blind", on: "service/paramedic/ipmi"}, took)
}
