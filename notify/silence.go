package notify

import (
	"context"
	"errors"
	"fmt"
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A connection from before its way was cut looks well: what is written to it waits in the kernel, to be sent again and
// again. So while an answer is awaited the kernel is asked, every deafPoll, whether anything comes back at all.
//
// TCP_USER_TIMEOUT would say the same, but ends a connection, too, whose consumer acknowledges everything and is merely slow to
// read: tcp(7) counts a window that stays closed.
const (
	// deafTimeout, and some round trips, is how long a consumer's kernel may acknowledge nothing of what is on its way.
	// However slow the consumer, its kernel acknowledges at once what it is sent again (RFC 5681 4.2), which Linux does
	// after 200 ms and a round trip.
	deafTimeout = 300 * time.Millisecond
	deafTrips   = 4
	deafPoll    = 20 * time.Millisecond
)

var errDeaf = errors.New("what was sent is not acknowledged: the way to the consumer seems cut")

// watch calls deaf, once, when what is written from now on finds a connection that has gone silent. It ends with ctx. It
// does nothing for what is not TCP.
func (l *line) watch(ctx context.Context, deaf func()) {
	l.wrote.Store(nil)
	info, err := l.tcpInfo()
	if err != nil {
		return
	}
	limit := deafTimeout + deafTrips*time.Duration(info.Rtt)*time.Microsecond
	var look func()
	look = func() {
		switch {
		case ctx.Err() != nil:
		case l.deaf(limit):
			_ = l.raw.(*net.TCPConn).SetLinger(0) // so that nothing is sent late, of what a peer has told by then
			deaf()
		default:
			time.AfterFunc(deafPoll, look)
		}
	}
	time.AfterFunc(limit, look)
}

// deaf reports whether segments are under way, and nothing has come back for at least limit since the first was written.
func (l *line) deaf(limit time.Duration) bool {
	at := l.wrote.Load()
	if at == nil || time.Since(*at) < limit {
		return false
	}
	info, err := l.tcpInfo()
	return err == nil && info.Unacked > 0 && time.Duration(info.Last_ack_recv)*time.Millisecond >= limit
}

// Write notes the time of the first since watch.
func (l *line) Write(b []byte) (int, error) {
	if l.wrote.Load() == nil {
		l.wrote.Store(ptr(time.Now()))
	}
	return l.Conn.Write(b)
}

func (l *line) tcpInfo() (info *unix.TCPInfo, err error) {
	c, ok := l.raw.(*net.TCPConn)
	if !ok {
		return nil, fmt.Errorf("a connection of type %T: %w", l.raw, errors.ErrUnsupported)
	}
	var raw syscall.RawConn
	if raw, err = c.SyscallConn(); err != nil {
		return nil, err
	}
	if e := raw.Control(func(fd uintptr) { info, err = unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO) }); e != nil {
		err = e
	}
	return info, err
}
