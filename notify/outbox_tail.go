package notify

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"time"

	"go.etcd.io/bbolt"
)

// A delivery does not wait for a slow disk (hold), so the process could be killed after a consumer was told and before the commit: the
// next run would know nothing of the alarm, and never clear it. What waits for a commit is therefore written to a file beside the
// outbox too, without waiting for the disk: the kernel has it then, whatever becomes of the process. Only a host that loses its
// power within that moment forgets.
//
// There are two such files, written in turn, so that one is whole whenever the process ends.
//
//	file  = magic:8 number:8 run:8 seq:8 length:8 hash:32 body    hash: SHA-256 of the body and the fields before the hash
//	body  = JSON of []tailRecord
const (
	tailMagic = "prmdtail"
	tailHead  = 5*8 + sha256.Size
	// tailDelay is what a commit may take before it counts as slow. With the writing it is well below hold.
	tailDelay = hold / 2
	// keepWait, the default of outbox.keepFor, is how much longer than hold a delivery waits at most for the kernel to have what its run must not forget. That takes
	// microseconds but where all processors are taken, or the file system hangs.
	keepWait = 250 * time.Millisecond
	// maxTail is how much is written at most, in bytes: with more than that waiting the disk has been slow for long, which is an alarm.
	maxTail = 4 << 20
)

var (
	keyRun = []byte("run") // whose batches are counted by keySeq
	keySeq = []byte("seq") // the last batch committed
)

func tailPath(db string, i uint64) string { return fmt.Sprintf("%s.tail-%d", db, i%2) }

type tailRecord struct {
	Shelf shelf  `json:"shelf"`
	Key   string `json:"key"`
	Value []byte `json:"value"` // nil: removed
}

// rawRecord is a record that is encoded already.
type rawRecord []byte

// tail is what a file holds.
type tail struct {
	number, run, seq uint64
	staged           uint64 // see outbox; not in the file
	batch            map[place]any
}

// scribe writes what the disk is slow to take, until ctx ends.
func (o *outbox) scribe(ctx context.Context) {
	delay := time.NewTimer(tailDelay)
	defer delay.Stop()
	failing := false
	for number := uint64(1); ; {
		select {
		case <-o.slowly:
		case <-ctx.Done():
			return
		}
		delay.Reset(tailDelay)
		select {
		case <-delay.C:
		case <-ctx.Done():
			return
		}
		t := o.waiting()
		if len(t.batch) == 0 {
			continue
		}
		t.number = number
		number++
		err := t.write(tailPath(o.path, t.number))
		if err != nil && !failing {
			o.log.Warn("what the disk is slow to take can't be kept for the next run", "error", err)
		}
		if failing = err != nil; !failing {
			o.mu.Lock()
			o.kept = max(o.kept, t.staged)
			o.moved()
			o.mu.Unlock()
		}
	}
}

// keep waits until what was handed over would outlive the process, keepFor at most, and not at all when the disk is known to hang.
func (o *outbox) keep(ctx context.Context) {
	o.mu.Lock()
	want := o.staged
	o.mu.Unlock()
	o.awaitThat(ctx, o.keepFor, func() bool { return o.kept >= want || o.slow != "" })
}

// waiting is what was handed over and is not committed.
func (o *outbox) waiting() tail {
	o.group.Lock()
	defer o.group.Unlock()
	o.mu.Lock()
	defer o.mu.Unlock()
	t := tail{run: o.runID, seq: o.seq, staged: o.staged}
	if o.broken == "" && len(o.committing)+len(o.batch) > 0 {
		t.batch = maps.Clone(o.committing)
		if t.batch == nil {
			t.batch = make(map[place]any, len(o.batch))
		}
		maps.Copy(t.batch, o.batch)
	}
	return t
}

func (t tail) write(path string) error {
	b, err := t.encode()
	if err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(b, 0)
	return errors.Join(err, f.Close())
}

func (t tail) encode() ([]byte, error) {
	records := make([]tailRecord, 0, len(t.batch))
	size := 0
	for p, record := range t.batch {
		r := tailRecord{Shelf: p.shelf, Key: p.key}
		if record != nil {
			var err error
			if r.Value, err = encodeRecord(record); err != nil {
				return nil, err
			}
		}
		if size += len(r.Value); size > maxTail {
			return nil, fmt.Errorf("more than %d bytes wait", maxTail)
		}
		records = append(records, r)
	}
	body, err := json.Marshal(records)
	if err != nil {
		return nil, err
	}
	b := make([]byte, 0, tailHead+len(body))
	b = append(b, tailMagic...)
	for _, n := range []uint64{t.number, t.run, t.seq, uint64(len(body))} {
		b = binary.BigEndian.AppendUint64(b, n)
	}
	hash := sha256.New()
	hash.Write(b)
	hash.Write(body)
	return append(hash.Sum(b), body...), nil
}

// decodeTail fails for a file that is not whole.
func decodeTail(b []byte) (t tail, err error) {
	if len(b) < tailHead || string(b[:8]) != tailMagic {
		return t, errRecord
	}
	field := func(i int) uint64 { return binary.BigEndian.Uint64(b[8*i:]) }
	length := field(4)
	if length > uint64(len(b)-tailHead) {
		return t, errRecord
	}
	head, body := b[:5*8], b[tailHead:][:length] // an earlier one may have been longer
	hash := sha256.New()
	hash.Write(head)
	hash.Write(body)
	if string(hash.Sum(nil)) != string(b[5*8:tailHead]) {
		return t, errRecord
	}
	var records []tailRecord
	if err := json.Unmarshal(body, &records); err != nil {
		return t, fmt.Errorf("%w: %w", errRecord, err)
	}
	t = tail{number: field(1), run: field(2), seq: field(3), batch: make(map[place]any, len(records))}
	for _, r := range records {
		if r.Shelf >= shelves {
			return tail{}, errRecord
		}
		p := place{r.Shelf, r.Key}
		if t.batch[p] = nil; r.Value != nil {
			t.batch[p] = rawRecord(r.Value)
		}
	}
	return t, nil
}

// readTail is the newest whole one of a run. Each run counts from one, and what an earlier one left stays until it is written over.
func readTail(db string, run uint64) (newest tail) {
	for i := range uint64(2) {
		b, err := os.ReadFile(tailPath(db, i))
		if err != nil {
			continue
		}
		if t, err := decodeTail(b); err == nil && t.run == run && t.number > newest.number {
			newest = t
		}
	}
	return newest
}

// recover commits what the run that wrote the file had no time to. It says whether there was anything.
func (o *outbox) recover() (did bool, err error) {
	var t tail
	err = o.db.Update(func(tx *bbolt.Tx) error {
		meta := tx.Bucket(shelfNames[shelfMeta])
		if meta == nil {
			return nil
		}
		if t = readTail(o.path, number(meta.Get(keyRun))); number(meta.Get(keySeq)) >= t.seq {
			return nil
		}
		did = true
		return apply(tx, t.batch)
	})
	if did && err == nil {
		o.log.Info("the last run ended before its last records were on disk: the kernel had them", "records", len(t.batch))
	}
	return did, err
}

// dropTail removes the files; after a clean stop nothing of them counts.
func dropTail(db string, log *slog.Logger) {
	for i := range uint64(2) {
		if err := os.Remove(tailPath(db, i)); err != nil && !errors.Is(err, os.ErrNotExist) {
			log.Debug("remove a file beside the outbox", "error", err)
		}
	}
}
