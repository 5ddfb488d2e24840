package gossip

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

// ReplicatorConfig is what a replicator must know.
type ReplicatorConfig struct {
	Peer   PeerConfig // without Deliver
	Term   uint64     // see Config.Term; the peer's own is set from it
	Limits Limits
	Log    *slog.Logger

	// Heard gets each application message (Tell), from the one goroutine that delivers everything: it must not block. The
	// message is the callee's. An error says that it can't be understood; it is shown as a trouble with the sender. Nil:
	// there are no such messages, and one that comes is malformed.
	Heard func(from string, msg []byte) error
}

// Replicator is a replica that is kept level with those of the peers. One goroutine owns the replica; all methods hand
// it their work and are safe from any goroutine.
type Replicator struct {
	peer    *Peer
	log     *slog.Logger
	heard   func(from string, msg []byte) error
	replica *Replica // of the loop alone

	requests chan *request
	messages chan message
	stopped  chan struct{}

	mu       sync.Mutex
	watchers map[*Watcher]struct{}

	undecodable atomic.Uint64
	undelivered atomic.Uint64
	digests     atomic.Uint64
	inSync      atomic.Uint64
	lastInSync  atomic.Int64 // unix nanoseconds
}

type request struct {
	do   func(now time.Time, w *Writer) error
	done chan error
}

// The exchange of digests.
const (
	exchangeEvery = time.Second           // with one random peer, which is all the traffic of a cluster in which nothing happens
	exchangeSoon  = 50 * time.Millisecond // after a repair that brought something, or when somebody joined: there may be more
)

// ErrStopped says that the replicator does not run any more.
var ErrStopped = errors.New("the replicator has stopped")

// NewReplicator makes a peer and an empty replica. It starts nothing.
func NewReplicator(cfg ReplicatorConfig) (*Replicator, error) {
	if cfg.Log == nil {
		return nil, errors.New("a replicator needs Log")
	}
	replica, err := New(Config{Self: cfg.Peer.Node, Term: cfg.Term, Limits: cfg.Limits})
	if err != nil {
		return nil, err
	}
	r := &Replicator{
		log: cfg.Log, heard: cfg.Heard, replica: replica, watchers: map[*Watcher]struct{}{},
		requests: make(chan *request), messages: make(chan message), stopped: make(chan struct{}),
	}
	cfg.Peer.Term = cfg.Term
	cfg.Peer.Deliver = r.deliver
	if r.peer, err = NewPeer(cfg.Peer); err != nil {
		return nil, err
	}
	return r, nil
}

// Peer is the membership under it.
func (r *Replicator) Peer() *Peer { return r.peer }

// Run runs the peer and the replication until ctx ends or the peer can't go on. Call it once.
func (r *Replicator) Run(ctx context.Context) error {
	changes := r.peer.Changes()
	group, inner := errgroup.WithContext(ctx)
	group.Go(func() error { return r.peer.Run(inner) })
	group.Go(func() error { defer close(r.stopped); r.loop(inner, changes); return nil })
	return group.Wait()
}

func (r *Replicator) loop(ctx context.Context, changes <-chan struct{}) {
	every := time.NewTicker(exchangeEvery)
	defer every.Stop()
	soon := time.NewTimer(exchangeSoon)
	defer soon.Stop()
	pending := true // soon is running
	hurry := func() {
		if !pending {
			pending = true
			soon.Reset(exchangeSoon/2 + rand.N(exchangeSoon))
		}
	}
	members := 0
	for {
		select {
		case <-ctx.Done():
			return
		case q := <-r.requests:
			q.done <- r.update(q.do)
		case m := <-r.messages:
			if r.handle(m) {
				hurry()
			}
		case <-changes:
			n := r.peer.members.count()
			if n > members {
				hurry()
			}
			members = n
		case <-soon.C:
			pending = false
			r.exchange()
		case <-every.C:
			res := r.replica.Tick(wallClock())
			r.push(res.Changed)
			r.tell(res)
			r.exchange()
		}
	}
}

// wallClock is what the host's clock says, without the monotonic reading: with it, the difference of two times would hide
// from the replica that the clock was set between them.
func wallClock() time.Time { return time.Now().Round(0) }

// exchange offers a random member our digest.
func (r *Replicator) exchange() {
	others := r.peer.members.others(r.peer.cfg.Node)
	if len(others) == 0 {
		return
	}
	r.digests.Add(1)
	r.send(others[rand.N(len(others))].Name, r.replica.Digest(wallClock()))
}

// send to a member, which may be gone by now: then there is nobody to repair.
func (r *Replicator) send(node string, msg []byte) {
	if err := r.peer.Send(node, msg); err != nil {
		r.undelivered.Add(1)
		if !errors.Is(err, ErrUnknownNode) {
			r.log.Debug("a message to a peer could not be sent", "peer", node, "error", err)
		}
	}
}

// handle takes a message of a peer; true: there may be more to repair.
func (r *Replicator) handle(m message) bool {
	res, err := r.replica.Handle(wallClock(), m.from, m.payload)
	if err != nil {
		r.malformed(m.from, err)
		return false
	}
	for _, reply := range res.Replies {
		r.send(m.from, reply)
	}
	if res.InSync {
		r.inSync.Add(1)
		r.lastInSync.Store(time.Now().UnixNano())
	}
	r.tell(res)
	return res.Repair && len(res.Changed) > 0
}

// push gives records that changed here to everybody, at once.
func (r *Replicator) push(records []Record) {
	if len(records) == 0 {
		return
	}
	for _, m := range EncodeRecords(records, r.peer.Datagram()) {
		if err := r.peer.Broadcast(m); err != nil {
			r.undelivered.Add(1) // the repair brings it
			r.log.Warn("a change could not be pushed to the peers", "error", err)
		}
	}
}

func (r *Replicator) update(do func(time.Time, *Writer) error) error {
	now := wallClock()
	w := Writer{now: now, replica: r.replica}
	err := do(now, &w)
	w.replica = nil
	r.push(w.push)
	r.tell(w.res)
	if w.term != 0 {
		r.peer.SetTerm(w.term)
	}
	return err
}

// tell the watchers, and keep the roster in step with hosts that were forgotten.
func (r *Replicator) tell(res Result) {
	for _, rec := range res.Changed {
		if rec.Kind == KindForget {
			if _, name, ok := parseForget(rec.ID); ok {
				r.forgetHost(name, time.Unix(0, int64(rec.Version.A)))
			}
		}
	}
	if len(res.Changed) == 0 && len(res.Purged) == 0 && len(res.Own) == 0 && res.OwnTerm == 0 {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for w := range r.watchers {
		w.add(res)
	}
}

// forgetHost takes a host off the roster unless it was there after it was forgotten: the word travels for thirty days, and
// reaches each agent that starts anew.
func (r *Replicator) forgetHost(name string, at time.Time) {
	if _, member := r.peer.members.get(name); member {
		return
	}
	for _, h := range r.peer.roster.list() {
		if h.Node == name && !h.Last.After(at) {
			r.peer.roster.forget(name)
		}
	}
}

// Update runs do on the goroutine that owns the replica, so do must not wait for anything and not call the replicator.
// What was written is pushed to all peers when do returns, its error or not. The error is that of do, of ctx when it
// ended before do was begun, or ErrStopped.
func (r *Replicator) Update(ctx context.Context, do func(now time.Time, w *Writer) error) error {
	q := &request{do, make(chan error, 1)}
	select {
	case r.requests <- q:
	case <-r.stopped:
		return ErrStopped
	case <-ctx.Done():
		return ctx.Err()
	}
	return <-q.done
}

// View is Update for those who only read: do may use the replica while it runs, and must keep nothing of it but records.
func (r *Replicator) View(ctx context.Context, do func(*Replica)) error {
	return r.Update(ctx, func(_ time.Time, w *Writer) error { do(w.replica); return nil })
}

// Set writes one record of our own space.
func (r *Replicator) Set(ctx context.Context, kind Kind, id string, payload []byte) error {
	return r.Update(ctx, func(_ time.Time, w *Writer) error { return w.Set(kind, id, payload) })
}

// Delete deletes one record of our own space.
func (r *Replicator) Delete(ctx context.Context, kind Kind, id string) error {
	return r.Update(ctx, func(_ time.Time, w *Writer) error { return w.Delete(kind, id) })
}

// SetShared writes one record that any host may write.
func (r *Replicator) SetShared(ctx context.Context, kind Kind, id string, payload []byte) error {
	return r.Update(ctx, func(_ time.Time, w *Writer) error { return w.SetShared(kind, id, payload) })
}

// DeleteShared deletes one record that any host may write.
func (r *Replicator) DeleteShared(ctx context.Context, kind Kind, id string) error {
	return r.Update(ctx, func(_ time.Time, w *Writer) error { return w.DeleteShared(kind, id) })
}

// Forget takes a host that will not come back out of every roster, and its records out of every replica. It fails for a
// host that is a member now: its agent must be stopped first.
func (r *Replicator) Forget(ctx context.Context, host string) error {
	if _, member := r.peer.members.get(host); member {
		return fmt.Errorf("forget %s: %w; stop its agent first", host, ErrMember)
	}
	known := slices.ContainsFunc(r.peer.roster.list(), func(h Host) bool { return h.Node == host })
	return r.Update(ctx, func(now time.Time, w *Writer) error {
		if !known && !slices.Contains(w.replica.Spaces(), host) {
			return fmt.Errorf("forget %s: %w", host, ErrUnknownHost)
		}
		res, err := w.replica.Forget(now, host)
		if err == nil {
			w.join(res)
			r.peer.roster.forget(host)
		}
		return err
	})
}

// Writer writes to the replica within one Update.
type Writer struct {
	now     time.Time
	replica *Replica
	push    []Record // to the peers
	res     Result   // for the watchers
	term    uint64
}

func (w *Writer) wrote(rec Record, changed bool, err error) error {
	if changed {
		w.join(Result{Changed: []Record{rec}})
	}
	return err
}

// join takes the result of a write of ours.
func (w *Writer) join(res Result) {
	w.push = append(w.push, res.Changed...)
	w.merged(res)
}

// merged takes the result of what others wrote: the watchers hear it, and the peers not from us.
func (w *Writer) merged(res Result) {
	w.res.Changed = append(w.res.Changed, res.Changed...)
	w.res.Purged = append(w.res.Purged, res.Purged...)
	w.res.Own = append(w.res.Own, res.Own...)
	w.res.OwnTerm = max(w.res.OwnTerm, res.OwnTerm)
}

// Replica is what is written to; only within the Update.
func (w *Writer) Replica() *Replica { return w.replica }

// Set is Replica.Set.
func (w *Writer) Set(kind Kind, id string, payload []byte) error {
	return w.wrote(w.replica.Set(w.now, kind, id, payload))
}

// Delete is Replica.Delete.
func (w *Writer) Delete(kind Kind, id string) error {
	return w.wrote(w.replica.Delete(w.now, kind, id))
}

// SetShared is Replica.SetShared.
func (w *Writer) SetShared(kind Kind, id string, payload []byte) error {
	return w.wrote(w.replica.SetShared(w.now, kind, id, payload))
}

// DeleteShared is Replica.DeleteShared.
func (w *Writer) DeleteShared(kind Kind, id string) error {
	return w.wrote(w.replica.DeleteShared(w.now, kind, id))
}

// SetTerm is Replica.SetTerm, and tells the peers.
func (w *Writer) SetTerm(term uint64) error {
	res, err := w.replica.SetTerm(w.now, term)
	if err != nil {
		return err
	}
	w.term = term
	w.join(res)
	return nil
}

// Restated is Replica.Restated.
func (w *Writer) Restated() { w.replica.Restated(w.now) }

// Merge takes records from elsewhere; they are not pushed to anybody.
func (w *Writer) Merge(records []Record) Result {
	res := w.replica.Merge(w.now, records)
	w.merged(res)
	return res
}

// Restore is Replica.Restore: what this host has kept on disk. It is not pushed to anybody.
func (w *Writer) Restore(saved time.Time, records []Record) Result {
	res := w.replica.Restore(w.now, saved, records)
	w.merged(res)
	return res
}

// Watcher collects what changes, ours and others', until somebody takes it. It never fills: of each key it holds the
// newest record, so it is as large as the replica at most.
type Watcher struct {
	r     *Replicator
	ready chan struct{}

	mu      sync.Mutex
	changed map[Key]Record
	purged  map[Key]Record
	own     map[Key]Record
	ownTerm uint64
}

// Changes are what a watcher collected, in no order.
type Changes struct {
	Changed []Record // with their newest form, deleted ones marked
	Purged  []Record // gone without a word of their writer: a floor, or a forgotten host
	Own     []Record // see Result.Own
	OwnTerm uint64   // see Result.OwnTerm; zero: none
}

// Watch begins to collect. The first Take gives all that the replica holds.
func (r *Replicator) Watch(ctx context.Context) (*Watcher, error) {
	w := &Watcher{r: r, ready: make(chan struct{}, 1), changed: map[Key]Record{}, purged: map[Key]Record{}, own: map[Key]Record{}}
	err := r.View(ctx, func(replica *Replica) {
		var all Result
		for rec := range replica.Records() {
			all.Changed = append(all.Changed, rec)
		}
		w.add(all)
		r.mu.Lock()
		r.watchers[w] = struct{}{}
		r.mu.Unlock()
	})
	if err != nil {
		return nil, err
	}
	return w, nil
}

// Ready can be read when there is something to take.
func (w *Watcher) Ready() <-chan struct{} { return w.ready }

// Take gives what was collected since it was called last, and may be nothing.
func (w *Watcher) Take() Changes {
	w.mu.Lock()
	defer w.mu.Unlock()
	c := Changes{slices.Collect(maps.Values(w.changed)), slices.Collect(maps.Values(w.purged)), slices.Collect(maps.Values(w.own)), w.ownTerm}
	w.changed, w.purged, w.own, w.ownTerm = map[Key]Record{}, map[Key]Record{}, map[Key]Record{}, 0 // a map never shrinks
	return c
}

// Close ends it.
func (w *Watcher) Close() {
	w.r.mu.Lock()
	delete(w.r.watchers, w)
	w.r.mu.Unlock()
}

func (w *Watcher) add(res Result) {
	w.mu.Lock()
	for _, rec := range res.Changed {
		w.changed[rec.Key] = rec
		delete(w.purged, rec.Key)
	}
	for _, rec := range res.Purged {
		w.purged[rec.Key] = rec
		delete(w.changed, rec.Key)
	}
	for _, rec := range res.Own {
		w.own[rec.Key] = rec
	}
	w.ownTerm = max(w.ownTerm, res.OwnTerm)
	w.mu.Unlock()
	select {
	case w.ready <- struct{}{}:
	default:
	}
}

// ReplicatorStats are the figures of a replicator.
type ReplicatorStats struct {
	Digests     uint64    // exchanges that we began
	InSync      uint64    // digests of peers that were equal to ours
	LastInSync  time.Time // zero: never
	Undecodable uint64    // messages
	Undelivered uint64    // messages that could not be sent, to members that had just gone mostly
}

// Stats are the figures of this moment.
func (r *Replicator) Stats() ReplicatorStats {
	s := ReplicatorStats{
		Digests: r.digests.Load(), InSync: r.inSync.Load(), Undecodable: r.undecodable.Load(), Undelivered: r.undelivered.Load(),
	}
	if at := r.lastInSync.Load(); at != 0 {
		s.LastInSync = time.Unix(0, at)
	}
	return s
}
