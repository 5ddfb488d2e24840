package notify

import (
	"cmp"
	"fmt"
	"maps"
	"path"
	"slices"

	"github.com/paramedic-ha/paramedic/correlate"
)

// maxGlob bounds a glob, a label's name and a label's value in a filter, in bytes.
const maxGlob = 256

// The keys of a filter, as the configuration and the API write them, in the order in which they are judged.
const (
	keyKinds      = "kinds"
	keyTypes      = "resource_types"
	keyResources  = "resources"
	keyConditions = "conditions"
	keyHosts      = "hosts"
	keyZones      = "zones"
	keyLabels     = "labels"
	keySeverity   = "min_severity"
	keyConfidence = "min_confidence"
	keySOL        = "sol"
	keyProjects   = "projects"
	keyDomains    = "domains"
	keyVNFs       = "vnfs"
	keyStates     = "states"
)

// Place is where a host stands: what Filter.Zones and Filter.Labels judge.
type Place struct {
	Zone   string
	Labels map[string]string
}

func (p Place) equal(o Place) bool { return p.Zone == o.Zone && maps.Equal(p.Labels, o.Labels) }

// Places are those of the hosts that are known, by name.
type Places map[string]Place

// SetPlace says where a host stands, this one or another; see Shared.
func (n *Notifier) SetPlace(host string, p Place) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.drain()
	if old, known := n.places[host]; known && old.equal(p) {
		return
	}
	n.places[host] = p
	standing, now := n.standing(), n.cfg.Now()
	muted := n.mutes.byPlace()
	for _, w := range n.list() {
		if muted || w.subscription().Filter.byPlace() {
			w.offer(standing, now)
		}
	}
	n.box.flush()
}

// byPlace says that the filter judges where a host stands.
func (f Filter) byPlace() bool { return len(f.Zones) > 0 || len(f.Labels) > 0 }

// offPlace is the first key of Hosts, Zones and Labels that none of the hosts that an alarm is about fits, together with those
// before it; empty: one fits all. A zone's alarm that names no hosts may be about any in it.
func (f Filter) offPlace(a *correlate.Alarm, where Places) (key string) {
	if len(f.Hosts) == 0 && !f.byPlace() {
		return ""
	}
	hosts, zone := a.Hosts()
	if zone != "" && len(hosts) == 0 {
		if fits(f.Zones, zone) {
			return ""
		}
		return keyZones
	}
	for at, host := range hosts {
		switch place := where[host]; {
		case !fits(f.Hosts, host):
			if at == 0 {
				key = keyHosts
			}
		case !fits(f.Zones, cmp.Or(zone, place.Zone)):
			if key != keyLabels {
				key = keyZones
			}
		case !f.labelled(place.Labels):
			key = keyLabels
		default:
			return ""
		}
	}
	return key
}

// labelled reports whether a host has each of the labels, with one of the values.
func (f Filter) labelled(labels map[string]string) bool {
	for name, values := range f.Labels {
		value, has := labels[name]
		if !has || !fits(values, value) {
			return false
		}
	}
	return true
}

// fits reports whether one of the globs matches; none match all.
func fits(globs []string, s string) bool {
	return len(globs) == 0 || slices.ContainsFunc(globs, func(g string) bool {
		ok, err := path.Match(g, s)
		return err == nil && ok
	})
}

// offSubject is the first key that does not pass what an alarm is about: the resource and the condition, or the class of its cause;
// empty: all do. Of a consumer role it judges what that is told: the class, and the condition when it stands on a domain of its own.
func (f Filter) offSubject(a *correlate.Alarm, consumer bool) (key string) {
	kind, condition := a.Key.Resource.Kind(), a.Key.Condition
	if consumer && !f.own(a) {
		kind, condition = "", ""
	}
	switch {
	case len(f.ResourceTypes) > 0 && !slices.Contains(f.ResourceTypes, kind):
		return keyTypes
	case !fits(f.Resources, string(a.Key.Resource)):
		return keyResources
	case len(f.Conditions) > 0 && !slices.Contains(f.Conditions, condition) && !slices.Contains(f.Conditions, correlate.Condition(a.AbstractCause)):
		return keyConditions
	}
	return ""
}

// own reports whether an alarm stands on a domain of the filter's projects.
func (f Filter) own(a *correlate.Alarm) bool {
	return slices.ContainsFunc(f.Affected(a), func(d correlate.Affected) bool { return d.Resource == a.Key.Resource })
}

// placeProblems checks what was written of hosts and resources.
func (f Filter) placeProblems(bad func(field, format string, args ...any)) {
	globs := func(field string, list []string) {
		if len(list) > maxFilter {
			bad(field, "%d entries, want at most %d", len(list), maxFilter)
		}
		for i, g := range list {
			if problem := globProblem(g); problem != "" {
				bad(fmt.Sprintf("%s[%d]", field, i), "%s", problem)
			}
		}
	}
	globs("filter.hosts", f.Hosts)
	globs("filter.zones", f.Zones)
	globs("filter.resources", f.Resources)
	if len(f.Labels) > maxLabels {
		bad("filter.labels", "%d labels, want at most %d", len(f.Labels), maxLabels)
	}
	for _, name := range slices.Sorted(maps.Keys(f.Labels)) {
		if name == "" || len(name) > maxGlob {
			bad("filter.labels", "%q is not the name of a label", name)
		}
		if len(f.Labels[name]) == 0 {
			bad("filter.labels."+name, "it has no values: name those that pass, or * for any")
		}
		globs("filter.labels."+name, f.Labels[name])
	}
}

const maxLabels = 64

func globProblem(g string) string {
	if g == "" {
		return "an entry is empty: remove it, or leave the list out to pass all"
	}
	if _, err := path.Match(g, ""); err != nil {
		return fmt.Sprintf("%q is not a glob: close every [ with ], and put something behind a \\", g)
	}
	if len(g) > maxGlob {
		return fmt.Sprintf("longer than %d bytes", maxGlob)
	}
	return ""
}

// consumerProblems refuses what would tell a consumer by what it hears, or does not hear, more than it is told.
func (f Filter) consumerProblems(bad func(field, format string, args ...any)) {
	const untold = "role consumer is not told this, so it can't choose by it: remove it"
	for _, key := range []struct {
		field string
		given int
	}{{"filter.hosts", len(f.Hosts)}, {"filter.zones", len(f.Zones)}, {"filter.labels", len(f.Labels)}, {"filter.resources", len(f.Resources)}} {
		if key.given > 0 {
			bad(key.field, untold)
		}
	}
	for i, k := range f.ResourceTypes {
		if k != correlate.KindDomain {
			bad(fmt.Sprintf("filter.resource_types[%d]", i), "role consumer may choose %q only, for what happens to the domain itself", correlate.KindDomain)
		}
	}
	for i, c := range f.Conditions {
		if !slices.Contains(correlate.Causes(), string(c)) && !slices.Contains(correlate.ConditionsOfDomains(), c) && !c.Foreign() {
			bad(fmt.Sprintf("filter.conditions[%d]", i), "role consumer is not told of %q: want one of %v, or of %v", c, correlate.Causes(), correlate.ConditionsOfDomains())
		}
	}
}
