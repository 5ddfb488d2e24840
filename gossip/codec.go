package gossip

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
)

// The wire format, version 1. It is also how records rest on disk. All integers are unsigned; "uvarint" is that of
// encoding/binary; a string is its length as uvarint and its bytes; fixed integers are big endian.
//
//	message  = version:1 type:1 body
//	records  = flags:1 n:uvarint n*(length:uvarint record)      flags: bit 0 answers a repair
//	record   = kind:1 flags:1 space:string id:string a:uvarint b:uvarint [node:string] payload:rest
//	           flags: bit 0 deleted, bit 1 a node follows (without it the node is the space)
//	digest   = root:16 clock:8 n:uvarint                       clock: the sender's, ns since 1970
//	groups   = 32*(hash:8)
//	buckets  = present:4 for each set bit, lowest first: 32*(hash:8)
//	list     = n:uvarint n*(bucket:uvarint m:uvarint m*(key:8 a:uvarint b:uvarint tag:4))
//	want     = n:uvarint n*(key:8)
//
// Nothing may follow a body. A change that an agent of this version could misread takes a new version byte; the reader of
// the version before stays (testdata/v1 holds recorded bytes of this one, for ever). Agents are replaced one by one, so the
// release that brings version 2 reads 1 and 2 and writes 1 as long as any member reads no more (Member.WireMax says what one
// reads). The hashes stay those of version 1 records until all write 2: else no two replicas would ever be equal. A new
// kind of record takes no new version: those not known here are kept and passed on.
const (
	// FormatVersion is what this agent writes, and FormatOldest the oldest that it reads.
	FormatVersion = 1
	FormatOldest  = 1

	// MaxMessage bounds a message in bytes; a longer one is refused before it is looked at.
	MaxMessage = 10 << 20
	// MaxRecord bounds one encoded record in bytes.
	MaxRecord = 64 << 10

	maxSpace = 255  // of a space or node, in bytes
	maxID    = 1024 // of an ID, in bytes

	minRecord = 7 // the shortest encoded record with its length byte: bounds counts before anything is allocated
	minItem   = 14
)

// MessageType is the second byte of a message. Those below TypeReserved belong to the replica.
type MessageType byte

// The message types. Numbers are on the wire: never reuse one.
const (
	TypeRecords MessageType = 1
	TypeDigest  MessageType = 2
	TypeGroups  MessageType = 3
	TypeBuckets MessageType = 4
	TypeList    MessageType = 5
	TypeWant    MessageType = 6

	// TypeReserved and above are for messages that the replica is not party to.
	TypeReserved MessageType = 64
)

// Errors of the decoder; errors.Is tells them apart. Everything else is a malformed message.
var (
	ErrFormatVersion = errors.New("format version not understood")
	ErrMessageType   = errors.New("unknown message type")
)

type (
	recordsMessage struct {
		repair  bool
		records []Record
	}
	digestMessage struct {
		root  [2]uint64
		clock uint64
		count uint64
	}
	groupsMessage  struct{ hashes [fanout]uint64 }
	bucketsMessage struct {
		present uint32
		hashes  []uint64 // fanout for each set bit
	}
	bucketList struct {
		bucket uint32
		items  []item
	}
	listMessage struct{ buckets []bucketList }
	wantMessage struct{ keys []uint64 }
)

// item is what a list says about one record: enough to know who has the newer one.
type item struct {
	key  uint64
	a, b uint64
	tag  uint32 // of the content, for two that claim one version
}

// TypeOf is the type of a message, with an error when it is too short, too long, or of a version not understood.
func TypeOf(message []byte) (MessageType, error) {
	switch {
	case len(message) < 2:
		return 0, fmt.Errorf("gossip message of %d bytes: too short for a header", len(message))
	case len(message) > MaxMessage:
		return 0, fmt.Errorf("gossip message of %d bytes: more than %d", len(message), MaxMessage)
	case message[0] < FormatOldest || message[0] > FormatVersion:
		return 0, fmt.Errorf("gossip message of format %d, understood are %d to %d: %w", message[0], FormatOldest, FormatVersion, ErrFormatVersion)
	}
	return MessageType(message[1]), nil
}

// EncodeRecords writes records into as few messages as fit limit bytes each, in order. A record that exceeds the limit
// alone has a message alone. Payloads are copied.
func EncodeRecords(records []Record, limit int) [][]byte { return encodeRecords(records, limit, 0) }

const flagRepair = 1

func encodeRecords(records []Record, limit int, flags byte) [][]byte {
	var messages [][]byte
	var body, one []byte
	n := 0
	flush := func() {
		if n == 0 {
			return
		}
		m := make([]byte, 0, len(body)+3+binary.MaxVarintLen64)
		m = append(m, FormatVersion, byte(TypeRecords), flags)
		m = binary.AppendUvarint(m, uint64(n))
		messages = append(messages, append(m, body...))
		body, n = body[:0], 0
	}
	for i := range records {
		one = appendRecord(one[:0], &records[i])
		if n > 0 && 3+uvarintLen(uint64(n+1))+len(body)+uvarintLen(uint64(len(one)))+len(one) > limit {
			flush()
		}
		body = binary.AppendUvarint(body, uint64(len(one)))
		body = append(body, one...)
		n++
	}
	flush()
	return messages
}

// DecodeRecords reads a message of EncodeRecords. Payloads alias the message, which must not be changed afterwards.
func DecodeRecords(message []byte) ([]Record, error) {
	m, err := decode(message)
	if err != nil {
		return nil, err
	}
	r, ok := m.(recordsMessage)
	if !ok {
		return nil, fmt.Errorf("gossip message of type %d where records were expected", message[1])
	}
	return r.records, nil
}

const (
	flagDeleted = 1 << iota
	flagNode
)

func appendRecord(b []byte, r *Record) []byte {
	var flags byte
	if r.Deleted {
		flags |= flagDeleted
	}
	if r.Version.Node != r.Space {
		flags |= flagNode
	}
	b = append(b, byte(r.Kind), flags)
	b = appendString(b, r.Space)
	b = appendString(b, r.ID)
	b = binary.AppendUvarint(b, r.Version.A)
	b = binary.AppendUvarint(b, r.Version.B)
	if flags&flagNode != 0 {
		b = appendString(b, r.Version.Node)
	}
	return append(b, r.Payload...)
}

// recordLen is the length of what appendRecord appends.
func recordLen(r *Record) int {
	n := 2 + stringLen(r.Space) + stringLen(r.ID) + uvarintLen(r.Version.A) + uvarintLen(r.Version.B) + len(r.Payload)
	if r.Version.Node != r.Space {
		n += stringLen(r.Version.Node)
	}
	return n
}

func stringLen(s string) int { return uvarintLen(uint64(len(s))) + len(s) }

func appendString(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

func uvarintLen(v uint64) int {
	n := 1
	for v >= 0x80 {
		v >>= 7
		n++
	}
	return n
}

func (m digestMessage) encode() []byte {
	b := []byte{FormatVersion, byte(TypeDigest)}
	b = binary.BigEndian.AppendUint64(b, m.root[0])
	b = binary.BigEndian.AppendUint64(b, m.root[1])
	b = binary.BigEndian.AppendUint64(b, m.clock)
	return binary.AppendUvarint(b, m.count)
}

func (m groupsMessage) encode() []byte {
	b := make([]byte, 0, 2+8*fanout)
	b = append(b, FormatVersion, byte(TypeGroups))
	for _, h := range m.hashes {
		b = binary.BigEndian.AppendUint64(b, h)
	}
	return b
}

func (m bucketsMessage) encode() []byte {
	b := make([]byte, 0, 6+8*len(m.hashes))
	b = append(b, FormatVersion, byte(TypeBuckets))
	b = binary.BigEndian.AppendUint32(b, m.present)
	for _, h := range m.hashes {
		b = binary.BigEndian.AppendUint64(b, h)
	}
	return b
}

func (m listMessage) encode() []byte {
	b := []byte{FormatVersion, byte(TypeList)}
	b = binary.AppendUvarint(b, uint64(len(m.buckets)))
	for _, l := range m.buckets {
		b = binary.AppendUvarint(b, uint64(l.bucket))
		b = binary.AppendUvarint(b, uint64(len(l.items)))
		for _, it := range l.items {
			b = binary.BigEndian.AppendUint64(b, it.key)
			b = binary.AppendUvarint(b, it.a)
			b = binary.AppendUvarint(b, it.b)
			b = binary.BigEndian.AppendUint32(b, it.tag)
		}
	}
	return b
}

func (m wantMessage) encode() []byte {
	b := make([]byte, 0, 2+binary.MaxVarintLen64+8*len(m.keys))
	b = append(b, FormatVersion, byte(TypeWant))
	b = binary.AppendUvarint(b, uint64(len(m.keys)))
	for _, k := range m.keys {
		b = binary.BigEndian.AppendUint64(b, k)
	}
	return b
}

// decode reads any message of the replica. It either understands all of it or nothing.
func decode(message []byte) (any, error) {
	t, err := TypeOf(message)
	if err != nil {
		return nil, err
	}
	d := decoder{b: message, off: 2}
	var m any
	switch t {
	case TypeRecords:
		d.in = "records"
		m = d.records()
	case TypeDigest:
		d.in = "digest"
		m = digestMessage{root: [2]uint64{d.uint64(), d.uint64()}, clock: d.uint64(), count: d.uvarint("count")}
	case TypeGroups:
		d.in = "groups"
		var g groupsMessage
		for i := range g.hashes {
			g.hashes[i] = d.uint64()
		}
		m = g
	case TypeBuckets:
		d.in = "buckets"
		m = d.buckets()
	case TypeList:
		d.in = "list"
		m = d.list()
	case TypeWant:
		d.in = "want"
		m = d.want()
	default:
		return nil, fmt.Errorf("gossip message of type %d: %w", t, ErrMessageType)
	}
	if d.err == nil && d.off != len(d.b) {
		d.fail("%d bytes follow the end", len(d.b)-d.off)
	}
	if d.err != nil {
		return nil, d.err
	}
	return m, nil
}

// decoder reads on until its first error, after which everything it returns is zero.
type decoder struct {
	b   []byte
	off int
	in  string
	err error
}

func (d *decoder) fail(format string, args ...any) {
	if d.err == nil {
		d.err = fmt.Errorf("gossip %s message of %d bytes: at byte %d: %s", d.in, len(d.b), d.off, fmt.Sprintf(format, args...))
		d.off = len(d.b)
	}
}

func (d *decoder) take(n int, what string) []byte {
	if d.err != nil {
		return nil
	}
	if n > len(d.b)-d.off {
		d.fail("%s wants %d bytes, %d are left", what, n, len(d.b)-d.off)
		return nil
	}
	b := d.b[d.off : d.off+n : d.off+n]
	d.off += n
	return b
}

func (d *decoder) byte(what string) byte {
	if b := d.take(1, what); b != nil {
		return b[0]
	}
	return 0
}

func (d *decoder) uint64() uint64 {
	if b := d.take(8, "hash"); b != nil {
		return binary.BigEndian.Uint64(b)
	}
	return 0
}

func (d *decoder) uint32() uint32 {
	if b := d.take(4, "word"); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

func (d *decoder) uvarint(what string) uint64 {
	if d.err != nil {
		return 0
	}
	v, n := binary.Uvarint(d.b[d.off:])
	if n <= 0 {
		d.fail("%s is no number", what)
		return 0
	}
	d.off += n
	return v
}

// count reads how many things follow of which each takes at least size bytes.
func (d *decoder) count(what string, size int) int {
	n := d.uvarint(what)
	if left := uint64(len(d.b)-d.off) / uint64(size); n > left {
		d.fail("%d %s announced, at most %d can follow", n, what, left)
		return 0
	}
	return int(n)
}

func (d *decoder) string(what string, limit int) string {
	n := d.uvarint(what)
	if n > uint64(limit) {
		d.fail("%s of %d bytes, at most %d are allowed", what, n, limit)
		return ""
	}
	return string(d.take(int(n), what))
}

func (d *decoder) records() recordsMessage {
	flags := d.byte("flags")
	if flags&^flagRepair != 0 {
		d.fail("unknown flags %#x", flags)
	}
	n := d.count("records", minRecord)
	m := recordsMessage{repair: flags&flagRepair != 0, records: make([]Record, 0, n)}
	for i := 0; i < n && d.err == nil; i++ {
		size := d.uvarint("length of a record")
		if size > MaxRecord {
			d.fail("record of %d bytes, at most %d are allowed", size, MaxRecord)
			break
		}
		end := d.off + int(size)
		if end > len(d.b) {
			d.fail("record wants %d bytes, %d are left", size, len(d.b)-d.off)
			break
		}
		inner := decoder{b: d.b[:end:end], off: d.off, in: d.in}
		m.records = append(m.records, inner.record())
		d.off, d.err = end, inner.err
	}
	return m
}

func (d *decoder) record() Record {
	var r Record
	r.Kind = Kind(d.byte("kind"))
	flags := d.byte("flags of a record")
	if flags&^(flagDeleted|flagNode) != 0 {
		d.fail("unknown flags %#x of a record", flags)
	}
	r.Deleted = flags&flagDeleted != 0
	r.Space = d.string("space", maxSpace)
	r.ID = d.string("id", maxID)
	r.Version.A = d.uvarint("version")
	r.Version.B = d.uvarint("version")
	r.Version.Node = r.Space
	if flags&flagNode != 0 {
		r.Version.Node = d.string("node", maxSpace)
	}
	if left := len(d.b) - d.off; left > 0 {
		r.Payload = d.take(left, "payload")
	}
	return r
}

func (d *decoder) buckets() bucketsMessage {
	m := bucketsMessage{present: d.uint32()}
	left := len(d.b) - d.off
	if left%8 != 0 || left/8 > fanout*fanout {
		d.fail("%d bytes of hashes", left)
		return m
	}
	m.hashes = make([]uint64, left/8)
	for i := range m.hashes {
		m.hashes[i] = d.uint64()
	}
	if want := fanout * bits.OnesCount32(m.present); want != len(m.hashes) {
		d.fail("%d hashes where %d were announced", len(m.hashes), want)
	}
	return m
}

func (d *decoder) list() listMessage {
	n := d.count("buckets", 2)
	if n > bucketCount {
		d.fail("%d buckets, there are %d", n, bucketCount)
		return listMessage{}
	}
	m := listMessage{buckets: make([]bucketList, 0, n)}
	for i := 0; i < n && d.err == nil; i++ {
		b := d.uvarint("bucket")
		if b >= bucketCount {
			d.fail("bucket %d, there are %d", b, bucketCount)
			break
		}
		k := d.count("items", minItem)
		l := bucketList{bucket: uint32(b), items: make([]item, 0, k)}
		for j := 0; j < k && d.err == nil; j++ {
			l.items = append(l.items, item{key: d.uint64(), a: d.uvarint("version"), b: d.uvarint("version"), tag: d.uint32()})
		}
		m.buckets = append(m.buckets, l)
	}
	return m
}

func (d *decoder) want() wantMessage {
	n := d.count("keys", 8)
	m := wantMessage{keys: make([]uint64, 0, n)}
	for range n {
		m.keys = append(m.keys, d.uint64())
	}
	return m
}
