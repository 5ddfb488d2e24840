package agent

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/paramedic-ha/paramedic/agent/api"
	"github.com/paramedic-ha/paramedic/agent/history"
	"github.com/paramedic-ha/paramedic/correlate"
	"github.com/paramedic-ha/paramedic/notify"
)

// homeWord is what the home of an alarm says: its newest revision, or nothing any more.
type homeWord struct {
	alarm *correlate.Alarm
	gone  bool
}

// mirror is an agent that hears of the alarms of others, late and with gaps, as a ledger does: what stands it knows a moment before
// its feed is told.
type mirror struct {
	api.Backend // nil: a stream needs no more than what is below
	dir         string
	past        *history.Store
	stop        func()

	telling sync.Mutex

	mu     sync.Mutex
	term   uint64
	engine *correlate.Engine
	feed   *feed
	alarms map[string]*correlate.Alarm
	heard  []homeWord // not learned yet
	untold []homeWord // learned, and not in the feed
	room   int        // of the feed
	amid   func()     // called while somebody has looked at what stands, and not used it
}

func (m *mirror) Starting() bool          { return false }
func (m *mirror) History() *history.Store { return m.past }
func (m *mirror) Newest() uint64          { return m.feed.newest() }
func (m *mirror) Cluster() api.Cluster    { return mirrored{m: m} }

func (m *mirror) Notify() notify.Service { return unmuted{} }

func (m *mirror) Changes(after uint64) ([]api.SeqChange, <-chan struct{}, bool) {
	return m.feed.after(after)
}

func (m *mirror) Query(_ context.Context, f func(*correlate.Engine)) error {
	f(m.engine)
	return nil
}

// unmuted is a notifier of which a stream asks only what is muted.
type unmuted struct{ notify.Service }

func (unmuted) Muted() func(*correlate.Alarm) (notify.Mute, bool) {
	return func(*correlate.Alarm) (notify.Mute, bool) { return notify.Mute{}, false }
}

type mirrored struct {
	api.Cluster // nil
	m           *mirror
}

func (c mirrored) AsOf() func(string) time.Time { return func(string) time.Time { return time.Time{} } }

func (c mirrored) Alarms() []*correlate.Alarm {
	c.m.mu.Lock()
	all := slices.Collect(maps.Values(c.m.alarms))
	amid := c.m.amid
	c.m.mu.Unlock()
	amid()
	return all
}

func (m *mirror) socket() string { return filepath.Join(m.dir, fmt.Sprint(m.term)) }

// begin starts a run: the feed is empty, and hears of all that is known.
func (m *mirror) begin(t *testing.T) {
	m.term += 2
	m.engine = correlate.New(correlate.Config{Home: "cmp-1", Term: m.term}, nil)
	m.feed = newFeed(m.past)
	m.feed.changes = newRing[api.SeqChange](m.room)
	m.untold = nil
	for _, a := range m.alarms {
		m.untold = append(m.untold, homeWord{alarm: a})
	}
	m.tell()
	server, err := api.New(api.Config{
		Backend: m, Node: filepath.Base(m.dir), Socket: m.socket(), Gatherer: prometheus.NewRegistry(),
		Log: slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelError})),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- server.Run(ctx) }()
	m.stop = func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

// learn takes up to n words into the ledger. Of several about one alarm the last counts.
func (m *mirror) learn(n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n = min(n, len(m.heard))
	for i, w := range m.heard[:n] {
		id := w.alarm.ID
		if slices.ContainsFunc(m.heard[i+1:n], func(o homeWord) bool { return o.alarm.ID == id }) {
			continue
		}
		_, stood := m.alarms[id]
		if w.gone || !w.alarm.Standing() {
			delete(m.alarms, id)
		} else {
			m.alarms[id] = w.alarm
		}
		if !w.gone || stood {
			m.untold = append(m.untold, w)
		}
	}
	m.heard = m.heard[n:]
}

// tell tells the feed what was learned; one at a time does.
func (m *mirror) tell() {
	m.telling.Lock()
	defer m.telling.Unlock()
	m.mu.Lock()
	untold := m.untold
	m.untold = nil
	m.mu.Unlock()
	for _, w := range untold {
		if w.gone {
			m.feed.addVanished([]string{w.alarm.ID})
		} else {
			m.feed.addChanges([]correlate.Change{{Alarm: w.alarm}})
		}
	}
}

// keeper is a client that keeps alarms by the rules of docs/api.md.
type keeper struct {
	path  string
	last  string
	end   func()
	fresh map[string]bool

	mu    sync.Mutex
	kept  map[string]correlate.Revision
	ended map[string]correlate.Revision
	given map[string]correlate.Revision // in this connection, since the last reset
	wrong error
}

// connect follows an agent until end is called.
func (k *keeper) connect(socket string) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	k.end = func() {
		cancel()
		<-done
	}
	k.fresh, k.given = nil, make(map[string]correlate.Revision)
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}}
	go func() {
		defer close(done)
		defer transport.CloseIdleConnections()
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://agent"+k.path, nil)
		if err != nil {
			k.fail(err)
			return
		}
		if k.last != "" {
			request.Header.Set("Last-Event-ID", k.last)
		}
		response, err := (&http.Client{Transport: transport}).Do(request)
		if err != nil {
			return // cut, or the agent has gone
		}
		defer response.Body.Close()
		if response.StatusCode != http.StatusOK {
			k.fail(fmt.Errorf("the stream is refused: %s", response.Status))
			return
		}
		lines := bufio.NewScanner(response.Body)
		lines.Buffer(nil, 1<<20)
		var name, id, data string
		for lines.Scan() {
			field, value, _ := strings.Cut(lines.Text(), ": ")
			switch field {
			case "event":
				name = value
			case "id":
				id = value
			case "data":
				data = value
			case "":
				k.take(name, id, data)
				name, id, data = "", "", ""
			}
		}
	}()
}

func (k *keeper) fail(err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.wrong == nil {
		k.wrong = err
	}
}

func (k *keeper) take(name, id, data string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if id != "" {
		k.last = id
	}
	switch name {
	case "alarm":
		var w api.WatchEvent
		_ = json.Unmarshal([]byte(data), &w)
		r, err := correlate.ParseRevision(w.Alarm.Revision)
		if err != nil || w.Alarm.ID == "" || w.Snapshot != (k.fresh != nil) {
			k.wrong = fmt.Errorf("event %s: %w", data, err)
			return
		}
		if k.fresh != nil {
			k.fresh[w.Alarm.ID] = true
		}
		if given, twice := k.given[w.Alarm.ID]; twice && r.Compare(given) <= 0 {
			k.wrong = fmt.Errorf("it is given %s of %s after %s", r, w.Alarm.ID, given)
			return
		}
		k.given[w.Alarm.ID] = r
		if old := max2(k.kept[w.Alarm.ID], k.ended[w.Alarm.ID]); r.Compare(old) < 0 {
			return
		}
		delete(k.kept, w.Alarm.ID)
		if w.Transition == "cleared" {
			k.ended[w.Alarm.ID] = r
		} else {
			k.kept[w.Alarm.ID] = r
		}
	case "gone":
		var g api.WatchGone
		_ = json.Unmarshal([]byte(data), &g)
		delete(k.kept, g.ID)
	case "reset":
		k.fresh, k.given = make(map[string]bool), make(map[string]correlate.Revision)
	case "synced":
		maps.DeleteFunc(k.kept, func(id string, _ correlate.Revision) bool { return !k.fresh[id] })
		k.fresh = nil
	}
}

func max2(a, b correlate.Revision) correlate.Revision {
	if a.Compare(b) > 0 {
		return a
	}
	return b
}

// Whatever happens to the alarms, to the agents and to the connection: who keeps to the rules has in the end what stands.
func TestWhoFollowsAStreamHasTheTruthInTheEnd(t *testing.T) {
	for seed := range uint64(25) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			follow(t, rand.New(rand.NewPCG(seed, 1)))
		})
	}
}

func follow(t *testing.T, random *rand.Rand) {
	dir := t.TempDir()
	var agents []*mirror
	for i := range 2 {
		m := &mirror{dir: filepath.Join(dir, fmt.Sprint("cmp-", i)), past: remembering(), alarms: make(map[string]*correlate.Alarm), room: 5}
		if random.IntN(2) == 0 {
			m.room = 1000
		}
		chance := rand.New(rand.NewPCG(random.Uint64(), 1))
		m.amid = func() {
			m.mu.Lock()
			n := chance.IntN(4)
			m.mu.Unlock()
			if n > 0 {
				m.learn(n)
				m.tell()
			}
		}
		m.begin(t)
		t.Cleanup(func() { m.stop() })
		agents = append(agents, m)
	}
	severities := []correlate.Severity{correlate.SeverityWarning, correlate.SeverityMajor, correlate.SeverityCritical}
	least := correlate.SeverityUnset
	k := &keeper{path: "/v1/watch?snapshot=true", kept: make(map[string]correlate.Revision), ended: make(map[string]correlate.Revision), end: func() {}}
	if random.IntN(2) == 0 {
		least = correlate.SeverityMajor
		k.path += "&min_severity=major"
	}
	truth := make(map[string]*correlate.Alarm)
	counter := uint64(0)
	say := func(id string, last correlate.Transition, severity correlate.Severity, gone bool) {
		counter++
		now := time.Now()
		a := &correlate.Alarm{
			ID: id, Key: correlate.Key{Home: "cmp-9", Resource: "nic/eth0", Condition: correlate.CondCarrier}, Last: last,
			Revision: correlate.Revision{Term: 4, Counter: counter}, Severity: severity, Times: correlate.Times{Raised: now, Changed: now},
		}
		if truth[id] = a; gone || last == correlate.Cleared {
			a.Times.Cleared = now
			delete(truth, id)
		}
		for _, m := range agents {
			m.mu.Lock()
			m.heard = append(m.heard, homeWord{a, gone})
			m.mu.Unlock()
		}
	}
	pick := func() string {
		ids := slices.Sorted(maps.Keys(truth))
		if len(ids) == 0 {
			return ""
		}
		return ids[random.IntN(len(ids))]
	}
	next := 0
	var at *mirror // where the client is; nil: nowhere any more
	for range 150 {
		m := agents[random.IntN(len(agents))]
		switch n := random.IntN(20); {
		case n < 3:
			next++
			say(fmt.Sprint("a", next), correlate.Raised, severities[random.IntN(3)], false)
		case n < 6:
			if id := pick(); id != "" {
				say(id, correlate.Changed, severities[random.IntN(3)], false)
			}
		case n < 8:
			if id := pick(); id != "" {
				say(id, correlate.Cleared, correlate.SeverityCleared, false)
			}
		case n == 8:
			if id := pick(); id != "" {
				say(id, correlate.Changed, correlate.SeverityMajor, true)
			}
		case n < 13:
			m.learn(random.IntN(6))
		case n < 16:
			m.tell()
		case n == 16:
			if random.IntN(3) > 0 {
				break
			}
			if m.stop(); at == m {
				at = nil
			}
			m.mu.Lock()
			if random.IntN(2) == 0 {
				m.past = remembering() // its disk is new
			}
			m.mu.Unlock()
			m.begin(t)
		case n < 19:
			k.end()
			k.connect(m.socket())
			at = m
		default:
			time.Sleep(time.Duration(random.IntN(3)) * time.Millisecond) //nolint:forbidigo // the client reads meanwhile, in real time
		}
	}
	want := make(map[string]correlate.Revision)
	for id, a := range truth {
		if a.Severity >= least {
			want[id] = a.Revision
		}
	}
	for _, m := range agents {
		m.learn(int(counter))
		m.tell()
	}
	if at == nil || random.IntN(4) == 0 {
		k.end()
		k.connect(agents[random.IntN(2)].socket())
	}
	defer func() { k.end() }()
	var got map[string]correlate.Revision
	defer func() {
		if t.Failed() {
			t.Logf("it keeps %v, and what stands is %v", got, want)
		}
	}()
	eventually(t, "it keeps what stands", func() bool {
		k.mu.Lock()
		defer k.mu.Unlock()
		if k.wrong != nil {
			t.Fatal(k.wrong)
		}
		got = maps.Clone(k.kept)
		return maps.Equal(got, want)
	})
}
