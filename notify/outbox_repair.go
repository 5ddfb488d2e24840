package notify

import (
	"bytes"
	"errors"
	"maps"
	"slices"

	"go.etcd.io/bbolt"

	"github.com/paramedic-ha/paramedic/notify/boltfile"
)

func (o *outbox) fail(err error) {
	o.log.Error("the outbox can't be written: notifications go out but won't survive a restart", "file", o.path, "error", err)
	if errors.Is(err, boltfile.ErrDamaged) {
		o.closeQuietly()
	}
	o.mu.Lock()
	o.broken = err.Error()
	clear(o.batch)
	o.moved()
	o.mu.Unlock()
	o.report(err.Error())
}

// repair rewrites everything from memory when the outbox was not writable. Until that is done it counts as broken.
func (o *outbox) repair() {
	if o.problem() == "" {
		return
	}
	o.writer.Lock()
	defer o.writer.Unlock()
	if o.db == nil {
		if _, err := o.open(false); err != nil {
			o.log.Debug("the outbox still can't be opened", "error", err)
			return
		}
	}
	// What changes from here on gathers, and so does what the copy below misses: nothing is committed meanwhile.
	o.mu.Lock()
	term := o.term
	clear(o.batch)
	o.seq++
	o.mu.Unlock()
	contents := o.contents()
	err := boltfile.Guard(func() error {
		if err := o.begin(term); err != nil {
			return err
		}
		return o.db.Update(func(tx *bbolt.Tx) error { return rewrite(tx, contents) })
	})
	if err != nil {
		if errors.Is(err, boltfile.ErrDamaged) {
			o.closeQuietly()
		}
		o.mu.Lock()
		clear(o.batch)
		o.mu.Unlock()
		return
	}
	o.mu.Lock()
	o.broken = ""
	o.mu.Unlock()
	o.log.Info("the outbox can be written again", "file", o.path, "records", len(contents))
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
