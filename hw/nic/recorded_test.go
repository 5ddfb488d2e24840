package nic

import (
	"encoding/hex"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/paramedic-ha/paramedic/correlate"
)

// TestBondAndVLANAsTheKernelTellsOfThem plays what a kernel with bonds and VLANs sent, step by step.
func TestBondAndVLANAsTheKernelTellsOfThem(t *testing.T) {
	recorded, err := os.ReadFile("testdata/bond-vlan.txt")
	if err != nil {
		t.Fatal(err)
	}
	table := newTable(nowhere(t), []string{"eth*"}, nil)
	carrier, disabled := correlate.CondCarrier, correlate.CondDisabled
	type state struct {
		id        correlate.ID
		condition correlate.Condition
		want      correlate.Status
	}
	const ok, failed, unknown = correlate.StatusOK, correlate.StatusFailed, correlate.StatusUnknown
	steps := []struct {
		title  string
		active string
		states []state
		gone   []correlate.ID
	}{
		{"The list of all links.", "eth0", []state{{"nic/eth0", carrier, ok}, {"nic/eth1", carrier, ok}, {"bond/bond0", carrier, ok}, {"nic/bond0.100", carrier, ok}}, nil},
		{"The cable of eth0 is pulled.", "eth1", []state{{"nic/eth0", carrier, failed}, {"nic/eth1", carrier, ok}, {"bond/bond0", carrier, ok}, {"nic/bond0.100", carrier, ok}}, nil},
		{"The cable of eth1 too.", "", []state{{"nic/eth1", carrier, failed}, {"bond/bond0", carrier, failed}, {"nic/bond0.100", carrier, failed}}, nil},
		{"The cable of eth1 is back.", "eth1", []state{{"nic/eth0", carrier, failed}, {"nic/eth1", carrier, ok}, {"bond/bond0", carrier, ok}, {"nic/bond0.100", carrier, ok}}, nil},
		{"The bond is disabled.", "eth1", []state{{"bond/bond0", disabled, failed}, {"bond/bond0", carrier, unknown}, {"nic/bond0.100", disabled, unknown}, {"nic/bond0.100", carrier, failed}}, nil},
		{"And enabled.", "eth1", []state{{"bond/bond0", disabled, ok}, {"bond/bond0", carrier, ok}, {"nic/bond0.100", disabled, ok}, {"nic/bond0.100", carrier, ok}}, nil},
		{"eth0 vanishes.", "eth1", []state{{"bond/bond0", carrier, ok}}, []correlate.ID{"nic/eth0"}},
		{"The VLAN is deleted.", "eth1", []state{{"bond/bond0", carrier, ok}}, []correlate.ID{"nic/bond0.100"}},
	}
	parts := strings.Split(string(recorded), "\n# ")[2:] // the head has two lines
	if len(parts) != len(steps) {
		t.Fatalf("%d steps are recorded, want %d", len(parts), len(steps))
	}
	for i, step := range steps {
		title, messages, _ := strings.Cut(parts[i], "\n")
		check(t, "title", title, step.title)
		for line := range strings.FieldsFuncSeq(messages, func(r rune) bool { return r == '\n' }) {
			kind, payload, _ := strings.Cut(line, " ")
			play(t, table, kind, payload, i == 0)
		}
		if i == 0 { // the bridge counts while a tap is on it; this one was not recorded
			apply(t, table, message{index: 100, name: "vnet0", flags: running, attrs: []*nl.RtAttr{
				u32(unix.IFLA_MASTER, 8), info("tun", nl.NewRtAttr(nl.IFLA_TUN_TYPE, nl.Uint8Attr(unix.IFF_TAP))),
			}})
		}
		table.edges(clock())
		d := table.delta(i == 0, clock())
		for _, s := range step.states {
			check(t, title+" "+string(s.id)+" "+string(s.condition), statusOf(table, s.id, s.condition), s.want)
		}
		var gone []correlate.ID
		for _, g := range d.Gone {
			gone = append(gone, g.ID)
		}
		if !slices.Equal(gone, step.gone) {
			t.Errorf("%s gone: %v, want %v", title, gone, step.gone)
		}
		check(t, title+" active leg", table.stated["bond/bond0"].resource.Facts["bond_active"], step.active)
		if i == 0 {
			for id, want := range map[correlate.ID]string{
				"bridge/br0": "all-of:nic/bond0.100", "nic/bond0.100": "all-of:bond/bond0", "bond/bond0": "1-of(carrier):nic/eth0,nic/eth1", "nic/eth0": "",
			} {
				check(t, "needs of "+string(id), showNeeds(table.stated[id].resource.Needs), want)
			}
			check(t, "mode", table.stated["bond/bond0"].resource.Facts["bond_mode"], "active-backup")
			check(t, "id of the VLAN", table.stated["nic/bond0.100"].resource.Facts["vlan"], "100")
		}
	}
}

// play gives one recorded message to the table, as the source does.
func play(t *testing.T, table *table, kind, payload string, inDump bool) {
	t.Helper()
	b, err := hex.DecodeString(payload)
	if err != nil {
		t.Fatal(err)
	}
	msgType, known := map[string]uint16{"new": unix.RTM_NEWLINK, "del": unix.RTM_DELLINK}[kind]
	u, err := decode(msgType, b)
	switch {
	case !known:
		t.Fatalf("message of kind %q", kind)
	case errors.Is(err, errNotALink):
	case err != nil:
		t.Errorf("%s %s: %v", kind, payload, err)
	case u.deleted:
		table.remove(u.link.Attrs().Index, u.moved, clock())
	default:
		table.apply(u.link, inDump, clock())
	}
}
