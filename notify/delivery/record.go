package delivery

import (
	"time"

	"github.com/paramedic-ha/paramedic/correlate"
)

// Config bounds a Machine.
type Config struct {
	InFlight   int           // requests at once
	MaxAge     time.Duration // a revision owed for longer is parked when its next attempt fails
	FirstRetry time.Duration // upper bound of the first backoff; it doubles with each failure
	MaxRetry   time.Duration // upper bound of the backoff
	MaxQuiet   time.Duration // upper bound of what Retry-After may ask for
	Spacing    time.Duration // between the starts of two requests; zero: none
	// Capacity is how many undelivered pairs are kept; when full, some go, a sixteenth at once: see evict. What the consumer
	// has to be told is over stays beyond it: no more of that comes than the consumer was told of.
	Capacity int
	// View is a digest of what the consumer sees of a revision. A standing one that shows what was shown last is not sent. Nil,
	// or zero of a revision: it is news.
	View func(*correlate.Alarm) uint64
	// Parts are what a revision speaks of, by ID, in a form that tells each by itself; of a cleared one: what it may have
	// spoken of last. Not split: the form says all in one. Nil: no form is split.
	Parts func(*correlate.Alarm) (parts []Part, split bool)
	// Apart says that the end of an alarm for a part tells nothing of other alarms that hit it (Ask.Still). Nil: it does.
	Apart func() bool
	// Repeat is how long after it was told a standing alarm is told again; zero, or nil: never.
	Repeat func() time.Duration
}

// DefaultConfig is what the product uses, but for MaxAge, which is configured.
func DefaultConfig() Config {
	return Config{
		InFlight: 8, MaxAge: 24 * time.Hour, FirstRetry: 200 * time.Millisecond, MaxRetry: time.Minute,
		MaxQuiet: 5 * time.Minute, Capacity: 4096,
	}
}

// Record is what is kept of a pair across restarts.
type Record struct {
	AlarmID    string
	Owed       correlate.Revision // to be delivered; zero when nothing is owed
	Told       correlate.Revision // the newest one delivered; zero when none was
	View       uint64             `json:",omitempty"` // what was shown of it; zero: not known
	Parts      []Part             `json:",omitzero"`  // what was told, or may have been, of each, in a split form; nil: not known
	Parked     bool               // waits for an operator, for a newer revision, or (Again) for its consumer
	Again      bool               `json:",omitempty"` // parked, and tried again when the consumer has taken something
	Attempts   int                // at the owed revision, or since the last success
	Superseded int                // older revisions that the owed one replaced unsent
	Created    time.Time          // when the owed revision was first owed
	Next       time.Time          // the next attempt is not before
	Backoff    bool               // Next comes from our backoff, not from the consumer's word
	LastError  string
	By         string // the host that made the last attempt; empty: this one
}

// Start is a request to make now.
type Start struct {
	correlate.Change
	Owed       time.Time // T03: when the revision was first owed
	Commit     Commit    // T04 and T05; zero: it did not wait for its commit, or that was in an earlier run
	Outbox     time.Time // T06: committed, or the hold was over
	Late       bool      // see Machine.EnqueueLate
	Attempt    int       // 1 for the first
	Superseded int
	Early      bool  // the limit of its hold has passed before its commit
	Split      bool  // by Config.Parts
	Asks       []Ask // of a split form: all that is to be told; it may be nothing
	Repeat     bool  // the consumer was told, and is told again
}

// Effects is what the caller must do: persist, forget, start, and call Tick again at Wake (zero: never).
type Effects struct {
	Save    []Record
	Remove  []string // alarm ids
	Start   []Start
	Wake    time.Time
	Parked  int  // pairs parked by this call
	Evicted int  // pairs dropped for want of room by this call
	Paused  bool // the consumer asked to stop, by this call
	Room    bool // there is room again for what was dropped: Enqueue all that stands
	// Missed says what of it was not late when it was dropped, and is not now: what was found (T02) then or since. Zero: nothing.
	Missed time.Time
}
