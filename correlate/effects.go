package correlate

import "time"

// Effects is what the shell must do after an engine call. The engine decides, the shell does.
//
// The shell keeps this order: Save is made durable (or 1 ms has passed, whichever is first) before any of Publish
// leaves the host; Publish goes out in its order, per alarm; Wake is looked at last.
type Effects struct {
	// Save holds every alarm whose record changed: those of Publish, and those that were acknowledged or commented on. A cleared
	// alarm is saved too; the shell drops its record when nobody is owed it any more and it is not Dismissed.
	Save []*Alarm
	// Publish holds the new revisions, oldest first. Consumers, streams and (later) peers are told.
	Publish []Change
	// Wake is when Tick must be called next, at the latest; zero means never. It replaces the Wake of earlier effects.
	Wake time.Time
}

// Change is one new revision on its way to those who want it.
type Change struct {
	Alarm *Alarm
	// Occurred and Observed are those of the event that caused this revision; of a revision that only follows, those of
	// the latest event of the same call. Of a raise they are the alarm's own. Zero when no event did: a timer ended, the
	// topology changed, an operator spoke.
	Occurred, Observed time.Time
	// Found is when the affected resources were known (Doctor's T02). The engine has no clock: the shell sets it.
	Found time.Time
}
