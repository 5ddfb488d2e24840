package notify

import (
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"github.com/paramedic-ha/paramedic/notify/boltfile"
	"github.com/paramedic-ha/paramedic/notify/delivery"
)

// loaded is what an earlier run left.
type loaded struct {
	term          uint64
	alarms        []alarmRecord
	pairs         map[string][]pairRecord // by subscription id
	subscriptions []subscriptionRecord
	mutes         []Mute
	damaged       int  // records that could not be read
	lost          bool // there was more than could be read
}

// openOutbox opens or makes the outbox. It fails only when another process holds it or dir can't be one at all; when it
// merely can't be written, it works from memory and says so in broken. The term is durable unless broken.
func openOutbox(dir string, now func() time.Time, log *slog.Logger, sealer Sealer) (*outbox, loaded, error) {
	o := &outbox{
		sealer: sealer, path: filepath.Join(dir, dbName), log: log, now: now, seq: 1, batch: map[place]any{}, wake: make(chan struct{}, 1), slowly: make(chan struct{}, 1), runID: rand.Uint64(), changed: make(chan struct{}),
		committed: func(uint64, delivery.Commit) {}, contents: func() []write { return nil }, report: func(string) {}, observe: func(int, time.Duration) {}, patience: slowCommit, keepFor: keepWait,
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
	if l.term = o.term; l.pairs == nil {
		l.pairs = map[string][]pairRecord{}
	}
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
	if err = boltfile.Guard(func() error { l, err = o.tryOpen(); return err }); errors.Is(err, boltfile.ErrDamaged) {
		o.log.Error("the outbox is damaged; it is set aside and begun anew from what is restated", "file", o.path, "error", err)
		o.closeQuietly()
		if err := boltfile.SetAside(o.path, o.now(), keepBad); err != nil {
			return l, fmt.Errorf("set the damaged outbox aside: %w", err)
		}
		aside = true
		err = boltfile.Guard(func() error { l, err = o.tryOpen(); return err })
	}
	if err != nil {
		o.closeQuietly()
		return l, err
	}
	if !first {
		return l, nil
	}
	if err := boltfile.Guard(func() error {
		did, err := o.recover()
		if err == nil && did {
			l, err = o.load()
		}
		return err
	}); err != nil {
		return l, fmt.Errorf("recover what was to be written to outbox %s: %w", o.path, err)
	}
	term := l.term + 2
	if aside {
		term = clockTerm(o.now())
	}
	if err := boltfile.Guard(func() error { return o.begin(term) }); err != nil {
		return l, fmt.Errorf("write outbox %s: %w", o.path, err)
	}
	o.term, l.lost = term, aside || l.damaged > 0
	return l, nil
}

// tryOpen runs guarded: bbolt panics, or faults on its memory map, when a file is damaged.
func (o *outbox) tryOpen() (loaded, error) {
	if err := boltfile.Check(o.path); err != nil {
		return loaded{}, err
	}
	db, err := bbolt.Open(o.path, 0o600, &bbolt.Options{Timeout: lockWait, FreelistType: bbolt.FreelistMapType})
	switch {
	case errors.Is(err, bolterrors.ErrInvalid), errors.Is(err, bolterrors.ErrVersionMismatch), errors.Is(err, bolterrors.ErrChecksum):
		return loaded{}, fmt.Errorf("%w: %w", boltfile.ErrDamaged, err)
	case errors.Is(err, syscall.EROFS), errors.Is(err, os.ErrPermission):
		l, _ := o.peek()
		return l, fmt.Errorf("open outbox %s: %w", o.path, err)
	case err != nil:
		return loaded{}, fmt.Errorf("open outbox %s: %w", o.path, err)
	}
	o.db = db
	return o.load()
}

// peek reads a file that can't be written, so that what the last run left is neither forgotten now nor removed by the
// rewrite when the disk is well again.
func (o *outbox) peek() (l loaded, err error) {
	if o.db, err = bbolt.Open(o.path, 0o600, &bbolt.Options{Timeout: lockWait, ReadOnly: true, FreelistType: bbolt.FreelistMapType}); err != nil {
		return l, err
	}
	defer o.closeQuietly()
	return o.load()
}

// load reads what the open file holds; after an unclean stop it checks it first.
func (o *outbox) load() (loaded, error) {
	var l loaded
	err := o.db.View(func(tx *bbolt.Tx) error {
		meta := tx.Bucket(shelfNames[shelfMeta])
		if meta == nil {
			return nil // new
		}
		l.term = number(meta.Get(keyTerm))
		if meta.Get(keyClean) == nil {
			for err := range tx.Check() {
				return fmt.Errorf("%w: %w", boltfile.ErrDamaged, err)
			}
		}
		return l.read(tx, o.log, o.sealer)
	})
	return l, err
}

// read decodes every record. What can't be read is named in the log and left out; the rest is fine.
func (l *loaded) read(tx *bbolt.Tx, log *slog.Logger, sealer Sealer) error {
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
			r, err := decodeSubscription(k, v, sealer)
			if err == nil {
				l.subscriptions = append(l.subscriptions, r)
			}
			return err
		}),
		each(shelfMutes, func(k string, v []byte) error {
			r, err := decodeMute(k, v)
			if err == nil {
				l.mutes = append(l.mutes, Mute(r))
			}
			return err
		}),
	)
}

// begin makes the term durable and takes the mark of a clean stop away. What an earlier file beside it holds counts no more.
func (o *outbox) begin(term uint64) error {
	o.mu.Lock()
	before := o.seq - 1
	o.mu.Unlock()
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
		return errors.Join(meta.Put(keyTerm, binary.BigEndian.AppendUint64(nil, term)),
			meta.Put(keyRun, binary.BigEndian.AppendUint64(nil, o.runID)), meta.Put(keySeq, binary.BigEndian.AppendUint64(nil, before)))
	})
}

func number(b []byte) uint64 {
	if len(b) != 8 {
		return 0
	}
	return binary.BigEndian.Uint64(b)
}

func (o *outbox) closeQuietly() {
	if o.db == nil {
		return
	}
	db := o.db
	o.db = nil
	if err := boltfile.Guard(db.Close); err != nil {
		o.log.Debug("close outbox", "error", err)
	}
}

// finish marks a clean stop and closes.
func (o *outbox) finish() {
	o.writer.Lock()
	defer o.writer.Unlock()
	if o.db == nil {
		return
	}
	if o.problem() == "" {
		if err := boltfile.Guard(func() error {
			return o.db.Update(func(tx *bbolt.Tx) error { return tx.Bucket(shelfNames[shelfMeta]).Put(keyClean, []byte{1}) })
		}); err != nil {
			o.log.Error("the outbox's clean stop can't be marked: the next start checks it", "error", err)
		}
		dropTail(o.path, o.log)
	}
	o.closeQuietly()
}
