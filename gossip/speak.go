package gossip

import (
	"bytes"
	"fmt"
	"time"
)

// Speak writes a record in the space of a host that can't speak for itself, or of a zone, under the odd term of its speakers. When
// another speaker has written the same, it is written once more in our name: so all know who speaks. A space whose
// host has come back, or was forgotten, takes nothing: changed is false.
func (r *Replica) Speak(now time.Time, space string, term uint64, kind Kind, id string, payload []byte) (Result, error) {
	rec := Record{Key: Key{space, kind, id}, Version: Version{A: term, B: 1, Node: r.self}, Payload: bytes.Clone(payload)}
	switch {
	case term%2 == 0 || term > MaxTerm:
		return Result{}, fmt.Errorf("speak for %q: term %d is not one of speakers", space, term)
	case kind == 0 || kind >= KindFloor || space == Shared || space == r.self:
		return Result{}, fmt.Errorf("speak for %q: record of kind %d is not for speakers to write", space, kind)
	}
	if err := checkSize(&rec); err != nil {
		return Result{}, fmt.Errorf("speak for %q: record %d %q: %w", space, kind, id, err)
	}
	if cur := r.lookup(rec.Key); cur != nil && cur.Version.A == term {
		if cur.Version.Node == r.self && same(cur, payload, false) {
			return Result{}, nil
		}
		rec.Version.B = cur.Version.B + 1
	}
	return r.Merge(now, []Record{rec}), nil
}

// Speak is Replica.Speak.
func (w *Writer) Speak(space string, term uint64, kind Kind, id string, payload []byte) error {
	res, err := w.replica.Speak(w.now, space, term, kind, id, payload)
	if err != nil {
		return err
	}
	if len(res.Rejected) > 0 {
		return fmt.Errorf("speak for %q: record %d %q is refused: %s", space, kind, id, res.Rejected[0].Reason)
	}
	w.join(res)
	return nil
}
