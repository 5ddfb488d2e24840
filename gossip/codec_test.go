package gossip

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

var record = flag.Bool("record", false, "record the messages of the present format version in testdata (only when it is new)")

func sampleRecords() []Record {
	return []Record{
		{Key: Key{"cmp-1", KindHost, ""}, Version: Version{4, 1, "cmp-1"}, Payload: []byte("zone rack-a")},
		{Key: Key{"cmp-1", KindDomain, "6f1c9a52-7a1e-4a1e-9d60-000000000001"}, Version: Version{4, 300, "cmp-1"}, Payload: []byte{0, 1, 2, 0xff}},
		{Key: Key{"cmp-1", KindDelivery, "s/a"}, Version: Version{4, 301, "cmp-1"}, Deleted: true},
		{Key: Key{"cmp-2", KindAlarm, "host/cmp-2"}, Version: Version{7, 2, "cmp-1"}, Payload: []byte("spoken for")},
		{Key: Key{Shared, KindSubscription, "5f0c5bdb"}, Version: Version{1795348824885022894, 0, "cmp-3"}, Payload: []byte("http://consumer/")},
		{Key: Key{Shared, KindAck, "über"}, Version: Version{1795348824885022895, 0, "cmp-3"}, Deleted: true},
		{Key: Key{Shared, KindForget, "6/cmp-9"}, Version: Version{1795348824885022896, 0, "cmp-3"}, Deleted: true},
		{Key: Key{"cmp-1", KindFloor, ""}, Version: Version{4, 12, "cmp-1"}},
		{Key: Key{"cmp-1", 17, "of a later version"}, Version: Version{4, 302, "cmp-1"}, Payload: []byte("?")},
	}
}

// samples are one message of each type.
func samples() map[string]any {
	var groups groupsMessage
	for i := range groups.hashes {
		groups.hashes[i] = uint64(i) * 0x0101010101010101
	}
	buckets := bucketsMessage{present: 1<<3 | 1<<31}
	for i := range 2 * fanout {
		buckets.hashes = append(buckets.hashes, uint64(i)<<56|uint64(i))
	}
	return map[string]any{
		"records": recordsMessage{repair: true, records: sampleRecords()},
		"digest":  digestMessage{root: [2]uint64{1, 1 << 63}, clock: 1795348824885022894, count: 10200},
		"groups":  groups,
		"buckets": buckets,
		"list": listMessage{buckets: []bucketList{
			{bucket: 0, items: []item{}},
			{bucket: 1023, items: []item{{0xffc0000000000001, 4, 300, 0xdeadbeef}, {0xffc0000000000002, 1795348824885022894, 0, 1}}},
		}},
		"want": wantMessage{keys: []uint64{1, 1 << 63}},
	}
}

func encode(t testing.TB, m any) []byte {
	t.Helper()
	switch m := m.(type) {
	case recordsMessage:
		var flags byte
		if m.repair {
			flags = flagRepair
		}
		all := encodeRecords(m.records, MaxMessage, flags)
		if len(all) == 0 {
			return []byte{FormatVersion, byte(TypeRecords), flags, 0}
		}
		if len(all) != 1 {
			t.Fatalf("%d messages", len(all))
		}
		return all[0]
	case interface{ encode() []byte }:
		return m.encode()
	}
	t.Fatalf("no encoder of %T", m)
	return nil
}

// Recorded bytes of every format version that is understood are read as what they were when they were written. A new version
// is recorded once with -record; the files of the old ones are never written again.
func TestRecordedMessagesAreUnderstood(t *testing.T) {
	dir := filepath.Join("testdata", fmt.Sprintf("v%d", FormatVersion))
	if *record {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		for name, m := range samples() {
			if err := os.WriteFile(filepath.Join(dir, name+".hex"), []byte(hex.Dump(encode(t, m))), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	for version := FormatOldest; version <= FormatVersion; version++ {
		for name, want := range samples() {
			text, err := os.ReadFile(filepath.Join("testdata", fmt.Sprintf("v%d", version), name+".hex"))
			if err != nil {
				t.Fatal(err)
			}
			message := undump(t, string(text))
			got, err := decode(message)
			if err != nil {
				t.Errorf("v%d %s: %v", version, name, err)
				continue
			}
			if !reflect.DeepEqual(got, want) {
				t.Errorf("v%d %s is read as\n%+v, it was\n%+v", version, name, got, want)
			}
			if version == FormatVersion && !bytes.Equal(encode(t, want), message) {
				t.Errorf("v%d %s is written otherwise than it was: this takes a new format version", version, name)
			}
		}
	}
}

func undump(t *testing.T, text string) []byte {
	t.Helper()
	var b []byte
	for line := range strings.Lines(text) {
		if len(line) < 60 {
			continue // the length at the end
		}
		part, err := hex.DecodeString(strings.ReplaceAll(line[10:58], " ", ""))
		if err != nil {
			t.Fatal(err)
		}
		b = append(b, part...)
	}
	return b
}

func TestEveryCutAndEveryTailIsRefused(t *testing.T) {
	for name, m := range samples() {
		message := encode(t, m)
		for n := range message {
			if name == "records" && n == len(message) {
				continue
			}
			if _, err := decode(message[:n:n]); err == nil {
				t.Errorf("%s of %d bytes is taken when only %d arrive", name, len(message), n)
			}
		}
		if _, err := decode(append(slices.Clone(message), 0)); err == nil {
			t.Errorf("%s is taken with a byte too many", name)
		}
	}
}

func TestTheDecoderNamesWhatIsWrong(t *testing.T) {
	message := func(t MessageType, body ...byte) []byte { return append([]byte{FormatVersion, byte(t)}, body...) }
	uvarint := func(v uint64) []byte { return binary.AppendUvarint(nil, v) }
	huge := append(append(message(TypeRecords, 0, 1), uvarint(MaxRecord+1)...), make([]byte, MaxRecord+1)...)
	for _, c := range []struct {
		name    string
		message []byte
		want    string
		is      error
	}{
		{"empty", nil, "0 bytes: too short for a header", nil},
		{"newer", []byte{9, 1}, "format 9, understood are 1 to 1", ErrFormatVersion},
		{"older than all", []byte{0, 1}, "format 0", ErrFormatVersion},
		{"unknown type", message(33), "type 33", ErrMessageType},
		{"11 MB", make([]byte, 11<<20), "more than 10485760", nil},
		{"records without end", append(message(TypeRecords, 0), uvarint(1<<60)...), "1152921504606846976 records announced, at most 0 can follow", nil},
		{"a large record", huge, "record of 65537 bytes, at most 65536", nil},
		{"record longer than the message", message(TypeRecords, 0, 1, 50, 1, 0, 0, 0, 1, 1), "record wants 50 bytes, 6 are left", nil},
		{"a string beyond its record", message(TypeRecords, 0, 1, 6, 1, 0, 9, 0, 1, 1), "space wants 9 bytes", nil},
		{"a long space", append(message(TypeRecords, 0, 1, 6, 1, 0), 0xff, 0x7f, 1, 1), "space of 16383 bytes, at most 255", nil},
		{"unknown flags", message(TypeRecords, 0, 1, 6, 1, 0x80, 0, 0, 1, 1), "unknown flags 0x80", nil},
		{"unknown message flags", message(TypeRecords, 0x80, 0), "unknown flags 0x80", nil},
		{"a number without end", append(message(TypeWant), bytes.Repeat([]byte{0xff}, 11)...), "keys is no number", nil},
		{"bucket 1024", message(TypeList, 1, 0x80, 0x08, 0), "bucket 1024, there are 1024", nil},
		{"hashes amiss", message(TypeBuckets, 0, 0, 0, 1, 1, 2, 3, 4, 5, 6, 7, 8), "1 hashes where 32 were announced", nil},
	} {
		_, err := decode(c.message)
		if err == nil || !strings.Contains(err.Error(), c.want) || c.is != nil && !errors.Is(err, c.is) {
			t.Errorf("%s: %v; it should say %q", c.name, err, c.want)
		}
	}
}

func TestAnUnreadableMessageIsCountedUnderItsSenderAndChangesNothing(t *testing.T) {
	r := newReplica(t, "me", 2)
	good := EncodeRecords(sampleRecords(), MaxMessage)[0]
	if _, err := r.Handle(noon, "cmp-7", good[:len(good)-1]); err == nil || !strings.Contains(err.Error(), `from "cmp-7"`) {
		t.Fatalf("error %v", err)
	}
	if st := r.Status(); st.Records != 0 || len(st.Rejected) != 1 || st.Rejected[0].Host != "cmp-7" || st.Rejected[0].Reason != Undecodable {
		t.Fatalf("status %+v", st)
	}
}

func TestRecordsOfAKindNotKnownHereAreKeptAndPassedOn(t *testing.T) {
	r, s := newReplica(t, "me", 2), newReplica(t, "other", 2)
	later := Record{Key: Key{"h", 42, "x"}, Version: Version{2, 1, "h"}, Payload: []byte("of a later version")}
	r.Merge(noon, []Record{later})
	exchange(t, noon, r, s)
	if got, ok := s.Get(later.Key); !ok || string(got.Payload) != string(later.Payload) {
		t.Fatalf("%v %v", got, ok)
	}
}

func TestMessagesOfRecordsKeepTheLimit(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		records := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) Record {
			rec := anyRecord(t)
			rec.Payload = rapid.SliceOfN(rapid.Byte(), 1, 400).Draw(t, "payload")
			return rec
		}), 0, 40).Draw(t, "records")
		limit := rapid.IntRange(10, 2000).Draw(t, "limit")
		var got []Record
		for _, m := range EncodeRecords(records, limit) {
			part, err := DecodeRecords(m)
			if err != nil {
				t.Fatal(err)
			}
			if len(part) == 0 || len(part) > 1 && len(m) > limit {
				t.Fatalf("%d records in a message of %d bytes, the limit is %d", len(part), len(m), limit)
			}
			got = append(got, part...)
		}
		if len(records)+len(got) > 0 {
			if diff := cmp.Diff(records, got); diff != "" {
				t.Fatal(diff)
			}
		}
	})
}

// FuzzDecode: no input panics or allocates beyond its size, and what is understood is written and read again the same.
func FuzzDecode(f *testing.F) {
	for _, m := range samples() {
		f.Add(encode(f, m))
	}
	f.Add([]byte{1, 1, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1})
	f.Fuzz(func(t *testing.T, message []byte) {
		m, err := decode(message)
		if err != nil {
			return
		}
		again, err := decode(encode(t, m))
		if err != nil {
			t.Fatalf("what was read cannot be read again: %v", err)
		}
		if !reflect.DeepEqual(m, again) {
			t.Fatalf("%+v became %+v", m, again)
		}
	})
}

// FuzzHandle: no message harms a replica, changes a record of its own, or calls forth more than is allowed.
func FuzzHandle(f *testing.F) {
	for _, m := range samples() {
		f.Add(encode(f, m))
	}
	peer := newReplica(f, "cmp-1", 2)
	for i := range 50 {
		mustSet(f, peer, noon, KindDomain, fmt.Sprint(i), "x")
	}
	f.Add(peer.Digest(noon))
	f.Add(bucketsMessage{present: 1<<32 - 1, hashes: peer.index.sums[:]}.encode())
	f.Fuzz(func(t *testing.T, message []byte) {
		r := newReplica(t, "me", 2)
		mine := mustSet(t, r, noon, KindDomain, "mine", "x")
		r.Merge(noon, slices.Collect(peer.Records()))
		res, err := r.Handle(noon, "cmp-1", message)
		if err != nil && (len(res.Changed) > 0 || r.index.n != 51) {
			t.Fatalf("%v, and it changed something", err)
		}
		size := 0
		for _, reply := range res.Replies {
			size += len(reply)
			if _, err := decode(reply); err != nil {
				t.Fatalf("the reply cannot be read: %v", err)
			}
		}
		if size > answerBytes+listBytes+chunkBytes {
			t.Fatalf("%d bytes of replies", size)
		}
		if rec, ok := r.Get(mine.Key); !ok || rec.Version != mine.Version || string(rec.Payload) != "x" {
			t.Fatalf("our own record became %+v", rec)
		}
		checkIndex(t, r)
	})
}

// FuzzMerge: records of any content end in the same state whatever their order and grouping, and none harms a replica.
func FuzzMerge(f *testing.F) {
	f.Add(encode(f, samples()["records"]), uint8(3))
	f.Add(EncodeRecords([]Record{
		{Key: Key{"h", KindAlarm, "x"}, Version: Version{2, 1, "h"}, Payload: []byte("a")},
		{Key: Key{"h", KindAlarm, "x"}, Version: Version{2, 1, "h"}, Payload: []byte("b")},
		{Key: Key{"h", KindFloor, ""}, Version: Version{2, 2, "h"}},
		{Key: Key{Shared, KindForget, "4/h"}, Version: Version{A: nanos(noon), Node: "me"}, Deleted: true},
		{Key: Key{"me", KindAlarm, "x"}, Version: Version{5, 1, "h"}},
	}, MaxMessage)[0], uint8(2))
	f.Fuzz(func(t *testing.T, message []byte, split uint8) {
		records, err := DecodeRecords(message)
		if err != nil {
			return
		}
		one, other, third := newReplica(t, "me", 4), newReplica(t, "me", 4), newReplica(t, "me", 4)
		one.Merge(noon, records)
		for i := range records {
			other.Merge(noon, records[len(records)-1-i:][:1])
		}
		third.Merge(noon, records[min(int(split), len(records)):])
		third.Merge(noon, slices.Collect(one.Records()))
		if one.Root() != other.Root() || one.Root() != third.Root() {
			t.Fatalf("%v\n%v\n%v", contents(one), contents(other), contents(third))
		}
		if res := one.Merge(noon, records); len(res.Changed)+len(res.Purged) > 0 {
			t.Fatalf("the same again changed %+v", res)
		}
		checkIndex(t, one)
	})
}

// What stands around the messages is recorded too: the envelope, what a node says of itself, and the roster's file.
func TestRecordedFramesAreUnderstood(t *testing.T) {
	boot := [16]byte{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}
	frame := envelope{relay: true, id: 0x0102030405060708, from: "cmp-1", payload: []byte{1, 2, 0xff}}
	self := identity{Boot: boot, Started: time.UnixMilli(1795348824885), Settled: true, Term: 6, Zone: "rack-a", API: "10.0.0.1:7940"}
	dir := filepath.Join("testdata", "v1")
	if *record {
		for name, b := range map[string][]byte{"envelope": frame.encode(), "identity": self.encode()} {
			if err := os.WriteFile(filepath.Join(dir, name+".hex"), []byte(hex.Dump(b)), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	read := func(name string) []byte {
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	if got, err := decodeEnvelope(undump(t, string(read("envelope.hex")))); err != nil || !reflect.DeepEqual(got, frame) {
		t.Errorf("the envelope is read as %+v, %v", got, err)
	}
	if got, err := decodeIdentity(undump(t, string(read("identity.hex")))); err != nil || !reflect.DeepEqual(got, self) {
		t.Errorf("the identity is read as %+v, %v", got, err)
	}
	hosts, err := parseRoster(read("roster.json"))
	if err != nil || len(hosts) != 1 || hosts["cmp-1"].Zone != "rack-a" || hosts["cmp-1"].Addr.String() != "10.0.0.1:7946" {
		t.Errorf("the roster is read as %+v, %v", hosts, err)
	}
}

// A member says which formats it reads by the versions that memberlist carries: there is one pair of numbers, not two.
func TestTheFormatsReadAreWhatAMemberSays(t *testing.T) {
	if wireMin != FormatOldest || wireMax != FormatVersion {
		t.Errorf("members say %d to %d, read are %d to %d", wireMin, wireMax, FormatOldest, FormatVersion)
	}
	if FormatVersion-FormatOldest > 1 {
		t.Error("more than one version back: drop the reader of the oldest")
	}
}

// A cluster whose agents are replaced one by one: the newer agents' messages are refused by name, and nothing is harmed.
func TestAMessageOfTheNextVersionIsNamed(t *testing.T) {
	r := newReplica(t, "me", 2)
	next := r.Digest(noon)
	next[0] = FormatVersion + 1
	if _, err := r.Handle(noon, "cmp-9", next); !errors.Is(err, ErrFormatVersion) || !strings.Contains(err.Error(), "cmp-9") {
		t.Errorf("%v", err)
	}
	if st := r.Status().Rejected; len(st) != 1 || st[0].Host != "cmp-9" || st[0].Reason != Undecodable {
		t.Errorf("counted are %+v", st)
	}
}
