package agent

import (
	"bytes"
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/paramedic-ha/paramedic/agent/config"
	"github.com/paramedic-ha/paramedic/agent/ledger"
	"github.com/paramedic-ha/paramedic/agent/seal"
	"github.com/paramedic-ha/paramedic/correlate"
	"github.com/paramedic-ha/paramedic/gossip"
	"github.com/paramedic-ha/paramedic/notify"
)

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
	eventually(t, "it knows how old that is", func() bool {
		return time.Since(h.all[2].Cluster().AsOf()("cmp-2")) < time.Minute
	})
	awaitAlarm(t, h.all[0].Agent, "nic/eth0", correlate.CondCarrier, correlate.Raised) // its stream has it, too
	h.all[1].say(recovers)
	awaitAlarm(t, h.all[2].Agent, "nic/eth0", correlate.CondCarrier, correlate.Cleared)
	if got := r.await(t, 2); len(got) != 2 || got[1].Data.Alarm.State != "cleared" || got[1].Data.Alarm.ID != raised.Data.Alarm.ID {
		t.Errorf("told %v, want it raised and cleared, once each", got)
	}
	if !h.all[2].History().Ended()(seen.ID) {
		t.Error("the third host does not remember it")
	}
	here := h.all[0].Cluster()
	domains := here.Domains("cmp-2")
	if len(domains) != 1 || domains[0].Home != "cmp-2" || domains[0].UUID != h.all[1].uuid || here.DomainHome(h.all[2].uuid) != "cmp-3" {
		t.Errorf("domains %+v, that of cmp-3 is at %q", domains, here.DomainHome(h.all[2].uuid))
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
	h.all[1].config.Notify.AllowCallbacks = h.all[0].config.Notify.AllowCallbacks
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

// A consumer subscribes while the home of an alarm is away: it is given the alarm by another host, and told of its end.
func TestWhatASnapshotGaveIsCleared(t *testing.T) {
	for _, lost := range []bool{false, true} {
		h := newHosts(t, 3)
		h.start()
		h.all[1].say(fails)
		eventually(t, "the alarm is known", func() bool { return h.all[0].remote("cmp-2") != nil })
		h.all[1].stop()
		r := receive(t)
		_, snapshot, err := h.all[0].notifier.Subscribe(t.Context(), notify.Subscription{Name: "vnfm", Endpoints: []string{r.URL}}, false)
		if err != nil || len(snapshot) != 1 || snapshot[0].Key.Home != "cmp-2" {
			t.Fatalf("snapshot %v, %v; want the alarm of the host that is away", snapshot, err)
		}
		if lost {
			if err := os.RemoveAll(h.all[1].config.Notify.Dir); err != nil {
				t.Fatal(err)
			}
		}
		h.all[1].start() // all is well there
		got := r.await(t, 1)
		if len(got) != 1 || got[0].Data.Alarm.ID != snapshot[0].ID || got[0].Data.Alarm.State != "cleared" || got[0].Data.Host != "cmp-2" {
			t.Errorf("told %v (disk lost: %v); want the end of what it was given", got, lost)
		}
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
	a, err := h.all[2].Say(t.Context(), ledger.Saying{Kind: gossip.KindAck, AlarmID: id, By: "alice", Text: "on it"})
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
	if _, err := h.all[2].Say(t.Context(), ledger.Saying{Kind: gossip.KindAck, AlarmID: "nonsense", By: "alice"}); !errors.Is(err, correlate.ErrNoAlarm) {
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

// TestAFilterByZoneAndLabelIsJudgedByTheHomesOwnConfiguration: whichever file named the subscription, and anew when a reload changes it.
func TestAFilterByZoneAndLabelIsJudgedByTheHomesOwnConfiguration(t *testing.T) {
	h := newHosts(t, 2)
	zone, label := receive(t), receive(t)
	byZone, byLabel := fileSubscription("zone", zone.URL), fileSubscription("label", label.URL)
	byZone.Filter.Zones, byLabel.Filter.Labels = []string{"rack-b"}, map[string][]string{"az": {"nova-*"}}
	h.all[0].config.Notify.Subscriptions = []config.Subscription{byZone, byLabel}
	h.all[1].config.Node.Zone = "rack-b"
	h.start()
	h.everywhere("the subscriptions are active", func(one *clusterHost) bool {
		return one.knows(notify.FileID("test", "zone")) != nil && one.knows(notify.FileID("test", "label")) != nil
	})
	for _, one := range h.all {
		one.say(fails)
	}
	if got := zone.await(t, 1); got[0].Data.Host != "cmp-2" {
		t.Errorf("told %v", got)
	}
	moved := *h.all[0].config
	moved.Node.Labels = map[string]string{"az": "nova-1"}
	if err := h.all[0].Reload(&moved); err != nil {
		t.Fatal(err)
	}
	if got := label.await(t, 1); got[0].Data.Host != "cmp-1" {
		t.Errorf("told %v", got)
	}
	if got := zone.await(t, 1); len(got) != 1 {
		t.Errorf("told %v", got)
	}
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

func TestAReloadTakesTheKeyFilesNewKeys(t *testing.T) {
	h := newHosts(t, 2)
	h.start()
	next, err := gossip.ParseKey(gossip.GenerateKey())
	if err != nil {
		t.Fatal(err)
	}
	for _, keys := range [][]gossip.CipherKey{{h.gossip, next}, {next, h.gossip}, {next}} {
		for _, one := range h.all { // as an operator would, host by host
			c := *one.config
			c.Cluster.Keys = keys
			if err := one.Reload(&c); err != nil {
				t.Fatal(err)
			}
			if got := one.Cluster().Keys().KeyStatus().Keys; len(got) != len(keys) || got[0] != keys[0].String() {
				t.Errorf("keys %v, want %v", got, keys)
			}
		}
	}
	r := receive(t)
	h.subscribe(0, r) // they still talk
}

func TestWhatThePeersDoIsExported(t *testing.T) {
	h := newHosts(t, 2)
	h.start()
	h.subscribe(0, receive(t))
	want := []string{"paramedic_cluster_records", "paramedic_cluster_digests_total", "paramedic_cluster_handovers_total", "paramedic_cluster_written_total"}
	eventually(t, "the figures are there", func() bool {
		families, err := h.all[0].registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		have := make(map[string]bool)
		for _, f := range families {
			have[f.GetName()] = true
		}
		return !slices.ContainsFunc(want, func(name string) bool { return !have[name] })
	})
}

func TestASecondHostOfANameEndsWithTheRemedy(t *testing.T) {
	h := newHosts(t, 1)
	h.start()
	second := h.make("cmp-1", 2)
	second.start()
	select {
	case err := <-second.Failed():
		if !strings.Contains(err.Error(), `our name "cmp-1"`) || !strings.Contains(err.Error(), "node.name") {
			t.Errorf("failed with %v; want the name and the remedy", err)
		}
	case <-time.After(patience):
		t.Fatal("both go on")
	}
	second.stop()
	if err := h.all[0].Ready(); err != nil {
		t.Errorf("the first one: %v", err)
	}
}

// Its consumer takes the connection and never answers, and that of a peer, too.
func TestAStopWaitsForNoConsumer(t *testing.T) {
	h := newHosts(t, 2)
	h.start()
	hangs, asked := make(chan struct{}), make(chan struct{}, 100)
	consumer := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost {
			return // a connection that is kept warm
		}
		asked <- struct{}{}
		select {
		case <-hangs:
		case <-r.Context().Done():
		}
	}))
	t.Cleanup(consumer.Close)
	t.Cleanup(func() { close(hangs) })
	h.subscribe(0, &receiver{Server: consumer})
	h.all[0].say(fails)
	select {
	case <-asked:
	case <-time.After(patience):
		t.Fatal("the consumer is not asked")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Second) // a consumer has ten for its answer
	defer cancel()
	h.all[0].runs = false
	if err := h.all[0].Stop(ctx); err != nil {
		t.Error(err)
	}
}
