package cluster

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"time"
)

// errandAgain is how long after a request it is sent again: a datagram may be lost, and the peer knows a request that it has.
const errandAgain = 300 * time.Millisecond

// errandKey is what a request of another host is known by.
type errandKey struct {
	from string
	id   uint64
}

// errand is a request of another host: its answer once there is one.
type errand struct{ answer []byte }

// errands does what other hosts ask for, each once however often it comes, and not too many at a time. Its methods are safe from any
// goroutine.
type errands struct {
	log    *slog.Logger
	tell   func(node string, msg []byte) error
	atOnce int // requests that are being done; ofOne bounds those of one host, so that none takes all
	ofOne  int
	keep   int // requests that are known again

	mu      sync.Mutex
	running int
	hosts   map[string]int // of running
	known   map[errandKey]*errand
	order   []errandKey // of known, oldest first
	closed  bool
	group   sync.WaitGroup
	ctx     context.Context
	cancel  context.CancelFunc
}

// What becomes of a request that came.
type errandFate int

const (
	errandSettled errandFate = iota // it is begun, or its answer is sent again
	errandRunning                   // it is being done
	errandRefused                   // this host is stopping
	errandTooMany
)

func newErrands(log *slog.Logger, tell func(string, []byte) error, atOnce, ofOne, keep int) *errands {
	e := &errands{
		log: log, tell: tell, atOnce: atOnce, ofOne: ofOne, keep: keep, hosts: make(map[string]int), known: make(map[errandKey]*errand),
	}
	e.ctx, e.cancel = context.WithCancel(context.Background())
	return e
}

// close ends what is being done, and waits for it.
func (e *errands) close() {
	e.mu.Lock()
	e.closed = true
	e.mu.Unlock()
	e.cancel()
	e.group.Wait()
}

// take has work done for a host, on a goroutine of its own, and its answer sent. With forget the same request is done anew when it
// comes again.
func (e *errands) take(from string, id uint64, work func(context.Context) (answer []byte, forget bool)) errandFate {
	fate, answer := e.begin(errandKey{from, id}, work)
	if answer != nil {
		e.reply(from, answer)
	}
	return fate
}

// begin begins the work, or returns the answer that there is already.
func (e *errands) begin(key errandKey, work func(context.Context) ([]byte, bool)) (errandFate, []byte) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if old := e.known[key]; old != nil {
		if old.answer == nil {
			return errandRunning, nil
		}
		return errandSettled, old.answer
	}
	from := key.from
	switch {
	case e.closed:
		return errandRefused, nil
	case e.running >= e.atOnce, e.hosts[from] >= e.ofOne:
		return errandTooMany, nil
	}
	one := &errand{}
	e.known[key] = one
	if e.order = append(e.order, key); len(e.order) > e.keep {
		delete(e.known, e.order[0])
		e.order = slices.Delete(e.order, 0, 1)
	}
	e.running++
	e.hosts[from]++
	e.group.Go(func() {
		msg, forget := work(e.ctx)
		e.mu.Lock()
		if one.answer = msg; forget {
			delete(e.known, key)
		}
		e.running--
		if e.hosts[from]--; e.hosts[from] == 0 {
			delete(e.hosts, from)
		}
		e.mu.Unlock()
		e.reply(from, msg)
	})
	return errandSettled, nil
}

// reply does not wait.
func (e *errands) reply(to string, msg []byte) {
	if err := e.tell(to, msg); err != nil {
		e.log.Debug("an answer to a peer could not be sent", "peer", to, "error", err)
	}
}

// questions are what this host asks others, by the ID that their answer bears. Its methods are safe from any goroutine.
type questions[T any] struct {
	mu      sync.Mutex
	next    uint64
	waiting map[uint64]question[T]
}

// question waits for one answer; working has a word when the peer says that it is at it.
type question[T any] struct {
	peer    string
	answer  chan T
	working chan struct{}
}

func newQuestions[T any]() *questions[T] {
	// It begins elsewhere than the run before: answers of then are nobody's.
	return &questions[T]{next: rand.Uint64(), waiting: make(map[uint64]question[T])}
}

// open returns a new question to a peer, and its ID; close must follow.
func (q *questions[T]) open(peer string) (uint64, question[T]) {
	one := question[T]{peer, make(chan T, 1), make(chan struct{}, 1)}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.next++
	q.waiting[q.next] = one
	return q.next, one
}

func (q *questions[T]) close(id uint64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	delete(q.waiting, id)
}

// answered passes an answer on; one that nobody waits for, from another host than was asked, or a second one, is dropped.
func (q *questions[T]) answered(from string, id uint64, a T) {
	if one, ok := q.of(from, id); ok {
		select {
		case one.answer <- a:
		default:
		}
	}
}

// working passes on that the peer is at it.
func (q *questions[T]) working(from string, id uint64) {
	if one, ok := q.of(from, id); ok {
		select {
		case one.working <- struct{}{}:
		default: // that is known
		}
	}
}

func (q *questions[T]) of(from string, id uint64) (question[T], bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	one, ok := q.waiting[id]
	return one, ok && one.peer == from
}
