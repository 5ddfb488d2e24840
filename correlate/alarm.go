package correlate

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// State is the health of a resource, from best to worst.
type State uint8

// StateOK … StateFailed are ordered: a larger one is worse.
const (
	StateOK State = iota
	StateAtRisk
	StateDegraded
	StateFailed
	// StateUnknown is no step of that order: nobody can tell how it is. Only Affected has it, of a host that is hung.
	StateUnknown
)

func (s State) String() string {
	switch s {
	case StateOK:
		return "ok"
	case StateAtRisk:
		return "at-risk"
	case StateDegraded:
		return "degraded"
	case StateFailed:
		return "failed"
	case StateUnknown:
		return "unknown"
	}
	return "state?"
}

// Severity is X.733's perceived severity. A larger one is worse, with indeterminate beside the order.
type Severity uint8

// The perceived severities of ITU-T X.733 8.1.2.3.
const (
	SeverityUnset Severity = iota
	SeverityCleared
	SeverityIndeterminate
	SeverityWarning
	SeverityMinor
	SeverityMajor
	SeverityCritical
)

var severityNames = [...]string{"", "cleared", "indeterminate", "warning", "minor", "major", "critical"}

func (s Severity) String() string {
	if int(s) < len(severityNames) {
		return severityNames[s]
	}
	return "severity?"
}

// ParseSeverity is the inverse of String for the six names of X.733.
func ParseSeverity(name string) (Severity, error) {
	for i, n := range severityNames {
		if i > 0 && n == name {
			return Severity(i), nil
		}
	}
	return SeverityUnset, fmt.Errorf("severity %q: want critical, major, minor, warning, indeterminate or cleared", name)
}

// EventType is X.733's alarm type.
type EventType string

// The alarm types of ITU-T X.733 8.1.1.
const (
	TypeCommunications   EventType = "communications"
	TypeQualityOfService EventType = "quality-of-service"
	TypeProcessingError  EventType = "processing-error"
	TypeEquipment        EventType = "equipment"
	TypeEnvironmental    EventType = "environmental"
)

// Key says which alarm it is: at most one stands per key.
type Key struct {
	Home      string // the host (or zone) that answers for it
	Resource  ID
	Condition Condition
}

// Host is the home, when that is a host; empty for what is said of a zone (no host has a slash in its name).
func (k Key) Host() string {
	if strings.HasPrefix(k.Home, string(KindZone)+"/") {
		return ""
	}
	return k.Home
}

// Revision orders what is said of one home's alarms: newer is larger. The term is even for the home itself and odd for
// peers who speak for it; the counter runs over all alarms of the home within the term.
type Revision struct{ Term, Counter uint64 }

func (r Revision) String() string { return fmt.Sprintf("%d.%d", r.Term, r.Counter) }

// Compare is -1, 0 or +1.
func (r Revision) Compare(o Revision) int {
	switch {
	case r.Term < o.Term || r.Term == o.Term && r.Counter < o.Counter:
		return -1
	case r == o:
		return 0
	}
	return 1
}

// ParseRevision is the inverse of String.
func ParseRevision(s string) (Revision, error) {
	var r Revision
	if n, err := fmt.Sscanf(s, "%d.%d", &r.Term, &r.Counter); err != nil || n != 2 || r.String() != s {
		return Revision{}, fmt.Errorf("revision %q: want term.counter, for instance 2.7", s)
	}
	return r, nil
}

// Transition is what a revision did.
type Transition string

// The three transitions; they end the CloudEvents type names.
const (
	Raised  Transition = "raised"
	Changed Transition = "changed"
	Cleared Transition = "cleared"
)

// Why an alarm was cleared.
const (
	ReasonRecovered    = "recovered"     // the source says that it is well
	ReasonHeld         = "held"          // its time is over
	ReasonGone         = "resource-gone" // the resource was removed in an orderly way
	ReasonMigrated     = "migrated"      // the domain lives on another host now
	ReasonAcknowledged = "acknowledged"  // a latched condition was acknowledged
	ReasonByHand       = "by-hand"       // an administrator says that it is over
	ReasonReturned     = "returned"      // the host is back, as it was
	ReasonRestarted    = "restarted"     // the host is back, with another kernel
	ReasonFalseAlarm   = "false-alarm"   // the host was heard again before its loss was confirmed
	ReasonSuperseded   = "superseded"    // a graver word about the same host has taken its place
	ReasonForgotten    = "forgotten"     // the host will not come back, an operator says
)

// Confidence says how sure the speaker is; only host loss has more than one level.
type Confidence string

// ConfidenceConfirmed is the default of everything that a host sees of itself.
const (
	ConfidenceProbable  Confidence = "probable"
	ConfidenceConfirmed Confidence = "confirmed"
	ConfidenceFenced    Confidence = "fenced"
)

// Times are the five times of an alarm; a zero time has not come yet.
type Times struct{ Occurred, Observed, Raised, Changed, Cleared time.Time }

// Affected is one domain that an alarm hits or endangers.
type Affected struct {
	Resource ID
	Name     string
	Project  string
	VNF      VNF   `json:",omitzero"`
	State    State // failed, degraded or unknown; at-risk in Alarm.AtRisk
	Ports    []Port
}

// Acknowledgement is an operator's word that the alarm is known.
type Acknowledgement struct {
	By, Comment string
	At          time.Time
}

// Comment is what somebody wrote to a standing alarm.
type Comment struct {
	By, Text string
	At       time.Time
}

// MaxComments is how many comments an alarm keeps: the newest.
const MaxComments = 20

// HandClear is an administrator's word that an alarm is over.
type HandClear struct {
	By, Comment string
	At          time.Time
	// Dismissed is true while the source says still that the condition holds: it raises no alarm again before it was well once,
	// or is reported with another severity than Asked.
	Dismissed bool
	Asked     Severity // what the source asked for
}

// Alarm is one revision of a condition that stands on a resource. Immutable.
type Alarm struct {
	Key      Key
	ID       string   // f(Key, the revision that raised it): a new occurrence is a new id
	First    Revision // the one that raised it: alarms are older or younger by this, whatever the clock did
	Revision Revision
	Last     Transition // what this revision did; Cleared means that it no longer stands

	Severity      Severity
	EventType     EventType
	ProbableCause string // X.733 spelling
	AbstractCause string // compute, network, storage, power or hypervisor: what tenants are told
	Confidence    Confidence
	Reached       Revision // of a host's loss: the one that came to Confidence; else zero
	State         State    // what the condition does to its resource

	// Under is the id of the root-cause alarm that this one is correlated under; such an alarm can be queried but is
	// not sent. RootCause is Under == "".
	Under      string
	RootCause  bool
	Correlated []string // ids: the members under a root cause, or the root cause of a member; sorted

	Source      string
	Text        string
	Evidence    map[string]string
	Times       Times
	ClearReason string

	// Lost is true while the resource is out of the topology because a fault took it (GoneByFault, GoneVanished): such
	// an alarm survives a restart although no source states the resource, and an acknowledgement clears it.
	Lost bool
	// NeededBy are the physical resources that need this one; sorted. A source that starts anew is told them (hw/nic),
	// for its lists can't show what is missing.
	NeededBy []ID

	Affected []Affected // failed or degraded because of it; sorted by resource; of a cleared alarm: the last ones, as they are now
	AtRisk   []Affected // one more fault away; sorted by resource

	Ack      *Acknowledgement
	Comments []Comment  // oldest first; a comment makes no revision
	ByHand   *HandClear // of a cleared one: who cleared it
}

// EvidenceHost begins the evidence of a zone's alarm about each host that was lost with it; the name follows.
const EvidenceHost = "host."

// Hosts are the hosts that an alarm is about: its home, or of what is said of a zone those that its evidence names, in order,
// and the zone.
func (a *Alarm) Hosts() (hosts []string, zone string) {
	if host := a.Key.Host(); host != "" {
		return []string{host}, ""
	}
	for name := range a.Evidence {
		if host, ok := strings.CutPrefix(name, EvidenceHost); ok {
			hosts = append(hosts, host)
		}
	}
	slices.Sort(hosts)
	return hosts, a.Key.Resource.Name()
}

// Standing reports whether the condition still holds.
func (a *Alarm) Standing() bool { return a.Last != Cleared }

// Dismissed reports whether an alarm that was cleared by hand must be remembered: its source has not said yet that all is well.
func (a *Alarm) Dismissed() bool { return !a.Standing() && a.ByHand != nil && a.ByHand.Dismissed }

// What people say of an alarm that makes no revision.
const (
	Acknowledged = "acknowledged"
	Commented    = "commented"
)

// Noted is what was said last of an alarm since an earlier form of the same revision; empty: nothing.
func (a *Alarm) Noted(before *Alarm) string {
	switch n := len(a.Comments); {
	case a.Ack != nil && (before.Ack == nil || *a.Ack != *before.Ack):
		return Acknowledged
	case n > 0 && !before.Said(a.Comments[n-1]):
		return Commented
	}
	return ""
}
