package ovs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/paramedic-ha/paramedic/hw"
)

// message is a request, a notification or an answer of JSON-RPC 1.0, as the daemons speak it on their sockets (RFC 7047
// section 4; ovs-vswitchd's control socket has the same form).
type message struct {
	ID     json.RawMessage `json:"id"`
	Method string          `json:"method"`
	Params json.RawMessage `json:"params"`
	Result json.RawMessage `json:"result"`
	Error  json.RawMessage `json:"error"`
}

// refused is what an answer says went wrong; nil when nothing did.
func (m *message) refused() error {
	if len(m.Error) == 0 || string(m.Error) == "null" {
		return nil
	}
	return fmt.Errorf("refused: %.200s", m.Error)
}

// request is what we send.
type request struct {
	Method string `json:"method"`
	Params []any  `json:"params"`
	ID     string `json:"id"`
}

// answer is what we send to a daemon that asks whether we live.
type answer struct {
	Result json.RawMessage `json:"result"`
	Error  any             `json:"error"` // null
	ID     json.RawMessage `json:"id"`
}

// maxMessage bounds what one message may take: the whole configuration of a switch with 10 000 ports has a tenth of it.
const maxMessage = 64 << 20

var (
	errSilent = errors.New("it does not answer")
	errClosed = errors.New("it closed the connection")
)

// link is a connection to one daemon. All but close is for one goroutine.
type link struct {
	conn    net.Conn
	timeout time.Duration // of each message that is sent
	in      chan message  // closed at the end of the connection; err is set then
	err     error
	done    chan struct{}
	reader  sync.WaitGroup
}

// connect dials a Unix socket. What it returns must be closed.
func connect(ctx context.Context, path string, timeout time.Duration) (*link, error) {
	d := net.Dialer{Timeout: timeout}
	conn, err := d.DialContext(ctx, "unix", path)
	if err != nil {
		return nil, err //nolint:wrapcheck // the operation and the path stand in it
	}
	return newLink(conn, timeout), nil
}

func newLink(conn net.Conn, timeout time.Duration) *link {
	l := &link{conn: conn, timeout: timeout, in: make(chan message), done: make(chan struct{})}
	l.reader.Go(func() {
		defer close(l.in)
		l.err = hw.Contain(l.read)
	})
	return l
}

func (l *link) close() {
	close(l.done)
	_ = l.conn.Close()
	l.reader.Wait()
}

func (l *link) read() error {
	from := &io.LimitedReader{R: l.conn}
	dec := json.NewDecoder(from)
	for {
		from.N = maxMessage // the decoder reads ahead at most what it has room for
		var m message
		switch err := dec.Decode(&m); {
		case err == nil:
		case from.N <= 0:
			return fmt.Errorf("%w: a message of over %d bytes", errOdd, maxMessage)
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			return errClosed
		case errors.As(err, new(*json.SyntaxError)), errors.As(err, new(*json.UnmarshalTypeError)):
			return fmt.Errorf("%w: %w", errOdd, err)
		default:
			return fmt.Errorf("read: %w", err)
		}
		select {
		case l.in <- m:
		case <-l.done:
			return errClosed
		}
	}
}

func (l *link) send(m any) error {
	b, err := json.Marshal(m)
	if err != nil {
		return fmt.Errorf("encode a message: %w", err)
	}
	if err := l.conn.SetWriteDeadline(time.Now().Add(l.timeout)); err != nil {
		return fmt.Errorf("send: %w", err)
	}
	if _, err := l.conn.Write(b); err != nil {
		return fmt.Errorf("send: %w", err)
	}
	return nil
}

// attend hands on what comes. An answer is due already; after each silence of interval it asks for another one. It
// returns errSilent when one is more than timeout late, errClosed when the daemon closed the connection, or what take does.
func (l *link) attend(ctx context.Context, interval time.Duration, question request, take func(*message) error) error {
	due := time.NewTimer(l.timeout)
	defer due.Stop()
	asked, waiting := time.Now(), true
	got := func(m message, ok bool) error {
		if !ok {
			return l.err
		}
		waiting = false
		due.Reset(interval)
		return take(&m)
	}
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case m, ok := <-l.in:
			if err := got(m, ok); err != nil {
				return err
			}
		case <-due.C:
			select {
			case m, ok := <-l.in: // both were ready
				if err := got(m, ok); err != nil {
					return err
				}
				continue
			default:
			}
			if waiting && time.Since(asked) < l.timeout+l.timeout/2 {
				return errSilent
			}
			// Asked now; or much later than the answer was due, so that it was us who stood still.
			if err := l.send(question); err != nil {
				return err
			}
			asked, waiting = time.Now(), true
			due.Reset(l.timeout)
		}
	}
}
