package southbound

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/paramedic-ha/paramedic/correlate"
)

// words counts the verdicts.
func words(verdicts []Verdict) map[Word]int {
	n := make(map[Word]int)
	for _, v := range verdicts {
		n[v.Word]++
	}
	return n
}

func take(t *testing.T, d *Desk, items ...Item) []Verdict {
	t.Helper()
	verdicts, err := d.Take(t.Context(), Origin{}, items)
	if err != nil {
		t.Fatal(err)
	}
	return verdicts
}

func TestAMonitorThatSendsTooMuchIsLimitedAndTheOthersAreNot(t *testing.T) {
	h := newHost(nil)
	full := make([]Item, MaxItems)
	for i := range full {
		full[i] = Item{Type: "x.y", Up: true, Monitor: "loud"}
	}
	if n := words(take(t, h.desk, full...)); n[Accepted] != MaxItems {
		t.Fatalf("one full body at once: %v", n)
	}
	if v := take(t, h.desk, full[0])[0]; v.Word != Refused || !v.Limited {
		t.Errorf("one more: %+v", v)
	}
	if v := take(t, h.desk, Item{Type: "x.y", Up: true, Monitor: "quiet"})[0]; v.Word != Accepted {
		t.Errorf("another monitor: %+v", v)
	}
	h.now = h.now.Add(time.Second)
	if n := words(take(t, h.desk, full...)); n[Accepted] != perMonitor {
		t.Errorf("a second later: %v; want %d accepted", n, perMonitor)
	}
	// Who gives himself a new name each time meets the limit of all.
	h = newHost(nil)
	accepted := 0
	for i := range 2 * burstOfAll {
		accepted += words(take(t, h.desk, Item{Type: "x.y", Up: true, Monitor: fmt.Sprint(i)}))[Accepted]
	}
	if accepted > burstOfAll || len(h.desk.monitors) > maxMonitors {
		t.Errorf("%d accepted under as many names, %d names kept", accepted, len(h.desk.monitors))
	}
}

func TestNoMoreThanSoManyConditionsOfMonitorsStand(t *testing.T) {
	h := newHost(nil)
	var items []Item
	for i := range MaxItems {
		items = append(items, Item{Type: "x.y", Resource: fmt.Sprintf("service/app-%d", i), Monitor: "m"})
	}
	if n := words(take(t, h.desk, items...)); n[Accepted] != MaxItems {
		t.Fatalf("%v", n)
	}
	one := Item{Type: "x.y", Resource: "service/one-more"}
	if v := take(t, h.desk, one)[0]; v.Word != Refused || !v.Limited || v.Alarm != "" {
		t.Errorf("one more: %+v", v)
	}
	h.now = h.now.Add(time.Hour)
	if v := take(t, h.desk, items[0])[0]; v.Word != Accepted || v.Alarm == "" {
		t.Errorf("what stands may be said again: %+v", v)
	}
	items[0].Up = true
	if n := words(take(t, h.desk, items[0], one)); n[Accepted] != 1 {
		t.Errorf("%v", n) // judged before the other is over: the next request finds room
	}
	if v := take(t, h.desk, one)[0]; v.Word != Accepted {
		t.Errorf("there is room again: %+v", v)
	}
}

func TestTheMemoryOfEventsIsBoundedAndForgetsTheOldestFirst(t *testing.T) {
	m := newMemory(3, nil, nil)
	k := func(n byte) key { return key{n} }
	for n := range byte(5) {
		m.add(k(n), noon.Add(time.Hour))
		if n == 3 {
			m.forget(k(3))
			m.add(k(3), noon.Add(time.Hour)) // again: its old place says nothing any more
		}
	}
	for n, want := range map[byte]bool{0: false, 1: false, 2: false, 3: true, 4: true} {
		if m.has(k(n), noon) != want {
			t.Errorf("%d: %v", n, !want)
		}
	}
	if len(m.ends) > 3 {
		t.Errorf("%d are kept", len(m.ends))
	}
	if m.has(k(4), noon.Add(time.Hour)) {
		t.Error("it is known for longer than asked")
	}
}

func TestWhoWaitsForTheDeskGivesUpWithItsRequest(t *testing.T) {
	inside, leave := make(chan struct{}), make(chan struct{})
	d := NewDesk(Config{Node: "cmp-1", Now: time.Now, Apply: func(context.Context, []correlate.Event, int) ([]Outcome, error) {
		close(inside)
		<-leave
		return make([]Outcome, 1), nil
	}})
	done := make(chan error, 1)
	go func() {
		_, err := d.Take(context.Background(), Origin{}, []Item{{Type: "x.y"}})
		done <- err
	}()
	<-inside
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := d.Take(ctx, Origin{}, []Item{{Type: "x.y"}}); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	close(leave)
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestHostNamesAreComparedAsPeopleWriteThem(t *testing.T) {
	for _, test := range []struct {
		node, hostname string
		ours           bool
	}{
		{"cmp-1", "", true},
		{"cmp-1", "CMP-1", true},
		{"cmp-1", "cmp-1.example.org", true},
		{"cmp-1.example.org", "cmp-1", true},
		{"cmp-1.example.org", "cmp-1.example.net", false},
		{"cmp-1", "cmp-11", false},
		{"cmp-1", "cmp", false},
	} {
		d := NewDesk(Config{Node: test.node, Now: time.Now})
		if got := d.ours(test.hostname); got != test.ours {
			t.Errorf("%q at %q: %v", test.hostname, test.node, got)
		}
	}
}

func TestNoConditionOfOursLooksLikeAMonitors(t *testing.T) {
	for _, r := range correlate.Rules() {
		if r.Condition.Foreign() {
			t.Errorf("%s has a dot: it could be any monitor's", r.Condition)
		}
	}
	for typ, want := range map[string]correlate.Condition{
		"compute.host.down": "compute.host.down", "carrier": "monitor.carrier", "Node Hot / very": "monitor.Node-Hot-very", "ä.b": "-.b", "": "monitor.",
	} {
		if got := ConditionOf(typ); got != want || !got.Foreign() {
			t.Errorf("%q: %q, want %q", typ, got, want)
		}
	}
}

func TestOneConditionHasOneRule(t *testing.T) {
	own := correlate.RuleOf("compute.host.down")
	rules := Rules([]Mapping{{Type: "HostDown", Rule: own}})
	found := 0
	for _, r := range rules {
		if r.Condition == own.Condition {
			found++
			if r.Severity != own.Severity {
				t.Errorf("the file's rule is not taken: %+v", r)
			}
		}
	}
	if found != 1 || len(rules) != len(Known()) {
		t.Errorf("%d rules, %d of the condition", len(rules), found)
	}
}

// Whatever comes, nothing panics, and each event has one verdict that says something.
func FuzzBody(f *testing.F) {
	for _, seed := range []string{
		`{"time":"2026-11-22T12:00:05Z","type":"compute.host.nic.error","details":{"hostname":"cmp-1","source":"eth0","severity":"major","status":"down","monitor_id":"m","monitor_event_id":"e"}}`,
		`[{"type":"compute.host.down","hostname":"cmp-1"},{"type":"x.y","details":{"resource":"domain/1","a":{"b":[1,2]},"n":null,"status":"up"}}]`,
		`{"event":{"type":"t","time":"2026-11-22 12:00:05.5"}}`,
		`{"events":[{"type":"SwitchPortDown","details":{"device":"eth1"}},3]}`,
		`{"version":"4","alerts":[{"status":"resolved","labels":{"alertname":"N","instance":"cmp-1:9100"},"annotations":{"summary":"s"},"startsAt":"2026-11-22T11:59:00.5Z","endsAt":"2026-11-22T12:00:00+02:00"}]}`,
	} {
		f.Add([]byte(seed))
	}
	mappings := []Mapping{{Type: "SwitchPortDown", Resource: "nic/{device}", Rule: correlate.RuleOf("switch.port")}}
	f.Fuzz(func(t *testing.T, body []byte) {
		items, err := Decode(body)
		if err != nil {
			if !errors.Is(err, ErrBody) && !errors.Is(err, ErrTooMany) {
				t.Errorf("%v", err)
			}
			return
		}
		h := newHost(mappings)
		for _, v := range take(t, h.desk, items...) {
			id, err := correlate.ParseID(string(v.Resource))
			switch {
			case v.Word == Refused && v.Text == "":
				t.Errorf("refused without a reason: %+v", v)
			case v.Word != Refused && (err != nil || id != v.Resource || !v.Condition.Foreign()):
				t.Errorf("%s %q %q", v.Word, v.Resource, v.Condition)
			}
		}
		for _, a := range h.engine.Alarms() {
			if len(a.Evidence) > maxDetails || strings.ContainsFunc(a.Text, func(r rune) bool { return r < ' ' }) || a.Times.Occurred.After(h.now) {
				t.Errorf("%+v", a)
			}
		}
	})
}

// hosts are peers in name only: each has a desk of its own.
type hosts struct {
	desks map[string]*Desk
	state map[string]string
	err   error
	short bool // of each answer the last verdict is missing
	given []Item
}

func (p *hosts) Find(name string) (host, state string) {
	for node := range p.desks {
		if SameHost(name, node) {
			return node, p.state[node]
		}
	}
	return "", ""
}

func (p *hosts) HandOn(ctx context.Context, host string, from Origin, items []Item) ([]Verdict, error) {
	p.given = append(p.given, items...)
	if p.err != nil {
		return nil, p.err
	}
	verdicts, err := p.desks[host].Take(ctx, from, items)
	if p.short {
		verdicts = verdicts[:len(verdicts)-1]
	}
	return verdicts, err
}

func TestWhatIsAboutAnotherHostIsJudgedThere(t *testing.T) {
	other := newHost(nil)
	other.desk.Node = "cmp-2"
	peers := &hosts{desks: map[string]*Desk{"cmp-2": other.desk, "cmp-3": nil}, state: map[string]string{"cmp-3": "lost"}}
	h := newHost(nil)
	h.desk.Peers = peers
	down := func(host string) Item {
		return Item{Type: "compute.host.nic.error", Hostname: host, Monitor: "m", EventID: "1", Details: map[string]string{"source": "eth1"}}
	}
	items := []Item{down("cmp-1"), down("CMP-2.example.org"), {Type: "x.y", Resource: "host/cmp-2"}, down("cmp-3"), down("cmp-9"), {Wrong: errors.New("bad")}}
	verdicts := take(t, h.desk, items...)
	for i, want := range []struct {
		word Word
		text string
	}{
		{Accepted, ""},
		{Accepted, ""},
		{Accepted, ""},
		{Refused, "host cmp-3 can't be spoken to (it is lost)"},
		{Refused, "is not in this cluster"},
		{Refused, "bad"},
	} {
		if v := verdicts[i]; v.Word != want.word || !strings.Contains(v.Text, want.text) {
			t.Errorf("%d: %+v, want %v", i, v, want)
		}
	}
	if a, ok := other.engine.AlarmOf("nic/eth1", "compute.host.nic.error"); !ok || a.ID != verdicts[1].Alarm || !other.engine.Stands("host/cmp-1", "x.y") && !other.engine.Stands("host/cmp-2", "x.y") {
		t.Errorf("at the other host stands %+v; the verdict was %+v", a, verdicts[1])
	}
	if h.engine.Stands("host/cmp-1", "x.y") || items[1].Hostname != "CMP-2.example.org" || peers.given[0].Hostname != "cmp-2" {
		t.Errorf("handed on: %+v", peers.given)
	}
	if v := take(t, h.desk, down("cmp-2"))[0]; v.Word != Duplicate {
		t.Errorf("once more: %+v", v)
	}
	// It goes one step and no further: a host that takes another for itself does not send it on.
	other.desk.Node, other.desk.Peers = "cmp-7", &hosts{desks: map[string]*Desk{"cmp-2": h.desk}}
	if v := take(t, h.desk, down("cmp-2"))[0]; v.Word != Refused || !strings.Contains(v.Text, "to which cmp-1 has handed it on") {
		t.Errorf("at a host that is another: %+v", v)
	}
	other.desk.Node, peers.short = "cmp-2", true
	if v := take(t, h.desk, down("cmp-2"))[0]; v.Word != Refused || !strings.Contains(v.Text, "no verdict") {
		t.Errorf("without a verdict: %+v", v)
	}
	peers.err = errors.New("it does not answer")
	if v := take(t, h.desk, down("cmp-2"))[0]; v.Word != Refused || !strings.Contains(v.Text, "host cmp-2 has not judged it: it does not answer: send it again") {
		t.Errorf("without an answer: %+v", v)
	}
}

// Two desks that hand on to each other at the same time do not wait for each other.
func TestTheDeskServesWhileItHandsOn(t *testing.T) {
	a, b := newHost(nil), newHost(nil)
	b.desk.Node = "cmp-2"
	a.desk.Peers, b.desk.Peers = &hosts{desks: map[string]*Desk{"cmp-2": b.desk}}, &hosts{desks: map[string]*Desk{"cmp-1": a.desk}}
	done := make(chan []Verdict, 2)
	for desk, host := range map[*Desk]string{a.desk: "cmp-2", b.desk: "cmp-1"} {
		go func() {
			v, _ := desk.Take(t.Context(), Origin{}, []Item{{Type: "x.y", Hostname: host, Up: true}})
			done <- v
		}()
	}
	for range 2 {
		if v := <-done; len(v) != 1 || v[0].Word != Accepted {
			t.Errorf("%+v", v)
		}
	}
}

// A caller with a name of his own has one limit, whatever monitors he names.
func TestACallerIsLimitedWhateverMonitorsItNames(t *testing.T) {
	h := newHost(nil)
	full := make([]Item, MaxItems)
	for i := range full {
		full[i] = Item{Type: "x.y", Up: true, Monitor: fmt.Sprint(i % 7)}
	}
	by := func(caller string, items ...Item) Verdict {
		v, err := h.desk.Take(t.Context(), Origin{Caller: caller}, items)
		if err != nil {
			t.Fatal(err)
		}
		return v[len(v)-1]
	}
	if v := by("probe", full...); v.Word != Accepted {
		t.Errorf("%+v", v)
	}
	if v := by("probe", Item{Type: "x.y", Up: true, Monitor: "new"}); !v.Limited {
		t.Errorf("one more: %+v", v)
	}
	if v := by("other", Item{Type: "x.y", Up: true, Monitor: "0"}); v.Word != Accepted {
		t.Errorf("another caller: %+v", v)
	}
}

// disk is what a history keeps.
type disk map[[32]byte]time.Time

func (d disk) Kept() map[[32]byte]time.Time     { return maps.Clone(d) }
func (d disk) Keep(k [32]byte, until time.Time) { d[k] = until }
func (d disk) Drop(k [32]byte)                  { delete(d, k) }

func TestDuplicatesAreKnownAfterARestart(t *testing.T) {
	kept := make(disk)
	h := &host{now: noon, memory: kept}
	h.start(nil, nil)
	one := Item{Type: "x.y", Monitor: "m", EventID: "1"}
	two := Item{Type: "x.y", Monitor: "m", EventID: "2"}
	up := two
	up.Up = true
	take(t, h.desk, one, two)
	take(t, h.desk, up)
	h.start(nil, h.engine.Alarms())
	if v := take(t, h.desk, one, up, two); v[0].Word != Duplicate || v[1].Word != Duplicate || v[2].Word != Accepted {
		t.Errorf("%+v", v)
	}
	h.now = h.now.Add(rememberedIn)
	h.start(nil, nil)
	if v := take(t, h.desk, one); v[0].Word != Accepted {
		t.Errorf("a day later: %+v", v)
	}
	m := newMemory(2, kept, func() time.Time { return noon })
	for i := range byte(5) {
		m.add(key{i}, noon.Add(time.Hour))
	}
	if _, old := kept[key{2}]; old || len(m.ends) != 2 || len(kept) != 2 {
		t.Errorf("%d are kept, want the newest 2", len(kept))
	}
}
