package cluster

import (
	"time"

	"github.com/paramedic-ha/paramedic/correlate"
	"github.com/paramedic-ha/paramedic/notify/delivery"
)

// place is a record of the outbox: of an alarm, of a subscription, or of a pair of both.
type place struct{ subscription, alarm string }

// outbox gathers writes and commits them in groups, one commit at a time; its file is the host's disk.
type outbox struct {
	a          *agent
	batch      map[place]any
	seq        uint64 // of the batch being gathered
	committing map[place]any
	scheduled  bool
}

func newOutbox(a *agent) *outbox { return &outbox{a: a, batch: map[place]any{}, seq: 1} }

// put hands a record over; nil removes it. It returns the number of the commit that will have it.
func (o *outbox) put(p place, record any) uint64 {
	o.batch[p] = record
	seq := o.seq
	if !o.scheduled && o.committing == nil {
		o.scheduled = true
		o.a.after(o.a.s.between(0, 50*time.Microsecond), func() {
			o.scheduled = false
			o.commit()
		})
	}
	return seq
}

func (o *outbox) commit() {
	if o.committing != nil || len(o.batch) == 0 {
		return
	}
	s, seq := o.a.s, o.seq
	o.committing, o.batch = o.batch, map[place]any{}
	o.seq++
	took := s.between(50*time.Microsecond, 900*time.Microsecond)
	if o.a.h.disk.slow {
		took = s.between(time.Millisecond, 300*time.Millisecond)
	}
	o.a.after(took, func() {
		o.a.h.disk.apply(o.committing)
		o.committing = nil
		o.a.notifier.committed(seq)
		o.commit()
	})
}

// crash leaves what is on its way to the disk to chance: all of it or nothing.
func (o *outbox) crash() {
	if o.committing != nil && o.a.s.chance(0.5) {
		o.a.h.disk.apply(o.committing)
	}
}

func (d *disk) apply(batch map[place]any) {
	for p, v := range batch {
		switch v := v.(type) {
		case correlate.Change:
			d.alarms[p.alarm] = v
		case delivery.Record:
			d.pairs[pair(p)] = v
		case kept:
			d.subs[p.subscription] = v
		default:
			switch {
			case p.subscription == "":
				delete(d.alarms, p.alarm)
			case p.alarm == "":
				delete(d.subs, p.subscription)
			default:
				delete(d.pairs, pair(p))
			}
		}
	}
}
