package cluster

import (
	"cmp"

	"github.com/paramedic-ha/paramedic/agent/api"
	"github.com/paramedic-ha/paramedic/agent/ledger"
	"github.com/paramedic-ha/paramedic/gossip/watch"
)

// hosts is what this host's watch knows of those that it watches, and who watches this one.
func (w *watching) hosts(self string) map[string]*ledger.HostWatch {
	l := w.shown.Load()
	if l == nil {
		return nil
	}
	st := l.Status()
	hosts := map[string]*ledger.HostWatch{self: {Observers: st.Observers, Silence: watch.AgeNever}}
	for i := range st.Observed {
		o := &st.Observed[i]
		hosts[o.Host] = &ledger.HostWatch{Observers: o.Observers, Silence: o.Silence}
	}
	for _, name := range st.NoEcho {
		if h := hosts[name]; h != nil {
			h.NoEcho = true
		}
	}
	return hosts
}

// watchStatus is nil before the sockets of the watch are open.
func (c *Cluster) watchStatus() *api.WatchStatus {
	w := c.watch
	l := w.shown.Load()
	if l == nil {
		return nil
	}
	s := &api.WatchStatus{
		Status: l.Status(), Address: l.Addr().String(), Witness: c.cfg.Watch.Witness,
		Probable: cmp.Or(c.cfg.Watch.Probable, DefaultProbable), Confirmed: cmp.Or(c.cfg.Watch.Confirmed, DefaultConfirmed),
		Counts: w.figures(), Listening: w.listening.Load(),
	}
	if names := w.speaks.Load(); names != nil {
		s.SpeaksFor = *names
	}
	return s
}

func (w *watching) figures() api.WatchCounts {
	n := &w.counts
	f := api.WatchCounts{
		FalseAlarms: n.falseAlarms.Load(), Accused: n.accused.Load(), Spoke: n.spoke.Load(), Hushed: n.hushed.Load(), Claims: n.claims.Load(),
	}
	for level := range n.verdicts {
		f.Verdicts[level] = n.verdicts[level].Load()
	}
	w.mu.Lock()
	f.Dropped = w.missed
	w.mu.Unlock()
	return f
}
