// Package gossip is the peers: who they are (peer.go, over hashicorp/memberlist), what each knows of all the others
// (replica.go), and how that is written down (codec.go).
//
// A Replica is a pure value machine: records in, messages out; time is an argument. A Peer owns the goroutines and the
// sockets and moves messages between the replicas. Nothing here knows what an alarm or a subscription is: payloads are
// bytes, and the agent gives them meaning.
//
// A Replicator joins the two: what is written here is pushed to all, and each second two replicas are compared. The agent
// gives the records their meaning (agent/ledger) and the package its life (agent/cluster). What operators see of it is in
// docs/cluster.md, what a holder of the key can do in docs/security.md.
package gossip
