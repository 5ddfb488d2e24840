package southbound

import "github.com/paramedic-ha/paramedic/correlate"

// Outcome is what an engine made of an event.
type Outcome struct {
	Known bool   // the topology has the resource
	Stood bool   // the condition stood before
	Alarm string // the id of the alarm that stands for it now
	Full  bool   // not taken: too much stands
}

// Step hands events to an engine, whose owner it is called by; step is what the owner does with a delta. What is said of
// different conditions is one delta, so that what fails together is correlated together. Of what monitors say no more than
// limit may stand.
func Step(engine *correlate.Engine, step func(correlate.Delta), events []correlate.Event, limit int) []Outcome {
	outcomes := make([]Outcome, len(events))
	standing := 0
	for _, a := range engine.Alarms() {
		if a.Source == Source {
			standing++
		}
	}
	for begin, end := 0, 0; begin < len(events); begin = end {
		d := correlate.Delta{Source: Source}
		type key struct {
			resource  correlate.ID
			condition correlate.Condition
		}
		said := make(map[key]bool)
		for ; end < len(events); end++ {
			e, o := &events[end], &outcomes[end]
			if said[key{e.Resource, e.Condition}] {
				break
			}
			said[key{e.Resource, e.Condition}] = true
			_, o.Known = engine.Resource(e.Resource)
			o.Stood = engine.Stands(e.Resource, e.Condition)
			if e.Status == correlate.StatusFailed && !o.Stood {
				if o.Full = standing >= limit; o.Full {
					continue
				}
				standing++
			}
			d.Events = append(d.Events, *e)
		}
		if len(d.Events) > 0 {
			step(d)
		}
		for i := begin; i < end; i++ {
			if a, stands := engine.AlarmOf(events[i].Resource, events[i].Condition); stands {
				outcomes[i].Alarm = a.ID
			}
		}
	}
	return outcomes
}
