package gossip

import (
	"sync"

	"github.com/hashicorp/memberlist"
)

// links carry what is too long for a datagram: one connection at a time to each node, in order, each with a goroutine
// that ends when nothing waits for the node. No more than maxLinks are connected at once; the others wait.
type links struct {
	p    *Peer
	wg   sync.WaitGroup
	busy chan struct{}

	mu     sync.Mutex
	queues map[string]*link
	closed bool
}

type link struct {
	waiting [][]byte
	bytes   int
}

// Bounds of one link. The newest is dropped: the repair brings it.
const (
	linkLength = 256
	linkBytes  = 4 << 20
	maxLinks   = 32
)

func newLinks(p *Peer) *links {
	return &links{p: p, queues: map[string]*link{}, busy: make(chan struct{}, maxLinks)}
}

func (l *links) send(to memberlist.Node, b []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	q := l.queues[to.Name]
	switch {
	case l.closed:
		return
	case q == nil:
		q = &link{}
		l.queues[to.Name] = q
		l.wg.Add(1)
		go l.drain(to.Name, q)
	case len(q.waiting) >= linkLength || q.bytes+len(b) > linkBytes:
		l.p.drop(dropLink)
		return
	}
	q.waiting = append(q.waiting, b)
	q.bytes += len(b)
}

func (l *links) drain(node string, q *link) {
	defer l.wg.Done()
	for {
		l.mu.Lock()
		if len(q.waiting) == 0 || l.closed {
			delete(l.queues, node)
			l.mu.Unlock()
			return
		}
		b := q.waiting[0]
		q.waiting = q.waiting[1:]
		q.bytes -= len(b)
		l.mu.Unlock()

		list := l.p.list.Load()
		to, ok := l.p.members.get(node) // where it is now
		if list == nil || !ok {
			l.p.drop(dropLink)
			continue
		}
		l.busy <- struct{}{} // each is given back: no connection of ours outlives streamLimit
		err := list.SendReliable(&to, b)
		<-l.busy
		if err != nil {
			l.p.drop(dropLink)
			l.p.cfg.Log.Debug("a long message did not reach a peer", "peer", node, "error", err)
		}
	}
}

// wait ends the links: after the sockets are closed none of them can hang.
func (l *links) wait() {
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
	l.wg.Wait()
}
