package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/paramedic-ha/paramedic/correlate"
	"github.com/paramedic-ha/paramedic/notify"
)

const (
	manyFaults  = 100                    // one by one, to all consumers
	manyPause   = 100 * time.Millisecond // between them
	streamRate  = 200                    // faults a second
	streamCount = 50                     // consumers of such a stream
	streamWarm  = 2 * time.Second        // not measured: connections come about
	streamRuns  = 4                      // one after the other with and without the one that hangs
	lastAim     = 250 * time.Millisecond // one fault is at the last of all consumers, p99
	waitAim     = 1.5                    // times, that a hanging consumer may slow the others down at p99
)

// many measures a real engine, notifier and outbox on a disk with many consumers over loopback: how long one fault takes to the last of them,
// and what one that hangs does to the others. All of it is this process, the consumers included: they take as much of the processor as what they
// are told by.
func many(ctx context.Context, p plan, r *report) error {
	before := machineNow()
	last, all, err := oneToAll(ctx, p.consumers)
	if err != nil {
		return err
	}
	r.section(fmt.Sprintf("One fault → %d consumers, all in one process", p.consumers), before)
	r.times(fmt.Sprintf("**the last of %d**", p.consumers), last, aim{99, lastAim})
	r.times("each of them", all)

	before = machineNow()
	var sums [2]streamed
	for i := range streamRuns {
		one, err := stream(ctx, i%2 == 1, p.stream)
		if err != nil {
			return err
		}
		sum := &sums[i%2]
		sum.after, sum.heap, sum.owed = append(sum.after, one.after...), max(sum.heap, one.heap), one.owed
		sum.superseded += one.superseded
		sum.cpu += one.cpu
	}
	alone, beside := sums[0], sums[1]
	r.section(fmt.Sprintf("%d faults/s → %d consumers, all in one process", streamRate, streamCount), before)
	r.times("the 49 that are well; all are well", alone.after)
	r.times("**the same; one more hangs**", beside.after)
	r.atMost("its p99, times that without", float64(beside.after.at(99))/float64(max(1, alone.after.at(99))), "", waitAim)
	r.value("processor, consumers included, of a core: all are well", busy(alone, p), "%")
	r.value("the same; one more hangs", busy(beside, p), "%")
	r.note("Heap in use, consumers included: %.1f MiB, %.1f when one hangs. Revisions replaced unsent: %d, %d. Owed to the one that hangs: %d.",
		float64(alone.heap)/(1<<20), float64(beside.heap)/(1<<20), alone.superseded, beside.superseded, beside.owed)
	return nil
}

// crowd is many consumers with one notifier.
type crowd struct {
	n      *notify.Notifier
	stop   func() error
	engine *correlate.Engine
	ids    []correlate.ID

	mu    sync.Mutex
	since time.Time     // faults of before are not measured
	after spread        // from T00 to the consumer
	got   chan struct{} // one for each notification
}

// newCrowd starts it. The first is deaf when hang is said: it accepts, and reads nothing.
func newCrowd(ctx context.Context, consumers int, hang bool) (c *crowd, err error) {
	c = &crowd{got: make(chan struct{}, 1<<20)}
	var closers []func() error
	c.stop = func() error {
		var problems []error
		for i := len(closers) - 1; i >= 0; i-- {
			problems = append(problems, closers[i]())
		}
		return errors.Join(problems...)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.stop())
		}
	}()
	dir, err := os.MkdirTemp("/var/tmp", "paramedic-bench-")
	if err != nil {
		return nil, err
	}
	closers = append(closers, func() error { return os.RemoveAll(dir) })
	server := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(c.take)}
	closers = append(closers, server.Close)
	var subs []notify.Subscription
	for i := range consumers {
		ln, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		if hang && i == 0 {
			closers = append(closers, ln.Close)
		} else {
			go func() { _ = server.Serve(ln) }() // ends with Close
		}
		subs = append(subs, notify.Subscription{
			Name: fmt.Sprint("consumer-", i), Endpoints: []string{"http://" + ln.Addr().String() + "/"}, Format: "native",
			Secret: notify.NewSecret([]byte("bench-secret-bench-secret-bench-")), Role: notify.RoleAdmin,
		})
	}
	c.n, err = notify.New(notify.Config{
		Node: "cmp-1", Label: "bench", Dir: dir, Log: slog.New(slog.DiscardHandler),
		AllowCallbacks: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, // the consumers are in this process
	})
	if err != nil {
		return nil, err
	}
	running, end := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- c.n.Run(running) }()
	closers = append(closers, func() error {
		end()
		if err := <-done; err != nil && !errors.Is(err, context.Canceled) {
			return err
		}
		return nil
	})
	if err := c.n.SetFile(subs); err != nil {
		return nil, err
	}
	c.engine = correlate.New(correlate.Config{Home: "cmp-1", Term: c.n.Restored().Term}, nil)
	d := correlate.Delta{Source: "bench", Full: true}
	for i := range 1000 {
		id := correlate.NewID(correlate.KindDomain, fmt.Sprintf("6d1a6f0e-0000-4000-8000-%012d", i))
		c.ids = append(c.ids, id)
		d.Set = append(d.Set, correlate.Resource{ID: id, Name: fmt.Sprintf("instance-%d", i), Project: project})
	}
	c.engine.Topology(time.Now(), d)
	return c, nil
}

func (c *crowd) take(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	at := time.Now()
	var a struct {
		Data struct {
			Timeline struct{ T00 time.Time } `json:"timeline"`
		} `json:"data"`
	}
	if err == nil {
		err = json.Unmarshal(body, &a)
	}
	if err == nil {
		c.mu.Lock()
		if !a.Data.Timeline.T00.Before(c.since) {
			c.after = append(c.after, at.Sub(a.Data.Timeline.T00))
		}
		c.mu.Unlock()
		c.got <- struct{}{}
	}
	w.WriteHeader(http.StatusNoContent)
}

// flip has the nth domain crash, or run again the next time round.
func (c *crowd) flip(n int) {
	status := correlate.StatusFailed
	if n/len(c.ids)%2 == 1 {
		status = correlate.StatusOK
	}
	now := time.Now()
	eff := c.engine.Step(now, correlate.Event{Source: "bench", Resource: c.ids[n%len(c.ids)], Condition: correlate.CondCrash, Status: status, Occurred: now, Observed: now})
	for i := range eff.Publish {
		eff.Publish[i].Found = now
	}
	c.n.Publish(eff)
}

func (c *crowd) measured() spread {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := c.after
	c.after = nil
	return all
}

// oneToAll makes faults one by one, each when the one before is at all consumers.
func oneToAll(ctx context.Context, consumers int) (last, all spread, err error) {
	c, err := newCrowd(ctx, consumers, false)
	if err != nil {
		return nil, nil, err
	}
	defer func() { err = errors.Join(err, c.stop()) }()
	for n := range manyFaults + 1 {
		select {
		case <-time.After(manyPause):
		case <-ctx.Done():
			return nil, nil, ctx.Err()
		}
		c.flip(n)
		late := time.After(patience)
		for range consumers {
			select {
			case <-c.got:
			case <-late:
				return nil, nil, fmt.Errorf("fault %d is not at all consumers after %v", n, patience)
			case <-ctx.Done():
				return nil, nil, ctx.Err()
			}
		}
		one := c.measured()
		if n == 0 {
			continue // the connections come about with it
		}
		slowest := time.Duration(0)
		for _, d := range one {
			slowest = max(slowest, d)
		}
		last, all = append(last, slowest), append(all, one...)
	}
	return last, all, nil
}

// streamed is what came of a stream of faults.
type streamed struct {
	after            spread
	heap             uint64
	cpu              time.Duration // of this process
	superseded, owed int
}

func busy(s streamed, p plan) float64 {
	return 100 * float64(s.cpu) / float64(streamRuns/2*(streamWarm+p.stream))
}

// used is the processor's time that this process has had.
func used() time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// stream makes faults at an even rate, told to 49 consumers and one more, which hangs or is not there.
func stream(ctx context.Context, hang bool, period time.Duration) (s streamed, err error) {
	consumers := streamCount - 1
	if hang {
		consumers++
	}
	c, err := newCrowd(ctx, consumers, hang)
	if err != nil {
		return s, err
	}
	defer func() { err = errors.Join(err, c.stop()) }()
	warm, faults := int(streamRate*streamWarm.Seconds()), int(streamRate*(streamWarm+period).Seconds())
	before := used()
	tick := time.NewTicker(time.Second / streamRate)
	defer tick.Stop()
	for n := range faults {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return s, ctx.Err()
		}
		if n == warm {
			c.mu.Lock()
			c.since, c.after = time.Now(), nil
			c.mu.Unlock()
		}
		c.flip(n)
	}
	s.cpu = used() - before
	owed := func() (well, hanging int) {
		for _, d := range c.n.Deliveries("") {
			if hang && d.Subscription == "consumer-0" {
				hanging++
			} else {
				well++
			}
		}
		return well, hanging
	}
	for well, hanging := owed(); ; well, hanging = owed() {
		if s.owed = hanging; well == 0 {
			break
		}
		select {
		case <-time.After(20 * time.Millisecond): // asking costs the notifier something, too
		case <-ctx.Done():
			return s, ctx.Err()
		}
	}
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	s.heap, s.after = m.HeapInuse, c.measured()
	s.superseded = (faults-warm)*(streamCount-1) - len(s.after)
	return s, nil
}
