package cluster

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/paramedic-ha/paramedic/agent/e2e/lab"
)

// patience is how long a test waits for what must come and has no promise of its own; in practice it takes far less.
const patience = time.Minute

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// within polls until ok, and says at the end what was seen instead. It returns how long it took.
func within(t *testing.T, limit time.Duration, what string, ok func() error) time.Duration {
	t.Helper()
	began := time.Now()
	for {
		err := ok()
		if err == nil {
			return time.Since(began)
		}
		if time.Since(began) > limit {
			t.Fatalf("waited %v for %s; last: %v", limit, what, err)
		}
		<-time.After(10 * time.Millisecond)
	}
}

// settings are what differs between the agents of the lab.
type settings struct {
	name, bind, label    string
	join                 []string
	gossipKey, secretKey string // the files' contents
	subscriptions        []*consumer
	more                 string // as it stands
}

// seeds are whom an agent looks for unless a test says otherwise.
var seeds = []string{"10.99.0.1", "10.99.0.2:7946", "10.99.0.3"}

func (w *world) settings(m *machine) settings {
	return settings{name: m.Name, bind: m.addr(), label: "lab", join: seeds, gossipKey: w.gossipKey, secretKey: w.secretKey}
}

const (
	gossipKeyFile = lab.Dir + "/gossip.key"
	secretKeyFile = lab.Dir + "/secrets.key"
)

// configuration writes the files that the configuration names, and returns it.
func (m *machine) configuration(t *testing.T, s settings) string {
	t.Helper()
	must(t, m.WriteFile(gossipKeyFile, s.gossipKey, 0o600))
	must(t, m.WriteFile(secretKeyFile, s.secretKey, 0o600))
	var y strings.Builder
	fmt.Fprintf(&y, "node: {name: %s}\napi: {socket: %s}\nlog: {level: debug}\n", s.name, lab.Socket)
	fmt.Fprintf(&y, "cluster: {bind: '%s', join: ['%s'], label: %s, key_file: %s, secrets_key_file: %s}\n",
		s.bind, strings.Join(s.join, "', '"), s.label, gossipKeyFile, secretKeyFile)
	y.WriteString("hw: {nic: {include: ['uplink*']}, virt: {disabled: true}}\n")
	fmt.Fprintf(&y, "notify:\n  dir: %s\n", lab.StateDir)
	for i, c := range s.subscriptions {
		if i == 0 {
			y.WriteString("  subscriptions:\n")
		}
		file := lab.Dir + "/secret-" + c.name
		must(t, m.WriteFile(file, c.secret(), 0o600))
		fmt.Fprintf(&y, "  - {name: %s, endpoints: ['%s'], secret_file: %s}\n", c.name, c.URL, file)
	}
	return y.String() + s.more
}

// agent is the binary under test on one machine.
type agent struct {
	*lab.Agent
	*machine
	t *testing.T
}

// prepare makes an agent without a former life; it is not started.
func prepare(t *testing.T, m *machine, s settings) *agent {
	t.Helper()
	must(t, os.RemoveAll(m.Path(lab.StateDir)))
	a, err := m.NewAgent(w.bin, m.configuration(t, s))
	must(t, err)
	ag := &agent{Agent: a, machine: m, t: t}
	t.Cleanup(func() {
		if log := a.Log(); t.Failed() || strings.Contains(log, "panic:") || strings.Contains(log, "DATA RACE") {
			t.Logf("the log of %s's agent:\n%s", m.Name, tail(log))
		}
		if strings.Contains(a.Log(), "panic:") || strings.Contains(a.Log(), "DATA RACE") {
			t.Errorf("%s's agent panicked or raced", m.Name)
		}
	})
	t.Cleanup(ag.end)
	return ag
}

// end stops the agent if it runs.
func (a *agent) end() {
	if a.Process() == nil {
		return
	}
	select {
	case <-a.Process().Exited():
	default:
		if err := a.Stop(); err != nil {
			a.t.Errorf("%s's agent did not stop well: %v", a.Name, err)
		}
	}
}

func tail(s string) string {
	const most = 12000
	if len(s) > most {
		s = "…" + s[len(s)-most:]
	}
	return s
}

// agents are some of a cluster, in the order of their machines unless a test says otherwise.
type agents []*agent

// form starts agents on the first n machines, all at once, and returns when they know each other.
func form(t *testing.T, n int, edit ...func(m *machine, s *settings)) agents {
	t.Helper()
	w.heal(t)
	var all agents
	for _, m := range w.machines[:n] {
		s := w.settings(m)
		for _, e := range edit {
			e(m, &s)
		}
		all = append(all, prepare(t, m, s))
	}
	all.start()
	t.Cleanup(func() { all.each((*agent).end) }) // all at once; what prepare cleans up comes after
	all.meet(patience)
	return all
}

// each does it to all at once.
func (as agents) each(do func(*agent)) {
	var wg sync.WaitGroup
	for _, a := range as {
		wg.Go(func() { do(a) })
	}
	wg.Wait()
}

func (as agents) try(do func(*agent) error) {
	as[0].t.Helper()
	errs := make(chan error, len(as))
	as.each(func(a *agent) { errs <- do(a) })
	for range as {
		must(as[0].t, <-errs)
	}
}

// start starts all at once and waits until they are ready.
func (as agents) start() { as[0].t.Helper(); as.try(func(a *agent) error { return a.Start() }) }

// kill is a power cut: nobody says goodbye.
func (as agents) kill() { as[0].t.Helper(); as.try(func(a *agent) error { return a.Kill() }) }

func (as agents) names() []string {
	var names []string
	for _, a := range as {
		names = append(names, a.Name)
	}
	slices.Sort(names)
	return names
}

func (as agents) hosts() []*lab.Host {
	var hosts []*lab.Host
	for _, a := range as {
		hosts = append(hosts, a.machine.Host)
	}
	return hosts
}

// meet waits until all agents say the same: these are the members, these alarms stand, these are the subscriptions, in
// whatever version.
func (as agents) meet(limit time.Duration) time.Duration {
	as[0].t.Helper()
	return as.agree(limit, func(x, y view) bool {
		return slices.Equal(slices.Sorted(maps.Keys(x.subscriptions)), slices.Sorted(maps.Keys(y.subscriptions)))
	})
}

// level is meet, with the versions.
func (as agents) level(limit time.Duration) time.Duration {
	as[0].t.Helper()
	return as.agree(limit, func(x, y view) bool { return maps.Equal(x.subscriptions, y.subscriptions) })
}

func (as agents) agree(limit time.Duration, same func(x, y view) bool) time.Duration {
	as[0].t.Helper()
	want := as.names()
	return within(as[0].t, limit, fmt.Sprintf("%d agents to be level", len(as)), func() error {
		first, err := as[0].view()
		if err != nil {
			return err
		}
		if !slices.Equal(first.members, want) {
			return fmt.Errorf("%s sees the members %v, want %v", as[0].Name, first.members, want)
		}
		for _, a := range as[1:] {
			v, err := a.view()
			if err != nil {
				return err
			}
			if !slices.Equal(v.members, want) || !maps.Equal(v.alarms, first.alarms) || !same(v, first) {
				return fmt.Errorf("%s sees\n%+v,\n%s sees\n%+v", as[0].Name, first, a.Name, v)
			}
		}
		return nil
	})
}

// view is what one agent says of the whole cluster.
type view struct {
	members       []string
	alarms        map[string]string // id → revision
	subscriptions map[string]string // id → version, and what stopped it
}

func (a *agent) view() (view, error) {
	v := view{alarms: map[string]string{}, subscriptions: map[string]string{}}
	hosts, err := a.clusterHosts()
	if err != nil {
		return v, err
	}
	for _, h := range hosts {
		if h.State == "member" {
			v.members = append(v.members, h.Name)
		}
	}
	slices.Sort(v.members)
	standing, err := a.standing()
	if err != nil {
		return v, err
	}
	for _, s := range standing {
		v.alarms[s.ID] = s.Revision
	}
	subs, err := a.subscriptions()
	if err != nil {
		return v, err
	}
	for _, s := range subs {
		v.subscriptions[s.ID] = fmt.Sprint(s.Version, " ", s.Paused)
	}
	return v, nil
}

// host is a line of GET /v1/hosts.
type host struct {
	Name    string    `json:"name"`
	State   string    `json:"state"` // member or away
	Address string    `json:"address"`
	Term    uint64    `json:"term"`
	AsOf    time.Time `json:"as_of"`
}

func (a *agent) clusterHosts() (hosts []host, err error) {
	var list struct {
		Hosts []host `json:"hosts"`
	}
	return list.Hosts, a.read("/v1/hosts", &list)
}

// alarm is an alarm as the API shows it.
type alarm struct {
	ID        string    `json:"id"`
	Revision  string    `json:"revision"`
	State     string    `json:"state"`
	Host      string    `json:"host"`
	Resource  string    `json:"resource"`
	Condition string    `json:"condition"`
	Severity  string    `json:"severity"`
	AsOf      time.Time `json:"as_of"`
	Ack       *struct {
		By      string `json:"by"`
		Comment string `json:"comment"`
	} `json:"ack"`
}

// standing lists the standing alarms of the whole cluster.
func (a *agent) standing() (alarms []alarm, err error) {
	var page struct {
		Alarms []alarm `json:"alarms"`
		Next   string  `json:"next"`
	}
	err = a.read("/v1/alarms?state=standing&limit=1000", &page)
	return page.Alarms, err
}

// carrier waits until the agent knows the alarm about the machine's uplink.
func (a *agent) carrier(of *machine) (found alarm) {
	a.t.Helper()
	within(a.t, patience, a.Name+" to know that "+of.Name+" lost its carrier", func() error {
		all, err := a.standing()
		if err != nil {
			return err
		}
		i := slices.IndexFunc(all, func(x alarm) bool { return x.Host == of.Name && x.Condition == "carrier" })
		if i < 0 {
			return fmt.Errorf("it knows %+v", all)
		}
		found = all[i]
		return nil
	})
	return found
}

type subscription struct {
	ID      string `json:"id"`
	Name    string `json:"name"`
	Version uint64 `json:"version"`
	Origin  string `json:"origin"`
	Paused  string `json:"paused"`
}

func (a *agent) subscriptions() (subs []subscription, err error) {
	var list struct {
		Subscriptions []subscription `json:"subscriptions"`
	}
	return list.Subscriptions, a.read("/v1/subscriptions", &list)
}

// status is what the tests read of GET /v1/status.
type status struct {
	Term    uint64 `json:"term"`
	Cluster struct {
		Members  int       `json:"members"`
		Troubles []trouble `json:"troubles"`
	} `json:"cluster"`
}

type trouble struct {
	Kind  string `json:"kind"`
	Peer  string `json:"peer"`
	Text  string `json:"text"`
	Count uint64 `json:"count"`
}

func (a *agent) status() (s status, err error) { return s, a.read("/v1/status", &s) }

// complains waits until the agent names a trouble of one of these kinds in its status, with that word in its text.
func (a *agent) complains(word string, kinds ...string) (found trouble) {
	a.t.Helper()
	within(a.t, patience, fmt.Sprintf("%s to complain of %v", a.Name, kinds), func() error {
		s, err := a.status()
		if err != nil {
			return err
		}
		i := slices.IndexFunc(s.Cluster.Troubles, func(x trouble) bool {
			return slices.Contains(kinds, x.Kind) && strings.Contains(x.Text, word)
		})
		if i < 0 {
			return fmt.Errorf("it names %+v", s.Cluster.Troubles)
		}
		found = s.Cluster.Troubles[i]
		return nil
	})
	return found
}

func (a *agent) read(path string, into any) error {
	body, err := a.Get(path)
	if err != nil {
		return fmt.Errorf("%s: %w", a.Name, err)
	}
	if err := json.Unmarshal(body, into); err != nil {
		return fmt.Errorf("%s: GET %s: %w: %s", a.Name, path, err, body)
	}
	return nil
}

// consumer is somebody who wants to hear of everything.
type consumer struct {
	*lab.Receiver
	name string
	key  []byte
}

func consume(t *testing.T, name string) *consumer {
	t.Helper()
	key := []byte(strings.Repeat(name+"-key-", 8)[:32])
	r, err := w.consumers.Receiver(consumerAddr+":0", key)
	must(t, err)
	t.Cleanup(func() { _ = r.Close() })
	return &consumer{r, name, key}
}

func (c *consumer) secret() string { return "whsec_" + base64.StdEncoding.EncodeToString(c.key) }

// subscribe is a POST at this agent, verified by the signed challenge. It returns the subscription's id and how many
// alarms the snapshot had.
func (c *consumer) subscribe(at *agent) (id string, snapshot []alarm) {
	at.t.Helper()
	var out []byte
	// Where datagrams are lost the challenge may take too long, and the operator tries again.
	within(at.t, patience, "the subscription", func() (err error) {
		out, err = at.Call(http.MethodPost, "/v1/subscriptions", map[string]any{
			"name": c.name, "endpoints": []string{c.URL}, "secret": c.secret(),
		}, http.StatusCreated)
		return err
	})
	var answer struct {
		Subscription subscription `json:"subscription"`
		Snapshot     []alarm      `json:"snapshot"`
	}
	must(at.t, json.Unmarshal(out, &answer))
	return answer.Subscription.ID, answer.Snapshot
}

// is matches notifications by transition (raised, changed, cleared), condition and home.
func is(transition, condition string, home *machine) func(lab.Notification) bool {
	return func(n lab.Notification) bool {
		return n.Type == "paramedic.fault."+transition && n.Data.Alarm.Condition == condition && n.Data.Host == home.Name
	}
}

// hears waits for a notification and checks it as a strict consumer does.
func (c *consumer) hears(t *testing.T, transition, condition string, home *machine) lab.Notification {
	t.Helper()
	n, err := c.Wait(patience, is(transition, condition, home))
	if err != nil {
		t.Fatalf("%s waits for %s %s of %s: %v", c.name, condition, transition, home.Name, err)
	}
	if len(n.Trouble) > 0 {
		t.Errorf("%s objects to %s: %v\n%s", c.name, n, n.Trouble, n.Body)
	}
	return n
}

// once fails unless each (alarm, revision) came under one id, each id for one of them, and none came twice.
func (c *consumer) once(t *testing.T) {
	t.Helper()
	seen := c.identities(t)
	for key, count := range seen {
		if count > 1 {
			t.Errorf("%s was told %s %d times", c.name, key, count)
		}
	}
}

// identities counts how often each (alarm, revision) came. None may come under two ids, which a consumer could not fold.
func (c *consumer) identities(t *testing.T) map[string]int {
	t.Helper()
	ids, keys, count := map[string]string{}, map[string]string{}, map[string]int{}
	for _, n := range c.All() {
		key := n.Data.Alarm.ID + " " + n.Data.Alarm.Revision + " " + n.Data.Subscription
		if id, ok := ids[key]; ok && id != n.ID {
			t.Errorf("%s was told %s under two ids, %s and %s", c.name, key, id, n.ID)
		}
		if k, ok := keys[n.ID]; ok && k != key {
			t.Errorf("%s was told %s and %s under one id %s", c.name, key, k, n.ID)
		}
		ids[key], keys[n.ID] = n.ID, key
		count[key]++
	}
	return count
}
