package cli

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/paramedic-ha/paramedic/agent/api"
)

var topNow = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// busy is a picture of a cluster with all that can be wrong, and names that tenants have chosen to be a nuisance.
func busy(hosts, alarms int) picture {
	before := func(d time.Duration) *time.Time { at := topNow.Add(-d); return &at }
	p := picture{At: topNow, Status: api.Status{
		Node: "cmp-1", Label: "prod", Mutes: 1, Deliveries: api.DeliveryCount{Pending: 3, Parked: 1, Oldest: before(125 * time.Second)},
		Outbox: api.OutboxStatus{Durable: true},
		Sources: []api.SourceStatus{
			{Name: "nic", Sight: "clear"},
			{Name: "virt", Sight: "blind", Text: "libvirt does not answer: dial unix /run/libvirt/libvirt-sock: connect: connection refused"},
		},
	}}
	states := []string{"member", "member", "lost", "member", "silent", "hung", "away"}
	for i := range hosts {
		h := api.Host{Name: fmt.Sprintf("cmp-%d", i+1), Self: i == 0, State: states[i%len(states)], Zone: "rack-a", Domains: i * 7 % 30, AsOf: before(time.Duration(i) * time.Second)}
		h.Alarms = map[string]int{"critical": i % 3, "warning": i % 2}
		if i == 1 {
			h.Name, h.Zone = "cmp-2-a-host-with-a-name-that-does-not-end.example.net", "\x1b[2J東京の部屋"
		}
		p.Hosts = append(p.Hosts, h)
	}
	for i := range alarms {
		a := api.Alarm{
			ID: fmt.Sprintf("%08x4f5a4a77", i*0x1234567), Severity: severityOrder[i%4], Host: "cmp-3", Resource: fmt.Sprintf("nic/eth%d", i), Condition: "carrier",
			Text: "no carrier \u202e; the cable is out, the switch is off, or nobody knows", Times: api.Times{Raised: before(time.Duration(i*i) * time.Second)},
			Affected: make([]api.Affected, i%4),
		}
		switch i % 5 {
		case 1:
			a.Resource = "domain/6f2a1f5e-4f5a-4a77-9d9c-0a5d3c9a1b01"
		case 2:
			a.Muted = &api.Muted{ID: "m"}
		case 3:
			a.Under = "another"
		case 4:
			a.Ack = &api.Ack{By: "me"}
		}
		p.Alarms = append(p.Alarms, a)
	}
	var list []api.Stages
	for i := range 100 {
		at := func(ms int) *time.Time { t := topNow.Add(time.Duration(ms) * time.Millisecond); return &t }
		list = append(list, api.Stages{T00: at(0), T01: at(1), T02: at(2), T06: at(3), T08: at(4 + i), T09: at(6 + i)})
	}
	p.Latency = profile(api.StageList{Stages: list})
	return p
}

func plainly(s string) string { return s }

// go test ./agent/cli -update accepts what is drawn now.
func TestATopFrameFitsTheTerminal(t *testing.T) {
	away := errors.New("the agent at unix:///run/paramedic/api.sock can't be reached: connect: connection refused")
	explained := busy(1, 4)
	explained.Alarms, explained.More = explained.Alarms[3:], true // the one that another explains
	many := busy(1, 3)
	many.More = true
	for name, c := range map[string]struct {
		v    topView
		w, h int
	}{
		"explained":  {topView{picture: explained}, 80, 0},
		"many":       {topView{picture: many}, 80, 0},
		"80x24":      {topView{picture: busy(3, 9), live: true, every: 2 * time.Second}, 80, 24},
		"120x40":     {topView{picture: busy(30, 40), live: true, every: 2 * time.Second}, 120, 40},
		"40x10":      {topView{picture: busy(7, 9), live: true, every: 2 * time.Second}, 40, 10},
		"20x4":       {topView{picture: busy(7, 9), live: true, every: 2 * time.Second}, 20, 4},
		"old":        {topView{picture: busy(2, 2), live: true, every: time.Second, err: away}, 80, 16},
		"paused":     {topView{picture: busy(2, 0), live: true, every: time.Second, paused: true, sort: "domains"}, 80, 16},
		"once":       {topView{picture: busy(7, 9)}, 80, 0},
		"well":       {topView{picture: picture{At: topNow, Status: api.Status{Node: "cmp-1", Outbox: api.OutboxStatus{Durable: true}}}}, 80, 0},
		"once-wide":  {topView{picture: busy(2, 3)}, 0, 0},
		"by-name":    {topView{picture: busy(4, 0), sort: "name"}, 80, 0},
		"one-screen": {topView{picture: busy(2, 1), live: true, every: time.Second}, 80, 24},
	} {
		t.Run(name, func(t *testing.T) {
			c.v.now, c.v.paint = topNow.Add(12*time.Second), plainly
			if c.v.sort == "" {
				c.v.sort = "health"
			}
			lines := c.v.frame(c.w, c.h)
			for _, line := range lines {
				if c.w > 0 && columns(line) > c.w {
					t.Errorf("%d columns: %s", columns(line), line)
				}
			}
			if c.h > 0 && len(lines) > c.h {
				t.Errorf("%d lines", len(lines))
			}
			got := strings.Join(lines, "\n") + "\n"
			file := filepath.Join("testdata", "top", name+".txt")
			if flag.Lookup("update").Value.String() == "true" {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestAnyTopFrameFitsAnyTerminal(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v := topView{
			picture: busy(rapid.IntRange(0, 60).Draw(t, "hosts"), rapid.IntRange(0, 60).Draw(t, "alarms")), live: rapid.Bool().Draw(t, "live"), every: time.Second,
			sort: rapid.SampledFrom([]string{"health", "name", "domains"}).Draw(t, "sort"), now: topNow, paint: plainly,
		}
		for i := range v.Alarms {
			v.Alarms[i].Text, v.Alarms[i].Resource = rapid.String().Draw(t, "text"), "domain/"+rapid.String().Draw(t, "name")
		}
		w, h := rapid.IntRange(1, 200).Draw(t, "w"), rapid.IntRange(1, 80).Draw(t, "h")
		lines := v.frame(w, h)
		if len(lines) > h {
			t.Fatalf("%d lines of %d:\n%s", len(lines), h, strings.Join(lines, "\n"))
		}
		for _, line := range lines {
			if columns(line) > w || strings.ContainsFunc(line, unprintable) || strings.Contains(line, "\n") {
				t.Fatalf("%d columns of %d: %q", columns(line), w, line)
			}
		}
		if text := strings.Join(lines, "\n"); h >= 8 && w >= 40 && (len(v.Hosts) > 0 && !strings.Contains(text, "\nHOST") || len(v.Alarms) > 0 && !strings.Contains(text, "\nALARM")) {
			t.Fatalf("a table is missing:\n%s", text)
		}
	})
}
