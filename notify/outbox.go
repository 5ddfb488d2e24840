package notify

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"

	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

const (
	dbName      = "paramedic.db"
	keepBad     = 3
	lockWait    = time.Second
	repairEvery = time.Second
)

// shelf is a bucket of the outbox.
type shelf uint8

const (
	shelfMeta shelf = iota
	shelfAlarms
	shelfPairs // subscription id, NUL, alarm id
	shelfSubscriptions
	shelves
)

var shelfNames = [shelves][]byte{[]byte("meta"), []byte("alarms"), []byte("pairs"), []byte("subscriptions")}

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

// errDamaged marks what makes an outbox file be set aside.
var errDamaged = errors.New("the outbox is damaged")

// outbox keeps what must outlive the process, in one bbolt file. Writers hand over records and go on; one goroutine
// (run) commits whatever has gathered, so that a commit's cost is shared by all who waited for it. When the file can't
// be written, records are dropped (the truth is in memory, and notifications still go out) and a full rewrite is tried
// each second.
type outbox struct {
	path string
	log  *slog.Logger
	now  func() time.Time

	// Set before run. committed tells up to which batch all is durable; contents is everything, for a rewrite; report
	// says that deliveries are not durable, or are again ("").
	committed func(seq uint64, at time.Time)
	contents  func() []write
	report    func(problem string)
	observe   func(records int, took time.Duration)

	db   *bbolt.DB // run's, after open
	term uint64

	mu     sync.Mutex
	batch  map[place]any
	seq    uint64 // of the batch being gathered
	broken string // why nothing can be written; empty when well
	wake   chan struct{}

	running bool
	durable uint64        // the last batch committed
	changed chan struct{} // closed when running, durable or broken change
}

// loaded is what an earlier run left.
type loaded struct {
	term          uint64
	alarms        []alarmRecord
	pairs         map[string][]pairRecord // by subscription id
	subscriptions []subscriptionRecord
	damaged       int // records that could not be read
}

// openOutbox opens or makes the outbox. It fails only when another process holds it or dir can't be one at all; when it
// merely can't be written, it works from memory and says so in broken. The term is durable unless broken.
func openOutbox(dir string, now func() time.Time, log *slog.Logger) (*outbox, loaded, error) {
	o := &outbox{
		path: filepath.Join(dir, dbName), log: log, now: now, seq: 1, batch: map[place]any{}, wake: make(chan struct{}, 1), changed: make(chan struct{}),
		committed: func(uint64, time.Time) {}, contents: func() []write { return nil }, report: func(string) {}, observe: func(int, time.Duration) {},
	}
	l, err := o.open(true)
	switch {
	case errors.Is(err, bolterrors.ErrTimeout):
		return nil, loaded{}, fmt.Errorf("open outbox %s: another process holds it: is a second agent running?", o.path)
	case err != nil:
		o.broken = err.Error()
		// Without a durable term the clock stands in: it is larger than any counted term, so revisions never go back.
		o.term = max(l.term+2, clockTerm(now()))
	}
	l.term = o.term
	return o, l, nil
}

func clockTerm(now time.Time) uint64 { return uint64(max(2, now.Unix())) &^ 1 }

// open opens the file, checks it after an unclean stop, reads it, and makes the next term durable. A damaged file is
// set aside and a new one begun, once.
func (o *outbox) open(first bool) (l loaded, err error) {
	if err := os.MkdirAll(filepath.Dir(o.path), 0o700); err != nil {
		return l, fmt.Errorf("make outbox directory: %w", err)
	}
	aside := false
	if err = guarded(func() error { l, err = o.tryOpen(); return err }); errors.Is(err, errDamaged) {
		o.log.Error("the outbox is damaged; it is set aside and begun anew from what is restated", "path", o.path, "error", err)
		o.closeQuietly()
		if err := setAside(o.path, o.now()); err != nil {
			return l, fmt.Errorf("set the damaged outbox aside: %w", err)
		}
		aside = true
		if err = guarded(func() error { l, err = o.tryOpen(); return err }); err == nil && first {
			o.report = func(string) {}
		}
	}
	if err != nil {
		o.closeQuietly()
		return l, err
	}
	if !first {
		return l, nil
	}
	term := l.term + 2
	if aside {
		term = clockTerm(o.now())
	}
	if err := guarded(func() error { return o.begin(term) }); err != nil {
		return l, fmt.Errorf("write outbox %s: %w", o.path, err)
	}
	o.term = term
	return l, nil
}

// tryOpen runs guarded: bbolt panics, or faults on its memory map, when a file is damaged.
func (o *outbox) tryOpen() (loaded, error) {
	if err := checkFile(o.path); err != nil {
		return loaded{}, err
	}
	db, err := bbolt.Open(o.path, 0o600, &bbolt.Options{Timeout: lockWait, FreelistType: bbolt.FreelistMapType})
	switch {
	case errors.Is(err, bolterrors.ErrInvalid), errors.Is(err, bolterrors.ErrVersionMismatch), errors.Is(err, bolterrors.ErrChecksum):
		return loaded{}, fmt.Errorf("%w: %w", errDamaged, err)
	case err != nil:
		return loaded{}, fmt.Errorf("open outbox %s: %w", o.path, err)
	}
	o.db = db
	var l loaded
	err = db.View(func(tx *bbolt.Tx) error {
		meta := tx.Bucket(shelfNames[shelfMeta])
		if meta == nil {
			return nil // new
		}
		l.term = number(meta.Get(keyTerm))
		if meta.Get(keyClean) == nil {
			for err := range tx.Check() {
				return fmt.Errorf("%w: %w", errDamaged, err)
			}
		}
		return l.read(tx, o.log)
	})
	return l, err
}

// read decodes every record. What can't be read is named in the log and left out; the rest is fine.
func (l *loaded) read(tx *bbolt.Tx, log *slog.Logger) error {
	l.pairs = map[string][]pairRecord{}
	each := func(s shelf, take func(key string, value []byte) error) error {
		b := tx.Bucket(shelfNames[s])
		if b == nil {
			return nil
		}
		return b.ForEach(func(k, v []byte) error {
			if err := take(string(k), v); err != nil {
				l.damaged++
				log.Error("a record of the outbox can't be read and is left out", "shelf", string(shelfNames[s]), "key", string(k), "error", err)
			}
			return nil
		})
	}
	return errors.Join(
		each(shelfAlarms, func(k string, v []byte) error {
			r, err := decodeAlarm(k, v)
			if err == nil {
				l.alarms = append(l.alarms, r)
			}
			return err
		}),
		each(shelfPairs, func(k string, v []byte) error {
			subscription, alarm, _ := strings.Cut(k, "\x00")
			r, err := decodePair(alarm, v)
			if err == nil {
				l.pairs[subscription] = append(l.pairs[subscription], r)
			}
			return err
		}),
		each(shelfSubscriptions, func(k string, v []byte) error {
			r, err := decodeSubscription(k, v)
			if err == nil {
				l.subscriptions = append(l.subscriptions, r)
			}
			return err
		}),
	)
}

// begin makes the term durable and takes the mark of a clean stop away.
func (o *outbox) begin(term uint64) error {
	return o.db.Update(func(tx *bbolt.Tx) error {
		for _, name := range shelfNames {
			if _, err := tx.CreateBucketIfNotExists(name); err != nil {
				return err
			}
		}
		meta := tx.Bucket(shelfNames[shelfMeta])
		if err := meta.Delete(keyClean); err != nil {
			return err
		}
		return meta.Put(keyTerm, binary.BigEndian.AppendUint64(nil, term))
	})
}

func number(b []byte) uint64 {
	if len(b) != 8 {
		return 0
	}
	return binary.BigEndian.Uint64(b)
}

// guarded runs f where a panic or a fault of the memory map becomes errDamaged. The goroutine keeps SetPanicOnFault,
// which is per goroutine, from leaking.
func guarded(f func() error) (err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer func() {
			if r := recover(); r != nil {
				err = fmt.Errorf("%w: %v", errDamaged, r)
			}
		}()
		debug.SetPanicOnFault(true)
		err = f()
	}()
	<-done
	return err
}

// setAside renames a damaged file and forgets all but the newest of those.
func setAside(path string, now time.Time) error {
	if err := os.Rename(path, path+".bad-"+now.UTC().Format("20060102T150405.000000000")); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	bad, err := filepath.Glob(path + ".bad-*")
	if err != nil {
		return err
	}
	slices.Sort(bad)
	for _, old := range bad[:max(0, len(bad)-keepBad)] {
		if err := os.Remove(old); err != nil {
			return err
		}
	}
	return nil
}

func (o *outbox) closeQuietly() {
	if o.db == nil {
		return
	}
	db := o.db
	o.db = nil
	if err := guarded(db.Close); err != nil {
		o.log.Debug("close outbox", "error", err)
	}
}

// put hands records over and returns the batch that they, or with none the last ones, go with. It never blocks on the disk.
func (o *outbox) put(writes ...write) (seq uint64) {
	o.mu.Lock()
	for _, w := range writes {
		o.batch[w.place] = w.record
	}
	if seq = o.seq; len(o.batch) == 0 {
		seq-- // nothing waits: what the caller means went with the batch before
	}
	o.mu.Unlock()
	select {
	case o.wake <- struct{}{}:
	default:
	}
	return seq
}

// await waits until batch seq is committed, ctx ends, the outbox turns out broken, or the wait is over.
func (o *outbox) await(ctx context.Context, seq uint64, wait time.Duration) {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	for {
		o.mu.Lock()
		done, changed := o.durable >= seq || o.broken != "" || !o.running, o.changed
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
	return o.broken
}

// run commits until ctx ends, then commits the rest, marks a clean stop and closes.
func (o *outbox) run(ctx context.Context) {
	repair := time.NewTicker(repairEvery)
	defer repair.Stop()
	o.setRunning(true)
	defer o.setRunning(false)
	if p := o.problem(); p != "" {
		o.log.Error("the outbox can't be written: notifications go out but won't survive a restart", "error", p)
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
	o.mu.Lock()
	if len(o.batch) == 0 || o.broken != "" {
		clear(o.batch)
		o.mu.Unlock()
		return
	}
	batch, seq := o.batch, o.seq
	o.batch = make(map[place]any, min(len(batch), 1024))
	o.seq++
	o.mu.Unlock()

	start := o.now()
	if err := guarded(func() error { return o.db.Update(func(tx *bbolt.Tx) error { return apply(tx, batch) }) }); err != nil {
		o.fail(err)
		return
	}
	at := o.now()
	o.mu.Lock()
	o.durable = seq
	o.moved()
	o.mu.Unlock()
	o.observe(len(batch), at.Sub(start))
	o.committed(seq, at)
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

func (o *outbox) fail(err error) {
	o.log.Error("the outbox can't be written: notifications go out but won't survive a restart", "path", o.path, "error", err)
	if errors.Is(err, errDamaged) {
		o.closeQuietly()
	}
	o.mu.Lock()
	o.broken = err.Error()
	clear(o.batch)
	o.moved()
	o.mu.Unlock()
	o.report(err.Error())
}

// repair rewrites everything from memory when the outbox was not writable.
func (o *outbox) repair() {
	if o.problem() == "" {
		return
	}
	if o.db == nil {
		if _, err := o.open(false); err != nil {
			o.log.Debug("the outbox still can't be opened", "error", err)
			return
		}
	}
	// From here on changes gather again; what the copy below misses is among them.
	o.mu.Lock()
	why := o.broken
	o.broken = ""
	clear(o.batch)
	o.seq++
	o.mu.Unlock()
	contents := o.contents()
	err := guarded(func() error {
		if err := o.begin(o.term); err != nil {
			return err
		}
		return o.db.Update(func(tx *bbolt.Tx) error { return rewrite(tx, contents) })
	})
	if err != nil {
		if errors.Is(err, errDamaged) {
			o.closeQuietly()
		}
		o.mu.Lock()
		o.broken = why
		clear(o.batch)
		o.mu.Unlock()
		return
	}
	o.log.Info("the outbox can be written again", "path", o.path, "records", len(contents))
	o.report("")
}

// rewrite makes the file hold contents and nothing else, touching only what differs.
func rewrite(tx *bbolt.Tx, contents []write) error {
	want := [shelves]map[string][]byte{}
	for s := range want {
		want[s] = map[string][]byte{}
	}
	for _, w := range contents {
		value, err := encodeRecord(w.record)
		if err != nil {
			return err
		}
		want[w.shelf][w.key] = value
	}
	for s := shelfAlarms; s < shelves; s++ {
		b := tx.Bucket(shelfNames[s])
		var stale [][]byte
		if err := b.ForEach(func(k, v []byte) error {
			if value, ok := want[s][string(k)]; !ok {
				stale = append(stale, bytes.Clone(k))
			} else if bytes.Equal(v, value) {
				delete(want[s], string(k))
			}
			return nil
		}); err != nil {
			return err
		}
		for _, k := range stale {
			if err := b.Delete(k); err != nil {
				return err
			}
		}
		for _, k := range slices.Sorted(maps.Keys(want[s])) {
			if err := b.Put([]byte(k), want[s][k]); err != nil {
				return err
			}
		}
	}
	return nil
}

// finish marks a clean stop and closes.
func (o *outbox) finish() {
	if o.db == nil {
		return
	}
	if o.problem() == "" {
		if err := guarded(func() error {
			return o.db.Update(func(tx *bbolt.Tx) error { return tx.Bucket(shelfNames[shelfMeta]).Put(keyClean, []byte{1}) })
		}); err != nil {
			o.log.Error("the outbox's clean stop can't be marked: the next start checks it", "error", err)
		}
	}
	o.closeQuietly()
}
