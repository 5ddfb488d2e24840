package notify

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/paramedic-ha/paramedic/correlate"
)

func TestFiltersByHostZoneLabelAndResource(t *testing.T) {
	where := Places{
		"cmp-1": {Zone: "rack-a", Labels: map[string]string{"az": "nova-1", "row": "7"}},
		"cmp-2": {Zone: "rack-b"},
	}
	a := alarm("a1", 1, correlate.Raised, "p1")
	other := *a
	other.Key.Home = "cmp-2"
	unknown := *a
	unknown.Key.Home = "cmp-9"
	zone := *a
	zone.Key = correlate.Key{Home: "zone/rack-a", Resource: "zone/rack-a", Condition: correlate.CondZoneLost}
	zone.Evidence = map[string]string{"host.cmp-1": "last sign of life", "host.cmp-3": "last sign of life", "speaker": "cmp-2"}
	nameless := zone
	nameless.Evidence = nil
	labels := func(name string, values ...string) Filter { return Filter{Labels: map[string][]string{name: values}} }
	for name, test := range map[string]struct {
		f    Filter
		a    *correlate.Alarm
		want bool
	}{
		"host":                           {Filter{Hosts: []string{"cmp-2", "cmp-1"}}, a, true},
		"other host":                     {Filter{Hosts: []string{"cmp-2"}}, a, false},
		"glob of hosts":                  {Filter{Hosts: []string{"cmp-[12]"}}, a, true},
		"a glob is of the whole name":    {Filter{Hosts: []string{"cmp"}}, a, false},
		"zone":                           {Filter{Zones: []string{"rack-a"}}, a, true},
		"other zone":                     {Filter{Zones: []string{"rack-a"}}, &other, false},
		"no zone is known":               {Filter{Zones: []string{"*-?"}}, &unknown, false},
		"label":                          {labels("az", "nova-2", "nova-1"), a, true},
		"glob of labels":                 {labels("az", "nova-*"), a, true},
		"other label":                    {labels("az", "nova-2"), a, false},
		"no such label":                  {labels("rack", "*"), a, false},
		"all labels must fit":            {Filter{Labels: map[string][]string{"az": {"nova-1"}, "row": {"8"}}}, a, false},
		"host and zone must fit":         {Filter{Hosts: []string{"cmp-1"}, Zones: []string{"rack-b"}}, a, false},
		"resource":                       {Filter{Resources: []string{"bond/*"}}, a, true},
		"other resource":                 {Filter{Resources: []string{"nic/*", "bond/bond1"}}, a, false},
		"class of cause":                 {Filter{Conditions: []correlate.Condition{correlate.CauseNetwork}}, a, true},
		"other class":                    {Filter{Conditions: []correlate.Condition{correlate.CauseStorage}}, a, false},
		"zone's alarm, of a host":        {Filter{Hosts: []string{"cmp-3"}}, &zone, true},
		"zone's alarm, of other hosts":   {Filter{Hosts: []string{"cmp-2"}}, &zone, false},
		"zone's alarm, of the zone":      {Filter{Zones: []string{"rack-a"}}, &zone, true},
		"zone's alarm, of another":       {Filter{Zones: []string{"rack-b"}}, &zone, false},
		"zone's alarm, a label":          {labels("az", "nova-1"), &zone, true},
		"zone's alarm, one host for all": {Filter{Hosts: []string{"cmp-3"}, Labels: map[string][]string{"az": {"nova-1"}}}, &zone, false},
		"zone's alarm without names":     {Filter{Hosts: []string{"cmp-2"}}, &nameless, true},
		"the same of another zone":       {Filter{Hosts: []string{"cmp-2"}, Zones: []string{"rack-b"}}, &nameless, false},
	} {
		if got := (Subscription{Filter: test.f}).passes(test.a, where); got != test.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// TestAConsumerChoosesByWhatItIsTold: what it hears or does not hear tells it nothing else.
func TestAConsumerChoosesByWhatItIsTold(t *testing.T) {
	physical := alarm("a1", 1, correlate.Raised, "p1")
	own := alarm("a2", 1, correlate.Raised, "p1")
	own.Key.Resource, own.Key.Condition, own.AbstractCause = own.Affected[0].Resource, correlate.CondCrash, correlate.CauseCompute
	others := *own
	others.Affected = []correlate.Affected{{Resource: "domain/x", Project: "p2", State: correlate.StateFailed}, {Resource: "domain/y", Project: "p1", State: correlate.StateFailed}}
	others.Key.Resource = "domain/x"
	of := func(c ...correlate.Condition) Filter { return Filter{Conditions: c} }
	domains := Filter{ResourceTypes: []correlate.Kind{correlate.KindDomain}}
	for name, test := range map[string]struct {
		f    Filter
		a    *correlate.Alarm
		want bool
	}{
		"class":                         {of(correlate.CauseNetwork), physical, true},
		"other class":                   {of(correlate.CausePower), physical, false},
		"the physical condition":        {of(correlate.CondCarrier), physical, false}, // of a record that Validate has not seen
		"class, of its own":             {of(correlate.CauseCompute), own, true},
		"condition of its own":          {of(correlate.CondCrash), own, true},
		"condition of another's domain": {of(correlate.CondCrash), &others, false},
		"domains, of its own":           {domains, own, true},
		"domains, of another's":         {domains, &others, false},
		"domains, of a bond":            {domains, physical, false},
	} {
		s := fileSub("tenant", "http://h/")
		s.Role, s.Filter, s.Filter.Projects = RoleConsumer, test.f, []string{"p1"}
		if got := s.passes(test.a, nil); got != test.want {
			t.Errorf("%s: %v", name, got)
		}
	}
	s := fileSub("tenant", "http://h/")
	s.Role, s.Filter = RoleConsumer, Filter{
		Projects: []string{"p1"}, Hosts: []string{"cmp-1"}, Zones: []string{"a"}, Labels: map[string][]string{"az": {"b"}}, Resources: []string{"nic/*"},
		ResourceTypes: []correlate.Kind{correlate.KindDomain, correlate.KindNIC},
		Conditions:    []correlate.Condition{correlate.CauseNetwork, correlate.CondCrash, "monitor.x", correlate.CondCarrier},
	}
	err := s.Validate()
	for _, want := range []string{"filter.hosts:", "filter.zones:", "filter.labels:", "filter.resources:", "filter.resource_types[1]:", "filter.conditions[3]:"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s is not refused: %v", want, err)
		}
	}
	if n := strings.Count(err.Error(), "filter."); n != 6 {
		t.Errorf("%d problems: %v", n, err)
	}
}

// TestWhatAnEarlierVersionTookAndThisOneRefusesIsPausedAloud rather than silent.
func TestWhatAnEarlierVersionTookAndThisOneRefusesIsPausedAloud(t *testing.T) {
	cfg, r := testConfig(t, t.TempDir())
	n, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	s := Subscription{
		ID: "2ec84f5b-60f4-424f-8e97-45acb767f72b", Version: 7, Name: "tenant", Endpoints: []string{"http://127.0.0.1:9/"}, Format: FormatNative,
		Role: RoleConsumer, Origin: OriginAPI, Filter: Filter{Projects: []string{"p1"}, Conditions: []correlate.Condition{correlate.CondCarrier}},
	}
	n.box.put(write{place{shelfSubscriptions, s.ID}, subscriptionRecord{Subscription: s}})
	run(t, n)()
	n, _ = start(t, cfg)
	if got := n.Subscriptions(); len(got) != 1 || !strings.Contains(got[0].Paused, "filter.conditions[0]") {
		t.Errorf("%+v", got)
	}
	eventually(t, "it is reported", func() bool { return r.last(correlate.CondSubscription) == correlate.StatusFailed })
}

func TestProblemsOfPlacesAreNamed(t *testing.T) {
	s := fileSub("a", "http://h/")
	s.Filter = Filter{
		Hosts: []string{"a", "["}, Zones: []string{""}, Resources: slices.Repeat([]string{"x"}, maxFilter+1),
		Labels: map[string][]string{"": {"x"}, "az": nil, "row": {strings.Repeat("x", maxGlob+1)}},
	}
	err := s.Validate()
	for _, want := range []string{"filter.hosts[1]:", "filter.zones[0]:", "filter.resources:", `filter.labels: ""`, "filter.labels.az:", "filter.labels.row[0]:"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s is not named in %v", want, err)
		}
	}
}

// TestAPlaceThatChangesIsJudgedAnew: what passes now is told; who was told before hears the end all the same. Of a host that this
// one speaks for as well.
func TestAPlaceThatChangesIsJudgedAnew(t *testing.T) {
	inA, inB, labelled := newConsumer(t, nil), newConsumer(t, nil), newConsumer(t, nil)
	subs := []Subscription{fileSub("a", inA.URL), fileSub("b", inB.URL), fileSub("l", labelled.URL)}
	subs[0].Filter.Zones, subs[1].Filter.Zones = []string{"rack-a"}, []string{"rack-b"}
	subs[2].Filter.Labels = map[string][]string{"az": {"nova-1"}}
	cfg, _ := testConfig(t, t.TempDir())
	cfg.Peers = newOthers()
	cfg.Place = Place{Zone: "rack-a"}
	n, stop := start(t, cfg, subs...)
	n.Publish(effects(alarm("a1", 1, correlate.Raised, "p1")))
	inA.waitFor(t, 1)
	n.SetPlace("cmp-1", Place{Zone: "rack-b", Labels: map[string]string{"az": "nova-1"}})
	inB.waitFor(t, 1)
	labelled.waitFor(t, 1)

	n.Speak(changes(lost(2, "p1")), nil) // nobody knows where cmp-2 stood
	settledAll(t, n)
	n.SetPlace("cmp-2", Place{Zone: "rack-a"})
	if m := inA.waitFor(t, 2)[1]; m.event.Source != "/paramedic/prod/cmp-2" {
		t.Errorf("%s", m.body)
	}
	n.Publish(effects(alarm("a1", 2, correlate.Cleared, "p1")))
	inA.waitFor(t, 3)
	inB.waitFor(t, 2)
	labelled.waitFor(t, 2)
	settledAll(t, n)
	stop()
	if got := []int{len(inA.messages()), len(inB.messages()), len(labelled.messages())}; !slices.Equal(got, []int{3, 2, 2}) {
		t.Errorf("told %v", got)
	}
}

// TestTheSnapshotIsJudgedByWhereHostsStand: those of other hosts, too.
func TestTheSnapshotIsJudgedByWhereHostsStand(t *testing.T) {
	c := newConsumer(t, nil)
	cfg, _ := testConfig(t, t.TempDir())
	o := newOthers()
	elsewhere := alarm("a2", 1, correlate.Raised, "p1")
	elsewhere.Key.Home = "cmp-2"
	o.standing = []*correlate.Alarm{elsewhere}
	cfg.Peers, cfg.Place = o, Place{Zone: "rack-a"}
	n, _ := start(t, cfg)
	n.SetPlace("cmp-2", Place{Zone: "rack-b"})
	n.Publish(effects(alarm("a1", 1, correlate.Raised, "p1")))
	settledAll(t, n)
	for zone, want := range map[string]string{"rack-a": "a1", "rack-b": "a2"} {
		s := fileSub("in-"+zone, c.URL)
		s.Filter.Zones = []string{zone}
		_, snapshot, err := n.Subscribe(t.Context(), s, false)
		if err != nil || len(snapshot) != 1 || snapshot[0].ID != want {
			t.Errorf("%s: %v, %v", zone, snapshot, err)
		}
	}
}

// TestAFilterWithoutPlacesIsWrittenAsBeforeThereWereAny: or every file's subscription would be another version after an upgrade.
func TestAFilterWithoutPlacesIsWrittenAsBeforeThereWereAny(t *testing.T) {
	b, err := json.Marshal(Filter{Projects: []string{"p1"}})
	const want = `{"Projects":["p1"],"Domains":null,"ResourceTypes":null,"Conditions":null,"MinSeverity":0,"Kinds":null,"States":null,"MinConfidence":""}`
	if string(b) != want || err != nil {
		t.Errorf("%s, %v", b, err)
	}
	full := Filter{Hosts: []string{"h"}, Zones: []string{"z"}, Labels: map[string][]string{"l": {"v"}}, Resources: []string{"nic/*"}}
	for _, without := range []func(*Filter){
		func(f *Filter) { f.Hosts = nil }, func(f *Filter) { f.Zones = nil }, func(f *Filter) { f.Labels = nil }, func(f *Filter) { f.Resources = nil },
	} {
		less := full
		without(&less)
		if s, o := (Subscription{Name: "a", Filter: full}), (Subscription{Name: "a", Filter: less}); sameContents(s, o) || FileVersion(s) == FileVersion(o) {
			t.Errorf("%+v is the same as %+v", less, full)
		}
	}
}
