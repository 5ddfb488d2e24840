package e2e

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/digitalocean/go-libvirt"

	"github.com/paramedic-ha/paramedic/agent/e2e/lab"
)

// The two tenants. Each subscribes to its own project only.
const (
	projectA = "0a0a0a0a-0000-4000-8000-00000000000a"
	projectB = "0b0b0b0b-0000-4000-8000-00000000000b"
)

// patience is how long a test waits for what must come; the time that it takes in practice is milliseconds, or the 15 s
// after which the agent gives up a request.
const patience = time.Minute

// The host: br0 with its uplink carries vm-a1, vm-a2 and vm-b1; br1 with another one vm-a3 and vm-linux; a separate
// management link leads to the consumers.
var (
	vmA1 = vm("vm-a1", 1, projectA, "br0")
	vmA2 = vm("vm-a2", 2, projectA, "br0")
	vmB1 = vm("vm-b1", 3, projectB, "br0")
	vmA3 = vm("vm-a3", 4, projectA, "br1")

	tinyVMs = []lab.Domain{vmA1, vmA2, vmB1, vmA3}
)

func vm(name string, n int, project, bridge string) lab.Domain {
	return lab.Domain{
		Name: name, UUID: fmt.Sprintf("d0000000-0000-4000-8000-%012d", n), Project: project,
		NICs: []lab.NIC{{Bridge: bridge, MAC: fmt.Sprintf("52:54:00:00:01:%02x", n), PortID: fmt.Sprintf("f0000000-0000-4000-8000-%012d", n)}},
	}
}

// world is the lab that all tests share. They run one after the other.
type world struct {
	lab       *lab.Lab
	host      *lab.Host
	consumers *lab.Host
	libvirt   *lab.Libvirt
	uplink0   *lab.Cable // of br0
	uplink1   *lab.Cable // of br1
	mgmt      *lab.Cable
	bin       string

	other        *lab.Host // see other
	otherLibvirt *lab.Libvirt
}

var w world

const consumerAddr = "10.0.0.2"

func TestMain(m *testing.M) {
	err := w.build()
	status := 1
	if err == nil {
		status = m.Run()
	} else {
		fmt.Fprintln(os.Stderr, "the lab can't be built:", err)
	}
	if err := w.lab.Close(); err != nil {
		fmt.Fprintln(os.Stderr, "the lab was not left clean:", err)
		status = 1
	}
	os.Exit(status)
}

func (w *world) build() (err error) {
	if w.lab, err = lab.New(); err != nil {
		w.lab = &lab.Lab{}
		return err
	}
	if w.bin, err = w.lab.Build("."); err != nil {
		return err
	}
	if w.host, err = w.lab.Host("cmp-1"); err != nil {
		return err
	}
	if w.consumers, err = w.lab.Host("consumers"); err != nil {
		return err
	}
	for i, cable := range []**lab.Cable{&w.uplink0, &w.uplink1} {
		bridge := fmt.Sprint("br", i)
		if err := w.host.Bridge(bridge); err != nil {
			return err
		}
		*cable, err = w.lab.Connect(lab.End{Host: w.host, Link: fmt.Sprint("uplink", i), Master: bridge},
			lab.End{Host: w.consumers, Link: fmt.Sprint("switch", i)})
		if err != nil {
			return err
		}
	}
	w.mgmt, err = w.lab.Connect(lab.End{Host: w.host, Link: "mgmt0", Addr: "10.0.0.1/24"},
		lab.End{Host: w.consumers, Link: "mgmt0", Addr: consumerAddr + "/24"})
	if err != nil {
		return err
	}
	if w.libvirt, err = w.host.Libvirt(); err != nil {
		return err
	}
	for _, d := range tinyVMs {
		if err := w.libvirt.StartDomain(d); err != nil {
			return err
		}
	}
	return nil
}

// heal puts back what an earlier test broke: cables in, links up, every domain running.
func (w *world) heal(t *testing.T) {
	t.Helper()
	for _, c := range []*lab.Cable{w.uplink0, w.uplink1, w.mgmt} {
		must(t, c.Plug())
		must(t, c.Enable())
	}
	for _, d := range tinyVMs {
		state, _, err := w.libvirt.State(d.Name)
		must(t, err)
		if state == libvirt.DomainRunning {
			continue
		}
		if state != libvirt.DomainShutoff { // paused in the middle of a migration that broke
			_ = w.libvirt.Destroy(d.Name) // it may have ended since
		}
		must(t, w.libvirt.StartAgain(d.Name))
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// eventually polls; last says at the end what was seen instead.
func eventually(t *testing.T, what string, ok func() bool, last func() string) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("waited %v for %s; last: %s", patience, what, last())
		}
		<-time.After(5 * time.Millisecond)
	}
}

// consumer is one who subscribes in the configuration file.
type consumer struct {
	*lab.Receiver
	name     string
	projects []string // empty: an administrator, told everything
	endpoint string   // when it is not the receiver's own
	format   string   // empty: native
	key      []byte
}

// consume starts a consumer of the projects' domains; without any, an administrator.
func consume(t *testing.T, name string, projects ...string) *consumer {
	t.Helper()
	return consumeAt(t, consumerAddr, name, projects...)
}

// consumeAt is consume at another address of the consumers' host.
func consumeAt(t *testing.T, addr, name string, projects ...string) *consumer {
	t.Helper()
	key := []byte(strings.Repeat(name+"-key-", 8)[:32])
	r, err := w.consumers.Receiver(addr+":0", key)
	must(t, err)
	t.Cleanup(func() { _ = r.Close() })
	return &consumer{Receiver: r, name: name, projects: projects, endpoint: r.URL, key: key}
}

func (c *consumer) secretFile() string { return lab.Dir + "/secret-" + c.name }

// configuration is the agent's file for these consumers; more is appended as it stands.
func configuration(t *testing.T, more string, consumers ...*consumer) string {
	t.Helper()
	return configurationOf(t, w.host, more, consumers...)
}

// configurationOf is configuration for the agent of any host.
func configurationOf(t *testing.T, host *lab.Host, more string, consumers ...*consumer) string {
	t.Helper()
	var y strings.Builder
	fmt.Fprintf(&y, "node: {name: %s}\ncluster: {label: lab}\napi: {socket: %s}\nlog: {level: debug}\n", host.Name, lab.Socket)
	y.WriteString("hw: {nic: {include: ['uplink*']}, virt: {resync: 2s}, kmsg: {disabled: true}, pressure: {disabled: true}, service: {disabled: true}, clock: {disabled: true}}\n")
	fmt.Fprintf(&y, "notify:\n  dir: %s\n", lab.StateDir)
	for i, c := range consumers {
		if i == 0 {
			y.WriteString("  subscriptions:\n")
		}
		secret := "whsec_" + base64.StdEncoding.EncodeToString(c.key)
		must(t, host.WriteFile(c.secretFile(), secret, 0o600))
		fmt.Fprintf(&y, "  - {name: %s, endpoints: ['%s'], secret_file: %s", c.name, c.endpoint, c.secretFile())
		if c.format != "" {
			fmt.Fprintf(&y, ", format: %s", c.format)
		}
		if len(c.projects) > 0 {
			fmt.Fprintf(&y, ", role: consumer, filter: {projects: ['%s']}", strings.Join(c.projects, "', '"))
		}
		y.WriteString("}\n")
	}
	return y.String() + more
}

// agent is the binary under test.
type agent struct {
	*lab.Agent
	t *testing.T
}

// start heals the host, forgets the state of earlier tests and starts an agent that tells these consumers. It returns
// when the agent knows every domain and link.
func start(t *testing.T, consumers ...*consumer) *agent { return startWith(t, "", consumers...) }

func startWith(t *testing.T, more string, consumers ...*consumer) *agent {
	t.Helper()
	w.heal(t)
	ag := launch(t, more, consumers...)
	ag.knows(tinyVMs...)
	return ag
}

// startBlind is start without libvirtd: it heals nothing and expects no domain.
func startBlind(t *testing.T, consumers ...*consumer) *agent { return launch(t, "", consumers...) }

func launch(t *testing.T, more string, consumers ...*consumer) *agent {
	t.Helper()
	return launchWith(t, w.host, configuration(t, more, consumers...))
}

func launchWith(t *testing.T, host *lab.Host, config string) *agent {
	t.Helper()
	must(t, os.RemoveAll(host.Path(lab.StateDir)))
	a, err := host.NewAgent(w.bin, config)
	must(t, err)
	ag := &agent{Agent: a, t: t}
	t.Cleanup(func() { // also of one that never gets ready: the next test has the same socket
		if a.Process() == nil {
			return
		}
		select {
		case <-a.Process().Exited():
		default:
			if err := a.Stop(); err != nil {
				t.Errorf("the agent did not stop well: %v", err)
			}
		}
		if log := a.Log(); t.Failed() || strings.Contains(log, "panic") && !strings.Contains(log, "guest-panic") {
			t.Logf("the log of %s's agent:\n%s", host.Name, log)
		}
	})
	must(t, a.Start())
	return ag
}

// logged waits until the agent's log holds the word.
func (a *agent) logged(t *testing.T, word string) {
	t.Helper()
	eventually(t, "the agent to log "+word, func() bool { return strings.Contains(a.Log(), word) }, a.Log)
}

// knows waits until the agent watches these domains and all links.
func (a *agent) knows(domains ...lab.Domain) {
	a.t.Helper()
	want := []string{"bridge/br0", "bridge/br1", "nic/uplink0", "nic/uplink1"}
	for _, d := range domains {
		want = append(want, "domain/"+d.UUID)
	}
	for _, id := range want {
		eventually(a.t, "the agent to know "+id,
			func() bool { _, err := a.Get("/v1/resources/" + id); return err == nil },
			func() string { _, err := a.Get("/v1/resources/" + id); return fmt.Sprint(err) })
	}
}

// resource is a resource as the API shows it.
type resource struct {
	ID       string   `json:"id"`
	Name     string   `json:"name"`
	State    string   `json:"state"`
	Inactive bool     `json:"inactive"`
	Needs    []need   `json:"needs"`
	Conds    []string `json:"conditions"`

	Facts map[string]string `json:"facts"`
}

type need struct {
	Mode string   `json:"mode"`
	Of   []string `json:"of"`
}

func (a *agent) resource(id string) (r resource) {
	a.t.Helper()
	a.get("/v1/resources/"+id, &r)
	return r
}

// standing is an alarm as the API shows it.
type standing struct {
	ID        string `json:"id"`
	State     string `json:"state"`
	Resource  string `json:"resource"`
	Condition string `json:"condition"`
	Severity  string `json:"severity"`
	Under     string `json:"under"`
	Text      string `json:"text"`
}

// alarms lists the standing alarms.
func (a *agent) alarms() []standing {
	a.t.Helper()
	var page struct {
		Alarms []standing `json:"alarms"`
	}
	a.get("/v1/alarms?state=standing", &page)
	return page.Alarms
}

// delivery is one owed notification as the API shows it.
type delivery struct {
	ID           string `json:"id"`
	Subscription string `json:"subscription"`
	Condition    string `json:"condition"`
	State        string `json:"state"`
	Attempts     int    `json:"attempts"`
	LastError    string `json:"last_error"`
}

func (a *agent) deliveries() []delivery {
	a.t.Helper()
	var page struct {
		Deliveries []delivery `json:"deliveries"`
	}
	a.get("/v1/deliveries", &page)
	return page.Deliveries
}

// settled waits until nobody is owed anything: what was to be told has arrived.
func (a *agent) settled(t *testing.T) {
	t.Helper()
	eventually(t, "all deliveries to be settled", func() bool { return len(a.deliveries()) == 0 },
		func() string { return fmt.Sprintf("%+v\n%s", a.deliveries(), a.Log()) })
}

// owed waits for a delivery that matches.
func (a *agent) owed(what string, match func(delivery) bool) (found delivery) {
	a.t.Helper()
	eventually(a.t, "a delivery "+what, func() bool {
		all := a.deliveries()
		i := slices.IndexFunc(all, match)
		if i >= 0 {
			found = all[i]
		}
		return i >= 0
	}, func() string { return fmt.Sprintf("%+v", a.deliveries()) })
	return found
}

func (a *agent) get(path string, into any) {
	a.t.Helper()
	body, err := a.Get(path)
	must(a.t, err)
	if err := json.Unmarshal(body, into); err != nil {
		a.t.Fatalf("GET %s: %v: %s", path, err, body)
	}
}

func (a *agent) post(path string, body any, want int) []byte {
	a.t.Helper()
	out, err := a.Call(http.MethodPost, path, body, want)
	must(a.t, err)
	return out
}

// is matches notifications by transition (raised, changed, cleared) and condition.
func is(transition, condition string) func(lab.Notification) bool {
	return func(n lab.Notification) bool {
		return n.Type == "paramedic.fault."+transition && n.Data.Alarm.Condition == condition
	}
}

// hears waits for a notification and checks it as a strict consumer does. A tenant is told of a physical fault under
// its abstract name; of the own domains' faults, which are not in this map, under the exact one.
func (c *consumer) hears(t *testing.T, transition, condition string) lab.Notification {
	t.Helper()
	if abstract := map[string]string{"carrier": "network", "disabled": "network", "gone": "network", "switch-failed": "network"}[condition]; abstract != "" && len(c.projects) > 0 {
		condition = abstract
	}
	n, err := c.Wait(patience, is(transition, condition))
	if err != nil {
		t.Fatalf("%s waits for %s %s: %v", c.name, condition, transition, err)
	}
	if len(n.Trouble) > 0 {
		t.Errorf("%s objects to %s: %v\n%s", c.name, n, n.Trouble, n.Body)
	}
	return n
}

// learns waits for what says first that the fault stands. After a start that is not always the revision that raised the
// alarm: a link may be known to be down before it is known whose domains hang on it.
func (c *consumer) learns(t *testing.T, condition string) lab.Notification {
	t.Helper()
	n, err := c.Wait(patience, func(n lab.Notification) bool {
		return n.Data.Alarm.State != "" && n.Data.Alarm.State != "cleared" && n.Data.Alarm.Condition == condition
	})
	if err != nil || len(n.Trouble) > 0 {
		t.Fatalf("%s waits for %s: %v: %s", c.name, condition, err, n)
	}
	return n
}

// heard fails unless the consumer was told exactly this many things, all in all.
func (c *consumer) heard(t *testing.T, want int) {
	t.Helper()
	c.counts(t, c.All(), want)
}

// heardKilled is heard after a kill -9: what was answered a moment before is sent again under its id, by promise
// (docs/delivery.md), and a consumer drops it.
func (c *consumer) heardKilled(t *testing.T, want int) {
	t.Helper()
	seen := map[string]bool{}
	c.counts(t, slices.DeleteFunc(c.All(), func(n lab.Notification) bool {
		again := seen[n.ID]
		seen[n.ID] = true
		return again
	}), want)
}

func (c *consumer) counts(t *testing.T, got []lab.Notification, want int) {
	t.Helper()
	if len(got) != want {
		lines := make([]string, len(got))
		for i, n := range got {
			lines[i] = n.String()
		}
		t.Errorf("%s was told %d things, want %d:\n  %s", c.name, len(got), want, strings.Join(lines, "\n  "))
	}
}

// affects fails unless the notification names exactly these domains.
func affects(t *testing.T, n lab.Notification, want ...lab.Domain) {
	t.Helper()
	var got, names []string
	for _, a := range n.Data.Affected {
		got = append(got, a.Resource)
	}
	for _, d := range want {
		names = append(names, "domain/"+d.UUID)
	}
	slices.Sort(got)
	slices.Sort(names)
	if !slices.Equal(got, names) {
		t.Errorf("%s names %v, want %v", n, got, names)
	}
}
