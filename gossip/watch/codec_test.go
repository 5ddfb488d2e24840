package watch

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func anyAge(t *rapid.T, label string) time.Duration {
	return time.Duration(rapid.Int64Range(-1, int64(maxAge/time.Millisecond)).Draw(t, label)) * time.Millisecond
}

// A packet with the fields of its kind.
func anyPacket(t *rapid.T) Packet {
	p := Packet{Kind: PacketKind(rapid.IntRange(1, 7).Draw(t, "kind"))}
	term := rapid.Uint64().Draw(t, "term")
	host := rapid.StringN(1, 32, maxName).Draw(t, "host")
	level := Level(rapid.IntRange(1, 4).Draw(t, "level"))
	switch p.Kind {
	case Heartbeat:
		p.Term, p.Left = term, Left(rapid.IntRange(0, 2).Draw(t, "left"))
	case EchoRequest:
		p.Observe, p.Stamp = rapid.Bool().Draw(t, "observe"), rapid.Uint64().Draw(t, "stamp")
	case EchoReply:
		p.Term, p.Stamp = term, rapid.Uint64().Draw(t, "stamp")
	case Ballot:
		p.Host, p.Level, p.Term = host, level, term
		p.Silence, p.Kernel = anyAge(t, "silence"), anyAge(t, "kernel")
		p.Closed, p.Witness = rapid.Bool().Draw(t, "closed"), rapid.Bool().Draw(t, "witness")
		p.Suspects = rapid.Uint16().Draw(t, "suspects")
	case Objection:
		p.Host, p.Silence, p.Kernel = host, anyAge(t, "silence"), anyAge(t, "kernel")
	case WitnessRequest:
		p.Host, p.Level, p.Term = host, level, term
	case Accusation:
		p.Level, p.Term = level, term
	}
	for _, age := range []*time.Duration{&p.Silence, &p.Kernel} {
		if *age < 0 {
			*age = AgeNever
		}
	}
	return p
}

func TestWhatIsEncodedIsDecoded(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := anyPacket(t)
		b := p.Encode()
		if len(b) > MaxPacket {
			t.Fatalf("%d bytes", len(b))
		}
		got, err := Decode(b)
		if err != nil || got != p {
			t.Fatalf("%+v became %+v, %v", p, got, err)
		}
		if n := rapid.IntRange(0, len(b)-1).Draw(t, "cut"); n < len(b) {
			if _, err := Decode(b[:n]); err == nil {
				t.Fatalf("the first %d bytes of %+v were taken", n, p)
			}
		}
		if _, err := Decode(append(b, 0)); err == nil {
			t.Fatalf("%+v and a byte more were taken", p)
		}
	})
}

func TestAnotherVersionOrKindIsToldFromNonsense(t *testing.T) {
	for _, b := range [][]byte{{2, 1}, {1, 0}, {1, 8, 1, 2, 3}} {
		if _, err := Decode(b); !errors.Is(err, ErrVersion) {
			t.Errorf("% x: %v", b, err)
		}
	}
	nonsense := map[string][]byte{
		"nothing":          {},
		"no kind":          {1},
		"a third goodbye":  append(make([]byte, 0), 1, 1, 0, 0, 0, 0, 0, 0, 0, 1, 3),
		"no level":         {1, 7, 0, 0, 0, 0, 0, 0, 0, 0, 1},
		"an empty name":    {1, 6, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1},
		"an age of a week": {1, 5, 1, 'a', 0x24, 0x0c, 0x84, 0, 0xff, 0xff, 0xff, 0xff},
	}
	for name, b := range nonsense {
		if _, err := Decode(b); err == nil || errors.Is(err, ErrVersion) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The bytes of version 1, for ever: agents are replaced one by one.
func TestTheBytesOfVersion1(t *testing.T) {
	for _, c := range []struct {
		p    Packet
		want string
	}{
		{Packet{Kind: Heartbeat, Term: 258, Left: LeftStopped}, "\x01\x01\x00\x00\x00\x00\x00\x00\x01\x02\x01"},
		{Packet{Kind: EchoRequest, Observe: true, Stamp: 3}, "\x01\x02\x01\x00\x00\x00\x00\x00\x00\x00\x03"},
		{Packet{Kind: EchoReply, Term: 4, Stamp: 5}, "\x01\x03\x00\x00\x00\x00\x00\x00\x00\x04\x00\x00\x00\x00\x00\x00\x00\x05"},
		{
			Packet{Kind: Ballot, Host: "ab", Level: LevelProbable, Term: 6, Silence: 330 * time.Millisecond, Kernel: AgeNever, Witness: true, Suspects: 7},
			"\x01\x04\x02ab\x03\x00\x00\x00\x00\x00\x00\x00\x06\x00\x00\x01\x4a\xff\xff\xff\xff\x02\x00\x07",
		},
		{Packet{Kind: Objection, Host: "a", Silence: time.Second, Kernel: time.Hour}, "\x01\x05\x01a\x00\x00\x03\xe8\x00\x36\xee\x80"},
		{Packet{Kind: WitnessRequest, Host: "a", Level: LevelSilent, Term: 8}, "\x01\x06\x01a\x01\x00\x00\x00\x00\x00\x00\x00\x08"},
		{Packet{Kind: Accusation, Level: LevelConfirmed, Term: 9}, "\x01\x07\x04\x00\x00\x00\x00\x00\x00\x00\x09"},
	} {
		if got := c.p.Encode(); string(got) != c.want {
			t.Errorf("%+v\ngot  % x\nwant % x", c.p, got, c.want)
		}
	}
}

func TestAPacketNeverOutgrowsItsBound(t *testing.T) {
	p := Packet{Kind: Ballot, Host: strings.Repeat("x", 1000), Level: LevelSilent, Silence: 1 << 62, Kernel: -5}
	b := p.Encode()
	got, err := Decode(b)
	if err != nil || len(b) > MaxPacket || got.Silence != time.Hour || got.Kernel != AgeNever {
		t.Errorf("%d bytes, %+v, %v", len(b), got, err)
	}
}

func FuzzDecode(f *testing.F) {
	for kind := range PacketKind(9) {
		f.Add(Packet{Kind: kind, Host: "cmp-1", Level: LevelProbable, Term: 2, Silence: time.Second, Kernel: AgeNever}.Encode())
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := Decode(b)
		if err != nil {
			return
		}
		if again := p.Encode(); !bytes.Equal(again, b) {
			t.Fatalf("% x became % x", b, again)
		}
	})
}
