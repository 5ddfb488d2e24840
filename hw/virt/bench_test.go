package virt

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"testing"
	"time"

	"github.com/digitalocean/go-libvirt"

	"github.com/paramedic-ha/paramedic/correlate"
)

// BenchmarkEvent measures from the arrival of a real event's frame to Emit, with 50 domains known.
func BenchmarkEvent(b *testing.B) {
	h := newHost(b)
	h.start()
	dom := h.boot(guest{name: "a", uuid: uuidA, mac: macA, code: guestIdle})
	h.fill(49)
	w := watch(b, Config{Socket: h.readOnlySocket(), Resync: time.Hour, Log: slog.New(slog.DiscardHandler)})
	eventually(b, "all are watched", func() bool { return w.domains() == 50 })
	id := correlate.NewID(correlate.KindDomain, uuidA)
	told := 0
	b.ResetTimer()
	for b.Loop() {
		h.must("reset", h.lib.DomainReset(dom, 0))
		told++
		eventually(b, "told", func() bool { return w.said(id, correlate.CondReboot, correlate.StatusFailed) >= told })
	}
	b.StopTimer()
	w.mu.Lock()
	defer w.mu.Unlock()
	took := w.eventDelays
	slices.Sort(took)
	if len(took) > 0 {
		b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-µs")
		b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-µs")
	}
}

// BenchmarkResync measures reading the state of 50 domains and eight definitions, and taking the answer.
func BenchmarkResync(b *testing.B) {
	h := newHost(b)
	h.start()
	h.boot(guest{name: "a", uuid: uuidA, mac: macA, code: guestIdle})
	h.fill(49)
	src, err := New(Config{Socket: h.readOnlySocket()})
	if err != nil {
		b.Fatal(err)
	}
	r := &run{source: src.(*source), sink: newWorld(), log: slog.New(slog.DiscardHandler)}
	r.track = newTracker("host/h", r.owners)
	conn, path, err := r.dial(context.Background())
	if err != nil {
		b.Fatal(err)
	}
	w := newWire(conn, new(counters), func(error) {})
	c := newClient(w, time.Minute)
	defer c.close()
	if _, err := c.open(r, path); err != nil {
		b.Fatal(err)
	}
	first, err := c.all(&job{})
	if err != nil {
		b.Fatal(err)
	}
	r.track.take(first, true)
	var reread []libvirt.UUID
	b.ResetTimer()
	for b.Loop() {
		j, _ := r.nextJob(true, &reread)
		a, err := c.all(&j)
		if err != nil {
			b.Fatal(err)
		}
		if d := r.track.take(a, false); len(d.Events)+len(d.Set) > 0 {
			b.Fatalf("a resync without a change says %+v", d)
		}
	}
}

// fill defines more domains, which stay off.
func (h *host) fill(n int) {
	h.t.Helper()
	for i := range n {
		h.define(guest{name: fmt.Sprintf("off-%d", i), uuid: fmt.Sprintf("8a3c1f52-0000-4000-9000-%012d", i), mac: fmt.Sprintf("52:54:00:00:01:%02x", i), code: guestIdle})
	}
}

func (w *world) domains() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := 0
	for id := range w.resources {
		if id.Kind() == correlate.KindDomain {
			n++
		}
	}
	return n
}
