package api

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/paramedic-ha/paramedic/correlate"
	"github.com/paramedic-ha/paramedic/notify/format"
)

// vnfManager answers a GET with probe, and keeps the notifications that it is sent.
type vnfManager struct {
	*httptest.Server
	mu     sync.Mutex
	probe  int
	got    []map[string]any
	logins map[string]string // of the last request to a path
}

func newVNFManager(t *testing.T) *vnfManager {
	m := &vnfManager{probe: http.StatusNoContent, logins: map[string]string{}}
	m.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		m.mu.Lock()
		defer m.mu.Unlock()
		user, password, _ := r.BasicAuth()
		m.logins[r.URL.Path] = user + ":" + password
		if r.Method == http.MethodGet {
			w.WriteHeader(m.probe)
			return
		}
		var note map[string]any
		if err := json.NewDecoder(r.Body).Decode(&note); err != nil {
			t.Error(err)
		}
		m.got = append(m.got, note)
		w.WriteHeader(http.StatusNoContent)
	}))
	t.Cleanup(m.Close)
	return m
}

func (m *vnfManager) told() []map[string]any {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.got)
}

// vnfs states a VNF of two machines, one of another, and one of none, behind eth0.
func (h *host) vnfs() {
	d := correlate.Delta{Source: "virt", Full: true}
	for i, vnf := range []string{"vnf-a", "vnf-b", "vnf-a", ""} {
		id := correlate.ID(fmt.Sprintf("domain/0000000%d-0000-4000-8000-000000000000", i))
		nic := correlate.ID("vnic/" + id.Name() + "/52:54:00:00:00:0" + fmt.Sprint(i))
		d.Set = append(d.Set,
			correlate.Resource{
				ID: id, Name: fmt.Sprint("vm-", i), Project: []string{"red", "blue"}[i%2], VNF: correlate.VNF{ID: vnf},
				Needs: []correlate.Need{{Mode: correlate.SomeOf, Of: []correlate.ID{nic}}},
			},
			correlate.Resource{
				ID: nic, Domain: id, Port: &correlate.Port{MAC: "52:54:00:00:00:0" + fmt.Sprint(i)},
				Needs: []correlate.Need{{Mode: correlate.AllOf, Of: []correlate.ID{"nic/tap0"}}},
			})
	}
	h.step(d)
}

// solValid holds a body against the types of SOL, which the formats' tests have.
func solValid(t *testing.T, name string, body []byte) {
	t.Helper()
	s, err := jsonschema.NewCompiler().Compile("../../notify/format/testdata/schema/sol-vnffm.json#/definitions/" + name)
	if err != nil {
		t.Fatal(err)
	}
	v, err := jsonschema.UnmarshalJSON(strings.NewReader(string(body)))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Validate(v); err != nil {
		t.Errorf("%v\n%s", err, body)
	}
}

func objects(list []format.SOLAlarm) string {
	var names []string
	for _, a := range list {
		names = append(names, a.ManagedObject)
	}
	return strings.Join(names, " ")
}

func TestVNFFaultManagement(t *testing.T) {
	h := newHost(t)
	c := serve(t, h)
	h.vnfs()
	m := newVNFManager(t)
	for _, path := range []string{"/vnffm/api_versions", "/vnffm/v1/api_versions"} {
		if v := get[SOLVersions](c, "GET", path, nil, 200); v.Prefix != "/vnffm/v1" || v.Versions[0].Version != "1.3.0" {
			t.Errorf("%+v", v)
		}
	}
	h.carrier("nic/eth0", correlate.StatusFailed)

	// A subscription, and what stands then.
	res, body := c.send("POST", "/vnffm/v1/subscriptions", SOLSubscriptionRequest{
		CallbackURI: m.URL, Filter: &SOLNotificationsFilter{
			VNFs: &SOLInstanceFilter{IDs: []string{"vnf-a"}}, FaultTypes: []string{"carrier"}, EventTypes: []string{"COMMUNICATIONS_ALARM"},
			PerceivedSeverities: []string{"CRITICAL", "CLEARED"},
		},
	})
	var made SOLSubscription
	if err := json.Unmarshal(body, &made); err != nil || res.StatusCode != http.StatusCreated {
		t.Fatalf("%d %s", res.StatusCode, body)
	}
	path := format.SOLBase + "/subscriptions/" + made.ID
	if res.Header.Get("Location") != path || made.Links["self"].Href != path || res.Header.Get("Version") != "1.3.0" {
		t.Errorf("%v %s", res.Header, body)
	}
	eventually(t, "what stands is sent", func() bool { return len(m.told()) == 1 })
	sent := m.told()[0]["alarm"].(map[string]any)

	// The list has the same alarm.
	list := get[[]format.SOLAlarm](c, "GET", "/vnffm/v1/alarms", nil, 200)
	if objects(list) != "00000003-0000-4000-8000-000000000000 vnf-a vnf-b" || sent["id"] != list[1].ID || sent["managedObjectId"] != "vnf-a" {
		t.Fatalf("listed %+v, sent %v", list, sent)
	}
	res, body = c.send("GET", "/vnffm/v1/alarms/"+list[1].ID, nil)
	solValid(t, "Alarm", body)
	tag := res.Header.Get("ETag")
	if again, _ := c.send("GET", "/vnffm/v1/alarms/"+list[1].ID, nil); tag == "" || again.Header.Get("ETag") != tag {
		t.Errorf("ETag %s, then %s", tag, again.Header.Get("ETag"))
	}

	// The same wish twice is one subscription.
	if res, _ := c.send("POST", "/vnffm/v1/subscriptions", SOLSubscriptionRequest{CallbackURI: m.URL, Filter: made.Filter}); res.StatusCode != http.StatusSeeOther || res.Header.Get("Location") != path {
		t.Errorf("%d %v", res.StatusCode, res.Header)
	}
	if got := get[SOLSubscription](c, "GET", path, nil, 200); got.CallbackURI != m.URL {
		t.Errorf("%+v", got)
	}
	if got := get[[]SOLSubscription](c, "GET", "/vnffm/v1/subscriptions?filter=(eq,filter/eventTypes,COMMUNICATIONS_ALARM)", nil, 200); len(got) != 1 || got[0].ID != made.ID {
		t.Errorf("%+v", got)
	}
	if got := get[[]SOLSubscription](c, "GET", "/vnffm/v1/subscriptions?filter=(neq,id,"+made.ID+")", nil, 200); len(got) != 0 {
		t.Errorf("%+v", got)
	}
	// It is one of /v1 as well.
	if sub := get[Subscription](c, "GET", "/v1/subscriptions/"+made.ID, nil, 200); sub.Format != "sol" || !slices.Equal(sub.Filter.VNFs, []string{"vnf-a"}) || !slices.Equal(sub.Filter.Conditions, []string{"carrier"}) {
		t.Errorf("%+v", sub)
	}
	res, body = c.send("POST", "/vnffm/v1/subscriptions", SOLSubscriptionRequest{
		CallbackURI: m.URL + "/all", Verbosity: "FULL",
		Authentication: &SOLAuthentication{Types: []string{"TLS_CERT", "BASIC"}, Basic: &SOLBasic{User: "nfvo", Password: "HUSHHUSH"}},
	})
	var unfiltered SOLSubscription
	if err := json.Unmarshal(body, &unfiltered); err != nil || res.StatusCode != http.StatusCreated || strings.Contains(string(body), "HUSH") {
		t.Fatalf("%d %s", res.StatusCode, body)
	}
	solValid(t, "FmSubscription", body)
	eventually(t, "both are sent, and let in", func() bool {
		m.mu.Lock()
		defer m.mu.Unlock()
		return m.logins["/all"] == "nfvo:HUSHHUSH" && m.logins["/"] == ":"
	})

	// Acknowledged, once, by whoever has read the newest.
	stale := func(match string) int {
		req, _ := http.NewRequestWithContext(t.Context(), "PATCH", "http://localhost/vnffm/v1/alarms/"+list[1].ID, strings.NewReader(`{"ackState":"ACKNOWLEDGED"}`))
		req.Header.Set("Content-Type", "application/merge-patch+json")
		req.Header.Set("If-Match", match)
		res, _ := c.do(req)
		return res.StatusCode
	}
	if got := stale(`"0123"`); got != http.StatusPreconditionFailed {
		t.Errorf("a stale one: %d", got)
	}
	c.problem("PATCH", "/vnffm/v1/alarms/"+list[1].ID, SOLModifications{"UNACKNOWLEDGED"}, 409)
	if got := stale(tag); got != http.StatusOK {
		t.Errorf("%d", got)
	}
	c.problem("PATCH", "/vnffm/v1/alarms/"+list[1].ID, SOLModifications{"ACKNOWLEDGED"}, 409)
	if p := c.problem("PATCH", "/vnffm/v1/alarms/"+list[1].ID, SOLModifications{"UNACKNOWLEDGED"}, 409); !strings.Contains(p.Detail, "taken back") {
		t.Errorf("%+v", p)
	}
	for _, a := range get[[]format.SOLAlarm](c, "GET", "/vnffm/v1/alarms", nil, 200) { // the fault is known, for all VNFs
		if a.AckState != format.SOLAcknowledged || a.AcknowledgedTime == nil {
			t.Errorf("%+v", a)
		}
	}

	// Over: the alarm is there for whoever follows the link of its end.
	h.carrier("nic/eth0", correlate.StatusOK)
	eventually(t, "the end is sent", func() bool {
		return slices.ContainsFunc(m.told(), func(n map[string]any) bool { return n["alarmId"] == list[1].ID })
	})
	if a := get[format.SOLAlarm](c, "GET", "/vnffm/v1/alarms/"+list[1].ID, nil, 200); a.Severity != "CLEARED" || a.ClearedTime == nil {
		t.Errorf("%+v", a)
	}
	c.problem("PATCH", "/vnffm/v1/alarms/"+list[1].ID, SOLModifications{"UNACKNOWLEDGED"}, 409)

	for _, id := range []string{made.ID, unfiltered.ID} {
		if res, _ := c.send("DELETE", format.SOLBase+"/subscriptions/"+id, nil); res.StatusCode != http.StatusNoContent {
			t.Errorf("%d", res.StatusCode)
		}
	}
	c.problem("GET", path, nil, 404)
	c.tried(func(path string) bool { return strings.HasPrefix(path, "/vnffm/") })
}

func TestAWrongRequestToVNFFaultManagementIsRefused(t *testing.T) {
	h := newHost(t)
	c := serve(t, h)
	m := newVNFManager(t)
	native := get[Subscribed](c, "POST", "/v1/subscriptions", wish("n", m.URL, false), 201).Subscription
	for _, test := range []struct {
		method, path string
		body         any
		status       int
		want         string
	}{
		{"GET", "/alarms/none", nil, 404, "/vnffm/v1/alarms lists"},
		{"GET", "/alarms?filter=perceivedSeverity", nil, 400, "there is no parenthesis at byte 0"},
		{"GET", "/alarms?perceivedSeverity.eq=MAJOR", nil, 400, "the parameters are filter"},
		{"GET", "/alarms?filter=(eq,perceivedSeverity)", nil, 400, "has no value"},
		{"GET", "/alarms?filter=(eq,severity,MAJOR)", nil, 400, `attribute "severity" is not known here: the attributes are id, managedObjectId`},
		{"GET", "/alarms?filter=(is,id,x)", nil, 400, `operator "is" is not known`},
		{"GET", "/alarms?filter=(eq,id,x,y)", nil, 400, "takes one value, not 2"},
		{"GET", "/alarms?filter=(eq,id,x", nil, 400, "not closed"},
		{"GET", "/alarms?filter=(eq,id,'x)", nil, 400, "apostrophe is not closed"},
		{"GET", "/alarms?filter=(eq,id,x)(eq,id,y)", nil, 400, "semicolon"},
		{"GET", "/alarms?filter=" + url.QueryEscape(strings.Repeat("(eq,id,x);", 33)+"(eq,id,x)"), nil, 400, "more than 32"},
		{"GET", "/alarms?nextpage_opaque_marker=x", nil, 400, "nextpage_opaque_marker"},
		{"PATCH", "/alarms/none", SOLModifications{"ACKNOWLEDGED"}, 404, "neither stands"},
		{"PATCH", "/alarms/none", `{}`, 404, "neither stands"},
		{"PATCH", "/alarms/none", `{"state":"ACKNOWLEDGED"}`, 400, `"state" is not known here: the names are ackState`},
		{"GET", "/subscriptions?filter=(eq,perceivedSeverity,MAJOR)", nil, 400, "callbackUri"},
		{"GET", "/subscriptions/" + native.ID, nil, 404, "is not known"}, // it speaks another form
		{"DELETE", "/subscriptions/" + native.ID, nil, 404, "is not known"},
		{"POST", "/subscriptions", `{}`, 400, `callbackUri: ""`},
		{"POST", "/subscriptions", `{"callbackUri":"ftp://vnfm/"}`, 422, "http or https"},
		{"POST", "/subscriptions", `{"callbackUri":"` + m.URL + `","verbosity":"SHORT"}`, 400, "FULL"},
		{"POST", "/subscriptions", `{"callbackUri":"` + m.URL + `","filter":{"vnfInstanceSubscriptionFilter":{"vnfdIds":["x"]}}}`, 400, "the names are vnfInstanceIds"},
		{"POST", "/subscriptions", `{"callbackUri":"` + m.URL + `","filter":{"eventTypes":["equipment"]}}`, 422, "event_types"},
		{"POST", "/subscriptions", `{"callbackUri":"` + m.URL + `","authentication":{"authType":["OAUTH2_CLIENT_CREDENTIALS"],"paramsOauth2ClientCredentials":{"clientId":"a"}}}`, 422, "want BASIC with paramsBasic"},
		{"POST", "/subscriptions", `{"callbackUri":"` + m.URL + `","authentication":{"authType":["TLS_CERT"]}}`, 422, "want BASIC with paramsBasic"},
		{"POST", "/subscriptions", `{"callbackUri":"` + m.URL + `","authentication":{"authType":["BASIC"]}}`, 422, "paramsBasic is missing"},
		{"POST", "/subscriptions", `{"callbackUri":"` + m.URL + `","authentication":{"authType":["BASIC"],"paramsBasic":{"userName":"a:b","password":"HUSHHUSH"}}}`, 422, "without a colon"},
	} {
		if p := c.problem(test.method, format.SOLBase+test.path, test.body, test.status); !strings.Contains(p.Detail, test.want) || strings.Contains(p.Detail, "HUSH") {
			t.Errorf("%s %s: %s", test.method, test.path, p.Detail)
		}
	}
	m.probe = http.StatusOK
	if p := c.problem("POST", format.SOLBase+"/subscriptions", SOLSubscriptionRequest{CallbackURI: m.URL}, 422); !strings.Contains(p.Detail, "GET: answered 200, want 204") {
		t.Errorf("%s", p.Detail)
	}
	req, _ := http.NewRequestWithContext(t.Context(), "GET", "http://localhost/vnffm/v1/alarms", nil)
	req.Header.Set("Version", "2.0.0")
	if res, body := c.do(req); res.StatusCode != http.StatusNotAcceptable {
		t.Errorf("%d %s", res.StatusCode, body)
	}
	req.Header.Set("Version", "1.2.0-impl:example.com:x:1")
	if res, body := c.do(req); res.StatusCode != http.StatusOK {
		t.Errorf("%d %s", res.StatusCode, body)
	}
}

func TestSOLAlarmsAreFilteredAndPaged(t *testing.T) {
	h := newHost(t)
	c := serve(t, h)
	h.vnfs()
	h.carrier("nic/eth0", correlate.StatusFailed)
	at := h.now.Add(time.Second).Format(time.RFC3339)
	const nameless = "00000003-0000-4000-8000-000000000000"
	for filter, want := range map[string]string{
		"(eq,managedObjectId,vnf-a)":                                              "vnf-a",
		"(neq,managedObjectId,vnf-a)":                                             nameless + " vnf-b",
		"(in,managedObjectId,vnf-a,vnf-b,vnf-c)":                                  "vnf-a vnf-b",
		"(nin,managedObjectId,vnf-a,vnf-b)":                                       nameless,
		"(cont,managedObjectId,vnf,x)":                                            "vnf-a vnf-b",
		"(ncont,managedObjectId,vnf)":                                             nameless,
		"(eq,perceivedSeverity,CRITICAL);(eq,managedObjectId,vnf-b)":              "vnf-b",
		"(eq,perceivedSeverity,MINOR)":                                            "",
		"(eq,rootCauseFaultyResource/faultyResourceType,NETWORK)":                 nameless + " vnf-a vnf-b",
		"(eq,rootCauseFaultyResource/faultyResource/resourceId," + nameless + ")": nameless,
		"(eq,isRootCause,true);(lt,alarmRaisedTime," + at + ")":                   nameless + " vnf-a vnf-b",
		"(gt,eventTime," + at + ")":                                               "",
		"(gte,managedObjectId,vnf-b)":                                             "vnf-b",
		"(lte,managedObjectId,vnf-a)":                                             nameless + " vnf-a",
		"(neq,alarmClearedTime,2026-01-01T00:00:00Z)":                             nameless + " vnf-a vnf-b", // it is not there
		"(gt,alarmClearedTime,2026-01-01T00:00:00Z)":                              "",
		"(cont,faultDetails,'server=" + nameless + "')":                           nameless,
		"(eq,probableCause,'it''s (gone), or not')":                               "",
	} {
		if got := objects(get[[]format.SOLAlarm](c, "GET", "/vnffm/v1/alarms?filter="+url.QueryEscape(filter), nil, 200)); got != want {
			t.Errorf("%s: %q, want %q", filter, got, want)
		}
	}

	// More than a page holds.
	d := correlate.Delta{Source: "virt"}
	for i := range solPage {
		id := correlate.ID(fmt.Sprintf("domain/1%07d-0000-4000-8000-000000000000", i))
		d.Set = append(d.Set, correlate.Resource{ID: id, Needs: []correlate.Need{{Mode: correlate.AllOf, Of: []correlate.ID{"nic/mgmt0"}}}})
	}
	h.step(d)
	h.carrier("nic/mgmt0", correlate.StatusFailed)
	res, body := c.send("GET", "/vnffm/v1/alarms?filter=(neq,managedObjectId,vnf-b)", nil)
	var first []format.SOLAlarm
	if err := json.Unmarshal(body, &first); err != nil || len(first) != solPage {
		t.Fatalf("%v, %d", err, len(first))
	}
	next, ok := strings.CutSuffix(strings.TrimPrefix(res.Header.Get("Link"), "<"), `>; rel="next"`)
	if !ok {
		t.Fatal(res.Header)
	}
	res, body = c.send("GET", next, nil)
	var second []format.SOLAlarm
	if err := json.Unmarshal(body, &second); err != nil || objects(second) != nameless+" vnf-a" || res.Header.Get("Link") != "" {
		t.Errorf("%v, %s, %s", err, objects(second), res.Header)
	}
}

func FuzzSOLFilter(f *testing.F) {
	for _, text := range []string{"(eq,id,x)", "(in,eventType,'a''b',c);(gt,eventTime,2026-01-01T00:00:00Z)", "(", "(eq,id,'", "(eq,isRootCause,true);"} {
		f.Add(text)
	}
	alarm := format.SOLAlarm{ID: "x", Details: []string{"a", "b"}}
	f.Fuzz(func(t *testing.T, text string) {
		e, err := parseSOLFilter(text, solAlarmAttributes)
		if err != nil {
			if e != nil || err.Error() == "" {
				t.Fatalf("%v, %v", e, err)
			}
			return
		}
		if len(e) == 0 || len(e) > maxConditions {
			t.Fatalf("%d conditions", len(e))
		}
		one, oneOK := e.pick(alarm)
		two, twoOK := e.pick(alarm)
		if oneOK != twoOK || string(one) != string(two) {
			t.Fatalf("%q judges once so, once so", text)
		}
	})
}

func FuzzSOLSubscriptionBody(f *testing.F) {
	f.Add([]byte(`{"callbackUri":"http://a/","filter":{"vnfInstanceSubscriptionFilter":{"vnfInstanceIds":["v"]},"eventTypes":["QOS_ALARM"],"faultTypes":["carrier"]}}`))
	f.Add([]byte(`{"callbackUri":"http://a/","authentication":{"authType":["BASIC"],"paramsBasic":{"userName":"u","password":"p"}}}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		var body SOLSubscriptionRequest
		if decode(text, &body) != nil {
			return
		}
		who := identity{name: "c", role: "consumer", projects: []string{"red"}}
		sub, err := body.subscription(who)
		if err != nil {
			return
		}
		if sub.Role != "consumer" || !slices.Equal(sub.Filter.Projects, []string{"red"}) || sub.Owner != "c" || sub.Format != "sol" {
			t.Fatalf("%+v", sub)
		}
		if sub.Validate() != nil {
			return
		}
		shown := new(Server).fromSOLSubscription(sub)
		text, err = json.Marshal(shown)
		if err != nil || shown.CallbackURI != body.CallbackURI {
			t.Fatalf("%v %s", err, text)
		}
	})
}

func FuzzSOLModificationsBody(f *testing.F) {
	f.Add([]byte(`{"ackState":"ACKNOWLEDGED"}`), `"1"`)
	f.Add([]byte(`{"ackState":""}`), "*")
	standing := &correlate.Alarm{Last: correlate.Raised}
	now := format.SOLAlarm{ID: "a", AckState: format.SOLUnacknowledged}
	f.Fuzz(func(t *testing.T, text []byte, match string) {
		var body SOLModifications
		if decode(text, &body) == nil && mayModify(match, body.AckState, standing, now) == nil && body.AckState != format.SOLAcknowledged {
			t.Fatalf("%s", text)
		}
	})
}
