package ledger

import (
	"time"

	"github.com/paramedic-ha/paramedic/correlate"
	"github.com/paramedic-ha/paramedic/gossip"
	"github.com/paramedic-ha/paramedic/notify"
)

// Config is what a Ledger must know of its host.
type Config struct {
	Node   string
	Label  string
	Sealer notify.Sealer // nil: secrets go bare (cluster.insecure)
}

// Write is one record that this host writes.
type Write struct {
	Kind    gossip.Kind
	ID      string
	Payload []byte
	Delete  bool
}

// Orders are what the shell carries out. It may carry them out in any order, but those of one list in its own.
type Orders struct {
	Write []Write // to the replica: own kinds with Set and Delete, shared ones with SetShared and DeleteShared

	Put    []Put             // Shared.Put
	Drop   []string          // Shared.Drop
	Told   []Told            // Shared.Told
	Ack    []AckOrder        // engine: acknowledge our own alarm
	Report []correlate.Event // about ourselves (Source is Source): conflicts of subscriptions, secrets that can't be opened

	Seen  []correlate.Change // new revisions of other hosts' alarms: for the stream and the history
	Claim uint64             // not zero: our term is too low, take the next even one above this
	Wake  time.Time          // call Tick then; zero: never
}

// Put is a subscription made elsewhere; Told is what its consumer was given.
type Put struct {
	Subscription notify.Subscription
	Told         map[string]correlate.Revision
	Given        map[string]Given // those of Told whose home is this host
}

// Told is another host's receipt.
type Told struct {
	Subscription, AlarmID string
	Revision              correlate.Revision
}

// AckOrder is a word that somebody said at another host about an alarm of ours.
type AckOrder struct{ AlarmID, By, Comment string }
