package hostloss

import "time"

// eventKind says what is due.
type eventKind uint8

const (
	evArrive eventKind = iota // input arg reaches host's network card
	evWake                    // host's agent asked to be woken; arg is which time it asked
	evResume                  // host's process may run again
	evThaw                    // host's kernel may run again
	evTold                    // host's membership tells it announcement arg
	evSync                    // host's membership exchanges everything with all it reaches; arg is the agent's life
	evLose                    // host's membership gives up those that it does not reach; arg is the agent's life
	evHosts                   // host's agent hands its view to its watch; arg is the agent's life
	evCall                    // calls[arg]: what is rare
)

// event is one entry of the agenda. It holds no pointer: the agenda is most of what the simulation does.
type event struct {
	at    time.Duration
	order uint32
	kind  eventKind
	host  int32
	arg   uint32
}

func (e *event) before(o *event) bool {
	return e.at < o.at || e.at == o.at && int32(e.order-o.order) < 0 //nolint:gosec // the order wraps around; what waits at once is close together
}

// agenda is a heap of events with four children to a node: half as deep as one of two.
type agenda struct {
	heap  []event
	order uint32
}

func (a *agenda) push(e event) {
	a.order++
	e.order = a.order
	a.heap = append(a.heap, e)
	h := a.heap
	i := len(h) - 1
	for i > 0 {
		up := (i - 1) / 4
		if !e.before(&h[up]) {
			break
		}
		h[i] = h[up]
		i = up
	}
	h[i] = e
}

func (a *agenda) pop() event {
	h := a.heap
	first, last := h[0], h[len(h)-1]
	a.heap = h[:len(h)-1]
	h = a.heap
	if len(h) == 0 {
		return first
	}
	i := 0
	for {
		child := 4*i + 1
		if child >= len(h) {
			break
		}
		least := child
		for c := child + 1; c < min(child+4, len(h)); c++ {
			if h[c].before(&h[least]) {
				least = c
			}
		}
		if !h[least].before(&last) {
			break
		}
		h[i] = h[least]
		i = least
	}
	h[i] = last
	return first
}
