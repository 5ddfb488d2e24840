package api

import (
	"time"
)

// The types below are the JSON of the API; docs/api/openapi.yaml describes each field, and a test holds both
// together. Times are UTC; a nil time has not come. Lists are never null.

// Status is GET /v1/status.
type Status struct {
	Node          string         `json:"node"`
	Zone          string         `json:"zone"`
	Label         string         `json:"label"`
	Version       string         `json:"version"`
	Started       time.Time      `json:"started"`
	Starting      bool           `json:"starting"` // term, alarms and resources are not known yet
	Term          uint64         `json:"term"`
	Sources       []SourceStatus `json:"sources"`
	Alarms        map[string]int `json:"alarms"`    // severity → standing ones
	Dismissed     int            `json:"dismissed"` // cleared by hand, and their sources say still that they are wrong
	Mutes         int            `json:"mutes"`
	Resources     int            `json:"resources"`
	Subscriptions int            `json:"subscriptions"`
	Deliveries    DeliveryCount  `json:"deliveries"`
	Outbox        OutboxStatus   `json:"outbox"`
	Cluster       *ClusterPart   `json:"cluster"` // nil: this host is alone
}

// SourceStatus is how one source does.
type SourceStatus struct {
	Name     string      `json:"name"`
	Sight    string      `json:"sight"` // clear, degraded, absent, blind, or failed between restarts
	Text     string      `json:"text"`
	Restarts int         `json:"restarts"`
	Queue    QueueStatus `json:"queue"`
}

// QueueStatus is one bounded queue.
type QueueStatus struct {
	Depth     int    `json:"depth"`
	Capacity  int    `json:"capacity"`
	Dropped   uint64 `json:"dropped"`
	Coalesced uint64 `json:"coalesced"`
}

// DeliveryCount is what is owed.
type DeliveryCount struct {
	Pending int        `json:"pending"`
	Parked  int        `json:"parked"`
	Oldest  *time.Time `json:"oldest"` // since when the oldest of them is owed
}

// OutboxStatus says whether deliveries survive a crash.
type OutboxStatus struct {
	Durable bool   `json:"durable"`
	Text    string `json:"text"`
}

// Alarm is one revision of one alarm.
type Alarm struct {
	ID            string            `json:"id"`
	Revision      string            `json:"revision"`
	State         string            `json:"state"` // raised, changed or cleared
	Confidence    string            `json:"confidence"`
	Severity      string            `json:"severity"`
	EventType     string            `json:"event_type"`
	Condition     string            `json:"condition"`
	ProbableCause string            `json:"probable_cause"`
	AbstractCause string            `json:"abstract_cause"`
	RootCause     bool              `json:"root_cause"`
	Correlated    []string          `json:"correlated"`
	Text          string            `json:"text"`
	Times         Times             `json:"times"`
	Host          string            `json:"host"`
	Resource      string            `json:"resource"`
	Under         string            `json:"under"`
	Affected      []Affected        `json:"affected"`
	AtRisk        []Affected        `json:"at_risk"`
	Source        string            `json:"source"`
	ClearReason   string            `json:"clear_reason"`
	Ack           *Ack              `json:"ack"`
	Comments      []Comment         `json:"comments"`   // the newest 20, oldest first
	ClearedBy     *HandClear        `json:"cleared_by"` // nil: nobody has cleared it by hand
	Muted         *Muted            `json:"muted"`      // nil: consumers are told, or a consumer asks
	Evidence      map[string]string `json:"evidence"`
	AsOf          *time.Time        `json:"as_of"` // it was so at this time for certain; nil: not known
}

// AlarmLife is GET /v1/alarms/{id}.
type AlarmLife struct {
	Alarm
	History []AlarmStep `json:"history"`         // oldest first: the first step, and the newest
	Omitted int         `json:"history_omitted"` // steps behind the first that are not kept
}

// AlarmStep is one thing that happened to an alarm.
type AlarmStep struct {
	At       *time.Time `json:"at"`
	What     string     `json:"what"` // raised, changed, cleared, acknowledged, commented
	Revision string     `json:"revision"`
	Severity string     `json:"severity"`
	Text     string     `json:"text"`
	By       string     `json:"by"`
}

// Times are the five times of an alarm.
type Times struct {
	Occurred *time.Time `json:"occurred"`
	Observed *time.Time `json:"observed"`
	Raised   *time.Time `json:"raised"`
	Changed  *time.Time `json:"changed"`
	Cleared  *time.Time `json:"cleared"`
}

// Affected is one domain that an alarm hits or endangers.
type Affected struct {
	Resource string `json:"resource"`
	Name     string `json:"name"`
	Project  string `json:"project"`
	VNF      string `json:"vnf"`  // VNF instance that it is part of; empty: not known
	VNFC     string `json:"vnfc"` // its component
	State    string `json:"state"`
	Ports    []Port `json:"ports"`
}

// Port is a vnic as its owner's network service knows it.
type Port struct {
	MAC    string `json:"mac"`
	PortID string `json:"port_id"`
}

// Ack is an operator's word that an alarm is known.
type Ack struct {
	By      string     `json:"by"`
	Comment string     `json:"comment"`
	At      *time.Time `json:"at"`
}

// Muted is which mute keeps consumers from being told of an alarm; of several the one that holds longest.
type Muted struct {
	ID    string     `json:"id"`
	Until *time.Time `json:"until"`
}

// Mute keeps consumers from being told of alarms for a while. Lists of names are globs; an empty one passes all.
type Mute struct {
	ID            string              `json:"id"`
	Hosts         []string            `json:"hosts"`
	Zones         []string            `json:"zones"`
	Labels        map[string][]string `json:"labels"`
	Resources     []string            `json:"resources"`
	ResourceTypes []string            `json:"resource_types"`
	Conditions    []string            `json:"conditions"`
	MinSeverity   string              `json:"min_severity"`
	MaxSeverity   string              `json:"max_severity"`
	Until         *time.Time          `json:"until"`
	Reason        string              `json:"reason"`
	By            string              `json:"by"`
	Made          *time.Time          `json:"made"`
}

// MuteList is GET /v1/mutes, by id.
type MuteList struct {
	Mutes []Mute `json:"mutes"`
}

// MuteRequest is the body of PUT /v1/mutes.
type MuteRequest struct {
	ID            string              `json:"id,omitempty"` // empty: one is made
	Hosts         []string            `json:"hosts,omitzero"`
	Zones         []string            `json:"zones,omitzero"`
	Labels        map[string][]string `json:"labels,omitzero"`
	Resources     []string            `json:"resources,omitzero"`
	ResourceTypes []string            `json:"resource_types,omitzero"`
	Conditions    []string            `json:"conditions,omitzero"`
	MinSeverity   string              `json:"min_severity,omitempty"`
	MaxSeverity   string              `json:"max_severity,omitempty"`
	Until         string              `json:"until,omitempty"` // RFC 3339
	For           string              `json:"for,omitempty"`   // in its place
	Reason        string              `json:"reason,omitempty"`
}

// Comment is what somebody wrote to a standing alarm.
type Comment struct {
	By   string     `json:"by"`
	Text string     `json:"text"`
	At   *time.Time `json:"at"`
}

// HandClear is an administrator's word that an alarm is over. Of one that stands still its host has yet to hear it.
type HandClear struct {
	By        string     `json:"by"`
	Comment   string     `json:"comment"`
	At        *time.Time `json:"at"`
	Dismissed bool       `json:"dismissed"` // the source says still that it is wrong
}

// AlarmPage is GET /v1/alarms.
type AlarmPage struct {
	Alarms   []Alarm `json:"alarms"`
	Next     string  `json:"next"`     // the after= of the next page; empty on the last
	Starting bool    `json:"starting"` // the answering host does not know its own yet
}

// Event is one observation.
type Event struct {
	Time      *time.Time `json:"time"` // when it occurred
	Observed  *time.Time `json:"observed"`
	Source    string     `json:"source"`
	Resource  string     `json:"resource"`
	Condition string     `json:"condition"`
	Status    string     `json:"status"`
	Severity  string     `json:"severity"` // empty: as the rule says
	Text      string     `json:"text"`
}

// EventList is GET /v1/events, oldest first.
type EventList struct {
	Events []Event `json:"events"`
}

// Verdicts answers POST and PUT /v1/events: one for each item, in its order.
type Verdicts struct {
	Verdicts []Verdict `json:"verdicts"`
}

// Verdict is what became of one event of another monitor.
type Verdict struct {
	Verdict        string `json:"verdict"` // accepted, duplicate, refused
	Text           string `json:"text"`    // why it is refused and the remedy, or what the sender should know
	Type           string `json:"type"`
	Monitor        string `json:"monitor"`
	MonitorEventID string `json:"monitor_event_id"`
	Resource       string `json:"resource"`
	Condition      string `json:"condition"`
	Alarm          string `json:"alarm"` // that stands for it now
}

// Resource is a thing with health.
type Resource struct {
	ID         string            `json:"id"`
	Name       string            `json:"name"`
	Kind       string            `json:"kind"`
	Source     string            `json:"source"` // who states it
	State      string            `json:"state"`
	OwnState   string            `json:"own_state"`
	Unknown    bool              `json:"unknown"`
	Lost       bool              `json:"lost"`
	Inactive   bool              `json:"inactive"`
	Project    string            `json:"project"`
	VNF        string            `json:"vnf"`
	VNFC       string            `json:"vnfc"`
	Conditions []string          `json:"conditions"`
	Needs      []Need            `json:"needs"`
	Dependents []string          `json:"dependents"`
	Facts      map[string]string `json:"facts"`
	Port       *Port             `json:"port"`
	Host       string            `json:"host"`
	AsOf       *time.Time        `json:"as_of"` // nil: nothing has been heard of its host in this run
}

// Need is one edge bundle of the topology.
type Need struct {
	Mode string   `json:"mode"`
	K    int      `json:"k"`
	Of   []string `json:"of"`
}

// ResourcePage is GET /v1/resources, sorted by host and id.
type ResourcePage struct {
	Resources []Resource `json:"resources"`
	Next      string     `json:"next"`     // the after= of the next page; empty on the last
	Starting  bool       `json:"starting"` // the answering host does not know its own yet
}

// ResourceList is GET /v1/topology, sorted by id.
type ResourceList struct {
	Resources []Resource `json:"resources"`
}

// WatchEvent is the data of an alarm event of GET /v1/watch.
type WatchEvent struct {
	Transition string `json:"transition"` // raised, changed, cleared, acknowledged, commented
	Snapshot   bool   `json:"snapshot"`   // it is part of the present truth between reset and synced
	Alarm      Alarm  `json:"alarm"`
}

// WatchGone is the data of a gone event: the alarm does not match any more, or nobody says it any more.
type WatchGone struct {
	ID       string `json:"id"`
	Revision string `json:"revision"` // the last that is known
}

// WatchReset is the data of a reset event: the present truth follows.
type WatchReset struct {
	Reason string `json:"reason"`
}

// WatchSynced is the data of a synced event: that was the present truth.
type WatchSynced struct {
	Standing int `json:"standing"` // alarms of it that stand
}

// Subscription is a consumer's standing wish. It never carries the secret, nor what Auth and TLS are proved with.
type Subscription struct {
	ID        string     `json:"id"`
	Version   uint64     `json:"version"`
	Name      string     `json:"name"`
	Endpoints []string   `json:"endpoints"`
	Format    string     `json:"format"`
	Role      string     `json:"role"`
	Origin    string     `json:"origin"`
	Owner     string     `json:"owner"` // the identity that made it; empty: an administrator, or a file
	Filter    Filter     `json:"filter"`
	Paused    string     `json:"paused"`
	TLS       LinkTLS    `json:"tls"`
	Auth      LinkAuth   `json:"auth"`
	Proxy     string     `json:"proxy"`    // direct: past the proxy of the host
	Locked    string     `json:"locked"`   // why its secrets can't be opened at the answering host: its peers deliver
	Withheld  string     `json:"withheld"` // why the answering host tells it less than it asks
	Created   *time.Time `json:"created"`
	Expires   *time.Time `json:"expires"` // it ends then, unless it is renewed before or shortly after
	// Rate is how many requests a minute were asked for, AllowedRate how many its consumer allowed when it was verified; 0 is any.
	Rate        int         `json:"rate"`
	AllowedRate int         `json:"allowed_rate"`
	Heartbeat   string      `json:"heartbeat"` // a duration; empty: none
	Secrets     []SecretKey `json:"secrets"`   // those that sign now
	DeliverTo   string      `json:"deliver_to"`
	// EndpointStates are of deliver_to all: how each endpoint does at the answering host.
	EndpointStates []EndpointState `json:"endpoint_states"`
	// Unreachable is since when the answering host can't connect to any endpoint; its peers may deliver all the same.
	Unreachable *time.Time `json:"unreachable"`
}

// EndpointState is how one of the endpoints that are all told does.
type EndpointState struct {
	Endpoint    string     `json:"endpoint"`
	Pending     int        `json:"pending"`
	Parked      int        `json:"parked"`
	Failing     *time.Time `json:"failing"`     // since when no delivery has succeeded
	Unreachable *time.Time `json:"unreachable"` // since when it can't be connected to
	Resting     *time.Time `json:"resting"`     // it has answered 410 and is left alone until then
}

// SecretKey is what may be known of a secret.
type SecretKey struct {
	Fingerprint string     `json:"fingerprint"` // the first 8 bytes of the SHA-256 of the key, in hexadecimal digits
	Until       *time.Time `json:"until"`       // it signs; null: until it is replaced
}

// LinkTLS is how https endpoints are known, and how they know us.
type LinkTLS struct {
	Authorities []Certificate `json:"authorities"` // none: the system's
	ServerName  string        `json:"server_name"`
	Certificate *Certificate  `json:"certificate"` // ours; null: none
}

// Certificate is what is shown of one.
type Certificate struct {
	Subject     string     `json:"subject"`
	Fingerprint string     `json:"fingerprint"` // SHA-256
	Expires     *time.Time `json:"expires"`
}

// LinkAuth is what the Authorization header of requests is made of.
type LinkAuth struct {
	Kind string `json:"kind"` // basic, bearer; empty: there is none
	User string `json:"user"`
}

// TLSRequest is LinkTLS as it is given; all texts but the name are PEM.
type TLSRequest struct {
	CA          string `json:"ca,omitempty"`
	Certificate string `json:"certificate,omitempty"`
	Key         string `json:"key,omitempty"`
	ServerName  string `json:"server_name,omitempty"`
}

// AuthRequest is LinkAuth as it is given: one of both.
type AuthRequest struct {
	Basic  *BasicRequest  `json:"basic,omitempty"`
	Bearer *BearerRequest `json:"bearer,omitempty"`
}

// BasicRequest is a user with password.
type BasicRequest struct {
	User     string `json:"user"`
	Password string `json:"password"`
}

// BearerRequest is a token.
type BearerRequest struct {
	Token string `json:"token"`
}

// Filter says what a consumer wants; empty passes all. A nil list or map is left out, which requests may; answers have them all.
type Filter struct {
	Projects      []string `json:"projects,omitzero"`
	Domains       []string `json:"domains,omitzero"`
	ResourceTypes []string `json:"resource_types,omitzero"`
	Conditions    []string `json:"conditions,omitzero"`
	MinSeverity   string   `json:"min_severity"`
	Kinds         []string `json:"kinds,omitzero"`
	States        []string `json:"states,omitzero"`
	MinConfidence string   `json:"min_confidence"`

	Hosts     []string            `json:"hosts,omitzero"`
	Zones     []string            `json:"zones,omitzero"`
	Labels    map[string][]string `json:"labels,omitzero"`
	Resources []string            `json:"resources,omitzero"`
	VNFs      []string            `json:"vnfs,omitzero"`
	SOL       SOL                 `json:"sol,omitzero"` // of format sol alone
}

// SOL narrows a subscription of format sol in the words of ETSI's FmNotificationsFilter; a list that is left out passes all.
type SOL struct {
	NotificationTypes   []string `json:"notification_types,omitempty"`
	FaultyResourceTypes []string `json:"faulty_resource_types,omitempty"`
	PerceivedSeverities []string `json:"perceived_severities,omitempty"`
	EventTypes          []string `json:"event_types,omitempty"`
	ProbableCauses      []string `json:"probable_causes,omitempty"`
}

// SubscriptionList is GET /v1/subscriptions.
type SubscriptionList struct {
	Subscriptions []Subscription `json:"subscriptions"`
}

// SubscriptionRequest is the body of POST /v1/subscriptions.
type SubscriptionRequest struct {
	Name      string   `json:"name"`
	Endpoints []string `json:"endpoints"`
	Format    string   `json:"format,omitempty"`
	Secret    string   `json:"secret,omitempty"` // whsec_ and base64
	Role      string   `json:"role,omitempty"`
	Verify    *bool    `json:"verify,omitempty"` // nil is true
	Filter    *Filter  `json:"filter,omitempty"`
	Expires   string   `json:"expires,omitempty"`    // RFC 3339; one of the two
	ExpiresIn string   `json:"expires_in,omitempty"` // a duration from now
	Rate      int      `json:"rate,omitempty"`       // requests a minute
	Heartbeat string   `json:"heartbeat,omitempty"`  // a duration
	DeliverTo string   `json:"deliver_to,omitempty"` // first or all

	TLS   *TLSRequest  `json:"tls,omitempty"`
	Auth  *AuthRequest `json:"auth,omitempty"`
	Proxy string       `json:"proxy,omitempty"` // direct
}

// SubscriptionChange is the body of PATCH /v1/subscriptions/{id}: what is absent stays.
type SubscriptionChange struct {
	Name      *string   `json:"name,omitempty"`
	Endpoints *[]string `json:"endpoints,omitempty"`
	Secret    *string   `json:"secret,omitempty"`
	Filter    *Filter   `json:"filter,omitempty"`
	Paused    *string   `json:"paused,omitempty"` // empty resumes
	// SecretOverlap is for how long the secret that is replaced signs as well.
	SecretOverlap string  `json:"secret_overlap,omitempty"`
	Expires       *string `json:"expires,omitempty"` // empty: it never ends
	ExpiresIn     string  `json:"expires_in,omitempty"`
	Rate          *int    `json:"rate,omitempty"`      // 0 is any
	Heartbeat     *string `json:"heartbeat,omitempty"` // empty: none
	DeliverTo     *string `json:"deliver_to,omitempty"`

	TLS   *TLSRequest  `json:"tls,omitempty"`  // replaces all of it
	Auth  *AuthRequest `json:"auth,omitempty"` // likewise
	Proxy *string      `json:"proxy,omitempty"`
}

// Subscribed answers POST /v1/subscriptions.
type Subscribed struct {
	Subscription Subscription `json:"subscription"`
	Snapshot     []Alarm      `json:"snapshot"`
}

// Delivery is one revision of one alarm on its way to one subscription.
type Delivery struct {
	ID           string     `json:"id"`
	Endpoint     string     `json:"endpoint"`        // of a subscription that tells all its endpoints; else empty
	Subscription string     `json:"subscription"`    // its name
	Consumer     string     `json:"subscription_id"` // for two may have one name
	AlarmID      string     `json:"alarm_id"`
	Resource     string     `json:"resource"`
	Condition    string     `json:"condition"`
	Revision     string     `json:"revision"`
	State        string     `json:"state"`
	Attempts     int        `json:"attempts"`
	Superseded   int        `json:"superseded"`
	Created      *time.Time `json:"created"`
	NextAttempt  *time.Time `json:"next_attempt"`
	LastError    string     `json:"last_error"`
	By           string     `json:"by"`    // the host that made the last attempt; empty before the first
	Again        bool       `json:"again"` // parked while its consumer took nothing: tried again as soon as it takes something
}

// RetriedCount answers POST /v1/subscriptions/{id}/retry.
type RetriedCount struct {
	Retried int `json:"retried"`
}

// DeliveryList is GET /v1/deliveries.
type DeliveryList struct {
	Deliveries []Delivery `json:"deliveries"`
}

// Stages is the time line of one settled notification under OPNFV Doctor's names.
type Stages struct {
	NotificationID string     `json:"notification_id"`
	AlarmID        string     `json:"alarm_id"`
	Subscription   string     `json:"subscription"`
	T00            *time.Time `json:"T00"` // occurred
	T01            *time.Time `json:"T01"` // observed
	T02            *time.Time `json:"T02"` // affected found
	T03            *time.Time `json:"T03"` // taken up by the notifier
	T04            *time.Time `json:"T04"` // given to the disk
	T05            *time.Time `json:"T05"` // on the disk
	T06            *time.Time `json:"T06"` // outbox passed
	T07            *time.Time `json:"T07"` // the attempt has begun
	T08            *time.Time `json:"T08"` // sent
	T09            *time.Time `json:"T09"` // answered
	Attempts       int        `json:"attempts"`
	By             string     `json:"by"`   // the host that sent; T08 and T09 are by its clock
	Late           bool       `json:"late"` // it stood before its consumer wanted it
}

// StageList is GET /v1/profile, oldest first.
type StageList struct {
	Node   string   `json:"node"` // the host whose times they are, but for what another one has sent
	Stages []Stages `json:"stages"`
}

// AckRequest is the body of POST /v1/alarms/{id}/ack.
type AckRequest struct {
	Comment string `json:"comment"`
}

// CommentRequest is the body of POST /v1/alarms/{id}/comments.
type CommentRequest struct {
	Text string `json:"text"`
}

// ClearRequest is the body of POST /v1/alarms/{id}/clear.
type ClearRequest struct {
	Comment string `json:"comment"`
}

// Problem is every error's body, as RFC 9457 has it: Title is the same for the same Type, Detail says what was wrong
// with this request and what to do about it.
type Problem struct {
	Type     string `json:"type"`
	Title    string `json:"title"`
	Status   int    `json:"status"`
	Detail   string `json:"detail"`
	Instance string `json:"instance"`
}

// Health is GET /healthz and /readyz.
type Health struct {
	Status string `json:"status"`
}
