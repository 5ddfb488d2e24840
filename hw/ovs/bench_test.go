package ovs

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/paramedic-ha/paramedic/hw"
)

// BenchmarkChange is what one change of a link costs on a host with 500 vhost-user ports, beside the decoding of its row.
func BenchmarkChange(b *testing.B) {
	table := newTable(hw.Root{Proc: b.TempDir(), Sys: b.TempDir()}, nil)
	rows := map[string]any{}
	ports, of := map[string]any{}, []any{}
	for i := range 500 {
		id := fmt.Sprint("i", i)
		rows[id] = map[string]any{"new": map[string]any{
			"name": fmt.Sprint("vhu", i), "type": "dpdkvhostuserclient", "admin_state": "up", "link_state": "up",
			"external_ids": []any{"map", []any{[]string{"attached-mac", "52:54:00:00:00:01"}, []string{"vm-uuid", "5f2b6a1c-0d4e-4a59-9a3c-1f0e6d7c8b9a"}}},
		}}
		ports["p"+id] = map[string]any{"new": map[string]any{"name": fmt.Sprint("vhu", i), "interfaces": []string{"uuid", id}}}
		of = append(of, []string{"uuid", "p" + id})
	}
	tell := func(tables map[string]any, whole bool) {
		text, err := json.Marshal(tables)
		if err != nil {
			b.Fatal(err)
		}
		u, err := parseTables(text)
		if err != nil {
			b.Fatal(err)
		}
		table.takeDatabase(report{life: alive, tables: u, whole: whole})
	}
	bridge := map[string]any{"b": map[string]any{"new": map[string]any{"name": "br-int", "datapath_type": "netdev", "ports": []any{"set", of}}}}
	tell(map[string]any{"Interface": rows, "Port": ports, "Bridge": bridge}, true)
	table.takeSwitch(report{life: alive})
	now := time.Unix(1, 0)
	if d := table.delta(now); len(d.Set) != 503 {
		b.Fatalf("%d resources", len(d.Set))
	}
	down := map[string]any{"Interface": map[string]any{"i7": rows["i7"]}}
	for b.Loop() {
		tell(down, false)
		table.delta(now)
	}
}
