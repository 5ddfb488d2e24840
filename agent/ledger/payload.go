package ledger

import (
	"time"

	"github.com/paramedic-ha/paramedic/correlate"
	"github.com/paramedic-ha/paramedic/notify"
	"github.com/paramedic-ha/paramedic/notify/delivery"
)

// The payloads, by kind of record (gossip.Kind). Each is encoded as a version byte, a flag byte (deflated when that is
// shorter) and JSON; a reader ignores fields that it does not know.

// Host is KindHost, id "": what a host says of itself.
type Host struct {
	Zone    string            `json:"zone,omitempty"`
	Labels  map[string]string `json:"labels,omitempty"`
	Version string            `json:"version,omitempty"` // of paramedic
	Facts   map[string]string `json:"facts,omitempty"`   // hypervisor, kernel, firmware … as far as its sources state them
	Started time.Time         `json:"started"`
	Boot    string            `json:"boot,omitempty"` // of its kernel
	// Left is its last word, in an orderly end of the agent: LeftStopped, or LeftShutdown of the host.
	Left string    `json:"left,omitempty"`
	At   time.Time `json:"left_at,omitzero"`
}

// The last words of a Host.
const (
	LeftStopped  = "agent-stop"
	LeftShutdown = "host-shutdown"
)

// Domain is KindDomain, id its UUID: one domain with owner and ports.
type Domain struct {
	Name     string           `json:"name,omitempty"`
	Project  string           `json:"project,omitempty"`
	VNF      string           `json:"vnf,omitempty"`  // VNF instance
	VNFC     string           `json:"vnfc,omitempty"` // its component
	Inactive bool             `json:"inactive,omitempty"`
	Since    time.Time        `json:"since"` // it came here, or began or ceased to run here: of two hosts that claim it, the later one has it
	Ports    []correlate.Port `json:"ports,omitempty"`
	// PortsTotal, when not zero, is how many ports there are: not all of them fit into a record.
	PortsTotal int `json:"ports_total,omitempty"`
}

// Alarm is KindAlarm, id the alarm's: the newest revision, whole, and the times of its change. A cleared one stays for a
// while, and for as long as somebody is owed it.
type Alarm struct {
	correlate.Change
	// AffectedTotal and AtRiskTotal, when not zero, are the lengths of lists that were cut to fit into a record.
	AffectedTotal int `json:"affected_total,omitempty"`
	AtRiskTotal   int `json:"at_risk_total,omitempty"`
	// Over: it is cleared and nobody is owed it any more. It stays because it is dismissed.
	Over bool `json:"over,omitempty"`

	size    int       // of its JSON
	learned time.Time // when this revision was heard of
}

// Delivery is KindDelivery, id "subscription/alarm", or of one endpoint of it (notify.OwnerOf): what home owes and has told. With the id "subscription/" it says
// that home has taken the subscription's snapshot: what was told in it is not to be taken again.
type Delivery struct {
	Taken     uint64 `json:"taken,omitempty"` // Subscription.SnapshotOf
	Told      string `json:"told,omitempty"`  // revisions as correlate.Revision.String writes them
	Owed      string `json:"owed,omitempty"`
	Parked    bool   `json:"parked,omitempty"`
	Again     bool   `json:"again,omitempty"` // parked, and tried again when the consumer takes something
	Attempts  int    `json:"attempts,omitempty"`
	LastError string `json:"last_error,omitempty"`
	// Left are those that the consumer is yet to hear are no longer hit; of a form that tells each by itself. At most maxLeft.
	Left []delivery.Part `json:"left,omitempty"`
}

// maxLeft bounds Delivery.Left, so that it fits into a record.
const maxLeft = 256

// Receipt is KindReceipt, id "subscription/alarm": what a host has told for the alarm's home.
type Receipt struct {
	Home string `json:"home"`
	Told string `json:"told"`
}

// Subscription is KindSubscription (shared; of the API) and KindFileWish (of a host's file), id the subscription's. A
// shared one under the id of a file's holds Version, Paused and Resumed only: a pause of just that version.
type Subscription struct {
	Version   uint64        `json:"version"`
	Name      string        `json:"name"`
	Endpoints []string      `json:"endpoints"`
	DeliverTo string        `json:"deliver_to,omitempty"` // notify.DeliverAll; empty: the first that answers
	Format    string        `json:"format"`
	Role      string        `json:"role"`
	Owner     string        `json:"owner,omitempty"`
	Filter    Filter        `json:"filter"`
	Paused    string        `json:"paused,omitempty"`
	Verified  bool          `json:"verified,omitempty"`
	Rate      int           `json:"rate,omitempty"`
	MaxRate   int           `json:"max_rate,omitempty"`
	Heartbeat time.Duration `json:"heartbeat,omitempty"` // ns
	Created   time.Time     `json:"created"`
	Expires   time.Time     `json:"expires,omitzero"`
	// Resumed counts how often an operator resumed it: what was refused before counts no more.
	Resumed  uint64 `json:"resumed,omitempty"`
	Refused  bool   `json:"refused,omitempty"`  // Paused is because two hosts' consumer has refused it, and not an operator's word
	Secret   []byte `json:"secret,omitempty"`   // sealed, under the id
	Unsealed bool   `json:"unsealed,omitempty"` // there is no key to seal with (cluster.insecure): Secret is bare
	Link     Link   `json:"link,omitzero"`
	// Credentials are sealed for the id (notify.Credentials), or bare.
	Credentials     []byte `json:"credentials,omitempty"`
	BareCredentials bool   `json:"bare_credentials,omitempty"`
	// Renewed is when a host's file was found to hold these credentials, by the clock of that host.
	Renewed time.Time `json:"renewed,omitzero"`
	// Snapshot is what the consumer was given when it subscribed, by alarm: no gap between it and the stream.
	Snapshot   map[string]Given `json:"snapshot,omitempty"`
	SnapshotOf uint64           `json:"snapshot_of,omitempty"` // the Version that last added to it
}

// Given is one alarm of a snapshot, with what its home needs to clear it should it know it no more.
type Given struct {
	Home      string              `json:"home"`
	Revision  string              `json:"revision"`
	Resource  correlate.ID        `json:"resource"`
	Condition correlate.Condition `json:"condition"`
}

// Link is notify.Link.
type Link struct {
	Authorities string `json:"authorities,omitempty"`
	ServerName  string `json:"server_name,omitempty"`
	Direct      bool   `json:"direct,omitempty"`
}

// Filter is notify.Filter in words.
type Filter struct {
	Projects      []string `json:"projects,omitempty"`
	Domains       []string `json:"domains,omitempty"`
	ResourceTypes []string `json:"resource_types,omitempty"`
	Conditions    []string `json:"conditions,omitempty"`
	MinSeverity   string   `json:"min_severity,omitempty"`
	Kinds         []string `json:"kinds,omitempty"`
	States        []string `json:"states,omitempty"`
	MinConfidence string   `json:"min_confidence,omitempty"`

	Hosts     []string            `json:"hosts,omitempty"`
	Zones     []string            `json:"zones,omitempty"`
	Labels    map[string][]string `json:"labels,omitempty"`
	Resources []string            `json:"resources,omitempty"`
	VNFs      []string            `json:"vnfs,omitempty"`

	SOL notify.SOLFilter `json:"sol,omitzero"`
}

// Refusal is KindRefusal, id the subscription's: its consumer answered this host with 410. It counts for one version, until
// the subscription is resumed.
type Refusal struct {
	Version uint64    `json:"version"`
	Resumed uint64    `json:"resumed,omitempty"` // Subscription.Resumed when it was refused
	Reason  string    `json:"reason"`
	At      time.Time `json:"at"`
}

// Word is KindAck and KindClear (shared), id the alarm's, and KindComment, id "digest/alarm": what somebody says of it anywhere.
// Its home makes it its own, which its Alarm then shows to all, and deletes it then, or when the alarm has ended.
type Word struct {
	Home    string    `json:"home"`
	By      string    `json:"by"`
	Comment string    `json:"comment,omitempty"`
	At      time.Time `json:"at"`
}

// Mute is KindMute (shared), id its own.
type Mute struct {
	Filter      Filter    `json:"filter"`
	MaxSeverity string    `json:"max_severity,omitempty"`
	Until       time.Time `json:"until"`
	Reason      string    `json:"reason,omitempty"`
	By          string    `json:"by,omitempty"`
	Made        time.Time `json:"made"`
}
