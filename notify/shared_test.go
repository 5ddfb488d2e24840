package notify

import (
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/paramedic-ha/paramedic/correlate"
)

func rev(counter uint64) correlate.Revision { return correlate.Revision{Term: 2, Counter: counter} }

// elsewhere is a subscription as the peers hand it in.
func elsewhere(origin Origin, url string) Subscription {
	s := fileSub("a", url)
	s.Origin, s.ID, s.Version, s.Created = origin, FileID("prod", "a"), FileVersion(s), epoch
	if origin == OriginAPI {
		s.ID, s.Version = "4fe1c0de-0000-4000-8000-000000000001", 5
	}
	return s
}

// clustered starts a Notifier with peers.
func clustered(t testing.TB, dir string, subs ...Subscription) (n *Notifier, o *others, stop func()) {
	t.Helper()
	o = newOthers()
	cfg, _ := testConfig(t, dir)
	cfg.Peers = o
	n, stop = start(t, cfg, subs...)
	return n, o, stop
}

func put(t testing.TB, n *Notifier, s Subscription, told map[string]correlate.Revision) []string {
	t.Helper()
	unknown, err := n.Put(s, told)
	if err != nil {
		t.Fatal(err)
	}
	return unknown
}

// revisions are those of an alarm that a consumer was sent, in order.
func (c *consumer) revisions(alarm string) (all []string) {
	for _, m := range c.messages() {
		if m.event.Data.Alarm.ID == alarm {
			all = append(all, m.event.Data.Alarm.Revision)
		}
	}
	return all
}

func settledAll(t testing.TB, n *Notifier) {
	t.Helper()
	eventually(t, "all is delivered", func() bool {
		n.mu.Lock() // nothing is half dispatched
		defer n.mu.Unlock()
		return n.in.waiting() == 0 && len(n.Deliveries("")) == 0
	})
}

// TestASnapshotGivenElsewhereIsNeitherRepeatedNorMissed: of four alarms the consumer was given the newest of one, an older
// revision of two, and one that this host does not know any more.
func TestASnapshotGivenElsewhereIsNeitherRepeatedNorMissed(t *testing.T) {
	for _, restarted := range []bool{false, true} {
		t.Run(fmt.Sprint("restarted ", restarted), func(t *testing.T) {
			c, dir := newConsumer(t, nil), t.TempDir()
			hold := newConsumer(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(400) }) // keeps cleared alarms known
			n, o, stop := clustered(t, dir, fileSub("holder", hold.URL))
			n.Publish(effects(alarm("same", 1, correlate.Raised), alarm("newer", 2, correlate.Raised), alarm("over", 3, correlate.Raised)))
			n.Publish(effects(alarm("newer", 4, correlate.Changed), alarm("over", 5, correlate.Cleared), alarm("missed", 6, correlate.Raised)))
			s := elsewhere(OriginAPI, c.URL)
			told := map[string]correlate.Revision{"same": rev(1), "newer": rev(2), "over": rev(3), "lost": {Term: 1, Counter: 9}, "of cmp-3": {Term: 4, Counter: 4}}
			want := []string{"lost", "of cmp-3"}
			if got := put(t, n, s, told); !slices.Equal(got, want) {
				t.Fatalf("unknown: %v", got)
			}
			c.waitFor(t, 3)
			if restarted {
				eventually(t, "it is settled", func() bool {
					return !slices.ContainsFunc(n.Deliveries(""), func(d DeliveryView) bool { return d.Subscription == "a" })
				})
				stop()
				n, o, _ = clustered(t, dir, fileSub("holder", hold.URL))
				if got := put(t, n, s, told); !slices.Equal(got, want) {
					t.Fatalf("unknown: %v", got)
				}
			} else if got := put(t, n, s, told); !slices.Equal(got, want) {
				t.Fatalf("unknown the second time: %v", got)
			}
			n.Publish(effects(alarm("lost", 7, correlate.Cleared)))
			c.waitFor(t, 4)
			eventually(t, "it is settled", func() bool {
				return !slices.ContainsFunc(n.Deliveries(""), func(d DeliveryView) bool { return d.Subscription == "a" })
			})
			over := "[2.5]"
			if restarted { // the same again, when nobody has noted before the restart that the snapshot was taken
				over = "[2.5 2.5]"
			}
			for id, want := range map[string]string{"same": "[]", "newer": "[2.4]", "over": over, "missed": "[2.6]", "lost": "[2.7]"} {
				if got := fmt.Sprint(c.revisions(id)); got != want {
					t.Errorf("%s: sent %s, want %s", id, got, want)
				}
			}
			eventually(t, "no pair of what ended is left", func() bool {
				_, lost := o.pair(s.ID, "lost")
				_, over := o.pair(s.ID, "over")
				return !lost && !over
			})
			if _, ok := o.pair(s.ID, "of cmp-3"); ok {
				t.Error("a pair of another host's alarm")
			}
		})
	}
}

func TestASubscriptionOfElsewhereFollowsWhatIsSaidThere(t *testing.T) {
	for _, origin := range []Origin{OriginAPI, OriginPeer} {
		t.Run(string(origin), func(t *testing.T) {
			c, dir := newConsumer(t, nil), t.TempDir()
			n, _, stop := clustered(t, dir)
			s := elsewhere(origin, c.URL)
			put(t, n, s, nil)
			n.Publish(effects(alarm("a1", 1, correlate.Raised)))
			c.waitFor(t, 1)

			s.Paused = "an operator at cmp-2"
			put(t, n, s, nil)
			n.Publish(effects(alarm("a1", 2, correlate.Changed)))
			eventually(t, "it is owed", func() bool { return len(n.Deliveries("")) == 1 })
			stop()
			n, o, _ := clustered(t, dir) // whole on disk
			if got := n.Held(); len(got) != 1 || got[0].Paused == "" || got[0].Endpoints[0] != c.URL || got[0].Version != s.Version || got[0].Origin != origin {
				t.Fatalf("%+v", got)
			}
			s.Paused = ""
			s.Filter.MinSeverity = correlate.SeverityMajor
			s.Version++
			put(t, n, s, nil)
			if m := c.waitFor(t, 2)[1]; m.event.ID != NotificationID("a1", rev(2), s.ID, s.Version) {
				t.Errorf("%s", m.body)
			}
			settledAll(t, n)
			if _, err := n.Update(t.Context(), s.ID, SubscriptionPatch{Name: ptr("b")}); (origin == OriginPeer) != errors.Is(err, ErrFromFile) {
				t.Error(err)
			}
			if err := n.Unsubscribe(t.Context(), s.ID); (origin == OriginPeer) != errors.Is(err, ErrFromFile) {
				t.Error(err)
			}
			n.Drop(s.ID)
			n.Drop("unknown")
			if len(n.Subscriptions()) != 0 {
				t.Error("it goes on")
			}
			eventually(t, "its pairs ended", func() bool { _, ok := o.pair(s.ID, "a1"); return !ok })
			if _, err := n.Put(Subscription{ID: "x", Version: 1, Origin: OriginAPI}, nil); !errors.Is(err, ErrInvalid) {
				t.Error(err)
			}
		})
	}
}

// TestAFileTakesOverAndGivesBackWithoutForgetting: what was told stays told, and its clear is owed, whoever names it.
func TestAFileTakesOverAndGivesBackWithoutForgetting(t *testing.T) {
	c, dir := newConsumer(t, nil), t.TempDir()
	n, _, stop := clustered(t, dir)
	s := elsewhere(OriginPeer, c.URL)
	put(t, n, s, nil)
	n.Publish(effects(alarm("a1", 1, correlate.Raised)))
	c.waitFor(t, 1)
	settledAll(t, n)

	if err := n.SetFile([]Subscription{fileSub("a", c.URL)}); err != nil {
		t.Fatal(err)
	}
	if got := n.Subscriptions(); len(got) != 1 || got[0].Origin != OriginFile || got[0].Version != s.Version {
		t.Fatalf("%+v", got)
	}
	n.Drop(s.ID) // no other host names it any more: our file does
	other := elsewhere(OriginPeer, c.URL+"/other")
	other.Paused = "of other contents"
	put(t, n, other, nil)
	if got := n.Held(); len(got) != 1 || got[0].Endpoints[0] != c.URL || got[0].Paused != "" {
		t.Fatalf("the file's word does not count: %+v", got)
	}
	if err := n.SetFile(nil); err != nil {
		t.Fatal(err)
	}
	if len(n.Subscriptions()) != 0 {
		t.Fatal("nobody names it")
	}
	n.Publish(effects(alarm("a1", 2, correlate.Cleared), alarm("a2", 3, correlate.Raised)))
	eventually(t, "it is dispatched", func() bool { return n.in.waiting() == 0 })
	stop()
	n, _, _ = clustered(t, dir) // the file still names nothing
	put(t, n, s, nil)
	late := s
	late.Origin, late.Paused = OriginFile, "of a file that is gone"
	put(t, n, late, nil)
	if got := n.Held()[0]; got.Origin != OriginPeer || got.Paused != "" {
		t.Errorf("%+v", got)
	}
	c.waitFor(t, 3)
	settledAll(t, n)
	if a, b := fmt.Sprint(c.revisions("a1")), fmt.Sprint(c.revisions("a2")); a != "[2.1 2.2]" || b != "[2.3]" {
		t.Errorf("sent %s and %s", a, b)
	}
}

func TestWhatNobodyNamesAnyMoreEndsAfterAWhile(t *testing.T) {
	c := newConsumer(t, nil)
	n, o, _ := clustered(t, t.TempDir(), fileSub("a", c.URL))
	n.Publish(effects(alarm("a1", 1, correlate.Raised)))
	c.waitFor(t, 1)
	settledAll(t, n)
	if err := n.SetFile(nil); err != nil {
		t.Fatal(err)
	}
	if _, pairs := n.Kept(); len(pairs) != 1 || pairs[0].Told != rev(1) {
		t.Fatalf("%v", pairs)
	}
	n.mu.Lock()
	n.purge()
	n.mu.Unlock()
	if _, pairs := n.Kept(); len(pairs) != 0 {
		t.Fatalf("%v", pairs)
	}
	eventually(t, "the peers know", func() bool { _, ok := o.pair(FileID("prod", "a"), "a1"); return !ok })
	n.Publish(effects(alarm("a1", 2, correlate.Cleared)))
	eventually(t, "the alarm is forgotten", func() bool { alarms, _ := n.Kept(); return len(alarms) == 0 })
}

func TestAReceiptOfAnotherHostSettlesWhatIsOwed(t *testing.T) {
	release := make(chan struct{})
	var calls atomic.Int64
	c := newConsumer(t, func(w http.ResponseWriter, _ *http.Request) {
		if calls.Add(1) == 1 {
			<-release
		}
		w.WriteHeader(503)
	})
	n, o, _ := clustered(t, t.TempDir(), fileSub("a", c.URL))
	id := FileID("prod", "a")
	n.Publish(effects(alarm("a1", 1, correlate.Raised)))
	c.waitFor(t, 1) // in flight
	n.Told(id, "a1", rev(1))
	n.Told(id, "unknown", rev(1))
	n.Told("unknown", "a1", rev(1))
	if d := n.Deliveries(""); len(d) != 0 {
		t.Errorf("%+v", d)
	}
	close(release)
	n.Publish(effects(alarm("a1", 2, correlate.Cleared)))
	c.waitFor(t, 2) // answered 503
	n.Told(id, "a1", rev(2))
	eventually(t, "all is forgotten", func() bool {
		alarms, pairs := n.Kept()
		o.mu.Lock()
		defer o.mu.Unlock()
		return len(alarms) == 0 && len(pairs) == 0 && len(o.pairs) == 0 && o.forgot["a1"]
	})
	if got := c.revisions("a1"); got[0] != "2.1" || slices.Contains(got[1:], "2.1") {
		t.Errorf("sent %v", got)
	}
}

// TestASnapshotHoldsTheAlarmsOfAllHosts, in the view that the consumer may have, and the peers learn exactly what it held.
func TestASnapshotHoldsTheAlarmsOfAllHosts(t *testing.T) {
	c := newConsumer(t, nil)
	n, o, _ := clustered(t, t.TempDir())
	far, notMine := alarm("far", 7, correlate.Raised, "p1"), alarm("not mine", 8, correlate.Raised, "p2")
	far.Key.Home, notMine.Key.Home = "cmp-2", "cmp-2"
	o.standing = []*correlate.Alarm{far, notMine}
	n.Publish(effects(alarm("near", 1, correlate.Raised, "p1")))
	eventually(t, "it is known", func() bool { alarms, _ := n.Kept(); return len(alarms) == 1 })
	wish := Subscription{Name: "x", Endpoints: []string{c.URL}, Role: RoleConsumer, Filter: Filter{Projects: []string{"p1"}}, Secret: NewSecret(make([]byte, 32))}
	s, snapshot, err := n.Subscribe(t.Context(), wish, false)
	if err != nil || len(snapshot) != 2 {
		t.Fatalf("%v %v", snapshot, err)
	}
	for _, a := range snapshot {
		if a.Key.Home != "" || a.Key.Resource.Kind() != correlate.KindDomain || a.Evidence != nil {
			t.Errorf("a tenant sees %+v", a)
		}
	}
	if got := fmt.Sprint(o.told); got != "[map[far:2.7 near:2.1]]" || o.published[0].ID != s.ID || o.published[0].Secret.IsZero() {
		t.Errorf("published %s", got)
	}
	if _, pairs := n.Kept(); len(pairs) != 1 || pairs[0].AlarmID != "near" {
		t.Errorf("kept %v", pairs)
	}
	if unknown := put(t, n, o.published[0], o.told[0]); len(unknown) != 0 { // our own word comes back to us
		t.Error(unknown)
	}

	if _, err := n.Update(t.Context(), s.ID, SubscriptionPatch{Name: ptr("y")}); err != nil || o.published[1].Version <= s.Version || o.told[1] != nil {
		t.Errorf("%v %+v", err, o.published)
	}
	before := n.Subscriptions()
	o.fail = errors.New("the disk is full")
	if _, err := n.Update(t.Context(), s.ID, SubscriptionPatch{Name: ptr("z")}); !errors.Is(err, o.fail) {
		t.Error(err)
	}
	if err := n.Unsubscribe(t.Context(), s.ID); !errors.Is(err, o.fail) {
		t.Error(err)
	}
	if _, _, err := n.Subscribe(t.Context(), wish, false); !errors.Is(err, o.fail) {
		t.Error(err)
	}
	if got := n.Subscriptions(); fmt.Sprint(got) != fmt.Sprint(before) {
		t.Errorf("an error has changed %+v into %+v", before, got)
	}
	o.fail = nil
	if err := n.Unsubscribe(t.Context(), s.ID); err != nil || !slices.Equal(o.withdrawn, []string{s.ID}) {
		t.Error(err, o.withdrawn)
	}
}

func TestThePauseOfAFilesSubscriptionIsMadeKnown(t *testing.T) {
	c := newConsumer(t, nil)
	n, o, _ := clustered(t, t.TempDir(), fileSub("a", c.URL))
	id := FileID("prod", "a")
	for i, paused := range []string{"enough", "", ""} { // a resume counts even if it changes nothing here: another host may have been refused
		if _, err := n.Update(t.Context(), id, SubscriptionPatch{Paused: &paused}); err != nil || len(o.published) != i+1 || o.published[i].Paused != paused {
			t.Fatalf("%v %+v", err, o.published)
		}
	}
	s := o.published[2]
	s.Paused = "an operator at cmp-2" // and comes back the same way
	put(t, n, s, nil)
	if got := n.Subscriptions()[0]; got.Paused != s.Paused || got.Origin != OriginFile {
		t.Errorf("%+v", got)
	}
}

func TestARefusalIsToldToThePeersAgainAfterARestartUntilItIsResumed(t *testing.T) {
	c, dir := newConsumer(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(410) }), t.TempDir()
	n, o, stop := clustered(t, dir, fileSub("a", c.URL))
	id := FileID("prod", "a")
	n.Publish(effects(alarm("a1", 1, correlate.Raised)))
	eventually(t, "the peers know", func() bool { return o.refusal(id).reason != "" })
	stop()
	n, o, _ = clustered(t, dir, fileSub("a", c.URL))
	eventually(t, "they know again", func() bool {
		return o.refusal(id) == refusal{FileVersion(fileSub("a", c.URL)), n.Subscriptions()[0].Paused}
	})
	if _, err := n.Update(t.Context(), id, SubscriptionPatch{Filter: nil, Paused: ptr("")}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it is asked again", func() bool { return len(c.messages()) >= 2 })
}

// TestAReimagedHostGoesOnWhereItsFormerLifeEnded, whether its subscriptions come before or after.
func TestAReimagedHostGoesOnWhereItsFormerLifeEnded(t *testing.T) {
	for _, late := range []bool{false, true} {
		t.Run(fmt.Sprint("subscription later ", late), func(t *testing.T) {
			var down atomic.Bool
			c := newConsumer(t, func(w http.ResponseWriter, _ *http.Request) {
				if down.Load() {
					w.WriteHeader(400)
				}
			})
			old, _, stop := clustered(t, t.TempDir())
			s := elsewhere(OriginAPI, c.URL)
			put(t, old, s, nil)
			old.Publish(effects(alarm("told", 1, correlate.Raised), alarm("gone", 2, correlate.Raised)))
			c.waitFor(t, 2)
			settledAll(t, old)
			down.Store(true)
			old.Publish(effects(alarm("owed", 3, correlate.Raised), alarm("gone", 4, correlate.Cleared)))
			eventually(t, "they are parked", func() bool { return len(old.Deliveries(DeliveryParked)) == 2 })
			alarms, pairs := old.Kept()
			stop()
			if len(alarms) != 3 || len(pairs) != 3 {
				t.Fatalf("%v %v", alarms, pairs)
			}
			down.Store(false)

			dir := t.TempDir()
			n, o, stop := clustered(t, dir)
			if !late {
				put(t, n, s, nil)
			}
			n.Adopt(alarms, pairs)
			n.Adopt(alarms, pairs) // twice is once
			if late {
				put(t, n, s, nil)
			}
			if err := n.SetTerm(8); err != nil {
				t.Fatal(err)
			}
			if d := n.Deliveries(DeliveryParked); len(d) != 2 {
				t.Fatalf("%+v", d)
			}
			if tried, err := n.RetryAll(t.Context(), s.ID); tried != 2 || err != nil {
				t.Fatal(tried, err)
			}
			settledAll(t, n)
			eventually(t, "the peers know", func() bool { p, ok := o.pair(s.ID, "owed"); return ok && p.Told == rev(3) })
			stop()
			n, _, _ = clustered(t, dir)
			if r := n.Restored(); r.Term != 10 || len(r.Alarms) != 2 {
				t.Errorf("%+v", r)
			}
			for _, id := range []string{"told", "owed"} {
				a := alarm(id, 1, correlate.Cleared)
				a.Revision.Term = 10
				n.Publish(effects(a))
			}
			eventually(t, "all is over", func() bool { alarms, pairs := n.Kept(); return len(alarms)+len(pairs) == 0 })
			for id, want := range map[string]string{"told": "[2.1 10.1]", "owed": "[2.3 2.3 10.1]", "gone": "[2.2 2.4 2.4]"} { // the second is after the 400
				if got := fmt.Sprint(c.revisions(id)); got != want {
					t.Errorf("%s: sent %s, want %s", id, got, want)
				}
			}
		})
	}
}

// TestAnAdoptedAlarmThatMayHaveBeenToldIsCleared: the disk was lost before the peers heard what became of it. The subscription
// comes when the alarm has ended, or before, with restarts in between.
func TestAnAdoptedAlarmThatMayHaveBeenToldIsCleared(t *testing.T) {
	cleared := func(id string) correlate.Effects {
		a := alarm(id, 1, correlate.Cleared)
		a.Revision.Term, a.Severity = 4, correlate.SeverityCleared
		return effects(a)
	}
	for _, before := range []bool{false, true} {
		for _, restart := range []string{"never", "while it stands", "when it has ended"} {
			t.Run(fmt.Sprintf("subscription before the clear %v, restart %s", before, restart), func(t *testing.T) {
				c := newConsumer(t, nil)
				wants, other := elsewhere(OriginAPI, c.URL), elsewhere(OriginPeer, c.URL)
				wants.Filter.MinSeverity = correlate.SeverityMinor
				other.Filter.Conditions = []correlate.Condition{correlate.CondCrash}
				other.Version = FileVersion(other)
				dir := t.TempDir()
				n, o, stop := clustered(t, dir)
				again := func(when string) {
					if restart == when {
						stop()
						n, o, stop = clustered(t, dir)
					}
				}
				both := func() { put(t, n, wants, nil); put(t, n, other, nil) }
				a := alarm("a1", 1, correlate.Raised)
				n.Adopt([]correlate.Change{{Alarm: a}}, nil)
				if _, pairs := n.Kept(); len(pairs) != 0 {
					t.Errorf("the peers are told of %v", pairs)
				}
				again("while it stands")
				if before {
					both()
				}
				n.Publish(cleared("a1"))
				eventually(t, "the clear is known", func() bool {
					alarms, _ := n.Kept()
					return len(alarms) == 0 || len(alarms) == 1 && !alarms[0].Alarm.Standing()
				})
				again("when it has ended")
				if !before {
					both()
				}
				eventually(t, "the clear is told", func() bool { return slices.Contains(c.revisions("a1"), "4.1") })
				settledAll(t, n)
				put(t, n, wants, nil)
				settledAll(t, n)
				cleared := 0
				for _, m := range c.messages() {
					if m.event.Data.Alarm.Revision == "4.1" {
						cleared++
						if m.event.Data.Subscription != wants.ID {
							t.Errorf("told to %s", m.event.Data.Subscription)
						}
					}
				}
				if cleared != 1 {
					t.Errorf("the clear came %d times", cleared)
				}
				if _, ok := o.pair("", "a1"); ok {
					t.Error("the peers know of a doubt")
				}
				n.mu.Lock()
				n.purge()
				n.mu.Unlock()
				eventually(t, "nothing is left", func() bool { alarms, pairs := n.Kept(); return len(alarms)+len(pairs) == 0 })
			})
		}
	}
}

func TestATermThatIsRaisedOutlivesTheProcessWheneverItIsRaised(t *testing.T) {
	dir := t.TempDir()
	cfg, _ := testConfig(t, dir)
	n, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(n.SetTerm(40), n.SetTerm(6)); err != nil { // before Run; and never lower
		t.Fatal(err)
	}
	n.box.closeQuietly() // kill -9
	n, stop := start(t, cfg)
	if got := n.Restored().Term; got != 42 {
		t.Fatalf("term %d", got)
	}
	eventually(t, "it runs", n.running.Load)
	if err := n.SetTerm(100); err != nil {
		t.Fatal(err)
	}
	stop()
	if n, _ = start(t, cfg); n.Restored().Term != 102 {
		t.Fatalf("term %d", n.Restored().Term)
	}
}

// TestPairsReachThePeersInTheirOrder: the last word about each is what holds here.
func TestPairsReachThePeersInTheirOrder(t *testing.T) {
	c := newConsumer(t, nil)
	n, o, stop := clustered(t, t.TempDir(), fileSub("a", c.URL), fileSub("b", c.URL))
	const alarms = 30
	for i := range uint64(600) {
		last := correlate.Changed
		if i < alarms {
			last = correlate.Raised
		}
		n.Publish(effects(alarm(fmt.Sprint("a", i%alarms), i+1, last)))
	}
	settledAll(t, n)
	_, kept := n.Kept()
	stop()
	if len(kept) != 2*alarms || len(o.pairs) != 2*alarms {
		t.Fatalf("%d kept, %d told", len(kept), len(o.pairs))
	}
	for _, p := range kept {
		if got, _ := o.pair(p.Subscription, p.AlarmID); !reflect.DeepEqual(got, p) || p.Owed != (correlate.Revision{}) {
			t.Errorf("the peers know %+v, it is %+v", got, p)
		}
	}
}

// TestAHostThatIsAloneAgainForgetsWhatOtherHostsFilesNamed, for nobody would ever end it; what the API made goes on.
func TestAHostThatIsAloneAgainForgetsWhatOtherHostsFilesNamed(t *testing.T) {
	c := newConsumer(t, nil)
	dir := t.TempDir()
	cfg, _ := testConfig(t, dir)
	cfg.Peers = newOthers()
	n, stop := start(t, cfg)
	made, theirs := elsewhere(OriginAPI, c.URL), elsewhere(OriginPeer, c.URL)
	theirs.ID, theirs.Name = FileID("prod", "theirs"), "theirs"
	put(t, n, made, nil)
	put(t, n, theirs, nil)
	stop()
	for range 2 { // the second time from the disk
		cfg, _ = testConfig(t, dir)
		n, stop = start(t, cfg)
		if got := n.Held(); len(got) != 1 || got[0].ID != made.ID {
			t.Errorf("%+v", got)
		}
		stop()
	}
}
