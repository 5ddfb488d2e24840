package history

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"github.com/paramedic-ha/paramedic/notify/boltfile"
)

// The file's shelves: alarms by id, keys of monitors' events with the time that they are known until (ns since 1970), and in meta
// the mark of a clean stop.
var (
	shelfAlarms   = []byte("alarms")
	shelfMonitors = []byte("monitors")
	shelfMeta     = []byte("meta")
	keyClean      = []byte("clean")
)

const (
	fileName = "history.db"
	keepBad  = 1 // files that were set aside
)

func path(dir string) string { return filepath.Join(dir, fileName) }

// open opens the file and reads its index. A damaged one is set aside and begun anew, once.
func (s *Store) open() error {
	if err := os.MkdirAll(s.cfg.Dir, 0o700); err != nil {
		return fmt.Errorf("make its directory: %w", err)
	}
	err := boltfile.Guard(s.tryOpen)
	if errors.Is(err, boltfile.ErrDamaged) {
		s.cfg.Log.Error("the file of what became of alarms is damaged; it is set aside and begun anew", "file", s.path, "error", err)
		s.closeFile()
		if err := boltfile.SetAside(s.path, s.cfg.Now(), keepBad); err != nil {
			return fmt.Errorf("set it aside: %w", err)
		}
		clear(s.index)
		clear(s.monitor)
		s.bytes = 0
		err = boltfile.Guard(s.tryOpen)
	}
	if err != nil {
		s.closeFile()
	}
	return err
}

// tryOpen runs guarded: bbolt panics, or faults on its memory map, when a file is damaged.
func (s *Store) tryOpen() error {
	if err := boltfile.Check(s.path); err != nil {
		return err
	}
	db, err := bbolt.Open(s.path, 0o600, &bbolt.Options{Timeout: lockWait, FreelistType: bbolt.FreelistMapType})
	switch {
	case errors.Is(err, bolterrors.ErrInvalid), errors.Is(err, bolterrors.ErrVersionMismatch), errors.Is(err, bolterrors.ErrChecksum):
		return fmt.Errorf("%w: %w", boltfile.ErrDamaged, err)
	case err != nil:
		return err
	}
	s.db = db
	return db.Update(func(tx *bbolt.Tx) error {
		meta, err := tx.CreateBucketIfNotExists(shelfMeta)
		if err != nil {
			return err
		}
		alarms, err := tx.CreateBucketIfNotExists(shelfAlarms)
		if err != nil {
			return err
		}
		monitors, err := tx.CreateBucketIfNotExists(shelfMonitors)
		if err != nil {
			return err
		}
		if meta.Get(keyClean) == nil {
			for err := range tx.Check() {
				return fmt.Errorf("%w: %w", boltfile.ErrDamaged, err)
			}
		}
		return errors.Join(s.load(alarms, monitors), meta.Delete(keyClean))
	})
}

// load fills the index. What can't be read is removed and said.
func (s *Store) load(alarms, monitors *bbolt.Bucket) error {
	var bad [][]byte
	err := alarms.ForEach(func(k, v []byte) error {
		t, err := decodeTimes(v)
		if err != nil {
			s.cfg.Log.Error("a record of what became of alarms can't be read and is removed", "file", s.path, "alarm", fmt.Sprintf("%q", k), "error", err)
			bad = append(bad, slices.Clone(k))
			return nil
		}
		s.index[string(k)] = mark{t, len(v)}
		s.bytes += int64(len(v))
		return nil
	})
	for _, k := range bad {
		err = errors.Join(err, alarms.Delete(k))
	}
	bad = nil
	err = errors.Join(err, monitors.ForEach(func(k, v []byte) error {
		var key Key
		if len(v) != 8 || copy(key[:], k) != len(key) || len(k) != len(key) {
			bad = append(bad, slices.Clone(k))
			return nil
		}
		s.monitor[key] = time.Unix(0, int64(binary.BigEndian.Uint64(v))) //nolint:gosec // the bits of the number
		return nil
	}))
	for _, k := range bad {
		err = errors.Join(err, monitors.Delete(k))
	}
	return err
}

// stored is what the file has of an alarm; the zero Entry when it has nothing.
func stored(b *bbolt.Bucket, id string) (Entry, error) {
	v := b.Get([]byte(id))
	if v == nil {
		return Entry{}, nil
	}
	return decode(id, v)
}

// commit writes all in one transaction and returns the sizes of the records.
func commit(db *bbolt.DB, entries map[string]Entry, marks map[string]times, kept map[Key]int64, gone []string) (sizes map[string]int, err error) {
	sizes = make(map[string]int, len(entries))
	err = boltfile.Guard(func() error {
		return db.Update(func(tx *bbolt.Tx) error {
			alarms, monitors := tx.Bucket(shelfAlarms), tx.Bucket(shelfMonitors)
			for _, id := range gone {
				if err := alarms.Delete([]byte(id)); err != nil {
					return err
				}
			}
			for id, e := range entries {
				before, err := stored(alarms, id)
				if err != nil {
					before = Entry{} // what can't be read is overwritten
				}
				v, err := encode(before.join(e), marks[id])
				if err != nil {
					return err
				}
				if err := alarms.Put([]byte(id), v); err != nil {
					return err
				}
				sizes[id] = len(v)
			}
			for k, until := range kept {
				if until == 0 {
					err = monitors.Delete(k[:])
				} else {
					err = monitors.Put(k[:], binary.BigEndian.AppendUint64(nil, uint64(until))) //nolint:gosec // the bits of the number
				}
				if err != nil {
					return err
				}
			}
			return nil
		})
	})
	return sizes, err
}

// close marks a clean stop and closes.
func (s *Store) close() {
	s.mu.Lock()
	db := s.db
	s.mu.Unlock()
	if db == nil {
		return
	}
	if err := boltfile.Guard(func() error {
		return db.Update(func(tx *bbolt.Tx) error { return tx.Bucket(shelfMeta).Put(keyClean, []byte{1}) })
	}); err != nil {
		s.cfg.Log.Error("the clean stop of the file of what became of alarms can't be marked: the next start checks it", "file", s.path, "error", err)
	}
	s.closeFile()
}

func (s *Store) closeFile() {
	s.mu.Lock()
	db := s.db
	s.db = nil
	s.mu.Unlock()
	if db == nil {
		return
	}
	if err := boltfile.Guard(db.Close); err != nil {
		s.cfg.Log.Debug("close the file of what became of alarms", "file", s.path, "error", err)
	}
}
