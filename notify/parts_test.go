package notify

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/paramedic-ha/paramedic/correlate"
	"github.com/paramedic-ha/paramedic/notify/delivery"
)

// doctor is a receiver that reads what OPNFV Doctor's consumers and Aodh's own tools read, and fails at what they would fail at.
type doctor struct {
	*httptest.Server
	mu     sync.Mutex
	states map[string]string // by instance: the trait state said last
	alarms map[string]string // by Aodh alarm: its state
	got    []aodhWord
	answer func(aodhWord) int // nil: 200
}

type aodhWord struct {
	id, instance, tenant, state, current, alarm string
	traits                                      map[string]string
	header                                      http.Header
	body                                        string
}

func newDoctor(t testing.TB, answer func(aodhWord) int) *doctor {
	d := &doctor{states: map[string]string{}, alarms: map[string]string{}, answer: answer}
	d.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if status := d.take(t, r.Header, body); status != http.StatusOK {
			w.Header().Set("Retry-After", "100") // of no meaning but with 429 and 503
			w.WriteHeader(status)
		}
	}))
	t.Cleanup(d.Close)
	return d
}

func (d *doctor) take(t testing.TB, header http.Header, raw []byte) int {
	var body struct {
		AlarmName  string `json:"alarm_name"`
		AlarmID    string `json:"alarm_id"`
		Severity   string
		Previous   string
		Current    string
		ReasonData struct {
			Type  string
			Event struct {
				EventType string `json:"event_type"`
				MessageID string `json:"message_id"`
				Traits    [][3]any
			}
		} `json:"reason_data"`
	}
	if err := json.Unmarshal(raw, &body); err != nil || header.Get("Content-Type") != "application/json" {
		t.Errorf("%v: %s", err, raw)
		return http.StatusBadRequest
	}
	w := aodhWord{current: body.Current, alarm: body.AlarmID, id: body.ReasonData.Event.MessageID, traits: map[string]string{}, header: header.Clone(), body: string(raw)}
	for _, trait := range body.ReasonData.Event.Traits {
		w.traits[fmt.Sprint(trait[0])] = fmt.Sprint(trait[2])
	}
	w.instance, w.tenant, w.state = w.traits["instance_id"], w.traits["tenant_id"], w.traits["state"]
	if body.ReasonData.Type != "event" || header.Get("X-Openstack-Request-Id") != "req-"+w.id || header.Get("Webhook-Id") != w.id {
		t.Errorf("%v %s", header, raw)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.got = append(d.got, w)
	if d.answer != nil {
		if status := d.answer(w); status != http.StatusOK {
			return status
		}
	}
	d.states[w.instance], d.alarms[w.alarm] = w.state, w.current
	return http.StatusOK
}

func (d *doctor) words() []aodhWord {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.got)
}

// said is each instance's last digit with the state that was said last.
func (d *doctor) said() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	var all []string
	for instance, state := range d.states {
		all = append(all, instance[len(instance)-1:]+":"+state)
	}
	slices.Sort(all)
	return strings.Join(all, " ")
}

func (d *doctor) eventually(t testing.TB, want string) {
	t.Helper()
	eventually(t, want, func() bool { return d.said() == want })
}

func aodhSub(name, url string) Subscription {
	s := fileSub(name, url)
	s.Format = "aodh"
	return s
}

// only takes those out of an alarm's list whose index is not named.
func only(a *correlate.Alarm, indexes ...int) *correlate.Alarm {
	var out []correlate.Affected
	for _, i := range indexes {
		out = append(out, a.Affected[i])
	}
	a.Affected = out
	return a
}

func TestADoctorConsumerHearsOfEachMachineThatItIsHitAndThatItIsNot(t *testing.T) {
	d := newDoctor(t, nil)
	cfg, _ := testConfig(t, t.TempDir())
	s := aodhSub("vnfm", d.URL)
	s.Secret = NewSecret(make([]byte, 32))
	n, _ := start(t, cfg, s)
	n.Publish(effects(alarm("a1", 1, correlate.Raised, "p", "p", "q")))
	d.eventually(t, "0:error 1:error 2:error")
	settledAll(t, n) // a revision that is not settled yet is superseded
	n.Publish(effects(only(alarm("a1", 2, correlate.Changed, "p", "p", "q"), 0, 2)))
	d.eventually(t, "0:error 1:active 2:error")
	settledAll(t, n)
	n.Publish(effects(only(alarm("a1", 3, correlate.Cleared, "p", "p", "q"), 0, 2)))
	d.eventually(t, "0:active 1:active 2:active")
	settledAll(t, n)
	if got := d.words(); len(got) != 6 || got[0].header.Get("Webhook-Signature") == "" || len(d.alarms) != 3 {
		t.Errorf("%d requests about %d alarms", len(got), len(d.alarms))
	}
	for _, w := range d.words() {
		if want := map[string]string{"0": "p", "1": "p", "2": "q"}[w.instance[len(w.instance)-1:]]; w.tenant != want {
			t.Errorf("%s is of %s", w.instance, w.tenant)
		}
	}
	eventually(t, "three are in the profile", func() bool { return len(n.Profile()) == 3 })
}

func TestOneMachineOfWhichAConsumerKnowsNothingHoldsNobodyUp(t *testing.T) {
	var refuse sync.Map
	refuse.Store("1", http.StatusInternalServerError)
	d := newDoctor(t, func(w aodhWord) int {
		if status, bad := refuse.Load(w.instance[len(w.instance)-1:]); bad {
			return status.(int)
		}
		return http.StatusOK
	})
	cfg, _ := testConfig(t, t.TempDir())
	n, _ := start(t, cfg, aodhSub("vnfm", d.URL))
	n.Publish(effects(alarm("a1", 1, correlate.Raised, "p", "p", "p")))
	d.eventually(t, "0:error 2:error")
	eventually(t, "the delivery failed", func() bool {
		v := n.Deliveries("")
		return len(v) == 1 && strings.Contains(v[0].LastError, "answered 500 (1 of")
	})
	refuse.Store("1", http.StatusNotFound)
	eventually(t, "it is parked", func() bool { v := n.Deliveries(DeliveryParked); return len(v) == 1 })
	before := len(d.words())
	refuse.Clear()
	if err := n.Retry(t.Context(), n.Deliveries("")[0].ID); err != nil {
		t.Fatal(err)
	}
	d.eventually(t, "0:error 1:error 2:error")
	settledAll(t, n)
	ids := map[string]string{}
	for i, w := range d.words() {
		if i >= before && w.instance[len(w.instance)-1:] != "1" {
			t.Errorf("%s is told again", w.instance)
		}
		if ids[w.instance] != "" && ids[w.instance] != w.id {
			t.Errorf("%s under two ids", w.instance)
		}
		ids[w.instance] = w.id
	}
}

func TestAConsumerThatIsGoneOrWantsNoMoreIsAskedOnce(t *testing.T) {
	for name, status := range map[string]int{"gone": http.StatusGone, "busy": http.StatusTooManyRequests} {
		d := newDoctor(t, func(aodhWord) int { return status })
		cfg, _ := testConfig(t, t.TempDir())
		n, stop := start(t, cfg, aodhSub("vnfm", d.URL))
		projects := make([]string, 100)
		n.Publish(effects(alarm("a1", 1, correlate.Raised, projects...)))
		eventually(t, name, func() bool { v := n.Deliveries(""); return len(v) == 1 && v[0].LastError != "" })
		if got := len(d.words()); got > 2*delivery.DefaultConfig().InFlight {
			t.Errorf("%s: asked %d times", name, got)
		}
		if paused := n.Subscriptions()[0].Paused != ""; paused != (status == http.StatusGone) {
			t.Errorf("%s: paused %t", name, paused)
		}
		stop()
	}
}

func TestAFaultThatHitsNobodyIsNoBusinessOfAnAodhConsumer(t *testing.T) {
	d := newDoctor(t, nil)
	cfg, _ := testConfig(t, t.TempDir())
	n, _ := start(t, cfg, aodhSub("vnfm", d.URL))
	n.Publish(effects(alarm("a1", 1, correlate.Raised)))
	n.Publish(effects(alarm("a2", 2, correlate.Raised, "p")))
	d.eventually(t, "0:error")
	n.Publish(effects(alarm("a1", 3, correlate.Cleared), alarm("a2", 4, correlate.Cleared, "p")))
	d.eventually(t, "0:active")
	settledAll(t, n)
	if got := d.words(); len(got) != 2 {
		t.Errorf("%d requests", len(got))
	}
}

func TestATenantReadsNothingPhysicalInAodhsFormEither(t *testing.T) {
	d := newDoctor(t, nil)
	cfg, _ := testConfig(t, t.TempDir())
	s := aodhSub("tenant", d.URL)
	s.Role, s.Filter.Projects = RoleConsumer, []string{"p"}
	n, _ := start(t, cfg, s)
	n.Publish(effects(alarm("a1", 1, correlate.Raised, "p", "q")))
	d.eventually(t, "0:error")
	n.Publish(effects(only(alarm("a1", 2, correlate.Changed, "p", "q"), 1)))
	d.eventually(t, "0:active")
	n.Publish(effects(only(alarm("a1", 3, correlate.Cleared, "p", "q"), 1)))
	settledAll(t, n)
	for _, w := range d.words() {
		for _, word := range []string{"cmp-1", "bond", "carrier", "loss-of-signal", `"q"`, "000000000001"} {
			if strings.Contains(w.body, word) {
				t.Errorf("reads %q: %s", word, w.body)
			}
		}
	}
	if got := d.words(); len(got) != 2 {
		t.Errorf("%d requests", len(got))
	}
}

func TestWhoLeftWhileTheConsumerWasDeadHearsThatFromTheNextRunOrFromAPeer(t *testing.T) {
	for _, byPeer := range []bool{false, true} {
		var down sync.Map
		d := newDoctor(t, func(aodhWord) int {
			if _, ok := down.Load("down"); ok {
				return http.StatusInternalServerError
			}
			return http.StatusOK
		})
		dir := t.TempDir()
		cfg, _ := testConfig(t, dir)
		o := newOthers()
		cfg.Peers = o
		sub := aodhSub("vnfm", d.URL)
		n, stop := start(t, cfg, sub)
		first := alarm("a1", 1, correlate.Raised, "p", "p", "p")
		n.Publish(effects(first))
		d.eventually(t, "0:error 1:error 2:error")
		settledAll(t, n)
		down.Store("down", true)
		newest := only(alarm("a1", 2, correlate.Changed, "p", "p", "p"), 1)
		n.Publish(effects(newest))
		eventually(t, "the delivery failed", func() bool { v := n.Deliveries(""); return len(v) == 1 && v[0].LastError != "" })
		stop()
		down.Clear()
		if !byPeer {
			n, _ = start(t, cfg, sub)
		} else {
			p, ok := o.pair(n.Subscriptions()[0].ID, "a1")
			if !ok || len(p.Left) != 2 {
				t.Fatalf("%+v", p)
			}
			cfg, _ := testConfig(t, t.TempDir())
			cfg.Node = "cmp-2"
			n, _ = start(t, cfg, sub)
			n.Speak([]correlate.Change{{Alarm: newest}}, []Pair{p})
		}
		d.eventually(t, "0:active 1:error 2:active")
		over := only(alarm("a1", 3, correlate.Cleared, "p", "p", "p"), 1)
		if byPeer {
			n.Speak([]correlate.Change{{Alarm: over}}, nil)
		} else {
			n.Publish(effects(over))
		}
		d.eventually(t, "0:active 1:active 2:active")
		settledAll(t, n)
	}
}

func TestAPeerMakesTheRequestsOfEachMachineInOurPlace(t *testing.T) {
	d := newDoctor(t, nil)
	peerCfg, _ := testConfig(t, t.TempDir())
	peerCfg.Node = "cmp-2"
	peer, _ := start(t, peerCfg, aodhSub("vnfm", d.URL))
	cfg, _ := testConfig(t, t.TempDir())
	o := newOthers()
	o.deliver = func(ctx context.Context, h HandOver) (Answer, error) {
		b, err := json.Marshal(h) // as it travels
		if err != nil {
			return Answer{}, err
		}
		var there HandOver
		if err := json.Unmarshal(b, &there); err != nil {
			return Answer{}, err
		}
		return peer.Deliver(ctx, there)
	}
	cfg.Peers = o
	n, err := newNotifier(cfg, func(context.Context, string, string) (net.Conn, error) {
		return nil, errors.New("no way")
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := n.SetFile([]Subscription{aodhSub("vnfm", d.URL)}); err != nil {
		t.Fatal(err)
	}
	run(t, n)
	n.Publish(effects(alarm("a1", 1, correlate.Raised, "p", "p")))
	d.eventually(t, "0:error 1:error")
	n.Publish(effects(alarm("a1", 2, correlate.Cleared, "p", "p")))
	d.eventually(t, "0:active 1:active")
	settledAll(t, n)
	eventually(t, "both are in the profile", func() bool { return len(n.Profile()) == 2 })
	if st := n.Profile(); st[0].By != "cmp-2" {
		t.Errorf("%+v", st)
	}
	whole := HandOver{NotificationID: "x", Subscription: peer.Subscriptions()[0].ID, Version: peer.Subscriptions()[0].Version, Change: correlate.Change{Alarm: alarm("a1", 1, correlate.Raised, "p")}}
	if _, err := peer.Deliver(t.Context(), whole); !errors.Is(err, ErrInvalid) {
		t.Errorf("a request about no machine: %v", err)
	}
}

func TestAnAodhSubscriptionIsTestedAndNotVerified(t *testing.T) {
	var got message
	c := newConsumer(t, nil)
	cfg, _ := testConfig(t, t.TempDir())
	n, _ := start(t, cfg)
	s, snapshot, err := n.Subscribe(t.Context(), aodhSub("api", c.URL), true)
	if err != nil || len(snapshot) != 0 || len(c.messages()) != 0 {
		t.Fatal(err, snapshot, c.messages())
	}
	if _, err := n.Test(t.Context(), s.ID); err != nil {
		t.Fatal(err)
	}
	if got = c.messages()[0]; !strings.Contains(string(got.body), `"event_type":"paramedic.test"`) || strings.Contains(string(got.body), "instance_id") {
		t.Errorf("%s", got.body)
	}
}

func TestASnapshotCountsAsToldToEachMachine(t *testing.T) {
	d := newDoctor(t, nil)
	cfg, _ := testConfig(t, t.TempDir())
	n, _ := start(t, cfg)
	n.Publish(effects(alarm("a1", 1, correlate.Raised, "p", "p")))
	settledAll(t, n)
	if _, snapshot, err := n.Subscribe(t.Context(), aodhSub("api", d.URL), false); err != nil || len(snapshot) != 1 {
		t.Fatal(err, snapshot)
	}
	n.Publish(effects(only(alarm("a1", 2, correlate.Changed, "p", "p"), 0)))
	d.eventually(t, "0:error 1:active")
	settledAll(t, n)
}
