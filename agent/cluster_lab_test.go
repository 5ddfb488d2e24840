package agent

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/paramedic-ha/paramedic/agent/config"
	"github.com/paramedic-ha/paramedic/agent/seal"
	"github.com/paramedic-ha/paramedic/correlate"
	"github.com/paramedic-ha/paramedic/gossip"
	"github.com/paramedic-ha/paramedic/gossip/loopback"
	"github.com/paramedic-ha/paramedic/hw"
	"github.com/paramedic-ha/paramedic/notify"
)

// patience is for what takes milliseconds on a quiet machine.
const patience = time.Minute

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
		net: loopback.Network(t),
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
notify: {dir: %s, allow_callbacks: [127.0.0.0/8]}
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
	d.Events = slices.Clone(d.Events) // the queue writes in them, and two hosts may be told the same
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
	for _, a := range h.Cluster().Alarms() {
		if a.Key.Home == home && a.Key.Condition == correlate.CondCarrier {
			return a
		}
	}
	return nil
}
