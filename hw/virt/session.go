package virt

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/digitalocean/go-libvirt"
	"github.com/digitalocean/go-libvirt/socket/dialers"

	"github.com/paramedic-ha/paramedic/correlate"
	"github.com/paramedic-ha/paramedic/hw"
)

// rereadPerResync definitions are read again at each resync, the oldest first: what no event told is found in the end.
const rereadPerResync = 8

// firstResync comes soon after connecting; each pause is twice as long as the last one, up to Config.Resync.
const firstResync = 100 * time.Millisecond

// patience is how many timeouts a call may take while pings are answered: libvirt holds a domain's lock for as long as
// that domain starts, and whoever asks for the state of all domains waits for it. That is no reason for an alarm.
const patience = 10

// client calls libvirt, for one goroutine; only ping is another's.
type client struct {
	wire    *wire
	lib     *libvirt.Libvirt
	timeout time.Duration
}

// newClient makes a library object of its own for each connection: one that was disconnected can't be trusted again.
func newClient(w *wire, timeout time.Duration) *client {
	return &client{wire: w, lib: libvirt.NewWithDialer(dialers.NewAlreadyConnected(w)), timeout: timeout}
}

// call runs f, which calls libvirt. go-libvirt waits for ever: after the deadline the connection is cut, and with it
// the call ends.
func (c *client) call(what string, deadline time.Duration, f func() error) error {
	cut := time.AfterFunc(deadline, func() {
		c.wire.cut(fmt.Errorf("%s: no answer from libvirt within %v", what, deadline))
	})
	err := f()
	cut.Stop()
	if c.over() {
		return c.wire.reason() // whatever the library made of it
	}
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

// ask is call for everything that may have to wait for a domain.
func (c *client) ask(what string, f func() error) error { return c.call(what, patience*c.timeout, f) }

// ping asks for something that no lock can delay, every few seconds until ctx ends. It finds a daemon that hangs
// (the calls beside it have patience), and an end that the library misses.
func (c *client) ping(ctx context.Context) {
	tick := time.NewTicker(pingEvery)
	defer tick.Stop()
	for {
		err := c.call("pinging libvirt", c.timeout, func() error {
			_, err := c.lib.ConnectGetLibVersion()
			return err
		})
		if err != nil {
			c.wire.cut(err)
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// reason is why the connection ended; it may be asked after ended is closed.
func (w *wire) reason() error {
	if errors.Is(w.why, io.EOF) || errors.Is(w.why, io.ErrUnexpectedEOF) {
		return errHungUp
	}
	return w.why
}

var errHungUp = errors.New("libvirt closed the connection")

// dial connects to the first socket that answers. When all are missing the error is fs.ErrNotExist.
func (s *source) dial(ctx context.Context) (net.Conn, string, error) {
	var missing, other error
	dialer := net.Dialer{Timeout: s.Timeout}
	for _, path := range s.sockets {
		conn, err := dialer.DialContext(ctx, "unix", path)
		if err == nil {
			return conn, path, nil
		}
		if errors.Is(err, fs.ErrNotExist) {
			missing = err
		} else if other == nil {
			other = err
		}
	}
	if other != nil {
		return nil, "", fmt.Errorf("connecting to libvirt: %w", other)
	}
	return nil, "", fmt.Errorf("connecting to libvirt: %w", missing)
}

// leaveWithin is how long calls in flight may go on when the session is over. A libvirtd of 9.0 can crash when a client
// with registered events hangs up while it works on a request of that client (two of its threads then take the events
// down), so we hang up with none in flight, if it answers at all.
const leaveWithin = 2 * time.Second

// session runs one connection to its end and says why it ended.
func (r *run) session(parent context.Context) error {
	conn, path, err := r.dial(parent)
	if err != nil {
		return err
	}
	w := newWire(conn, &r.counts, func(err error) { r.log.Warn("libvirt event lost, reading all again", "error", err) })
	c := newClient(w, r.Timeout)

	// The calls outlive parent: see leave.
	calls, stop := context.WithCancel(context.WithoutCancel(parent))
	jobs, answers := make(chan job, 1), make(chan result, 1)
	done := make(chan struct{})
	go func() {
		defer close(done)
		r.serve(calls, c, path, jobs, answers)
	}()
	err = r.conduct(parent, w, jobs, answers)
	stop()
	leave := time.AfterFunc(min(r.Timeout, leaveWithin), func() { w.cut(err) })
	<-done
	leave.Stop()
	w.cut(err)
	var denied *emitError
	if parent.Err() == nil && !errors.As(err, &denied) {
		// A daemon that dies has told what it could: this is still taken.
		if late := r.drain(parent, w); late != nil {
			return late
		}
	}
	return err
}

// job is what the session asks of the goroutine that calls libvirt.
type job struct {
	asked   uint64            // tracker.seq
	connect bool              // open, subscribe, and read everything: the first job
	all     bool              // state of all, and the definitions in read
	facts   map[string]string // to be completed with the versions
	read    map[libvirt.UUID]libvirt.Domain
	known   map[libvirt.UUID]bool // with all: those whose definition is known; others are read
}

type result struct {
	job    job
	answer *answer // nil of a job for facts
	facts  map[string]string
	err    error
}

// serve calls libvirt, one job after the other, until ctx ends.
func (r *run) serve(ctx context.Context, c *client, path string, jobs <-chan job, answers chan<- result) {
	var pinger sync.WaitGroup
	defer c.close()
	defer pinger.Wait()
	for {
		select {
		case <-ctx.Done():
			return
		case j := <-jobs:
			if ctx.Err() != nil {
				return
			}
			if j.connect {
				// Before anything that may take long.
				facts, err := c.open(r, path)
				if err != nil {
					answers <- result{job: j, err: err} // has room: one job, one answer
					return
				}
				j.facts = facts
				pinger.Go(func() { c.ping(ctx) })
			}
			var res result
			if err := hw.Contain(func() error { res = c.do(&j); return nil }); err != nil {
				res.err = err
			}
			res.job = j
			select {
			case answers <- res:
			case <-ctx.Done():
				return
			}
		}
	}
}

// close ends the connection and the library's goroutines.
func (c *client) close() {
	c.wire.cut(net.ErrClosed)
	c.wire.letGo()
	<-c.lib.Disconnected()
}

func (c *client) do(j *job) (res result) {
	switch {
	case j.connect || j.all:
		res.facts = j.facts
		res.answer, res.err = c.all(j)
	case j.facts != nil:
		res.facts, res.err = j.facts, c.versions(j.facts)
	default:
		res.answer, res.err = c.some(j)
	}
	return res
}

// open opens the connection and subscribes: before anything is listed, so that nothing falls in between.
func (c *client) open(r *run, path string) (map[string]string, error) {
	err := c.call("opening "+r.URI, c.timeout, func() error {
		defer c.wire.letGo()
		return c.lib.ConnectToURI(libvirt.ConnectURI(r.URI))
	})
	if err != nil {
		return nil, err
	}
	for _, id := range eventIDs {
		// The registration alone: the events are taken from the stream, see wire.
		err := c.call(fmt.Sprintf("subscribing to libvirt event %d", id), c.timeout, func() error {
			_, err := c.lib.ConnectDomainEventCallbackRegisterAny(int32(id), nil)
			return err
		})
		if err != nil && (id == libvirt.DomainEventIDLifecycle || c.over()) {
			return nil, err
		}
		if err != nil && !r.everConnected {
			r.log.Info("libvirt lacks an event: what it tells is found at the next resync, or not at all", "event", int32(id), "error", err)
		}
	}
	return map[string]string{"uri": r.URI, "socket": path}, nil
}

// versions asks for the versions. libvirt may start a qemu to learn its version, and probe it, which takes seconds:
// it is asked after everything that matters.
func (c *client) versions(facts map[string]string) error {
	return c.ask("asking for versions", func() error {
		lib, err := c.lib.ConnectGetLibVersion()
		if err != nil {
			return err
		}
		facts["libvirt"] = version(lib)
		driver, err := c.lib.ConnectGetType()
		if err != nil {
			return err
		}
		driver = strings.ToLower(clip(driver))
		facts["driver"] = driver
		// Where the hypervisor itself is missing its version is too; the domains are still listed.
		if hv, err := c.lib.ConnectGetVersion(); err == nil {
			facts["hypervisor"] = version(hv)
		}
		return nil
	})
}

func (c *client) over() bool {
	select {
	case <-c.wire.ended:
		return true
	default:
		return false
	}
}

// version formats libvirt's numbers: major * 1 000 000 + minor * 1 000 + release.
func version(n uint64) string { return fmt.Sprintf("%d.%d.%d", n/1_000_000, n/1_000%1_000, n%1_000) }

// all reads the state of every domain, and the definitions that are asked for or not known.
func (c *client) all(j *job) (*answer, error) {
	a := &answer{asked: j.asked, all: true}
	var transient []libvirt.Domain
	err := c.ask("listing domains", func() (err error) {
		a.domains, err = c.states()
		if err != nil {
			return err
		}
		transient, _, err = c.lib.ConnectListAllDomains(1, libvirt.ConnectListDomainsTransient)
		return err
	})
	if err != nil {
		return nil, err
	}
	fleeting := make(map[libvirt.UUID]bool, len(transient))
	for _, d := range transient {
		fleeting[d.UUID] = true
	}
	for i := range a.domains {
		o := &a.domains[i]
		o.persistent = !fleeting[o.ref.UUID]
		if _, asked := j.read[o.ref.UUID]; asked || !j.known[o.ref.UUID] {
			if err := c.definition(o); err != nil {
				return nil, err
			}
		}
	}
	a.at = time.Now()
	return a, nil
}

// states lists every domain with its state; the state group alone asks no qemu process.
func (c *client) states() ([]observed, error) {
	const flags = uint32(libvirt.ConnectGetAllDomainsStatsNowait)
	stats, err := c.lib.ConnectGetAllDomainStats(nil, uint32(libvirt.DomainStatsState), flags)
	if err != nil {
		return c.statesOneByOne(err)
	}
	list := make([]observed, 0, len(stats))
	for i := range stats {
		o := observed{ref: stats[i].Dom}
		var state, reason bool
		for _, p := range stats[i].Params {
			n, ok := p.Value.I.(int32)
			switch {
			case ok && p.Field == libvirt.DomainStatsStateState:
				o.state, state = libvirt.DomainState(n), true
			case ok && p.Field == libvirt.DomainStatsStateReason:
				o.reason, reason = n, true
			}
		}
		o.hasState = state && reason
		list = append(list, o)
	}
	return list, nil
}

// statesOneByOne is for drivers without bulk statistics (libvirt's test driver).
func (c *client) statesOneByOne(bulk error) ([]observed, error) {
	if c.over() {
		return nil, bulk
	}
	domains, _, err := c.lib.ConnectListAllDomains(1, 0)
	if err != nil {
		return nil, err
	}
	list := make([]observed, 0, len(domains))
	for _, d := range domains {
		o := observed{ref: d}
		if err := c.state(&o); err != nil {
			return nil, err
		}
		if !o.missing {
			list = append(list, o)
		}
	}
	return list, nil
}

func (c *client) state(o *observed) error {
	state, reason, err := c.lib.DomainGetState(o.ref, 0)
	switch {
	case libvirt.IsNotFound(err):
		o.missing = true
		return nil
	case err != nil:
		return err
	}
	o.state, o.reason, o.hasState = libvirt.DomainState(state), reason, true
	return nil
}

// some reads the domains that are asked for.
func (c *client) some(j *job) (*answer, error) {
	a := &answer{asked: j.asked}
	for _, ref := range j.read {
		o := observed{ref: ref}
		err := c.ask("reading the state of domain "+clip(ref.Name), func() error { return c.state(&o) })
		if err != nil {
			return nil, err
		}
		if !o.missing {
			if err := c.definition(&o); err != nil {
				return nil, err
			}
		}
		a.domains = append(a.domains, o)
	}
	slices.SortFunc(a.domains, func(x, y observed) int { return strings.Compare(x.ref.Name, y.ref.Name) })
	a.at = time.Now()
	return a, nil
}

// definition reads and parses a domain's XML. Only a broken connection is an error; the rest is the domain's own.
func (c *client) definition(o *observed) error {
	var text string
	err := c.ask("reading the definition of domain "+clip(o.ref.Name), func() (err error) {
		text, err = c.lib.DomainGetXMLDesc(o.ref, 0)
		return err
	})
	switch {
	case c.over():
		return err
	case libvirt.IsNotFound(err):
		o.missing = true
		return nil
	}
	o.read, o.definitionRaw = true, len(text)
	if err != nil {
		o.defErr = err
		return nil //nolint:nilerr // the domain carries it
	}
	o.def, o.defErr = parseDefinition(text)
	return nil
}

// conduct handles what the session brings until it ends. Everything that changes the tracker happens here.
func (r *run) conduct(ctx context.Context, w *wire, jobs chan<- job, answers <-chan result) error {
	// A daemon that has just started still finds out what became of its domains, and tells nobody.
	pause := min(firstResync, r.Resync)
	resync := time.NewTimer(pause)
	defer resync.Stop()

	jobs <- job{connect: true, asked: r.track.seq}
	busy := true
	var wantAll bool
	var versions map[string]string // to be asked for
	var reread []libvirt.UUID      // definitions whose turn comes, oldest first

	for {
		if !busy {
			j, ok := r.nextJob(wantAll, &reread)
			if !ok && versions != nil {
				j, ok, versions = job{facts: versions}, true, nil
			}
			if ok {
				jobs <- j // has room: the goroutine is idle
				busy = true
				wantAll = wantAll && !j.all
			}
		}
		select {
		case ev := <-w.events:
			if err := r.emit(ctx, r.track.event(&ev)); err != nil {
				return err
			}
		case res := <-answers:
			busy = false
			switch {
			case res.err != nil:
				return res.err
			case res.job.connect:
				if err := r.found(ctx, res.answer, res.facts); err != nil {
					return err
				}
				versions = maps.Clone(res.facts)
			case res.facts != nil:
				r.facts = res.facts
				if err := r.emit(ctx, correlate.Delta{Source: Name, Set: []correlate.Resource{r.hypervisor()}}); err != nil {
					return err
				}
			case res.answer != nil:
				if err := r.emit(ctx, r.track.take(res.answer, false)); err != nil {
					return err
				}
			}
		case <-w.overflow:
			wantAll, reread = true, nil
			r.rereadAll()
		case <-resync.C:
			wantAll = true
			pause = min(2*pause, r.Resync)
			resync.Reset(pause)
		case <-w.ended:
			return w.reason()
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// drain handles the events that wait.
func (r *run) drain(ctx context.Context, w *wire) error {
	for {
		select {
		case ev := <-w.events:
			if err := r.emit(ctx, r.track.event(&ev)); err != nil {
				return err
			}
		default:
			return nil
		}
	}
}

// rereadAll asks for every definition again.
func (r *run) rereadAll() {
	for key, d := range r.track.domains {
		r.track.want(libvirt.Domain{Name: d.name, UUID: key})
	}
}

func (r *run) nextJob(wantAll bool, reread *[]libvirt.UUID) (job, bool) {
	t := r.track
	j := job{asked: t.seq, read: t.wants}
	switch {
	case wantAll:
		j.all = true
		j.known = make(map[libvirt.UUID]bool, len(t.domains))
		for key, d := range t.domains {
			j.known[key] = d.def != nil || d.unreadable != ""
		}
		if len(*reread) == 0 {
			*reread = slices.SortedFunc(maps.Keys(t.domains), func(a, b libvirt.UUID) int { return slices.Compare(a[:], b[:]) })
		}
		n := min(rereadPerResync, len(*reread))
		for _, key := range (*reread)[:n] {
			delete(j.known, key)
		}
		*reread = (*reread)[n:]
	case len(t.wants) > 0:
	default:
		return j, false
	}
	t.wants = map[libvirt.UUID]libvirt.Domain{}
	return j, true
}
