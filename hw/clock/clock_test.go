package clock

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/paramedic-ha/paramedic/correlate"
	"github.com/paramedic-ha/paramedic/hw"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const host = correlate.ID("host/cmp-1")

// kernel answers as adjtimex does.
type kernel struct {
	mu   sync.Mutex
	said unix.Timex
	err  error
}

func (k *kernel) ask(t *unix.Timex) (int, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	*t = k.said
	return 0, k.err
}

func (k *kernel) say(status int32, most time.Duration, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.said, k.err = unix.Timex{Status: status, Maxerror: most.Microseconds()}, err
}

// desk is an engine that is fed by a running source.
type desk struct {
	mu     sync.Mutex
	engine *correlate.Engine
	deltas int
	health hw.Health
}

func (d *desk) Emit(_ context.Context, delta correlate.Delta) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.deltas++
	d.engine.Topology(time.Now(), delta)
	return nil
}

func (d *desk) Health(h hw.Health) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.health = h
}

func (d *desk) stands() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.engine.Tick(time.Now())
	return d.engine.Stands(host, correlate.CondUnsynchronised)
}

func (d *desk) seen() (deltas int, health hw.Health) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.deltas, d.health
}

// wait lets time pass, and whoever it wakes finish.
func wait(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

// run plays a source in virtual time.
func run(t *testing.T, play func(t *testing.T, k *kernel, d *desk)) {
	synctest.Test(t, func(t *testing.T) {
		k := &kernel{}
		d := &desk{engine: correlate.New(correlate.Config{Home: "cmp-1", Term: 2}, nil)}
		d.engine.Topology(time.Now(), correlate.Delta{Source: "agent", Set: []correlate.Resource{{ID: host}}})
		s := New(Config{Host: host})
		s.ask = k.ask
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- s.Run(ctx, d) }()
		synctest.Wait()
		play(t, k, d)
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("ended with %v", err)
		}
	})
}

func TestAClockThatNobodySetsIsToldAfterMinutes(t *testing.T) {
	run(t, func(t *testing.T, k *kernel, d *desk) {
		for name, bad := range map[string]struct {
			status int32
			most   time.Duration
		}{
			"unsynchronised": {unix.STA_UNSYNC, 16 * time.Second},
			"far off":        {unix.STA_PLL, 3 * time.Second},
		} {
			k.say(unix.STA_PLL, 50*time.Millisecond, nil)
			wait(10 * time.Minute)
			if d.stands() {
				t.Fatalf("%s: it stands with a good clock", name)
			}
			k.say(bad.status, bad.most, nil)
			wait(4 * time.Minute)
			if d.stands() {
				t.Errorf("%s: told already, as at each start of a host", name)
			}
			wait(2 * time.Minute)
			if !d.stands() {
				t.Errorf("%s: not told", name)
			}
		}
		if deltas, _ := d.seen(); deltas > 5 {
			t.Errorf("%d deltas for five changes", deltas)
		}
	})
}

func TestAMissingRightIsNeitherFaultNorRecovery(t *testing.T) {
	run(t, func(t *testing.T, k *kernel, d *desk) {
		k.say(unix.STA_UNSYNC, 0, nil)
		wait(10 * time.Minute)
		k.say(0, 0, unix.EPERM)
		wait(time.Minute)
		if !d.stands() {
			t.Error("cleared by a failed read")
		}
		if _, h := d.seen(); h.Sight != hw.SightDegraded || !strings.Contains(h.Text, "ProtectClock") {
			t.Errorf("health %+v", h)
		}
		k.say(0, 0, nil)
		wait(time.Minute)
		if _, h := d.seen(); d.stands() || h != (hw.Health{}) {
			t.Errorf("health %+v", h)
		}
	})
}

func TestThisKernelAnswers(t *testing.T) {
	s := New(Config{Host: host})
	e, health := s.look()
	if e.Status == correlate.StatusUnknown || health != (hw.Health{}) {
		t.Errorf("it says %+v, health %+v", e, health)
	}
	t.Logf("%s, %s, %v", e.Status, e.Text, e.Evidence)
}
