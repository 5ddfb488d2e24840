package ipmi

import (
	"bytes"
	"context"
	"slices"
	"testing"
	"time"

	"github.com/paramedic-ha/paramedic/correlate"
	"github.com/paramedic-ha/paramedic/hw"
)

// arrivals gives the time at which deltas with events came.
type arrivals chan time.Time

func (a arrivals) Emit(_ context.Context, d correlate.Delta) error {
	if !d.Full && len(d.Events) > 0 {
		select {
		case a <- time.Now():
		default:
		}
	}
	return nil
}

func (a arrivals) Health(hw.Health) {}

// From the console of the simulated BMC to the sink: the BMC's attention, the log, its clock.
func BenchmarkEventToSink(b *testing.B) {
	s := startSimulator(b)
	told := make(arrivals, 16)
	source, err := newSource(Config{Host: self0, Dir: b.TempDir(), Scan: time.Hour}, s.open)
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- source.Run(ctx, told) }()
	for source.counters.readings.Load() < 14 {
		<-time.After(10 * time.Millisecond)
	}
	<-time.After(500 * time.Millisecond)
	var all []time.Duration
	on := false
	for b.Loop() {
		<-time.After(20 * time.Millisecond)
		for len(told) > 0 {
			<-told
		}
		on = !on
		begun := time.Now()
		s.bit(0x10, 1, on)
		all = append(all, (<-told).Sub(begun))
	}
	slices.Sort(all)
	b.ReportMetric(float64(all[len(all)/2].Microseconds()), "µs-median")
	b.ReportMetric(float64(all[len(all)-1].Microseconds()), "µs-worst")
	cancel()
	<-ended
}

// canned answers each command with the same bytes.
type canned []byte

func (c canned) Do(Request) ([]byte, error) { return bytes.Clone(c), nil }
func (canned) Attention() <-chan struct{}   { return nil }
func (canned) Close() error                 { return nil }

// What our side of reading a sensor costs.
func BenchmarkReading(b *testing.B) {
	source, err := newSource(Config{Host: self0}, func() (Transport, error) { return canned{45, 0xC0, 0, 0}, nil })
	if err != nil {
		b.Fatal(err)
	}
	w := &watch{Source: source}
	p := &point{sensor: &sensor{name: "Ambient", kind: typeTemperature, event: eventThreshold}, limited: true}
	b.ReportAllocs()
	for b.Loop() {
		if err := w.look(b.Context(), p, nil); err != nil {
			b.Fatal(err)
		}
	}
}

// The first scan: who the BMC is, all its records, all sensors with their thresholds.
func BenchmarkFirstScan(b *testing.B) {
	s := startSimulator(b)
	var commands uint64
	for b.Loop() {
		source, err := newSource(Config{Host: self0}, func() (Transport, error) {
			for { // the simulator takes one connection at a time, and is slow to see the end of the last
				if t, err := s.open(); err == nil {
					return t, nil
				}
			}
		})
		if err != nil {
			b.Fatal(err)
		}
		stated := make(chan int, 1)
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan error, 1)
		go func() { ended <- source.Run(ctx, statement{stated}) }()
		if <-stated == 0 {
			b.Fatal("the BMC did not answer")
		}
		commands = source.line.commands.Load()
		cancel()
		<-ended
	}
	b.ReportMetric(float64(commands), "commands")
}

// statement gives the number of resources of the full statement.
type statement struct{ stated chan int }

func (s statement) Emit(_ context.Context, d correlate.Delta) error {
	if d.Full {
		s.stated <- len(d.Set)
	}
	return nil
}

func (statement) Health(hw.Health) {}
