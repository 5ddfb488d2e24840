package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/paramedic-ha/paramedic/agent/api"
	"github.com/paramedic-ha/paramedic/agent/history"
	"github.com/paramedic-ha/paramedic/agent/ledger"
	"github.com/paramedic-ha/paramedic/agent/southbound"
	"github.com/paramedic-ha/paramedic/correlate"
	"github.com/paramedic-ha/paramedic/hw"
	"github.com/paramedic-ha/paramedic/notify"
)

// callTimeout bounds how long the agent itself waits for its loop.
const callTimeout = 5 * time.Second

// The Agent is the API's backend.
var _ api.Backend = (*Agent)(nil)

// Starting implements api.Backend.
func (a *Agent) Starting() bool { return a.cluster != nil && !a.loop.turning() }

// Query implements api.Backend.
func (a *Agent) Query(ctx context.Context, f func(*correlate.Engine)) error {
	return a.loop.call(ctx, func(time.Time) { f(a.loop.engine) })
}

// Say implements api.Backend.
func (a *Agent) Say(ctx context.Context, word ledger.Saying) (*correlate.Alarm, error) {
	type answer struct {
		alarm *correlate.Alarm
		err   error
	}
	// Buffered, because an answer may come after ctx ended.
	answers := make(chan answer, 1)
	err := a.loop.call(ctx, func(now time.Time) {
		eff, err := word.Apply(a.loop.engine, now)
		if err != nil {
			answers <- answer{err: err}
			return
		}
		a.loop.act(eff, now)
		if alarm, stands := a.loop.engine.Alarm(word.AlarmID); stands {
			answers <- answer{alarm: alarm}
			return
		}
		i := slices.IndexFunc(eff.Save, func(alarm *correlate.Alarm) bool { return alarm.ID == word.AlarmID })
		answers <- answer{alarm: eff.Save[i]} // what ended is among them
	})
	if err != nil {
		return nil, fmt.Errorf("a word about alarm %s: the loop does not answer: %w", word.AlarmID, err)
	}
	ans := <-answers
	if a.cluster != nil && errors.Is(ans.err, correlate.ErrNoAlarm) {
		return a.cluster.Say(ctx, word)
	}
	return ans.alarm, ans.err
}

// HandIn implements api.Backend.
func (a *Agent) HandIn(ctx context.Context, caller string, items []southbound.Item) ([]southbound.Verdict, error) {
	return a.monitors.Take(ctx, southbound.Origin{Caller: caller}, items)
}

// handedOn is cluster.HandIn.
func (a *Agent) handedOn(ctx context.Context, from southbound.Origin, items []southbound.Item) ([]southbound.Verdict, error) {
	if a.Starting() {
		return nil, errNotYet
	}
	return a.monitors.Take(ctx, from, items)
}

var errNotYet = errors.New("its agent is starting")

// applyMonitored is southbound.Apply.
func (a *Agent) applyMonitored(ctx context.Context, events []correlate.Event, limit int) ([]southbound.Outcome, error) {
	answers := make(chan []southbound.Outcome, 1) // an answer may come after ctx ended
	err := a.loop.call(ctx, func(time.Time) { answers <- southbound.Step(a.loop.engine, a.loop.step, events, limit) })
	if err != nil {
		return nil, fmt.Errorf("hand in events: the loop does not answer: %w", err)
	}
	return <-answers, nil
}

// Cluster implements api.Backend.
func (a *Agent) Cluster() api.Cluster {
	if a.cluster == nil {
		return nil
	}
	return a.cluster
}

// History implements api.Backend.
func (a *Agent) History() *history.Store { return a.past }

// Events implements api.Backend.
func (a *Agent) Events(limit int) []correlate.Event { return a.loop.feed.recent(limit) }

// Changes implements api.Backend.
func (a *Agent) Changes(after uint64) ([]api.SeqChange, <-chan struct{}, bool) {
	return a.loop.feed.after(after)
}

// Newest implements api.Backend.
func (a *Agent) Newest() uint64 { return a.loop.feed.newest() }

// Notify implements api.Backend.
func (a *Agent) Notify() notify.Service { return a.notifier }

// Ready implements api.Backend: every source has stated its first truth, or said why it can't.
func (a *Agent) Ready() error {
	var waiting []string
	if a.Starting() {
		waiting = append(waiting, "the peers (the agent is starting)")
	}
	for _, s := range a.supervised() {
		h, _, failure := s.condition()
		if !a.loop.hasStated(s.source.Name()) && h.Sight == hw.SightClear && failure == "" {
			waiting = append(waiting, s.source.Name())
		}
	}
	if len(waiting) > 0 {
		return fmt.Errorf("%w: %s", errWaiting, strings.Join(waiting, ", "))
	}
	return nil
}

var errWaiting = errors.New("still waiting for the first full statement of")

// Status implements api.Backend.
func (a *Agent) Status(ctx context.Context) (api.Status, error) {
	a.mu.Lock()
	c, started := a.config, a.started
	a.mu.Unlock()
	status := api.Status{
		Node: c.Node.Name, Zone: c.Node.Zone, Label: c.Cluster.Label, Version: a.version, Started: started,
		Alarms: make(map[string]int),
	}
	for _, s := range a.supervised() {
		h, restarts, failure := s.condition()
		sight, text := sightOf(h, failure)
		depth, coalesced, dropped := s.queue.depth()
		status.Sources = append(status.Sources, api.SourceStatus{
			Name: s.source.Name(), Sight: sight, Text: text, Restarts: restarts,
			Queue: api.QueueStatus{Depth: depth, Capacity: queueCapacity, Coalesced: coalesced, Dropped: dropped},
		})
	}
	// Before there is an engine an operator wants to know what keeps us from the peers, not to wait for it too.
	if status.Starting = a.Starting(); !status.Starting {
		err := a.Query(ctx, func(e *correlate.Engine) {
			for _, alarm := range e.Alarms() {
				status.Alarms[alarm.Severity.String()]++
			}
			status.Dismissed = len(e.Dismissed())
			status.Resources, status.Term = e.Len(), e.Term()
		})
		if err != nil {
			return api.Status{}, fmt.Errorf("ask the loop for the status: %w", err)
		}
	}
	status.Mutes = len(a.notifier.Mutes())
	status.Subscriptions = len(a.notifier.Subscriptions())
	for i, d := range a.notifier.Deliveries("") {
		if i == 0 { // the oldest comes first
			oldest := d.Created.UTC()
			status.Deliveries.Oldest = &oldest
		}
		if d.State == notify.DeliveryParked {
			status.Deliveries.Parked++
		} else {
			status.Deliveries.Pending++
		}
	}
	status.Outbox.Durable, status.Outbox.Text = a.notifier.Durable()
	return status, nil
}
