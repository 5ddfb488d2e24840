package gossip

import "fmt"

// Application messages share the peers' connection and its limits with the replica, which never sees them: a version byte
// (FormatVersion), a type byte of TypeReserved or above, and whatever their two ends have agreed on. They may be lost.

// Tell passes an application message to one member; see Peer.Send. Safe from any goroutine; it does not block.
func (r *Replicator) Tell(node string, msg []byte) error {
	t, err := TypeOf(msg)
	switch {
	case err != nil:
		return fmt.Errorf("tell %s: %w", node, err)
	case t < TypeReserved:
		return fmt.Errorf("tell %s: message type %d belongs to the replica", node, t)
	}
	return r.peer.Send(node, msg)
}

// deliver takes each message of a peer, on the peer's one delivering goroutine.
func (r *Replicator) deliver(from string, msg []byte) {
	if t, err := TypeOf(msg); err == nil && t >= TypeReserved && r.heard != nil {
		if err := r.heard(from, msg); err != nil {
			r.malformed(from, err)
		}
		return
	}
	select {
	case r.messages <- message{from, msg}:
	case <-r.stopped:
	}
}

func (r *Replicator) malformed(from string, err error) {
	r.undecodable.Add(1)
	r.peer.troubles.note(TroubleMalformed, from, "a message is dropped: "+err.Error())
}
