package api

import (
	"crypto/x509"
	"fmt"
	"io"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/paramedic-ha/paramedic/correlate"
	"github.com/paramedic-ha/paramedic/notify"
	"github.com/paramedic-ha/paramedic/notify/format"
)

// The table of docs/security.md, executed. A cell is the status that the caller gets; or "yes": it is answered; or "own": it is, in
// the abstract form, about what is its own; "404": what is another's is not there.
const (
	answered = "yes"
	abstract = "own"
)

var columns = []string{"nobody", "monitor", "consumer of another project", "consumer", "admin"}

// authorisation reads the table: by call, by column.
func authorisation(t *testing.T) map[string]map[string]string {
	t.Helper()
	text, err := os.ReadFile("../../docs/security.md")
	if err != nil {
		t.Fatal(err)
	}
	table := make(map[string]map[string]string)
	row := regexp.MustCompile("^\\| `([A-Z]+ /[^`]*)` \\|(.*)\\|$")
	for line := range strings.Lines(string(text)) {
		m := row.FindStringSubmatch(strings.TrimSpace(line))
		if m == nil {
			continue
		}
		cells := strings.Split(m[2], "|")
		if len(cells) != len(columns) {
			t.Fatalf("docs/security.md: %s has %d cells", m[1], len(cells))
		}
		if table[m[1]] != nil {
			t.Errorf("docs/security.md: %s stands twice", m[1])
		}
		table[m[1]] = make(map[string]string)
		for i, cell := range cells {
			table[m[1]][columns[i]] = strings.TrimSpace(cell)
		}
	}
	return table
}

func TestTheTableOfCallsIsWhatTheServerDoes(t *testing.T) {
	h := newHost(t)
	h.addOther("nic/mgmt0")
	refusing := consumer(t, http.StatusBadRequest)
	parked := h.owned(t, "vnfm-a", project, refusing)
	// fault is a standing alarm that hits the consumer, and what it is owed of it.
	fault := func() (alarm, delivery string) {
		h.set(func() {
			if all := h.engine.Alarms(); len(all) > 0 {
				alarm = all[0].ID
			}
		})
		if alarm == "" {
			h.carrier("nic/eth0", correlate.StatusOK)
			h.carrier("nic/eth0", correlate.StatusFailed)
			h.set(func() { alarm = h.engine.Alarms()[0].ID })
		}
		eventually(t, "a parked delivery", func() bool {
			all := h.notifier.Deliveries(notify.DeliveryParked)
			i := slices.IndexFunc(all, func(d notify.DeliveryView) bool { return d.AlarmID == alarm })
			if i < 0 {
				return false
			}
			delivery = all[i].ID
			return true
		})
		return alarm, delivery
	}

	g := serveGuarded(t, h, unhurried)
	callers := []struct {
		name, column string
		client       *client
	}{
		{"nobody", "nobody", g.as("")},
		{"a wrong token", "nobody", g.as(tokenFor("nobody"))},
		{"a monitor", "monitor", g.named("collectd")},
		{"a consumer of another project", "consumer of another project", g.named("vnfm-b")},
		{"a consumer", "consumer", g.named("vnfm-a")},
		{"an admin's token", "admin", g.named("ops")},
		{"an admin's certificate", "admin", g.as("", g.ca.client(x509.Certificate{DNSNames: []string{"ops.example"}}))},
		{"the socket", "admin", g.client},
	}
	table := authorisation(t)
	accepting := consumer(t, http.StatusOK)
	for _, r := range new(Server).routes(prometheus.NewRegistry()) {
		call := r.method + " " + strings.Replace(r.path, "...}", "}", 1)
		cells, described := table[call]
		delete(table, call)
		switch {
		case r.reserved:
			cells = map[string]string{"nobody": "401", "monitor": "403", "consumer": "403", "consumer of another project": "403", "admin": answered}
		case !described:
			t.Errorf("docs/security.md does not say who may call %s", call)
			continue
		}
		for _, c := range callers {
			alarm, delivery := fault()
			path := strings.Replace(r.path, "...}", "}", 1)
			switch {
			case strings.HasPrefix(path, format.SOLBase+"/subscriptions/{id}"):
				path = strings.Replace(path, "{id}", h.ownedIn(t, solFormat, "vnfm-a", project, accepting).ID, 1)
			case strings.HasPrefix(path, format.SOLBase+"/alarms/{id}"):
				path = strings.Replace(path, "{id}", format.SOLAlarmID(alarm, domain.Name()), 1)
			case strings.HasPrefix(path, "/v1/subscriptions/{id}"):
				path = strings.Replace(path, "{id}", h.owned(t, "vnfm-a", project, accepting).ID, 1)
			case strings.HasPrefix(path, "/v1/deliveries/"):
				path = strings.Replace(path, "{id}", delivery, 1)
			case strings.HasPrefix(path, "/v1/resources/"):
				path = strings.Replace(path, "{id}", string(domain), 1)
			case strings.HasPrefix(path, "/v1/alarms/"):
				path = strings.Replace(path, "{id}", alarm, 1)
			default:
				path = strings.NewReplacer("{id}", "nothing", "{name}", "cmp-1", "{rest}", "x").Replace(path)
			}
			status, answer := ask(t, c.client, r.method, path, bodyOf(call, c.column))
			if call == "DELETE /v1/deliveries/{id}" && status < 300 {
				h.carrier("nic/eth0", correlate.StatusOK) // the next caller has a fault of its own
			}
			want := cells[c.column]
			// What the call itself makes of a request that is let through is no matter here: 400 for a key that is none, for instance.
			through := status != 401 && status != 403 && (status != 404 || strings.Contains(path, "nothing"))
			if nowhere := strings.Contains(path, "nothing") && status == 404; nowhere && want == "404" {
				continue
			}
			if ok := want == answered || want == abstract; ok != through || !ok && want != fmt.Sprint(status) {
				t.Errorf("%s by %s: %d, want %s: %s", call, c.name, status, want, answer)
			}
			if c.column == "admin" {
				continue
			}
			answer = strings.ReplaceAll(answer, path, "PATH")
			if word := physical.FindString(answer); word != "" && r.path != "/v1/openapi.yaml" && c.column != "monitor" {
				t.Errorf("%s by %s tells of %q: %s", call, c.name, word, answer)
			}
			foreign := parked.ID + "|" + delivery + "|" + project + "|instance-1"
			if call == "GET /metrics" { // whose series have the names and ids of subscriptions, as the page says
				foreign = delivery + "|" + project + "|instance-1"
			}
			if c.column == "consumer" {
				foreign = otherProject + "|instance-3"
			}
			if word := regexp.MustCompile(foreign).FindString(answer); word != "" && !strings.Contains(path, word) {
				t.Errorf("%s by %s tells of another's %q: %s", call, c.name, word, answer)
			}
		}
	}
	for call := range table {
		t.Errorf("docs/security.md speaks of %s, which is not served", call)
	}
}

// physical are names of the host of the tests and of its parts.
var physical = regexp.MustCompile(`cmp-1|eth0|tap0|br0|mgmt0|operstate|"carrier"`)

// bodyOf is a body that a call takes.
func bodyOf(call, column string) string {
	switch call {
	case "POST /v1/alarms/{id}/ack", "POST /v1/alarms/{id}/clear":
		return `{"comment":"seen"}`
	case "POST /v1/alarms/{id}/comments":
		return `{"text":"seen"}`
	case "POST /v1/events", "PUT /v1/events":
		return `{"time":"2026-11-22T10:00:00","type":"x.y","details":{"hostname":"other","status":"down","monitor":"m","monitor_event_id":"1"}}`
	case "POST /v1/keys":
		return `{"key":"none"}`
	case "POST /v1/subscriptions":
		return `{"name":"by ` + column + `","endpoints":[]}`
	case "PATCH /vnffm/v1/alarms/{id}":
		return `{"ackState":"ACKNOWLEDGED"}`
	case "POST /vnffm/v1/subscriptions":
		return `{"callbackUri":"none"}`
	case "PATCH /v1/subscriptions/{id}":
		return `{"name":"by ` + column + `"}`
	}
	return ""
}

// ask makes a request and returns all that is said: status, headers and body, of a stream its beginning.
func ask(t *testing.T, c *client, method, path, body string) (status int, answer string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, "http://localhost"+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	res, err := c.http.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	var text []byte
	if res.Header.Get("Content-Type") == "text/event-stream" {
		begin := make([]byte, 200)
		n, _ := res.Body.Read(begin)
		text = begin[:n]
	} else if text, err = io.ReadAll(res.Body); err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, fmt.Sprintf("%v %s", res.Header, text)
}

// What others have made is not there for a consumer, whoever they are, and says so in the words that are said of nothing at all.
func TestWhatIsAnothersIsAsIfItWereNotThere(t *testing.T) {
	h := newHost(t)
	h.addOther("bridge/br0")
	endpoint := consumer(t, http.StatusOK)
	if err := h.notifier.SetFile([]notify.Subscription{{Name: "file", Endpoints: []string{endpoint}}}); err != nil {
		t.Fatal(err)
	}
	file := h.notifier.Subscriptions()[0].ID
	h.carrier("nic/mgmt0", correlate.StatusFailed) // hits nobody
	var alarm string
	h.set(func() { alarm = h.engine.Alarms()[0].ID })
	refused := h.owned(t, "", "", consumer(t, http.StatusBadRequest))
	eventually(t, "a parked delivery", func() bool {
		h.carrier("nic/mgmt0", correlate.StatusOK)
		h.carrier("nic/mgmt0", correlate.StatusFailed)
		h.set(func() { alarm = h.engine.Alarms()[0].ID })
		return len(h.notifier.Deliveries(notify.DeliveryParked)) > 0
	})
	delivery := h.notifier.Deliveries(notify.DeliveryParked)[0].ID
	g := serveGuarded(t, h, unhurried)
	a := g.named("vnfm-a")
	for _, c := range []struct {
		call, nothing string
		foreign       []string
	}{
		{"GET /v1/subscriptions/%s", "11111111-2222-4333-8444-555555555555", []string{file, refused.ID, h.owned(t, "vnfm-b", otherProject, endpoint).ID}},
		{"PATCH /v1/subscriptions/%s", "11111111-2222-4333-8444-555555555555", []string{file, refused.ID, h.owned(t, "vnfm-b", otherProject, endpoint).ID}},
		{"DELETE /v1/subscriptions/%s", "11111111-2222-4333-8444-555555555555", []string{file, refused.ID, h.owned(t, "vnfm-b", otherProject, endpoint).ID}},
		{"POST /v1/subscriptions/%s/test", "11111111-2222-4333-8444-555555555555", []string{file, refused.ID, h.owned(t, "vnfm-b", otherProject, endpoint).ID}},
		{"POST /v1/deliveries/%s/retry", "11111111-2222-4333-8444-555555555555", []string{delivery}},
		{"POST /v1/subscriptions/%s/retry", "11111111-2222-4333-8444-555555555555", []string{file, refused.ID}},
		{"DELETE /v1/deliveries/%s", "11111111-2222-4333-8444-555555555555", []string{delivery}},
		{"GET /vnffm/v1/subscriptions/%s", "11111111-2222-4333-8444-555555555555", []string{h.ownedIn(t, solFormat, "vnfm-b", otherProject, endpoint).ID}},
		{"DELETE /vnffm/v1/subscriptions/%s", "11111111-2222-4333-8444-555555555555", []string{h.ownedIn(t, solFormat, "vnfm-b", otherProject, endpoint).ID}},
		{"GET /vnffm/v1/alarms/%s", "0123", []string{format.SOLAlarmID(alarm, domain.Name())}},
		{"PATCH /vnffm/v1/alarms/%s", "0123", []string{format.SOLAlarmID(alarm, domain.Name())}},
		{"GET /v1/alarms/%s", "0123", []string{alarm}},
		{"POST /v1/alarms/%s/ack", "0123", []string{alarm}},
		{"GET /v1/resources/%s", "domain/cccccccc-4f5a-4a77-9d9c-0a5d3c9a1b03", []string{string(otherDomain), "nic/eth0", "host/cmp-1", "bridge/br0"}},
		{"GET /v1/alarms?after=%s", "", nil},
	} {
		method, path, _ := strings.Cut(c.call, " ")
		body := bodyOf(strings.Replace(c.call, "%s", "{id}", 1), "vnfm-a")
		said := func(id string) string {
			status, text := ask(t, a, method, fmt.Sprintf(path, id), body)
			_, text, _ = strings.Cut(text, "] ") // the Date
			return fmt.Sprint(status, strings.ReplaceAll(text[max(0, strings.Index(text, "{")):], id, "ID"))
		}
		nothing := said(c.nothing)
		for _, id := range c.foreign {
			if got := said(id); got != nothing || !strings.HasPrefix(got, "404") {
				t.Errorf("%s of %s: %s\nof nothing: %s", c.call, id, got, nothing)
			}
		}
	}
	if list := get[SubscriptionList](a, "GET", "/v1/subscriptions", nil, 200).Subscriptions; len(list) != 0 {
		t.Errorf("subscriptions: %+v", list)
	}
	if list := get[DeliveryList](a, "GET", "/v1/deliveries", nil, 200).Deliveries; len(list) != 0 {
		t.Errorf("deliveries: %+v", list)
	}
	if page := get[AlarmPage](a, "GET", "/v1/alarms?state=all&limit=1", nil, 200); len(page.Alarms) != 0 || page.Next != "" {
		t.Errorf("alarms: %+v", page)
	}
	for _, path := range []string{"/v1/alarms?host=cmp-1", "/v1/resources?host=cmp-1", "/v1/resources/" + string(domain) + "?host=cmp-1"} {
		if p := a.problem("GET", path, nil, 400); physical.MatchString(strings.ReplaceAll(p.Detail, "host=cmp-1", "")) {
			t.Errorf("%s: %+v", path, p)
		}
	}
	for _, filter := range []string{"resource=nic/*", "resource=nic/eth0", "project=" + otherProject, "domain=instance-3"} {
		h.carrier("nic/eth0", correlate.StatusFailed)
		if page := get[AlarmPage](a, "GET", "/v1/alarms?"+filter, nil, 200); len(page.Alarms) != 0 {
			t.Errorf("%s tells what the alarm is about: %+v", filter, page)
		}
	}
}

func TestAConsumerSeesItsOwnInTheAbstractForm(t *testing.T) {
	h := newHost(t)
	h.addOther("bridge/br0")
	h.cluster = threeHosts(t)
	h.carrier("nic/eth0", correlate.StatusFailed)
	g := serveGuarded(t, h)
	a := g.named("vnfm-a")

	alarms := get[AlarmPage](a, "GET", "/v1/alarms", nil, 200).Alarms
	if len(alarms) != 2 {
		t.Fatalf("alarms: %+v", alarms)
	}
	here := alarms[slices.IndexFunc(alarms, func(a Alarm) bool { return a.Affected[0].Resource == string(domain) })]
	if here.Resource != string(domain) || here.Host != "" || here.Condition != "network" || here.ProbableCause != "network" || len(here.Affected) != 1 ||
		here.Source != "" || len(here.Evidence) != 0 || !strings.Contains(here.Text, "network") || here.AsOf == nil {
		t.Errorf("alarm: %+v", here)
	}
	if got := get[AlarmPage](a, "GET", "/v1/alarms?resource=domain/*&domain=instance-1&project="+project, nil, 200).Alarms; len(got) != 1 || got[0].ID != here.ID {
		t.Errorf("asked for by what is seen of it: %+v", got)
	}
	acked := get[Alarm](a, "POST", "/v1/alarms/"+here.ID+"/ack", AckRequest{Comment: "we switch"}, 200)
	if acked.Ack == nil || acked.Ack.By != "vnfm-a" || acked.Resource != string(domain) {
		t.Errorf("acknowledged: %+v", acked)
	}
	if other := get[Alarm](g.named("vnfm-b"), "GET", "/v1/alarms/"+here.ID, nil, 200); other.Ack != nil || other.Resource != string(otherDomain) {
		t.Errorf("as another consumer sees it: %+v", other)
	}
	if p := g.named("vnfm-b").problem("POST", "/v1/alarms/"+here.ID+"/ack", AckRequest{}, 403); strings.Contains(p.Detail, "vnfm-a") {
		t.Errorf("over another's word: %+v", p)
	}

	var ids []string
	for after := ""; ; {
		page := get[ResourcePage](a, "GET", "/v1/resources?limit=1&after="+after, nil, 200)
		for _, r := range page.Resources {
			ids = append(ids, r.ID)
			if r.Host != "" || r.Source != "" || len(r.Facts) != 0 || slices.ContainsFunc(r.Needs, func(n Need) bool {
				return slices.ContainsFunc(n.Of, func(id string) bool { return !strings.HasPrefix(id, "vnic/") })
			}) {
				t.Errorf("resource: %+v", r)
			}
		}
		if after = page.Next; after == "" {
			break
		}
	}
	if want := []string{string(domain), string(movedDomain), string(vnic), string(movedVNIC), "vnic/" + movedDomain.Name() + "/52:54:00:00:00:03"}; len(ids) != len(want) || !slices.IsSorted(ids) {
		t.Errorf("resources: %q, want %q", ids, want)
	}
	if r := get[Resource](a, "GET", "/v1/resources/"+string(vnic), nil, 200); r.State != "failed" || r.Port == nil || r.Host != "" {
		t.Errorf("vnic: %+v", r)
	}
}

func TestAConsumersSubscriptionsAreItsOwnProjects(t *testing.T) {
	h := newHost(t)
	g := serveGuarded(t, h)
	a := g.named("vnfm-a")
	callback := echo(t)
	wish := func(change func(*SubscriptionRequest)) SubscriptionRequest {
		w := SubscriptionRequest{Name: "a", Endpoints: []string{callback}}
		change(&w)
		return w
	}
	no := false
	silent := consumer(t, http.StatusOK)
	if p := a.problem("POST", "/v1/subscriptions", wish(func(w *SubscriptionRequest) { w.Endpoints = []string{silent} }), 422); !strings.HasSuffix(p.Type, "#not-verified") {
		t.Errorf("a callback that proves nothing: %+v", p)
	}
	for name, change := range map[string]func(*SubscriptionRequest){
		"an admin's role":      func(w *SubscriptionRequest) { w.Role = "admin" },
		"no verification":      func(w *SubscriptionRequest) { w.Verify = &no },
		"another's project":    func(w *SubscriptionRequest) { w.Filter = &Filter{Projects: []string{otherProject}} },
		"one of both projects": func(w *SubscriptionRequest) { w.Filter = &Filter{Projects: []string{project, otherProject}} },
	} {
		if p := a.problem("POST", "/v1/subscriptions", wish(change), 403); p.Detail == "" {
			t.Errorf("%s: %+v", name, p)
		}
	}
	made := get[Subscribed](a, "POST", "/v1/subscriptions", wish(func(*SubscriptionRequest) {}), 201).Subscription
	if made.Role != "consumer" || made.Owner != "vnfm-a" || !slices.Equal(made.Filter.Projects, []string{project}) {
		t.Errorf("made: %+v", made)
	}
	path := "/v1/subscriptions/" + made.ID
	a.problem("PATCH", path, SubscriptionChange{Filter: &Filter{Projects: []string{otherProject}}}, 403)
	if got := get[Subscription](a, "PATCH", path, SubscriptionChange{Filter: &Filter{MinSeverity: "major"}}, 200); !slices.Equal(got.Filter.Projects, []string{project}) {
		t.Errorf("a filter that names no project: %+v", got)
	}
	for _, c := range []*client{a, g.client} {
		if list := get[SubscriptionList](c, "GET", "/v1/subscriptions", nil, 200).Subscriptions; len(list) != 1 || list[0].Owner != "vnfm-a" {
			t.Errorf("listed: %+v", list)
		}
	}
	for range maxOwned - 1 {
		h.owned(t, "vnfm-a", project, callback)
	}
	if p := a.problem("POST", "/v1/subscriptions", wish(func(*SubscriptionRequest) {}), 403); !strings.Contains(p.Detail, "most") {
		t.Errorf("one too many: %+v", p)
	}
	if res, _ := a.send("DELETE", path, nil); res.StatusCode != 204 {
		t.Error(res.StatusCode)
	}
}

// What an alarm hits decides whether it is seen; whoever saw it hears that it hits it no longer, and nothing of what becomes of it then.
func TestAConsumersStreamTellsItsOwnAndNothingElse(t *testing.T) {
	h := newHost(t)
	h.addOther("bridge/br0")
	g := serveGuarded(t, h)
	a, b := g.named("vnfm-a").watch("", ""), g.named("vnfm-b").watch("", "")
	h.carrier("nic/mgmt0", correlate.StatusFailed) // hits nobody
	h.carrier("nic/eth0", correlate.StatusFailed)
	h.step(correlate.Delta{Source: "virt", Gone: []correlate.Gone{{ID: otherDomain}}})
	h.carrier("nic/eth0", correlate.StatusOK)
	h.step(correlate.Delta{Source: "virt", Events: []correlate.Event{{Resource: domain, Condition: correlate.CondGuestPanic, Status: correlate.StatusFailed}}})
	for _, c := range []struct {
		s    *stream
		want []string
	}{
		{a, []string{`alarm "transition":"raised"`, `alarm "transition":"cleared"`, `alarm "transition":"raised"`}}, // that another has left the fault is no news
		{b, []string{`alarm "transition":"raised"`, `gone "id"`}},
	} {
		for _, want := range c.want {
			event, said, _ := strings.Cut(want, " ")
			e := c.s.next()
			if e.event != event || !strings.Contains(e.data, said) {
				t.Errorf("%+v, want %s", e, want)
			}
			if word := physical.FindString(e.data + e.id); word != "" {
				t.Errorf("it tells of %q: %+v", word, e)
			}
		}
	}
}

// Who comes back is given its own and nothing else, as the present truth.
func TestAConsumersSnapshotIsItsOwn(t *testing.T) {
	h := newHost(t)
	h.addOther("nic/mgmt0")
	h.carrier("nic/mgmt0", correlate.StatusFailed)
	h.carrier("nic/eth0", correlate.StatusFailed)
	g := serveGuarded(t, h)
	s := g.named("vnfm-a").stream("/v1/watch?snapshot=true", "")
	if e := s.next(); e.event != "reset" {
		t.Errorf("%+v", e)
	}
	if e := s.next(); e.event != "alarm" || !strings.Contains(e.data, project) || physical.MatchString(e.data) || strings.Contains(e.data, otherProject) {
		t.Errorf("%+v", e)
	}
	if e := s.next(); e.event != "synced" || !strings.Contains(e.data, `"standing":1`) {
		t.Errorf("%+v", e)
	}
}

func TestAMuteIsAnAdministratorsToSee(t *testing.T) {
	h := newHost(t)
	h.carrier("nic/eth0", correlate.StatusFailed)
	g := serveGuarded(t, h)
	get[Mute](g.named("ops"), "PUT", "/v1/mutes", MuteRequest{ID: "rack-a-power", Hosts: []string{"cmp-1"}, For: "1h"}, 201)
	get[Mute](g.named("ops"), "PUT", "/v1/mutes", MuteRequest{ID: "rack-a-power", Hosts: []string{"cmp-*"}, For: "1h"}, 200)
	if res, body := g.named("ops").send("DELETE", "/v1/mutes/nothing", nil); res.StatusCode != 404 {
		t.Errorf("one that is not there: %d %s", res.StatusCode, body)
	}
	lines := g.log.audit(t)
	for i, call := range []string{"PUT /v1/mutes", "PUT /v1/mutes", "DELETE /v1/mutes/{id}"} {
		if i >= len(lines) || lines[i]["who"] != "ops" || !strings.Contains(fmt.Sprint(lines[i]["call"]), strings.TrimSuffix(call, "{id}")) {
			t.Fatalf("the audit log: %v", lines)
		}
	}
	if lines[0]["object"] != "rack-a-power" || lines[0]["until"] == nil || lines[2]["outcome"] != "refused" {
		t.Errorf("the audit log: %v", lines)
	}
	for name, want := range map[string]bool{"ops": true, "vnfm-a": false} {
		all := get[AlarmPage](g.named(name), "GET", "/v1/alarms", nil, 200).Alarms
		if len(all) == 0 {
			t.Errorf("%s is shown nothing", name)
		}
		for _, a := range all {
			if muted := a.Muted != nil; muted != want {
				t.Errorf("%s sees that %s is muted: %v", name, a.Resource, muted)
			}
		}
	}
}
