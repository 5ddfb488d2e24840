package api

import (
	"encoding/json"
	"reflect"
	"testing"
	"time"

	"github.com/paramedic-ha/paramedic/agent/history"
	"github.com/paramedic-ha/paramedic/correlate"
	"github.com/paramedic-ha/paramedic/notify"
)

// fuzzBody feeds a decoder of bodies. What it takes must mean the same when it is written and read again, so nothing
// was dropped on the way.
func fuzzBody[T any](f *testing.F, use func(T), seeds ...string) {
	for _, seed := range seeds {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		var v, again T
		if decode(body, &v) != nil {
			return
		}
		use(v)
		text, err := json.Marshal(v)
		if err != nil {
			t.Fatalf("took %q and can't write it: %v", body, err)
		}
		if err := json.Unmarshal(text, &again); err != nil || !reflect.DeepEqual(v, again) {
			t.Fatalf("took %q, but %+v became %+v: %v", body, v, again, err)
		}
	})
}

func FuzzSubscriptionBody(f *testing.F) {
	fuzzBody(f, func(b SubscriptionRequest) {
		if sub, err := b.subscription(time.Unix(1e9, 0)); err == nil {
			_ = sub.Validate()
			_ = fromSubscription(sub)
		}
	},
		`{"name":"a","endpoints":["http://127.0.0.1:9000/failure"],"format":"native","secret":"whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIz","role":"admin","verify":false}`,
		`{"name":"a","endpoints":["http://a/"],"filter":{"projects":["p"],"domains":["d"],"resource_types":["nic"],"conditions":["carrier"],"min_severity":"major","kinds":["fault"],"states":["failed","at-risk"],"min_confidence":"confirmed"}}`,
		`{"filter":{"hosts":["cmp-*"],"zones":["a"],"labels":{"az":["nova-1"],"az":[]},"resources":["nic/*"]}}`, `{"filter":{"labels":{"az":null,"":["x"]}}}`,
		`{"name":"a","endpoints":["http://a/"],"expires_in":"1h","rate":60}`, `{"name":"a","endpoints":["http://a/"],"expires":"2026-11-22T10:00:00Z"}`,
		`{"name":"a","endpoints":["https://a/"],"tls":{"ca":"-----BEGIN CERTIFICATE-----","server_name":"b","certificate":"c","key":"k"},"auth":{"basic":{"user":"u","password":"p"}},"proxy":"direct"}`,
		`{"name":"a","name":"b"}`, `{"name":null}`, `{"filter":{"x":1}}`, `[[[[`, `{"name":"a"}x`, "{\"name\":\"\xff\"}")
}

func FuzzSubscriptionChangeBody(f *testing.F) {
	fuzzBody(f, func(b SubscriptionChange) { _, _ = b.patch(time.Unix(1e9, 0)) },
		`{"name":"a","endpoints":[],"secret":"whsec_","paused":""}`, `{"filter":{"states":["ok"]}}`, `{"tls":{},"auth":{"bearer":{"token":"t"}},"proxy":""}`, `{}`,
		`{"secret":"whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIz","secret_overlap":"24h","expires":"","rate":0}`, `{"expires_in":"-1s"}`)
}

func FuzzAckBody(f *testing.F) {
	fuzzBody(f, func(AckRequest) {}, `{"comment":"on my way"}`, `{}`, `{"comment":1}`, ``)
}

func FuzzCommentBody(f *testing.F) {
	fuzzBody(f, func(b CommentRequest) { _ = remark("text", b.Text) }, `{"text":"the switch is being replaced"}`, `{}`, `{"text":["a"]}`, "{\"text\":\"\xff\"}")
}

func FuzzClearBody(f *testing.F) {
	fuzzBody(f, func(b ClearRequest) { _ = remark("comment", b.Comment) }, `{"comment":"unplugged on purpose"}`, `{}`, `{"comment":null}`)
}

func FuzzMuteBody(f *testing.F) {
	now := time.Unix(1_700_000_000, 0)
	fuzzBody(f, func(b MuteRequest) {
		if m, err := b.mute(now, "fuzz"); err == nil {
			_ = m.Validate(now)
			_ = fromMute(m)
		}
	},
		`{"id":"power","hosts":["cmp-1"],"zones":["rack-*"],"labels":{"az":["nova-1"]},"resources":["nic/*"],"resource_types":["nic"],"conditions":["carrier"],"min_severity":"warning","max_severity":"major","until":"2023-11-15T00:00:00Z","reason":"new switch"}`,
		`{"hosts":["[a"],"for":"2h"}`, `{"for":"-1s"}`, `{"until":"tomorrow"}`, `{"labels":{"":[]}}`, `{"id":"","hosts":[]}`, `{"max_severity":"cleared","for":"1h"}`)
}

func FuzzAlarmQuery(f *testing.F) {
	f.Add("state=all&min_severity=major&condition=carrier&resource=nic/*&domain=d&project=p&host=h&since=2026-11-22T10:00:00Z&limit=3")
	f.Add("after=MTIzIGFi")
	f.Add("resource=[a-")
	alarm := &correlate.Alarm{ID: "a", Severity: correlate.SeverityMajor, Key: correlate.Key{Resource: "nic/eth0"}}
	f.Fuzz(func(t *testing.T, raw string) {
		q := newQuery(raw, "min_severity", "resource", "condition", "domain", "project", "host", "since", "until", "limit", "after")
		wanted, limit, after := readSelection(q, identity{role: notify.RoleAdmin}), q.number("limit", pageSize, maxPage), readPosition(q, "after")
		if q.err != nil {
			return
		}
		wanted.match(alarm, alarm.Severity)
		if limit < 1 || limit > maxPage {
			t.Errorf("%q: limit %d", raw, limit)
		}
		if after != (history.Position{}) && placeText(after) != q.text("after") {
			t.Errorf("%q: the position reads back as %+v", raw, after)
		}
	})
}

func FuzzEventID(f *testing.F) {
	for _, seed := range []string{"", "2.17", "2.17@cmp-1", "2.17@", "0.1", "2.", "-1.2", "2.17.3"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, id string) {
		got, err := parseEventID(id)
		if err == nil && (got.term == 0) != (id == "") || err != nil && got != (eventID{}) {
			t.Errorf("%q: %+v, %v", id, got, err)
		}
		if again, err := parseEventID(got.String()); got.node != "" && (err != nil || again != got) {
			t.Errorf("%q: %+v is read again as %+v, %v", id, got, again, err)
		}
	})
}
