package main

import (
	"encoding/base64"
	"fmt"
	"io"
	"strings"

	"github.com/paramedic-ha/paramedic/agent/e2e/lab"
)

const picture = `
  compute host cmp-1 (network namespace)                     consumers (another one)
  ┌────────────────────────────────────────────┐             ┌──────────────────────┐
  │ red-1  red-2  blue-1        red-3          │  mgmt0      │ paramedic receive    │
  │   └──────┴──────┘             │    agent ──┼─────────────┤   red  (its project) │
  │         br0                  br1           │  (separate) │   blue (its project) │
  │          │                    │            │             └──────────────────────┘
  │       uplink0              uplink1         │
  └──────────┼────────────────────┼────────────┘
          switch               switch
`

// stage is the compute host and what stands around it.
type stage struct {
	out       io.Writer
	lab       *lab.Lab
	libvirt   *lab.Libvirt
	uplink    *lab.Cable
	agent     *lab.Agent
	consumers []*consumer
}

const (
	red          = "4ed00000-0000-4000-8000-000000000001" // projects
	blue         = "b10e0000-0000-4000-8000-000000000002"
	consumerAddr = "10.0.0.2"
)

func machine(n int, name, project, bridge string) lab.Domain {
	return lab.Domain{
		Name: name, Project: project, UUID: fmt.Sprintf("d0000000-0000-4000-8000-%012d", n),
		NICs: []lab.NIC{{Bridge: bridge, MAC: fmt.Sprintf("52:54:00:00:02:%02x", n), PortID: fmt.Sprintf("f0000000-0000-4000-8000-%012d", n)}},
	}
}

// build returns the stage also with an error, to be closed, once there is one.
func build(out io.Writer) (*stage, error) {
	fmt.Fprint(out, "A compute host with a real libvirtd and real qemu machines, two tenants, one agent.\n", picture, "\n")
	l, err := lab.New()
	if err != nil {
		return nil, err
	}
	s := &stage{out: out, lab: l}
	bin, err := l.Build(".")
	if err != nil {
		return s, err
	}
	host, err := l.Host("cmp-1")
	if err != nil {
		return s, err
	}
	others, err := l.Host("consumers")
	if err != nil {
		return s, err
	}
	for i := range 2 {
		bridge := fmt.Sprint("br", i)
		if err := host.Bridge(bridge); err != nil {
			return s, err
		}
		cable, err := l.Connect(lab.End{Host: host, Link: fmt.Sprint("uplink", i), Master: bridge}, lab.End{Host: others, Link: fmt.Sprint("switch", i)})
		if err != nil {
			return s, err
		}
		if i == 0 {
			s.uplink = cable
		}
	}
	if _, err := l.Connect(lab.End{Host: host, Link: "mgmt0", Addr: "10.0.0.1/24"}, lab.End{Host: others, Link: "mgmt0", Addr: consumerAddr + "/24"}); err != nil {
		return s, err
	}
	if s.libvirt, err = host.Libvirt(); err != nil {
		return s, err
	}
	for _, d := range []lab.Domain{machine(1, "red-1", red, "br0"), machine(2, "red-2", red, "br0"), machine(3, "blue-1", blue, "br0"), machine(4, "red-3", red, "br1")} {
		if err := s.libvirt.StartDomain(d); err != nil {
			return s, err
		}
	}
	for i, tenant := range []struct{ name, project string }{{"red", red}, {"blue", blue}} {
		c, err := listen(others, bin, tenant.name, tenant.project, fmt.Sprintf("%s:%d", consumerAddr, 8081+i))
		if err != nil {
			return s, err
		}
		s.consumers = append(s.consumers, c)
	}
	s.agent, err = startAgent(host, bin, s.consumers)
	return s, err
}

func startAgent(host *lab.Host, bin string, consumers []*consumer) (*lab.Agent, error) {
	var y strings.Builder
	fmt.Fprintf(&y, "node: {name: cmp-1}\ncluster: {label: demo}\napi: {socket: %s}\n", lab.Socket)
	fmt.Fprintf(&y, "hw: {nic: {include: ['uplink*']}}\nnotify:\n  dir: %s\n  subscriptions:\n", lab.StateDir)
	for _, c := range consumers {
		file := lab.Dir + "/secret-" + c.name
		if err := host.WriteFile(file, c.secret(), 0o600); err != nil {
			return nil, err
		}
		fmt.Fprintf(&y, "  - {name: %s, endpoints: ['http://%s/'], secret_file: %s, role: consumer, filter: {projects: [%s]}}\n", c.name, c.addr, file, c.project)
	}
	return host.Agent(bin, y.String())
}

func (c *consumer) secret() string {
	return "whsec_" + base64.StdEncoding.EncodeToString([]byte(strings.Repeat(c.name+"-secret-", 8)[:32]))
}
