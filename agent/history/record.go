package history

import (
	"bytes"
	"compress/flate"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"slices"
	"time"

	"github.com/paramedic-ha/paramedic/correlate"
)

// Step is one thing that happened to an alarm.
type Step struct {
	At       time.Time
	What     string // raised, changed, cleared, acknowledged, commented
	Revision correlate.Revision
	Severity correlate.Severity
	Text     string // what the source said, the reason of a clear, or a comment
	By       string // who said so, when it was a person
}

// Entry is what is remembered of an alarm. Immutable.
type Entry struct {
	Alarm   *correlate.Alarm // its newest revision
	Worst   correlate.Severity
	Steps   []Step // oldest first; at most maxSteps: the first, and the newest
	Omitted int    // steps that were left out behind the first
}

const (
	maxSteps = 50
	maxText  = 1000 // bytes of a step's text
)

// add notes a revision of an alarm, or what happened to it beside its revisions.
func (e Entry) add(a *correlate.Alarm, what string) Entry {
	s := Step{What: what, Revision: a.Revision, Severity: a.Severity, Text: a.Text}
	switch what {
	case string(correlate.Raised):
		s.At = a.Times.Raised
	case string(correlate.Cleared):
		s.At, s.Text = a.Times.Cleared, a.ClearReason
		if a.ByHand != nil {
			s.By = a.ByHand.By
		}
	case correlate.Acknowledged:
		s.At, s.Text, s.By = a.Ack.At, a.Ack.Comment, a.Ack.By
	case correlate.Commented:
		c := a.Comments[len(a.Comments)-1]
		s.At, s.Text, s.By = c.At, c.Text, c.By
	default:
		s.At = a.Times.Changed
	}
	if len(s.Text) > maxText {
		s.Text = string(bytes.ToValidUTF8([]byte(s.Text[:maxText]), nil))
	}
	e.Alarm, e.Worst = a, worse(e.Worst, a.Severity)
	e.Steps = append(slices.Clone(e.Steps), s)
	return e.bounded()
}

// worse is the graver of two; what was ever indeterminate stays so, for it passes every filter.
func worse(a, b correlate.Severity) correlate.Severity {
	if a == correlate.SeverityIndeterminate || b == correlate.SeverityIndeterminate {
		return correlate.SeverityIndeterminate
	}
	return max(a, b)
}

func (e Entry) count() int { return e.Omitted + len(e.Steps) }

// join puts a later entry of the same alarm behind e, which may have some of its steps, or all of them, already.
func (e Entry) join(later Entry) Entry {
	if e.Alarm == nil {
		return later
	}
	steps := slices.Clone(e.Steps)
	for _, s := range later.Steps {
		if !slices.ContainsFunc(e.Steps, s.same) {
			steps = append(steps, s)
		}
	}
	later.Worst, later.Steps = worse(e.Worst, later.Worst), steps
	later.Omitted += e.Omitted
	return later.bounded()
}

func (s Step) same(o Step) bool {
	return s.What == o.What && s.Revision == o.Revision && s.At.Equal(o.At)
}

func (e Entry) bounded() Entry {
	if n := len(e.Steps) - maxSteps; n > 0 {
		e.Omitted += n
		e.Steps = slices.Delete(e.Steps, 1, 1+n)
	}
	return e
}

// A record of the file:
//
//	record = version:1 checksum:4 raised:8 ended:8 told:8 body    checksum: CRC-32C of what follows
//	body   = deflated JSON of an Entry                             the times are ns since 1970
const (
	recordVersion = 1
	recordHead    = 1 + 4 + 3*8
	maxBody       = 8 << 20 // bytes, inflated
)

var (
	errRecord = errors.New("damaged record")
	checksums = crc32.MakeTable(crc32.Castagnoli)
)

// times are those of an alarm that can be had without reading its entry, in ns since 1970.
type times struct {
	raised int64
	ended  int64 // zero: it stands
	told   int64 // when this agent heard of its last step
}

func timesOf(a *correlate.Alarm, now time.Time) times {
	t := times{raised: a.Times.Raised.UnixNano(), told: now.UnixNano()}
	if !a.Standing() {
		t.ended = max(1, a.Times.Cleared.UnixNano())
	}
	return t
}

func encode(e Entry, t times) ([]byte, error) {
	var b bytes.Buffer
	b.Write(make([]byte, recordHead))
	w, _ := flate.NewWriter(&b, flate.BestSpeed) // only a wrong level is an error
	if err := json.NewEncoder(w).Encode(e); err != nil {
		return nil, fmt.Errorf("write alarm %s: %w", e.Alarm.ID, err)
	}
	_ = w.Close() // a buffer takes everything
	out := b.Bytes()
	out[0] = recordVersion
	for i, ns := range []int64{t.raised, t.ended, t.told} {
		binary.BigEndian.PutUint64(out[5+8*i:], uint64(ns)) //nolint:gosec // the bits of the number
	}
	seal(out)
	return out, nil
}

func seal(record []byte) {
	binary.BigEndian.PutUint32(record[1:], crc32.Checksum(record[5:], checksums))
}

// decodeTimes reads the head alone, after the checksum of all.
func decodeTimes(b []byte) (times, error) {
	switch {
	case len(b) < recordHead:
		return times{}, fmt.Errorf("%w: %d bytes", errRecord, len(b))
	case b[0] != recordVersion:
		return times{}, fmt.Errorf("%w: version %d, this agent reads %d", errRecord, b[0], recordVersion)
	case crc32.Checksum(b[5:], checksums) != binary.BigEndian.Uint32(b[1:]):
		return times{}, fmt.Errorf("%w: its checksum does not fit", errRecord)
	}
	var ns [3]int64
	for i := range ns {
		ns[i] = int64(binary.BigEndian.Uint64(b[5+8*i:])) //nolint:gosec // the bits of the number
	}
	return times{ns[0], ns[1], ns[2]}, nil
}

func decode(id string, b []byte) (Entry, error) {
	if _, err := decodeTimes(b); err != nil {
		return Entry{}, err
	}
	text, err := io.ReadAll(io.LimitReader(flate.NewReader(bytes.NewReader(b[recordHead:])), maxBody+1))
	switch {
	case err != nil:
		return Entry{}, fmt.Errorf("%w: %w", errRecord, err)
	case len(text) > maxBody:
		return Entry{}, fmt.Errorf("%w: it is larger than %d bytes", errRecord, maxBody)
	}
	var e Entry
	if err := json.Unmarshal(text, &e); err != nil {
		return Entry{}, fmt.Errorf("%w: %w", errRecord, err)
	}
	if e.Alarm == nil || e.Alarm.ID != id || len(e.Steps) > maxSteps {
		return Entry{}, fmt.Errorf("%w: it is of another alarm, or of none", errRecord)
	}
	return e, nil
}
