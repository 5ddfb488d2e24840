package main

import (
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/paramedic-ha/paramedic/agent/e2e/lab"
)

const (
	hostAddr     = "10.0.0.1"
	consumerAddr = "10.0.0.2"
	uplink       = "uplink0"
	project      = "4ed00000-0000-4000-8000-000000000001"
	patience     = 20 * time.Second
)

// stageCluster is the cluster section of an agent that is alone.
const stageCluster = "cluster: {label: " + cloudLabel + "}\n"

// stage is the compute host with its domains, and the consumers.
type stage struct {
	lab      *lab.Lab
	host     *lab.Host
	others   *lab.Host // of the consumers
	libvirt  *lab.Libvirt
	cable    *lab.Cable
	bin      string
	config   string
	state    string // directory of the outbox: on a disk, unlike everything else of the lab
	agent    *lab.Agent
	consumer *consumer
	floor    *floorConsumer
	domains  []string
	rounds   int
}

// build returns the stage also with an error, to be closed, once there is one.
func build(p plan) (s *stage, err error) {
	l, err := lab.New()
	if err != nil {
		return nil, err
	}
	s = &stage{lab: l}
	if s.bin, err = l.Build("."); err != nil {
		return s, err
	}
	if s.state, err = os.MkdirTemp("/var/tmp", "paramedic-bench-"); err != nil {
		return s, err
	}
	if s.host, err = l.Host("cmp-1"); err != nil {
		return s, err
	}
	if s.others, err = l.Host("consumers"); err != nil {
		return s, err
	}
	if err := s.host.Bridge("br0"); err != nil {
		return s, err
	}
	if s.cable, err = l.Connect(lab.End{Host: s.host, Link: uplink, Master: "br0"}, lab.End{Host: s.others, Link: "switch0"}); err != nil {
		return s, err
	}
	if _, err := l.Connect(lab.End{Host: s.host, Link: "mgmt0", Addr: hostAddr + "/24"}, lab.End{Host: s.others, Link: "mgmt0", Addr: consumerAddr + "/24"}); err != nil {
		return s, err
	}
	secret := []byte(strings.Repeat("bench-secret-", 8)[:32])
	if s.consumer, s.floor, err = consumersOf(s.others, secret); err != nil {
		return s, err
	}
	if s.libvirt, err = s.host.Libvirt(); err != nil {
		return s, err
	}
	for n := range p.domains {
		d := lab.Domain{
			Name: fmt.Sprintf("vm-%02d", n), Project: project, UUID: fmt.Sprintf("d0000000-0000-4000-8000-%012d", n),
			NICs: []lab.NIC{{Bridge: "br0", MAC: fmt.Sprintf("52:54:00:00:03:%02x", n), PortID: fmt.Sprintf("f0000000-0000-4000-8000-%012d", n)}},
		}
		if err := s.libvirt.StartDomain(d); err != nil {
			return s, err
		}
		s.domains = append(s.domains, d.Name)
	}
	file := lab.Dir + "/secret"
	if err := s.host.WriteFile(file, "whsec_"+base64.StdEncoding.EncodeToString(secret), 0o600); err != nil {
		return s, err
	}
	s.config = fmt.Sprintf("node: {name: cmp-1}\n"+stageCluster+"api: {socket: %s}\nhw: {nic: {include: [%s]}, "+lab.NotTheMachine+"}\n"+
		"notify: {dir: %s, subscriptions: [{name: bench, endpoints: ['%s'], secret_file: %s}]}\n",
		lab.Socket, uplink, s.state, s.consumer.url, file)
	return s, nil
}

func (s *stage) close() error {
	err := s.lab.Close()
	if s.consumer != nil {
		err = errors.Join(err, s.consumer.server.Close(), s.floor.server.Close())
	}
	if s.state != "" {
		err = errors.Join(err, os.RemoveAll(s.state))
	}
	return err
}

func (s *stage) agentLog() string {
	if s.agent == nil {
		return "(it was not started)"
	}
	return s.agent.Log()
}

func (s *stage) startAgent() (err error) {
	if s.agent == nil {
		s.agent, err = s.host.Agent(s.bin, s.config)
		return err
	}
	return s.agent.Start()
}
