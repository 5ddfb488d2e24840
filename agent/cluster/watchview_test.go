package cluster

import (
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/paramedic-ha/paramedic/agent/ledger"
	"github.com/paramedic-ha/paramedic/gossip/loopback"
	"github.com/paramedic-ha/paramedic/gossip/watch"
)

func TestWhatTheWatchSeesIsShownAndCounted(t *testing.T) {
	net := loopback.Network(t)
	registry := prometheus.NewPedanticRegistry()
	var a, b *one
	var wait sync.WaitGroup
	wait.Go(func() { a = start(t, net, t.TempDir(), 1, func(c *Config) { c.Metrics = registry }) })
	wait.Go(func() { b = start(t, net, t.TempDir(), 2) })
	wait.Wait()
	if a == nil || b == nil {
		t.FailNow()
	}
	heard := func() bool {
		s := a.Status().Watch
		return s != nil && len(s.Observed) == 1 && s.Observed[0].Silence != watch.AgeNever && slices.Equal(s.Observers, []string{"cmp-2"})
	}
	eventually(t, "they watch each other", heard)
	s := a.Status().Watch
	if s.Blind || s.Isolated || s.Probable != DefaultProbable || s.Confirmed != DefaultConfirmed || !strings.HasPrefix(s.Address, net+".1:") || s.Counters.Sent == 0 {
		t.Errorf("watch: %+v", s)
	}
	byName := map[string]*ledger.HostWatch{}
	for _, h := range a.Hosts() {
		byName[h.Name] = h.Watch
	}
	if w := byName["cmp-1"]; w == nil || w.Silence != watch.AgeNever || !slices.Equal(w.Observers, []string{"cmp-2"}) {
		t.Errorf("itself: %+v", w)
	}
	if w := byName["cmp-2"]; w == nil || w.Silence < 0 || !slices.Equal(w.Observers, []string{"cmp-1"}) {
		t.Errorf("the other: %+v", w)
	}

	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	figures := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			name := f.GetName()
			for _, l := range m.GetLabel() {
				name += " " + l.GetValue()
			}
			figures[name] = m.GetGauge().GetValue() + m.GetCounter().GetValue()
		}
	}
	for name, want := range map[string]float64{
		"paramedic_watch_isolated": 0, "paramedic_watch_blind": 0, "paramedic_watch_observed": 1, "paramedic_watch_speaks": 0,
		"paramedic_watch_echo " + string(s.Echo): 1, "paramedic_watch_verdicts_total confirmed": 0, "paramedic_watch_refused_total replayed": 0,
	} {
		if got, ok := figures[name]; !ok || got != want {
			t.Errorf("%s is %v (%v), want %v", name, got, ok, want)
		}
	}
	if figures["paramedic_watch_packets_total sent"] == 0 || figures["paramedic_watch_packets_total received"] == 0 {
		t.Errorf("no packets are counted: %v", figures)
	}
}
