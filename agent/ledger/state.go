package ledger

import (
	"time"

	"github.com/paramedic-ha/paramedic/correlate"
)

// HostState says in a word how a host is.
type HostState string

// The states. Those from HostStopped to HostAway are of hosts that are not there.
const (
	HostMember   HostState = "member"
	HostStarting HostState = "starting" // it asks its peers what it was before
	HostIsolated HostState = "isolated" // by its own word
	HostStopped  HostState = "stopped"  // its agent was, in an orderly way
	HostShutdown HostState = "shutdown" // it went down by its own word, or is about to
	HostSilent   HostState = "silent"   // its kernel answers, its agent does not
	HostHung     HostState = "hung"     // the same for long
	HostLost     HostState = "lost"     // nothing of it answers
	HostAway     HostState = "away"     // it is not there, and nobody has said why
)

// HostStates are all of them.
func HostStates() []HostState {
	return []HostState{HostMember, HostStarting, HostIsolated, HostStopped, HostShutdown, HostSilent, HostHung, HostLost, HostAway}
}

// HostWatch is what the watch of this host knows of one.
type HostWatch struct {
	Observers []string      // who watch it, by name
	Silence   time.Duration // since its agent was heard; watch.AgeNever: never, and of this host itself
	NoEcho    bool          // its kernel answers no echoes: it gets the longer deadline
}

// State says how the host is: what its peers say of it when it can't speak, else what it says of itself. Confidence is that of its
// loss, and speaker the peer that speaks for it; both are empty otherwise.
func (v *HostView) State() (state HostState, confidence correlate.Confidence, speaker string) {
	for _, grave := range gravest {
		for _, a := range v.Standing {
			if a.Key.Condition != grave.condition {
				continue
			}
			if grave.state == HostLost {
				confidence = a.Confidence
			}
			return grave.state, confidence, Speaker(a)
		}
	}
	switch {
	case v.Member && v.Term == 0:
		return HostStarting, "", ""
	case v.Member:
		return HostMember, "", ""
	case v.Left == LeftStopped:
		return HostStopped, "", ""
	case v.Left == LeftShutdown:
		return HostShutdown, "", ""
	}
	return HostAway, "", ""
}

// gravest are the conditions that make a state, the gravest first.
var gravest = [...]struct {
	condition correlate.Condition
	state     HostState
}{
	{correlate.CondHostLost, HostLost},
	{correlate.CondHostHung, HostHung},
	{correlate.CondAgentSilent, HostSilent},
	{correlate.CondHostShutdown, HostShutdown},
	{correlate.CondIsolated, HostIsolated},
}

// evidenceSpeaker names who speaks for another host or a zone.
const evidenceSpeaker = "speaker"

// Speaker is the peer that has made a revision of an alarm in the place of its home; empty: the home itself has.
func Speaker(a *correlate.Alarm) string {
	if a.Revision.Term%2 == 0 {
		return ""
	}
	return a.Evidence[evidenceSpeaker]
}
