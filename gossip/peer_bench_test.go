package gossip

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"testing"
	"time"
)

// BenchmarkPowerCycle measures how long it takes until all hosts of a cluster know each other that get power at once, in
// any order: first with nothing but one seed in common, then with what they kept on disk and the seed switched off. All
// run in this process and share its processors.
func BenchmarkPowerCycle(b *testing.B) {
	for _, count := range []int{50, 200} {
		b.Run(fmt.Sprint(count, "_hosts"), func(b *testing.B) {
			var first, again time.Duration
			var memory, routines float64
			for b.Loop() {
				n := newTestNet(b)
				configs := make([]PeerConfig, count)
				for i := range configs {
					configs[i] = n.config(i + 1)
					configs[i].Dir = b.TempDir()
				}
				var before, after runtime.MemStats
				runtime.GC()
				runtime.ReadMemStats(&before)
				begun := runtime.NumGoroutine()
				cycle := func(configs []PeerConfig) ([]*running, time.Duration) {
					from := time.Now()
					var all []*running
					for _, i := range rand.Perm(len(configs)) {
						all = append(all, start(b, configs[i]))
					}
					together(b, all...)
					return all, time.Since(from)
				}
				all, took := cycle(configs)
				first += took
				runtime.GC()
				runtime.ReadMemStats(&after)
				memory = float64(after.HeapAlloc-before.HeapAlloc) / float64(count) / 1024
				routines = float64(runtime.NumGoroutine()-begun) / float64(count)
				for _, r := range all {
					r.end(errAbandon)
				}
				for _, r := range all {
					if err := r.kill(); err != nil {
						b.Fatal(err)
					}
				}
				all, took = cycle(configs[1:])
				again += took
				for _, r := range all {
					r.end(errAbandon)
				}
				for _, r := range all {
					if err := r.kill(); err != nil {
						b.Fatal(err)
					}
				}
			}
			b.ReportMetric(first.Seconds()/float64(b.N), "first-s")
			b.ReportMetric(again.Seconds()/float64(b.N), "again-s")
			b.ReportMetric(memory, "KiB/host")
			b.ReportMetric(routines, "goroutines/host")
		})
	}
}
