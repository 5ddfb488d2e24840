package virt

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/digitalocean/go-libvirt"
	"github.com/google/go-cmp/cmp"
)

// frames reads the recorded event frames.
func frames(t testing.TB) map[string][]byte {
	t.Helper()
	text, err := os.ReadFile("testdata/events.txt")
	if err != nil {
		t.Fatal(err)
	}
	all := map[string][]byte{}
	for line := range strings.Lines(string(text)) {
		name, code, ok := strings.Cut(strings.TrimSpace(line), " ")
		if !ok || name == "#" {
			continue
		}
		frame, err := hex.DecodeString(code)
		if err != nil {
			t.Fatalf("frame %s: %v", name, err)
		}
		all[name] = frame
	}
	return all
}

func decodeFrame(t testing.TB, frame []byte) event {
	t.Helper()
	ev, ok, err := decodeEvent(binary.BigEndian.Uint32(frame[12:]), frame[headerLen:])
	if err != nil || !ok {
		t.Fatalf("decoding %x: ok %v, %v", frame, ok, err)
	}
	return ev
}

func TestRecordedEventsAreDecoded(t *testing.T) {
	all := frames(t)
	for name, want := range map[string]event{
		"lifecycle-1":               {proc: procLifecycle, what: int32(libvirt.DomainEventDefined)},
		"reboot-1":                  {proc: procReboot},
		"watchdog-1":                {proc: procWatchdog, what: int32(libvirt.DomainEventWatchdogPause)},
		"io-error-reason-1":         {proc: procIOErrorReason, detail: int32(libvirt.DomainEventIoErrorPause), device: "virtio-disk1", path: "/var/lib/libvirt/small/disk", failureReason: "enospc"},
		"device-removed-1":          {proc: procDeviceRemoved, device: "net1"},
		"device-added-1":            {proc: procDeviceAdded, device: "net1"},
		"agent-lifecycle-1":         {proc: procAgentLifecycle, what: 2, detail: 1},
		"agent-connected":           {proc: procAgentLifecycle, what: 1, detail: 2},
		"agent-disconnected":        {proc: procAgentLifecycle, what: 2, detail: 2},
		"memory-failure-guest":      {proc: procMemoryFailure, what: 1, detail: 1, flags: 1},
		"memory-failure-hypervisor": {proc: procMemoryFailure, what: 0, detail: 2, flags: 2},
	} {
		got := decodeFrame(t, all[name])
		if !strings.HasPrefix(got.dom.Name, "instance-0000000") || newDomain(got.dom).id[:8] != "8a3c1f52" {
			t.Errorf("%s: domain %+v", name, got.dom)
		}
		got.dom = libvirt.Domain{}
		if diff := cmp.Diff(want, got, cmp.AllowUnexported(event{})); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func TestAnEventCutShortIsAnErrorAndNeverAPanic(t *testing.T) {
	for name, frame := range frames(t) {
		proc, payload := binary.BigEndian.Uint32(frame[12:]), frame[headerLen:]
		for n := range payload {
			if _, ok, err := decodeEvent(proc, payload[:n]); err == nil || ok {
				t.Errorf("%s cut to %d of %d bytes: ok %v, no error", name, n, len(payload), ok)
			}
		}
	}
}

func FuzzEvent(f *testing.F) {
	for _, frame := range frames(f) {
		f.Add(binary.BigEndian.Uint32(frame[12:]), frame[headerLen:])
	}
	f.Fuzz(func(t *testing.T, proc uint32, payload []byte) {
		ev, ok, err := decodeEvent(proc, payload)
		if ok && err != nil {
			t.Fatalf("ok with %v", err)
		}
		if !ok {
			return
		}
		// Whatever it says, the tracker takes it.
		owners, _ := newOwnership(Owners{}, VNFs{})
		track := newTracker("host/h", owners)
		ev.at = time.Unix(1, 0)
		track.event(&ev)
		track.event(&ev)
		track.take(&answer{asked: track.seq, all: true}, true)
	})
}

// bytesConn is a net.Conn that reads from memory.
type bytesConn struct {
	net.Conn
	r io.Reader
}

func (c bytesConn) Read(p []byte) (int, error) { return c.r.Read(p) }
func (c bytesConn) Close() error               { return nil }

func message(program, proc, typ, status uint32, payload []byte) []byte {
	var b bytes.Buffer
	for _, v := range []uint32{headerLen + uint32(len(payload)), program, 1, proc, typ, 7, status} {
		_ = binary.Write(&b, binary.BigEndian, v)
	}
	b.Write(payload)
	return b.Bytes()
}

func TestTheStreamIsSplitIntoEventsAndTheRest(t *testing.T) {
	all := frames(t)
	reply := message(remoteProgram, 211, 1, 0, bytes.Repeat([]byte("x"), 100_000))
	empty := message(remoteProgram, 2, 1, 0, nil)
	other := message(0x6b656570, 1, messageTypeMsg, 0, nil) // keepalive
	stream := bytes.Join([][]byte{all["lifecycle-1"], reply, all["watchdog-1"], all["memory-failure-guest"], empty, other, all["reboot-1"]}, nil)
	w := newWire(bytesConn{r: inPieces{bytes.NewReader(stream)}}, new(counters), func(err error) { t.Error(err) })
	rest, err := io.ReadAll(w)
	if err != nil {
		t.Fatal(err)
	}
	if want := bytes.Join([][]byte{reply, empty, other}, nil); !bytes.Equal(rest, want) {
		t.Errorf("the library gets %d bytes, want %d", len(rest), len(want))
	}
	var procs []uint32
	for len(w.events) > 0 {
		procs = append(procs, (<-w.events).proc)
	}
	if want := []uint32{procLifecycle, procWatchdog, procMemoryFailure, procReboot}; !cmp.Equal(procs, want) {
		t.Errorf("events %v, want %v", procs, want)
	}
	if !errors.Is(w.reason(), errHungUp) {
		t.Errorf("reason %v, want that libvirt closed", w.reason())
	}
}

// inPieces reads at most 1000 bytes at a time.
type inPieces struct{ r io.Reader }

func (h inPieces) Read(p []byte) (int, error) { return h.r.Read(p[:min(len(p), 1000)]) }

func TestALengthThatCannotBeEndsTheConnectionBeforeTheLibrarySeesIt(t *testing.T) {
	for _, length := range []uint32{0, 4, headerLen - 1, maxFrame + 1, 1<<32 - 1} {
		frame := message(remoteProgram, 211, 1, 0, nil)
		binary.BigEndian.PutUint32(frame, length)
		w := newWire(bytesConn{r: bytes.NewReader(frame)}, new(counters), func(error) {})
		rest, err := io.ReadAll(w)
		if err == nil || len(rest) != 0 {
			t.Errorf("length %d: %d bytes passed, error %v", length, len(rest), err)
		}
		if _, again := w.Read(make([]byte, 1)); again == nil {
			t.Errorf("length %d: the error does not stay", length)
		}
	}
}

func TestEventsOverTheBoundAreDroppedAndEverythingIsReadAgain(t *testing.T) {
	var stream bytes.Buffer
	one := frames(t)["reboot-1"]
	for range eventQueue + 5 {
		stream.Write(one)
	}
	stream.Write(message(remoteProgram, procReboot, messageTypeMsg, 0, make([]byte, maxEventFrame+1)))
	var complaints int
	w := newWire(bytesConn{r: &stream}, new(counters), func(error) { complaints++ })
	if _, err := io.ReadAll(w); err != nil {
		t.Fatal(err)
	}
	if len(w.events) != eventQueue || w.counts.events.Load() != eventQueue || w.counts.dropped.Load() != 6 || len(w.overflow) != 1 || complaints != 1 {
		t.Errorf("%d queued, %d dropped, overflow %d, %d complaints", len(w.events), w.counts.dropped.Load(), len(w.overflow), complaints)
	}
}

func FuzzStream(f *testing.F) {
	var all []byte
	for _, frame := range frames(f) {
		f.Add(frame)
		all = append(all, frame...)
	}
	f.Add(all)
	f.Add(message(remoteProgram, 1, 1, 0, []byte("abcd")))
	f.Fuzz(func(t *testing.T, stream []byte) {
		w := newWire(bytesConn{r: bytes.NewReader(stream)}, new(counters), func(error) {})
		w.letGo()
		rest, _ := io.ReadAll(w)
		if len(rest) > len(stream) {
			t.Fatalf("%d bytes out of %d", len(rest), len(stream))
		}
		// What the library gets is whole frames of sane length, the last one perhaps cut.
		for len(rest) >= 4 {
			n := binary.BigEndian.Uint32(rest)
			if n < headerLen || n > maxFrame {
				t.Fatalf("a frame of length %d got through", n)
			}
			rest = rest[min(int(n), len(rest)):]
		}
	})
}
