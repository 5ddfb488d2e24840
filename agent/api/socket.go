package api

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/paramedic-ha/paramedic/notify"
)

const (
	socketMode    = 0o660
	directoryMode = 0o750
	// maxSocketPath is what sockaddr_un holds with its final NUL, see unix(7).
	maxSocketPath = 107
	dialTimeout   = time.Second
	// lockWithin is longer than another agent needs to look at an old socket.
	lockWithin = 2 * dialTimeout
	lockAgain  = 10 * time.Millisecond
)

// listen opens the socket for at most limit connections at a time. A socket that nobody listens on any more is
// replaced; one that answers is another agent's, and an error.
func listen(path string, limit int) (*listener, error) {
	if len(path) > maxSocketPath {
		return nil, fmt.Errorf("listen on %s: the path has %d bytes, a unix socket's at most %d: choose a shorter api.socket",
			path, len(path), maxSocketPath)
	}
	dir := filepath.Dir(path)
	if err := makeDirectory(dir); err != nil {
		return nil, fmt.Errorf("listen on %s: make its directory: %w", path, err)
	}
	// Between looking at the old socket and binding the new one no other agent may do the same.
	lock, err := lockDirectory(dir, lockWithin)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	defer lock.Close() // and so unlocked
	if err := removeStale(path); err != nil {
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	if err := os.Chmod(path, socketMode); err != nil {
		return nil, errors.Join(fmt.Errorf("listen on %s: %w", path, err), l.Close())
	}
	return &listener{UnixListener: l, slots: make(chan struct{}, limit), closed: make(chan struct{})}, nil
}

// lockDirectory keeps other agents from starting in a directory until the file is closed. The lock is on the directory
// itself, so that no lock file stays behind.
func lockDirectory(dir string, within time.Duration) (*os.File, error) {
	lock, err := os.Open(dir)
	if err != nil {
		return nil, fmt.Errorf("open its directory: %w", err)
	}
	again := time.NewTicker(lockAgain)
	defer again.Stop()
	for end := time.Now().Add(within); ; <-again.C {
		err = unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return lock, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) || time.Now().After(end) {
			return nil, errors.Join(fmt.Errorf("another agent is just starting in that directory: %w", err), lock.Close())
		}
	}
}

// makeDirectory makes the directory where it is missing, open to its group whatever the umask. One that is there is
// somebody else's and stays as it is.
func makeDirectory(dir string) error {
	if err := os.MkdirAll(filepath.Dir(dir), directoryMode); err != nil {
		return err
	}
	err := os.Mkdir(dir, directoryMode)
	if errors.Is(err, fs.ErrExist) {
		return nil // a file of that name is told by what follows
	}
	if err != nil {
		return err
	}
	return os.Chmod(dir, directoryMode)
}

func removeStale(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.Mode().Type() != fs.ModeSocket {
		return fmt.Errorf("there is a %s that is no socket: remove it or choose another api.socket", info.Mode().Type())
	}
	conn, err := (&net.Dialer{Timeout: dialTimeout}).Dial("unix", path)
	switch {
	case err == nil:
		conn.Close()
		return errors.New("another agent is listening there: stop it, or give this one another api.socket")
	case errors.Is(err, unix.ECONNREFUSED): // unix(7): bound, and nobody listens
		return os.Remove(path)
	}
	return fmt.Errorf("find out whether another agent listens there: %w", err)
}

// listener hands out connections that know their peer, at most cap(slots) at a time; further ones wait in the
// kernel's backlog.
type listener struct {
	*net.UnixListener
	slots  chan struct{}
	close  sync.Once
	closed chan struct{}
}

// Accept implements net.Listener.
func (l *listener) Accept() (net.Conn, error) {
	select {
	case l.slots <- struct{}{}:
	case <-l.closed:
		return nil, net.ErrClosed
	}
	conn, err := l.AcceptUnix()
	if err != nil {
		<-l.slots
		return nil, err
	}
	return &peerConn{UnixConn: conn, release: sync.OnceFunc(func() { <-l.slots })}, nil
}

// Close implements net.Listener and removes the socket.
func (l *listener) Close() error {
	l.close.Do(func() { close(l.closed) })
	return l.UnixListener.Close()
}

type peerConn struct {
	*net.UnixConn
	release func()
}

// Close implements net.Conn.
func (c *peerConn) Close() error {
	defer c.release()
	return c.UnixConn.Close()
}

// peer is who is at the other end of a connection of the socket.
type peer struct {
	identity identity
	from     string
}

type peerKey struct{}

// withPeer notes who is at the other end: whoever may open the socket is an administrator. Over TCP each request says it.
func (s *Server) withPeer(ctx context.Context, conn net.Conn) context.Context {
	if secure, ok := conn.(*tls.Conn); ok {
		conn = secure.NetConn()
	}
	switch c := conn.(type) {
	case *tcpConn:
		return context.WithValue(ctx, tcpKey{}, c)
	case *peerConn:
		uid, err := peerUID(c)
		if err != nil {
			s.log.Warn("the caller's user can't be found out", "error", err)
			return context.WithValue(ctx, peerKey{}, peer{identity{name: "unknown", role: notify.RoleAdmin}, "socket"})
		}
		return context.WithValue(ctx, peerKey{}, peer{identity{name: userName(uid), role: notify.RoleAdmin}, "uid " + uid})
	}
	return ctx
}

// peerUID is the user at the other end of a connection, as the kernel saw it at connect (SO_PEERCRED, unix(7)).
func peerUID(conn *peerConn) (string, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return "", fmt.Errorf("ask who is calling: %w", err)
	}
	var cred *unix.Ucred
	var credErr error
	if err := raw.Control(func(fd uintptr) {
		cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil {
		return "", fmt.Errorf("ask who is calling: %w", err)
	}
	if credErr != nil {
		return "", fmt.Errorf("ask who is calling: %w", credErr)
	}
	return strconv.FormatUint(uint64(cred.Uid), 10), nil
}

// userName is the name of a user, or "uid N" when it has none here.
func userName(uid string) string {
	if u, err := user.LookupId(uid); err == nil {
		return u.Username
	}
	return "uid " + uid
}
