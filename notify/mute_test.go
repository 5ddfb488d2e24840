package notify

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/paramedic-ha/paramedic/correlate"
)

func mute(id string, f Filter, d time.Duration) Mute {
	return Mute{ID: id, Filter: f, Until: time.Now().Add(d).Round(0).UTC(), By: "alice", Reason: "a new switch", Made: time.Now().Round(0).UTC()}
}

func byHost(names ...string) Filter { return Filter{Hosts: names} }

func TestWhatAMuteCovers(t *testing.T) {
	where := Places{
		"cmp-1": {Zone: "rack-a", Labels: map[string]string{"az": "nova-1"}},
		"cmp-2": {Zone: "rack-a", Labels: map[string]string{"az": "nova-2"}},
		"cmp-3": {Zone: "rack-b"},
	}
	on := func(home string, resource correlate.ID, severity correlate.Severity) *correlate.Alarm {
		a := alarm("a", 1, correlate.Raised)
		a.Key.Home, a.Key.Resource, a.Severity = home, resource, severity
		return a
	}
	bond := on("cmp-1", "bond/bond0", correlate.SeverityMajor)
	unclassified := on("cmp-1", "bond/bond0", correlate.SeverityIndeterminate)
	lost := on("cmp-2", "host/cmp-2", correlate.SeverityCritical)
	lost.Key.Condition = correlate.CondHostLost
	rack := on("zone/rack-a", "zone/rack-a", correlate.SeverityCritical)
	rack.Evidence = map[string]string{correlate.EvidenceHost + "cmp-1": "lost", correlate.EvidenceHost + "cmp-2": "lost"}
	unnamed := on("zone/rack-a", "zone/rack-a", correlate.SeverityCritical)
	for what, test := range map[string]struct {
		f    Filter
		max  correlate.Severity
		a    *correlate.Alarm
		want bool
	}{
		"host":                            {f: byHost("cmp-1"), a: bond, want: true},
		"a glob of hosts":                 {f: byHost("cmp-*"), a: bond, want: true},
		"another host":                    {f: byHost("cmp-2"), a: bond},
		"a host that is lost":             {f: byHost("cmp-2"), a: lost, want: true},
		"zone":                            {f: Filter{Zones: []string{"rack-a"}}, a: bond, want: true},
		"another zone":                    {f: Filter{Zones: []string{"rack-b"}}, a: bond},
		"label":                           {f: Filter{Labels: map[string][]string{"az": {"nova-1"}}}, a: bond, want: true},
		"another value of the label":      {f: Filter{Labels: map[string][]string{"az": {"nova-1"}}}, a: lost},
		"resource":                        {f: Filter{Resources: []string{"bond/*"}}, a: bond, want: true},
		"another resource":                {f: Filter{Resources: []string{"nic/*"}}, a: bond},
		"condition":                       {f: Filter{Conditions: []correlate.Condition{correlate.CondHostLost}}, a: lost, want: true},
		"class of cause":                  {f: Filter{Conditions: []correlate.Condition{"network"}}, a: bond, want: true},
		"both must fit":                   {f: Filter{Hosts: []string{"cmp-1"}, Resources: []string{"nic/*"}}, a: bond},
		"severe enough":                   {f: Filter{MinSeverity: correlate.SeverityMajor}, a: bond, want: true},
		"not severe enough":               {f: Filter{MinSeverity: correlate.SeverityCritical}, a: bond},
		"not too severe":                  {f: byHost("*"), max: correlate.SeverityMajor, a: bond, want: true},
		"too severe":                      {f: byHost("*"), max: correlate.SeverityWarning, a: bond},
		"unclassified, without a bound":   {f: byHost("cmp-1"), a: unclassified, want: true},
		"unclassified, with a lower one":  {f: Filter{MinSeverity: correlate.SeverityWarning}, a: unclassified},
		"unclassified, with an upper one": {f: byHost("cmp-1"), max: correlate.SeverityCritical, a: unclassified},
		"a rack, by its zone":             {f: Filter{Zones: []string{"rack-*"}}, a: rack, want: true},
		"a rack, by all its hosts":        {f: byHost("cmp-1", "cmp-2"), a: rack, want: true},
		"a rack, by one of its hosts":     {f: byHost("cmp-1"), a: rack},
		"a rack, by one's label":          {f: Filter{Labels: map[string][]string{"az": {"nova-1"}}}, a: rack},
		"a rack of unnamed hosts, a host": {f: byHost("cmp-1"), a: unnamed},
		"a rack of unnamed hosts":         {f: Filter{Zones: []string{"rack-a"}}, a: unnamed, want: true},
		"a host of which nobody knows":    {f: Filter{Zones: []string{"rack-a"}}, a: on("cmp-9", "nic/eth0", correlate.SeverityMajor)},
	} {
		m := Mute{Filter: test.f, MaxSeverity: test.max}
		if got := m.covers(test.a, where); got != test.want {
			t.Errorf("%s: %v", what, got)
		}
	}
}

func TestOfSeveralMutesTheOneThatHoldsLongestIsNamed(t *testing.T) {
	now := epoch
	a := alarm("a", 1, correlate.Raised)
	all := mutes{}
	for i, d := range []time.Duration{time.Hour, 3 * time.Hour, 2 * time.Hour, -time.Hour} {
		id := fmt.Sprint("m", i)
		all[id] = Mute{ID: id, Filter: byHost("cmp-1"), Until: now.Add(d)}
	}
	if m, muted := all.of(a, nil, now); !muted || m.ID != "m1" {
		t.Errorf("muted %v by %q", muted, m.ID)
	}
	if m, muted := all.of(a, nil, now.Add(150*time.Minute)); !muted || m.ID != "m1" {
		t.Errorf("later: muted %v by %q", muted, m.ID)
	}
	if m, muted := all.of(a, nil, now.Add(3*time.Hour)); muted {
		t.Errorf("at the end it is muted by %q", m.ID)
	}
	if m, muted := all.of(alarm("a", 2, correlate.Cleared), nil, now); muted {
		t.Errorf("a clear is muted by %q", m.ID)
	}
}

func TestEveryProblemOfAMuteIsNamedAtOnce(t *testing.T) {
	err := Mute{
		ID: "a/b", Filter: Filter{Hosts: []string{"["}, ResourceTypes: []correlate.Kind{"toaster"}, MinSeverity: correlate.SeverityCritical},
		MaxSeverity: correlate.SeverityWarning, Until: epoch, Reason: strings.Repeat("x", maxReason+1),
	}.Validate(epoch)
	for _, field := range []string{"id:", "hosts[0]:", "resource_types[0]:", "max_severity:", "until:", "reason:"} {
		if err == nil || !strings.Contains(err.Error(), field) {
			t.Errorf("%s is not named in %v", field, err)
		}
	}
	if err := (Mute{ID: "a", Until: epoch.Add(time.Hour)}).Validate(epoch); err == nil || !strings.Contains(err.Error(), "mute everything") {
		t.Errorf("a mute of everything: %v", err)
	}
	if err := (Mute{ID: "a", Filter: byHost("*"), Until: epoch.Add(MaxMuted + time.Second)}).Validate(epoch); err == nil || !strings.Contains(err.Error(), "30 days") {
		t.Errorf("a mute for ever: %v", err)
	}
	if err := (Mute{ID: "rack-a.power_1", Filter: byHost("*"), Until: epoch.Add(MaxMuted)}).Validate(epoch); err != nil {
		t.Error(err)
	}
}

// said lists what a consumer was told: alarm and state.
func said(all []message) (words []string) {
	for _, m := range all {
		words = append(words, m.event.Data.Alarm.ID+" "+m.event.Data.Alarm.State)
	}
	return words
}

func TestWhatIsMutedIsNotToldAndWhatStandsAtTheEndIs(t *testing.T) {
	c := newConsumer(t, nil)
	cfg, _ := testConfig(t, t.TempDir())
	n, _ := start(t, cfg, fileSub("vnfm", c.URL))
	n.Publish(effects(alarm("told", 1, correlate.Raised), alarm("kept", 2, correlate.Raised)))
	c.waitFor(t, 2)
	// What is on its way is told even when it changes under a mute.
	eventually(t, "both answers are noted", func() bool { return len(n.Deliveries("")) == 0 })
	if made, err := n.SetMute(t.Context(), mute("m", byHost("cmp-1"), time.Hour)); err != nil || !made {
		t.Fatal(made, err)
	}
	// What was told before is ended; what changes of it, and what comes and goes, is not told.
	n.Publish(effects(alarm("stands", 3, correlate.Raised), alarm("passes", 4, correlate.Raised)))
	n.Publish(effects(alarm("passes", 5, correlate.Cleared), alarm("kept", 6, correlate.Changed), alarm("told", 7, correlate.Cleared)))
	c.waitFor(t, 3)
	if m, muted := n.Muted()(alarm("stands", 3, correlate.Raised)); !muted || m.ID != "m" {
		t.Errorf("muted %v by %+v", muted, m)
	}

	// A subscription that begins meanwhile is given nothing of it.
	late := newConsumer(t, nil)
	_, snapshot, err := n.Subscribe(t.Context(), fileSub("late", late.URL), false)
	if err != nil || len(snapshot) != 0 {
		t.Fatalf("its snapshot: %+v, %v", snapshot, err)
	}

	// Replaced by one that means something else.
	if made, err := n.SetMute(t.Context(), mute("m", Filter{Resources: []string{"nic/*"}}, time.Hour)); err != nil || made {
		t.Fatal(made, err)
	}
	c.waitFor(t, 5)
	late.waitFor(t, 2)
	if err := n.EndMute(t.Context(), "m"); err != nil {
		t.Fatal(err)
	}
	if err := n.EndMute(t.Context(), "m"); !errors.Is(err, ErrNotFound) {
		t.Errorf("ended twice: %v", err)
	}
	n.Publish(effects(alarm("last", 8, correlate.Raised)))
	got, later := c.waitFor(t, 6), late.waitFor(t, 3)
	if words := strings.Join(said(got)[2:3], ", "); words != "told cleared" {
		t.Errorf("told %s while it was muted", words)
	}
	for _, list := range [][]string{said(got)[3:], said(later)} {
		if words := strings.Join(list, ", "); words != "stands raised, kept changed, last raised" && words != "kept changed, stands raised, last raised" {
			t.Errorf("told %s at the end", words)
		}
	}
}

func TestASpeakerObeysTheMuteOfTheHostThatIsLost(t *testing.T) {
	c := newConsumer(t, nil)
	cfg, _ := testConfig(t, t.TempDir())
	cfg.Peers = newOthers()
	n, _ := start(t, cfg, fileSub("vnfm", c.URL))
	n.SetPlace("cmp-2", Place{Zone: "rack-b"})
	n.Mute(mute("power", Filter{Zones: []string{"rack-b"}}, time.Hour))
	lost := alarm("lost", 1, correlate.Raised, "p1")
	lost.Key = correlate.Key{Home: "cmp-2", Resource: "host/cmp-2", Condition: correlate.CondHostLost}
	lost.Revision, lost.First = correlate.Revision{Term: 3, Counter: 2}, correlate.Revision{Term: 3, Counter: 1}
	if owed := n.Speak([]correlate.Change{{Alarm: lost, Found: epoch}}, nil); owed != 0 {
		t.Errorf("%d deliveries are owed of a host that is muted", owed)
	}
	n.Unmute("power")
	if got := c.waitFor(t, 1); got[0].event.Data.Alarm.ID != "lost" {
		t.Errorf("told %s", got[0].body)
	}
}

func TestAHostThatLeavesAMutedZoneIsToldOf(t *testing.T) {
	c := newConsumer(t, nil)
	cfg, _ := testConfig(t, t.TempDir())
	cfg.Place = Place{Zone: "rack-a"}
	n, _ := start(t, cfg, fileSub("vnfm", c.URL))
	n.Mute(mute("switch", Filter{Zones: []string{"rack-a"}}, time.Hour))
	n.Publish(effects(alarm("a", 1, correlate.Raised)))
	n.SetPlace("cmp-1", Place{Zone: "rack-b"})
	if words := strings.Join(said(c.waitFor(t, 1)), ", "); words != "a raised" {
		t.Errorf("told %s", words)
	}
}

// A peer replaces or makes the mute anew between our word's being taken and our own doing it.
func TestWhatAPeerSaysOfAMuteMeanwhileIsKept(t *testing.T) {
	cfg, _ := testConfig(t, t.TempDir())
	o := newOthers()
	cfg.Peers = o
	n, _ := start(t, cfg)
	theirs := mute("m", byHost("cmp-2"), 2*time.Hour)
	o.meanwhile = func() { n.Mute(theirs) }
	if _, err := n.SetMute(t.Context(), mute("m", byHost("cmp-1"), time.Hour)); err != nil {
		t.Fatal(err)
	}
	if got := n.Mutes(); len(got) != 1 || !sameMute(got[0], theirs) {
		t.Errorf("it was replaced meanwhile: %+v", got)
	}
	theirs.Reason = "another one"
	if err := n.EndMute(t.Context(), "m"); err != nil {
		t.Fatal(err)
	}
	if got := n.Mutes(); len(got) != 1 || !sameMute(got[0], theirs) {
		t.Errorf("it was made anew meanwhile: %+v", got)
	}
}

func TestAMuteCountsOnlyWhenThePeersHaveIt(t *testing.T) {
	cfg, _ := testConfig(t, t.TempDir())
	o := newOthers()
	cfg.Peers = o
	n, _ := start(t, cfg)
	o.fail = errors.New("the clock is ahead")
	if _, err := n.SetMute(t.Context(), mute("m", byHost("cmp-1"), time.Hour)); err == nil || len(n.Mutes()) != 0 {
		t.Errorf("refused: %v, and holds: %+v", err, n.Mutes())
	}
	o.fail = nil
	if _, err := n.SetMute(t.Context(), mute("m", byHost("cmp-1"), time.Hour)); err != nil || len(o.muted) != 1 || len(n.Mutes()) != 1 {
		t.Errorf("taken: %v, published %+v, holds %+v", err, o.muted, n.Mutes())
	}
	if err := n.EndMute(t.Context(), "m"); err != nil || len(o.unmuted) != 1 || len(n.Mutes()) != 0 {
		t.Errorf("ended: %v, withdrawn %+v, holds %+v", err, o.unmuted, n.Mutes())
	}
}

func TestThereAreOnlySoManyMutes(t *testing.T) {
	cfg, _ := testConfig(t, t.TempDir())
	n, _ := start(t, cfg)
	for i := range maxMutes {
		n.Mute(mute(fmt.Sprint("m", i), byHost("cmp-1"), time.Hour))
	}
	if _, err := n.SetMute(t.Context(), mute("m0", byHost("cmp-2"), time.Hour)); err != nil {
		t.Errorf("one that is there can't be replaced: %v", err)
	}
	if _, err := n.SetMute(t.Context(), mute("more", byHost("cmp-2"), time.Hour)); !errors.Is(err, ErrInvalid) {
		t.Errorf("one more: %v", err)
	}
}
