package fleet

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/paramedic-ha/paramedic/agent/e2e/lab"
)

// Patience is how long a test waits for what must come and has no promise of its own; in practice it takes far less.
const Patience = time.Minute

// Must ends the test at an error.
func Must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// Within polls until ok, and says at the end what was seen instead. It returns how long it took.
func Within(t *testing.T, limit time.Duration, what string, ok func() error) time.Duration {
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

// Settings are what differs between the agents of a fleet.
type Settings struct {
	Name, Zone, Bind, Label string
	Join                    []string
	Cluster                 string // more of the section, as it stands: "witness: 10.99.0.9"
	GossipKey, SecretKey    string // the files' contents
	Subscriptions           []*Consumer
	Virt                    bool // there is a libvirtd
}

// Settings are what an agent is told unless a test says otherwise.
func (f *Fleet) Settings(m *Machine) Settings {
	return Settings{
		Name: m.Name, Bind: m.Addr(), Label: "lab", Join: []string{"10.99.0.1", "10.99.0.2:7946", "10.99.0.3"}, GossipKey: f.GossipKey, SecretKey: f.SecretKey,
		Virt: m.Libvirt != nil,
	}
}

// Where an agent finds the keys of its cluster.
const (
	GossipKeyFile = lab.Dir + "/gossip.key"
	SecretKeyFile = lab.Dir + "/secrets.key"
)

// Configuration writes the files that the configuration names, and returns it.
func (m *Machine) Configuration(t *testing.T, s Settings) string {
	t.Helper()
	Must(t, m.WriteFile(GossipKeyFile, s.GossipKey, 0o600))
	Must(t, m.WriteFile(SecretKeyFile, s.SecretKey, 0o600))
	var y strings.Builder
	fmt.Fprintf(&y, "node: {name: %s, zone: '%s'}\napi: {socket: %s}\nlog: {level: debug}\n", s.Name, s.Zone, lab.Socket)
	fmt.Fprintf(&y, "cluster: {bind: '%s', join: ['%s'], label: %s, key_file: %s, secrets_key_file: %s, %s}\n",
		s.Bind, strings.Join(s.Join, "', '"), s.Label, GossipKeyFile, SecretKeyFile, s.Cluster)
	fmt.Fprintf(&y, "hw: {nic: {include: ['uplink*']}, virt: {disabled: %t}, "+lab.NotTheMachine+"}\n", !s.Virt)
	fmt.Fprintf(&y, "notify:\n  dir: %s\n", lab.StateDir)
	for i, c := range s.Subscriptions {
		if i == 0 {
			y.WriteString("  subscriptions:\n")
		}
		file := lab.Dir + "/secret-" + c.Name
		Must(t, m.WriteFile(file, c.Secret(), 0o600))
		filter, err := json.Marshal(c.Filter)
		Must(t, err)
		fmt.Fprintf(&y, "  - {name: %s, endpoints: ['%s'], secret_file: %s, filter: %s}\n", c.Name, c.URL, file, filter)
	}
	return y.String()
}

// Agent is the binary under test on one machine.
type Agent struct {
	*lab.Agent
	*Machine
	T *testing.T
}

// Prepare makes an agent without a former life; it is not started.
func (f *Fleet) Prepare(t *testing.T, m *Machine, s Settings) *Agent {
	t.Helper()
	Must(t, os.RemoveAll(m.Path(lab.StateDir)))
	a, err := m.NewAgent(f.Bin, m.Configuration(t, s))
	Must(t, err)
	ag := &Agent{Agent: a, Machine: m, T: t}
	t.Cleanup(func() {
		if log := a.Log(); t.Failed() || strings.Contains(log, "panic:") || strings.Contains(log, "DATA RACE") {
			t.Logf("the log of %s's agent:\n%s", m.Name, Tail(log))
		}
		if strings.Contains(a.Log(), "panic:") || strings.Contains(a.Log(), "DATA RACE") {
			t.Errorf("%s's agent panicked or raced", m.Name)
		}
	})
	t.Cleanup(ag.End)
	return ag
}

// End stops the agent if it runs.
func (a *Agent) End() {
	if a.Process() == nil {
		return
	}
	select {
	case <-a.Process().Exited():
	default:
		if err := a.Stop(); err != nil {
			a.T.Errorf("%s's agent did not stop well: %v", a.Name, err)
		}
	}
}

// Tail is the end of a long text.
func Tail(s string) string {
	const most = 12000
	if len(s) > most {
		s = "…" + s[len(s)-most:]
	}
	return s
}

// Agents are some of a cluster, in the order of their machines unless a test says otherwise.
type Agents []*Agent

// Form starts agents on the first n machines, all at once, and returns when they know each other.
func (f *Fleet) Form(t *testing.T, n int, edit ...func(m *Machine, s *Settings)) Agents {
	t.Helper()
	f.Heal(t)
	var all Agents
	for _, m := range f.Machines[:n] {
		s := f.Settings(m)
		for _, e := range edit {
			e(m, &s)
		}
		all = append(all, f.Prepare(t, m, s))
	}
	all.StartAll()
	t.Cleanup(func() { all.Each((*Agent).End) }) // all at once; what prepare cleans up comes after
	all.Meet(Patience)
	return all
}

// Each does it to all at once.
func (as Agents) Each(do func(*Agent)) {
	var wg sync.WaitGroup
	for _, a := range as {
		wg.Go(func() { do(a) })
	}
	wg.Wait()
}

// Try is Each, of what can fail.
func (as Agents) Try(do func(*Agent) error) {
	as[0].T.Helper()
	errs := make(chan error, len(as))
	as.Each(func(a *Agent) { errs <- do(a) })
	for range as {
		Must(as[0].T, <-errs)
	}
}

// StartAll starts all at once and waits until they are ready.
func (as Agents) StartAll() { as[0].T.Helper(); as.Try(func(a *Agent) error { return a.Start() }) }

// KillAll is a power cut: nobody says goodbye.
func (as Agents) KillAll() { as[0].T.Helper(); as.Try(func(a *Agent) error { return a.Kill() }) }

// Names are those of the machines, in order.
func (as Agents) Names() []string {
	var names []string
	for _, a := range as {
		names = append(names, a.Name)
	}
	slices.Sort(names)
	return names
}

// Hosts are the machines.
func (as Agents) Hosts() []*lab.Host {
	var hosts []*lab.Host
	for _, a := range as {
		hosts = append(hosts, a.Machine.Host)
	}
	return hosts
}

// Meet waits until all agents say the same: these are the members, these alarms stand, these are the subscriptions, in
// whatever version.
func (as Agents) Meet(limit time.Duration) time.Duration {
	as[0].T.Helper()
	return as.agree(limit, func(x, y View) bool {
		return slices.Equal(slices.Sorted(maps.Keys(x.subscriptions)), slices.Sorted(maps.Keys(y.subscriptions)))
	})
}

// Level is meet, with the versions.
func (as Agents) Level(limit time.Duration) time.Duration {
	as[0].T.Helper()
	return as.agree(limit, func(x, y View) bool { return maps.Equal(x.subscriptions, y.subscriptions) })
}

func (as Agents) agree(limit time.Duration, same func(x, y View) bool) time.Duration {
	as[0].T.Helper()
	want := as.Names()
	return Within(as[0].T, limit, fmt.Sprintf("%d agents to be level", len(as)), func() error {
		first, err := as[0].View()
		if err != nil {
			return err
		}
		if !slices.Equal(first.Members, want) {
			return fmt.Errorf("%s sees the members %v, want %v", as[0].Name, first.Members, want)
		}
		for _, a := range as[1:] {
			v, err := a.View()
			if err != nil {
				return err
			}
			if !slices.Equal(v.Members, want) || !maps.Equal(v.alarms, first.alarms) || !same(v, first) {
				return fmt.Errorf("%s sees\n%+v,\n%s sees\n%+v", as[0].Name, first, a.Name, v)
			}
		}
		return nil
	})
}

// Active waits until every agent has the subscription. How long that takes, and the end of a partition, make bench measures:
// on a machine that is busy with twenty agents no promise of docs/cluster.md can be judged.
func (as Agents) Active(id string) time.Duration {
	as[0].T.Helper()
	return Within(as[0].T, Patience, "the subscription to be active everywhere", func() error {
		for _, a := range as {
			subs, err := a.Subscribed()
			if err != nil {
				return err
			}
			if !slices.ContainsFunc(subs, func(s Subscription) bool { return s.ID == id }) {
				return fmt.Errorf("%s has %+v", a.Name, subs)
			}
		}
		return nil
	})
}
