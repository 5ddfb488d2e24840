package notify

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"go.etcd.io/bbolt"

	"github.com/paramedic-ha/paramedic/notify/boltfile"
	"github.com/paramedic-ha/paramedic/notify/delivery"
)

const (
	dbName      = "paramedic.db"
	keepBad     = 3
	lockWait    = time.Second
	repairEvery = time.Second
	slowCommit  = 5 * time.Second // the default of outbox.patience
)

// shelf is a bucket of the outbox.
type shelf uint8

const (
	shelfMeta shelf = iota
	shelfAlarms
	shelfPairs // subscription id, NUL, alarm id
	shelfSubscriptions
	shelfMutes
	shelves
)

var shelfNames = [shelves][]byte{[]byte("meta"), []byte("alarms"), []byte("pairs"), []byte("subscriptions"), []byte("mutes")}

var (
	keyTerm  = []byte("term")
	keyClean = []byte("clean")
)

// place is where a record lies; writes to one place are coalesced until the commit.
type place struct {
	shelf shelf
	key   string
}

func pairPlace(subscription, alarmID string) place {
	return place{shelfPairs, subscription + "\x00" + alarmID}
}

// write sets a record, or removes it when record is nil.
type write struct {
	place
	record any
}

// outbox keeps what must outlive the process, in one bbolt file. Writers hand over records and go on; one goroutine
// (run) commits whatever has gathered, so that a commit's cost is shared by all who waited for it. When the file can't
// be written, records are dropped (the truth is in memory, and notifications still go out) and a full rewrite is tried
// each second.
type outbox struct {
	path   string
	log    *slog.Logger
	now    func() time.Time
	sealer Sealer

	// Set before run. committed tells up to which batch all is durable; contents is everything, for a rewrite; report
	// says that deliveries are not durable, or are again ("").
	committed func(seq uint64, c delivery.Commit)
	contents  func() []write
	report    func(problem string)
	observe   func(records int, took time.Duration)
	patience  time.Duration // a commit that takes longer is an alarm about ourselves
	keepFor   time.Duration // see keep

	db *bbolt.DB // run's, after open

	writer sync.Mutex // held for each use of db, so that a term can be raised before run; taken before group and mu
	group  sync.Mutex // held while what belongs together is handed over; taken before mu

	mu     sync.Mutex
	term   uint64
	batch  map[place]any
	seq    uint64 // of the batch being gathered
	broken string // why nothing can be written; empty when well
	busy   bool   // a commit is under way
	// committing is what it commits; nil: none is. runID is random: whose batches seq counts.
	committing map[place]any
	runID      uint64
	// staged is how often records were handed over, kept up to which of these the disk has them, or the kernel (see scribe).
	staged, kept uint64
	slowly       chan struct{} // capacity 1: something waits for a commit
	slow         string        // that it has not come back; empty when well
	wake         chan struct{}

	running bool
	durable uint64        // the last batch committed
	changed chan struct{} // closed when running, durable or broken change
}

// put hands records over and returns the batch that they, or with none the last ones, go with. It never blocks on the disk.
func (o *outbox) put(writes ...write) (seq uint64) {
	seq = o.stage(writes...)
	o.flush()
	return seq
}

// stage is put without starting a commit; flush starts it. What belongs together so costs one fsync; see together.
func (o *outbox) stage(writes ...write) (seq uint64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, w := range writes {
		o.batch[w.place] = w.record
	}
	if len(writes) > 0 {
		o.staged++
	}
	if seq = o.seq; len(o.batch) == 0 {
		seq-- // nothing waits: what the caller means went with the batch before
	}
	return seq
}

// together keeps a commit, and the file beside the outbox, from taking a part of what is handed over until done is called. An alarm that was kept
// as over, with pairs of before that, would say of nobody who was told of it in a form that speaks of machines.
func (o *outbox) together() (done func()) {
	o.group.Lock()
	return o.group.Unlock
}

// raise makes a higher term durable. When that fails the term still counts for what is written later.
func (o *outbox) raise(term uint64) error {
	o.mu.Lock()
	if term <= o.term {
		o.mu.Unlock()
		return nil
	}
	o.term = term
	running := o.running
	o.mu.Unlock()
	seq := o.stage(write{place{shelfMeta, string(keyTerm)}, termRecord(term)})
	if running {
		o.flush()
		o.await(context.Background(), seq, durableWait)
	} else {
		o.commit()
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case o.durable >= seq:
		return nil
	case o.broken != "":
		return fmt.Errorf("make term %d durable: %s", term, o.broken)
	}
	return fmt.Errorf("make term %d durable: the disk under %s has not taken it within %v", term, o.path, durableWait)
}

func (o *outbox) flush() {
	select {
	case o.wake <- struct{}{}:
	default:
	}
	select {
	case o.slowly <- struct{}{}:
	default:
	}
}

// await waits until batch seq is committed, ctx ends, the outbox turns out broken, or the wait is over.
func (o *outbox) await(ctx context.Context, seq uint64, wait time.Duration) {
	o.awaitThat(ctx, wait, func() bool { return o.durable >= seq || o.slow != "" })
}

// awaitThat is await of anything that moved tells of; it is called under mu.
func (o *outbox) awaitThat(ctx context.Context, wait time.Duration, that func() bool) {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	for {
		o.mu.Lock()
		done, changed := that() || o.broken != "" || !o.running, o.changed
		o.mu.Unlock()
		if done {
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return
		case <-timer.C:
			return
		}
	}
}

// moved tells those who await. Under mu.
func (o *outbox) moved() {
	close(o.changed)
	o.changed = make(chan struct{})
}

// problem says why nothing can be written; empty when all is well.
func (o *outbox) problem() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return cmp.Or(o.broken, o.slow)
}

// stuck says that the disk has not answered for a commit. Nothing can end an fdatasync but the disk; deliveries go out
// meanwhile, and what is to be written gathers, one record for each place.
func (o *outbox) stuck() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.busy {
		return
	}
	o.slow = fmt.Sprintf("the disk under %s has not taken a commit for %v", o.path, o.patience)
	o.moved()
	o.log.Error("the disk does not answer: notifications go out but won't survive a restart", "file", o.path)
	o.report(o.slow)
}

// returned ends what stuck said. Under mu.
func (o *outbox) returned() {
	o.busy = false
	if o.slow != "" {
		o.slow = ""
		o.report("")
	}
}

// run commits until ctx ends, then commits the rest, marks a clean stop and closes.
func (o *outbox) run(ctx context.Context) {
	repair := time.NewTicker(repairEvery)
	defer repair.Stop()
	o.setRunning(true)
	defer o.setRunning(false)
	scribing, stop := context.WithCancel(context.Background())
	scribed := make(chan struct{})
	go func() { defer close(scribed); o.scribe(scribing) }()
	defer func() { stop(); <-scribed }()
	if p := o.problem(); p != "" {
		o.log.Error("the outbox can't be written: notifications go out but won't survive a restart", "file", o.path, "error", p)
		o.report(p)
	}
	for {
		select {
		case <-o.wake:
			o.commit()
		case <-repair.C:
			o.repair()
		case <-ctx.Done():
			o.commit()
			stop()
			<-scribed
			o.finish()
			return
		}
	}
}

func (o *outbox) setRunning(yes bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.running = yes
	o.moved()
}

func (o *outbox) commit() {
	o.writer.Lock()
	defer o.writer.Unlock()
	o.group.Lock()
	o.mu.Lock()
	o.group.Unlock()
	if len(o.batch) == 0 || o.broken != "" {
		clear(o.batch)
		o.mu.Unlock()
		return
	}
	batch, seq, staged := o.batch, o.seq, o.staged
	o.batch = make(map[place]any, min(len(batch), 1024))
	o.seq++
	o.busy, o.committing = true, batch
	o.mu.Unlock()

	start := o.now()
	alert := time.AfterFunc(o.patience, o.stuck)
	err := boltfile.Guard(func() error { return o.db.Update(func(tx *bbolt.Tx) error { return o.applyBatch(tx, batch, seq) }) })
	alert.Stop()
	at := o.now()
	o.mu.Lock()
	o.returned()
	o.committing = nil
	if err != nil {
		o.mu.Unlock()
		o.fail(err)
		return
	}
	o.durable, o.kept = seq, max(o.kept, staged)
	o.moved()
	o.mu.Unlock()
	o.observe(len(batch), at.Sub(start))
	o.committed(seq, delivery.Commit{Begun: start, Done: at})
}

// applyBatch notes which batch it was, with the batch.
func (o *outbox) applyBatch(tx *bbolt.Tx, batch map[place]any, seq uint64) error {
	meta := tx.Bucket(shelfNames[shelfMeta])
	if err := errors.Join(meta.Put(keyRun, binary.BigEndian.AppendUint64(nil, o.runID)), meta.Put(keySeq, binary.BigEndian.AppendUint64(nil, seq))); err != nil {
		return err
	}
	return apply(tx, batch)
}

// apply writes in key order, which keeps bbolt's cursor on the same pages.
func apply(tx *bbolt.Tx, batch map[place]any) error {
	for _, p := range slices.SortedFunc(maps.Keys(batch), func(a, b place) int {
		if a.shelf != b.shelf {
			return int(a.shelf) - int(b.shelf)
		}
		return strings.Compare(a.key, b.key)
	}) {
		b := tx.Bucket(shelfNames[p.shelf])
		record := batch[p]
		if record == nil {
			if err := b.Delete([]byte(p.key)); err != nil {
				return err
			}
			continue
		}
		value, err := encodeRecord(record)
		if err != nil {
			return fmt.Errorf("encode %s %q: %w", shelfNames[p.shelf], p.key, err)
		}
		if err := b.Put([]byte(p.key), value); err != nil {
			return err
		}
	}
	return nil
}
