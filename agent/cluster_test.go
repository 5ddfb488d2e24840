package agent

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/paramedic-ha/paramedic/agent/config"
	"github.com/paramedic-ha/paramedic/agent/seal"
	"github.com/paramedic-ha/paramedic/correlate"
	"github.com/paramedic-ha/paramedic/gossip"
	"github.com/paramedic-ha/paramedic/hw"
	"github.com/paramedic-ha/paramedic/notify"
)

// patience is for what takes milliseconds on a quiet machine.
const patience = 30 * time.Second

func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	deadline := time.After(patience)
	poll := time.NewTicker(2 * time.Millisecond)
	defer poll.Stop()
	for !cond() {
		select {
		case <-poll.C:
		case <-deadline:
			t.Fatalf("%s: not within %v", what, patience)
		}
	}
}

// hosts are agents of one cluster in this process, each at an address of its own, with a source that says what the test
// wants.
type hosts struct {
	t       *testing.T
	net     string // the first three bytes of the addresses
	gossip  gossip.CipherKey
	secrets string
	all     []*clusterHost
}

type clusterHost struct {
	*Agent
	t      *testing.T
	config *config.Config
	deltas chan correlate.Delta
	first  correlate.Delta // what its source sees when it starts
	uuid   string          // of the domain that it has
	log    *syncBuffer
	runs   bool
}

func newHosts(t *testing.T, n int) *hosts {
	t.Helper()
	key, err := gossip.ParseKey(gossip.GenerateKey())
	if err != nil {
		t.Fatal(err)
	}
	h := &hosts{
		t: t, gossip: key, secrets: seal.GenerateKey(),
		net: fmt.Sprintf("127.%d.%d", 1+rand.N(250), 1+rand.N(250)),
	}
	for i := range n {
		h.all = append(h.all, h.make(fmt.Sprint("cmp-", i+1), i+1))
	}
	return h
}

func (h *hosts) make(name string, i int) *clusterHost {
	dir := h.t.TempDir()
	c, err := config.Parse("test.yaml", fmt.Appendf(nil, `
node: {name: %s, zone: z%d}
cluster: {bind: %s.%d, join: [%s.1, %s.2], label: test, insecure: true}
api: {socket: %s}
notify: {dir: %s}
`, name, i, h.net, i, h.net, h.net, filepath.Join(dir, "api.sock"), filepath.Join(dir, "state")))
	if err != nil {
		h.t.Fatal(err)
	}
	c.Cluster.Insecure, c.Cluster.Keys = false, []gossip.CipherKey{h.gossip}
	if c.Cluster.Secrets, err = seal.ParseKeyring([]byte(h.secrets)); err != nil {
		h.t.Fatal(err)
	}
	one := &clusterHost{t: h.t, config: c, first: well}
	for range 8 {
		one.uuid += fmt.Sprint(i, i, i, i)
	}
	one.uuid = one.uuid[:8] + "-" + one.uuid[8:12] + "-" + one.uuid[12:16] + "-" + one.uuid[16:20] + "-" + one.uuid[20:]
	return one
}

var (
	well = correlate.Delta{Full: true, Set: []correlate.Resource{
		{ID: "nic/eth0"},
		{ID: "nic/tap0", Needs: []correlate.Need{{Of: []correlate.ID{"nic/eth0"}}}},
	}}
	broken   = correlate.Delta{Full: true, Set: well.Set, Events: []correlate.Event{carrier(correlate.StatusFailed)}}
	fails    = correlate.Delta{Events: []correlate.Event{carrier(correlate.StatusFailed)}}
	recovers = correlate.Delta{Events: []correlate.Event{carrier(correlate.StatusOK)}}
)

func carrier(s correlate.Status) correlate.Event {
	return correlate.Event{Resource: "nic/eth0", Condition: correlate.CondCarrier, Status: s}
}

func (h *clusterHost) make() *Agent {
	h.t.Helper()
	h.deltas, h.log = make(chan correlate.Delta), new(syncBuffer)
	first, deltas := h.first, h.deltas
	first.Set = append(slices.Clone(first.Set), correlate.Resource{
		ID: correlate.NewID(correlate.KindDomain, h.uuid), Name: "web", Project: "red", Needs: []correlate.Need{{Of: []correlate.ID{"nic/tap0"}}},
	})
	a, err := New(Options{
		Config: h.config, Version: "test", Log: slog.New(slog.NewTextHandler(h.log, nil)),
		sources: oneSource("nic", func(ctx context.Context, sink hw.Sink) error {
			for d := first; ; {
				if err := sink.Emit(ctx, d); err != nil {
					return err
				}
				select {
				case d = <-deltas:
				case <-ctx.Done():
					return ctx.Err()
				}
			}
		}),
	})
	if err != nil {
		h.t.Fatal(err)
	}
	return a
}

func (h *clusterHost) start() {
	h.t.Helper()
	h.Agent = h.make()
	if err := h.Start(); err != nil {
		h.t.Fatal(err)
	}
	h.runs = true
	h.t.Cleanup(h.stop)
}

func (h *clusterHost) stop() {
	h.t.Helper()
	if !h.runs {
		return
	}
	h.runs = false
	stop(h.t, h.Agent)
	if h.t.Failed() {
		h.t.Logf("log of %s:\n%s", h.config.Node.Name, h.log)
	}
}

func (h *hosts) start() {
	h.t.Helper()
	for _, one := range h.all {
		one.start()
	}
	h.ready()
}

// ready waits until all that run are ready and see each other.
func (h *hosts) ready() {
	h.t.Helper()
	n := 0
	for _, one := range h.all {
		if one.runs {
			n++
		}
	}
	eventually(h.t, "the cluster is ready", func() bool {
		for _, one := range h.all {
			if !one.runs {
				continue
			}
			select {
			case err := <-one.Failed():
				h.t.Fatalf("%s: %v", one.config.Node.Name, err)
			default:
			}
			members := 0
			for _, v := range one.Cluster().Hosts() {
				if v.Member && v.Domains > 0 {
					members++
				}
			}
			if one.Ready() != nil || members != n {
				return false
			}
		}
		return true
	})
}

func (h *clusterHost) say(d correlate.Delta) {
	h.t.Helper()
	select {
	case h.deltas <- d:
	case <-time.After(patience):
		h.t.Fatal("the source does not take it")
	}
}

func (h *clusterHost) knows(id string) *notify.Subscription {
	for _, s := range h.notifier.Subscriptions() {
		if s.ID == id {
			return &s
		}
	}
	return nil
}

// everywhere waits until the condition holds at every host that runs.
func (h *hosts) everywhere(what string, cond func(*clusterHost) bool) time.Duration {
	h.t.Helper()
	began := time.Now()
	for _, one := range h.all {
		if one.runs {
			eventually(h.t, what+" at "+one.config.Node.Name, func() bool { return cond(one) })
		}
	}
	return time.Since(began)
}

// receiver is a consumer over real HTTP.
type receiver struct {
	*httptest.Server
	mu     sync.Mutex
	got    []received
	answer int // 0: 204
}

type received struct {
	at   time.Time
	ID   string `json:"id"`
	Type string `json:"type"`
	Data struct {
		Reporter string `json:"reporter"`
		Host     string `json:"host"`
		Alarm    struct {
			ID        string `json:"id"`
			Revision  string `json:"revision"`
			State     string `json:"state"`
			Condition string `json:"condition"`
		} `json:"alarm"`
	} `json:"data"`
}

func (r received) String() string {
	return fmt.Sprintf("%s %s of %s by %s, alarm %.8s revision %s, id %.8s", r.Data.Alarm.Condition, r.Data.Alarm.State, r.Data.Host, r.Data.Reporter,
		r.Data.Alarm.ID, r.Data.Alarm.Revision, r.ID)
}

func receive(t *testing.T) *receiver {
	t.Helper()
	r := new(receiver)
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body, err := io.ReadAll(req.Body)
		if err != nil || req.Method != http.MethodPost || len(body) == 0 {
			w.WriteHeader(http.StatusNoContent) // a connection that is kept warm
			return
		}
		one := received{at: time.Now()}
		if err := json.Unmarshal(body, &one); err != nil {
			t.Errorf("a notification can't be read: %v\n%s", err, body)
		}
		r.mu.Lock()
		r.got = append(r.got, one)
		answer := r.answer
		r.mu.Unlock()
		w.WriteHeader(max(answer, http.StatusNoContent))
	}))
	t.Cleanup(r.Close)
	return r
}

// carriers are the notifications about links so far.
func (r *receiver) carriers() []received {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(r.got), func(one received) bool { return one.Data.Alarm.Condition != string(correlate.CondCarrier) })
}

func (r *receiver) await(t *testing.T, n int) []received {
	t.Helper()
	deadline := time.After(patience)
	poll := time.NewTicker(time.Millisecond)
	defer poll.Stop()
	for {
		got := r.carriers()
		if len(got) >= n {
			return got
		}
		select {
		case <-poll.C:
		case <-deadline:
			t.Fatalf("%d notifications, want %d: %v", len(got), n, got)
		}
	}
}

func (r *receiver) say(status int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.answer = status
}

func (h *clusterHost) subscribe(r *receiver) notify.Subscription {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(h.t.Context(), patience)
	defer cancel()
	sub, _, err := h.notifier.Subscribe(ctx, notify.Subscription{Name: "vnfm", Endpoints: []string{r.URL}, Secret: notify.NewSecret([]byte("0123456789abcdef01234567"))}, false)
	if err != nil {
		h.t.Fatal(err)
	}
	return sub
}

func (h *hosts) subscribe(at int, r *receiver) notify.Subscription {
	h.t.Helper()
	sub := h.all[at].subscribe(r)
	took := h.everywhere("the subscription is active", func(one *clusterHost) bool { return one.knows(sub.ID) != nil })
	h.t.Logf("active at all %v after the answer", took)
	return sub
}

func (h *clusterHost) remote(home string) *correlate.Alarm {
	for _, v := range h.Cluster().Alarms() {
		if v.Alarm.Key.Home == home && v.Alarm.Key.Condition == correlate.CondCarrier {
			return v.Alarm
		}
	}
	return nil
}

func TestASubscriptionMadeAnywhereIsServedFromEverywhere(t *testing.T) {
	h := newHosts(t, 3)
	h.start()
	r := receive(t)
	sub := h.subscribe(0, r)

	began := time.Now()
	h.all[1].say(fails)
	raised := r.await(t, 1)[0]
	t.Logf("fault to consumer: %v", raised.at.Sub(began))
	if raised.Data.Host != "cmp-2" || raised.Data.Reporter != "cmp-2" || raised.Data.Alarm.State != "raised" {
		t.Errorf("the first notification is %s", raised)
	}
	var seen *correlate.Alarm
	eventually(t, "the third host knows of the alarm", func() bool { seen = h.all[2].remote("cmp-2"); return seen != nil })
	if seen.ID != raised.Data.Alarm.ID || notify.NotificationID(seen.ID, seen.Revision, sub.ID, sub.Version) != raised.ID {
		t.Errorf("the third host knows of %+v; told was %s", seen, raised)
	}
	for _, v := range h.all[2].Cluster().Alarms() {
		if time.Since(v.AsOf) > time.Minute {
			t.Errorf("%s as of %v", v.Alarm.Key, v.AsOf)
		}
	}
	awaitAlarm(t, h.all[0].Agent, "nic/eth0", correlate.CondCarrier, correlate.Raised) // its stream has it, too
	h.all[1].say(recovers)
	awaitAlarm(t, h.all[2].Agent, "nic/eth0", correlate.CondCarrier, correlate.Cleared)
	if got := r.await(t, 2); len(got) != 2 || got[1].Data.Alarm.State != "cleared" || got[1].Data.Alarm.ID != raised.Data.Alarm.ID {
		t.Errorf("told %v, want it raised and cleared, once each", got)
	}
	if history := h.all[2].History(); !slices.ContainsFunc(history, func(a *correlate.Alarm) bool { return a.ID == seen.ID }) {
		t.Errorf("the third host does not remember it: %v", history)
	}
	domains := h.all[0].Cluster().Domains()
	if len(domains) != 2 || domains[0].Home != "cmp-2" || domains[0].UUID != h.all[1].uuid || domains[1].Home != "cmp-3" {
		t.Errorf("domains %+v", domains)
	}
	if err := h.all[2].notifier.Unsubscribe(t.Context(), sub.ID); err != nil {
		t.Fatal(err)
	}
	h.everywhere("the subscription has ended", func(one *clusterHost) bool { return one.knows(sub.ID) == nil })
}

func TestADeliveryThatItsHomeCannotMakeIsHandedOverAndTakenBack(t *testing.T) {
	h := newHosts(t, 3)
	h.all[1].config.Notify.AllowCallbacks = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}
	h.start()
	r := receive(t)
	sub := h.subscribe(0, r)

	began := time.Now()
	h.all[1].say(fails)
	raised := r.await(t, 1)[0]
	t.Logf("fault to consumer over a peer: %v", raised.at.Sub(began))
	alarm := awaitAlarm(t, h.all[1].Agent, "nic/eth0", correlate.CondCarrier, correlate.Raised)
	if raised.Data.Host != "cmp-2" || raised.Data.Reporter == "cmp-2" || raised.ID != notify.NotificationID(alarm.ID, alarm.Revision, sub.ID, sub.Version) {
		t.Errorf("told %s; want another host to speak for cmp-2, with its id", raised)
	}
	eventually(t, "nothing is owed", func() bool { return len(h.all[1].notifier.Deliveries("")) == 0 })

	// Its consumer can be reached again; what a peer has told is not told again.
	h.all[1].stop()
	h.all[1].config.Notify.AllowCallbacks = nil
	h.all[1].first = broken
	h.all[1].start()
	h.ready()
	began = time.Now()
	h.all[1].say(recovers)
	cleared := r.await(t, 2)
	t.Logf("fault to consumer, taken back: %v", cleared[1].at.Sub(began))
	if len(cleared) != 2 || cleared[1].Data.Reporter != "cmp-2" || cleared[1].Data.Alarm.State != "cleared" || cleared[1].Data.Alarm.ID != alarm.ID {
		t.Errorf("told %v; want it cleared by its home", cleared)
	}
}

func TestASubscriptionOutlivesWhoTookItAndARestartOfAll(t *testing.T) {
	h := newHosts(t, 3)
	h.start()
	r := receive(t)
	sub := h.subscribe(0, r)
	h.all[0].stop()
	h.all[2].stop() // all but one
	h.all[1].say(fails)
	if got := r.await(t, 1)[0]; got.Data.Host != "cmp-2" {
		t.Errorf("told %s", got)
	}
	h.all[1].stop()

	h.all[1].first = broken
	for _, i := range []int{2, 0, 1} {
		h.all[i].start()
	}
	h.ready()
	h.everywhere("the subscription is still there", func(one *clusterHost) bool { return one.knows(sub.ID) != nil })
	h.all[2].say(fails)
	got := r.await(t, 2)
	if len(got) != 2 || got[1].Data.Host != "cmp-3" {
		t.Errorf("told %v; what was told before the restart is not told again", got)
	}
	secret := func(one *clusterHost) bool {
		for _, s := range one.notifier.Held() {
			if s.ID == sub.ID {
				return !s.Secret.Locked() && s.Version == sub.Version
			}
		}
		return false
	}
	h.everywhere("it has its secret", secret)
}

func TestAReimagedHostLearnsWhatItWas(t *testing.T) {
	for _, after := range []struct {
		what  string
		first correlate.Delta
	}{{"and clears what is over", well}, {"and goes on with what lasts", broken}} {
		t.Run(after.what, func(t *testing.T) {
			h := newHosts(t, 3)
			h.start()
			r := receive(t)
			h.subscribe(0, r)
			h.all[1].say(fails)
			raised := r.await(t, 1)[0]
			eventually(t, "the peers know of the alarm", func() bool { return h.all[0].remote("cmp-2") != nil && h.all[2].remote("cmp-2") != nil })
			eventually(t, "it is known to be told", func() bool { return len(h.all[1].notifier.Deliveries("")) == 0 })
			before := h.all[1].loop.engine.Term()
			h.all[1].stop()

			if err := os.RemoveAll(h.all[1].config.Notify.Dir); err != nil {
				t.Fatal(err)
			}
			h.all[1].first = after.first
			h.all[1].start()
			h.ready()
			var term uint64
			var standing []*correlate.Alarm
			if err := h.all[1].Query(t.Context(), func(e *correlate.Engine) { term, standing = e.Term(), e.Alarms() }); err != nil {
				t.Fatal(err)
			}
			if term <= before || term%2 != 0 {
				t.Errorf("term %d after %d", term, before)
			}
			if len(after.first.Events) > 0 {
				standing = slices.DeleteFunc(standing, func(a *correlate.Alarm) bool { return a.Key.Condition != correlate.CondCarrier })
				if len(standing) != 1 || standing[0].ID != raised.Data.Alarm.ID {
					t.Errorf("%v stand, want the alarm of before", standing)
				}
				h.all[1].say(recovers)
			}
			got := r.await(t, 2)
			if len(got) != 2 || got[1].Data.Alarm.State != "cleared" || got[1].Data.Alarm.ID != raised.Data.Alarm.ID {
				t.Errorf("told %v; want the alarm of before cleared", got)
			}
			if rev, err := correlate.ParseRevision(got[1].Data.Alarm.Revision); err != nil || rev.Term != term {
				t.Errorf("cleared as %s in term %d: %v", rev, term, err)
			}
		})
	}
}

func TestA410PausesAtOneHostAndASecondOneEnds(t *testing.T) {
	h := newHosts(t, 3)
	h.start()
	r := receive(t)
	sub := h.subscribe(0, r)
	r.say(http.StatusGone)
	h.all[1].say(fails)
	r.await(t, 1)
	eventually(t, "it is paused where it was refused", func() bool { s := h.all[1].knows(sub.ID); return s != nil && s.Paused != "" })
	if s := h.all[2].knows(sub.ID); s == nil || s.Paused != "" {
		t.Errorf("at another host it is %+v; want it active", s)
	}
	h.all[2].say(fails)
	h.everywhere("the subscription has ended", func(one *clusterHost) bool { return one.knows(sub.ID) == nil })
}

func TestAnAlarmIsAcknowledgedAnywhere(t *testing.T) {
	h := newHosts(t, 3)
	h.start()
	h.all[1].say(fails)
	var id string
	eventually(t, "the third host knows of the alarm", func() bool {
		a := h.all[2].remote("cmp-2")
		if a != nil {
			id = a.ID
		}
		return a != nil
	})
	a, err := h.all[2].Ack(t.Context(), id, "alice", "on it")
	if err != nil || a.Ack == nil || a.Ack.By != "alice" {
		t.Fatalf("acknowledged as %+v, %v", a, err)
	}
	eventually(t, "its home knows", func() bool {
		var ack *correlate.Acknowledgement
		if err := h.all[1].Query(t.Context(), func(e *correlate.Engine) {
			if a, ok := e.Alarm(id); ok {
				ack = a.Ack
			}
		}); err != nil {
			t.Fatal(err)
		}
		return ack != nil && ack.By == "alice" && ack.Comment == "on it"
	})
	eventually(t, "everybody knows", func() bool {
		a := h.all[0].remote("cmp-2")
		return a != nil && a.Ack != nil && a.Ack.By == "alice"
	})
	if _, err := h.all[2].Ack(t.Context(), "nonsense", "alice", ""); !errors.Is(err, correlate.ErrNoAlarm) {
		t.Errorf("acknowledge what does not stand: %v", err)
	}
}

func fileSubscription(name, url string) config.Subscription {
	return config.Subscription{Name: name, Endpoints: []string{url}, Format: "native", Role: "admin"}
}

func TestASubscriptionOfOneFileWorksEverywhereUntilNoFileNamesIt(t *testing.T) {
	h := newHosts(t, 3)
	r := receive(t)
	h.all[0].config.Notify.Subscriptions = []config.Subscription{fileSubscription("ops", r.URL)}
	h.start()
	id := notify.FileID("test", "ops")
	h.everywhere("the subscription is active", func(one *clusterHost) bool { return one.knows(id) != nil })
	h.all[2].say(fails)
	if got := r.await(t, 1); got[0].Data.Host != "cmp-3" {
		t.Errorf("told %v", got)
	}
	without := *h.all[0].config
	without.Notify.Subscriptions = nil
	if err := h.all[0].Reload(&without); err != nil {
		t.Fatal(err)
	}
	h.everywhere("the subscription has ended", func(one *clusterHost) bool { return one.knows(id) == nil })
}

func (h *clusterHost) stands(c correlate.Condition) (found *correlate.Alarm) {
	h.t.Helper()
	if err := h.Query(h.t.Context(), func(e *correlate.Engine) {
		for _, a := range e.Alarms() {
			if a.Key.Condition == c {
				found = a
			}
		}
	}); err != nil {
		h.t.Fatal(err)
	}
	return found
}

func TestFilesThatContradictEachOtherAreAnAlarmAtBoth(t *testing.T) {
	h := newHosts(t, 3)
	r, s := receive(t), receive(t)
	h.all[0].config.Notify.Subscriptions = []config.Subscription{fileSubscription("ops", r.URL)}
	h.all[1].config.Notify.Subscriptions = []config.Subscription{fileSubscription("ops", s.URL)}
	h.start()
	for i, other := range []string{"cmp-2", "cmp-1"} {
		var a *correlate.Alarm
		eventually(t, "the conflict is an alarm", func() bool { a = h.all[i].stands(correlate.CondConflict); return a != nil })
		if !strings.Contains(a.Text, other) || !strings.Contains(string(a.Key.Resource), "ops") {
			t.Errorf("%s: %q does not name %s", a.Key, a.Text, other)
		}
	}
	if a := h.all[2].stands(correlate.CondConflict); a != nil {
		t.Errorf("a host without it in its file has the alarm %+v", a)
	}
	same := *h.all[1].config
	same.Notify.Subscriptions = h.all[0].config.Notify.Subscriptions
	if err := h.all[1].Reload(&same); err != nil {
		t.Fatal(err)
	}
	for i := range 2 {
		eventually(t, "the conflict is over", func() bool { return h.all[i].stands(correlate.CondConflict) == nil })
	}
}

func TestAHostWithoutTheSecretsKeyHasItsDeliveriesMadeByOthers(t *testing.T) {
	h := newHosts(t, 3)
	other, err := seal.ParseKeyring([]byte(seal.GenerateKey()))
	if err != nil {
		t.Fatal(err)
	}
	h.all[1].config.Cluster.Secrets = other
	h.start()
	r := receive(t)
	h.subscribe(0, r)
	h.all[1].say(fails)
	if got := r.await(t, 1)[0]; got.Data.Host != "cmp-2" || got.Data.Reporter == "cmp-2" {
		t.Errorf("told %s; want another host, which can sign, to speak for cmp-2", got)
	}
}

func TestAHostThatWasAloneBringsItsSubscriptions(t *testing.T) {
	h := newHosts(t, 2)
	alone := *h.all[0].config
	alone.Cluster = config.Cluster{Label: "test"}
	r := receive(t)
	with := h.all[0].config
	h.all[0].config = &alone
	h.all[0].start()
	eventually(t, "it is ready", func() bool { return h.all[0].Ready() == nil })
	sub := h.all[0].subscribe(r)
	h.all[0].say(fails)
	r.await(t, 1)
	h.all[0].stop()
	h.all[0].config, h.all[0].first = with, broken
	h.start()
	h.everywhere("its subscription is known", func(one *clusterHost) bool { return one.knows(sub.ID) != nil })
	h.all[1].say(fails)
	if got := r.await(t, 2); len(got) != 2 || got[1].Data.Host != "cmp-2" {
		t.Errorf("told %v", got)
	}
}

func TestAnAddressThatIsTakenIsSaidClearly(t *testing.T) {
	h := newHosts(t, 1)
	taken, err := new(net.ListenConfig).Listen(t.Context(), "tcp", h.net+".1:7946")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	h.all[0].start()
	select {
	case err := <-h.all[0].Failed():
		if !strings.Contains(err.Error(), h.net+".1:7946") {
			t.Errorf("failed with %v; want the address named", err)
		}
	case <-time.After(patience):
		t.Fatal("the agent goes on without its peers")
	}
}

// Until its peers have told a host what it was it is not ready, but alive; who asks waits.
func TestAHostThatWaitsForItsPeersIsAliveAndNotReady(t *testing.T) {
	h := newHosts(t, 1)
	h.all[0].start() // it has nothing on disk, and nobody is there
	if err := h.all[0].Ready(); err == nil || !strings.Contains(err.Error(), "peers") {
		t.Errorf("ready: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if err := h.all[0].Query(ctx, func(*correlate.Engine) {}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("asked before there is an engine: %v", err)
	}
	eventually(t, "it goes on without them", func() bool { return h.all[0].Ready() == nil })
	status, err := h.all[0].Status(t.Context())
	if err != nil || status.Term != 2 {
		t.Errorf("status %+v, %v; want its first term", status, err)
	}
}

func TestSecretsRestAndTravelSealed(t *testing.T) {
	h := newHosts(t, 2)
	h.start()
	h.subscribe(0, receive(t))
	for _, one := range h.all {
		one.stop()
		err := filepath.WalkDir(one.config.Notify.Dir, func(path string, d os.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			b, err := os.ReadFile(path)
			if bytes.Contains(b, []byte("0123456789abcdef01234567")) || bytes.Contains(b, []byte("MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3")) {
				t.Errorf("%s holds the secret", path)
			}
			return err
		})
		if err != nil {
			t.Error(err)
		}
	}
}
