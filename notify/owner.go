package notify

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Owners are the projects that each consumer may hear of now, by its name. Nil: this host does not know, and nobody's
// subscription is judged by it.
type Owners map[string][]string

// within is a subscription as far as its owner may hear it now, and why that is less than it asks; empty: it is not. With
// nothing it may hear nothing at all.
func (s Subscription) within(owners Owners) (told Subscription, withheld string, nothing bool) {
	if s.Owner == "" || owners == nil {
		return s, "", false
	}
	may, known := owners[s.Owner]
	if !known {
		return s, fmt.Sprintf("its owner %q is no consumer that the configuration of this host names in api.tokens or api.certificates: "+
			"name it there, or end the subscription", s.Owner), true
	}
	var kept, lost []string
	for _, project := range s.Filter.Projects {
		if slices.Contains(may, project) {
			kept = append(kept, project)
		} else {
			lost = append(lost, project)
		}
	}
	if len(lost) == 0 {
		return s, "", false
	}
	s.Filter.Projects = kept
	return s, fmt.Sprintf("its owner %q may hear no more of %s, as the configuration of this host has it", s.Owner, strings.Join(lost, ", ")), len(kept) == 0
}

// told is the subscription as this host may tell it. Under mu.
func (w *worker) told() Subscription {
	s, _, _ := w.sub.within(w.n.granted())
	return s
}

// silenced says why this host may tell the subscription nothing; empty when it may tell something. Under mu.
func (w *worker) silenced() string {
	if _, withheld, nothing := w.sub.within(w.n.granted()); nothing {
		return withheld
	}
	return ""
}

// granted are the owners as they are now.
func (n *Notifier) granted() Owners {
	if o := n.owners.Load(); o != nil {
		return *o
	}
	return nil
}

// SetOwners replaces Config.Owners. What an owner has lost is told no more from then on: of what its subscriptions were told they
// hear that it no longer hits them, and the end. What it has gained it is owed.
func (n *Notifier) SetOwners(owners Owners) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.drain()
	old := n.granted()
	if (old == nil) == (owners == nil) && maps.EqualFunc(old, owners, slices.Equal) {
		return
	}
	n.owners.Store(&owners)
	now := n.cfg.Now()
	for _, w := range n.list() {
		w.mu.Lock()
		_, before, _ := w.sub.within(old)
		_, after, _ := w.sub.within(owners)
		if before == after {
			w.mu.Unlock()
			continue
		}
		if after != "" {
			n.log.Warn("a subscription hears less than it asks", "subscription", w.sub.Name, "owner", w.sub.Owner, "reason", after)
		}
		w.machine.Reform(now)
		w.align(now)
		w.pump(now)
		w.mu.Unlock()
		w.offer(n.standing(), now)
	}
	n.box.flush()
}
