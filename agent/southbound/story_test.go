package southbound

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
	"go.uber.org/goleak"

	"github.com/paramedic-ha/paramedic/correlate"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// host is a desk before a real engine: a bond of two links with a bridge on it, and one domain behind that.
type host struct {
	desk    *Desk
	engine  *correlate.Engine
	now     time.Time
	changes strings.Builder
	broken  error // of the engine's owner
	peers   Peers
	memory  Memory
}

const vm = "11111111-1111-1111-1111-111111111111"

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

func newHost(mappings []Mapping) *host {
	h := &host{now: noon}
	h.start(mappings, nil)
	return h
}

// start makes the engine of a first run, or of one that goes on with what stood.
func (h *host) start(mappings []Mapping, stood []*correlate.Alarm) {
	h.engine = correlate.New(correlate.Config{Home: "cmp-1", Term: 2, Rules: Rules(mappings), Sources: []string{"nic"}}, stood)
	h.desk = NewDesk(Config{Node: "cmp-1", Mappings: mappings, Memory: h.memory, Apply: func(_ context.Context, events []correlate.Event, limit int) ([]Outcome, error) {
		if h.broken != nil {
			return nil, h.broken
		}
		return Step(h.engine, h.step, events, limit), nil
	}, Now: func() time.Time { return h.now }, Peers: h.peers})
	all := func(ids ...correlate.ID) []correlate.Need { return []correlate.Need{{Mode: correlate.AllOf, Of: ids}} }
	h.step(correlate.Delta{Source: "nic", Full: true, Set: []correlate.Resource{
		{ID: "host/cmp-1"},
		{ID: "nic/eth0"},
		{ID: "nic/eth1"},
		{ID: "bond/bond0", Needs: []correlate.Need{{Mode: correlate.KOfN, K: 1, Of: []correlate.ID{"nic/eth0", "nic/eth1"}, Condition: correlate.CondCarrier}}},
		{ID: "bridge/br0", Needs: all("bond/bond0")},
		{ID: "vnic/" + vm + "/52:54:00:00:00:01", Domain: "domain/" + vm, Needs: all("bridge/br0")},
		{ID: "domain/" + vm, Name: "vm-1", Needs: all("host/cmp-1", "vnic/"+vm+"/52:54:00:00:00:01")},
	}})
}

func (h *host) step(d correlate.Delta) { h.tell(h.engine.Topology(h.now, d)) }

func (h *host) tell(eff correlate.Effects) {
	for _, c := range eff.Publish {
		a := c.Alarm
		fmt.Fprintf(&h.changes, "%s: %s %s %s, it is %s", a.Last, a.Severity, a.Key.Resource, a.Key.Condition, a.State)
		for _, d := range a.Affected {
			fmt.Fprintf(&h.changes, ", %s %s", d.Name, d.State)
		}
		if up, stands := h.engine.Alarm(a.Under); stands {
			fmt.Fprintf(&h.changes, ", under %s %s", up.Key.Resource, up.Key.Condition)
		}
		switch {
		case a.ClearReason != "":
			fmt.Fprintf(&h.changes, ", %s", a.ClearReason)
		default:
			fmt.Fprintf(&h.changes, ", %q since %s", a.Text, a.Times.Occurred.Format("15:04:05.999"))
		}
		h.changes.WriteByte('\n')
	}
}

// take shows the verdicts, and what they made the engine say.
func (h *host) take(t *testing.T, body string) string {
	t.Helper()
	items, err := Decode([]byte(body))
	if err != nil {
		return err.Error() + "\n"
	}
	verdicts, err := h.desk.Take(t.Context(), Origin{}, items)
	if err != nil {
		return err.Error() + "\n"
	}
	var out strings.Builder
	for _, v := range verdicts {
		fmt.Fprintf(&out, "%s", v.Word)
		if v.Condition != "" {
			out.WriteString(strings.TrimRight(" "+string(v.Condition)+" "+string(v.Resource), " "))
		}
		if v.Text != "" {
			fmt.Fprintf(&out, ": %s", v.Text)
		}
		out.WriteByte('\n')
	}
	out.WriteString(h.changes.String())
	h.changes.Reset()
	return out.String()
}

// TestStories plays testdata: bodies as they come, and what becomes of them.
func TestStories(t *testing.T) {
	datadriven.Walk(t, "testdata/stories", func(t *testing.T, path string) {
		mapped := []Mapping{
			{Type: "SwitchPortDown", Resource: "nic/{device}", Rule: rule("net.port", func(r *correlate.Rule) {
				r.Severity, r.State, r.Graded = correlate.SeverityMajor, correlate.StateFailed, false
			})},
			{Type: "probe.failed", Rule: rule("probe.failed", func(r *correlate.Rule) { r.Severity, r.Hold = correlate.SeverityMinor, time.Minute })},
		}
		h := newHost(mapped)
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			h.now = h.now.Add(time.Second)
			switch d.Cmd {
			case "take":
				return h.take(t, d.Input)
			case "wait":
				var long string
				d.ScanArgs(t, "for", &long)
				by, err := time.ParseDuration(long)
				if err != nil {
					t.Fatal(err)
				}
				h.now = h.now.Add(by)
				h.tell(h.engine.Tick(h.now))
			case "ack":
				for _, a := range h.engine.Alarms() {
					eff, err := h.engine.Ack(h.now, a.ID, "alice", "")
					if err != nil {
						t.Fatal(err)
					}
					h.tell(eff)
				}
			case "restart":
				h.start(mapped, h.engine.Alarms())
			case "nic": // our own source lists all links, and they are well
				d := correlate.Delta{Source: "nic"}
				for _, id := range []correlate.ID{"nic/eth0", "nic/eth1", "bond/bond0"} {
					d.Events = append(d.Events, correlate.Event{Source: "nic", Resource: id, Condition: correlate.CondCarrier, Status: correlate.StatusOK})
				}
				h.step(d)
			case "engine":
				h.broken = nil
				if d.HasArg("broken") {
					h.broken = errors.New("the loop does not answer")
				}
			default:
				t.Fatalf("%s: no such directive %q", d.Pos, d.Cmd)
			}
			said := h.changes.String()
			h.changes.Reset()
			if said == "" {
				said = "nothing happens\n"
			}
			return said
		})
	})
}

func rule(c correlate.Condition, change func(*correlate.Rule)) correlate.Rule {
	r := correlate.RuleOf(c)
	change(&r)
	return r
}
