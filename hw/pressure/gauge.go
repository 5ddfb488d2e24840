package pressure

import "time"

// history is a time that only grows (stalled, waited, stolen), with enough of its past to tell its share of a window.
type history struct {
	samples []sample // oldest first; the first is the newest that is a window old, once there is one
}

type sample struct {
	at    time.Time
	total time.Duration
}

// resolution is how many samples a window is kept in at least.
const resolution = 16

// share is the share of the last window that total grew by: before the history spans one, of a window all the same, so that
// it is never said too high. whole says that the history spans a window.
func (h *history) share(now time.Time, total, window time.Duration) (part float64, whole bool) {
	if n := len(h.samples); n > 0 && (total < h.samples[n-1].total || now.Before(h.samples[n-1].at)) {
		h.samples = h.samples[:0] // counted anew
	}
	begin := now.Add(-window)
	for len(h.samples) > 1 && !h.samples[1].at.After(begin) {
		h.samples = h.samples[1:]
	}
	base := sample{now, total}
	if len(h.samples) > 0 {
		base = h.samples[0]
	}
	span := max(window, now.Sub(base.at))
	if n := len(h.samples); n == 0 || now.Sub(h.samples[n-1].at) >= window/resolution {
		h.samples = append(h.samples, sample{now, total})
	}
	return min(1, float64(total-base.total)/float64(span)), !base.at.After(begin)
}

// verdict is what is known of one condition. It is failed from the first value over the limit; and well again when values have
// stayed on the right side of a second limit, further off, for a window.
type verdict struct {
	failed bool
	well   time.Time // since when values are on the right side; zero: they are not
}

// judge takes a value and reports whether the verdict has changed.
func (v *verdict) judge(now time.Time, over, well bool, window time.Duration) bool {
	before := v.failed
	switch {
	case over:
		v.failed, v.well = true, time.Time{}
	case !well:
		v.well = time.Time{}
	case v.well.IsZero():
		v.well = now
	}
	if !v.well.IsZero() && now.Sub(v.well) >= window {
		v.failed = false
	}
	return v.failed != before
}
