package sim

import (
	"encoding/json"
	"maps"
	"slices"
	"time"

	"github.com/paramedic-ha/paramedic/correlate"
	"github.com/paramedic-ha/paramedic/notify/delivery"
)

// disk is what outlives the process: the outbox's file. Records are JSON, as notify writes them.
type disk struct {
	s      *simulation
	term   uint64
	alarms map[string][]byte // by alarm id
	pairs  map[place][]byte
	slow   bool
}

type place struct{ subscription, alarm string } // of an alarm's own record the subscription is empty

func newDisk(s *simulation) *disk {
	return &disk{s: s, alarms: map[string][]byte{}, pairs: map[place][]byte{}}
}

func (d *disk) apply(batch map[place][]byte) {
	for p, value := range batch {
		switch {
		case p.subscription == "" && value == nil:
			delete(d.alarms, p.alarm)
		case p.subscription == "":
			d.alarms[p.alarm] = value
		case value == nil:
			delete(d.pairs, p)
		default:
			d.pairs[p] = value
		}
	}
}

// load reads what an earlier run left, in a stated order.
func (d *disk) load() (alarms []*correlate.Alarm, pairs map[string][]delivery.Record) {
	pairs = map[string][]delivery.Record{}
	for _, id := range slices.Sorted(maps.Keys(d.alarms)) {
		var a correlate.Alarm
		d.decode(d.alarms[id], &a)
		alarms = append(alarms, &a)
	}
	slices.SortFunc(alarms, func(a, b *correlate.Alarm) int { return a.Revision.Compare(b.Revision) })
	places := slices.SortedFunc(maps.Keys(d.pairs), func(a, b place) int {
		return slices.Compare([]string{a.subscription, a.alarm}, []string{b.subscription, b.alarm})
	})
	for _, p := range places {
		var r delivery.Record
		d.decode(d.pairs[p], &r)
		pairs[p.subscription] = append(pairs[p.subscription], r)
	}
	return alarms, pairs
}

func (d *disk) decode(b []byte, into any) {
	if err := json.Unmarshal(b, into); err != nil {
		d.s.fail("the outbox holds what can't be read: %v", err)
	}
}

// outbox gathers writes and commits them in groups, one commit at a time.
type outbox struct {
	p          *process
	batch      map[place][]byte
	seq        uint64 // of the batch being gathered
	committing map[place][]byte
	scheduled  bool
}

func newOutbox(p *process) *outbox { return &outbox{p: p, batch: map[place][]byte{}, seq: 1} }

// put hands a record over; nil removes it.
func (o *outbox) put(pl place, record any) {
	if record == nil {
		o.batch[pl] = nil
	} else {
		b, err := json.Marshal(record)
		if err != nil {
			o.p.s.fail("a record can't be written: %v", err)
		}
		o.batch[pl] = b
	}
	if o.scheduled || o.committing != nil {
		return
	}
	if o.p.s.chance(0.1) { // the committer is awake already: what belongs together may be parted
		o.commit()
		return
	}
	o.scheduled = true
	o.p.s.after(o.p.s.between(0, 50*time.Microsecond), "", func() {
		o.scheduled = false
		o.commit()
	})
}

func (o *outbox) commit() {
	if o.p.dead || o.committing != nil || len(o.batch) == 0 {
		return
	}
	s, seq := o.p.s, o.seq
	o.committing, o.batch = o.batch, map[place][]byte{}
	o.seq++
	took := s.between(50*time.Microsecond, 900*time.Microsecond)
	if s.disk.slow {
		took = s.between(time.Millisecond, 300*time.Millisecond)
	}
	s.after(took, "", func() {
		if o.p.dead {
			return
		}
		if s.cfg.Bug != ForgetfulDisk || !s.chance(0.05) {
			s.disk.apply(o.committing)
		}
		o.committing = nil
		o.p.committed(seq)
		o.commit()
	})
}

// crash leaves what is on its way to the disk to chance: all of it or nothing. What is lost is returned.
func (o *outbox) crash() (lost map[place][]byte) {
	lost = map[place][]byte{}
	if o.committing != nil {
		if o.p.s.chance(0.5) {
			o.p.s.disk.apply(o.committing)
		} else {
			maps.Copy(lost, o.committing)
		}
	}
	maps.Copy(lost, o.batch)
	return lost
}
