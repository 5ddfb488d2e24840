package format

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/paramedic-ha/paramedic/correlate"
	"github.com/paramedic-ha/paramedic/notify/delivery"
)

// aodh is what OpenStack's Aodh posts for an event alarm on Nova's compute.instance.update, of which OPNFV Doctor's
// consumers live: one message for each virtual machine, state error when the fault hits it and active when it no longer does.
var aodh = Form{
	Name: "aodh", Type: "application/json",
	Parts: aodhParts, Each: true, Fault: aodhFault, Message: aodhMessage, Header: aodhHeader,
}

// aodhAlarm is the body of Aodh's REST notifier. All seven are always there.
type aodhAlarm struct {
	AlarmName  string     `json:"alarm_name"`
	AlarmID    string     `json:"alarm_id"`
	Severity   string     `json:"severity"`
	Previous   string     `json:"previous"`
	Current    string     `json:"current"`
	Reason     string     `json:"reason"`
	ReasonData aodhReason `json:"reason_data"`
}

type aodhReason struct {
	Type  string    `json:"type"`
	Event aodhEvent `json:"event"`
}

type aodhEvent struct {
	EventType string      `json:"event_type"`
	MessageID string      `json:"message_id"`
	Generated string      `json:"generated"`
	Traits    []aodhTrait `json:"traits"`
}

// aodhTrait is written as [name, type, value].
type aodhTrait struct {
	name  string
	kind  int
	value string
}

// Ceilometer's trait types. There are none, integers and floats as well.
const (
	traitText = 1
	traitTime = 4
)

// MarshalJSON writes a trait as Ceilometer does.
func (t aodhTrait) MarshalJSON() ([]byte, error) { return json.Marshal([]any{t.name, t.kind, t.value}) }

// The states of an Aodh alarm.
const (
	aodhUnknown = "insufficient data"
	aodhAlarmed = "alarm"
	aodhOK      = "ok"
)

const (
	aodhType = "compute.instance.update"
	aodhTest = "paramedic.test"
	// maxTrait is where Ceilometer cuts a text: columns are no wider, and Doctor's consumers fail at what is.
	maxTrait = 255
)

func aodhParts(f Fault) []delivery.Part {
	parts := make([]delivery.Part, 0, len(f.Affected))
	for _, d := range f.Affected { // sorted by resource, at-risk ones apart
		shown, _ := json.Marshal([]any{d.Project, d.State, f.Alarm.Severity, f.Alarm.Confidence, f.Alarm.ProbableCause}) // can't fail
		parts = append(parts, delivery.Part{ID: string(d.Resource), Project: d.Project, View: digest(shown)})
	}
	return byID(parts)
}

func aodhFault(f Fault) ([]byte, error) {
	a := f.Alarm
	ask := f.Asks[0] // Each
	one := f.machine(correlate.ID(ask.ID), ask.Project)
	key, text, cause := a.Key, a.Text, a.ProbableCause
	if f.Abstract {
		key, text, cause = Abstract(a, []correlate.Affected{one}, f.Projects)
	}
	body := aodhAlarm{
		AlarmName: string(key.Condition), AlarmID: partAlarm(a.ID, ask.ID), Severity: aodhSeverity(a.Severity),
		Previous: aodhUnknown, Current: aodhAlarmed, Reason: cut(text, maxText),
	}
	state, health := "error", one.State.String()
	switch {
	case ask.Over:
		body.Previous, body.Current, body.Severity, body.Reason = aodhAlarmed, aodhOK, "low", aodhOver(f, ask, text)
		if state, health = "active", "ok"; ask.Still {
			state, health = "error", ""
		}
	case one.State == correlate.StateAtRisk:
		state = "active" // it works; what is wrong is in the health
	}
	traits := []aodhTrait{
		{"state", traitText, state},
		{"instance_id", traitText, one.Resource.Name()},
		{"tenant_id", traitText, one.Project},
		{"cause", traitText, cause},
		{"confidence", traitText, string(a.Confidence)},
		{"alarm", traitText, a.ID},
		{"revision", traitText, a.Revision.String()},
	}
	if health != "" {
		traits = append(traits, aodhTrait{"health", traitText, health})
	}
	if !f.Abstract && key.Host() != "" {
		traits = append(traits, aodhTrait{"host", traitText, key.Host()})
	}
	if !f.Timeline.Occurred.IsZero() {
		traits = append(traits, aodhTrait{"occurred", traitTime, aodhTime(f.Timeline.Occurred)})
	}
	for i := range traits {
		traits[i].value = cut(traits[i].value, maxTrait)
	}
	body.ReasonData = aodhReason{"event", aodhEvent{EventType: aodhType, MessageID: f.ID, Generated: aodhTime(said(a)), Traits: traits}}
	return encode(f.ID, body)
}

// aodhOver is why a machine is told that a fault is over for it.
func aodhOver(f Fault, ask delivery.Ask, text string) string {
	switch a := f.Alarm; {
	case a.Standing() && f.Abstract:
		text = fmt.Sprintf("the %s fault no longer affects this virtual machine", a.AbstractCause)
	case a.Standing():
		text = "no longer affected by: " + text
	case !f.Abstract:
		text = fmt.Sprintf("over (%s): %s", a.ClearReason, text)
	}
	if text = cut(text, maxText); ask.Still {
		text += "; another fault affects it"
	}
	return text
}

func aodhMessage(m Message) ([]byte, error) {
	return encode(m.ID, aodhAlarm{
		AlarmName: aodhTest, AlarmID: partAlarm(m.Subscription, m.Type), Severity: "low", Previous: aodhOK, Current: aodhOK, Reason: m.Text,
		ReasonData: aodhReason{"event", aodhEvent{EventType: aodhTest, MessageID: m.ID, Generated: aodhTime(m.At), Traits: []aodhTrait{}}},
	})
}

// aodhHeader is what Aodh's notifier sets: req- and a UUID.
func aodhHeader(id string) map[string]string {
	return map[string]string{"X-Openstack-Request-Id": "req-" + id}
}

// aodhSeverity is one of the three that Aodh knows.
func aodhSeverity(s correlate.Severity) string {
	switch s {
	case correlate.SeverityCritical:
		return "critical"
	case correlate.SeverityMajor:
		return "moderate"
	case correlate.SeverityMinor, correlate.SeverityWarning, correlate.SeverityIndeterminate, correlate.SeverityCleared, correlate.SeverityUnset:
	}
	return "low"
}

// aodhTime is UTC without a zone, as Ceilometer writes it.
func aodhTime(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000000") }
