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
	"time"

	"github.com/digitalocean/go-libvirt"
	"github.com/digitalocean/go-libvirt/socket/dialers"
)

// rereadPerResync definitions are read again at each resync, the oldest first: what no event told is found in the end.
const rereadPerResync = 8

// client calls libvirt. One goroutine uses it; a call that takes longer than timeout ends with the connection.
type client struct {
	wire    *wire
	lib     *libvirt.Libvirt
	timeout time.Duration
}

// call runs f, which calls libvirt. go-libvirt waits for ever: the connection is cut, and with it the call ends.
func (c *client) call(what string, f func() error) error {
	cut := time.AfterFunc(c.timeout, func() {
		c.wire.cut(fmt.Errorf("%s: no answer from libvirt within %v", what, c.timeout))
	})
	err := f()
	cut.Stop()
	select {
	case <-c.wire.ended:
		return c.wire.reason() // whatever the library made of it
	default:
	}
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
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

// session runs one connection to its end and says why it ended.
func (r *run) session(parent context.Context) error {
	conn, path, err := r.dial(parent)
	if err != nil {
		return err
	}
	w := newWire(conn, func(err error) { r.log.Warn("libvirt event lost, reading all again", "err", err) })
	// A new object for each connection: one that was disconnected can't be trusted to connect again.
	c := &client{wire: w, lib: libvirt.NewWithDialer(dialers.NewAlreadyConnected(w)), timeout: r.Timeout}

	ctx, stop := context.WithCancel(parent)
	jobs, answers := make(chan job, 1), make(chan result, 1)
	done := make(chan struct{})
	go func() {
		defer close(done)
		r.serve(ctx, c, path, jobs, answers)
	}()
	unwatch := context.AfterFunc(ctx, func() { w.cut(ctx.Err()) })
	err = r.conduct(ctx, w, jobs, answers)
	stop()
	unwatch()
	w.cut(err)
	<-done
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
	asked   uint64 // tracker.seq
	connect bool   // first: open, subscribe, and read everything
	all     bool   // state of all, and the definitions in read
	ping    bool
	read    map[libvirt.UUID]libvirt.Domain
	known   map[libvirt.UUID]bool // with all: those whose definition is known; others are read
}

type result struct {
	job    job
	answer *answer // nil of a ping
	facts  map[string]string
	err    error
}

// serve calls libvirt, one job after the other, until ctx ends.
func (r *run) serve(ctx context.Context, c *client, path string, jobs <-chan job, answers chan<- result) {
	defer c.close()
	for {
		select {
		case <-ctx.Done():
			return
		case j := <-jobs:
			res := c.do(&j, r, path)
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

func (c *client) do(j *job, r *run, path string) (res result) {
	if j.connect {
		res.facts, res.err = c.open(r, path)
		if res.err != nil {
			return res
		}
	}
	switch {
	case j.ping:
		res.err = c.call("asking libvirt for its version", func() error { _, err := c.lib.ConnectGetLibVersion(); return err })
	case j.connect || j.all:
		res.answer, res.err = c.all(j)
	default:
		res.answer, res.err = c.some(j)
	}
	return res
}

// open opens the connection and subscribes: before anything is listed, so that nothing falls in between.
func (c *client) open(r *run, path string) (map[string]string, error) {
	err := c.call("opening "+r.URI, func() error {
		defer c.wire.letGo()
		return c.lib.ConnectToURI(libvirt.ConnectURI(r.URI))
	})
	if err != nil {
		return nil, err
	}
	for _, id := range eventIDs {
		// The registration alone: the events are taken from the stream, see wire.
		err := c.call(fmt.Sprintf("subscribing to libvirt event %d", id), func() error {
			_, err := c.lib.ConnectDomainEventCallbackRegisterAny(int32(id), nil)
			return err
		})
		if err != nil && (id == libvirt.DomainEventIDLifecycle || c.over()) {
			return nil, err
		}
		if err != nil {
			r.log.Info("libvirt lacks an event: what it tells is found at the next resync, or not at all", "event", int32(id), "err", err)
		}
	}
	facts := map[string]string{"uri": r.URI, "socket": path}
	err = c.call("asking for versions", func() error {
		lib, err := c.lib.ConnectGetLibVersion()
		if err != nil {
			return err
		}
		facts["libvirt"] = version(lib)
		driver, err := c.lib.ConnectGetType()
		if err != nil {
			return err
		}
		facts["driver"] = strings.ToLower(clip(driver))
		// A driver whose hypervisor is missing says so here, and still lists its domains.
		if hv, err := c.lib.ConnectGetVersion(); err == nil {
			facts["hypervisor"] = version(hv)
		}
		return nil
	})
	return facts, err
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
	err := c.call("listing domains", func() (err error) {
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
		err := c.call("reading the state of domain "+clip(ref.Name), func() error { return c.state(&o) })
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
	err := c.call("reading the definition of domain "+clip(o.ref.Name), func() (err error) {
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
		return nil
	}
	o.def, o.defErr = parseDefinition(text)
	return nil
}

// conduct handles what the session brings until it ends. Everything that changes the tracker happens here.
func (r *run) conduct(ctx context.Context, w *wire, jobs chan<- job, answers <-chan result) error {
	ping, resync := time.NewTicker(pingEvery), time.NewTicker(r.Resync)
	defer ping.Stop()
	defer resync.Stop()

	jobs <- job{connect: true, asked: r.track.seq}
	busy := true
	var wantAll, wantPing bool
	var reread []libvirt.UUID // definitions whose turn comes, oldest first

	for {
		if !busy {
			if j, ok := r.nextJob(wantAll, wantPing, &reread); ok {
				jobs <- j // has room: the goroutine is idle
				busy = true
				wantAll = wantAll && !j.all
				wantPing = false // any call is as good
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
			case res.answer != nil:
				if err := r.emit(ctx, r.track.take(res.answer, false)); err != nil {
					return err
				}
			}
		case <-w.overflow:
			wantAll, reread = true, nil
			r.rereadAll()
		case <-ping.C:
			wantPing = true
		case <-resync.C:
			wantAll = true
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

func (r *run) nextJob(wantAll, wantPing bool, reread *[]libvirt.UUID) (job, bool) {
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
	case wantPing:
		j.ping = true
		return j, true
	default:
		return j, false
	}
	t.wants = map[libvirt.UUID]libvirt.Domain{}
	return j, true
}
