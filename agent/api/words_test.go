package api

import (
	"strings"
	"testing"
	"time"

	"github.com/paramedic-ha/paramedic/correlate"
)

func TestAnAdministratorCommentsOnAndClearsAnAlarm(t *testing.T) {
	h := newHost(t)
	c := serve(t, h)
	h.carrier("nic/eth0", correlate.StatusFailed)
	path := "/v1/alarms/" + get[AlarmPage](c, "GET", "/v1/alarms", nil, 200).Alarms[0].ID
	for _, text := range []string{"", " \n"} {
		if p := c.problem("POST", path+"/comments", CommentRequest{Text: text}, 400); !strings.Contains(p.Detail, "it is empty") {
			t.Errorf("comment %q: %+v", text, p)
		}
	}
	c.problem("POST", path+"/comments", CommentRequest{Text: strings.Repeat("ü", maxComment+1)}, 400)
	c.problem("POST", path+"/clear", ClearRequest{Comment: strings.Repeat("x", maxComment+1)}, 400)
	c.problem("POST", "/v1/alarms/nonsense/comments", CommentRequest{Text: "where is it"}, 404)
	c.problem("POST", "/v1/alarms/nonsense/clear", ClearRequest{}, 404)

	long := strings.Repeat("ü", maxComment)
	a := get[Alarm](c, "POST", path+"/comments", CommentRequest{Text: long}, 200)
	if len(a.Comments) != 1 || a.Comments[0].Text != long || a.Comments[0].By == "" || a.Comments[0].At == nil {
		t.Errorf("comments: %+v", a.Comments)
	}
	a = get[Alarm](c, "POST", path+"/clear", ClearRequest{Comment: "unplugged"}, 200)
	if a.State != "cleared" || a.ClearReason != "by-hand" || a.ClearedBy == nil || !a.ClearedBy.Dismissed || a.ClearedBy.Comment != "unplugged" || len(a.Comments) != 1 {
		t.Errorf("cleared: %+v", a)
	}
	if list := get[AlarmPage](c, "GET", "/v1/alarms?state=dismissed", nil, 200).Alarms; len(list) != 1 || list[0].ID != a.ID {
		t.Errorf("dismissed: %+v", list)
	}
	if n := get[Status](c, "GET", "/v1/status", nil, 200).Dismissed; n != 1 {
		t.Errorf("%d are dismissed by the status, want 1", n)
	}
	c.problem("POST", path+"/clear", ClearRequest{}, 404)
}

func TestThatAHostIsLostIsClearedByForgettingIt(t *testing.T) {
	h := newHost(t)
	n := threeHosts(t)
	spoken := func(home string, id correlate.ID, c correlate.Condition) *correlate.Alarm {
		s := correlate.Spoken{
			Key: correlate.Key{Home: home, Resource: id, Condition: c}, Term: 3, First: 1, Counter: 1, Last: correlate.Raised,
			Times: correlate.Times{Raised: time.Unix(1_700_000_000, 0)}, Confidence: correlate.ConfidenceConfirmed,
		}
		return s.Alarm(nil)
	}
	gone := spoken("cmp-3", "host/cmp-3", correlate.CondHostLost)
	there := spoken("cmp-2", "host/cmp-2", correlate.CondAgentSilent)
	zone := spoken("zone/rack-a", "zone/rack-a", correlate.CondZoneLost)
	n.alarms = append(n.alarms, gone, there, zone)
	h.set(func() { h.cluster = n })
	c := serve(t, h)
	if p := c.problem("POST", "/v1/alarms/"+there.ID+"/clear", ClearRequest{}, 409); !strings.HasSuffix(p.Type, "#is-member") {
		t.Errorf("of a host that is there: %+v", p)
	}
	if p := c.problem("POST", "/v1/alarms/"+zone.ID+"/clear", ClearRequest{}, 409); !strings.HasSuffix(p.Type, "#spoken") {
		t.Errorf("of a zone: %+v", p)
	}
	if a := get[Alarm](c, "POST", "/v1/alarms/"+gone.ID+"/clear", ClearRequest{Comment: "scrapped"}, 200); a.ClearedBy == nil || a.ClearedBy.Comment != "scrapped" {
		t.Errorf("of a host that is gone: %+v", a)
	}
	c.problem("GET", "/v1/hosts/cmp-3", nil, 404)
}

func TestMutesAreMadeReplacedListedAndEnded(t *testing.T) {
	h := newHost(t)
	c := serve(t, h)
	for body, want := range map[string]string{
		`{"hosts":["cmp-1"]}`:                                        "until is missing",
		`{"hosts":["cmp-1"],"until":"2h"}`:                           "RFC 3339",
		`{"hosts":["cmp-1"],"for":"2h","until":"2099-01-01T00:00Z"}`: "one of them",
		`{"hosts":["cmp-1"],"for":"-2h"}`:                            "above 0",
		`{"hosts":["cmp-1"],"for":"2h","max_severity":"bad"}`:        "max_severity",
	} {
		if p := c.problem("PUT", "/v1/mutes", body, 400); !strings.Contains(p.Detail, want) {
			t.Errorf("%s: %q, want %q", body, p.Detail, want)
		}
	}
	for body, want := range map[string]string{
		`{"for":"2h"}`:                                            "mute everything",
		`{"hosts":["cmp-1"],"for":"721h"}`:                        "30 days",
		`{"id":"a b","hosts":["["],"for":"2h"}`:                   "hosts[0]",
		`{"hosts":["cmp-1"],"until":"2001-01-01T00:00:00Z"}`:      "is over",
		`{"hosts":["cmp-1"],"for":"2h","max_severity":"cleared"}`: "upper bound",
	} {
		if p := c.problem("PUT", "/v1/mutes", body, 422); !strings.Contains(p.Detail, want) {
			t.Errorf("%s: %q, want %q", body, p.Detail, want)
		}
	}
	h.carrier("nic/eth0", correlate.StatusFailed)
	alarm := func() Alarm { return get[AlarmPage](c, "GET", "/v1/alarms", nil, 200).Alarms[0] }
	if a := alarm(); a.Muted != nil {
		t.Errorf("muted by %+v before there is a mute", a.Muted)
	}
	m := get[Mute](c, "PUT", "/v1/mutes", MuteRequest{ID: "switch", Hosts: []string{"cmp-1"}, For: "2h", Reason: "a new one"}, 201)
	if m.By == "" || m.Reason != "a new one" || m.Until == nil || m.Made == nil || m.Until.Sub(*m.Made) != 2*time.Hour {
		t.Errorf("made: %+v", m)
	}
	if a := alarm(); a.Muted == nil || a.Muted.ID != "switch" || !a.Muted.Until.Equal(*m.Until) {
		t.Errorf("the alarm is muted by %+v", a.Muted)
	}
	if n := get[Status](c, "GET", "/v1/status", nil, 200).Mutes; n != 1 {
		t.Errorf("the status counts %d mutes", n)
	}
	if m := get[Mute](c, "PUT", "/v1/mutes", MuteRequest{ID: "switch", Resources: []string{"nic/eth9"}, For: "1h"}, 200); len(m.Hosts) != 0 {
		t.Errorf("replaced: %+v", m)
	}
	if a := alarm(); a.Muted != nil {
		t.Errorf("muted by %+v, which is about something else now", a.Muted)
	}
	named := get[Mute](c, "PUT", "/v1/mutes", MuteRequest{Zones: []string{"rack-*"}, Until: time.Now().Add(time.Hour).Format(time.RFC3339)}, 201)
	if list := get[MuteList](c, "GET", "/v1/mutes", nil, 200).Mutes; len(list) != 2 || named.ID == "" {
		t.Errorf("mutes: %+v", list)
	}
	if m := get[Mute](c, "GET", "/v1/mutes/switch", nil, 200); m.ID != "switch" || m.Resources[0] != "nic/eth9" {
		t.Errorf("one: %+v", m)
	}
	if res, body := c.send("DELETE", "/v1/mutes/switch", nil); res.StatusCode != 204 || len(body) != 0 {
		t.Errorf("ended: %d %s", res.StatusCode, body)
	}
	c.problem("DELETE", "/v1/mutes/switch", nil, 404)
	c.problem("GET", "/v1/mutes/switch", nil, 404)
}
