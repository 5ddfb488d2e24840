// Package cluster joins this host to its peers: it carries out what agent/ledger decides.
//
// What the engine and the notifier say goes into a mailbox that never blocks (mailbox.go); one goroutine takes it to the
// ledger, with what the replica has learned, writes the ledger's records and carries out its orders (cluster.go). Deliveries
// that this host can't make are handed over by messages beside the replica (relay.go). The records that belong to no host
// rest in a file (store.go).
package cluster
