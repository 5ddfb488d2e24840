package hardware

import (
	_ "embed"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/paramedic-ha/paramedic/agent/e2e/fleet"
	"github.com/paramedic-ha/paramedic/agent/e2e/lab"
)

// The domains: one behind a VLAN on a bond of two cards, one behind a single card.
var (
	behindBond = domain("vm-bond", 1, "br0", "mirror")
	behindCard = domain("vm-card", 2, "br1", "nvme")
)

func domain(name string, n int, bridge, disk string) lab.Domain {
	return lab.Domain{
		Name: name, UUID: fmt.Sprintf("d0000000-0000-4000-8000-%012d", n), Project: "0a0a0a0a-0000-4000-8000-00000000000a",
		NICs:  []lab.NIC{{Bridge: bridge, MAC: fmt.Sprintf("52:54:00:00:02:%02x", n)}},
		Disks: []lab.Disk{{Path: "/srv/" + disk + "/" + name + ".img", Target: "vda"}},
	}
}

// host is the emulated one with its agent, and those around it.
type host struct {
	*lab.Compute
	self *fleet.Machine // what the fleet's helpers know it by

	ops   *fleet.Consumer
	peers fleet.Agents

	passing []fault // see passes
}

const (
	dir    = lab.ComputeDir
	server = "--server unix://" + "/run/paramedic.sock"
)

//go:embed testdata/devices.sh
var devices []byte

// patient is how long a host must be silent. On a busy machine an emulated processor may stand still for longer than a real one.
const patient = "detect: {probable: 2s, confirmed: 4s}"

// boot makes the host and everything in it, and returns when its peers see it and it knows its domains.
func boot(t *testing.T) *host {
	t.Helper()
	h := &host{self: &fleet.Machine{Host: &lab.Host{Name: "cmp-hw"}, N: 99}}
	h.ops = w.Consume(t, "ops")
	h.ops.Filter = map[string]any{"states": []string{"failed", "degraded", "at-risk"}}
	h.peers = w.Form(t, peers, func(_ *fleet.Machine, s *fleet.Settings) {
		s.Subscriptions, s.Cluster = []*fleet.Consumer{h.ops}, patient
	})
	bin, err := w.Lab.Static(w.Bin, ".")
	fleet.Must(t, err)
	binary, err := os.ReadFile(bin)
	fleet.Must(t, err)
	s := w.Settings(h.self)
	config := fmt.Sprintf(`
node: {name: %[1]s}
api: {socket: /run/paramedic.sock}
cluster: {bind: %[2]s, join: ['%[3]s'], label: %[4]s, key_file: %[5]s/gossip.key, secrets_key_file: %[5]s/secrets.key, %[8]s}
log: {level: debug}
hw: {mem: {poll: 1s, window: 10s}, disk: {health: 1s}}
notify:
  dir: /srv/state/paramedic
  subscriptions: [{name: %[6]s, endpoints: ['%[7]s'], secret_file: %[5]s/secret, filter: {states: [failed, degraded, at-risk]}}]
`, h.self.Name, s.Bind, strings.Join(s.Join, "', '"), s.Label, dir, h.ops.Name, h.ops.URL, patient)
	emulated, err := os.ReadFile("../../../hw/ipmi/testdata/sim/bmc.emu")
	fleet.Must(t, err)
	began := time.Now()
	h.Compute, err = w.LAN.Compute(lab.ComputeSpec{
		Name: h.self.Name, Addr: s.Bind + "/24", Domains: []lab.Domain{behindBond, behindCard}, BMC: string(emulated),
		Files: map[string][]byte{
			"paramedic": binary, "devices.sh": devices, "paramedic.yaml": []byte(config), "gossip.key": []byte(s.GossipKey), "secrets.key": []byte(s.SecretKey), "secret": []byte(h.ops.Secret()),
		},
	})
	fleet.Must(t, err)
	t.Cleanup(func() {
		if t.Failed() {
			out, _ := h.Run("tail -c 12000 /srv/state/log")
			t.Logf("its agent's log:\n%s\nits kernel:\n%s", out, h.Console())
		}
		fleet.Must(t, h.Off())
	})
	t.Logf("%5.1f s: it has booted", time.Since(began).Seconds())
	h.start(t)
	t.Logf("%5.1f s: its agent knows two domains", time.Since(began).Seconds())
	return h
}

// start does what an operator's host does when it has booted.
func (h *host) start(t *testing.T) {
	t.Helper()
	h.run(t, "bash -e "+dir+"/devices.sh")
	fleet.Must(t, h.StartDomains())
	h.run(t, "cp "+dir+"/paramedic /usr/local/bin/; setsid paramedic run --config "+dir+"/paramedic.yaml >>/srv/state/log 2>&1 & echo $! >/run/paramedic.pid")
	fleet.Within(t, 2*fleet.Patience, "its agent to know its domains", func() error {
		for _, d := range []lab.Domain{behindBond, behindCard} {
			if out, err := h.Run("paramedic topology domain/" + d.UUID + " " + server); err != nil {
				return fmt.Errorf("%w: %s", err, out)
			}
		}
		return nil
	})
}

// run has the host's shell run a command.
func (h *host) run(t *testing.T, command string) string {
	t.Helper()
	out, err := h.Run(command)
	fleet.Must(t, err)
	return out
}

// fault is what a fault is to be told as.
type fault struct {
	condition string
	on        string // the resource
	severity  string
	affected  map[string]string // domain: state
}

// all is both domains in that state.
func all(state string) map[string]string {
	return map[string]string{behindBond.Name: state, behindCard.Name: state}
}

// fails does something to the host and waits until the consumer is told of the fault.
func (h *host) fails(t *testing.T, f fault, do func() error) lab.Notification {
	t.Helper()
	n := h.tells(t, "raised", f, do)
	h.judge(t, f, n)
	return n
}

// judge compares what was told with what should be.
func (h *host) judge(t *testing.T, f fault, n lab.Notification) {
	t.Helper()
	if n.Data.Alarm.Severity != f.severity {
		t.Errorf("its severity is %s, want %s: %s", n.Data.Alarm.Severity, f.severity, n)
	}
	got := map[string]string{}
	for _, d := range n.Data.Affected {
		got[d.Name] = d.State
	}
	if !maps.Equal(got, f.affected) {
		t.Errorf("it affects %v, want %v: %s", got, f.affected, n)
	}
}

// heals does something to the host and waits until the consumer is told that the fault has ended.
func (h *host) heals(t *testing.T, f fault, do func() error) lab.Notification {
	t.Helper()
	return h.tells(t, "cleared", f, do)
}

// acknowledged ends a fault that stands until somebody has seen it.
func (h *host) acknowledged(t *testing.T, f fault, raised lab.Notification) {
	t.Helper()
	h.heals(t, f, h.shell("paramedic ack "+raised.Data.Alarm.ID+" "+server))
}

// passes has a fault end by itself, some minutes later: the other tests go on meanwhile.
func (h *host) passes(f fault) { h.passing = append(h.passing, f) }

// shell is a command of the host's shell, to be run.
func (h *host) shell(command string) func() error {
	return func() error {
		_, err := h.Run(command)
		return err
	}
}

// tells does something to the host and waits until the consumer is told of it.
func (h *host) tells(t *testing.T, transition string, f fault, do func() error) lab.Notification {
	t.Helper()
	before, began := len(h.ops.All()), time.Now()
	fleet.Must(t, do())
	n := h.told(t, transition, f, before)
	h.log(t, transition, f, n.Arrived.Sub(began))
	return n
}

// told waits until the consumer has been told, later than so many things before.
func (h *host) told(t *testing.T, transition string, f fault, before int) (n lab.Notification) {
	t.Helper()
	fleet.Within(t, fleet.Patience, fmt.Sprintf("%s %s of %s", f.condition, transition, f.on), func() error {
		told := h.ops.All()[before:]
		i := slices.IndexFunc(told, func(n lab.Notification) bool { return h.is(n, transition, f) })
		if i < 0 {
			return fmt.Errorf("told:%s", lines(told))
		}
		n = told[i]
		return nil
	})
	if len(n.Trouble) > 0 {
		t.Errorf("the consumer objects: %s", n)
	}
	return n
}

func (h *host) is(n lab.Notification, transition string, f fault) bool {
	return n.Type == "paramedic.fault."+transition && n.Data.Alarm.Condition == f.condition && n.Subject == "host/"+h.self.Name+strings.TrimSuffix("/"+f.on, "/")
}

func (h *host) log(t *testing.T, transition string, f fault, took time.Duration) {
	t.Helper()
	t.Logf("%-24s %-18s %-8s %8.1f ms  %s", f.condition, f.on, transition, float64(took.Microseconds())/1000, names(f.affected))
}

func names(affected map[string]string) string {
	var out []string
	for _, name := range slices.Sorted(maps.Keys(affected)) {
		out = append(out, name+" "+affected[name])
	}
	return strings.Join(out, ", ")
}

func lines(told []lab.Notification) string {
	var out strings.Builder
	for _, n := range told {
		out.WriteString("\n  " + n.String())
	}
	return out.String()
}
