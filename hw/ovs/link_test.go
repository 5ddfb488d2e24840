package ovs

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/paramedic-ha/paramedic/correlate"
	"github.com/paramedic-ha/paramedic/hw"
)

const (
	asksEvery = 2 * time.Second
	hungAfter = 5 * time.Second
)

var question = request{Method: "echo", ID: "echo", Params: []any{}}

// attended runs attend on one end of a pipe and gives the other. ended is closed when it has returned err.
func attended(ctx context.Context, take func(*message) error) (daemon net.Conn, ended chan struct{}, err *error) {
	ours, daemon := net.Pipe()
	l := newLink(ours, hungAfter)
	ended, err = make(chan struct{}), new(error)
	go func() {
		defer close(ended)
		defer l.close()
		*err = l.attend(ctx, asksEvery, question, take)
	}()
	return daemon, ended, err
}

func TestDaemonThatFallsSilentIsHung(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		daemon, ended, err := attended(t.Context(), func(*message) error { return nil })
		var asked bytes.Buffer
		go func() { _, _ = io.Copy(&asked, daemon) }()
		began := time.Now()
		for range 10 { // more often than it is asked
			_, _ = daemon.Write([]byte(`{"id":"echo","result":[],"error":null}`))
			<-time.After(time.Second)
		}
		<-ended
		if want := 9*time.Second + asksEvery + hungAfter; !errors.Is(*err, errSilent) || time.Since(began) != want {
			t.Errorf("ended with %v after %s, want it silent after %s", *err, time.Since(began), want)
		}
		_ = daemon.Close()
		synctest.Wait()
		if n := strings.Count(asked.String(), `"method":"echo"`); n != 1 {
			t.Errorf("asked %d times, want once, when it was silent", n)
		}
	})
}

func TestOurOwnStandstillIsNotTheDaemons(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		stood := false
		daemon, ended, err := attended(ctx, func(*message) error {
			if !stood {
				stood = true
				<-time.After(time.Minute)
			}
			return nil
		})
		go func() { // it answers at once, whenever it is asked
			dec := json.NewDecoder(daemon)
			for {
				var m message
				if dec.Decode(&m) != nil {
					return
				}
				_, _ = daemon.Write([]byte(`{"id":"echo","result":[],"error":null}`))
			}
		}()
		_, _ = daemon.Write([]byte(`{"id":"monitor","result":{},"error":null}`))
		<-time.After(2 * time.Minute)
		cancel()
		<-ended
		if !errors.Is(*err, context.Canceled) {
			t.Errorf("ended with %v", *err)
		}
		_ = daemon.Close()
	})
}

func TestWhatIsNoMessageIsOdd(t *testing.T) {
	for _, text := range []string{"HTTP/1.1 400", `{"id":`, `[1,2]`} {
		synctest.Test(t, func(t *testing.T) {
			daemon, ended, err := attended(t.Context(), func(*message) error { return nil })
			_, _ = daemon.Write([]byte(text))
			_ = daemon.Close()
			<-ended
			if got := lost(*err); got != odd && !errors.Is(*err, errClosed) {
				t.Errorf("%q: %v", text, *err)
			}
		})
	}
}

// scripted stands in for ovsdb-server where the real one can't be made to say something.
func scripted(t *testing.T, answer string) (socket string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "ovs")
	if err != nil {
		t.Fatal(err)
	}
	socket = filepath.Join(dir, "db.sock")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		c, err := listener.Accept()
		if err != nil {
			return
		}
		defer func() { _ = c.Close() }()
		_, _ = c.Write([]byte(answer))
		_, _ = io.Copy(io.Discard, c)
	})
	t.Cleanup(func() {
		_ = listener.Close()
		wg.Wait()
		_ = os.RemoveAll(dir)
	})
	return socket
}

// seen runs a source until its health is as wanted, and ends it.
func seen(t *testing.T, c Config, sight hw.Sight) *lab {
	t.Helper()
	c.Timeout, c.Interval = 5*time.Second, 20*time.Millisecond
	s, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	l := &lab{t: t, engine: correlate.New(correlate.Config{Home: "cmp-1", Term: 2}, nil)}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx, l) }()
	l.eventually(sight.String(), func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		return l.deltas > 0 && l.health.Sight == sight
	})
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("ended with %v", err)
	}
	return l
}

func TestDatabaseThatRefusesUsIsNotDead(t *testing.T) {
	socket := scripted(t, `{"id":"monitor","result":null,"error":{"error":"unknown database"}}`)
	l := seen(t, Config{Socket: socket}, hw.SightBlind)
	if l.engine.Stands(ovsdb, correlate.CondSwitchDatabase) || !strings.Contains(l.health.Text, "unknown database") {
		t.Errorf("health %+v, alarms %v", l.health, l.engine.Alarms())
	}
}

func TestDaemonThatAsksIsAnswered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ours, daemon := net.Pipe()
		l := newLink(ours, hungAfter)
		w := &watch{Source: &Source{}}
		heard := make(chan string, 1)
		go func() {
			b := make([]byte, 256)
			n, _ := daemon.Read(b)
			heard <- string(b[:n])
		}()
		if err := w.take(t.Context(), l, &message{Method: "echo", ID: json.RawMessage(`7`), Params: json.RawMessage(`["x"]`)}); err != nil {
			t.Fatal(err)
		}
		if got, want := <-heard, `{"result":["x"],"error":null,"id":7}`; got != want {
			t.Errorf("answered %s, want %s", got, want)
		}
		l.close()
		_ = daemon.Close()
	})
}

func TestMissingRightIsSaidWithItsRemedy(t *testing.T) {
	table := newTable(hw.Root{}, nil)
	table.takeDatabase(report{life: denied, text: "dial unix /run/openvswitch/db.sock: connect: permission denied"})
	table.takeSwitch(report{life: denied})
	if h := table.health(); h.Sight != hw.SightDegraded || !strings.Contains(h.Text, "group") {
		t.Errorf("health %+v", h)
	}
	if d := table.delta(time.Unix(1, 0)); !d.Full || len(d.Set) > 0 {
		t.Errorf("delta %+v", d)
	}
}

func TestAlarmOfASwitchThatIsStillGoneStands(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "db.sock")
	keys := []correlate.Key{{Home: "cmp-1", Resource: vswitchd, Condition: correlate.CondSwitch}}
	l := seen(t, Config{Socket: socket, Standing: func(context.Context) ([]correlate.Key, error) { return keys, nil }}, hw.SightDegraded)
	if !l.engine.Stands(ovsdb, correlate.CondSwitchDatabase) {
		t.Error("its database is not missed")
	}
	v, _ := l.engine.Resource(vswitchd)
	if !v.Unknown {
		t.Errorf("ovs-vswitchd is %+v, want it unknown", v)
	}
}
