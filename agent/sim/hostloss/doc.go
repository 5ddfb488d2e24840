// Package hostloss runs many hosts in virtual time, some of which die, stall, are cut off, leave and come back; all decided by
// one seed. What it asks is whether their peers notice the deaths, speak for the dead, and never accuse the living.
//
// What is real: watch.Machine, takeover.Machine, and a delivery.Machine for each host and consumer. What is simulated, each in a
// file of its own:
//
//	network.go     links with delay and loss, brown-outs, bonds, switches, partitions; kernels that answer echoes
//	host.go        the machine, its kernel, and the agent's shell around the watch: it drains its socket before it looks at
//	               the time, believes nobody who has not answered a challenge, and stands still when its process or kernel does
//	membership.go  what memberlist says: joins and goodbyes within half a second, the lost after 5 to 8, to each at another time
//	mouth.go       the shell around takeover and deliveries; consumer.go who is told
//	fault.go       what may go wrong, how often
//	truth.go       what a host's trouble really was; invariant.go what must hold at each step, and in the end
//	measure.go     loads that are all of one kind, for figures
//	sim.go         seed, agenda, phases
//
// A verdict about a living host breaks a run unless its own trouble explains it: its kernel could not be heard for about as
// long as the level's deadline (truth.go has the arithmetic). Those are counted apart, by their cause.
//
// There is no shortcut: every heartbeat of every host is an event, a thousand hours of hosts take some minutes of one processor.
// Wall clocks jump and must not matter: only evenly running clocks reach the machines, each host's with another origin.
//
// Not simulated: the encoding and sealing of packets, the membership's own packets, loss on the way to consumers, the clear
// of an alarm by the host that is back. All have tests of their own.
//
// # Finding and replaying a failure
//
//	go test ./agent/sim/hostloss                                                    fixed seeds, in seconds
//	go test ./agent/sim/hostloss -run TestFreshSeeds -sim.for=10m                   new seeds; -sim.hosts=400 for many hosts
//	go test ./agent/sim/hostloss -run TestFreshSeeds -sim.seed=4711 -sim.trace=t.txt  one seed again, with its trace
//	go test ./agent/sim/hostloss -run TestFigures -v -timeout 0 -sim.hours=1000     latencies, and how often a verdict is false
//
// TestBrokenPartsAreCaught breaks one part at a time (see Bug) and demands that the invariants notice.
package hostloss
