package ipmi

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"os"
	"slices"
)

const (
	commandLogInfo    byte = 0x40
	commandLogReserve byte = 0x42
	commandLogRead    byte = 0x43
	commandLogTime    byte = 0x48

	firstRecord uint16 = 0x0000
	lastRecord  uint16 = 0xFFFF

	// remembered is how many records are known again after somebody has deleted the last of them.
	remembered = 64
	// batch is how many records are taken at once: what is told waits for no more.
	batch = 64
)

// logRecord is a record of the event log as the BMC gives it (IPMI 2.0, 32).
type logRecord [16]byte

func (r logRecord) id() uint16 { return binary.LittleEndian.Uint16(r[:]) }

func (r logRecord) hash() uint64 {
	h := fnv.New64a()
	h.Write(r[:])
	return h.Sum64()
}

// eventLog reads the BMC's event log (SEL) from where it was. Each look costs one command while nothing is new: the record that
// was taken last is read again, which says whether it is still there and what comes behind it. That holds through a log that was
// cleared, overwritten or renumbered, and whatever the clock does.
type eventLog struct {
	ask         func(context.Context, Request) ([]byte, error)
	reservation [2]byte
	at          position
	rest        []logRecord // of a walk, not yet given out
	cleared     bool        // nothing of what was taken is there any more
}

// position is what was taken. The zero value: nothing is known.
type position struct {
	Known bool      `json:"known"`
	Empty bool      `json:"empty"` // nothing was there
	Last  logRecord `json:"last"`
	// Taken are the hashes of the last records.
	Taken []uint64 `json:"taken"`
}

func (p *position) take(r logRecord) {
	p.Known, p.Empty, p.Last = true, false, r
	p.Taken = append(p.Taken, r.hash())
	if n := len(p.Taken) - remembered; n > 0 {
		p.Taken = slices.Delete(p.Taken, 0, n)
	}
}

// news gives the next records, oldest first, at most a batch; more says whether there may be others. recent judges the records
// that stand there when nothing is known yet: older ones are passed over.
func (e *eventLog) news(ctx context.Context, recent func(logRecord) bool) (records []logRecord, more bool, err error) {
	for range again {
		records, more, err = e.look(ctx, recent)
		if !errors.Is(err, errReservation) {
			return records, more, err
		}
		if err := e.reserve(ctx); err != nil { // somebody has changed the log: look at it anew
			return nil, false, err
		}
	}
	return nil, false, fmt.Errorf("read the event log: %w", err)
}

func (e *eventLog) look(ctx context.Context, recent func(logRecord) bool) ([]logRecord, bool, error) {
	if len(e.rest) > 0 {
		return e.giveOut(), len(e.rest) > 0, nil
	}
	switch {
	case !e.at.Known:
		return e.first(ctx, recent)
	case e.at.Empty:
		all, err := e.walk(ctx, firstRecord, batch)
		if err != nil {
			return nil, false, err
		}
		e.rest = all
		return e.giveOut(), len(all) == batch, nil
	}
	same, next, err := e.read(ctx, e.at.Last.id())
	switch {
	case err == nil && same == e.at.Last && next == lastRecord:
		return nil, false, nil
	case err == nil && same == e.at.Last:
		if err := e.reserve(ctx); err != nil {
			return nil, false, err
		}
		e.rest, err = e.walk(ctx, next, batch)
		if err != nil {
			return nil, false, err
		}
		more := len(e.rest) == batch
		return e.giveOut(), more, nil
	case err != nil && !isAbsent(err):
		return nil, false, err
	}
	return e.find(ctx)
}

// first sets out where nothing is known.
func (e *eventLog) first(ctx context.Context, recent func(logRecord) bool) ([]logRecord, bool, error) {
	last, _, err := e.read(ctx, lastRecord)
	switch {
	case err == nil && !recent(last):
		e.at.take(last)
		return nil, false, nil
	case err != nil && !isAbsent(err):
		return nil, false, err
	}
	all, err := e.walk(ctx, firstRecord, maxRecords)
	if err != nil {
		return nil, false, err
	}
	if len(all) == 0 {
		e.at = position{Known: true, Empty: true}
		return nil, false, nil
	}
	if i := slices.IndexFunc(all, recent); i > 0 {
		e.at.take(all[i-1])
		all = all[i:]
	} else if i < 0 {
		e.at.take(all[len(all)-1])
		return nil, false, nil
	}
	e.rest = all
	return e.giveOut(), len(e.rest) > 0, nil
}

// find looks through the whole log for what is new: the last record taken is not where it was.
func (e *eventLog) find(ctx context.Context) ([]logRecord, bool, error) {
	if err := e.reserve(ctx); err != nil {
		return nil, false, err
	}
	all, err := e.walk(ctx, firstRecord, maxRecords)
	if err != nil {
		return nil, false, err
	}
	known := -1
	for i, r := range all {
		if slices.Contains(e.at.Taken, r.hash()) {
			known = i
		}
	}
	if known >= 0 { // the last one was deleted
		e.at.Last, all = all[known], all[known+1:]
	} else {
		e.cleared = true
		e.at = position{Known: true, Empty: true}
	}
	if len(all) == 0 {
		return nil, false, nil
	}
	e.rest = all
	return e.giveOut(), len(e.rest) > 0, nil
}

func (e *eventLog) giveOut() []logRecord {
	n := min(len(e.rest), batch)
	out := e.rest[:n:n]
	e.rest = e.rest[n:]
	for _, r := range out {
		e.at.take(r)
	}
	return out
}

// walk reads records from id on, at most n.
func (e *eventLog) walk(ctx context.Context, id uint16, n int) ([]logRecord, error) {
	var all []logRecord
	seen := make(map[uint16]bool)
	for !seen[id] && len(all) < n {
		seen[id] = true
		r, next, err := e.read(ctx, id)
		if isAbsent(err) { // the log is empty, or was cleared under the walk
			break
		}
		if err != nil {
			return nil, err
		}
		all = append(all, r)
		if next == lastRecord {
			break
		}
		id = next
	}
	return all, nil
}

func (e *eventLog) reserve(ctx context.Context) error {
	b, err := e.ask(ctx, Request{NetFn: netStorage, Cmd: commandLogReserve})
	var code CompletionError
	switch {
	case errors.As(err, &code): // one that knows no reservations asks for none
		e.reservation = [2]byte{}
		return nil
	case err != nil:
		return fmt.Errorf("reserve the event log: %w", err)
	case len(b) >= 2:
		e.reservation = [2]byte{b[0], b[1]}
	}
	return nil
}

func (e *eventLog) read(ctx context.Context, id uint16) (r logRecord, next uint16, err error) {
	b, err := e.ask(ctx, Request{NetFn: netStorage, Cmd: commandLogRead, Data: []byte{
		e.reservation[0], e.reservation[1], byte(id), byte(id >> 8), 0, 0xFF,
	}})
	switch {
	case err != nil:
		return r, 0, err
	case len(b) < 2+len(r):
		return r, 0, fmt.Errorf("read the event log: %d bytes", len(b))
	}
	return logRecord(b[2 : 2+len(r)]), binary.LittleEndian.Uint16(b), nil
}

func isAbsent(err error) bool { return errors.Is(err, errNotPresent) || errors.Is(err, errRange) }

// loadPosition gives what was taken by the last run; nothing is known when there is no file, or a damaged one.
func loadPosition(path string) (position, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return position{}, nil
	}
	var p position
	if err == nil {
		err = json.Unmarshal(b, &p)
	}
	if err != nil {
		return position{}, fmt.Errorf("read how far the event log was taken: %w", err)
	}
	return p, nil
}
