package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/paramedic-ha/paramedic/agent/e2e/lab"
)

// peers measures whether a host that is one of three is slower than one that is alone: the same faults, in turn with cluster
// mode off and on, the consumer on the same path.
func (s *stage) peers(ctx context.Context, p plan, r *report) error {
	before := machineNow()
	lan, err := s.lab.Switch("switch")
	if err != nil {
		return err
	}
	keys, err := newKeys(s.host, s.bin)
	if err != nil {
		return err
	}
	seeds := []string{cloudAddr(0), cloudAddr(1), cloudAddr(2)}
	if err := keys.write(s.host); err != nil {
		return err
	}
	if _, err := lan.Attach(s.host, "lan0", seeds[0]+"/16"); err != nil {
		return err
	}
	for n, addr := range seeds[1:] {
		h, err := s.lab.Host(fmt.Sprint("peer-", n+1))
		if err != nil {
			return err
		}
		if _, err := lan.Attach(h, "lan0", addr+"/16"); err != nil {
			return err
		}
		if err := keys.write(h); err != nil {
			return err
		}
		config := fmt.Sprintf("node: {name: %s}\napi: {socket: %s}\nhw: {virt: {disabled: true}, "+lab.NotTheMachine+"}\nnotify: {dir: %s}\n", h.Name, lab.Socket, lab.StateDir)
		if _, err := h.Agent(s.bin, config+clusterPart(addr, seeds...)); err != nil {
			return err
		}
	}
	alone := s.config
	together := strings.Replace(alone, stageCluster, clusterPart(seeds[0], seeds...), 1)
	var off, on []sample
	for range 2 {
		for _, mode := range []struct {
			config  string
			members int
			into    *[]sample
		}{{alone, 0, &off}, {together, len(seeds), &on}} {
			if s.agent == nil {
				if s.agent, err = s.host.NewAgent(s.bin, mode.config); err != nil {
					return err
				}
			} else if s.agent.Process() != nil {
				if err := s.agent.Stop(); err != nil {
					return err
				}
			}
			if err := s.agent.Configure(mode.config); err != nil {
				return err
			}
			if err := s.agent.Start(); err != nil {
				return err
			}
			if mode.members > 0 {
				m := &member{Host: s.host, agent: s.agent}
				if err := m.until(time.Minute, func(st status) bool { return st.Cluster.Members == mode.members }); err != nil {
					return err
				}
			}
			if err := s.settle(ctx); err != nil {
				return err
			}
			samples, err := s.block(ctx, s.linkFault(), p.faults/2, who{agent: true})
			if err != nil {
				return err
			}
			*mode.into = append(*mode.into, samples...)
		}
	}
	if err := s.agent.Stop(); err != nil {
		return err
	}
	if err := s.agent.Configure(alone); err != nil {
		return err
	}
	if err := s.agent.Start(); err != nil {
		return err
	}
	r.section("Carrier lost → callback, alone and as one of three agents on these cores", before)
	stage := func(from, to string) func(sample) time.Duration {
		return func(x sample) time.Duration { return x.agent.Data.Timeline[to].Sub(x.agent.Data.Timeline[from]) }
	}
	r.times("alone", collect(off, sample.told))
	r.times("**one of three**", collect(on, sample.told), aim{99, 5 * time.Millisecond})
	r.times("alone: T01 → T08 (queue, engine, outbox, worker)", collect(off, stage("T01", "T08")))
	r.times("one of three: T01 → T08", collect(on, stage("T01", "T08")))
	return nil
}
