package api

import "time"

// Explanation is GET /v1/alarms/{id}/explanation. To a consumer it tells the alarm in the abstract form and its own accounts.
type Explanation struct {
	Alarm      AlarmLife   `json:"alarm"`
	Definition *Definition `json:"definition"` // of the condition; nil: a consumer asks
	Derivation *Derivation `json:"derivation"` // nil: the answering host does not know it
	Accounts   []Account   `json:"accounts"`   // by the names of the subscriptions
	Unknown    []string    `json:"unknown"`    // what is not known here, in words, with who knows
}

// Definition is the rule of a condition, as the policies of the answering host have refined it for the resource; of another host's alarm
// as it is without policies.
type Definition struct {
	Mode           string `json:"mode"`      // level, impulse, latched
	Hold           string `json:"hold"`      // after its last report it clears by itself after this time; empty: it does not
	HoldDown       string `json:"hold_down"` // it must have lasted for this time; empty: it is believed at once
	HoldDownPolicy *int   `json:"hold_down_policy"`
	AckClears      bool   `json:"ack_clears"` // an acknowledgement ends it
	State          string `json:"state"`      // of the resource while it stands
	Severity       string `json:"severity"`
	SeverityPolicy *int   `json:"severity_policy"` // index in correlate.policies of who set it; nil: the rule
	SeverityUnhit  string `json:"severity_unhit"`  // in its place while no domain is hit; empty: the same
	Text           string `json:"text"`
	LikelyCauses   string `json:"likely_causes"` // empty for a condition of another monitor
	Remedy         string `json:"remedy"`
}

// Derivation is how a standing alarm came to be what it is.
type Derivation struct {
	SeverityBy string     `json:"severity_by"` // rule, nobody-hit, source, policy
	Asked      string     `json:"asked"`       // the severity that the source asked for; empty: none
	Reported   bool       `json:"reported"`    // its source says so; else the failed needs alone do
	Ends       *time.Time `json:"ends"`        // it clears by itself then
	Restored   bool       `json:"restored"`    // as the last run told it: not all sources have spoken since the start
	Failed     []NeedMet  `json:"failed"`      // the k-of-n needs of its resource that have failed
	Causes     []Cause    `json:"causes"`      // what explains it, from the nearest to the root cause
	Apart      *Cause     `json:"apart"`       // would explain it, but does not hit all of its domains
	Members    []Cause    `json:"members"`     // what is correlated under it
	Paths      []Path     `json:"paths"`       // to each domain that it hits or endangers
}

// NeedMet is how a need is met.
type NeedMet struct {
	Mode     string `json:"mode"` // all-of, k-of-n, some-of
	K        int    `json:"k"`    // how many must work, of k-of-n; else 0
	Of       int    `json:"of"`
	Failed   int    `json:"failed"`
	Degraded int    `json:"degraded"`
	Left     int    `json:"left"` // that have not failed
}

// Cause is an alarm that explains another, or is explained, and by which rule.
type Cause struct {
	Alarm     string `json:"alarm"`
	Resource  string `json:"resource"`
	Condition string `json:"condition"`
	By        string `json:"by"` // group, follows, last-run, home; empty of Derivation.Apart
}

// Path is the way of a fault to a domain.
type Path struct {
	Resource string `json:"resource"`
	Name     string `json:"name"`
	State    string `json:"state"`
	ByWord   bool   `json:"by_word"` // the source has named the domain, and no need leads there
	Hops     []Hop  `json:"hops"`    // from what needs the alarm's resource to the domain
}

// Hop is a step of a path: Resource needs what stands before it.
type Hop struct {
	Resource string  `json:"resource"`
	Name     string  `json:"name"`
	Need     NeedMet `json:"need"`
	Level    string  `json:"level"` // what the fault makes of it this way
	State    string  `json:"state"` // its health
}

// Account is what a consumer, or one of its endpoints, has of an alarm.
type Account struct {
	Subscription string    `json:"subscription"`
	Consumer     string    `json:"subscription_id"`
	Endpoint     string    `json:"endpoint"` // of one that tells all its endpoints
	Format       string    `json:"format"`
	Role         string    `json:"role"`
	Told         string    `json:"told"` // the newest revision that it has taken, was given, or that was discarded; empty: none that is known of
	Owed         *Delivery `json:"owed"`
	Sent         []Sent    `json:"sent"`   // what it has taken, as far as the answering host still knows; oldest first
	Held         string    `json:"held"`   // why nothing is sent to it now; empty: it is
	Why          string    `json:"why"`    // why it is not told of the newest revision; empty: it was, or is owed it
	Filter       string    `json:"filter"` // of why filter: the first key that does not match
	Mute         string    `json:"mute"`   // of why mute
}

// Sent is a revision that a consumer has taken.
type Sent struct {
	Revision string `json:"revision"`
	Stages
}
