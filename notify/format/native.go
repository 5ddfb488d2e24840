package format

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/paramedic-ha/paramedic/correlate"
	"github.com/paramedic-ha/paramedic/notify/delivery"
)

// native is CloudEvents 1.0, structured JSON.
var native = Form{
	Name: Default, Type: "application/cloudevents+json", Verification: VerifyEcho, Beats: true, Fault: Native, Message: NativeMessage,
}

// The native types that are not about an alarm.
const (
	TypeTest         = "paramedic.test"
	TypeVerification = "paramedic.verification"
	TypeHeartbeat    = "paramedic.heartbeat"
	TypeRebuilt      = "paramedic.rebuilt"
)

// Bounds of what is not the consumer's own list, so that a body stays under 20 kB (Standard Webhooks 1.0) unless the
// affected list needs more. In bytes of text before escaping; JSON may double them.
const (
	maxText       = 1024
	maxEvidence   = 4096
	maxCorrelated = 64
)

// Timeline is the way of a fault under OPNFV Doctor's names.
type Timeline struct {
	Occurred, Observed, Found, Outbox, Sent time.Time // T00, T01, T02, T06, T08
}

// Fault is one notification about an alarm.
type Fault struct {
	ID           string // the notification's
	Label        string // the cluster's
	Reporter     string // the node that sends
	Subscription string
	Alarm        *correlate.Alarm
	Affected     []correlate.Affected // those that this consumer wants to hear of
	// Abstract is what a consumer role gets: no host, no physical names, an abstract cause. Projects are the
	// consumer's own.
	Abstract bool
	Projects []string
	Timeline Timeline
	Asks     []delivery.Ask // of a form with Parts: those that the message is about
	// Superseded is how many older revisions this one has replaced unsent, as far as the sender knows.
	Superseded int
	SOL        SOLSite
}

type envelope struct {
	SpecVersion string `json:"specversion"`
	ID          string `json:"id"`
	Source      string `json:"source"`
	Type        string `json:"type"`
	Time        string `json:"time"`
	Subject     string `json:"subject,omitempty"`
	ContentType string `json:"datacontenttype"`
	Data        any    `json:"data"`
}

type faultData struct {
	Notification string            `json:"notification"`
	Subscription string            `json:"subscription"`
	Reporter     string            `json:"reporter,omitempty"`
	Host         string            `json:"host,omitempty"`
	Alarm        alarmData         `json:"alarm"`
	Superseded   int               `json:"superseded,omitempty"`
	Affected     []affectedData    `json:"affected"`
	Evidence     map[string]string `json:"evidence,omitempty"`
	Timeline     map[string]string `json:"timeline"`
}

type alarmData struct {
	ID            string    `json:"id"`
	Revision      string    `json:"revision"`
	State         string    `json:"state"`
	Confidence    string    `json:"confidence"`
	Severity      string    `json:"severity"`
	EventType     string    `json:"event_type"`
	Condition     string    `json:"condition"`
	ProbableCause string    `json:"probable_cause"`
	RootCause     bool      `json:"root_cause"`
	Correlated    []string  `json:"correlated"`
	Text          string    `json:"text"`
	Times         timesData `json:"times"`
	ClearReason   string    `json:"clear_reason,omitempty"`
}

type timesData struct {
	Occurred *string `json:"occurred"`
	Observed *string `json:"observed"`
	Raised   *string `json:"raised"`
	Changed  *string `json:"changed"`
	Cleared  *string `json:"cleared"`
}

type affectedData struct {
	Resource string     `json:"resource"`
	Name     string     `json:"name,omitempty"`
	Project  string     `json:"project,omitempty"`
	VNF      string     `json:"vnf,omitempty"`
	VNFC     string     `json:"vnfc,omitempty"`
	State    string     `json:"state"`
	Ports    []portData `json:"ports,omitempty"`
}

type portData struct {
	MAC    string `json:"mac"`
	PortID string `json:"port_id,omitempty"`
}

// Native writes a fault in the native form. The same Fault gives the same bytes; between two senders only reporter,
// superseded, evidence and timeline may differ.
func Native(f Fault) ([]byte, error) {
	a := f.Alarm
	d := faultData{
		Notification: "fault", Subscription: f.Subscription,
		Alarm: alarmData{
			ID: a.ID, Revision: a.Revision.String(), State: string(a.Last), Confidence: string(a.Confidence),
			Severity: a.Severity.String(), EventType: string(a.EventType), Condition: string(a.Key.Condition),
			ProbableCause: a.ProbableCause, RootCause: a.RootCause, Correlated: correlated(a.Correlated),
			Text: cut(a.Text, maxText), ClearReason: a.ClearReason,
			Times: timesData{
				Occurred: stamp(a.Times.Occurred), Observed: stamp(a.Times.Observed), Raised: stamp(a.Times.Raised),
				Changed: stamp(a.Times.Changed), Cleared: stamp(a.Times.Cleared),
			},
		},
		Superseded: max(0, f.Superseded),
		Affected:   affected(f.Affected),
		Timeline:   f.Timeline.encode(),
	}
	e := envelope{Type: "paramedic.fault." + string(a.Last), Time: RFC3339(said(a)), ID: f.ID}
	if f.Abstract {
		abstract(&d, &e, f)
	} else {
		d.Reporter, d.Host = f.Reporter, a.Key.Host()
		d.Evidence = evidence(a.Evidence)
		e.Source, e.Subject = source(f.Label, a.Key.Home), Subject(a.Key)
	}
	return e.encode(d)
}

// abstract takes everything physical out of a notification to a consumer role.
func abstract(d *faultData, e *envelope, f Fault) {
	a := f.Alarm
	e.Source = source(f.Label, "")
	d.Alarm.Correlated = []string{}
	var key correlate.Key
	key, d.Alarm.Text, d.Alarm.ProbableCause = Abstract(a, f.Affected, f.Projects)
	d.Alarm.Condition, e.Subject = string(key.Condition), string(key.Resource)
}

// Abstract is what a consumer role may know of an alarm: the first of its own domains that is affected, or else its
// project, in place of the resource; the abstract cause in place of condition and probable cause, unless they are those of
// its own domain; and a text without names.
func Abstract(a *correlate.Alarm, affected []correlate.Affected, projects []string) (key correlate.Key, text, cause string) {
	key, cause = correlate.Key{Condition: correlate.Condition(a.AbstractCause)}, a.AbstractCause
	if slices.ContainsFunc(affected, func(d correlate.Affected) bool { return d.Resource == a.Key.Resource }) {
		key.Condition, cause = a.Key.Condition, a.ProbableCause
	}
	switch {
	case len(affected) > 0:
		key.Resource = affected[0].Resource
	case len(projects) > 0:
		key.Resource = correlate.ID("project/" + projects[0])
	}
	switch n := len(affected); {
	case !a.Standing():
		text = fmt.Sprintf("the %s fault is over", a.AbstractCause)
	case n == 0:
		text = fmt.Sprintf("the %s fault no longer affects your virtual machines", a.AbstractCause)
	case n == 1:
		text = fmt.Sprintf("a %s fault affects one of your virtual machines", a.AbstractCause)
	default:
		text = fmt.Sprintf("a %s fault affects %d of your virtual machines", a.AbstractCause, n)
	}
	return key, text, cause
}

// Beat is what a heartbeat says.
type Beat struct {
	Every           time.Duration
	Next            time.Time          // when the next is due
	Alarms          int                // standing ones of which the consumer is told
	Severity        correlate.Severity // the worst of them
	Pending, Parked int                // deliveries that it is owed, by all hosts
	Alive           int                // hosts
	Lost            []string           // those that are lost, by name
	Expires         time.Time          // of the subscription; zero: never
}

// Text is a heartbeat in words, of which a consumer role learns no host.
func (b Beat) Text(abstract bool) string {
	text := fmt.Sprintf("watching; %d alarms stand, %d deliveries wait, %d are parked", b.Alarms, b.Pending, b.Parked)
	if !abstract {
		text += fmt.Sprintf("; %d hosts are there, %d are lost", b.Alive, len(b.Lost))
	}
	return text
}

type beatData struct {
	messageData
	Interval float64   `json:"interval"` // seconds
	Next     string    `json:"next"`
	Alarms   int       `json:"alarms"`
	Severity string    `json:"severity,omitempty"`
	Pending  int       `json:"pending"`
	Parked   int       `json:"parked"`
	Hosts    *beatHost `json:"hosts,omitempty"`
	Expires  string    `json:"expires,omitempty"`
}

type beatHost struct {
	Alive int      `json:"alive"`
	Lost  []string `json:"lost"`
}

// Message is a notification that is not about an alarm: a test, a verification or a heartbeat.
type Message struct {
	ID, Type, Label, Reporter, Subscription string
	Abstract                                bool
	At                                      time.Time
	Challenge                               string // of a verification
	Text                                    string
	Beat                                    *Beat // of a heartbeat
	SOL                                     SOLSite
}

type messageData struct {
	Notification string `json:"notification"`
	Subscription string `json:"subscription"`
	Reporter     string `json:"reporter,omitempty"`
	Challenge    string `json:"challenge,omitempty"`
	Text         string `json:"text,omitempty"`
}

// NativeMessage writes a test, a verification or a heartbeat in the native form. A heartbeat comes from the cluster, whoever
// sends it.
func NativeMessage(m Message) ([]byte, error) {
	d := messageData{
		Notification: strings.TrimPrefix(m.Type, "paramedic."), Subscription: m.Subscription,
		Reporter: m.Reporter, Challenge: m.Challenge, Text: m.Text,
	}
	e := envelope{Type: m.Type, Time: RFC3339(m.At), ID: m.ID, Source: source(m.Label, m.Reporter)}
	if m.Abstract {
		d.Reporter, e.Source = "", source(m.Label, "")
	}
	if b := m.Beat; b != nil {
		e.Source, d.Text = source(m.Label, ""), b.Text(m.Abstract)
		beat := beatData{messageData: d, Interval: b.Every.Seconds(), Next: RFC3339(b.Next), Alarms: b.Alarms, Pending: b.Pending, Parked: b.Parked}
		if b.Alarms > 0 {
			beat.Severity = b.Severity.String()
		}
		if !b.Expires.IsZero() {
			beat.Expires = RFC3339(b.Expires)
		}
		if !m.Abstract {
			beat.Hosts = &beatHost{b.Alive, correlated(b.Lost)}
		}
		return e.encode(beat)
	}
	return e.encode(d)
}

func (e envelope) encode(data any) ([]byte, error) {
	e.SpecVersion, e.ContentType, e.Data = "1.0", "application/json", data
	return encode(e.ID, e)
}

func source(label, home string) string {
	if home == "" {
		return "/paramedic/" + label
	}
	return "/paramedic/" + label + "/" + home
}

// Subject names an alarm's resource cluster-wide: virtual ones and zones by their own id, physical ones under their host.
func Subject(k correlate.Key) string {
	host := "host/" + k.Home
	if k.Resource.Kind().Virtual() || k.Host() == "" || string(k.Resource) == host {
		return string(k.Resource)
	}
	return host + "/" + string(k.Resource)
}

// said is when this revision was made: the same whoever sends it.
func said(a *correlate.Alarm) time.Time {
	t := a.Times
	for _, at := range []time.Time{t.Cleared, t.Changed, t.Raised, t.Observed} {
		if !at.IsZero() {
			return at
		}
	}
	return t.Occurred
}

// RFC3339 is how every time is written: UTC, with nanoseconds.
func RFC3339(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000000000Z07:00") }

func stamp(t time.Time) *string {
	if t.IsZero() {
		return nil
	}
	s := RFC3339(t)
	return &s
}

func (t Timeline) encode() map[string]string {
	m := map[string]string{}
	for name, at := range map[string]time.Time{"T00": t.Occurred, "T01": t.Observed, "T02": t.Found, "T06": t.Outbox, "T08": t.Sent} {
		if !at.IsZero() {
			m[name] = RFC3339(at)
		}
	}
	return m
}

func affected(list []correlate.Affected) []affectedData {
	out := make([]affectedData, 0, len(list))
	for _, a := range list {
		d := affectedData{Resource: string(a.Resource), Name: a.Name, Project: a.Project, VNF: a.VNF.ID, VNFC: a.VNF.VNFC, State: a.State.String()}
		for _, p := range a.Ports {
			d.Ports = append(d.Ports, portData(p))
		}
		out = append(out, d)
	}
	return out
}

func correlated(ids []string) []string {
	if ids == nil {
		return []string{}
	}
	return ids[:min(len(ids), maxCorrelated)]
}

// evidence keeps what fits, in the order of its keys, and says when something did not.
func evidence(all map[string]string) map[string]string {
	out := map[string]string{}
	room := maxEvidence
	for _, k := range slices.Sorted(maps.Keys(all)) {
		v := cut(all[k], maxText)
		room -= len(k) + len(v)
		if room < 0 {
			out["truncated"] = "true"
			break
		}
		out[k] = v
	}
	return out
}

// cut shortens s to at most n bytes at a rune's edge.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	n -= len("…")
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n] + "…"
}
