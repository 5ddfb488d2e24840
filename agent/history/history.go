package history

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"go.etcd.io/bbolt"

	"github.com/paramedic-ha/paramedic/correlate"
	"github.com/paramedic-ha/paramedic/notify/boltfile"
)

// Config is what a Store is made of; all of it is needed.
type Config struct {
	Dir       string
	MaxAlarms uint64        // that have ended; the one that ended first makes room
	MaxAge    time.Duration // since an alarm ended, and, of one that stands, since its last step
	Log       *slog.Logger
	Now       func() time.Time
}

const (
	gather     = time.Second            // what is told within it is written together
	pruneEvery = 10 * time.Minute       // when nothing is told
	lastWrite  = 2 * time.Second        // for the last of it, at the end
	maxWaiting = 1000                   // alarms that are kept in memory alone when the disk does not take them
	maxBytes   = 256 << 20              // of all records
	maxReaders = 4                      // who read the file at a time; a further one waits
	lockWait   = 500 * time.Millisecond // for another process to let the file go
)

// Store is the package's value. All methods are safe from any goroutine; Note, Keep and Drop never block.
type Store struct {
	cfg     Config
	path    string
	readers chan struct{} // holds one of each
	wake    chan struct{} // capacity 1

	mu      sync.Mutex
	db      *bbolt.DB // nil: there is none, and all is in memory
	index   map[string]mark
	bytes   int64
	waiting map[string]Entry // to be written
	kept    map[Key]int64    // to be written; zero: to be dropped
	monitor map[Key]time.Time
	problem string // why the file is not in step; empty: it is
	lost    int    // entries that could not be written and were given up
}

// mark is what is known of an alarm without looking at the file.
type mark struct {
	times
	size int // in the file; zero: not there yet
}

// Key is of an event that a monitor has handed in.
type Key = [32]byte

// New makes a Store that works from memory until Open.
func New(cfg Config) *Store {
	return &Store{
		cfg: cfg, path: path(cfg.Dir), readers: make(chan struct{}, maxReaders), wake: make(chan struct{}, 1),
		index: make(map[string]mark), waiting: make(map[string]Entry), kept: make(map[Key]int64), monitor: make(map[Key]time.Time),
	}
}

// Open reads what earlier runs have left, before anything is told. A damaged file is set aside and said, and a new one begun; without a
// file that can be written it goes on from memory, and says so. Call Run, or Close.
func (s *Store) Open() {
	if err := s.open(); err != nil {
		s.problem = err.Error()
		s.cfg.Log.Error("what became of alarms will be forgotten at a restart: its file can't be used", "file", s.path, "error", err)
	}
}

// Note takes a revision of an alarm, or what happened to it beside its revisions: what is a transition, or what
// was said (correlate.Alarm.Noted).
func (s *Store) Note(a *correlate.Alarm, what string) {
	s.mu.Lock()
	m := s.index[a.ID]
	e := s.waiting[a.ID].add(a, what)
	m.times = timesOf(a, s.cfg.Now())
	s.index[a.ID], s.waiting[a.ID] = m, e
	s.mu.Unlock()
	s.awake()
}

func (s *Store) awake() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// Position is an alarm's place in a list, the newest first.
type Position struct {
	Raised int64 // ns since 1970
	ID     string
}

// Compare is -1 when p comes first.
func (p Position) Compare(o Position) int {
	return cmp.Or(cmp.Compare(o.Raised, p.Raised), cmp.Compare(p.ID, o.ID))
}

// Cleared lists what has ended behind a place (the zero one: from the first), in order, as far as it is wanted; at most limit.
func (s *Store) Cleared(ctx context.Context, after Position, limit int, wanted func(Entry) bool) ([]*correlate.Alarm, error) {
	s.mu.Lock()
	var places []Position
	for id, m := range s.index {
		if p := (Position{m.raised, id}); m.ended != 0 && (after == Position{} || p.Compare(after) > 0) {
			places = append(places, p)
		}
	}
	s.mu.Unlock()
	slices.SortFunc(places, Position.Compare)
	return s.list(ctx, places, limit, wanted)
}

// ClearedSince lists what has ended since a time, the last one first; at most limit.
func (s *Store) ClearedSince(ctx context.Context, t time.Time, limit int, wanted func(Entry) bool) ([]*correlate.Alarm, error) {
	s.mu.Lock()
	var places []Position
	for id, m := range s.index {
		if m.ended != 0 && m.ended >= t.UnixNano() {
			places = append(places, Position{m.ended, id})
		}
	}
	s.mu.Unlock()
	slices.SortFunc(places, Position.Compare)
	return s.list(ctx, places, limit, wanted)
}

// Ended reports which alarms have ended, as far as that is remembered.
func (s *Store) Ended() func(id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	ended := make(map[string]bool, len(s.index))
	for id, m := range s.index {
		if m.ended != 0 {
			ended[id] = true
		}
	}
	return func(id string) bool { return ended[id] }
}

// Entry is what is remembered of one alarm, standing or not.
func (s *Store) Entry(ctx context.Context, id string) (e Entry, known bool, err error) {
	s.mu.Lock()
	_, known = s.index[id]
	s.mu.Unlock()
	if !known {
		return Entry{}, false, nil
	}
	e, err = read(ctx, s, func(get getter) Entry { e, _ := get(id); return e })
	if err != nil {
		return Entry{}, false, fmt.Errorf("read what became of alarm %s: %w", id, err)
	}
	return e, e.Alarm != nil, nil
}

// Stands reports whether an alarm is remembered as one that stands.
func (s *Store) Stands(id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	m, known := s.index[id]
	return known && m.ended == 0
}

func (s *Store) list(ctx context.Context, places []Position, limit int, wanted func(Entry) bool) ([]*correlate.Alarm, error) {
	if len(places) == 0 {
		return nil, nil
	}
	found, err := read(ctx, s, func(get getter) (found []*correlate.Alarm) {
		for _, p := range places {
			if len(found) == limit || ctx.Err() != nil {
				break
			}
			if e, ok := get(p.ID); ok && !e.Alarm.Standing() && wanted(e) {
				found = append(found, e.Alarm)
			}
		}
		return found
	})
	if err = cmp.Or(err, ctx.Err()); err != nil {
		return nil, fmt.Errorf("read what became of alarms: %w", err)
	}
	return found, nil
}

// errBusy says that the disk does not answer.
var errBusy = errors.New("the disk does not answer")

// getter reads one entry.
type getter func(id string) (Entry, bool)

// read calls f on a goroutine of its own: a disk that hangs holds up nobody for longer than his context lasts, and maxReaders
// goroutines at most. A record that can't be read is left out and said.
func read[T any](ctx context.Context, s *Store, f func(getter) T) (none T, err error) {
	select {
	case s.readers <- struct{}{}:
	case <-ctx.Done():
		return none, fmt.Errorf("%w: %w", errBusy, ctx.Err())
	}
	type answer struct {
		value T
		err   error
	}
	answers := make(chan answer, 1)
	go func() {
		defer func() { <-s.readers }()
		var a answer
		a.err = s.view(func(get getter) { a.value = f(get) })
		answers <- a
	}()
	select {
	case a := <-answers:
		return a.value, a.err
	case <-ctx.Done():
		return none, fmt.Errorf("%w: %w", errBusy, ctx.Err())
	}
}

func (s *Store) view(f func(getter)) error {
	s.mu.Lock()
	waiting, db := maps.Clone(s.waiting), s.db // what leaves waiting after this is in the file
	s.mu.Unlock()
	if db == nil {
		f(func(id string) (Entry, bool) { e, ok := waiting[id]; return e, ok })
		return nil
	}
	return boltfile.Guard(func() error {
		return db.View(func(tx *bbolt.Tx) error {
			b := tx.Bucket(shelfAlarms)
			f(func(id string) (Entry, bool) {
				e, err := stored(b, id)
				if err != nil {
					s.cfg.Log.Error("a record of what became of alarms can't be read and is left out", "file", s.path, "alarm", id, "error", err)
				}
				if w, waits := waiting[id]; waits {
					e = e.join(w)
				}
				return e, e.Alarm != nil
			})
			return nil
		})
	})
}

// Kept are the events that are known, each with the time that it is known until.
func (s *Store) Kept() map[Key]time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	kept, now := maps.Clone(s.monitor), s.cfg.Now()
	maps.DeleteFunc(kept, func(_ Key, until time.Time) bool { return !until.After(now) })
	return kept
}

// Keep notes an event until a time. Who calls bounds how many there are.
func (s *Store) Keep(k Key, until time.Time) {
	s.mu.Lock()
	s.monitor[k], s.kept[k] = until, max(1, until.UnixNano())
	s.mu.Unlock()
	s.awake()
}

// Drop forgets an event.
func (s *Store) Drop(k Key) {
	s.mu.Lock()
	if _, known := s.monitor[k]; known {
		delete(s.monitor, k)
		s.kept[k] = 0
	}
	s.mu.Unlock()
	s.awake()
}

// Status is how a Store does.
type Status struct {
	Ended   int    // alarms that have ended and are remembered
	Lost    int    // those that were forgotten because the disk did not take them
	Problem string // why what is told will be forgotten at a restart; empty: it will not
}

// Status looks at the Store.
func (s *Store) Status() Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := Status{Lost: s.lost, Problem: s.problem}
	for _, m := range s.index {
		if m.ended != 0 {
			st.Ended++
		}
	}
	return st
}

// SetBounds changes MaxAlarms and MaxAge.
func (s *Store) SetBounds(maxAlarms uint64, maxAge time.Duration) {
	s.mu.Lock()
	s.cfg.MaxAlarms, s.cfg.MaxAge = maxAlarms, maxAge
	s.mu.Unlock()
	s.awake()
}

// Run writes until ctx ends, then the last of it, and closes the file. Call it once.
func (s *Store) Run(ctx context.Context) error {
	prune := time.NewTicker(pruneEvery)
	defer prune.Stop()
	for {
		select {
		case <-ctx.Done():
			s.finish()
			return ctx.Err()
		case <-s.wake:
		case <-prune.C:
		}
		pause := time.NewTimer(gather)
		select {
		case <-ctx.Done():
		case <-pause.C:
			s.write(ctx)
		}
		pause.Stop()
	}
}

// finish writes what waits and closes, unless the disk hangs.
func (s *Store) finish() {
	ctx, cancel := context.WithTimeout(context.Background(), lastWrite)
	defer cancel()
	s.write(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.close()
	}()
	select {
	case <-done:
	case <-ctx.Done():
		s.cfg.Log.Error("the file of what became of alarms could not be closed in time: the next start checks it", "file", s.path)
	}
}

// Close closes the file of a Store whose Run is never called.
func (s *Store) Close() { s.close() }

// write writes what waits, and removes what is beyond the bounds. When the disk hangs it returns with ctx.
func (s *Store) write(ctx context.Context) {
	s.mu.Lock()
	gone := s.bound()
	for k, until := range s.monitor {
		if !until.After(s.cfg.Now()) {
			delete(s.monitor, k)
			s.kept[k] = 0
		}
	}
	entries, kept, db := maps.Clone(s.waiting), s.kept, s.db
	s.kept = make(map[Key]int64)
	marks := make(map[string]times, len(entries))
	for id := range entries {
		marks[id] = s.index[id].times
	}
	s.mu.Unlock()
	if db == nil || len(entries)+len(kept)+len(gone) == 0 {
		return
	}
	type outcome struct {
		sizes map[string]int
		err   error
	}
	done := make(chan outcome, 1)
	go func() {
		sizes, err := commit(db, entries, marks, kept, gone)
		done <- outcome{sizes, err}
	}()
	var o outcome
	select {
	case o = <-done:
	case <-ctx.Done():
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if o.err != nil {
		if s.problem == "" {
			s.cfg.Log.Error("what became of alarms can't be written, and will be forgotten at a restart", "file", s.path, "error", o.err)
		}
		s.problem = o.err.Error()
		for k, until := range kept { // what was said since is newer
			if _, newer := s.kept[k]; !newer {
				s.kept[k] = until
			}
		}
		return
	}
	if s.problem != "" {
		s.problem = ""
		s.cfg.Log.Info("what became of alarms is written again", "file", s.path)
	}
	for id, size := range o.sizes {
		if m, ok := s.index[id]; ok {
			s.bytes += int64(size - m.size)
			m.size = size
			s.index[id] = m
		}
		if was := s.waiting[id]; was.count() == entries[id].count() { // else something was added meanwhile
			delete(s.waiting, id)
		}
	}
}

// bound takes what is beyond the bounds out of the index, and returns the ids of those that are in the file. Needs mu.
func (s *Store) bound() (gone []string) {
	oldest := s.cfg.Now().Add(-s.cfg.MaxAge).UnixNano()
	drop := func(id string, m mark) {
		if m.size > 0 {
			gone = append(gone, id)
		}
		s.bytes -= int64(m.size)
		delete(s.index, id)
		delete(s.waiting, id)
	}
	var ended []Position
	for id, m := range s.index {
		switch {
		case m.ended == 0 && m.told < oldest, m.ended != 0 && m.ended < oldest:
			drop(id, m)
		case m.ended != 0:
			ended = append(ended, Position{m.ended, id})
		}
	}
	slices.SortFunc(ended, Position.Compare)
	for uint64(len(ended)) > s.cfg.MaxAlarms || s.bytes > maxBytes && len(ended) > 0 {
		last := ended[len(ended)-1].ID
		drop(last, s.index[last])
		ended = ended[:len(ended)-1]
	}
	if len(s.waiting) <= maxWaiting {
		return gone
	}
	// The disk does not take them: the newest are kept.
	waiting := make([]Position, 0, len(s.waiting))
	for id := range s.waiting {
		waiting = append(waiting, Position{s.index[id].told, id})
	}
	slices.SortFunc(waiting, Position.Compare)
	for _, p := range waiting[maxWaiting:] {
		m := s.index[p.ID]
		s.lost++
		if delete(s.waiting, p.ID); m.size == 0 {
			delete(s.index, p.ID)
		}
	}
	return gone
}
