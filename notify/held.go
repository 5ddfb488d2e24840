package notify

import (
	"slices"
	"strings"
)

// Held are all subscriptions whole, with their secrets; see Shared.
func (n *Notifier) Held() []Subscription {
	var all []Subscription
	for _, w := range n.leads() {
		all = append(all, w.subscription())
	}
	slices.SortFunc(all, func(a, b Subscription) int { return strings.Compare(a.ID, b.ID) })
	return all
}
