package api

import (
	"context"
	"time"

	"github.com/paramedic-ha/paramedic/agent/ledger"
	"github.com/paramedic-ha/paramedic/correlate"
	"github.com/paramedic-ha/paramedic/gossip"
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
}
