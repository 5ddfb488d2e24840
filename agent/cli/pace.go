package cli

import (
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync/atomic"
)

// The pace of the garbage collector. A collection amid a fault is what its slowest notifications wait for
// (docs/performance.md), so a small heap may grow to four times what lives in it (Go's default is two) before it is
// collected. One that holds the inventory of many hosts gets the room that a small one needs, and not three times what it holds.
const (
	gcPercent = 300
	gcLeast   = 50       // however much lives
	gcHeap    = 12 << 20 // bytes that a heap may grow to
	gcRoom    = 4 << 20  // by so many at least
)

// keepPace sets the pace after each collection, until stop. GOGC in the environment is left alone.
func keepPace() (stop func()) {
	if os.Getenv("GOGC") != "" {
		return func() {}
	}
	p := &pace{live: []metrics.Sample{{Name: "/gc/heap/live:bytes"}}}
	p.set(gcPercent)
	p.arm()
	return func() { p.stopped.Store(true) }
}

type pace struct {
	live    []metrics.Sample
	percent int
	stopped atomic.Bool
}

// arm has collected called after the next collection, which finds that nobody holds the object.
func (p *pace) arm() {
	runtime.AddCleanup(new([32]byte), (*pace).collected, p)
}

func (p *pace) collected() {
	if p.stopped.Load() {
		return
	}
	metrics.Read(p.live)
	p.set(paceOf(p.live[0].Value.Uint64()))
	p.arm()
}

// paceOf is how many percent of what lives may be allocated before the next collection.
func paceOf(live uint64) int {
	room := gcHeap - min(live, gcHeap-gcRoom)
	return int(min(gcPercent, max(gcLeast, room*100/max(live, 1))))
}

// set stops all goroutines for a moment, so it is left out when little would change.
func (p *pace) set(percent int) {
	if d := percent - p.percent; d > 5 || d < -5 {
		p.percent = percent
		debug.SetGCPercent(percent)
	}
}
