package cluster

import (
	"debug/buildinfo"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"slices"
	"strings"
	"testing"

	"github.com/paramedic-ha/paramedic/agent/e2e/lab"
)

// size of the whole lab. Most tests start fewer agents.
const size = 20

// world is the lab that all tests share. They run one after the other.
type world struct {
	lab       *lab.Lab
	lan       *lab.Switch
	machines  []*machine
	consumers *lab.Host // 10.99.0.200, on the switch too
	bin       string
	gossipKey string // the content of cluster.key_file
	secretKey string // of cluster.secrets_key_file
	inflated  int    // how much more memory the binary needs than one without the race detector
}

// machine is a host for an agent, with an uplink whose cable can be pulled.
type machine struct {
	*lab.Host
	n      int
	port   *lab.Port
	uplink *lab.Cable
}

func (m *machine) addr() string { return fmt.Sprintf("10.99.0.%d", m.n) }

const consumerAddr = "10.99.0.200"

var w world

// TestMain is also the peer of TestAPeerThatFloodsIsNamed: with the variable set it is nothing else.
func TestMain(m *testing.M) {
	if addrs := strings.Fields(os.Getenv("PM_EVIL")); len(addrs) == 2 {
		fmt.Fprintln(os.Stderr, runEvil(addrs[0], addrs[1]))
		os.Exit(1)
	}
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
	info, err := buildinfo.ReadFile(w.bin)
	if err != nil {
		return err
	}
	w.inflated = 1
	if slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"}) {
		w.inflated = 10 // https://go.dev/doc/articles/race_detector: five to ten times
	}
	if w.lan, err = w.lab.Switch("switch"); err != nil {
		return err
	}
	if w.consumers, err = w.lab.Host("consumers"); err != nil {
		return err
	}
	if _, err = w.lan.Attach(w.consumers, "mgmt0", consumerAddr+"/24"); err != nil {
		return err
	}
	for n := 1; n <= size; n++ {
		m := &machine{n: n}
		if m.Host, err = w.lab.Host(fmt.Sprintf("cmp-%02d", n)); err != nil {
			return err
		}
		if m.port, err = w.lan.Attach(m.Host, "mgmt0", m.addr()+"/24"); err != nil {
			return err
		}
		m.uplink, err = w.lab.Connect(lab.End{Host: m.Host, Link: "uplink0"}, lab.End{Host: w.consumers, Link: fmt.Sprint("far", n)})
		if err != nil {
			return err
		}
		w.machines = append(w.machines, m)
	}
	var errs [2]error
	w.gossipKey, errs[0] = w.consumers.Output(w.bin, "keygen", "--gossip")
	w.secretKey, errs[1] = w.consumers.Output(w.bin, "keygen", "--secrets")
	return errors.Join(errs[:]...)
}

// heal puts back what an earlier test broke.
func (w *world) heal(t *testing.T) {
	t.Helper()
	must(t, w.lan.Heal())
	for _, m := range w.machines {
		must(t, m.uplink.Plug())
		must(t, m.port.Plug())
	}
}
