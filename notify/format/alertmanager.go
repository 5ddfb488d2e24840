package format

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/paramedic-ha/paramedic/correlate"
	"github.com/paramedic-ha/paramedic/notify/delivery"
)

// alertmanager is what Prometheus' Alertmanager takes at /api/v2/alerts: an alert for the fault itself and one for each
// machine that it hits. An alert is known by its labels and ends when it is not sent again.
var alertmanager = Form{
	Name: "alertmanager", Type: "application/json", Path: "/api/v2/alerts", Repeat: alertRepeat, Beats: true,
	Parts: alertParts, Apart: true, Fault: alertFault, Message: alertMessage,
}

const (
	// alertRepeat is how often what stands is sent again, and alertLife when it ends if it is not: three repetitions may be lost.
	alertRepeat = time.Minute
	alertLife   = 4*alertRepeat + 30*time.Second
	// alertSkew is how much this host's clock may be ahead of Alertmanager's: an end that lies in its future would be put off to the
	// one that was announced before.
	alertSkew = 5 * time.Second
	alertJob  = "paramedic"
	alertTest = "paramedic.test"
)

// alert is postableAlert of Alertmanager's API v2.
type alert struct {
	Labels       map[string]string `json:"labels"`
	Annotations  map[string]string `json:"annotations"`
	StartsAt     string            `json:"startsAt"`
	EndsAt       string            `json:"endsAt"`
	GeneratorURL string            `json:"generatorURL"`
}

// alertParts are the severity for the fault itself, and the severity and the machine for each machine: what is a label is part of what
// an alert is, so that of another severity is another alert, and the one before is over.
func alertParts(f Fault) []delivery.Part {
	if !f.Alarm.Standing() { // how severe it was it does not say
		return nil
	}
	severity := f.Alarm.Severity.String()
	var parts []delivery.Part
	itself := !f.Abstract
	for _, d := range f.Affected {
		itself = itself && d.Resource != f.Alarm.Key.Resource
		parts = append(parts, delivery.Part{ID: severity + " " + string(d.Resource), Project: d.Project})
	}
	if itself {
		parts = append(parts, delivery.Part{ID: severity})
	}
	for i, p := range parts {
		a := newAlert(f, delivery.Ask{Part: p})
		shown, _ := json.Marshal([]any{a.Labels, a.Annotations}) // maps of texts, in order
		parts[i].View = digest(shown)
	}
	return byID(parts)
}

func alertFault(f Fault) ([]byte, error) {
	alerts := make([]alert, 0, len(f.Asks))
	for _, ask := range f.Asks {
		alerts = append(alerts, newAlert(f, ask))
	}
	return encode(f.ID, alerts)
}

func newAlert(f Fault, ask delivery.Ask) alert {
	a := f.Alarm
	severity, machine, about := strings.Cut(ask.ID, " ")
	key, text, cause := a.Key, a.Text, a.ProbableCause
	var one correlate.Affected
	if about {
		one = f.machine(correlate.ID(machine), ask.Project)
		if f.Abstract {
			key, text, cause = Abstract(a, []correlate.Affected{one}, f.Projects)
		}
	}
	labels := map[string]string{
		"alertname": string(key.Condition), "severity": severity, "job": alertJob, "cluster": f.Label, "alarm": a.ID, "class": a.AbstractCause,
	}
	annotations := map[string]string{"summary": cut(text, maxText), "cause": cause, "confidence": string(a.Confidence)}
	if !f.Abstract {
		labels["resource"] = string(key.Resource)
		if key.Host() != "" {
			labels["instance"] = key.Host()
		}
	}
	if about {
		labels["domain"] = one.Resource.Name()
		if one.Project != "" {
			labels["project"] = one.Project
		}
		if one.Name != "" {
			annotations["domain_name"] = cut(one.Name, maxText)
		}
		if !ask.Over {
			annotations["health"] = one.State.String()
		}
	} else if n := len(f.Affected); n > 0 && a.Standing() {
		annotations["affected"] = fmt.Sprint(n)
	}
	begin := a.Times.Occurred
	if begin.IsZero() {
		begin = said(a)
	}
	end := f.Timeline.Sent.Add(alertLife)
	if ask.Over {
		if end = said(a).Add(-alertSkew); end.Before(begin) {
			end = begin
		}
	}
	return alert{
		Labels: labels, Annotations: annotations, StartsAt: RFC3339(begin), EndsAt: RFC3339(end),
		GeneratorURL: "urn:paramedic:" + f.Label + ":alarm:" + a.ID,
	}
}

// beatsLost is how many heartbeats may be lost before the alert of the last one ends.
const beatsLost = 2

// alertMessage is a test: an alert of its own, which ends by itself; or a heartbeat: one that stands for as long as they come.
func alertMessage(m Message) ([]byte, error) {
	if b := m.Beat; b != nil {
		return encode(m.ID, []alert{{
			Labels: map[string]string{
				"alertname": TypeHeartbeat, "severity": correlate.SeverityIndeterminate.String(), "job": alertJob, "cluster": m.Label, "subscription": m.Subscription,
			},
			Annotations: map[string]string{"summary": b.Text(m.Abstract)}, StartsAt: RFC3339(m.At), EndsAt: RFC3339(m.At.Add((beatsLost+1)*b.Every + alertSkew)),
			GeneratorURL: "urn:paramedic:" + m.Label + ":heartbeat:" + m.Subscription,
		}})
	}
	return encode(m.ID, []alert{{
		Labels:      map[string]string{"alertname": alertTest, "severity": correlate.SeverityIndeterminate.String(), "job": alertJob, "cluster": m.Label},
		Annotations: map[string]string{"summary": m.Text}, StartsAt: RFC3339(m.At), EndsAt: RFC3339(m.At.Add(time.Minute)),
		GeneratorURL: "urn:paramedic:" + m.Label + ":test:" + m.ID,
	}})
}
