package api

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/paramedic-ha/paramedic/correlate"
	"github.com/paramedic-ha/paramedic/notify"
)

// account finds what an explanation says of a subscription.
func (x Explanation) account(name string) Account {
	i := slices.IndexFunc(x.Accounts, func(a Account) bool { return a.Subscription == name })
	if i < 0 {
		return Account{Why: "no account"}
	}
	return x.Accounts[i]
}

// wants makes a subscription that tells an endpoint what passes a filter.
func (h *host) wants(t *testing.T, name, endpoint string, f notify.Filter) notify.Subscription {
	t.Helper()
	sub, _, err := h.notifier.Subscribe(t.Context(), notify.Subscription{Name: name, Endpoints: []string{endpoint}, Filter: f}, false)
	if err != nil {
		t.Fatal(err)
	}
	return sub
}

func TestAnAlarmIsExplained(t *testing.T) {
	h := newHost(t)
	c := serve(t, h)
	ok := consumer(t, http.StatusOK)
	h.wants(t, "all", ok, notify.Filter{})
	h.wants(t, "refusing", consumer(t, http.StatusForbidden), notify.Filter{})
	paused := h.wants(t, "paused", ok, notify.Filter{})
	if _, err := h.notifier.Update(t.Context(), paused.ID, notify.SubscriptionPatch{Paused: new("being moved")}); err != nil {
		t.Fatal(err)
	}
	for key, f := range map[string]notify.Filter{
		"resource_types": {ResourceTypes: []correlate.Kind{correlate.KindDisk}, Hosts: []string{"no"}},
		"resources":      {Resources: []string{"disk/*"}},
		"conditions":     {Conditions: []correlate.Condition{"gone"}},
		"hosts":          {Hosts: []string{"cmp-9"}, Zones: []string{"no"}},
		"zones":          {Hosts: []string{"cmp-1"}, Zones: []string{"rack-z"}},
		"labels":         {Labels: map[string][]string{"row": {"1"}}},
		"min_severity":   {MinSeverity: correlate.SeverityCritical, Projects: []string{otherProject}},
		"projects":       {Projects: []string{otherProject}, Domains: []string{"nobody"}},
		"domains":        {Projects: []string{project}, Domains: []string{"nobody"}},
		"vnfs":           {VNFs: []string{"vnf-z"}},
		"states":         {States: []correlate.State{correlate.StateAtRisk}},
	} {
		h.wants(t, key, ok, f)
	}
	h.set(func() {
		h.act(h.engine.SetPolicies(h.now, []correlate.Policy{{Resource: "disk/*", Severity: correlate.SeverityMinor}, {Resource: "nic/*", Severity: correlate.SeverityMajor}}))
	})
	h.carrier("nic/eth0", correlate.StatusFailed)
	id := get[AlarmPage](c, "GET", "/v1/alarms", nil, 200).Alarms[0].ID
	var x Explanation
	eventually(t, "all answers", func() bool {
		x = get[Explanation](c, "GET", "/v1/alarms/"+id+"/explanation", nil, 200)
		return x.account("all").Told != "" && x.account("refusing").Owed != nil && x.account("refusing").Owed.State == "parked"
	})
	d := x.Derivation
	if d == nil || d.SeverityBy != "policy" || *x.Definition.SeverityPolicy != 1 || x.Definition.HoldDownPolicy != nil || !d.Reported || d.Restored {
		t.Fatalf("the rule: %+v %+v", x.Definition, d)
	}
	var way []string
	for _, hop := range d.Paths[0].Hops {
		way = append(way, hop.Resource+" "+hop.Need.Mode+" "+hop.Level)
	}
	if got, want := strings.Join(way, ", "), "bridge/br0 all-of failed, nic/tap0 all-of failed, "+string(vnic)+" all-of failed, "+string(domain)+" some-of failed"; got != want {
		t.Errorf("the way to the domain: %s, want %s", got, want)
	}
	all := x.account("all")
	if len(all.Sent) != 1 || all.Sent[0].Revision != x.Alarm.Revision || all.Sent[0].By != "cmp-1" || all.Sent[0].T09 == nil || all.Why != "" || all.Owed != nil {
		t.Errorf("who was told: %+v", all)
	}
	if p := x.account("paused"); p.Owed == nil || p.Held != "paused: being moved" || p.Told != "" {
		t.Errorf("who is paused: %+v", p)
	}
	for _, key := range []string{"resource_types", "resources", "conditions", "hosts", "zones", "labels", "min_severity", "projects", "domains", "vnfs", "states"} {
		if acc := x.account(key); acc.Why != "filter" || acc.Filter != key || acc.Told != "" || acc.Owed != nil {
			t.Errorf("whose filter key %s does not match: %+v", key, acc)
		}
	}

	// What a mute holds back, who was told before hears no more of it, and the end.
	if _, err := h.notifier.SetMute(t.Context(), notify.Mute{ID: "m", Filter: notify.Filter{Resources: []string{"nic/*"}}, Until: time.Now().Add(time.Hour)}); err != nil {
		t.Fatal(err)
	}
	h.set(func() {
		h.act(h.engine.SetPolicies(h.now, nil))
	})
	x = get[Explanation](c, "GET", "/v1/alarms/"+id+"/explanation", nil, 200)
	if acc := x.account("all"); acc.Why != "mute" || acc.Mute != "m" || acc.Told == "" {
		t.Errorf("muted: %+v", acc)
	}
	if acc := x.account("hosts"); acc.Why != "filter" || acc.Filter != "hosts" {
		t.Errorf("muted, and its filter lets it not through: %+v", acc)
	}
	if x.Derivation.SeverityBy != "rule" || x.Definition.SeverityPolicy != nil {
		t.Errorf("without policies: %+v %+v", x.Definition, x.Derivation)
	}
	h.carrier("nic/eth0", correlate.StatusOK)
	eventually(t, "the end", func() bool {
		x = get[Explanation](c, "GET", "/v1/alarms/"+id+"/explanation", nil, 200)
		return x.account("all").Told == x.Alarm.Revision
	})
	if x.Alarm.State != "cleared" || x.Derivation != nil || len(x.account("all").Sent) != 2 || x.account("projects").Why != "over" || x.account("states").Why != "unknown" ||
		len(x.Unknown) != 2 || !strings.Contains(x.Unknown[0], "is over") || !strings.Contains(x.Unknown[1], "last 1000") {
		t.Errorf("when it is over: %+v", x)
	}
	c.problem("GET", "/v1/alarms/nothing/explanation", nil, 404)
	c.problem("GET", "/v1/alarms/"+id+"/explanation?x=1", nil, 400)
}

// Of another host's alarm it is told what that has made known, and who knows the rest.
func TestAnAlarmOfAnotherHostIsExplainedAsFarAsItIsKnown(t *testing.T) {
	h := newHost(t)
	h.cluster = threeHosts(t)
	c := serve(t, h)
	told, parked := h.wants(t, "told", consumer(t, http.StatusOK), notify.Filter{}), h.wants(t, "parked", consumer(t, http.StatusOK), notify.Filter{})
	h.wants(t, "other", consumer(t, http.StatusOK), notify.Filter{Hosts: []string{"cmp-1"}})
	i := slices.IndexFunc(h.cluster.alarms, func(a *correlate.Alarm) bool { return a.ID == "root" })
	a := h.cluster.alarms[i]
	h.cluster.pairs = []notify.Pair{
		{Subscription: told.ID, AlarmID: a.ID, Told: a.Revision},
		{Subscription: parked.ID, AlarmID: a.ID, Owed: a.Revision, Parked: true, Attempts: 3, LastError: "answered 403"},
		{Subscription: parked.ID, AlarmID: "another", Told: a.Revision},
	}
	x := get[Explanation](c, "GET", "/v1/alarms/root/explanation", nil, 200)
	if acc := x.account("told"); acc.Told != a.Revision.String() || acc.Owed != nil || acc.Why != "" {
		t.Errorf("who was told: %+v", acc)
	}
	if acc := x.account("parked"); acc.Told != "" || acc.Owed == nil || acc.Owed.State != "parked" || acc.Owed.LastError != "answered 403" {
		t.Errorf("who is owed: %+v", acc)
	}
	if acc := x.account("other"); acc.Why != "filter" || acc.Filter != "hosts" {
		t.Errorf("who asks for no such: %+v", acc)
	}
	if len(x.Derivation.Members) != 1 || x.Derivation.Members[0] != (Cause{"member", "nic/eth0.7", "carrier", "home"}) || len(x.Derivation.Paths) != 0 {
		t.Errorf("derivation: %+v", x.Derivation)
	}
	if len(x.Unknown) != 2 || !strings.Contains(x.Unknown[0], "run this command on "+a.Key.Home) || !strings.Contains(x.Unknown[1], "last 1000") {
		t.Errorf("what is not known: %q", x.Unknown)
	}
	member := get[Explanation](c, "GET", "/v1/alarms/member/explanation", nil, 200)
	if d := member.Derivation; len(d.Causes) != 1 || d.Causes[0].Alarm != "root" || d.Causes[0].Condition == "" || member.account("told").Why != "under" {
		t.Errorf("under another: %+v", member)
	}
}

func TestAConsumerIsToldWhatItIsOwedAndNoCause(t *testing.T) {
	h := newHost(t)
	g := serveGuarded(t, h, unhurried)
	h.owned(t, "vnfm-a", project, consumer(t, http.StatusBadRequest))
	h.owned(t, "vnfm-b", otherProject, consumer(t, http.StatusOK))
	h.carrier("nic/eth0", correlate.StatusFailed)
	alarms := get[AlarmPage](g.named("vnfm-a"), "GET", "/v1/alarms", nil, 200).Alarms
	path := "/v1/alarms/" + alarms[0].ID + "/explanation"
	if _, err := h.notifier.SetMute(t.Context(), notify.Mute{ID: "m", Filter: notify.Filter{Hosts: []string{"*"}}, Until: time.Now().Add(time.Hour)}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a parked delivery", func() bool { return len(h.notifier.Deliveries(notify.DeliveryParked)) == 1 })
	x := get[Explanation](g.named("vnfm-a"), "GET", path, nil, 200)
	text, err := json.Marshal(x)
	if err != nil {
		t.Fatal(err)
	}
	if x.Definition != nil || x.Derivation != nil || len(x.Unknown) != 0 || physical.Match(text) || strings.Contains(string(text), "vnfm-b") {
		t.Errorf("a consumer sees %s", text)
	}
	if len(x.Accounts) != 1 || x.Accounts[0].Owed == nil || x.Accounts[0].Owed.State != "parked" {
		t.Errorf("its own account: %+v", x.Accounts)
	}
	g.named("vnfm-b").problem("GET", path, nil, 404)

	// That a mute keeps something back is an administrator's.
	h.owned(t, "vnfm-a", project, consumer(t, http.StatusOK))
	h.carrier("nic/eth0", correlate.StatusOK)
	h.carrier("nic/eth0", correlate.StatusFailed)
	path = "/v1/alarms/" + get[AlarmPage](g.named("vnfm-a"), "GET", "/v1/alarms", nil, 200).Alarms[0].ID + "/explanation"
	for _, acc := range get[Explanation](g.named("vnfm-a"), "GET", path, nil, 200).Accounts {
		if acc.Why != "unknown" || acc.Mute != "" {
			t.Errorf("muted, to a consumer: %+v", acc)
		}
	}
	for _, acc := range get[Explanation](g.named("ops"), "GET", path, nil, 200).Accounts {
		if want := map[string]string{"of vnfm-a": "mute m", "of vnfm-b": "filter "}[acc.Subscription]; acc.Why+" "+acc.Mute != want {
			t.Errorf("muted, to an administrator: %+v", acc)
		}
	}
}
