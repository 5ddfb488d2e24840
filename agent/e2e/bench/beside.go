package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"
)

// besidePhases is how often Prometheus gets another time between scrape and evaluation.
const besidePhases = 6

// beside tells the same faults by paramedic, by the bare listener, and by Prometheus, node_exporter and Alertmanager.
func (s *stage) beside(ctx context.Context, p plan, r *report) (err error) {
	k := s.linkFault()
	self, err := os.Executable()
	if err != nil {
		return err
	}
	floor, err := s.startFloor(self, k.listener...)
	if err != nil {
		return err
	}
	defer func() { _ = floor.Kill() }()
	if s.agent == nil {
		if err := s.startAgent(); err != nil {
			return err
		}
	}
	c, err := newChain(s.host, hostAddr, s.others, consumerAddr, uplink)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.stop()) }()
	pids := []int{s.agent.Process().PID(), c.exporter.PID(), c.prometheus.PID(), c.alertmanager.PID()}
	if err := s.settle(ctx); err != nil {
		return err
	}
	before := machineNow()
	first, err := usageOfAll(pids)
	if err != nil {
		return err
	}
	var all []sample
	for phase := range besidePhases {
		if phase > 0 {
			if err := c.shift(uplink); err != nil {
				return err
			}
		}
		// The remainder goes to the first ones.
		some, err := s.block(ctx, k, (p.beside+besidePhases-1-phase)/besidePhases, who{agent: true, floor: true, chain: c})
		if err != nil {
			return fmt.Errorf("%w; Prometheus says: %s; Alertmanager says: %s", err, lastOf(c.prometheus.Log()), lastOf(c.alertmanager.Log()))
		}
		all = append(all, some...)
	}
	took := time.Since(before.at)
	last, err := usageOfAll(pids)
	if err != nil {
		return err
	}
	r.section("The same faults told by paramedic and by Prometheus", before)
	alerted := func(x sample) time.Duration { return x.alerted.Sub(x.fault) }
	r.times("**carrier lost: paramedic**", collect(all, sample.told), aim{99, k.aim})
	r.times("floor, each fault", collect(all, sample.floorTold))
	r.times("**node_exporter, Prometheus, Alertmanager**, each fault", collect(all, alerted))
	r.times("it minus paramedic, fault by fault", collect(all, func(x sample) time.Duration { return x.alerted.Sub(x.agent.at) }))
	r.times("**carrier back: paramedic**", collect(all, sample.clear))
	r.times("floor, each end", collect(all, sample.floorClear))
	r.times("**node_exporter, Prometheus, Alertmanager**, each end", collect(all, func(x sample) time.Duration { return x.alertEnded.Sub(x.mend) }))
	r.value("domains that the body names: paramedic", float64(k.affected), "")
	named := 0
	for _, name := range s.domains {
		if len(all) > 0 && strings.Contains(all[0].alert, name) {
			named++
		}
	}
	r.value("domains that the body names: Alertmanager", float64(named), "")
	for i, what := range []string{"paramedic", "node_exporter, on the same host", "Prometheus, elsewhere", "Alertmanager, elsewhere"} {
		r.value("resident memory: "+what, float64(last[i].rss)*1024/1e6, "MB")
		r.value("processor, of a core: "+what, 100*float64(last[i].cpu-first[i].cpu)/float64(took), "%")
	}
	return nil
}

func usageOfAll(pids []int) ([]usage, error) {
	all := make([]usage, len(pids))
	for i, pid := range pids {
		var err error
		if all[i], err = usageOf(pid); err != nil {
			return nil, err
		}
	}
	return all, nil
}
