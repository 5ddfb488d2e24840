package api

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/paramedic-ha/paramedic/correlate"
	"github.com/paramedic-ha/paramedic/notify"
)

// Who asks a host that waits for its peers hears at once of all others, and that it is starting.
func TestAHostThatStartsTellsOfTheOthers(t *testing.T) {
	h := newHost(t)
	h.cluster = threeHosts(t)
	c := serve(t, h)
	h.set(func() { h.starting = true }) // who waits for the engine now waits until the test ends

	hosts := get[HostList](c, "GET", "/v1/hosts", nil, 200).Hosts
	if len(hosts) != 3 || !hosts[0].Self || hosts[0].State != "starting" || hosts[0].AsOf != nil || hosts[1].State != "member" || hosts[2].State != "away" {
		t.Errorf("hosts: %+v", hosts)
	}
	if one := get[Host](c, "GET", "/v1/hosts/cmp-2", nil, 200); one.Domains != 1 {
		t.Errorf("cmp-2: %+v", one)
	}
	if alarms := get[AlarmPage](c, "GET", "/v1/alarms", nil, 200); len(alarms.Alarms) != 2 || !alarms.Starting {
		t.Errorf("alarms: %+v", alarms)
	}
	if root := get[Alarm](c, "GET", "/v1/alarms/root", nil, 200); !slices.Equal(root.Correlated, []string{"member"}) {
		t.Errorf("an alarm: %+v", root)
	}
	list := get[ResourcePage](c, "GET", "/v1/resources", nil, 200)
	if len(list.Resources) != 7 || !list.Starting || list.Resources[0].Host != "cmp-2" {
		t.Errorf("resources: %+v", list)
	}
	if vm := get[Resource](c, "GET", "/v1/resources/"+string(movedDomain), nil, 200); vm.Host != "cmp-2" {
		t.Errorf("domain: %+v", vm)
	}
	if st := get[Status](c, "GET", "/v1/status", nil, 200); !st.Starting || st.Cluster == nil {
		t.Errorf("status: %+v", st)
	}
	if health := get[Health](c, "GET", "/healthz", nil, 200); health.Status != "starting" {
		t.Errorf("health: %+v", health)
	}
	for _, path := range []string{
		"/v1/alarms/0123", "/v1/resources?host=cmp-1", "/v1/resources/nic/mgmt0", "/v1/resources/nic/eth0?host=cmp-1", "/v1/topology",
	} {
		if p := c.problem("GET", path, nil, 503); !strings.HasSuffix(p.Type, "#starting") {
			t.Errorf("%s: %+v", path, p)
		}
	}
	h.set(func() { h.starting = false })
	if alarms := get[AlarmPage](c, "GET", "/v1/alarms", nil, 200); alarms.Starting {
		t.Error("it is still starting")
	}
}

func TestAMemberWithoutATermIsStarting(t *testing.T) {
	h := newHost(t)
	h.cluster = threeHosts(t)
	h.cluster.hosts[1].Term = 0
	if other := get[Host](serve(t, h), "GET", "/v1/hosts/cmp-2", nil, 200); other.State != "starting" {
		t.Errorf("cmp-2 is %s", other.State)
	}
}

// All pages together are the list, whatever their size; and a page unpacks the domains of the hosts on it only.
func TestResourcesComeInPages(t *testing.T) {
	h := newHost(t)
	h.cluster = threeHosts(t)
	c := serve(t, h)
	names := func(all []Resource) (out []string) {
		for _, r := range all {
			out = append(out, r.Host+" "+r.ID)
		}
		return out
	}
	whole := names(get[ResourcePage](c, "GET", "/v1/resources", nil, 200).Resources)
	if len(whole) != 13 || !slices.IsSorted(whole) {
		t.Fatalf("all: %q", whole)
	}
	for _, limit := range []string{"1", "5", "6", "12", "13", "1000"} {
		var got []string
		for after := ""; ; {
			page := get[ResourcePage](c, "GET", "/v1/resources?limit="+limit+"&after="+after, nil, 200)
			got = append(got, names(page.Resources)...)
			if after = page.Next; after == "" {
				break
			}
		}
		if !slices.Equal(got, whole) {
			t.Errorf("in pages of %s: %q", limit, got)
		}
	}
	h.set(func() { h.cluster.looked = nil })
	page := get[ResourcePage](c, "GET", "/v1/resources?limit=3", nil, 200)
	if h.set(func() {
		if len(h.cluster.looked) != 0 {
			t.Errorf("a page of cmp-1 has the domains of %q unpacked", h.cluster.looked)
		}
	}); page.Next == "" {
		t.Error("there is no next page")
	}
	// A place stays one when its host is gone.
	last := place{"cmp-2", "zzz"}
	h.set(func() { h.cluster.hosts = slices.Delete(h.cluster.hosts, 1, 2) })
	if rest := names(get[ResourcePage](c, "GET", "/v1/resources?after="+last.String(), nil, 200).Resources); !slices.Equal(rest, []string{"cmp-3 host/cmp-3"}) {
		t.Errorf("behind a host that is gone: %q", rest)
	}
	for _, bad := range []string{"after=bm8", "after=%21", "limit=0", "limit=1001"} {
		c.problem("GET", "/v1/resources?"+bad, nil, 400)
	}
}

// A host that comes back while it is being forgotten is a conflict, and not a failure of the agent.
func TestAHostThatIsBackIsNotForgotten(t *testing.T) {
	h := newHost(t)
	h.cluster = threeHosts(t)
	c := serve(t, h)
	h.set(func() { h.cluster.hosts[2].Member = true })
	if p := c.problem("DELETE", "/v1/hosts/cmp-3", nil, 409); !strings.HasSuffix(p.Type, "#is-member") {
		t.Errorf("forget: %+v", p)
	}
	if p := c.problem("DELETE", "/v1/hosts/cmp-1", nil, 409); !strings.Contains(p.Detail, "this host") {
		t.Errorf("forget oneself: %+v", p)
	}
}

// A revision was so when it was written, however long ago its home was last compared as a whole.
func TestAnAlarmIsAtLeastAsFreshAsItsRevision(t *testing.T) {
	now := time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)
	compared := map[string]time.Time{"new": {}, "old": now.Add(-time.Hour), "fresh": now}
	a := ages{node: "cmp-1", now: now, muted: func(*correlate.Alarm) (notify.Mute, bool) { return notify.Mute{}, false }, others: func(host string) time.Time { return compared[host] }}
	for _, c := range []struct {
		host    string
		changed time.Time
		want    time.Time
	}{
		{"new", now.Add(-time.Second), now.Add(-time.Second)},
		{"new", now.Add(time.Minute), now}, // its clock is ahead
		{"old", now.Add(-time.Minute), now.Add(-time.Minute)},
		{"old", now.Add(-2 * time.Hour), now.Add(-time.Hour)},
		{"fresh", now.Add(-time.Hour), now},
		{"cmp-1", now.Add(-time.Hour), now},
	} {
		alarm := &correlate.Alarm{Key: correlate.Key{Home: c.host}, Times: correlate.Times{Raised: now.Add(-3 * time.Hour), Changed: c.changed}}
		got := a.alarm(alarm, alarm)
		if got.AsOf == nil || !got.AsOf.Equal(c.want) {
			t.Errorf("%s, changed %v: as of %v, want %v", c.host, c.changed, got.AsOf, c.want)
		}
	}
}
