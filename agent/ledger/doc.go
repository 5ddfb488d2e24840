// Package ledger decides what this host writes for its peers, and what their writing means here.
//
// It is pure: no clock, goroutine, I/O or randomness of its own. What happens on this host goes in (the engine's effects,
// the inventory, what consumers were told), and what the replica has learned; what comes out are records to write and
// orders to the notifier and the engine. The shell around it is agent/cluster; agent/sim drives the same code over
// gossip/simnet. The form of the payloads is in payload.go, versioned, since they travel and rest.
package ledger
