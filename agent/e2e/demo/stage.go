package main

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/paramedic-ha/paramedic/agent/e2e/lab"
)

const picture = `
  compute hosts, each a set of namespaces with a libvirtd, and an agent of equal rank        consumers
  ┌─ cmp-1 ────────┐  ┌─ cmp-2 ────────────────────────────┐  ┌─ cmp-3 ────────┐  ┌─────────────────────┐
  │ red-4          │  │ red-1  red-2  blue-1        red-3  │  │ blue-2         │  │ paramedic receive   │
  │   │            │  │   └──────┴──────┘             │    │  │   │            │  │   red  (a tenant)   │
  │  br0     agent │  │         br0       agent      br1   │  │  br0     agent │  │   blue (a tenant)   │
  │   │        │   │  │          │          │         │    │  │   │        │   │  │   ops  (the admins) │
  │ uplink0    │   │  │       uplink0       │      uplink1 │  │ uplink0    │   │  └──────────┬──────────┘
  └───┼────────┼───┘  └──────────┼──────────┼─────────┼────┘  └───┼────────┼───┘             │
               └─────────────────────── management network ────────────────┴─────────────────┘
`

// stage is the hosts and what stands around them.
type stage struct {
	out       io.Writer
	lab       *lab.Lab
	bin       string
	lan       *lab.Switch
	outside   *lab.Host // of the consumers
	nodes     []*node
	consumers []*consumer
	teller    string // the host that told an administrator last
}

// node is one compute host.
type node struct {
	host    *lab.Host
	libvirt *lab.Libvirt
	port    *lab.Port // its place on the management network
	uplinks []*lab.Cable
	agent   *lab.Agent
}

const (
	red          = "4ed00000-0000-4000-8000-000000000001" // projects
	blue         = "b10e0000-0000-4000-8000-000000000002"
	consumerAddr = "10.99.0.200"
)

func machine(n int, name, project, bridge string) lab.Domain {
	return lab.Domain{
		Name: name, Project: project, UUID: fmt.Sprintf("d0000000-0000-4000-8000-%012d", n),
		NICs: []lab.NIC{{Bridge: bridge, MAC: fmt.Sprintf("52:54:00:00:02:%02x", n), PortID: fmt.Sprintf("f0000000-0000-4000-8000-%012d", n)}},
	}
}

// machines are the domains of each host.
var machines = [][]lab.Domain{
	{machine(5, "red-4", red, "br0")},
	{machine(1, "red-1", red, "br0"), machine(2, "red-2", red, "br0"), machine(3, "blue-1", blue, "br0"), machine(4, "red-3", red, "br1")},
	{machine(6, "blue-2", blue, "br0")},
}

// build returns the stage also with an error, to be closed, once there is one. No agent runs yet.
func build(out io.Writer) (*stage, error) {
	fmt.Fprint(out, "Three compute hosts with real libvirtds and real qemu machines, an agent on each, nothing in between.\n", picture, "\n")
	l, err := lab.New()
	if err != nil {
		return nil, err
	}
	s := &stage{out: out, lab: l}
	if s.bin, err = l.Build("."); err != nil {
		return s, err
	}
	if s.lan, err = l.Switch("switch"); err != nil {
		return s, err
	}
	if s.outside, err = l.Host("consumers"); err != nil {
		return s, err
	}
	if _, err = s.lan.Attach(s.outside, "mgmt0", consumerAddr+"/24"); err != nil {
		return s, err
	}
	for i := range machines {
		n := &node{}
		s.nodes = append(s.nodes, n)
		if n.host, err = l.Host(fmt.Sprint("cmp-", i+1)); err != nil {
			return s, err
		}
		if n.port, err = s.lan.Attach(n.host, "mgmt0", fmt.Sprintf("10.99.0.%d/24", i+1)); err != nil {
			return s, err
		}
	}
	errs := make([]error, len(s.nodes))
	var wg sync.WaitGroup
	for i, n := range s.nodes {
		wg.Go(func() { errs[i] = s.furnish(n, i) })
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return s, err
	}
	for i, c := range []*consumer{{name: "red", project: red}, {name: "blue", project: blue}, {name: "ops"}} {
		if err := c.listen(s.outside, s.bin, fmt.Sprintf("%s:%d", consumerAddr, 8081+i)); err != nil {
			return s, err
		}
		s.consumers = append(s.consumers, c)
	}
	return s, s.configure()
}

// furnish gives a host its bridges, uplinks and machines.
func (s *stage) furnish(n *node, i int) (err error) {
	for b := range 2 {
		bridge, uplink := fmt.Sprint("br", b), fmt.Sprint("uplink", b)
		if err := n.host.Bridge(bridge); err != nil {
			return err
		}
		cable, err := s.lab.Connect(lab.End{Host: n.host, Link: uplink, Master: bridge}, lab.End{Host: s.outside, Link: fmt.Sprintf("far%d-%d", i+1, b)})
		if err != nil {
			return err
		}
		n.uplinks = append(n.uplinks, cable)
	}
	if n.libvirt, err = n.host.Libvirt(); err != nil {
		return err
	}
	for _, d := range machines[i] {
		if err := n.libvirt.StartDomain(d); err != nil {
			return err
		}
	}
	return nil
}

// configure makes the cluster's two keys and gives each host its files.
func (s *stage) configure() error {
	for name, kind := range map[string]string{"gossip.key": "--gossip", "secrets.key": "--secrets"} {
		key, err := s.outside.Output(s.bin, "keygen", kind)
		if err != nil {
			return err
		}
		for _, n := range s.nodes {
			if err := n.host.WriteFile(lab.Dir+"/"+name, key, 0o600); err != nil {
				return err
			}
		}
	}
	for i, n := range s.nodes {
		var y strings.Builder
		fmt.Fprintf(&y, "node: {name: cmp-%d}\napi: {socket: %s}\n", i+1, lab.Socket)
		fmt.Fprintf(&y, "cluster: {bind: 10.99.0.%d, join: [10.99.0.1, 10.99.0.2, 10.99.0.3], label: demo,\n", i+1)
		fmt.Fprintf(&y, "          key_file: %[1]s/gossip.key, secrets_key_file: %[1]s/secrets.key}\n", lab.Dir)
		fmt.Fprintf(&y, "hw: {nic: {include: ['uplink*']}, "+lab.NotTheMachine+"}\nnotify: {dir: %s}\n", lab.StateDir)
		if i == 0 {
			fmt.Fprintf(s.out, "The configuration of cmp-1; the others differ in name and address:\n%s\n", indent(y.String()))
			for _, c := range s.consumers { // who subscribes there gives the secret's file
				if err := n.host.WriteFile(c.secretFile(), c.secret(), 0o600); err != nil {
					return err
				}
			}
		}
		var err error
		if n.agent, err = n.host.NewAgent(s.bin, y.String()); err != nil {
			return err
		}
	}
	return nil
}

func indent(text string) string {
	return "    " + strings.ReplaceAll(strings.TrimRight(text, "\n"), "\n", "\n    ") + "\n"
}

// start starts all agents at once.
func (s *stage) start() error {
	errs := make([]error, len(s.nodes))
	var wg sync.WaitGroup
	for i, n := range s.nodes {
		wg.Go(func() { errs[i] = n.agent.Start() })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// until polls what an agent answers until it satisfies ok, and returns how long that took.
func until[T any](a *lab.Agent, path, what string, ok func(T) bool) (time.Duration, error) {
	began := time.Now()
	for {
		var answer T
		body, err := a.Get(path)
		if err == nil {
			err = json.Unmarshal(body, &answer)
		}
		if err == nil && ok(answer) {
			return time.Since(began), nil
		}
		if time.Since(began) > patience {
			return 0, fmt.Errorf("%s: waited %v for %s: %w; last: %s; its log: %s", a.Host().Name, patience, what, err, body, a.Log())
		}
		<-time.After(2 * time.Millisecond)
	}
}

func (c *consumer) secretFile() string { return lab.Dir + "/secret-" + c.name }

func (c *consumer) secret() string {
	return "whsec_" + base64.StdEncoding.EncodeToString([]byte(strings.Repeat(c.name+"-secret-", 8)[:32]))
}
