package config

import (
	"github.com/google/uuid"

	"github.com/paramedic-ha/paramedic/correlate"
	"github.com/paramedic-ha/paramedic/notify"
)

// Subscriptions are the file's subscriptions as notify takes them.
func (c *Config) Subscriptions() []notify.Subscription {
	subs := make([]notify.Subscription, 0, len(c.Notify.Subscriptions))
	for _, s := range c.Notify.Subscriptions {
		subs = append(subs, notify.Subscription{
			ID:        SubscriptionID(c.Cluster.Label, s.Name),
			Name:      s.Name,
			Endpoints: s.Endpoints,
			Format:    s.Format,
			Secret:    s.Secret,
			Role:      notify.Role(s.Role),
			Origin:    notify.OriginFile,
			Filter:    s.Filter.Notify(),
		})
	}
	return subs
}

// SubscriptionID is the UUIDv5 of a file's subscription, so that the same file on 200 hosts makes one subscription.
func SubscriptionID(label, name string) string {
	space := uuid.NewSHA1(uuid.NameSpaceURL, []byte("paramedic:cluster:"+label))
	return uuid.NewSHA1(space, []byte(name)).String()
}

// Notify is the filter as notify takes it; its values have been checked by Parse.
func (f Filter) Notify() notify.Filter {
	minimum, _ := correlate.ParseSeverity(f.MinSeverity) // empty: SeverityUnset, which passes all
	return notify.Filter{
		Projects:      f.Projects,
		Domains:       f.Domains,
		ResourceTypes: convert[correlate.Kind](f.ResourceTypes),
		Conditions:    convert[correlate.Condition](f.Conditions),
		MinSeverity:   minimum,
		Kinds:         f.Kinds,
		States:        states(f.States),
		MinConfidence: correlate.Confidence(f.MinConfidence),
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
