package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/paramedic-ha/paramedic/agent/e2e/lab"
)

// fleetStage is a host with a real agent, and one with the fleet.
type fleetStage struct {
	lab     *lab.Lab
	host    *lab.Host
	agent   *lab.Agent // not started
	process *lab.Process
}

// buildFleet returns when the fleet runs.
func buildFleet(self string, hosts, domains int) (s *fleetStage, err error) {
	l, err := lab.New()
	if err != nil {
		return nil, err
	}
	s = &fleetStage{lab: l}
	bin, err := l.Build(".")
	if err != nil {
		return s, err
	}
	if s.host, err = l.Host("cmp-1"); err != nil {
		return s, err
	}
	others, err := l.Host("fleet")
	if err != nil {
		return s, err
	}
	for _, h := range []*lab.Host{s.host, others} {
		if _, err := h.Run("sh", "-c", "echo 1 >/proc/sys/net/ipv6/conf/default/disable_ipv6"); err != nil {
			return s, err
		}
	}
	if _, err := l.Connect(lab.End{Host: s.host, Link: cloudLink, Addr: "10.99.0.1/24"}, lab.End{Host: others, Link: cloudLink, Addr: "10.99.0.2/24"}); err != nil {
		return s, err
	}
	var script strings.Builder
	for n := range hosts - 1 {
		fmt.Fprintf(&script, "addr add %s/32 dev lo\n", fleetAddr(n))
	}
	if err := others.WriteFile(lab.Dir+"/addresses", script.String(), 0o600); err != nil {
		return s, err
	}
	if _, err := others.Run("ip", "-batch", lab.Dir+"/addresses"); err != nil {
		return s, err
	}
	if _, err := s.host.Run("ip", "route", "add", fleetPrefix, "via", "10.99.0.2"); err != nil {
		return s, err
	}
	keys, err := newKeys(s.host, bin)
	if err != nil {
		return s, err
	}
	if err := keys.write(s.host); err != nil {
		return s, err
	}
	config := fmt.Sprintf("node: {name: cmp-1}\napi: {socket: %s}\nhw: {virt: {disabled: true}, "+lab.NotTheMachine+"}\nnotify: {dir: %s}\n", lab.Socket, lab.StateDir)
	config += clusterPart("10.99.0.1", fleetAddr(0), fleetAddr(1), fleetAddr(2))
	if s.agent, err = s.host.NewAgent(bin, config); err != nil {
		return s, err
	}
	spec, err := json.Marshal(fleetSpec{Hosts: hosts - 1, Domains: domains, Key: strings.TrimSpace(keys.gossip), Agent: "cmp-1"})
	if err != nil {
		return s, err
	}
	if s.process, err = others.Start(self, fleetCommand, string(spec)); err != nil {
		return s, err
	}
	for deadline := time.Now().Add(time.Minute); !strings.Contains(s.process.Log(), "running"); {
		select {
		case <-s.process.Exited():
			return s, fmt.Errorf("the fleet ended: %s", s.process.Log())
		case <-time.After(50 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			return s, errors.New("the fleet does not come up")
		}
	}
	return s, nil
}

// liveHeap is what is reachable in an agent's heap, in MiB. Scraping it makes garbage until it has collected twice; the runtime
// then lets the heap grow to (1 + GOGC/100) times what was live (runtime/mgcpacer.go), and tells to what size that is.
func liveHeap(a *lab.Agent) (float64, error) {
	var begun float64
	for n := range 20_000 {
		body, err := a.Get("/metrics")
		if err != nil {
			return 0, err
		}
		parser := expfmt.NewTextParser(model.UTF8Validation)
		families, err := parser.TextToMetricFamilies(bytes.NewReader(body))
		if err != nil {
			return 0, err
		}
		collections, next, pace := families["go_gc_duration_seconds"], families["go_memstats_next_gc_bytes"], families["go_gc_gogc_percent"]
		if collections == nil || next == nil || pace == nil {
			return 0, errors.New("the agent tells nothing of its collector")
		}
		count := float64(collections.GetMetric()[0].GetSummary().GetSampleCount())
		if n == 0 {
			begun = count
		}
		if count >= begun+2 {
			return next.GetMetric()[0].GetGauge().GetValue() / (1 + pace.GetMetric()[0].GetGauge().GetValue()/100) / (1 << 20), nil
		}
	}
	return 0, errors.New("the agent does not collect its garbage")
}
