// Package gossip will hold the peers: membership, what is replicated, who watches whom, and who speaks for a dead host.
// The types that it will carry (alarms, their terms and revisions, deliveries) are already made for it; nothing of it
// is built yet, and the configuration refuses its keys.
package gossip
