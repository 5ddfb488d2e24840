package config

import (
	"cmp"
	"net/netip"
	"net/url"
	"strings"

	"github.com/paramedic-ha/paramedic/agent/southbound"
	"github.com/paramedic-ha/paramedic/correlate"
	"github.com/paramedic-ha/paramedic/gossip"
	"github.com/paramedic-ha/paramedic/hw/kmsg"
	"github.com/paramedic-ha/paramedic/hw/pressure"
	"github.com/paramedic-ha/paramedic/hw/service"
	"github.com/paramedic-ha/paramedic/notify"
	"github.com/paramedic-ha/paramedic/notify/format"
)

// Subscriptions are the file's subscriptions as notify takes them.
func (c *Config) Subscriptions() []notify.Subscription {
	subs := make([]notify.Subscription, 0, len(c.Notify.Subscriptions))
	for _, s := range c.Notify.Subscriptions {
		subs = append(subs, s.subscription(c.Cluster.Label))
	}
	return subs
}

func (s Subscription) subscription(label string) notify.Subscription {
	return notify.Subscription{
		ID:          notify.FileID(label, s.Name),
		Name:        s.Name,
		Endpoints:   s.Endpoints,
		DeliverTo:   s.DeliverTo,
		Format:      s.Format,
		Secret:      s.Secret,
		Link:        notify.Link{Authorities: s.Authorities, ServerName: s.TLS.ServerName, Direct: s.Proxy == "direct"},
		Credentials: s.Credentials,
		Role:        notify.Role(s.Role),
		Origin:      notify.OriginFile,
		Filter:      s.Filter.filter(),
		MaxRate:     int(s.Rate), // small: checked
		Heartbeat:   s.Heartbeat,
	}
}

// Site is what SOL's messages say of this cloud.
func (s SOL) Site() format.SOLSite {
	return format.SOLSite{APIRoot: strings.TrimRight(s.APIRoot, "/"), VIM: s.VIMConnectionID}
}

// Proxy is the proxy by which notifications leave; nil: none.
func (c *Config) Proxy() *notify.Proxy {
	u, err := url.Parse(c.Notify.Proxy.URL) // checked by Parse
	if err != nil || u.Host == "" {
		return nil
	}
	return &notify.Proxy{Address: u.Host, Credentials: c.Notify.Proxy.Credentials}
}

// filter is f as notify takes it; its values have been checked by Parse.
func (f Filter) filter() notify.Filter {
	minimum, _ := correlate.ParseSeverity(f.MinSeverity) // empty: SeverityUnset, which passes all
	return notify.Filter{
		Projects:      f.Projects,
		Domains:       f.Domains,
		Hosts:         f.Hosts,
		Zones:         f.Zones,
		Labels:        f.Labels,
		Resources:     f.Resources,
		ResourceTypes: convert[correlate.Kind](f.ResourceTypes),
		Conditions:    convert[correlate.Condition](f.Conditions),
		MinSeverity:   minimum,
		Kinds:         f.Kinds,
		States:        states(f.States),
		MinConfidence: correlate.Confidence(f.MinConfidence),
		VNFs:          f.VNFs,
		SOL:           notify.SOLFilter(f.SOL),
	}
}

func convert[T ~string](names []string) []T {
	var out []T
	for _, n := range names {
		out = append(out, T(n))
	}
	return out
}

func states(names []string) []correlate.State {
	var out []correlate.State
	for s := correlate.StateOK; s <= correlate.StateFailed; s++ {
		for _, n := range names {
			if s.String() == n {
				out = append(out, s)
			}
		}
	}
	return out
}

// Policies are the file's policies as the engine takes them.
func (c *Config) Policies() []correlate.Policy {
	var out []correlate.Policy
	for _, p := range c.Correlate.Policies {
		severity, _ := correlate.ParseSeverity(p.Severity) // empty: SeverityUnset, which leaves the rule's
		out = append(out, correlate.Policy{
			Resource:  p.Match.Resource,
			Condition: correlate.Condition(p.Match.Condition),
			Severity:  severity,
			HoldDown:  p.HoldDown,
		})
	}
	return out
}

// Mappings are what the file says of other monitors' events.
func (c *Config) Mappings() []southbound.Mapping {
	var out []southbound.Mapping
	for _, e := range c.Correlate.Events {
		condition := correlate.Condition(e.Condition)
		if condition == "" {
			condition = southbound.ConditionOf(e.Type)
		}
		r := correlate.RuleOf(condition)
		if severity, err := correlate.ParseSeverity(e.Severity); err == nil {
			r.Severity = severity
		}
		if state, ok := mappedStates[e.State]; ok {
			r.State, r.Graded = state, false
		}
		r.EventType = cmp.Or(correlate.EventType(e.EventType), r.EventType)
		r.ProbableCause = cmp.Or(e.ProbableCause, r.ProbableCause)
		if e.Expires != nil {
			r.Hold = *e.Expires
		}
		out = append(out, southbound.Mapping{Type: e.Type, Resource: e.Resource, Rule: r})
	}
	return out
}

var mappedStates = map[string]correlate.State{
	"failed": correlate.StateFailed, "degraded": correlate.StateDegraded, "at-risk": correlate.StateAtRisk, "ok": correlate.StateOK,
}

// KernelPatterns are the file's own rules for the kernel's log.
func (c *Config) KernelPatterns() []kmsg.Pattern {
	var out []kmsg.Pattern
	for _, p := range c.HW.Kmsg.Patterns {
		severity, _ := correlate.ParseSeverity(p.Severity) // empty: SeverityUnset, which leaves the condition's
		out = append(out, kmsg.Pattern{Name: p.Name, Match: p.Match, Severity: severity})
	}
	return out
}

// ServiceUnits are the file's own units to watch.
func (c *Config) ServiceUnits() []service.Unit {
	var out []service.Unit
	for _, u := range c.HW.Service.Units {
		severity, _ := correlate.ParseSeverity(u.Severity) // empty: SeverityUnset, which leaves the conditions'
		out = append(out, service.Unit{Name: u.Name, Network: u.Network, Severity: severity})
	}
	return out
}

// PressureLimits are the file's limits as the source takes them.
func (c *Config) PressureLimits() pressure.Limits {
	p := c.HW.Pressure
	return pressure.Limits{
		correlate.CondMemoryPressure: float64(p.Memory), correlate.CondIOPressure: float64(p.IO), correlate.CondCPUPressure: float64(p.CPU),
		correlate.CondCPUStolen: float64(p.Stolen), correlate.CondCPUStarved: float64(p.Waiting),
		correlate.CondMemoryExhausted: float64(p.MemoryLeft), correlate.CondTasksExhausted: float64(p.TablesLeft),
		correlate.CondFilesExhausted: float64(p.TablesLeft), correlate.CondConntrack: float64(p.TablesLeft),
	}
}

// Peer is what the file says of this host among its peers; the rest of it is the agent's. Keys holds the key file alone:
// gossip.LoadKeyring(c.Cluster.KeyPath, dir) also has what was changed at run time.
func (c *Config) Peer() gossip.PeerConfig {
	return gossip.PeerConfig{
		Node: c.Node.Name, Zone: c.Node.Zone, Bind: c.Cluster.Bind, Advertise: c.Cluster.Advertise, Join: c.Cluster.Join,
		Label: c.Cluster.Label, Keys: gossip.Keyring{Keys: c.Cluster.Keys}, Insecure: c.Cluster.Insecure,
	}
}

// Watch is where this host is watched, and what the others are told of that: the zero address when that is the same.
func (c *Config) Watch() (bind, advertise netip.AddrPort) {
	peer, _ := gossip.ParseAddr(c.Cluster.Bind) // checked by Parse, as the others are
	bind = netip.AddrPortFrom(peer.Addr(), peer.Port()+1)
	if c.Cluster.Watch != "" {
		if addr, err := netip.ParseAddr(c.Cluster.Watch); err == nil {
			bind = netip.AddrPortFrom(addr, gossip.DefaultPort+1)
		} else {
			bind, _ = netip.ParseAddrPort(c.Cluster.Watch)
		}
	}
	if c.Cluster.Advertise != "" {
		told, _ := gossip.ParseAddr(c.Cluster.Advertise)
		advertise = netip.AddrPortFrom(told.Addr(), bind.Port())
	}
	return bind, advertise
}
