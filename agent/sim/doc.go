// Package sim runs one host in virtual time: a small data centre's worth of bad luck, decided by one seed.
//
// What is real: correlate.Engine, one delivery.Machine per subscription, the classification of HTTP answers, the native
// form, the identity of notifications. What is simulated, each in a file of its own:
//
//	world.go     the truth: links, domains and what is wrong with them; and, from that alone, who is hit
//	source.go    the two sources that look at it: late, with edges lost, blind, unsure, panicking, restarted
//	process.go   the agent: it joins engine, machines and outbox as agent/ and notify/ do, and dies at any event
//	outbox.go    the file: group commits that take time, and what a crash leaves of them
//	consumer.go  who is told: well, slow, dead, refusing, forgetful about answering, crashing
//	fault.go     the generator: what may go wrong, how often
//	invariant.go what must hold at each step, and what must hold once all has calmed down
//	sim.go       seed, agenda, trace
//
// A run has no goroutine, no real clock and no other randomness than its seed, so the same seed gives the same trace byte
// for byte. Its phases: faults for Config.Faulty of virtual time; then calm, in which every newest revision must arrive;
// a restart in which nothing may be said; then everything is healed, and nothing may be left standing.
//
// The clock that the engine is given is the host's wall clock, which jumps. The machines are given one that runs evenly
// within a run of the process and follows the jumps between runs, as time.Time does with its monotonic reading.
//
// Not simulated: an outbox that can't be written at all, subscriptions that come and go, a reload of policies, the inbox
// and queues that coalesce (their own tests do that), sources other than these two. Many hosts are in package cluster beneath this one.
//
// # Finding and replaying a failure
//
//	go test ./agent/sim                                                    fixed seeds, in seconds
//	go test ./agent/sim -run TestFreshSeeds -sim.for=10m                   new seeds for ten minutes
//	go test ./agent/sim -run TestFreshSeeds -sim.seed=4711 -sim.trace=t.txt  one seed again, with its trace
//
// A failure names its seed, the virtual time and the last events before it; the trace file holds them all. When the code
// changes, a seed tells another story: keep what it found as a scenario beside the code that was wrong.
//
// TestBrokenPartsAreCaught breaks one part at a time (see Bug) and demands that the invariants notice.
package sim
