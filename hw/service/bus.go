package service

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"sync/atomic"
	"time"

	systemd "github.com/coreos/go-systemd/v22/dbus"
	"github.com/godbus/dbus/v5"
)

// The names are those of org.freedesktop.systemd1(5).
const (
	destination   = "org.freedesktop.systemd1"
	manager       = dbus.ObjectPath("/org/freedesktop/systemd1")
	managerFace   = destination + ".Manager"
	unitFace      = destination + ".Unit"
	serviceFace   = destination + ".Service"
	unitPaths     = string(manager) + "/unit/"
	propertiesGet = "org.freedesktop.DBus.Properties.Get"
)

// bus is a connection to the system bus. One goroutine uses it.
type bus struct {
	conn    *dbus.Conn
	socket  net.Conn
	timeout time.Duration
	// changed has a word when systemd has said that something changed since it was last emptied.
	changed  chan struct{}
	followed map[string]bool
}

// signals marks that something has changed; the library calls it on the goroutine that reads.
type signals struct {
	changed chan struct{}
	count   *atomic.Uint64
}

// DeliverSignal implements dbus.SignalHandler.
func (s signals) DeliverSignal(iface, _ string, _ *dbus.Signal) {
	if iface != "org.freedesktop.DBus.Properties" {
		return
	}
	s.count.Add(1)
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

// connect logs in at the bus within the timeout. The connection ends with ctx.
func connect(ctx context.Context, socket string, timeout time.Duration, count *atomic.Uint64) (*bus, error) {
	dialer := net.Dialer{Timeout: timeout}
	c, err := dialer.DialContext(ctx, "unix", socket)
	if err != nil {
		return nil, fmt.Errorf("connect to the system bus: %w", err)
	}
	b := &bus{socket: c, timeout: timeout, changed: make(chan struct{}, 1), followed: make(map[string]bool)}
	b.conn, err = dbus.NewConn(c, dbus.WithContext(ctx), dbus.WithSignalHandler(signals{b.changed, count}))
	if err != nil {
		_ = c.Close()
		return nil, fmt.Errorf("connect to the system bus: %w", err)
	}
	err = c.SetDeadline(time.Now().Add(timeout))
	if err == nil {
		err = b.conn.Auth([]dbus.Auth{dbus.AuthExternal(strconv.Itoa(os.Getuid()))})
	}
	if err == nil {
		err = b.conn.Hello()
	}
	if err == nil {
		err = c.SetDeadline(time.Time{})
	}
	if err != nil {
		b.close()
		return nil, fmt.Errorf("log in at the system bus: %w", err)
	}
	return b, nil
}

func (b *bus) close() { _ = b.conn.Close() }

func (b *bus) closed() <-chan struct{} { return b.conn.Context().Done() }

// call stores the answer into results. An error of type dbus.Error is the other side's; any other is the connection's.
func (b *bus) call(ctx context.Context, to string, path dbus.ObjectPath, method string, args []any, results ...any) error {
	ctx, cancel := context.WithTimeout(ctx, b.timeout)
	defer cancel()
	if err := b.socket.SetWriteDeadline(time.Now().Add(b.timeout)); err != nil { // the library's writing knows no context
		return fmt.Errorf("call %s: %w", method, err)
	}
	err := b.conn.Object(to, path).CallWithContext(ctx, method, 0, args...).Store(results...)
	if errors.Is(err, context.DeadlineExceeded) {
		err = fmt.Errorf("no answer within %v", b.timeout)
	}
	if err != nil {
		return fmt.Errorf("call %s: %w", method, err)
	}
	return nil
}

// follow asks for a word whenever the unit changes, whether it is loaded yet or not.
func (b *bus) follow(ctx context.Context, unit string) error {
	if b.followed[unit] {
		return nil
	}
	b.followed[unit] = true
	match := fmt.Sprintf("type='signal',sender='%s',interface='org.freedesktop.DBus.Properties',member='PropertiesChanged',path='%s',arg0='%s'",
		destination, objectPath(unit), unitFace)
	return b.call(ctx, "org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus.AddMatch", []any{match})
}

func objectPath(unit string) dbus.ObjectPath {
	return dbus.ObjectPath(unitPaths + systemd.PathBusEscape(unit))
}

// subscribe has systemd send signals: it does so only when somebody wants them.
func (b *bus) subscribe(ctx context.Context) error {
	return b.call(ctx, destination, manager, managerFace+".Subscribe", nil)
}

// row is one of ListUnitsByPatterns.
type row struct {
	Name, Description, Load, Active, Sub, Following string
	Path                                            dbus.ObjectPath
	Job                                             uint32
	JobType                                         string
	JobPath                                         dbus.ObjectPath
}

// list gives the units that match a rule and are loaded, each once.
func (b *bus) list(ctx context.Context, rules []Unit) ([]state, error) {
	patterns := make([]string, 0, len(rules))
	for i := range rules {
		patterns = append(patterns, rules[i].pattern())
	}
	var rows []row
	if err := b.call(ctx, destination, manager, managerFace+".ListUnitsByPatterns", []any{[]string{}, patterns}, &rows); err != nil {
		return nil, err
	}
	states := make([]state, 0, len(rows))
	for _, r := range rows {
		if r.Load != "loaded" || r.Following != "" { // not installed, masked, or another name
			continue
		}
		s := state{unit: r.Name, description: r.Description, active: r.Active, sub: r.Sub}
		if err := b.property(ctx, r.Path, "NRestarts", &s.restarts); err != nil {
			return nil, err
		}
		if m := s.meaning(); m == failed || m == waiting {
			if err := b.property(ctx, r.Path, "Result", &s.result); err != nil {
				return nil, err
			}
		}
		states = append(states, s)
	}
	return states, nil
}

// property asks for one of a service. It leaves the value as it is when systemd does not give it: the unit is gone meanwhile, is
// no service, or systemd is too old (NRestarts: 235).
func (b *bus) property(ctx context.Context, path dbus.ObjectPath, name string, value any) error {
	var v dbus.Variant
	err := b.call(ctx, destination, path, propertiesGet, []any{serviceFace, name}, &v)
	var refused dbus.Error
	if errors.As(err, &refused) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := v.Store(value); err != nil {
		return fmt.Errorf("read %s: %w", name, err)
	}
	return nil
}
