// Package notify tells consumers: who wants what (subscription.go), what is owed and kept across crashes (outbox.go),
// when to send, retry and give up (delivery/, pure), in which form (format/), signed (sign.go), over HTTP (sender.go).
package notify

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/paramedic-ha/paramedic/correlate"
	"github.com/paramedic-ha/paramedic/notify/format"
)

// Config is what a Notifier is made of.
type Config struct {
	Node           string // this host's name: the reporter
	Label          string // the cluster's label
	Dir            string // of the outbox; made when missing, mode 0700
	MaxAge         time.Duration
	AllowCallbacks []netip.Prefix // see CheckCallback; empty: any address that is not reserved
	SOL            format.SOLSite
	Proxy          *Proxy // nil: none
	UserAgent      string
	Log            *slog.Logger
	Metrics        prometheus.Registerer
	// Report takes events about ourselves (CondOutbox, CondSubscription). It must not block.
	Report func(correlate.Event)
	Sealer Sealer // of secrets at rest; nil: they rest as they are, in a file of mode 0600
	Peers  Peers  // nil: this host is alone
	Owners Owners // until SetOwners says otherwise
	Place  Place  // of Node, until SetPlace says otherwise
	// Now and Rand are replaced by the simulation; nil means the real ones. Rand is in [0,1).
	Now  func() time.Time
	Rand func() float64
}

// Restored is what the last run left behind.
type Restored struct {
	// Term is the new even term of this run, already durable.
	Term   uint64
	Alarms []*correlate.Alarm // standing and dismissed ones
}

// Role is what a subscription may see.
type Role string

// RoleAdmin sees the physical cause; RoleConsumer its own projects' resources and an abstract cause.
const (
	RoleAdmin    Role = "admin"
	RoleConsumer Role = "consumer"
)

// Origin is where a subscription comes from.
type Origin string

// OriginFile subscriptions follow the configuration of this host, OriginPeer ones that of another; OriginAPI ones were
// made over the API, of any host.
const (
	OriginFile Origin = "file"
	OriginPeer Origin = "peer"
	OriginAPI  Origin = "api"
)

// Subscription is a consumer's standing wish.
type Subscription struct {
	ID        string // UUID; of a file's subscription UUIDv5(cluster label, name)
	Version   uint64 // grows with each change of contents
	Name      string
	Endpoints []string
	DeliverTo string // DeliverFirst (and empty): tried in order, the first that answers is told; DeliverAll: each of them
	Format    string
	Secret    Secret
	Link      Link `json:",omitzero"`
	// Credentials rest and travel sealed, beside the rest of it.
	Credentials Credentials `json:"-"`
	Role        Role
	Origin      Origin
	Owner       string // the identity that made it over the API; empty: an administrator, or a file
	Filter      Filter
	Paused      string        // why; empty when active
	Verified    bool          // its endpoints proved that they want it; new ones must, too
	Rate        int           // requests a minute that the consumer allowed in the OPTIONS handshake; 0: any
	MaxRate     int           // requests a minute that it was subscribed with; 0: any
	Heartbeat   time.Duration // how often it is told that all is watched; zero: never
	Created     time.Time
	Expires     time.Time // it ends then, unless it is renewed before or shortly after; zero: never. Of the API only
	// Unreachable is since when no endpoint can be connected to from this host; peers may deliver all the same. A
	// status that Subscriptions fills in, of this host alone; zero: they can be, or nobody tried.
	Unreachable time.Time `json:"-"`
	// Withheld is why this host tells it less than it asks: its owner may not hear it any more. A status too; empty: it does not.
	Withheld string `json:"-"`
	// SecretKeys are those that sign now, by their fingerprints; another status that Subscriptions fills in.
	SecretKeys []SecretKey `json:"-"`
	// EndpointStates are those of one with DeliverAll, in the order of Endpoints; a third.
	EndpointStates []EndpointState `json:"-"`
}

// Filter says what a consumer wants. Projects, Domains, VNFs and States judge the affected resources, Hosts, Zones and Labels the
// alarm's home, the rest the alarm; empty passes all. States empty means failed and degraded; at-risk domains are listed only
// when asked for.
type Filter struct {
	Projects      []string
	Domains       []string
	ResourceTypes []correlate.Kind
	Conditions    []correlate.Condition
	MinSeverity   correlate.Severity
	Kinds         []string // fault; maintenance and prediction later
	States        []correlate.State
	MinConfidence correlate.Confidence

	// Globs, as path.Match has them. What is empty is left out of JSON, so that the digest of a filter that lacks them is what
	// it was before there were any.
	Resources []string            `json:",omitempty"` // on the alarm's resource, for instance nic/*
	Hosts     []string            `json:",omitempty"` // on the host's name
	Zones     []string            `json:",omitempty"`
	Labels    map[string][]string `json:",omitempty"` // by name: the host has each, with one of the values
	VNFs      []string            `json:",omitempty"` // VNF instances; see format.ManagedObject
	SOL       SOLFilter           `json:",omitzero"`  // of form sol alone
}

// SOLFilter is in the words of SOL what a subscription of form sol wants.
type SOLFilter = format.SOLFilter

// DeliveryState is where a delivery stands.
type DeliveryState string

// DeliveryPending is being tried, DeliveryParked waits for an operator.
const (
	DeliveryPending DeliveryState = "pending"
	DeliveryParked  DeliveryState = "parked"
)

// DeliveryView is a delivery as the operator sees it.
type DeliveryView struct {
	ID           string // the notification id; the same for each endpoint that is told
	Endpoint     string // of a subscription with DeliverAll
	Subscription string // its name
	Consumer     string // its id
	AlarmID      string
	Resource     correlate.ID
	Condition    correlate.Condition
	Shown        correlate.Key // what the consumer is told in place of Resource and Condition; the same for an admin
	Revision     correlate.Revision
	State        DeliveryState
	Attempts     int
	Superseded   int // older revisions that this one replaced unsent
	Created      time.Time
	NextAttempt  time.Time
	LastError    string
	By           string // the host that made the last attempt; empty before the first
	Again        bool   // parked while its consumer took nothing: tried again as soon as it takes something
}

// Stages is the time line of one settled notification under OPNFV Doctor's names; zero when a stage was not reached.
type Stages struct {
	NotificationID, AlarmID, Subscription string
	Occurred                              time.Time // T00
	Observed                              time.Time // T01
	Found                                 time.Time // T02
	Owed                                  time.Time // T03: the notifier has taken it up, and knows who is to be told
	Begun                                 time.Time // T04: the disk is given it; zero when it went out before its commit
	Committed                             time.Time // T05: the disk has it; zero with Begun
	Outbox                                time.Time // T06
	Taken                                 time.Time // T07: the attempt that settled it has begun
	Sent                                  time.Time // T08
	Answered                              time.Time // T09
	Attempts                              int
	By                                    string // the host that sent; Sent and Answered are by its clock
	Consumer                              string // the subscription's id
	Endpoint                              string // of a subscription with DeliverAll
	Revision                              correlate.Revision
	Late                                  bool // it stood before the consumer wanted it: the time from T00 to T03 is nobody's delay
}

// SubscriptionPatch changes what is not nil.
type SubscriptionPatch struct {
	Name      *string
	Endpoints *[]string
	Secret    *Secret
	Filter    *Filter
	Paused    *string    // "" resumes
	Expires   *time.Time // renews; zero: it never ends
	MaxRate   *int
	DeliverTo *string
	Heartbeat *time.Duration
	// SecretOverlap is for how long what Secret replaces signs beside it; zero: not at all.
	SecretOverlap time.Duration

	Authorities, ServerName *string // of Link
	Direct                  *bool
	Client, Login           *Credentials // the certificate, and the user or token; zero ones take it away
}

// Errors that callers tell apart.
var (
	ErrNotFound     = errors.New("no such thing")
	ErrFromFile     = errors.New("it comes from the configuration file: change it there and reload")
	ErrVerification = errors.New("the callback did not prove that it wants this")
	ErrInvalid      = errors.New("not acceptable")
)

// Service is what the agent, the API and the command line use of a Notifier. All methods are safe for concurrent use
// after New; those with a context return when it ends.
type Service interface {
	// Restored is what the last run left; constant after New.
	Restored() Restored
	// Run delivers until ctx ends; then it stops within two seconds with everything durable, and closes the outbox.
	Run(ctx context.Context) error
	// Publish takes an engine's effects: saves alarms, matches subscriptions, sends. It never blocks; called by one
	// goroutine. Changes that wait are coalesced per alarm, so the queue is bounded by the number of standing alarms.
	Publish(eff correlate.Effects)
	// SetFile replaces the file's subscriptions, all at once; those no longer named end.
	SetFile(subs []Subscription) error
	// Subscribe checks, verifies the callback (when verify), stores and activates; the answer carries the snapshot
	// of standing alarms that match, and nothing falls between it and the stream that follows.
	Subscribe(ctx context.Context, sub Subscription, verify bool) (Subscription, []*correlate.Alarm, error)
	// Follow is Subscribe for a consumer that is given no snapshot: what stands is sent to it.
	Follow(ctx context.Context, sub Subscription, verify bool) (Subscription, error)
	Update(ctx context.Context, id string, p SubscriptionPatch) (Subscription, error)
	Unsubscribe(ctx context.Context, id string) error
	Subscriptions() []Subscription // Secret is never filled
	// Test sends a paramedic.test notification now and returns the stages, or why it was not taken.
	Test(ctx context.Context, id string) (Stages, error)
	Deliveries(state DeliveryState) []DeliveryView // state "" is all
	Retry(ctx context.Context, id string) error
	// RetryAll tries everything that a subscription is owed again at once, and says how many that is.
	RetryAll(ctx context.Context, subscription string) (int, error)
	// Discard takes a delivery for made: the consumer is not told of it, and of what comes after it as ever.
	Discard(ctx context.Context, id string) error
	// Accounts say what each consumer was told of an alarm and is owed, or why it is not told; by the subscriptions' names. elsewhere are
	// the pairs of another host's alarm, as its home has made them known.
	Accounts(a *correlate.Alarm, elsewhere []Pair) []Account
	Profile() []Stages // the last 1000 settled notifications, oldest first
	// SetMute makes a mute, or replaces the one of its id (made is false then); on all hosts, and durable. What is muted is told
	// to nobody until the mute ends: then what stands is told. Whoever was told before is told that it is over. Errors are ErrInvalid.
	SetMute(ctx context.Context, m Mute) (made bool, err error)
	EndMute(ctx context.Context, id string) error // ErrNotFound
	Mutes() []Mute                                // those that hold, by id
	// Muted takes a look at the mutes: the function tells which of them keeps consumers from hearing of an alarm, of any host.
	Muted() func(*correlate.Alarm) (Mute, bool)
}
