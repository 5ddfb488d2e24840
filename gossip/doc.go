// Package gossip is the peers: who they are (peer.go, over hashicorp/memberlist), what each knows of all the others
// (replica.go), and how that is written down (codec.go).
//
// A Replica is a pure value machine: records in, messages out; time is an argument. A Peer owns the goroutines and the
// sockets and moves messages between the replicas. Nothing here knows what an alarm or a subscription is: payloads are
// bytes, and the agent gives them meaning.
//
// The agent does not use it yet: the configuration still refuses the keys of clusters. What is missing is who writes
// which records (inventory, alarms, deliveries, subscriptions) and who acts on those of others.
package gossip
