package api

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os/user"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/paramedic-ha/paramedic/agent/southbound"
	"github.com/paramedic-ha/paramedic/correlate"
	"github.com/paramedic-ha/paramedic/gossip"
	"github.com/paramedic-ha/paramedic/notify"
	"github.com/paramedic-ha/paramedic/notify/format"
)

// consumer is a callback that takes everything, or answers with status when that is set.
func consumer(t *testing.T, status int) (endpoint string) {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) }))
	t.Cleanup(server.Close)
	return server.URL
}

var signed = "whsec_" + base64.StdEncoding.EncodeToString([]byte("a key of more than 24 bytes, for tests"))

func wish(name, endpoint string, verify bool) SubscriptionRequest {
	return SubscriptionRequest{Name: name, Endpoints: []string{endpoint}, Secret: signed, Verify: &verify, Filter: &Filter{Kinds: []string{"fault"}}}
}

// TestEveryOperationAnswersAsDescribed does everything that the API offers; client.do holds each answer against the
// document.
func TestEveryOperationAnswersAsDescribed(t *testing.T) {
	h := newHost(t)
	c := serve(t, h)
	h.carrier("nic/eth0", correlate.StatusFailed)

	status := get[Status](c, "GET", "/v1/status", nil, 200)
	if status.Alarms["critical"] != 1 || status.Resources != 6 {
		t.Errorf("status: %+v", status)
	}

	page := get[AlarmPage](c, "GET", "/v1/alarms", nil, 200)
	if len(page.Alarms) != 1 || page.Next != "" {
		t.Fatalf("alarms: %+v", page)
	}
	alarm := page.Alarms[0]
	if alarm.Resource != "nic/eth0" || alarm.Host != "cmp-1" || alarm.Condition != "carrier" || alarm.Severity != "critical" {
		t.Errorf("alarm: %+v", alarm)
	}
	if len(alarm.Affected) != 1 || alarm.Affected[0].Resource != string(domain) || alarm.Affected[0].Project != project ||
		!slices.Equal(alarm.Affected[0].Ports, []Port{{MAC: "52:54:00:00:00:01", PortID: "port-1"}}) {
		t.Errorf("affected: %+v", alarm.Affected)
	}
	if alarm.Times.Observed == nil || alarm.Times.Observed.Location() != time.UTC || alarm.Times.Cleared != nil {
		t.Errorf("times: %+v", alarm.Times)
	}
	if got := get[Alarm](c, "GET", "/v1/alarms/"+alarm.ID, nil, 200); got.ID != alarm.ID {
		t.Errorf("got another alarm: %+v", got)
	}

	if got := get[Explanation](c, "GET", "/v1/alarms/"+alarm.ID+"/explanation", nil, 200); got.Alarm.ID != alarm.ID || got.Derivation == nil {
		t.Errorf("the explanation of the alarm by its id: %+v", got)
	}

	acked := get[Alarm](c, "POST", "/v1/alarms/"+alarm.ID+"/ack", AckRequest{Comment: "on my way"}, 200)
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	if acked.Ack == nil || acked.Ack.By != me.Username || acked.Ack.Comment != "on my way" || acked.Ack.At == nil {
		t.Errorf("acknowledgement: %+v", acked.Ack)
	}

	if events := get[EventList](c, "GET", "/v1/events?limit=1", nil, 200).Events; len(events) != 1 || events[0].Status != "failed" || events[0].Time == nil {
		t.Errorf("events: %+v", events)
	}
	if all := get[ResourceList](c, "GET", "/v1/resources", nil, 200).Resources; len(all) != 6 {
		t.Errorf("resources: %+v", all)
	}
	port := get[Resource](c, "GET", "/v1/resources/"+string(vnic), nil, 200)
	if port.ID != string(vnic) || port.State != "failed" || port.OwnState != "ok" || port.Port == nil || port.Port.PortID != "port-1" {
		t.Errorf("vnic: %+v", port)
	}
	around := get[ResourceList](c, "GET", "/v1/topology?root=bridge/br0", nil, 200).Resources
	if len(around) != 5 || slices.ContainsFunc(around, func(r Resource) bool { return r.ID == "nic/mgmt0" }) {
		t.Errorf("topology around the bridge: %+v", around)
	}
	if all := get[ResourceList](c, "GET", "/v1/topology", nil, 200).Resources; len(all) != 6 {
		t.Errorf("topology: %+v", all)
	}

	res, body := c.send("POST", "/v1/subscriptions", wish("vnfm-a", consumer(t, http.StatusNoContent), false))
	var made Subscribed
	if err := json.Unmarshal(body, &made); err != nil || res.StatusCode != http.StatusCreated {
		t.Fatalf("subscribe: %d %s", res.StatusCode, body)
	}
	path := "/v1/subscriptions/" + made.Subscription.ID
	if res.Header.Get("Location") != path || len(made.Snapshot) != 1 || made.Snapshot[0].ID != alarm.ID {
		t.Errorf("subscribed at %s: %s", res.Header.Get("Location"), body)
	}
	if made.Subscription.Role != "admin" || made.Subscription.Format != "native" || made.Subscription.Origin != "api" {
		t.Errorf("defaults: %+v", made.Subscription)
	}
	if list := get[SubscriptionList](c, "GET", "/v1/subscriptions", nil, 200).Subscriptions; len(list) != 1 {
		t.Errorf("subscriptions: %+v", list)
	}
	if stages := get[Stages](c, "POST", path+"/test", nil, 200); stages.Subscription != made.Subscription.Name || stages.T09 == nil {
		t.Errorf("test: %+v", stages)
	}
	changed := get[Subscription](c, "PATCH", path, map[string]any{
		"name": "vnfm-b", "filter": map[string]any{"min_severity": "major", "states": []string{"failed"}},
	}, 200)
	if changed.Name != "vnfm-b" || changed.Filter.MinSeverity != "major" || !slices.Equal(changed.Filter.States, []string{"failed"}) {
		t.Errorf("changed: %+v", changed)
	}
	if got := get[Subscription](c, "GET", path, nil, 200); got.Name != "vnfm-b" {
		t.Errorf("kept: %+v", got)
	}

	h.carrier("nic/eth0", correlate.StatusOK)
	if cleared := get[AlarmPage](c, "GET", "/v1/alarms?state=cleared", nil, 200).Alarms; len(cleared) != 1 || cleared[0].ClearReason != "recovered" || cleared[0].Times.Cleared == nil {
		t.Errorf("cleared: %+v", cleared)
	}

	eventually(t, "the end is told, and in no snapshot any more", func() bool {
		return slices.ContainsFunc(get[StageList](c, "GET", "/v1/profile", nil, 200).Stages, func(s Stages) bool { return s.AlarmID == alarm.ID })
	})

	// A consumer that refuses for good: its delivery is parked.
	refusing := get[Subscribed](c, "POST", "/v1/subscriptions", wish("refusing", consumer(t, http.StatusBadRequest), false), 201).Subscription
	h.carrier("nic/mgmt0", correlate.StatusFailed)
	var parked []Delivery
	eventually(t, "a parked delivery", func() bool {
		parked = get[DeliveryList](c, "GET", "/v1/deliveries?state=parked", nil, 200).Deliveries
		return len(parked) == 1
	})
	if parked[0].Subscription != refusing.Name || parked[0].Resource != "nic/mgmt0" || parked[0].LastError == "" {
		t.Errorf("parked: %+v", parked)
	}
	c.send("POST", "/v1/deliveries/"+parked[0].ID+"/retry", nil)
	eventually(t, "it is parked again, and all of the subscription are tried again", func() bool { // nothing is while it is in flight
		return get[RetriedCount](c, "POST", "/v1/subscriptions/"+refusing.ID+"/retry", nil, 200).Retried == 1
	})
	for _, d := range get[DeliveryList](c, "GET", "/v1/deliveries?subscription="+made.Subscription.ID, nil, 200).Deliveries {
		if d.Consumer != made.Subscription.ID {
			t.Errorf("owed to another one: %+v", d)
		}
	}
	if res, _ := c.send("DELETE", "/v1/deliveries/"+parked[0].ID, nil); res.StatusCode != http.StatusNoContent {
		t.Errorf("discard: %s", res.Status)
	}
	if left := get[DeliveryList](c, "GET", "/v1/deliveries?subscription="+refusing.ID, nil, 200).Deliveries; len(left) != 0 {
		t.Errorf("discarded, and still owed: %+v", left)
	}
	c.problem("POST", "/v1/subscriptions/"+refusing.ID+"/test", nil, 502)

	if res, body := c.send("DELETE", path, nil); res.StatusCode != http.StatusNoContent || len(body) != 0 {
		t.Errorf("unsubscribe: %d %s", res.StatusCode, body)
	}
	c.problem("GET", path, nil, 404)

	link := map[string]any{"type": "compute.host.nic.error", "details": map[string]string{"source": "mgmt0", "monitor": "snmp", "monitor_event_id": "17"}}
	other := map[string]any{"type": "compute.host.down", "details": map[string]string{"hostname": "cmp-9"}}
	for method, body := range map[string]any{"POST": link, "PUT": []any{link}} {
		if v := get[Verdicts](c, method, "/v1/events", body, 202).Verdicts; len(v) != 1 || v[0].Resource != "nic/mgmt0" || v[0].Monitor != "snmp" {
			t.Errorf("%s: %+v", method, v)
		}
		if v := get[Verdicts](c, method, "/v1/events", []any{link, other}, 207).Verdicts; len(v) != 2 || v[0].Verdict != "duplicate" || v[1].Verdict != "refused" {
			t.Errorf("%s: %+v", method, v)
		}
	}

	standing := get[AlarmPage](c, "GET", "/v1/alarms?resource=nic/mgmt0", nil, 200).Alarms[0]
	if a := get[Alarm](c, "POST", "/v1/alarms/"+standing.ID+"/comments", CommentRequest{Text: "on my way"}, 200); len(a.Comments) != 1 || a.Comments[0].By != me.Username {
		t.Errorf("comments: %+v", a.Comments)
	}
	if a := get[Alarm](c, "POST", "/v1/alarms/"+standing.ID+"/clear", ClearRequest{}, 200); a.ClearedBy == nil || a.ClearedBy.By != me.Username || a.State != "cleared" {
		t.Errorf("cleared by hand: %+v", a)
	}

	get[Mute](c, "PUT", "/v1/mutes", MuteRequest{ID: "switch", Hosts: []string{"cmp-9"}, For: "1h"}, 201)
	get[Mute](c, "PUT", "/v1/mutes", MuteRequest{ID: "switch", Hosts: []string{"cmp-8"}, For: "1h"}, 200)
	get[Mute](c, "GET", "/v1/mutes/switch", nil, 200)
	if mutes := get[MuteList](c, "GET", "/v1/mutes", nil, 200).Mutes; len(mutes) != 1 || mutes[0].Hosts[0] != "cmp-8" {
		t.Errorf("mutes: %+v", mutes)
	}
	if res, body := c.send("DELETE", "/v1/mutes/switch", nil); res.StatusCode != http.StatusNoContent || len(body) != 0 {
		t.Errorf("end of the mute: %d %s", res.StatusCode, body)
	}

	for _, path := range []string{"/healthz", "/readyz", "/metrics", "/v1/openapi.yaml"} {
		if res, body := c.send("GET", path, nil); res.StatusCode != http.StatusOK || len(body) == 0 {
			t.Errorf("%s: %d %s", path, res.StatusCode, body)
		}
	}

	h.set(func() { h.cluster = threeHosts(t) })
	if hosts := get[HostList](c, "GET", "/v1/hosts", nil, 200).Hosts; len(hosts) != 3 {
		t.Errorf("hosts: %+v", hosts)
	}
	if other := get[Host](c, "GET", "/v1/hosts/cmp-3", nil, 200); other.State != "away" || other.AsOf != nil {
		t.Errorf("cmp-3: %+v", other)
	}
	if res, body := c.send("DELETE", "/v1/hosts/cmp-3", nil); res.StatusCode != http.StatusNoContent || len(body) != 0 {
		t.Errorf("forget: %d %s", res.StatusCode, body)
	}
	first := get[KeyList](c, "GET", "/v1/keys", nil, 200).Keys[0].ID
	added := get[KeyList](c, "POST", "/v1/keys", KeyRequest{Key: gossip.GenerateKey()}, 200).Keys
	get[KeyList](c, "POST", "/v1/keys/"+added[1].ID+"/use", nil, 200)
	if left := get[KeyList](c, "DELETE", "/v1/keys/"+first, nil, 200).Keys; len(left) != 1 || left[0] != (Key{added[1].ID, true}) {
		t.Errorf("keys: %+v", left)
	}

	c.tried(func(path string) bool {
		return path != "/v1/watch" && !strings.HasPrefix(path, format.SOLBase) && path != "/vnffm/api_versions"
	})
}

// tried checks that each success that is described of some paths has been seen.
func (c *client) tried(which func(path string) bool) {
	c.t.Helper()
	for path, operations := range c.doc.Paths {
		for method, op := range operations {
			for status := range op.Responses {
				if what := strings.ToUpper(method) + " " + path + " " + status; status < "400" && !c.seen[what] && which(path) {
					c.t.Errorf("%s is described and was not tried here", what)
				}
			}
		}
	}
}

func TestSecretsAreNotReturned(t *testing.T) {
	c := serve(t, newHost(t))
	_, made := c.send("POST", "/v1/subscriptions", wish("vnfm-a", consumer(t, http.StatusNoContent), false))
	_, list := c.send("GET", "/v1/subscriptions", nil)
	// A secret that is refused is not quoted either.
	_, refused := c.send("POST", "/v1/subscriptions", map[string]any{
		"name": "x", "endpoints": []string{"http://127.0.0.1:1/"}, "secret": "whsec_c2hvcnQ=",
	})
	for _, body := range [][]byte{made, list, refused} {
		if s := string(body); strings.Contains(s, signed) || strings.Contains(s, "c2hvcnQ=") || strings.Contains(s, "[secret]") {
			t.Errorf("shows a secret: %s", s)
		}
	}
}

func TestAlarmsAreFilteredAndPaged(t *testing.T) {
	h := newHost(t)
	c := serve(t, h)
	h.carrier("nic/mgmt0", correlate.StatusFailed) // +3 s
	h.carrier("nic/eth0", correlate.StatusFailed)  // +4 s
	h.carrier("nic/mgmt0", correlate.StatusOK)     // +5 s
	for _, test := range []struct{ query, want string }{
		{"", "nic/eth0"},
		{"state=all", "nic/eth0 nic/mgmt0"},
		{"state=cleared", "nic/mgmt0"},
		{"state=all&min_severity=critical", "nic/eth0"},
		{"state=all&resource=nic/mgmt0", "nic/mgmt0"},
		{"state=all&resource=nic/*", "nic/eth0 nic/mgmt0"},
		{"state=all&resource=bond/*", ""},
		{"state=all&condition=carrier", "nic/eth0 nic/mgmt0"},
		{"state=all&condition=network", "nic/eth0 nic/mgmt0"},
		{"state=all&condition=crash", ""},
		{"state=all&domain=instance-1", "nic/eth0"},
		{"state=all&domain=" + domain.Name(), "nic/eth0"},
		{"state=all&domain=" + string(domain), "nic/eth0"},
		{"state=all&domain=instance-2", ""},
		{"state=all&project=" + project, "nic/eth0"},
		{"state=all&project=other", ""},
		{"state=all&host=cmp-1", "nic/eth0 nic/mgmt0"},
		{"state=all&host=cmp-2", ""},
		{"state=all&since=2026-11-22T10:00:06Z", "nic/eth0"},
		{"state=all&until=2026-11-22T10:00:03.5Z", "nic/mgmt0"},
	} {
		var got []string
		for _, a := range get[AlarmPage](c, "GET", "/v1/alarms?"+test.query, nil, 200).Alarms {
			got = append(got, a.Resource)
		}
		if s := strings.Join(got, " "); s != test.want {
			t.Errorf("%s: got %q, want %q", test.query, s, test.want)
		}
	}

	first := get[AlarmPage](c, "GET", "/v1/alarms?state=all&limit=1", nil, 200)
	if len(first.Alarms) != 1 || first.Alarms[0].Resource != "nic/eth0" || first.Next == "" {
		t.Fatalf("first page: %+v", first)
	}
	// What a page ended with may clear before the next page is asked for.
	h.carrier("nic/eth0", correlate.StatusOK)
	second := get[AlarmPage](c, "GET", "/v1/alarms?state=all&limit=1&after="+first.Next, nil, 200)
	if len(second.Alarms) != 1 || second.Alarms[0].Resource != "nic/mgmt0" || second.Next != "" {
		t.Errorf("second page: %+v", second)
	}
}

func TestABadRequestIsToldWhatIsWrongAndTheRemedy(t *testing.T) {
	c := serve(t, newHost(t))
	for _, test := range []struct {
		method, path string
		body         any
		status       int
		want         string // in the detail
	}{
		{"GET", "/v1/alarms?state=open", nil, 400, `state="open": want one of standing, cleared, dismissed, all`},
		{"GET", "/v1/alarms?severity=major", nil, 400, `"severity" is not known: the parameters are state, since`},
		{"GET", "/v1/alarms?state=all&state=all", nil, 400, `"state" stands 2 times`},
		{"GET", "/v1/alarms?min_severity=bad", nil, 400, "want critical, major"},
		{"GET", "/v1/alarms?since=yesterday", nil, 400, "want an RFC 3339 time"},
		{"GET", "/v1/alarms?since=2026-11-22T10:00:00Z&until=2026-11-21T10:00:00Z", nil, 400, "swap them"},
		{"GET", "/v1/alarms?limit=0", nil, 400, "from 1 to 1000"},
		{"GET", "/v1/alarms?limit=99999999999999999999", nil, 400, "from 1 to 1000"},
		{"GET", "/v1/alarms?after=x", nil, 400, `want the "next" of an earlier page`},
		{"GET", "/v1/alarms?resource=[", nil, 400, "not a pattern"},
		{"GET", "/v1/hosts?state=down", nil, 400, "want one of member, starting"},
		{"GET", "/v1/alarms?a=%zz", nil, 400, "can't be read"},
		{"GET", "/v1/status?x=1", nil, 400, "there is none here"},
		{"GET", "/v1/alarms/none", nil, 404, "/v1/alarms?state=all lists"},
		{"POST", "/v1/alarms/none/ack", "{}", 404, "no such alarm"},
		{"POST", "/v1/alarms/none/ack", `{"comment":"` + strings.Repeat("x", 1001) + `"}`, 400, "shorten it"},
		{"GET", "/v1/events?limit=x", nil, 400, "want a number"},
		{"GET", "/v1/resources/nic/eth9", nil, 404, "/v1/resources lists"},
		{"GET", "/v1/resources/wheel/1", nil, 400, `unknown kind "wheel"`},
		{"GET", "/v1/topology?root=eth0", nil, 400, "kind/name"},
		{"GET", "/v1/topology?root=nic/eth9", nil, 404, "not known"},
		{"GET", "/v1/watch?since=17", nil, 400, "2.17"},
		{"GET", "/v1/deliveries?state=lost", nil, 400, "want one of pending, parked"},
		{"POST", "/v1/deliveries/none/retry", nil, 404, ""},
		{"POST", "/v1/subscriptions/none/retry", nil, 404, ""},
		{"DELETE", "/v1/deliveries/none", nil, 404, ""},
		{"GET", "/v1/subscriptions/none", nil, 404, "/v1/subscriptions lists"},
		{"DELETE", "/v1/subscriptions/none", nil, 404, ""},
		{"PATCH", "/v1/subscriptions/none", `{"paused":"tea"}`, 404, ""},
		{"PATCH", "/v1/subscriptions/none", `{}`, 400, "changes nothing"},
		{"POST", "/v1/subscriptions/none/test", nil, 404, ""},
		{"POST", "/v1/subscriptions", "", 400, "ends at byte 0"},
		{"POST", "/v1/subscriptions", `{"name":"a"`, 400, "send it whole"},
		{"POST", "/v1/subscriptions", `[]`, 400, "the body: want an object, not a list"},
		{"POST", "/v1/subscriptions", `null`, 400, "null says nothing"},
		{"POST", "/v1/subscriptions", `{"name":"a"} {}`, 400, "goes on after byte 12"},
		{"POST", "/v1/subscriptions", `{"Name":"a"}`, 400, `"Name" is not known here: the names are name, endpoints`},
		{"POST", "/v1/subscriptions", `{"name":"a","name":"b"}`, 400, `"name" stands twice`},
		{"POST", "/v1/subscriptions", `{"filter":{"labels":{"az":["a"],"az":["b"]}}}`, 400, `"filter.labels.az" stands twice`},
		{"POST", "/v1/subscriptions", `{"filter":{"labels":{"az":"a"}}}`, 400, `filter.labels.az: want a list, not a string`},
		{"POST", "/v1/subscriptions", `{"filter":{"severity":"major"}}`, 400, `"filter.severity" is not known here`},
		{"POST", "/v1/subscriptions", `{"filter":{"projects":[1]}}`, 400, "filter.projects[0]: want a string, not a number"},
		{"POST", "/v1/subscriptions", `{"filter":{"projects":[null]}}`, 400, "filter.projects[0]: null"},
		{"POST", "/v1/subscriptions", `{"endpoints":"http://a/"}`, 400, "endpoints: want a list, not a string"},
		{"POST", "/v1/subscriptions", `{"verify":"no"}`, 400, "verify: want true or false, not a string"},
		{"POST", "/v1/subscriptions", `{"filter":{"min_severity":"bad"}}`, 400, "filter.min_severity"},
		{"POST", "/v1/subscriptions", `{"filter":{"states":["ok"]}}`, 400, "filter.states[0]"},
		{"POST", "/v1/subscriptions", `{"secret":"plain"}`, 400, "keygen"},
		{"POST", "/v1/subscriptions", `{"name":"a","endpoints":["ftp://a/"]}`, 422, "http or https"},
		{"POST", "/v1/subscriptions", `{"name":"","endpoints":["http://a/"]}`, 422, "name"},
		{"POST", "/v1/subscriptions", `{"name":"a","endpoints":["http://a/"],"format":"soap"}`, 422, `"soap" is not known`},
		{"POST", "/v1/subscriptions", `{"name":"a","endpoints":["http://a/"],"filter":{"sol":{"event_types":["QOS_ALARM"]}}}`, 422, "filter.sol: it is for format sol alone"},
		{"POST", "/v1/subscriptions", `{"name":"a","endpoints":["http://a/"],"format":"sol","filter":{"sol":{"event_types":["QOS"]}}}`, 422, "filter.sol.event_types"},
		{"POST", "/v1/subscriptions", `{"name":"a","endpoints":["http://a/"],"heartbeat":"often"}`, 400, `heartbeat: "often": want a time with its unit`},
		{"POST", "/v1/subscriptions", `{"name":"a","endpoints":["http://a/"],"role":"king"}`, 422, "role"},
		{"POST", "/v1/subscriptions", `{"name":"a","endpoints":["http://a/"],"expires":"2026-11-22T10:00:00Z","expires_in":"1h"}`, 400, "give one of them"},
		{"POST", "/v1/subscriptions", `{"name":"a","endpoints":["http://a/"],"expires":"2001-11-22T10:00:00Z"}`, 422, "is over"},
		{"POST", "/v1/subscriptions", `{"name":"a","endpoints":["http://a/"],"expires":"tomorrow"}`, 400, "RFC 3339"},
		{"POST", "/v1/subscriptions", `{"name":"a","endpoints":["http://a/"],"expires_in":"0s"}`, 400, "above 0"},
		{"POST", "/v1/subscriptions", `{"name":"a","endpoints":["http://a/"],"rate":-1}`, 422, "requests a minute"},
		{"PATCH", "/v1/subscriptions/none", `{"secret_overlap":"24h"}`, 400, "give the new one"},
		{"PATCH", "/v1/subscriptions/none", `{"secret":"` + notify.GenerateSecret() + `","secret_overlap":"1d"}`, 400, "secret_overlap"},
		{"POST", "/v1/subscriptions", `{"name":"a","endpoints":["http://a/"],"filter":{"kinds":["maintenance"]}}`, 422, "not yet built"},
		{"POST", "/v1/subscriptions", `{"name":"` + strings.Repeat("x", maxBody) + `"}`, 413, "more than 1048576 bytes"},
		{"GET", "/v2/alarms", nil, 404, "/v1/openapi.yaml"},
		{"GET", "/", nil, 404, "/v1/openapi.yaml"},
		{"POST", "/v1/events", "", 400, "send JSON"},
		{"POST", "/v1/events", "17", 400, "a JSON object or a list of them"},
		{"PUT", "/v1/events", `{"type":`, 400, "not JSON"},
		{"PUT", "/v1/events", `{"alerts":{}}`, 400, "a list of JSON objects"},
		{"PUT", "/v1/events", "[]", 400, "the list is empty"},
		{"PUT", "/v1/events", "[" + strings.Repeat("{},", southbound.MaxItems) + "{}]", 413, "send several bodies"},
		{"GET", "/v1/hosts/cmp-9", nil, 404, "/v1/hosts lists"},
		{"DELETE", "/v1/hosts/cmp-9", nil, 404, "/v1/hosts lists"},
		{"DELETE", "/v1/hosts/cmp-1", nil, 409, "is this host"},
		{"GET", "/v1/keys", nil, 409, "cluster.bind"},
		{"POST", "/v1/keys", `{"key":"HUSHHUSH"}`, 400, "6 bytes long"},
		{"POST", "/v1/keys", `{"key":"MDEyMzQ1Njc4OTAxMjM0NQ=="}`, 409, "cluster.bind"},
		{"GET", "/v1/resources?host=cmp-9", nil, 404, "/v1/hosts lists"},
		{"GET", "/v1/resources/nic/eth9?host=cmp-1", nil, 404, "/v1/resources?host=cmp-1"},
		{"PUT", "/v1/hosts/cmp-1/state", `{}`, 501, "not yet built"},
		{"POST", "/v1/maintenance", `{}`, 501, "not yet built"},
		{"POST", "/v1/maintenance/cmp-1/start", `{}`, 501, "not yet built"},
	} {
		p := c.problem(test.method, test.path, test.body, test.status)
		path, _, _ := strings.Cut(test.path, "?")
		if !strings.Contains(p.Detail, test.want) || p.Status != test.status || p.Instance != path {
			t.Errorf("%s %s: %+v, want a detail with %q", test.method, test.path, p, test.want)
		}
	}
}

func TestAMonitorThatSendsTooMuchIsToldToComeAgain(t *testing.T) {
	h := newHost(t)
	c := serve(t, h)
	full := make([]any, southbound.MaxItems)
	for i := range full {
		full[i] = map[string]any{"type": "link.flap", "details": map[string]string{"status": "up", "monitor": "snmp"}}
	}
	get[Verdicts](c, "POST", "/v1/events", full, 202)
	h.set(func() { h.now = h.now.Add(-time.Hour) }) // no token comes
	res, body := c.send("POST", "/v1/events", full[:2])
	if res.StatusCode != http.StatusTooManyRequests || res.Header.Get("Retry-After") == "" || !strings.Contains(string(body), "too many events") {
		t.Errorf("%d, Retry-After %q, %s", res.StatusCode, res.Header.Get("Retry-After"), body)
	}
	if v := get[Verdicts](c, "POST", "/v1/events", []any{full[0], map[string]any{"type": "link.flap"}}, 207).Verdicts; v[0].Verdict != "refused" || v[1].Verdict != "accepted" {
		t.Errorf("another monitor suffers: %+v", v)
	}
}

func TestAWrongMethodIsToldTheRightOnes(t *testing.T) {
	c := serve(t, newHost(t))
	for path, want := range map[string]string{
		"/v1/alarms":             "GET, HEAD",
		"/v1/alarms/x/ack":       "POST",
		"/v1/subscriptions/x":    "DELETE, GET, HEAD, PATCH",
		"/v1/resources/nic/eth0": "GET, HEAD",
	} {
		res, body := c.send("PUT", path, "{}")
		if res.StatusCode != http.StatusMethodNotAllowed || res.Header.Get("Allow") != want || !strings.Contains(string(body), want) {
			t.Errorf("PUT %s: %d, Allow %q, %s", path, res.StatusCode, res.Header.Get("Allow"), body)
		}
	}
	if res, body := c.send("HEAD", "/v1/alarms", nil); res.StatusCode != http.StatusOK || len(body) != 0 {
		t.Errorf("HEAD: %d %s", res.StatusCode, body)
	}
}

func TestABodyThatIsNotDeclaredJSONIsRefused(t *testing.T) {
	c := serve(t, newHost(t))
	for _, contentType := range []string{"", "text/plain", "application/merge-patch+json", "application/json;;"} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://localhost/v1/subscriptions", strings.NewReader("{}"))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", contentType)
		if res, body := c.do(req); res.StatusCode != http.StatusUnsupportedMediaType || !strings.Contains(string(body), "application/json") {
			t.Errorf("%q: %d %s", contentType, res.StatusCode, body)
		}
	}
}

func TestASubscriptionOfTheFileIsChangedThere(t *testing.T) {
	h := newHost(t)
	c := serve(t, h)
	sub := notify.Subscription{
		ID: notify.FileID("prod", "oncall"), Name: "oncall", Endpoints: []string{consumer(t, 204)}, Role: notify.RoleAdmin, Origin: notify.OriginFile,
	}
	if err := h.notifier.SetFile([]notify.Subscription{sub}); err != nil {
		t.Fatal(err)
	}
	for _, p := range []Problem{
		c.problem("PATCH", "/v1/subscriptions/"+sub.ID, `{"name":"x"}`, 409),
		c.problem("DELETE", "/v1/subscriptions/"+sub.ID, nil, 409),
	} {
		if !strings.Contains(p.Detail, "configuration file") {
			t.Errorf("%+v", p)
		}
	}
}

func TestACallbackThatDoesNotProveItselfIsNotSubscribed(t *testing.T) {
	c := serve(t, newHost(t))
	silent := wish("silent", consumer(t, http.StatusNoContent), true) // answers, and echoes nothing
	if p := c.problem("POST", "/v1/subscriptions", silent, 422); !strings.HasSuffix(p.Type, "#not-verified") {
		t.Errorf("%+v", p)
	}
	if list := get[SubscriptionList](c, "GET", "/v1/subscriptions", nil, 200).Subscriptions; len(list) != 0 {
		t.Errorf("subscribed all the same: %+v", list)
	}
}

// The time to write an answer runs from the request's beginning; here it is over at once.
func TestAnswersThatWaitForAConsumerHaveTheirOwnTime(t *testing.T) {
	h := newHost(t)
	server, err := New(Config{Backend: h, Node: "cmp-1", Socket: filepath.Join(t.TempDir(), "api.sock"), Log: slog.New(slog.DiscardHandler), Gatherer: h.metrics})
	if err != nil {
		t.Fatal(err)
	}
	server.http.WriteTimeout = time.Nanosecond
	run(t, server.Run)
	c := newClient(t, server, server.listener.Addr().String())
	made := get[Subscribed](c, "POST", "/v1/subscriptions", wish("slow", consumer(t, http.StatusNoContent), false), 201).Subscription
	get[Subscription](c, "PATCH", "/v1/subscriptions/"+made.ID, map[string]any{"name": "slower"}, 200)
	get[Stages](c, "POST", "/v1/subscriptions/"+made.ID+"/test", nil, 200)
}

func TestWhatTheTitleSaysIsNotRepeated(t *testing.T) {
	c := serve(t, newHost(t))
	p := c.problem("POST", "/v1/subscriptions", wish("x", "ftp://127.0.0.1/", false), 422)
	if !strings.HasPrefix(p.Detail, "endpoints[0]") {
		t.Errorf("detail %q", p.Detail)
	}
}

func TestReadyAndHealthySayWhyNot(t *testing.T) {
	h := newHost(t)
	c := serve(t, h)
	c.server.health = time.Millisecond
	h.set(func() { h.notReady = errors.New("still waiting for virt"); h.stuck = true })
	if p := c.problem("GET", "/readyz", nil, 503); !strings.Contains(p.Detail, "virt") {
		t.Errorf("%+v", p)
	}
	if p := c.problem("GET", "/healthz", nil, 503); !strings.Contains(p.Detail, "loop does not answer") {
		t.Errorf("%+v", p)
	}
	h.set(func() { h.notReady, h.stuck = nil, false })
	c.send("GET", "/readyz", nil)
}

func TestAnErrorOfTheBackendHasItsStatus(t *testing.T) {
	for err, want := range map[error]int{
		notify.ErrNotFound:   404,
		correlate.ErrNoAlarm: 404,
		notify.ErrFromFile:   409,
		fmt.Errorf("make it known: %w", errors.Join(&gossip.ClockError{Ahead: time.Hour})): 409,
		notify.ErrInvalid:        422,
		notify.ErrVerification:   422,
		context.DeadlineExceeded: 503,
		errors.New("disk full"):  500,
	} {
		if got := asRefusal(err); got.status != want || got.detail == "" {
			t.Errorf("%v: %+v, want status %d", err, got, want)
		}
	}
}
