package ledger

import (
	"testing"

	"github.com/paramedic-ha/paramedic/correlate"
)

func TestAHostsStateIsTheGravestThatIsSaidOfIt(t *testing.T) {
	said := func(c correlate.Condition, term uint64, confidence correlate.Confidence) *correlate.Alarm {
		return &correlate.Alarm{
			Key: correlate.Key{Home: "cmp-2", Resource: "host/cmp-2", Condition: c}, Revision: correlate.Revision{Term: term, Counter: 1},
			Confidence: confidence, Evidence: map[string]string{evidenceSpeaker: "cmp-9"},
		}
	}
	sure, unsure := correlate.ConfidenceConfirmed, correlate.ConfidenceProbable
	for _, c := range []struct {
		name    string
		member  bool
		term    uint64
		left    string
		alarms  []*correlate.Alarm
		state   HostState
		how     correlate.Confidence
		speaker string
	}{
		{name: "there", member: true, term: 4, state: HostMember},
		{name: "it asks its peers what it was", member: true, state: HostStarting},
		{name: "gone, and nobody knows why", term: 4, state: HostAway},
		{name: "stopped", left: LeftStopped, state: HostStopped},
		{name: "back, its old word is void", member: true, term: 6, left: LeftStopped, state: HostMember},
		{name: "went down", left: LeftShutdown, state: HostShutdown},
		{name: "is going down", member: true, term: 4, alarms: []*correlate.Alarm{said(correlate.CondHostShutdown, 4, sure)}, state: HostShutdown},
		{name: "not lost yet for the membership", member: true, term: 4, alarms: []*correlate.Alarm{said(correlate.CondHostLost, 5, unsure)}, state: HostLost, how: unsure, speaker: "cmp-9"},
		{name: "lost", term: 4, alarms: []*correlate.Alarm{said(correlate.CondHostLost, 5, sure)}, state: HostLost, how: sure, speaker: "cmp-9"},
		{name: "silent", member: true, term: 4, alarms: []*correlate.Alarm{said(correlate.CondAgentSilent, 5, sure)}, state: HostSilent, speaker: "cmp-9"},
		{name: "hung, then lost", alarms: []*correlate.Alarm{said(correlate.CondHostHung, 5, sure), said(correlate.CondHostLost, 5, sure)}, state: HostLost, how: sure, speaker: "cmp-9"},
		{name: "stopped for too long", left: LeftStopped, alarms: []*correlate.Alarm{said(correlate.CondAgentSilent, 5, sure)}, state: HostSilent, speaker: "cmp-9"},
		{name: "cut off by its own word", member: true, term: 4, alarms: []*correlate.Alarm{said(correlate.CondIsolated, 4, sure)}, state: HostIsolated},
		{name: "something else is wrong", member: true, term: 4, alarms: []*correlate.Alarm{said(correlate.CondHostRestarted, 4, sure)}, state: HostMember},
	} {
		v := HostView{Member: c.member, Term: c.term, Standing: c.alarms, Host: Host{Left: c.left}}
		if state, how, speaker := v.State(); state != c.state || how != c.how || speaker != c.speaker {
			t.Errorf("%s: %s %q by %q, want %s %q by %q", c.name, state, how, speaker, c.state, c.how, c.speaker)
		}
	}
}
