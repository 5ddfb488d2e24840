package ovs

import (
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"

	"github.com/paramedic-ha/paramedic/correlate"
	"github.com/paramedic-ha/paramedic/hw"
)

var rewrite = flag.Bool("rewrite", false, "write the golden part of fixtures anew")

const recorded = "testdata/dpdk-host.txtar"

// played is a table that was told what a fixture holds under a name.
type played struct {
	t       testing.TB
	archive *txtar.Archive
	table   *table
}

func play(t testing.TB) *played {
	t.Helper()
	archive, err := txtar.ParseFile(recorded)
	if err != nil {
		t.Fatal(err)
	}
	p := &played{t, archive, newTable(hw.Root{Proc: t.TempDir(), Sys: t.TempDir()}, nil)}
	p.table.takeSwitch(report{life: alive, process: "ovs-vswitchd (Open vSwitch) 3.1.0"})
	p.tell("start")
	return p
}

func (p *played) text(name string) []byte {
	p.t.Helper()
	i := slices.IndexFunc(p.archive.Files, func(f txtar.File) bool { return f.Name == name })
	if i < 0 {
		p.t.Fatalf("the fixture has no %s", name)
	}
	return p.archive.Files[i].Data
}

func (p *played) tell(name string) {
	p.t.Helper()
	u, err := parseTables(json.RawMessage(p.text(name)))
	if err != nil {
		p.t.Fatal(err)
	}
	p.table.takeDatabase(report{life: alive, tables: u, whole: name == "start"})
}

func show(s *statement) string {
	var b strings.Builder
	needs := func(all []correlate.Need) string {
		var texts []string
		for _, n := range all {
			texts = append(texts, fmt.Sprintf("%s %v", n.Mode, n.Of))
		}
		return strings.Join(texts, ", ")
	}
	for _, id := range slices.Sorted(maps.Keys(s.resources)) {
		r := s.resources[id]
		fmt.Fprintf(&b, "%s\n\tneeds %s\n\tfacts %v\n", id, needs(r.Needs), r.Facts)
	}
	for _, id := range slices.Sorted(maps.Keys(s.requires)) {
		fmt.Fprintf(&b, "for %s\n\tneeds %s\n", id, needs(s.requires[id]))
	}
	var lines []string
	for c, j := range s.judged {
		lines = append(lines, fmt.Sprintf("%s %s %s: %s\n", c.id, c.condition, j.status, j.text))
	}
	slices.Sort(lines)
	return b.String() + strings.Join(lines, "")
}

func TestRecordedHostIsUnderstood(t *testing.T) {
	p := play(t)
	got := show(p.table.state())
	if *rewrite {
		p.archive.Files[len(p.archive.Files)-1].Data = []byte(got)
		if err := os.WriteFile(recorded, txtar.Format(p.archive), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(string(p.text("want")), got); diff != "" {
		t.Errorf("(-want +got), or -rewrite:\n%s", diff)
	}
}

func TestLinksOfDPDKAreJudgedByTheDatabase(t *testing.T) {
	p := play(t)
	engine := correlate.New(correlate.Config{Home: "cmp-1", Term: 2}, nil)
	now := time.Unix(1000, 0)
	step := func(name string) {
		t.Helper()
		p.tell(name)
		now = now.Add(time.Second)
		d := p.table.delta(now)
		d.Source = "ovs"
		engine.Topology(now, d)
	}
	stands := func(id correlate.ID, c correlate.Condition, want bool) {
		t.Helper()
		if got := engine.Stands(id, c); got != want {
			t.Errorf("%s %s stands: %t, want %t", id, c, got, want)
		}
	}
	step("start")
	step("dpdk0-disabled")
	stands("nic/dpdk0", correlate.CondDisabled, true)
	stands("nic/dpdk0", correlate.CondCarrier, false) // nobody can tell
	step("dpdk0-lost")
	stands("nic/dpdk0", correlate.CondDisabled, false)
	stands("nic/dpdk0", correlate.CondCarrier, true)
	stands("bond/dpdkbond", correlate.CondCarrier, false)
	step("dpdk1-lost")
	stands("bond/dpdkbond", correlate.CondCarrier, true)

	// What nobody keeps true is neither fault nor recovery.
	p.table.takeSwitch(report{life: dead})
	step("start")
	stands("nic/dpdk0", correlate.CondCarrier, true)
	stands(vswitchd, correlate.CondSwitch, true)
	p.table.takeSwitch(report{life: alive})
	step("start")
	stands("nic/dpdk0", correlate.CondCarrier, false)
	stands(vswitchd, correlate.CondSwitch, false)
}

// Updates that wait together are judged once, and tell the same as one by one.
func TestBridgeIsNotMissedByWhatWasUnpluggedBefore(t *testing.T) {
	const (
		both = `{"Bridge":{"b":{"new":{"name":"br-int","datapath_type":"netdev","ports":["uuid","p"]}}},"Port":{"p":{"new":{"name":"tap0","interfaces":["uuid","i"]}}},
			"Interface":{"i":{"new":{"name":"tap0","external_ids":["map",[["iface-id","port-1"]]]}}}}`
		unplugged = `{"Bridge":{"b":{"new":{"name":"br-int","datapath_type":"netdev"}}},"Port":{"p":{}},"Interface":{"i":{}}}`
		deleted   = `{"Bridge":{"b":{}}}`
		atOnce    = `{"Bridge":{"b":{}},"Port":{"p":{}},"Interface":{"i":{}}}`
	)
	for _, c := range []struct {
		name    string
		updates []string
		reason  correlate.GoneReason
	}{
		{"unplugged, then deleted", []string{unplugged, deleted}, correlate.GoneOrderly},
		{"deleted under its port", []string{atOnce}, correlate.GoneVanished},
		{"plugged in again, then deleted under its port", []string{unplugged, both, atOnce}, correlate.GoneVanished},
	} {
		for _, together := range []bool{true, false} {
			table := newTable(hw.Root{Proc: t.TempDir(), Sys: t.TempDir()}, nil)
			var gone []correlate.Gone
			judge := func() { gone = append(gone, table.delta(time.Unix(1000, 0)).Gone...) }
			table.takeSwitch(report{life: alive})
			for i, text := range append([]string{both}, c.updates...) {
				u, err := parseTables(json.RawMessage(text))
				if err != nil {
					t.Fatal(err)
				}
				table.takeDatabase(report{life: alive, tables: u, whole: i == 0})
				if i == 0 || !together {
					judge()
				}
			}
			judge()
			if len(gone) != 1 || gone[0].ID != "bridge/br-int" || gone[0].Reason != c.reason {
				t.Errorf("%s, judged together %t: gone are %+v, want the bridge as %v", c.name, together, gone, c.reason)
			}
		}
	}
}

func TestSocketsOfTheKernelsList(t *testing.T) {
	const list = `Num       RefCount Protocol Flags    Type St Inode Path
00000000509c4fcc: 00000002 00000000 00010000 0001 01 1339196 /run/openvswitch/./vhu1
00000000509c4fcd: 00000003 00000000 00000000 0001 03 1339197 /run/openvswitch/vhu1
00000000509c4fce: 00000002 00000000 00010000 0001 01 1339198 /run/openvswitch/vhu 2
00000000509c4fcf: 00000003 00000000 00000000 0001 03 1339199
00000000509c4fd0: 00000003 00000000 00000000 0001 02 1339200 /run/openvswitch/vhu 2
`
	got := readSockets(strings.NewReader(list), map[string]bool{"/run/openvswitch/vhu1": true, "/run/openvswitch/vhu 2": true})
	want := map[string]socket{"/run/openvswitch/vhu1": {true, true}, "/run/openvswitch/vhu 2": {listens: true}}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(socket{})); diff != "" {
		t.Error(diff)
	}
}

func TestValuesOfTheDatabase(t *testing.T) {
	for in, want := range map[string]value{
		`"up"`:                                  {atoms: []string{"up"}},
		`1500`:                                  {atoms: []string{"1500"}},
		`10000000000`:                           {atoms: []string{"10000000000"}},
		`true`:                                  {atoms: []string{"true"}},
		`["set",[]]`:                            {},
		`["set",["a",1]]`:                       {atoms: []string{"a", "1"}},
		`["uuid","f-1"]`:                        {atoms: []string{"f-1"}},
		`["set",[["uuid","a"],["uuid","b"]]]`:   {atoms: []string{"a", "b"}},
		`["map",[["k","v"],["n",2]]]`:           {pairs: map[string]string{"k": "v", "n": "2"}},
		`["map",[[["uuid","u"],["uuid","w"]]]]`: {pairs: map[string]string{"u": "w"}},
	} {
		var got value
		if err := json.Unmarshal([]byte(in), &got); err != nil {
			t.Errorf("%s: %v", in, err)
		} else if diff := cmp.Diff(want, got, cmp.AllowUnexported(value{})); diff != "" {
			t.Errorf("%s: %s", in, diff)
		}
	}
	for _, in := range []string{`null`, `{}`, `[]`, `["set"]`, `["set",1]`, `["set",[null]]`, `["map",[["k"]]]`, `["map",[1]]`, `["bag",[]]`, `["uuid",1]`} {
		var v value
		if err := v.UnmarshalJSON([]byte(in)); err == nil {
			t.Errorf("%s was taken for %+v", in, v)
		}
	}
}

// Whatever a database holds, the topology is made of it without harm.
func FuzzTables(f *testing.F) {
	archive, err := txtar.ParseFile(recorded)
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range archive.Files {
		f.Add(string(file.Data))
	}
	f.Fuzz(func(t *testing.T, text string) {
		u, err := parseTables(json.RawMessage(text))
		if err != nil {
			return
		}
		p := play(t)
		p.table.delta(time.Unix(1, 0))
		p.table.takeDatabase(report{life: alive, tables: u})
		d := p.table.delta(time.Unix(2, 0))
		for _, r := range d.Set {
			if _, err := correlate.ParseID(string(r.ID)); err != nil {
				t.Fatal(err)
			}
			for k, v := range r.Facts {
				if v != printable(v) {
					t.Fatalf("%s of %s: %q", k, r.ID, v)
				}
			}
		}
		for _, e := range d.Events {
			if e.Text != printable(e.Text) {
				t.Fatalf("text of %s: %q", e.Resource, e.Text)
			}
		}
	})
}

func FuzzSockets(f *testing.F) {
	f.Add("00000000509c4fcc: 00000002 00000000 00010000 0001 01 1339196 /a")
	f.Fuzz(func(_ *testing.T, text string) { readSockets(strings.NewReader(text), map[string]bool{"/a": true}) })
}
