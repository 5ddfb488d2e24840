package cluster

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/paramedic-ha/paramedic/gossip"
	"github.com/paramedic-ha/paramedic/gossip/durable"
)

// The file of the records that belong to no host: subscriptions, acknowledgements, who was forgotten, and the tombstones of
// all three. What belongs to a host is restated by it, so it needs no file here.
//
//	file    = magic:8 version:1 written:8 length:8 hash:32 body    written: ns since 1970; hash: SHA-256 of all the rest
//	body    = *(length:uvarint message)                            message: gossip.EncodeRecords
const (
	storeName    = "cluster-shared.records"
	storeMagic   = "prmdshrd"
	storeVersion = 1
	storeHead    = len(storeMagic) + 1 + 8 + 8
	maxStore     = 96 << 20 // bytes: what a replica holds of shared records at most, and some

	storeDelay = time.Second // between a change that nobody waits for and its writing
	// storeTouch is how often the file is written though nothing has changed: its age says how long we were away.
	storeTouch = time.Hour
)

var errDamaged = errors.New("damaged")

func encodeStore(records []gossip.Record, written time.Time) []byte {
	var body []byte
	for _, m := range gossip.EncodeRecords(records, gossip.MaxRecord) {
		body = binary.AppendUvarint(body, uint64(len(m)))
		body = append(body, m...)
	}
	b := make([]byte, 0, storeHead+sha256.Size+len(body))
	b = append(b, storeMagic...)
	b = append(b, storeVersion)
	b = binary.BigEndian.AppendUint64(b, uint64(written.UnixNano())) //nolint:gosec // the bits of the number
	b = binary.BigEndian.AppendUint64(b, uint64(len(body)))
	hash := sha256.New()
	hash.Write(b)
	hash.Write(body)
	return append(hash.Sum(b), body...)
}

func decodeStore(b []byte) (records []gossip.Record, written time.Time, err error) {
	switch {
	case len(b) < storeHead+sha256.Size || string(b[:len(storeMagic)]) != storeMagic:
		return nil, time.Time{}, fmt.Errorf("%w: it does not begin as such a file does", errDamaged)
	case b[len(storeMagic)] != storeVersion:
		return nil, time.Time{}, fmt.Errorf("%w: version %d, this agent reads %d", errDamaged, b[len(storeMagic)], storeVersion)
	}
	head, sum, body := b[:storeHead], b[storeHead:storeHead+sha256.Size], b[storeHead+sha256.Size:]
	hash := sha256.New()
	hash.Write(head)
	hash.Write(body)
	if !bytes.Equal(hash.Sum(nil), sum) || binary.BigEndian.Uint64(head[storeHead-8:]) != uint64(len(body)) {
		return nil, time.Time{}, fmt.Errorf("%w: its checksum does not fit", errDamaged)
	}
	written = time.Unix(0, int64(binary.BigEndian.Uint64(head[len(storeMagic)+1:]))) //nolint:gosec // the bits of the number
	for len(body) > 0 {
		n, width := binary.Uvarint(body)
		if width <= 0 || n > uint64(len(body)-width) {
			return nil, time.Time{}, fmt.Errorf("%w: a message is cut", errDamaged)
		}
		more, err := gossip.DecodeRecords(body[width : width+int(n)]) //nolint:gosec // not above len(body)
		if err != nil {
			return nil, time.Time{}, fmt.Errorf("%w: %w", errDamaged, err)
		}
		for _, r := range more {
			if r.Space != gossip.Shared {
				return nil, time.Time{}, fmt.Errorf("%w: it holds a record of host %q", errDamaged, r.Space)
			}
		}
		records = append(records, more...)
		body = body[width+int(n):] //nolint:gosec // not above len(body)
	}
	return records, written, nil
}

// kept is what a file said.
type kept struct {
	records []gossip.Record
	saved   time.Time
	expired bool // the file was so old that it was dropped
}

// loadStore reads the file. One that can't be read is set aside and said loudly: the peers have all that it had. One that
// is older than tombstones live is set aside, too: it might bring back what was deleted meanwhile.
func loadStore(dir string, now time.Time, log *slog.Logger) (kept, error) {
	path := filepath.Join(dir, storeName)
	if err := durable.Sweep(path); err != nil {
		return kept{}, fmt.Errorf("read the shared records: %w", err)
	}
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return kept{}, nil
	}
	if err != nil {
		return kept{}, fmt.Errorf("read the shared records: %w", err)
	}
	b, err := io.ReadAll(io.LimitReader(f, maxStore))
	if err = errors.Join(err, f.Close()); err != nil {
		return kept{}, fmt.Errorf("read the shared records: %w", err)
	}
	records, written, err := decodeStore(b)
	aside := path + ".damaged"
	switch {
	case err != nil:
		log.Error("the file of the shared records is damaged: it is set aside, and the peers are asked for what it had",
			"file", path, "aside", aside, "error", err)
	case now.Sub(written) > gossip.TombstoneLife:
		aside = path + ".expired"
		log.Warn("this agent was away for so long that what it knew of subscriptions counts no more: it is set aside, and the peers are asked",
			"file", path, "aside", aside, "written", written)
	default:
		return kept{records: records, saved: written}, nil
	}
	if e := os.Rename(path, aside); e != nil {
		return kept{}, fmt.Errorf("set aside the shared records: %w", e)
	}
	return kept{expired: err == nil}, nil
}

// store keeps the file. Many callers of save share one write; nobody waits for a change that only came by.
type store struct {
	path     string
	log      *slog.Logger
	snapshot func(context.Context) ([]gossip.Record, error)

	urgent  chan chan error
	changed chan struct{} // capacity 1
	stopped chan struct{}
	failing bool // the last write failed; of run alone
}

func newStore(dir string, log *slog.Logger, snapshot func(context.Context) ([]gossip.Record, error)) *store {
	return &store{
		path: filepath.Join(dir, storeName), log: log, snapshot: snapshot,
		urgent: make(chan chan error), changed: make(chan struct{}, 1), stopped: make(chan struct{}),
	}
}

// run writes until ctx ends, and then once more. write's context outlives ctx by a moment.
func (s *store) run(ctx context.Context) {
	defer close(s.stopped)
	touch := time.NewTicker(storeTouch)
	defer touch.Stop()
	delay := time.NewTimer(storeDelay)
	delay.Stop()
	waits := false
	write := func() error {
		delay.Stop()
		waits = false
		err := s.write(context.WithoutCancel(ctx))
		if errors.Is(err, gossip.ErrStopped) { // whoever ended it has said why; what was written last stays
			return err
		}
		if (err != nil) != s.failing {
			s.failing = err != nil
			if err != nil {
				s.log.Error("the shared records can't be kept on disk", "error", err)
			} else {
				s.log.Info("the shared records are on disk again")
			}
		}
		return err
	}
	for {
		select {
		case q := <-s.urgent:
			batch := []chan error{q}
			for more := true; more; {
				select {
				case q = <-s.urgent:
					batch = append(batch, q)
				default:
					more = false
				}
			}
			err := write()
			for _, q := range batch {
				q <- err
			}
		case <-s.changed:
			if !waits {
				waits = true
				delay.Reset(storeDelay)
			}
		case <-delay.C:
			_ = write() // it is logged, and the next one says it again
		case <-touch.C:
			_ = write()
		case <-ctx.Done():
			_ = write()
			return
		}
	}
}

// touch says that something has changed that nobody waits for.
func (s *store) touch() {
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

// save returns when all that was written to the replica before is on disk, or ctx ends.
func (s *store) save(ctx context.Context) error {
	q := make(chan error, 1)
	select {
	case s.urgent <- q:
	case <-s.stopped:
		return gossip.ErrStopped
	case <-ctx.Done():
		return fmt.Errorf("keep the shared records: %w", ctx.Err())
	}
	select {
	case err := <-q:
		return err
	case <-ctx.Done():
		return fmt.Errorf("keep the shared records: %w", ctx.Err())
	}
}

const storeLimit = 5 * time.Second // for the replica to answer

func (s *store) write(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, storeLimit)
	defer cancel()
	records, err := s.snapshot(ctx)
	if err != nil {
		return fmt.Errorf("keep the shared records: %w", err)
	}
	if err := durable.Replace(s.path, encodeStore(records, time.Now())); err != nil {
		return fmt.Errorf("keep the shared records: %w", err)
	}
	return nil
}
