package hardware

import "testing"

// bond takes both legs, one after the other.
func bond(t *testing.T, h *host) {
	leg := fault{condition: "carrier", on: "nic/eth1", severity: "warning", affected: map[string]string{behindBond.Name: "at-risk"}}
	group := fault{condition: "carrier", on: "bond/bond0", severity: "critical", affected: map[string]string{behindBond.Name: "failed"}}
	set := func(link string, up bool) func() error { return func() error { return h.SetCarrier(link, up) } }

	h.fails(t, leg, set("eth1", false))
	h.fails(t, group, set("eth2", false))
	h.heals(t, group, set("eth2", true))
	h.heals(t, leg, set("eth1", true))
}

// card loses its carrier some times, for the figure.
func card(t *testing.T, h *host) {
	f := fault{condition: "carrier", on: "nic/eth3", severity: "critical", affected: map[string]string{behindCard.Name: "failed"}}
	for range 5 {
		h.fails(t, f, func() error { return h.SetCarrier("eth3", false) })
		h.heals(t, f, func() error { return h.SetCarrier("eth3", true) })
		h.run(t, "sleep 1.5") // the kernel passes on a second loss within a second only then (net/core/link_watch.c)
	}
}

// busError has the card in the PCI Express slot tell its port of a poisoned packet. The driver of emulated cards can't recover,
// which the kernel says: so it is a fatal one.
func busError(t *testing.T, h *host) {
	f := fault{condition: "pcie-fatal", on: "nic/eth3", severity: "critical", affected: map[string]string{behindCard.Name: "degraded"}}
	h.fails(t, f, h.BusError)
	h.passes(f)
}
