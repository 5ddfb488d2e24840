package virt

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"sync"
	"time"
)

const (
	headerLen = 28 // length word and the six words of virNetMessageHeader (src/rpc/virnetprotocol.x)
	// maxFrame is VIR_NET_MESSAGE_MAX (32 MiB) and the length word.
	maxFrame = 32<<20 + 4
	// maxEventFrame bounds what is read for one event; libvirt's are some hundred bytes.
	maxEventFrame = 256 << 10
	// eventQueue bounds the events that wait for the source. When it is full, events are dropped and the source
	// reads everything again (overflow).
	eventQueue = 1024
)

// wire is a connection to libvirtd that takes the event frames out of the stream and hands everything else to
// go-libvirt. It does so, rather than use the library's own events, because
//   - the library drops event ids 24 to 27, a memory failure among them;
//   - it gives each event id a queue without bound and two goroutines, which loses the order between ids;
//   - it allocates and indexes by the length word unchecked, in a goroutine whose panic nobody can catch.
//
// Read is called by one goroutine, the library's; the rest is safe for concurrent use.
type wire struct {
	net.Conn
	in *bufio.Reader

	events   chan event
	overflow chan struct{} // holds one token when events were dropped
	counts   *counters     // of the source
	broken   func(error)   // told of frames that can't be decoded
	now      func() time.Time

	// Of the frame that is being handed through.
	header  [headerLen]byte
	pending []byte // of header
	left    int    // of its payload

	// opened is closed when the library has returned from connecting, see fail.
	opened     chan struct{}
	openOnce   sync.Once
	openAnswer bool
	failed     error

	once  sync.Once
	why   error         // set before ended is closed
	ended chan struct{} // closed when the connection is over, whoever ended it
}

func newWire(conn net.Conn, counts *counters, broken func(error)) *wire {
	return &wire{
		Conn: conn, in: bufio.NewReaderSize(conn, 64<<10), events: make(chan event, eventQueue),
		overflow: make(chan struct{}, 1), counts: counts, broken: broken,
		now: time.Now, opened: make(chan struct{}), ended: make(chan struct{}),
	}
}

// cut ends the connection; the first reason stays. Every call that waits for an answer returns.
func (w *wire) cut(why error) {
	w.once.Do(func() {
		w.why = why
		close(w.ended)
		_ = w.Conn.Close() // nothing is owed to the peer; the reason that matters is why
	})
}

// Close is for the library, which takes an error as a reason not to wait.
func (w *wire) Close() error {
	w.cut(net.ErrClosed)
	return nil
}

// Read implements net.Conn for the library: the stream without the event frames.
func (w *wire) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for w.failed == nil {
		if len(w.pending) > 0 {
			n := copy(p, w.pending)
			w.pending = w.pending[n:]
			return n, nil
		}
		if w.left > 0 {
			n, err := w.in.Read(p[:min(len(p), w.left)])
			w.left -= n
			if n > 0 {
				return n, nil
			}
			w.fail(err)
			break
		}
		if err := w.next(); err != nil {
			w.fail(err)
		}
	}
	return 0, w.failed
}

// letGo says that the library's connecting has returned.
func (w *wire) letGo() { w.openOnce.Do(func() { close(w.opened) }) }

// fail ends the stream. The library marks itself connected only after its open call has returned, and an end that it
// sees before is never signalled by it (and is a data race): so the end waits for the return, which is certain.
func (w *wire) fail(err error) {
	w.cut(err)
	if w.openAnswer {
		<-w.opened
	}
	w.failed = err
}

// next reads headers, taking events out, until a frame for the library is at hand.
func (w *wire) next() error {
	if _, err := io.ReadFull(w.in, w.header[:]); err != nil {
		return err
	}
	word := func(i int) uint32 { return binary.BigEndian.Uint32(w.header[4*i:]) }
	length, program, proc, typ, status := word(0), word(1), word(3), word(4), word(6)
	if length < headerLen || length > maxFrame {
		return fmt.Errorf("libvirt frame of %d bytes: want %d to %d; this is no libvirt daemon, or the stream is damaged", length, headerLen, maxFrame)
	}
	size := int(length) - headerLen
	if program != remoteProgram || typ != messageTypeMsg {
		w.pending, w.left = w.header[:], size
		if proc == procConnectOpen && status == 0 && program == remoteProgram {
			w.openAnswer = true
		}
		return nil
	}
	if size > maxEventFrame {
		w.drop(fmt.Errorf("libvirt event %d of %d bytes is over the bound of %d", proc, size, maxEventFrame))
		_, err := w.in.Discard(size)
		return err
	}
	payload := make([]byte, size)
	if _, err := io.ReadFull(w.in, payload); err != nil {
		return err
	}
	ev, ok, err := decodeEvent(proc, payload)
	if err != nil {
		w.drop(err)
		return nil
	}
	if !ok {
		return nil
	}
	ev.at = w.now()
	select {
	case w.events <- ev:
		w.counts.events.Add(1)
	default:
		w.drop(nil)
	}
	return nil
}

// drop gives up an event; what it said is read again from libvirt.
func (w *wire) drop(err error) {
	w.counts.dropped.Add(1)
	select {
	case w.overflow <- struct{}{}:
	default: // one is waiting already
	}
	if err != nil {
		w.broken(err)
	}
}
