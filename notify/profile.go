package notify

import "sync"

// ring keeps the stages of the last settled notifications.
type ring struct {
	mu   sync.Mutex
	all  []Stages
	next int
}

func (r *ring) add(s Stages) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.all) < profileSize {
		r.all = append(r.all, s)
		return
	}
	r.all[r.next] = s
	r.next = (r.next + 1) % profileSize
}

func (r *ring) list() []Stages {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append(append(make([]Stages, 0, len(r.all)), r.all[r.next:]...), r.all[:r.next]...)
}
