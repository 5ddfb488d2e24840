package notify

import "time"

// Stage is a way between two points of a time line.
type Stage struct {
	From, To string // T00 … T09
	between  func(Stages) (from, to time.Time)
}

// Name is the stage as a metric's label has it.
func (s Stage) Name() string { return s.From + "-" + s.To }

// points of a time line, in order. OPNFV Doctor's profile has ten: what a host does by itself takes the places of what is asked
// of OpenStack there (docs/delivery.md, Time line).
var points = []struct {
	name string
	at   func(Stages) time.Time
}{
	{"T00", func(s Stages) time.Time { return s.Occurred }},
	{"T01", func(s Stages) time.Time { return s.Observed }},
	{"T02", func(s Stages) time.Time { return s.Found }},
	{"T03", func(s Stages) time.Time { return s.Owed }},
	{"T04", func(s Stages) time.Time { return s.Begun }},
	{"T05", func(s Stages) time.Time { return s.Committed }},
	{"T06", func(s Stages) time.Time { return s.Outbox }},
	{"T07", func(s Stages) time.Time { return s.Taken }},
	{"T08", func(s Stages) time.Time { return s.Sent }},
	{"T09", func(s Stages) time.Time { return s.Answered }},
}

// stages are each point to the next, and what they come to: the outbox, with a commit that came in time or without; what this process adds;
// the whole until it is sent, and until it is answered.
var stages = func() []Stage {
	way := func(from, to int) Stage {
		a, b := points[from], points[to]
		return Stage{a.name, b.name, func(s Stages) (time.Time, time.Time) { return a.at(s), b.at(s) }}
	}
	var all []Stage
	for i := 1; i < len(points); i++ {
		all = append(all, way(i-1, i))
	}
	return append(all, way(3, 6), way(1, 8), way(0, 8), way(0, 9))
}()

// took is how long a stage took here; ok is false when one of its ends was not reached, or when the two are not of one clock: T08 and T09 may be
// a peer's, T00 to T02 another host's, all that an earlier run saw is of the wall clock, which may have been set since. Go keeps a reading of
// the monotonic clock with every time of this process, and with no other. T00 alone may be the kernel's, by the wall clock of this host:
// it counts when T01 is of this process.
//
// Of what stood before its consumer wanted it only what is behind T03 counts.
func (s Stage) took(l Stages, node string) (time.Duration, bool) {
	from, to := s.between(l)
	switch {
	case from.IsZero() || to.IsZero():
		return 0, false
	case l.By != node && s.To >= "T08":
		return 0, false
	case l.Late && s.From < "T03":
		return 0, false
	case s.From == "T00" && (!readHere(l.Observed) || !readHere(to)):
		return 0, false
	case s.From != "T00" && (!readHere(from) || !readHere(to)):
		return 0, false
	}
	return max(0, to.Sub(from)), true
}

// readHere reports whether this process has read its clock for t.
func readHere(t time.Time) bool { return t != t.Round(0) }

// since is from when the delay of a delivery counts: T02, and T03 when that is another's time, or was before the consumer wanted it.
func (s Stages) since() time.Time {
	if s.Late || !readHere(s.Found) {
		return s.Owed
	}
	return s.Found
}
