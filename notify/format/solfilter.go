package format

import (
	"slices"
	"strings"

	"github.com/paramedic-ha/paramedic/correlate"
)

// SOLFilter narrows a subscription in the words of SOL's FmNotificationsFilter; an empty list passes all. Which VNF instances and
// fault types are wanted is not part of it: other forms may want to know that, too.
type SOLFilter struct {
	NotificationTypes   []string `json:"notification_types,omitempty"`
	FaultyResourceTypes []string `json:"faulty_resource_types,omitempty"`
	PerceivedSeverities []string `json:"perceived_severities,omitempty"`
	EventTypes          []string `json:"event_types,omitempty"`
	ProbableCauses      []string `json:"probable_causes,omitempty"`
}

// The values that the lists may hold; probable causes are free.
var (
	SOLNotificationTypes   = []string{SOLAlarmNotification, SOLClearedNotification, SOLRebuiltNotification}
	SOLFaultyResourceTypes = []string{solCompute, solStorage, solNetwork}
	SOLPerceivedSeverities = []string{"CRITICAL", "MAJOR", "MINOR", "WARNING", "INDETERMINATE", "CLEARED"}
	SOLEventTypes          = []string{
		"COMMUNICATIONS_ALARM", "PROCESSING_ERROR_ALARM", "ENVIRONMENTAL_ALARM", "QOS_ALARM", "EQUIPMENT_ALARM",
	}
)

// IsZero reports whether it passes everything.
func (s SOLFilter) IsZero() bool {
	return len(s.NotificationTypes)+len(s.FaultyResourceTypes)+len(s.PerceivedSeverities)+len(s.EventTypes)+len(s.ProbableCauses) == 0
}

// Problems calls bad for every entry that can't be, with the name of its list.
func (s SOLFilter) Problems(bad func(field, format string, args ...any)) {
	for _, l := range []struct {
		field         string
		list, allowed []string
	}{
		{"notification_types", s.NotificationTypes, SOLNotificationTypes},
		{"faulty_resource_types", s.FaultyResourceTypes, SOLFaultyResourceTypes},
		{"perceived_severities", s.PerceivedSeverities, SOLPerceivedSeverities},
		{"event_types", s.EventTypes, SOLEventTypes},
	} {
		for _, v := range l.list {
			if !slices.Contains(l.allowed, v) {
				bad(l.field, "%q is not known: want one of %s", v, strings.Join(l.allowed, ", "))
			}
		}
	}
	if len(s.ProbableCauses) > maxCauses || slices.Contains(s.ProbableCauses, "") {
		bad("probable_causes", "want at most %d, and none empty", maxCauses)
	}
}

const maxCauses = 256

// Match judges an alarm by what the consumer may know of it. How severe a cleared one was is not known.
func (s SOLFilter) Match(f Fault) bool {
	a := f.Alarm
	_, _, cause := f.shown(f.Affected)
	in := func(list []string, v string) bool { return len(list) == 0 || slices.Contains(list, v) }
	return in(s.FaultyResourceTypes, faultyType(a)) && in(s.EventTypes, solEventType(a)) && in(s.ProbableCauses, cause) &&
		(a.Severity == correlate.SeverityCleared || in(s.PerceivedSeverities, solSeverity(a)))
}

// Tells reports whether messages of a notification type are wanted.
func (s SOLFilter) Tells(notificationType string) bool {
	return len(s.NotificationTypes) == 0 || slices.Contains(s.NotificationTypes, notificationType)
}
