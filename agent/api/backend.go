package api

import (
	"context"

	"github.com/paramedic-ha/paramedic/agent/history"
	"github.com/paramedic-ha/paramedic/agent/ledger"
	"github.com/paramedic-ha/paramedic/agent/southbound"
	"github.com/paramedic-ha/paramedic/correlate"
	"github.com/paramedic-ha/paramedic/notify"
)

// Backend is what the server needs of the agent. All methods are safe for concurrent use; those with a context
// return when it ends, the others never block.
type Backend interface {
	// Status is the agent in one look.
	Status(ctx context.Context) (Status, error)
	// Starting says that there is no engine yet: this host asks its peers what it was before, for seconds at most.
	Starting() bool
	// Query runs f on the goroutine that owns the engine. f must be quick and keep no reference to what may change;
	// what the engine hands out is immutable and may be kept.
	// While the agent starts it waits for the engine.
	Query(ctx context.Context, f func(*correlate.Engine)) error
	// Say notes a word about a standing alarm, of this host or of another one, and returns it as it is then: of another host's,
	// as it will be when that host has heard. An error that is correlate.ErrNoAlarm says that no such alarm stands.
	Say(ctx context.Context, word ledger.Saying) (*correlate.Alarm, error)
	// HandIn takes the events of another monitor, and says what became of each; those about another host are judged there. They count
	// against the limit of the caller; without one of each event's monitor. An error means that none was taken.
	HandIn(ctx context.Context, caller string, items []southbound.Item) ([]southbound.Verdict, error)
	// History is what became of alarms of all hosts, as far as this agent has heard of it.
	History() *history.Store
	// Events holds at most limit of the recent events, newest last.
	Events(limit int) []correlate.Event
	// Changes are those of all hosts. It returns what came after the change numbered after, oldest first (zero: all that is still held), and a
	// channel that is closed when there is more. When some of it is no longer held, or after was never given out in
	// this run, lost is true and changes is all that is held.
	Changes(after uint64) (changes []SeqChange, next <-chan struct{}, lost bool)
	// Newest is the number of the newest change; zero before the first.
	Newest() uint64
	// Cluster is the other hosts; nil when this one is alone.
	Cluster() Cluster
	// Notify is the part that tells consumers.
	Notify() notify.Service
	// Ready is nil when every source has stated its first truth or is known to be absent or blind; else it says which
	// are still awaited.
	Ready() error
}

// SeqChange is a change with its place in the stream: numbers start at one in each run and grow by one. The revisions of one
// alarm only grow.
type SeqChange struct {
	Seq    uint64
	Change correlate.Change
	Was    *correlate.Alarm // its form before; nil: this agent had not heard of it
	What   string           // Change.Alarm.Last, what was said of it (correlate.Alarm.Noted), or Vanished: Change.Alarm is Was then
}

// Vanished is the What of an alarm that nobody says any more, and of which nobody has said that it ended: its host was
// forgotten, or its end missed.
const Vanished = "vanished"
