package watch

import "time"

// PacketKind says what a packet is.
type PacketKind uint8

// The kinds. Numbers are on the wire: never reuse one.
const (
	// Heartbeat: I live. With Term, and Left when it is a goodbye.
	Heartbeat PacketKind = 1
	// EchoRequest: answer with an EchoReply of the same Stamp. With Observe set: and send me heartbeats for a while, I watch you.
	EchoRequest PacketKind = 2
	EchoReply   PacketKind = 3 // with Term and Stamp
	// Ballot: my Vote about Host, for Level in Term.
	Ballot PacketKind = 4
	// Objection: Host was heard by me Age ago (its agent), or its kernel KernelAge ago.
	Objection PacketKind = 5
	// WitnessRequest: look whether Host answers you, and send me a Ballot or an Objection.
	WitnessRequest PacketKind = 6
	// Accusation: there is a verdict about you, of Level in Term. Take a higher term and say that you live.
	Accusation PacketKind = 7
)

// Packet is one message of the watch. Which fields count depends on Kind; the codec writes only those. An encoded packet is
// at most MaxPacket bytes.
type Packet struct {
	Kind    PacketKind
	Term    uint64
	Left    Left
	Observe bool
	Stamp   uint64 // the requester's, opaque to others: nanoseconds since its machine began

	Host     string
	Level    Level
	Silence  time.Duration // milliseconds on the wire, 0 to an hour; AgeNever is a value of its own
	Kernel   time.Duration
	Closed   bool
	Witness  bool
	Suspects uint16
}

// MaxPacket bounds an encoded packet, in bytes.
const MaxPacket = 256

// Encode writes a packet.
func (p Packet) Encode() []byte { return p.encode() }

// Decode reads one. The error says what is wrong; unknown kinds and versions are ErrVersion.
func Decode(b []byte) (Packet, error) { return decode(b) }
