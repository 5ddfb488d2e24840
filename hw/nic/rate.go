package nic

import (
	"fmt"
	"strconv"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/paramedic-ha/paramedic/correlate"
)

// A link has errors when, in two dumps running, at least errorsAtLeast frames and one of errorsOneOf were bad in one
// direction. It is well again after as many dumps below a tenth of that. A single burst (a cable touched) is none.
const (
	errorsAtLeast = 100
	errorsOneOf   = 100
	errorsInARow  = 2
)

// errorRate follows the error counters of one link.
type errorRate struct {
	at     time.Time
	last   netlink.LinkStatistics
	status correlate.Status
	text   string
	bad    int // intervals in a row that were bad
	good   int // or good
}

// count takes the counters of a dump answer.
func (t *table) count(from netlink.Link, now time.Time) {
	a := from.Attrs()
	if a.Statistics == nil {
		return
	}
	t.rates[a.Index] = t.rates[a.Index].next(*a.Statistics, now)
}

// next judges the interval since the last counters.
func (r errorRate) next(s netlink.LinkStatistics, now time.Time) errorRate {
	last := r.last
	r.last = s
	if r.at.IsZero() || s.RxErrors < last.RxErrors || s.TxErrors < last.TxErrors ||
		s.RxPackets < last.RxPackets || s.TxPackets < last.TxPackets { // first sight, or the driver started anew
		return errorRate{at: now, last: s, status: r.status, text: r.text}
	}
	interval := now.Sub(r.at).Round(time.Second)
	r.at = now
	rxErrors, rx := s.RxErrors-last.RxErrors, s.RxPackets-last.RxPackets
	txErrors, tx := s.TxErrors-last.TxErrors, s.TxPackets-last.TxPackets
	switch {
	case many(rxErrors, rx, 1) || many(txErrors, tx, 1):
		r.bad, r.good = r.bad+1, 0
	case many(rxErrors, rx, 10) || many(txErrors, tx, 10): // in between: as it was
		r.bad, r.good = 0, 0
	default:
		r.bad, r.good = 0, r.good+1
	}
	figures := fmt.Sprintf("%d bad of %d frames received and %d bad of %d sent in %s",
		rxErrors, rx+rxErrors, txErrors, tx+txErrors, interval)
	switch {
	case r.bad >= errorsInARow:
		r.status, r.text = correlate.StatusFailed, figures
	case r.good >= errorsInARow || r.status == correlate.StatusUnknown && r.good > 0:
		r.status, r.text = correlate.StatusOK, figures
	}
	return r
}

// many reports whether the share of errors reaches the threshold divided by less.
func many(errors, frames, less uint64) bool {
	return errors*less >= errorsAtLeast && errors*less*errorsOneOf >= errors+frames
}

// addTo adds the counters that are not zero.
func (r errorRate) addTo(facts map[string]string) {
	for key, n := range map[string]uint64{
		"rx_errors": r.last.RxErrors, "tx_errors": r.last.TxErrors, "rx_dropped": r.last.RxDropped,
		"tx_dropped": r.last.TxDropped, "rx_crc_errors": r.last.RxCrcErrors, "rx_frame_errors": r.last.RxFrameErrors,
		"rx_missed_errors": r.last.RxMissedErrors, "rx_fifo_errors": r.last.RxFifoErrors,
		"tx_carrier_errors": r.last.TxCarrierErrors, "collisions": r.last.Collisions,
	} {
		if n > 0 {
			facts[key] = strconv.FormatUint(n, 10)
		}
	}
}
