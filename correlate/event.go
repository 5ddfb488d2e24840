package correlate

import "time"

// Condition names what can be wrong with a resource; rule.go says what each means.
type Condition string

// Status is what an observation says of a condition. The zero value is StatusUnknown, so that a forgotten status
// neither raises nor clears.
type Status uint8

// StatusUnknown keeps the last known state: a read that failed is neither a fault nor a recovery.
const (
	StatusUnknown Status = iota
	StatusOK
	StatusFailed
)

func (s Status) String() string {
	switch s {
	case StatusOK:
		return "ok"
	case StatusFailed:
		return "failed"
	case StatusUnknown:
	}
	return "unknown"
}

// Event is one observation, by one source, of one condition of one resource.
type Event struct {
	Source    string
	Resource  ID
	Condition Condition
	Status    Status
	Severity  Severity // overrides the rule's; SeverityUnset leaves it
	Text      string   // for people: what was seen, with the figures
	// Occurred is when it happened as far as the source can tell (a kernel or BMC time stamp), Observed when the
	// source learned of it. A zero Occurred means Observed.
	Occurred, Observed time.Time
	// Reason is why an OK clears, when it is not simply ReasonRecovered.
	Reason string
	// Hit are domains that it has hit and that no source may state any more; they count beside those that the topology shows.
	Hit []Affected
	// Evidence is for administrators: raw values, counters, record ids.
	Evidence map[string]string
}
