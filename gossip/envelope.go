package gossip

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"
)

// The envelope around each user message: who wrote it, and, when it is to be passed on, a number that tells copies
// apart. memberlist's own framing names no sender.
//
//	version 1 · flags · identity (8 bytes) · length of name · name · payload
const (
	envelopeVersion = 1
	flagRelay       = 1 // pass it on: the receiver gossips it once more
	flagKeys        = 2 // the payload is for the peer itself: an agreement on keys
	envelopeFixed   = 1 + 1 + 8 + 1
)

// maxName bounds the name of a node, in bytes: it must fit the envelope's length and leave room in the datagram.
const maxName = 128

type envelope struct {
	relay   bool
	keys    bool
	id      uint64
	from    string
	payload []byte // shares the memory of what was decoded
}

func (e envelope) encode() []byte {
	b := make([]byte, 0, envelopeFixed+len(e.from)+len(e.payload))
	var flags byte
	if e.relay {
		flags |= flagRelay
	}
	if e.keys {
		flags |= flagKeys
	}
	b = append(b, envelopeVersion, flags)
	b = binary.BigEndian.AppendUint64(b, e.id)
	b = append(b, byte(len(e.from)))
	b = append(b, e.from...)
	return append(b, e.payload...)
}

var (
	errEnvelope        = errors.New("envelope is malformed")
	errEnvelopeVersion = errors.New("envelope is of a version that is unknown here")
)

func decodeEnvelope(b []byte) (envelope, error) {
	if len(b) < envelopeFixed {
		return envelope{}, errEnvelope
	}
	if b[0] != envelopeVersion {
		return envelope{}, fmt.Errorf("version %d: %w", b[0], errEnvelopeVersion)
	}
	n := int(b[10])
	if n == 0 || n > maxName || len(b) < envelopeFixed+n {
		return envelope{}, errEnvelope
	}
	from := string(b[envelopeFixed : envelopeFixed+n])
	if checkName(from) != nil { // it is shown to operators
		return envelope{}, errEnvelope
	}
	return envelope{
		relay:   b[1]&flagRelay != 0,
		keys:    b[1]&flagKeys != 0,
		id:      binary.BigEndian.Uint64(b[2:]),
		from:    from,
		payload: b[envelopeFixed+n:],
	}, nil
}

// identity is what a node says of itself in memberlist's metadata (at most 512 bytes, gossiped with each alive message).
type identity struct {
	Boot    [16]byte  // of this run of the agent; random
	Started time.Time // by the node's own clock, in milliseconds
	Settled bool      // it has been a member for a while: of two with one name, a settled one stays
	Term    uint64    // of the home, see docs: even numbers are the host's own
	Zone    string
	Keys    mark   // of what it took of the cluster's keys
	API     string // address of the API, empty without one
	Watch   string // address[:port] that it is watched at, empty without a watch
}

// The tags of the metadata: tag, length, value. What is not known is skipped, so that fields can be added.
const (
	tagBoot = iota + 1
	tagStarted
	tagSettled
	tagTerm
	tagZone
	tagAPI
	tagKeys
	tagWatch
)

const maxText = 128 // bytes of zone and of API address

func (i identity) encode() []byte {
	b := []byte{1} // version of this form
	b = append(b, tagBoot, byte(len(i.Boot)))
	b = append(b, i.Boot[:]...)
	b = append(b, tagStarted, 8)
	b = binary.BigEndian.AppendUint64(b, uint64(i.Started.UnixMilli()))
	if i.Settled {
		b = append(b, tagSettled, 0)
	}
	b = append(b, tagTerm, 8)
	b = binary.BigEndian.AppendUint64(b, i.Term)
	if i.Keys.changes > 0 {
		b = append(b, tagKeys, 16)
		b = binary.BigEndian.AppendUint64(b, i.Keys.changes)
		b = binary.BigEndian.AppendUint64(b, i.Keys.sum)
	}
	if i.Watch != "" {
		b = append(append(b, tagWatch, byte(len(i.Watch))), i.Watch...)
	}
	b = append(append(b, tagZone, byte(len(i.Zone))), i.Zone...)
	return append(append(b, tagAPI, byte(len(i.API))), i.API...)
}

var errIdentity = errors.New("node metadata is malformed")

func decodeIdentity(b []byte) (identity, error) {
	var i identity
	if len(b) == 0 || b[0] != 1 {
		return i, errIdentity
	}
	for b = b[1:]; len(b) > 0; {
		if len(b) < 2 || len(b) < 2+int(b[1]) {
			return identity{}, errIdentity
		}
		tag, value := b[0], b[2:2+int(b[1])]
		b = b[2+len(value):]
		switch tag {
		case tagBoot:
			if len(value) != len(i.Boot) {
				return identity{}, errIdentity
			}
			copy(i.Boot[:], value)
		case tagStarted, tagTerm:
			if len(value) != 8 {
				return identity{}, errIdentity
			}
			if n := binary.BigEndian.Uint64(value); tag == tagTerm {
				i.Term = n
			} else {
				i.Started = time.UnixMilli(int64(n))
			}
		case tagKeys:
			if len(value) != 16 {
				return identity{}, errIdentity
			}
			if i.Keys = (mark{binary.BigEndian.Uint64(value), binary.BigEndian.Uint64(value[8:])}); i.Keys.changes == 0 {
				i.Keys = mark{}
			}
		case tagSettled:
			i.Settled = true
		case tagZone:
			i.Zone = string(value)
		case tagAPI:
			i.API = string(value)
		case tagWatch:
			i.Watch = string(value)
		}
	}
	return i, nil
}

// outranks says which of two agents with one name may stay: a settled one before one that is not, then the one that
// started first. Both sides come to the same answer.
func (i identity) outranks(o identity) bool {
	if i.Settled != o.Settled {
		return i.Settled
	}
	if a, b := i.Started.UnixMilli(), o.Started.UnixMilli(); a != b {
		return a < b
	}
	return string(i.Boot[:]) < string(o.Boot[:])
}
