package format

import (
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/paramedic-ha/paramedic/correlate"
	"github.com/paramedic-ha/paramedic/notify/delivery"
)

// sol is VNF fault management as ETSI GS NFV-SOL 002 and 003 have it (7.5.2, version 1.3.0 of the API): an alarm for each VNF
// instance that a fault hits. A machine of which no VNF is known stands for itself.
var sol = Form{
	Name: "sol", Type: "application/json", Verification: VerifyGet, Rebuilds: true,
	Parts: solParts, Each: true, Apart: true, Fault: solFault, Message: solMessage,
}

// SOLBase is where the API of VNF fault management begins, below the root.
const SOLBase = "/vnffm/v1"

// The notification types of SOL.
const (
	SOLAlarmNotification   = "AlarmNotification"
	SOLClearedNotification = "AlarmClearedNotification"
	SOLRebuiltNotification = "AlarmListRebuiltNotification"
)

// SOLSite is what SOL's messages say of this cloud.
type SOLSite struct {
	APIRoot string // what SOLBase stands behind, without a slash at its end; empty: links begin with SOLBase
	VIM     string // the id under which VNF managers know this cloud (vimConnectionId)
}

// SOLAlarm is SOL's Alarm. A nil time, and an empty list, is left out.
type SOLAlarm struct {
	ID               string          `json:"id"`
	ManagedObject    string          `json:"managedObjectId"`
	VNFCs            []string        `json:"vnfcInstanceIds,omitempty"`
	FaultyResource   *SOLFaulty      `json:"rootCauseFaultyResource,omitempty"`
	RaisedTime       string          `json:"alarmRaisedTime"`
	ChangedTime      *string         `json:"alarmChangedTime,omitempty"`
	ClearedTime      *string         `json:"alarmClearedTime,omitempty"`
	AcknowledgedTime *string         `json:"alarmAcknowledgedTime,omitempty"`
	AckState         string          `json:"ackState"`
	Severity         string          `json:"perceivedSeverity"`
	EventTime        string          `json:"eventTime"`
	EventType        string          `json:"eventType"`
	FaultType        string          `json:"faultType,omitempty"`
	ProbableCause    string          `json:"probableCause"`
	RootCause        bool            `json:"isRootCause"`
	Correlated       []string        `json:"correlatedAlarmIds,omitempty"`
	Details          []string        `json:"faultDetails,omitempty"`
	Links            map[string]Link `json:"_links"`
}

// SOLFaulty is SOL's FaultyResourceInfo.
type SOLFaulty struct {
	Resource SOLHandle `json:"faultyResource"`
	Type     string    `json:"faultyResourceType"`
}

// SOLHandle is SOL's ResourceHandle.
type SOLHandle struct {
	VIM          string `json:"vimConnectionId"`
	ID           string `json:"resourceId"`
	ResourceType string `json:"vimLevelResourceType"`
}

// Link is SOL's Link and NotificationLink.
type Link struct {
	Href string `json:"href"`
}

// solNotification is any of the three.
type solNotification struct {
	ID           string          `json:"id"`
	Type         string          `json:"notificationType"`
	Subscription string          `json:"subscriptionId"`
	TimeStamp    string          `json:"timeStamp"`
	Alarm        *SOLAlarm       `json:"alarm,omitempty"`
	AlarmID      string          `json:"alarmId,omitempty"`
	ClearedTime  *string         `json:"alarmClearedTime,omitempty"`
	Links        map[string]Link `json:"_links"`
}

// The words of SOL's enumerations that are not those of X.733.
const (
	SOLAcknowledged   = "ACKNOWLEDGED"
	SOLUnacknowledged = "UNACKNOWLEDGED"

	solServer = "OS::Nova::Server"

	solCompute = "COMPUTE"
	solStorage = "STORAGE"
	solNetwork = "NETWORK"
)

var solEventTypes = map[correlate.EventType]string{
	correlate.TypeCommunications: "COMMUNICATIONS_ALARM", correlate.TypeProcessingError: "PROCESSING_ERROR_ALARM",
	correlate.TypeEnvironmental: "ENVIRONMENTAL_ALARM", correlate.TypeQualityOfService: "QOS_ALARM", correlate.TypeEquipment: "EQUIPMENT_ALARM",
}

// ManagedObject is the id of the VNF instance that a machine is part of, or the machine's own when none is known.
func ManagedObject(d correlate.Affected) string {
	if d.VNF.ID != "" {
		return d.VNF.ID
	}
	return d.Resource.Name()
}

// SOLAlarmID is the id of the SOL alarm about one managed object, whoever tells of it. It is a UUID.
func SOLAlarmID(alarm, object string) string { return partAlarm(alarm, object) }

// SOLHref is the address of what is at path below SOLBase.
func (s SOLSite) SOLHref(path ...string) Link {
	href := s.APIRoot + SOLBase
	for _, p := range path {
		href += "/" + url.PathEscape(p)
	}
	return Link{href}
}

// byObject groups machines by managed object, in the order of its id; those of one stay in theirs.
func byObject(list []correlate.Affected) (objects []string, of map[string][]correlate.Affected) {
	of = map[string][]correlate.Affected{}
	for _, d := range list {
		id := ManagedObject(d)
		of[id] = append(of[id], d)
	}
	for id := range of {
		objects = append(objects, id)
	}
	slices.Sort(objects)
	return objects, of
}

func solParts(f Fault) []delivery.Part {
	objects, of := byObject(f.Affected)
	parts := make([]delivery.Part, 0, len(objects))
	a := f.Alarm
	for _, id := range objects {
		var machines []any
		for _, d := range of[id] {
			machines = append(machines, d.Resource, d.State, d.VNF.VNFC)
		}
		shown, _ := json.Marshal([]any{a.Severity, a.Confidence, a.EventType, a.ProbableCause, machines}) // can't fail
		parts = append(parts, delivery.Part{ID: id, Project: of[id][0].Project, View: digest(shown)})
	}
	return parts
}

func solFault(f Fault) ([]byte, error) {
	ask, a := f.Asks[0], f.Alarm // Each
	n := solNotification{
		Type: SOLAlarmNotification, Subscription: f.Subscription, TimeStamp: RFC3339(said(a)),
		Links: map[string]Link{"subscription": f.SOL.SOLHref("subscriptions", f.Subscription)},
	}
	if ask.Over {
		n.Type, n.AlarmID, n.ClearedTime = SOLClearedNotification, SOLAlarmID(a.ID, ask.ID), stamp(said(a))
		n.Links["alarm"] = f.SOL.SOLHref("alarms", n.AlarmID)
	} else {
		var hit []correlate.Affected
		for _, d := range f.Affected {
			if ManagedObject(d) == ask.ID {
				hit = append(hit, d)
			}
		}
		alarm := f.solAlarm(ask.ID, hit)
		n.Alarm = &alarm
	}
	// One notification has one id, however many subscriptions it goes to.
	n.ID = uuid.NewSHA1(uuid.NameSpaceOID, fmt.Appendf(nil, "%s\x00%s\x00%s\x00%s", n.Type, a.ID, a.Revision, ask.ID)).String()
	return encode(f.ID, n)
}

// SOLAlarms are what a fault is in the words of SOL, by managed object. Of f, ID, Asks, Subscription and Timeline are not read.
func SOLAlarms(f Fault) []SOLAlarm {
	objects, of := byObject(f.Affected)
	alarms := make([]SOLAlarm, 0, len(objects))
	for _, id := range objects {
		alarms = append(alarms, f.solAlarm(id, of[id]))
	}
	return alarms
}

// solAlarm is the SOL alarm about one managed object, of which these machines are hit.
func (f Fault) solAlarm(object string, hit []correlate.Affected) SOLAlarm {
	a := f.Alarm
	key, text, cause := f.shown(hit)
	id := SOLAlarmID(a.ID, object)
	out := SOLAlarm{
		ID: id, ManagedObject: object, VNFCs: components(hit), FaultyResource: f.faulty(hit),
		RaisedTime: RFC3339(raised(a)), ChangedTime: changed(a), ClearedTime: stamp(a.Times.Cleared),
		AckState: SOLUnacknowledged, Severity: solSeverity(a), EventTime: RFC3339(began(a)),
		EventType: solEventType(a), FaultType: string(key.Condition), ProbableCause: cause, RootCause: a.RootCause,
		Details: f.details(text, key, hit), Links: map[string]Link{"self": f.SOL.SOLHref("alarms", id)},
	}
	if a.Ack != nil {
		out.AckState, out.AcknowledgedTime = SOLAcknowledged, stamp(a.Ack.At)
	}
	if !f.Abstract {
		for _, other := range correlated(a.Correlated) {
			out.Correlated = append(out.Correlated, SOLAlarmID(other, object))
		}
	}
	return out
}

// shown is what the consumer may know of the fault when it hits these machines.
func (f Fault) shown(hit []correlate.Affected) (key correlate.Key, text, cause string) {
	if f.Abstract {
		return Abstract(f.Alarm, hit, f.Projects)
	}
	return f.Alarm.Key, f.Alarm.Text, f.Alarm.ProbableCause
}

func components(hit []correlate.Affected) []string {
	var ids []string
	for _, d := range hit {
		if d.VNF.VNFC != "" {
			ids = append(ids, d.VNF.VNFC)
		}
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}

// faulty names one machine, for SOL has room for one: that which the alarm stands on, else the first of those that are worst off.
func (f Fault) faulty(hit []correlate.Affected) *SOLFaulty {
	if len(hit) == 0 {
		return nil
	}
	worst := hit[0]
	for _, d := range hit {
		if d.Resource == f.Alarm.Key.Resource {
			worst = d
			break
		}
		if d.State > worst.State {
			worst = d
		}
	}
	return &SOLFaulty{SOLHandle{f.SOL.VIM, worst.Resource.Name(), solServer}, faultyType(f.Alarm)}
}

// faultyType is the sort of virtual resource that a fault takes.
func faultyType(a *correlate.Alarm) string {
	switch a.AbstractCause {
	case correlate.CauseNetwork:
		return solNetwork
	case correlate.CauseStorage:
		return solStorage
	}
	return solCompute
}

func solSeverity(a *correlate.Alarm) string { return strings.ToUpper(a.Severity.String()) }

func solEventType(a *correlate.Alarm) string {
	if t, ok := solEventTypes[a.EventType]; ok {
		return t
	}
	return solEventTypes[correlate.TypeEquipment]
}

// details are name=value, as SOL's own are.
func (f Fault) details(text string, key correlate.Key, hit []correlate.Affected) []string {
	a := f.Alarm
	out := []string{"text=" + cut(text, maxText), "class=" + a.AbstractCause, "confidence=" + string(a.Confidence), "alarm=" + a.ID, "revision=" + a.Revision.String()}
	if !f.Abstract {
		if key.Host() != "" {
			out = append(out, "host="+key.Host())
		}
		out = append(out, "resource="+string(key.Resource))
	}
	if a.ClearReason != "" && !f.Abstract {
		out = append(out, "clearReason="+a.ClearReason)
	}
	for _, d := range hit {
		out = append(out, fmt.Sprintf("server=%s %s", d.Resource.Name(), d.State))
		for _, p := range d.Ports {
			out = append(out, strings.TrimSpace("port="+p.MAC+" "+p.PortID))
		}
	}
	return out
}

func raised(a *correlate.Alarm) time.Time {
	if a.Times.Raised.IsZero() {
		return said(a)
	}
	return a.Times.Raised
}

func began(a *correlate.Alarm) time.Time {
	if a.Times.Occurred.IsZero() {
		return raised(a)
	}
	return a.Times.Occurred
}

func changed(a *correlate.Alarm) *string {
	if !a.Times.Changed.After(raised(a)) {
		return nil
	}
	return stamp(a.Times.Changed)
}

// solMessage says that the alarm list was rebuilt, which has its consumer read it anew. A test says the same: SOL has no other
// word without an alarm, and it does no harm.
func solMessage(m Message) ([]byte, error) {
	return encode(m.ID, solNotification{
		ID: m.ID, Type: SOLRebuiltNotification, Subscription: m.Subscription, TimeStamp: RFC3339(m.At),
		Links: map[string]Link{"subscription": m.SOL.SOLHref("subscriptions", m.Subscription), "alarms": m.SOL.SOLHref("alarms")},
	})
}
