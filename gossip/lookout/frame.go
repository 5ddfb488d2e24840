package lookout

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/paramedic-ha/paramedic/gossip/watch"
)

// A frame is what is in a datagram:
//
//	version 1 | session 16 | sequence 8 | body
//
// The body is sealed (AES-256-GCM; the sequence is the nonce, all before the body is authenticated with it), or not when there
// are no keys, which is a version of its own:
//
//	kind 1 | length of the name 1 | name | start of the sender, Unix milliseconds 8 | its kernel's boot id 16 | content
const (
	versionSealed byte = 1
	versionPlain  byte = 2

	headerSize = 1 + 16 + 8
	tagSize    = 16
	// maxFrame bounds a frame; what is longer was made by somebody else.
	maxFrame = headerSize + 2 + maxName + 8 + 16 + watch.MaxPacket + tagSize
	maxName  = 255
)

// frameKind says what the content of a frame is. Numbers are on the wire.
type frameKind uint8

const (
	framePacket    frameKind = 1 // a watch.Packet
	frameChallenge frameKind = 2 // a nonce: show that you live by sending it back
	frameAnswer    frameKind = 3 // the nonce of a challenge
)

type (
	sessionID [16]byte
	nonce     [16]byte
)

// header is the clear part.
type header struct {
	version  byte
	session  sessionID
	sequence uint64
}

func (h header) append(b []byte) []byte {
	b = append(b, h.version)
	b = append(b, h.session[:]...)
	return binary.BigEndian.AppendUint64(b, h.sequence)
}

// body is the sealed part.
type body struct {
	kind    frameKind
	name    string
	started int64 // Unix milliseconds
	boot    [16]byte
	packet  watch.Packet // of framePacket
	nonce   nonce        // of the others
}

var errShort = errors.New("too short")

// splitFrame separates the header from the body, which is a part of frame.
func splitFrame(frame []byte) (header, []byte, error) {
	var h header
	switch {
	case len(frame) < headerSize:
		return h, nil, errShort
	case len(frame) > maxFrame:
		return h, nil, errors.New("too long")
	}
	h.version = frame[0]
	copy(h.session[:], frame[1:])
	h.sequence = binary.BigEndian.Uint64(frame[17:])
	return h, frame[headerSize:], nil
}

func (b body) append(to []byte) []byte {
	to = append(to, byte(b.kind), byte(len(b.name)))
	to = append(to, b.name...)
	to = binary.BigEndian.AppendUint64(to, uint64(b.started))
	to = append(to, b.boot[:]...)
	if b.kind == framePacket {
		return append(to, b.packet.Encode()...)
	}
	return append(to, b.nonce[:]...)
}

// parseBody reads an opened body; nothing of b is kept.
func parseBody(b []byte) (body, error) {
	var out body
	if len(b) < 2 {
		return out, errShort
	}
	out.kind = frameKind(b[0])
	n := int(b[1])
	if b = b[2:]; len(b) < n+8+16 {
		return out, errShort
	}
	if n == 0 {
		return out, errors.New("the sender has no name")
	}
	out.name = string(b[:n])
	out.started = int64(binary.BigEndian.Uint64(b[n:]))
	b = b[n+8:]
	copy(out.boot[:], b)
	b = b[16:]
	switch out.kind {
	case framePacket:
		p, err := watch.Decode(b)
		if err != nil {
			return out, fmt.Errorf("its packet: %w", err)
		}
		out.packet = p
	case frameChallenge, frameAnswer:
		if len(b) != len(out.nonce) {
			return out, errors.New("a nonce of another length")
		}
		copy(out.nonce[:], b)
	default:
		return out, fmt.Errorf("unknown kind %d", out.kind)
	}
	return out, nil
}
