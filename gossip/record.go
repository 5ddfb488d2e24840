package gossip

import "strings"

// Kind says what a record holds. Kinds below KindShared have one writer, the host in Record.Space; the others may be
// written by any host, and the highest Version wins.
type Kind uint8

// The kinds. Numbers are on the wire and on disk: never reuse one.
const (
	KindHost     Kind = 1 // the host itself: zone, labels, version, start
	KindDomain   Kind = 2 // inventory: one domain with owner and ports
	KindAlarm    Kind = 3 // the newest revision of an alarm: a standing one, or one that has cleared lately
	KindDelivery Kind = 4 // what a subscription is owed and was told of an alarm of this host
	KindReceipt  Kind = 5 // a revision that a subscription was told by this host for another
	KindFileWish Kind = 6 // a subscription of this host's configuration file
	KindRefusal  Kind = 7 // a subscription whose consumer answered this host that it wants no more (410)

	KindShared       Kind = 64
	KindSubscription Kind = 64
	KindAck          Kind = 65
	KindComment      Kind = 66
	KindClear        Kind = 67
	KindMute         Kind = 68 // keeps consumers from being told of alarms for a while
)

// Shared is the space of the records that any host may write.
const Shared = ""

// Version orders the writes of one key. For a single-writer record A is the writer's term and B a counter over all its
// writes in that term; for a shared one A is a hybrid logical clock in nanoseconds and B is zero, ties by Node.
type Version struct {
	A, B uint64
	Node string
}

// Compare is -1, 0 or +1.
func (v Version) Compare(o Version) int {
	switch {
	case v.A != o.A:
		if v.A < o.A {
			return -1
		}
		return 1
	case v.B != o.B:
		if v.B < o.B {
			return -1
		}
		return 1
	}
	return strings.Compare(v.Node, o.Node)
}

// Key names a record.
type Key struct {
	Space string // the host whose record it is, or Shared
	Kind  Kind
	ID    string
}

// Record is one replicated fact. Immutable.
type Record struct {
	Key
	Version Version
	Deleted bool // a tombstone: the payload is empty
	Payload []byte
}

// Kinds of the replica itself. They travel like the others and mean nothing to the agent.
const (
	// KindFloor says that what the space held in versions below that of this record is void (see Replica.Restated).
	KindFloor Kind = 63
	// KindForget says that the host in its ID is forgotten (see Replica.Forget). Born deleted, so that it expires.
	KindForget Kind = 127
)
