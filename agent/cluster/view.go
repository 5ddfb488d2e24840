package cluster

import (
	"context"
	"time"

	"github.com/paramedic-ha/paramedic/agent/api"
	"github.com/paramedic-ha/paramedic/agent/ledger"
	"github.com/paramedic-ha/paramedic/correlate"
	"github.com/paramedic-ha/paramedic/gossip"
	"github.com/paramedic-ha/paramedic/notify"
)

var _ api.Cluster = (*Cluster)(nil)

// ages says how old what is known of each host is at most. Of a member: the last exchange that found us level with a peer.
// Of one that is away: when it was last here.
type ages struct {
	members map[string]gossip.Member
	away    map[string]time.Time
	level   time.Time
}

func (c *Cluster) ages() ages {
	a := ages{members: make(map[string]gossip.Member), away: make(map[string]time.Time), level: c.repl.Stats().LastInSync}
	for _, m := range c.repl.Peer().Members() {
		a.members[m.Node] = m
	}
	for _, h := range c.repl.Peer().Hosts() {
		if !h.Alive {
			a.away[h.Node] = h.Last
		}
	}
	return a
}

func (a ages) asOf(host string) time.Time {
	if _, member := a.members[host]; member {
		return a.level
	}
	return a.away[host]
}

// Hosts implements api.Cluster.
func (c *Cluster) Hosts() []ledger.HostView {
	now, ages, watched := time.Now(), c.ages(), c.watch.hosts(c.node)
	roster := c.repl.Peer().Hosts()
	views := make([]ledger.HostView, 0, len(roster))
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, h := range roster {
		v, _ := c.ledger.HostRecord(h.Node)
		v.Name, v.Addr, v.API, v.First, v.Last, v.AsOf = h.Node, h.Addr.String(), h.API, h.First, h.Last, ages.asOf(h.Node)
		if m, ok := ages.members[h.Node]; ok {
			v.Member, v.Term, v.Last = true, m.Term, now
		}
		if v.Self = h.Node == c.node; v.Self {
			v.Member, v.Term, v.Last, v.AsOf = true, c.term.Load(), now, now
			if self := c.self.Load(); self != nil {
				v.Host = *self
			}
		}
		if v.Zone == "" {
			v.Zone = h.Zone
		}
		v.Watch = watched[h.Node]
		views = append(views, v)
	}
	return views
}

// AsOf implements api.Cluster.
func (c *Cluster) AsOf() func(host string) time.Time { return c.ages().asOf }

// Alarms implements api.Cluster.
func (c *Cluster) Alarms() []*correlate.Alarm {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ledger.Standing()
}

// Dismissed implements api.Cluster.
func (c *Cluster) Dismissed() []*correlate.Alarm {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ledger.Dismissed()
}

// Told implements api.Cluster.
func (c *Cluster) Told(a *correlate.Alarm) []notify.Pair {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ledger.Told(a)
}

// Domains implements api.Cluster.
func (c *Cluster) Domains(home string) []ledger.DomainView {
	c.mu.Lock()
	views := c.ledger.Domains(home)
	c.mu.Unlock()
	ledger.ReadDomains(views)
	return views
}

// DomainHome implements api.Cluster.
func (c *Cluster) DomainHome(uuid string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ledger.Home(uuid)
}

// Forget implements api.Cluster.
func (c *Cluster) Forget(ctx context.Context, host string) error {
	if err := c.repl.Forget(ctx, host); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, durableWait)
	defer cancel()
	_ = c.store.save(ctx) // it is logged
	return nil
}

// Keys implements api.Cluster.
func (c *Cluster) Keys() api.Keys { return c.repl.Peer() }

// Status implements api.Cluster.
func (c *Cluster) Status() api.ClusterStatus {
	peer := c.repl.Peer()
	s := api.ClusterStatus{
		Address: peer.Addr().String(), Term: c.term.Load(), Peer: peer.Stats(), Keys: peer.KeyStatus(), Exchange: c.repl.Stats(),
	}
	if r := c.replica.Load(); r != nil {
		s.Replica = *r
	}
	s.Watch = c.watchStatus()
	if ids, ok := c.cfg.Sealer.(interface{ IDs() []string }); ok {
		s.SecretsKeys = ids.IDs()
	}
	return s
}

// SetKeys makes the keys of the gossip what the key file says now.
func (c *Cluster) SetKeys(keys []gossip.CipherKey) error { return c.repl.Peer().SetKeys(keys) }
