package watch

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"
)

// The wire format, version 1. Integers are big endian; a name is its length in one byte, 1 to 128, and its bytes; an age is
// in milliseconds, at most an hour, and 0xffffffff for never.
//
//	packet         = version:1 kind:1 body
//	heartbeat      = term:8 left:1
//	echo request   = observe:1 stamp:8
//	echo reply     = term:8 stamp:8
//	ballot         = host:name level:1 term:8 silence:4 kernel:4 flags:1 suspects:2     flags: bit 0 closed, bit 1 witness
//	objection      = host:name silence:4 kernel:4
//	witness request= host:name level:1 term:8
//	accusation     = level:1 term:8
//
// Nothing may follow a body.
const (
	wireVersion = 1

	maxName  = 128
	maxAge   = time.Hour
	ageNever = 0xffffffff
)

// Errors of Decode.
var (
	// ErrVersion: a packet of a version or kind that is not known here. A newer agent may send such.
	ErrVersion = errors.New("version or kind of packet not understood")

	errShort = errors.New("packet is cut off")
	errLong  = errors.New("packet goes on after its end")
)

func (p Packet) encode() []byte {
	b := make([]byte, 0, 32+len(p.Host))
	b = append(b, wireVersion, byte(p.Kind))
	switch p.Kind {
	case Heartbeat:
		b = binary.BigEndian.AppendUint64(b, p.Term)
		b = append(b, byte(p.Left))
	case EchoRequest:
		b = append(b, bit(p.Observe, 1))
		b = binary.BigEndian.AppendUint64(b, p.Stamp)
	case EchoReply:
		b = binary.BigEndian.AppendUint64(b, p.Term)
		b = binary.BigEndian.AppendUint64(b, p.Stamp)
	case Ballot:
		b = appendName(b, p.Host)
		b = append(b, byte(p.Level))
		b = binary.BigEndian.AppendUint64(b, p.Term)
		b = appendAge(b, p.Silence)
		b = appendAge(b, p.Kernel)
		b = append(b, bit(p.Closed, 1)|bit(p.Witness, 2))
		b = binary.BigEndian.AppendUint16(b, p.Suspects)
	case Objection:
		b = appendName(b, p.Host)
		b = appendAge(b, p.Silence)
		b = appendAge(b, p.Kernel)
	case WitnessRequest:
		b = appendName(b, p.Host)
		b = append(b, byte(p.Level))
		b = binary.BigEndian.AppendUint64(b, p.Term)
	case Accusation:
		b = append(b, byte(p.Level))
		b = binary.BigEndian.AppendUint64(b, p.Term)
	}
	return b
}

func decode(b []byte) (Packet, error) {
	if len(b) < 2 {
		return Packet{}, errShort
	}
	if b[0] != wireVersion {
		return Packet{}, fmt.Errorf("version %d: %w", b[0], ErrVersion)
	}
	p := Packet{Kind: PacketKind(b[1])}
	r := reader{rest: b[2:]}
	switch p.Kind {
	case Heartbeat:
		p.Term = r.uint64()
		p.Left = Left(r.atMost(byte(LeftShutdown)))
	case EchoRequest:
		p.Observe = r.atMost(1) == 1
		p.Stamp = r.uint64()
	case EchoReply:
		p.Term = r.uint64()
		p.Stamp = r.uint64()
	case Ballot:
		p.Host = r.name()
		p.Level = r.level()
		p.Term = r.uint64()
		p.Silence = r.age()
		p.Kernel = r.age()
		flags := r.atMost(3)
		p.Closed, p.Witness = flags&1 != 0, flags&2 != 0
		p.Suspects = binary.BigEndian.Uint16(r.take(2))
	case Objection:
		p.Host = r.name()
		p.Silence = r.age()
		p.Kernel = r.age()
	case WitnessRequest:
		p.Host = r.name()
		p.Level = r.level()
		p.Term = r.uint64()
	case Accusation:
		p.Level = r.level()
		p.Term = r.uint64()
	default:
		return Packet{}, fmt.Errorf("kind %d: %w", b[1], ErrVersion)
	}
	if r.err == nil && len(r.rest) > 0 {
		r.err = errLong
	}
	if r.err != nil {
		return Packet{}, r.err
	}
	return p, nil
}

func bit(set bool, b byte) byte {
	if set {
		return b
	}
	return 0
}

// appendName cuts what is too long, so that a packet never outgrows MaxPacket; Hosts refuses such names.
func appendName(b []byte, s string) []byte {
	s = s[:min(len(s), maxName)]
	b = append(b, byte(len(s)))
	return append(b, s...)
}

func appendAge(b []byte, age time.Duration) []byte {
	v := uint32(ageNever)
	if age >= 0 {
		v = uint32(min(age, maxAge) / time.Millisecond)
	}
	return binary.BigEndian.AppendUint32(b, v)
}

// reader takes a body apart. After an error everything it returns is zero.
type reader struct {
	rest []byte
	err  error
}

func (r *reader) take(n int) []byte {
	if r.err == nil && len(r.rest) < n {
		r.err = errShort
	}
	if r.err != nil {
		return make([]byte, n)
	}
	b := r.rest[:n]
	r.rest = r.rest[n:]
	return b
}

func (r *reader) uint64() uint64 { return binary.BigEndian.Uint64(r.take(8)) }

func (r *reader) atMost(highest byte) byte {
	v := r.take(1)[0]
	if v > highest && r.err == nil {
		r.err = fmt.Errorf("a field is %d, and at most %d was expected", v, highest)
	}
	return v
}

func (r *reader) level() Level {
	v := Level(r.atMost(byte(LevelConfirmed)))
	if v == LevelNone && r.err == nil {
		r.err = errors.New("a level is missing")
	}
	return v
}

func (r *reader) name() string {
	n := r.atMost(maxName)
	if n == 0 && r.err == nil {
		r.err = errors.New("a name is empty")
	}
	if r.err != nil {
		return ""
	}
	return string(r.take(int(n)))
}

func (r *reader) age() time.Duration {
	v := binary.BigEndian.Uint32(r.take(4))
	age := time.Duration(v) * time.Millisecond
	switch {
	case v == ageNever:
		return AgeNever
	case age > maxAge && r.err == nil:
		r.err = fmt.Errorf("an age is %s, and at most %s was expected", age, maxAge)
	}
	return age
}
