package cluster

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/paramedic-ha/paramedic/gossip"
)

// A host that starts asks members what they know of it, so that it need not wait until an exchange of digests happens to
// find it level with one of them, in a cluster where something always changes.
const (
	typeKnown  = gossip.TypeReserved + 2 // what do you know of me?
	typeKnowns = gossip.TypeReserved + 3 // this

	knownEvery = 50 * time.Millisecond
	knownPeers = 3   // members that are asked at a time, at random, and must be level with us, or all if there are fewer
	knownRate  = 200 // answers a second; who gets none asks again, and others
	knownLimit = 500 * time.Millisecond
)

// knowledge is how much a replica has of one host's records.
type knowledge struct {
	Settled bool           `json:"settled"` // the one that says so has itself heard from its peers
	Records int            `json:"records"` // deleted ones included
	Newest  gossip.Version `json:"newest"`
}

// told is what a member knows of us.
type told struct {
	by string
	knowledge
}

func knowledgeOf(r *gossip.Replica, host string) (k knowledge) {
	k.Records, k.Newest = r.Extent(host)
	return k
}

// covers reports whether nothing is missing here that another one has.
func (k knowledge) covers(o knowledge) bool {
	return k.Records >= o.Records && k.Newest.Compare(o.Newest) >= 0
}

// begunMembers are the other members that know their term, and so what they were before.
func (c *Cluster) begunMembers() []string {
	var names []string
	for _, m := range c.repl.Peer().Members() {
		if m.Node != c.node && m.Term != 0 {
			names = append(names, m.Node)
		}
	}
	return names
}

// askKnown asks some of them; the answers come to knowns.
func (c *Cluster) askKnown(names []string) {
	rand.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
	for _, name := range names[:min(len(names), knownPeers)] {
		_ = c.repl.Tell(name, encodeMessage(typeKnown, nil)) // another one is asked soon
	}
}

// heard takes the messages beside the replica. It does not block for longer than the replica takes for an answer.
func (c *Cluster) heard(from string, msg []byte) error {
	t, body, err := openMessage(msg)
	switch {
	case err != nil:
		return err
	case t == typeKnown:
		return c.tellKnown(from)
	case t == typeKnowns:
		var k knowledge
		if err := json.Unmarshal(body, &k); err != nil {
			return fmt.Errorf("what a peer knows of us: %w", err)
		}
		if k.Settled {
			select {
			case c.knowns <- told{from, k}:
			default: // there are answers enough
			}
		}
		return nil
	}
	if t == typeVerdict || t == typeClaim {
		return c.watch.heard(from, t, body)
	}
	if t == typeEvents || t == typeVerdicts {
		return c.courier.heard(from, t, body)
	}
	return c.relay.heard(from, t, body)
}

func (c *Cluster) tellKnown(to string) error {
	if !c.asked.Allow() {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), knownLimit)
	defer cancel()
	var k knowledge
	if err := c.repl.View(ctx, func(r *gossip.Replica) { k = knowledgeOf(r, to) }); err != nil {
		return nil // we are busy or stopping, which is not the sender's fault; it asks others
	}
	k.Settled = c.begun.Load()
	body, err := json.Marshal(k)
	if err != nil {
		return fmt.Errorf("write what is known of %s: %w", to, err)
	}
	_ = c.repl.Tell(to, encodeMessage(typeKnowns, body)) // it asks again
	return nil
}
