package hw

import "time"

// Tally judges how fast something comes that is only counted: too fast from Limit within Window on, and no more once a
// tenth of that at most has come within a Window for as long as a Window.
type Tally struct {
	Limit  uint64
	Window time.Duration

	fast      bool
	increases []increase // within the window, oldest first; at most one a look
	slowSince time.Time
}

type increase struct {
	at time.Time
	n  uint64
}

// Hold has it begin as too fast: an alarm of the last run stands.
func (t *Tally) Hold() { t.fast = true }

// Add takes what came since the last look. It gives what came within the window, and whether that is too fast.
func (t *Tally) Add(now time.Time, n uint64) (total uint64, fast bool) {
	if n > 0 {
		t.increases = append(t.increases, increase{now, n})
	}
	kept := t.increases[:0]
	for _, i := range t.increases {
		if now.Sub(i.at) < t.Window {
			kept = append(kept, i)
			total += i.n
		}
	}
	t.increases = kept
	switch {
	case total >= t.Limit:
		t.fast, t.slowSince = true, time.Time{}
	case !t.fast || total > t.Limit/10:
		t.slowSince = time.Time{}
	case t.slowSince.IsZero():
		t.slowSince = now
	case now.Sub(t.slowSince) >= t.Window:
		t.fast, t.slowSince = false, time.Time{}
	}
	return total, t.fast
}

// Grown is by how much a counter grew; one that was reset counts from zero.
func Grown(was, is uint64) uint64 {
	if is < was {
		return is
	}
	return is - was
}
