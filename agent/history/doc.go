// Package history keeps, over restarts and within bounds, what became of alarms: those that have cleared, and for each
// alarm, a standing one too, the steps of its life. It keeps what other monitors have handed in, as well (Keep), so that
// an event that comes again is known.
//
// All of it is kept behind the back of those who tell it: they never wait. The file is one of its own beside the outbox and is
// written at most once a second, so that it costs the deliveries nothing; what a crash can lose is that second.
package history
