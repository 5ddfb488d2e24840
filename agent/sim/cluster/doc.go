// Package cluster runs many hosts in virtual time on one network that loses, doubles, delays and parts: all decided by one
// seed.
//
// What is real: gossip.Replica with its codec on gossip/simnet, agent/ledger, correlate.Engine, one delivery.Machine for each
// host and subscription, the native form and the identity of notifications, Subscription.Wants. What is simulated, each in a
// file of its own:
//
//	host.go      the machine: its disk, its clock, its configuration, its links and domains
//	agent.go     one run of the agent: it joins the parts as agent/ and agent/cluster do, and is killed at any time
//	level.go     the exchange of records, as gossip.Replicator does it, and the file of the shared ones
//	notifier.go  notify.Notifier with its machines; outbox.go its file; relay.go how deliveries are handed over
//	wish.go      subscriptions as those who made them know them: whose 201 counts
//	consumer.go  who is told: well, slow, dead, refusing, forgetful, and out of reach of some hosts
//	fault.go     the generator: what may go wrong, how often; invariant.go what must hold; sim.go seed and phases
//
// Phases: faults for Config.Faulty; then calm, after which all must hold the same, each consumer must know the newest of all
// that concerns it, and nothing may be written or sent any more; a power cycle, after which nothing new may be said; then
// all is healed.
//
// Two things excuse a consumer's wrong belief. An alarm that no disk and no agent holds any more (residue: a crash before the
// commit, or the image of a host made anew while all others were down). And a word about a subscription given at a host that
// did not know the one before (the later clock wins), or whose clock was wrong by more than a minute.
//
// Not simulated: the membership (who is connected is known within a second), the bounds and coalescing of queues, keys,
// verification of callbacks, a disk that fails, an absence of thirty days, and the encoding of hand-over messages. All have
// tests of their own.
//
// # Finding and replaying a failure
//
//	go test ./agent/sim/cluster                                                    fixed seeds, in seconds
//	go test ./agent/sim/cluster -run TestFreshSeeds -sim.for=10m                   new seeds; -sim.hosts=40 for many hosts
//	go test ./agent/sim/cluster -run TestFreshSeeds -sim.seed=4711 -sim.trace=t.txt  one seed again, with its trace
//
// TestBrokenPartsAreCaught breaks one part at a time (see Bug) and demands that the invariants notice.
package cluster
