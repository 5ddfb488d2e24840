package notify

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/paramedic-ha/paramedic/correlate"
	"github.com/paramedic-ha/paramedic/notify/delivery"
	"github.com/paramedic-ha/paramedic/notify/format"
)

// manager is a VNF manager that keeps a list of alarms by what it is told, as SOL has it.
type manager struct {
	*httptest.Server
	status   atomic.Int32 // of a POST; 0: 204
	probe    atomic.Int32 // of a GET; 0: 204
	probed   atomic.Int32
	mu       sync.Mutex
	notes    []solNote
	standing map[string]string // alarm → managed object
}

type solNote struct {
	ID           string
	Type         string `json:"notificationType"`
	Subscription string `json:"subscriptionId"`
	AlarmID      string `json:"alarmId"`
	Alarm        struct {
		ID       string
		Object   string   `json:"managedObjectId"`
		Severity string   `json:"perceivedSeverity"`
		VNFCs    []string `json:"vnfcInstanceIds"`
	}
	body string
}

func newManager(t testing.TB) *manager {
	m := &manager{standing: map[string]string{}}
	m.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			m.probed.Add(1)
			w.WriteHeader(int(or(m.probe.Load(), http.StatusNoContent)))
			return
		}
		body, _ := io.ReadAll(r.Body)
		note := solNote{body: string(body)}
		if err := json.Unmarshal(body, &note); err != nil {
			t.Errorf("%v: %s", err, body)
		}
		m.take(note)
		w.WriteHeader(int(or(m.status.Load(), http.StatusNoContent)))
	}))
	t.Cleanup(m.Close)
	return m
}

func or(v, otherwise int32) int32 {
	if v == 0 {
		return otherwise
	}
	return v
}

func (m *manager) take(n solNote) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.notes = append(m.notes, n)
	if m.status.Load() >= 300 {
		return
	}
	switch n.Type {
	case format.SOLAlarmNotification:
		m.standing[n.Alarm.ID] = n.Alarm.Object
	case format.SOLClearedNotification:
		delete(m.standing, n.AlarmID)
	}
}

// objects are those that have an alarm, sorted; one with two stands twice.
func (m *manager) objects() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	var all []string
	for _, o := range m.standing {
		all = append(all, o)
	}
	slices.Sort(all)
	return strings.Join(all, " ")
}

func (m *manager) told(kind string) (notes []solNote) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, n := range m.notes {
		if n.Type == kind {
			notes = append(notes, n)
		}
	}
	return notes
}

func solSub(name, url string) Subscription {
	s := fileSub(name, url)
	s.Format = formatSOL
	return s
}

// ofVNFs is a revision that hits a machine of each VNF named; "" is a machine of none.
func ofVNFs(a *correlate.Alarm, vnfs ...string) *correlate.Alarm {
	for i, id := range vnfs {
		d := alarm("", 1, correlate.Raised, slices.Repeat([]string{"p1"}, len(vnfs))...).Affected[i]
		d.VNF.ID = id
		a.Affected = append(a.Affected, d)
	}
	return a
}

func TestAVNFManagerKnowsWhichVNFsAFaultHits(t *testing.T) {
	m := newManager(t)
	cfg, _ := testConfig(t, t.TempDir())
	n, _ := start(t, cfg, solSub("vnfm", m.URL))
	n.Publish(effects(ofVNFs(alarm("a1", 1, correlate.Raised), "vnf-b", "vnf-a", "vnf-a", "")))
	const nameless = "00000000-0000-4000-8000-000000000003"
	eventually(t, "three alarms stand", func() bool { return m.objects() == nameless+" vnf-a vnf-b" })
	n.Publish(effects(ofVNFs(alarm("a1", 2, correlate.Changed), "vnf-b")))
	eventually(t, "the fault has left two", func() bool { return m.objects() == "vnf-b" })
	settledAll(t, n)
	n.Publish(effects(ofVNFs(alarm("a2", 3, correlate.Raised), "vnf-b")))
	eventually(t, "another fault is another alarm", func() bool { return m.objects() == "vnf-b vnf-b" })
	n.Publish(effects(alarm("a1", 4, correlate.Cleared), alarm("a2", 5, correlate.Cleared)))
	eventually(t, "nothing is left", func() bool { return m.objects() == "" })
	settledAll(t, n)
	if raised, cleared := m.told(format.SOLAlarmNotification), m.told(format.SOLClearedNotification); len(raised) != 4 || len(cleared) != 4 {
		t.Errorf("%d raised, %d cleared", len(raised), len(cleared))
	}
	if list := format.SOLAlarmID("a1", "vnf-a"); m.told(format.SOLAlarmNotification)[0].Alarm.ID != list &&
		m.told(format.SOLAlarmNotification)[1].Alarm.ID != list && m.told(format.SOLAlarmNotification)[2].Alarm.ID != list {
		t.Errorf("no notification has the id %s", list)
	}
}

func TestAnyGoodAnswerSettlesANotificationOfSOL(t *testing.T) {
	m := newManager(t)
	cfg, _ := testConfig(t, t.TempDir())
	n, _ := start(t, cfg, solSub("vnfm", m.URL))
	for i, status := range []int32{200, 201, 202, 204} {
		m.status.Store(status)
		n.Publish(effects(ofVNFs(alarm("a", uint64(i+1), correlate.Changed), strings.Repeat("x", i+1))))
		eventually(t, "it is told", func() bool { return m.objects() == strings.Repeat("x", i+1) })
	}
	settledAll(t, n)
}

func TestASOLCallbackIsTestedByAGet(t *testing.T) {
	m := newManager(t)
	cfg, _ := testConfig(t, t.TempDir())
	n, _ := start(t, cfg)
	for _, status := range []int32{200, 404, 302} {
		m.probe.Store(status)
		if _, _, err := n.Subscribe(t.Context(), solSub("vnfm", m.URL), true); !errors.Is(err, ErrVerification) || !strings.Contains(err.Error(), "want 204") {
			t.Errorf("%d: %v", status, err)
		}
	}
	m.probe.Store(0)
	s, _, err := n.Subscribe(t.Context(), solSub("vnfm", m.URL), true)
	if err != nil || !s.Verified || m.probed.Load() != 4 {
		t.Fatalf("%+v, %v, asked %d times", s, err, m.probed.Load())
	}
	gone := newManager(t)
	gone.probe.Store(500)
	if _, err := n.Update(t.Context(), s.ID, SubscriptionPatch{Endpoints: &[]string{gone.URL}}); !errors.Is(err, ErrVerification) {
		t.Errorf("other endpoints: %v", err)
	}
}

// TestWhoFollowsIsSentWhatStands: SOL's answer to a subscription has no room for a snapshot.
func TestWhoFollowsIsSentWhatStands(t *testing.T) {
	m := newManager(t)
	n, o, _ := clustered(t, t.TempDir())
	n.Publish(effects(ofVNFs(alarm("a1", 1, correlate.Raised), "vnf-a")))
	eventually(t, "it is known", func() bool { known, _ := n.Kept(); return len(known) == 1 })
	o.standing = []*correlate.Alarm{guest("g", 1, correlate.Raised)}
	s, err := n.Follow(t.Context(), solSub("vnfm", m.URL), true)
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "it is sent", func() bool { return m.objects() == "vnf-a" })
	if len(o.published) != 1 || o.published[0].ID != s.ID || len(o.told[0]) != 0 {
		t.Errorf("the peers hear of %v that %v is told", o.published, o.told)
	}
}

func TestWhatAVNFManagerDoesNotAskForIsNotSent(t *testing.T) {
	all, ends, vnf, grave := newManager(t), newManager(t), newManager(t), newManager(t)
	cfg, _ := testConfig(t, t.TempDir())
	only := func(name string, m *manager, f Filter) Subscription { s := solSub(name, m.URL); s.Filter = f; return s }
	n, _ := start(t, cfg, solSub("all", all.URL),
		only("ends", ends, Filter{SOL: SOLFilter{NotificationTypes: []string{format.SOLClearedNotification}}}),
		only("vnf", vnf, Filter{VNFs: []string{"vnf-b"}}),
		only("grave", grave, Filter{SOL: SOLFilter{PerceivedSeverities: []string{"CRITICAL"}}}))
	mild := ofVNFs(alarm("a1", 1, correlate.Raised), "vnf-a", "vnf-b")
	mild.Severity = correlate.SeverityMinor
	n.Publish(effects(mild))
	eventually(t, "both are told to all", func() bool { return all.objects() == "vnf-a vnf-b" && vnf.objects() == "vnf-b" })
	n.Publish(effects(ofVNFs(alarm("a1", 2, correlate.Changed), "vnf-a", "vnf-b")))
	eventually(t, "it has become grave", func() bool { return grave.objects() == "vnf-a vnf-b" })
	mild = ofVNFs(alarm("a1", 3, correlate.Changed), "vnf-a", "vnf-b")
	mild.Severity = correlate.SeverityMinor
	n.Publish(effects(mild))
	eventually(t, "who was told is kept up to date", func() bool { return len(grave.told(format.SOLAlarmNotification)) == 4 })
	settledAll(t, n)
	n.Publish(effects(alarm("a1", 4, correlate.Cleared)))
	eventually(t, "the end is told", func() bool {
		return len(ends.told(format.SOLClearedNotification)) == 2 && grave.objects() == "" && vnf.objects() == ""
	})
	settledAll(t, n)
	if got := ends.told(format.SOLAlarmNotification); len(got) != 0 {
		t.Errorf("sent %v", got)
	}
}

// TestWhoTakesOverHasTheListReadAnew, once, by those alone to whom the lost host had told something; until it is taken, over a restart too.
func TestWhoTakesOverHasTheListReadAnew(t *testing.T) {
	hit, other, deaf, native := newManager(t), newManager(t), newManager(t), newConsumer(t, nil)
	narrow := solSub("other", other.URL)
	narrow.Filter.VNFs = []string{"vnf-z"}
	silent := solSub("deaf", deaf.URL)
	silent.Filter.SOL.NotificationTypes = []string{format.SOLAlarmNotification}
	dir := t.TempDir()
	hit.status.Store(http.StatusServiceUnavailable)
	n, _, stop := clustered(t, dir, solSub("hit", hit.URL), narrow, silent, fileSub("native", native.URL))
	n.Speak(changes(ofVNFs(guest("g", 1, correlate.Raised), "vnf-a")), nil)
	eventually(t, "it is tried", func() bool { return len(hit.told(format.SOLRebuiltNotification)) > 0 })
	n.Speak(changes(ofVNFs(guest("h", 2, correlate.Raised), "vnf-a")), nil)
	eventually(t, "the rest is told", func() bool {
		return len(deaf.told(format.SOLAlarmNotification)) == 2 && len(native.revisions("h")) == 1
	})
	stop()
	before := hit.told(format.SOLRebuiltNotification)
	hit.status.Store(0)
	_, _, _ = clustered(t, dir, solSub("hit", hit.URL), narrow, silent, fileSub("native", native.URL))
	eventually(t, "it is tried again", func() bool { return len(hit.told(format.SOLRebuiltNotification)) > len(before) })
	for _, note := range hit.told(format.SOLRebuiltNotification) {
		if note.ID != before[0].ID || note.Subscription != FileID("prod", "hit") || !strings.Contains(note.body, `"alarms":{"href":"/vnffm/v1/alarms"}`) {
			t.Errorf("sent %s", note.body)
		}
	}
	for _, m := range []*manager{other, deaf} {
		if got := m.told(format.SOLRebuiltNotification); len(got) != 0 {
			t.Errorf("sent %v", got)
		}
	}
}

func TestADamagedOutboxHasTheListReadAnew(t *testing.T) {
	m := newManager(t)
	dir := t.TempDir()
	cfg, _ := testConfig(t, dir)
	n, stop := start(t, cfg, solSub("vnfm", m.URL))
	n.Publish(effects(ofVNFs(alarm("a1", 1, correlate.Raised), "vnf-a")))
	eventually(t, "it is told", func() bool { return m.objects() == "vnf-a" })
	settledAll(t, n)
	stop()
	_, stop = start(t, cfg, solSub("vnfm", m.URL))
	stop()
	if got := m.told(format.SOLRebuiltNotification); len(got) != 0 {
		t.Fatalf("a restart alone: %v", got)
	}
	if err := os.WriteFile(filepath.Join(dir, dbName), []byte("this is no database at all"), 0o600); err != nil {
		t.Fatal(err)
	}
	start(t, cfg, solSub("vnfm", m.URL))
	eventually(t, "it is said", func() bool { return len(m.told(format.SOLRebuiltNotification)) == 1 })
}

// TestWhoeverTellsAVNFManagerUsesTheSameIds: the home, a peer that delivers in its place, and one that speaks for it when it is lost.
func TestWhoeverTellsAVNFManagerUsesTheSameIds(t *testing.T) {
	m := newManager(t)
	home, peer, _, _, _ := cutOff(t, solSub("vnfm", m.URL))
	home.Publish(effects(ofVNFs(alarm("a1", 1, correlate.Raised), "vnf-a", "vnf-b")))
	eventually(t, "the peer tells both", func() bool { return m.objects() == "vnf-a vnf-b" })
	settledAll(t, home)
	peer.Speak(changes(ofVNFs(alarm("a1", 2, correlate.Changed), "vnf-a")), []Pair{{
		Subscription: FileID("prod", "vnfm"), AlarmID: "a1", Told: rev(1), Owed: rev(2), Left: []delivery.Part{{ID: "vnf-b"}},
	}})
	eventually(t, "the fault has left the one", func() bool { return m.objects() == "vnf-a" })
	settledAll(t, peer)
	direct, c := newManager(t), alarm("a1", 3, correlate.Cleared)
	cfg, _ := testConfig(t, t.TempDir())
	alone, _ := start(t, cfg, solSub("vnfm", direct.URL))
	alone.Publish(effects(ofVNFs(alarm("a1", 1, correlate.Raised), "vnf-a", "vnf-b")))
	eventually(t, "the home itself tells both", func() bool { return direct.objects() == "vnf-a vnf-b" })
	ids := func(m *manager) (ids []string) {
		for _, n := range m.told(format.SOLAlarmNotification) {
			if n.Alarm.Severity == "CRITICAL" && strings.Contains(n.body, `"revision=2.1"`) {
				ids = append(ids, n.ID+" "+n.Alarm.ID+" "+n.Subscription)
			}
		}
		slices.Sort(ids)
		return ids
	}
	if a, b := ids(m), ids(direct); len(a) != 2 || !slices.Equal(a, b) {
		t.Errorf("by a peer %v, by the home %v", a, b)
	}
	peer.Speak(changes(c), nil)
	eventually(t, "the end is told", func() bool { return m.objects() == "" })
}
