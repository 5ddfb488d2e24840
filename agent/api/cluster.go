package api

import (
	"context"
	"time"

	"github.com/paramedic-ha/paramedic/agent/ledger"
	"github.com/paramedic-ha/paramedic/correlate"
	"github.com/paramedic-ha/paramedic/gossip"
	"github.com/paramedic-ha/paramedic/gossip/lookout"
	"github.com/paramedic-ha/paramedic/gossip/watch"
	"github.com/paramedic-ha/paramedic/notify"
)

// Cluster is what the server needs of the peers. All methods are safe for concurrent use, and nothing but those with a
// context blocks. What they return is the caller's.
type Cluster interface {
	// Hosts are all that were ever seen here and not forgotten, this one included, by name.
	Hosts() []ledger.HostView
	// AsOf takes a look at the membership: what is known of another host is not older than this, as HostView.AsOf says.
	AsOf() func(host string) time.Time
	// Alarms are the standing ones of the other hosts.
	Alarms() []*correlate.Alarm
	// Dismissed are those of the other hosts that were cleared by hand and of which their sources say still that they are wrong.
	Dismissed() []*correlate.Alarm
	// Told is what each subscription was told and is owed of another host's alarm, as its home has made it known.
	Told(a *correlate.Alarm) []notify.Pair
	// Domains are those whose home is this other host, by UUID.
	Domains(home string) []ledger.DomainView
	// DomainHome is the host that has a domain, of all that claim it; empty when none does.
	DomainHome(uuid string) string
	// Forget takes a host that will not come back out of all rosters, with what it wrote. The error is gossip.ErrMember for one
	// that is there, and gossip.ErrUnknownHost for one that nobody knows.
	Forget(ctx context.Context, host string) error
	// Status is how the peers get on.
	Status() ClusterStatus
	// Keys manages the keys of the gossip: a *gossip.Peer.
	Keys() Keys
}

// Keys is the part of a *gossip.Peer that manages the keys.
type Keys interface {
	KeyStatus() gossip.KeyStatus
	AddKey(key gossip.CipherKey) error
	UseKey(fingerprint string, force bool) error
	RemoveKey(fingerprint string, force bool) error
	AwaitKeys(ctx context.Context) (gossip.KeyStatus, error)
}

// ClusterStatus is how the peers get on, in the words of gossip.
type ClusterStatus struct {
	Address     string // of our gossip, as the others are told
	Term        uint64 // our own
	Peer        gossip.Stats
	Keys        gossip.KeyStatus
	SecretsKeys []string // ids of the keys that seal the secrets, the first one seals; none: they go bare
	Replica     gossip.Status
	Exchange    gossip.ReplicatorStats
	Watch       *WatchStatus // nil: it has not begun
}

// WatchStatus is how the watch for lost hosts does.
type WatchStatus struct {
	lookout.Status
	Address             string // where this host is watched
	Witness             string // the outside one; empty: there is none
	Probable, Confirmed time.Duration
	Listening           bool     // it has begun, or was isolated, a moment ago, and does not speak for others yet
	SpeaksFor           []string // hosts that can't speak for themselves
	Counts              WatchCounts
}

// WatchCounts count since the start what became of what was seen.
type WatchCounts struct {
	Verdicts    [watch.LevelConfirmed + 1]uint64 // by level, of all watchers
	FalseAlarms uint64                           // hosts that this one watched were heard again before their loss was confirmed
	Accused     uint64                           // others took this host for lost
	Spoke       uint64
	Hushed      uint64
	Claims      uint64
	Dropped     uint64 // words of peers and news that came too fast
}
