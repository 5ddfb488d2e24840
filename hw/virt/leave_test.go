package virt

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/paramedic-ha/paramedic/correlate"
)

// A libvirtd of 9.0 can crash when a client hangs up while it works on a request of that client, so the source hangs
// up with none in flight, whenever it is stopped.
func TestWeHangUpWithNoRequestInFlight(t *testing.T) {
	h := newHost(t)
	h.start()
	h.boot(guest{name: "a", uuid: uuidA, mac: macA, code: guestIdle})
	tap := newTap(t, h.readOnlySocket())
	src, err := New(Config{Socket: tap.path, Resync: time.Microsecond})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 100 {
		ctx, cancel := context.WithCancel(t.Context())
		sink := leaver{newWorld(), time.Duration(i) * 20 * time.Microsecond, cancel}
		if err := src.Run(ctx, sink); !errors.Is(err, context.Canceled) {
			t.Errorf("run %d: %v", i, err)
		}
		cancel()
		if open := <-tap.open; open != 0 {
			t.Fatalf("run %d hung up with %d requests in flight", i, open)
		}
	}
}

// leaver ends the source a moment after its first full statement, when the next request is on its way.
type leaver struct {
	*world
	after time.Duration
	leave func()
}

func (l leaver) Emit(ctx context.Context, d correlate.Delta) error {
	if d.Full {
		time.AfterFunc(l.after, l.leave)
	}
	return l.world.Emit(ctx, d)
}

// tap stands between the source and libvirtd and counts what is asked and answered.
type tap struct {
	path string
	open chan int // of each connection, when the source hung up: the requests without an answer
}

func newTap(t *testing.T, daemon string) *tap {
	t.Helper()
	p := &tap{path: filepath.Join(t.TempDir(), "tap"), open: make(chan int, 1)}
	l, err := net.Listen("unix", p.path)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	t.Cleanup(func() { l.Close(); wg.Wait() })
	wg.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("unix", daemon)
			if err != nil {
				t.Error(err)
				client.Close()
				return
			}
			wg.Go(func() { p.relay(client, server) })
		}
	})
	return p
}

func (p *tap) relay(client, server net.Conn) {
	var mu sync.Mutex
	open := 0
	count := func(by int) { mu.Lock(); open += by; mu.Unlock() }
	done := make(chan struct{})
	go func() {
		defer close(done)
		// Counted before they are passed on: what the source has read is answered.
		_ = pass(server, client, func(kind uint32) {
			if kind == 1 {
				count(-1)
			}
		})
	}()
	_ = pass(client, server, func(kind uint32) {
		if kind == 0 {
			count(1)
		}
	})
	mu.Lock()
	left := open
	mu.Unlock()
	server.Close()
	<-done
	client.Close()
	p.open <- left
}

// pass copies libvirt's frames (virnetprotocol.x: length, program, version, procedure, type, serial, status) and tells
// the type of each: 0 call, 1 reply.
func pass(from io.Reader, to io.Writer, tell func(kind uint32)) error {
	for {
		head := make([]byte, 28)
		if _, err := io.ReadFull(from, head); err != nil {
			return err
		}
		body := make([]byte, max(28, binary.BigEndian.Uint32(head))-28)
		if _, err := io.ReadFull(from, body); err != nil {
			return err
		}
		tell(binary.BigEndian.Uint32(head[16:]))
		if _, err := to.Write(slices.Concat(head, body)); err != nil {
			return err
		}
	}
}
