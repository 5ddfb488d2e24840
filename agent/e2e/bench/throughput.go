package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/paramedic-ha/paramedic/correlate"
	"github.com/paramedic-ha/paramedic/notify"
)

// throughput feeds a real engine as fast as it takes events, every one of which raises or clears an alarm; a real
// notifier keeps them in an outbox on a disk and tells a real consumer over loopback. All of it is this process.
func throughput(ctx context.Context, p plan, r *report) (err error) {
	before := machineNow()
	dir, err := os.MkdirTemp("/var/tmp", "paramedic-bench-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	ln, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	secret := notify.NewSecret([]byte("bench-secret-bench-secret-bench-"))
	c, err := newConsumer(ln, []byte("bench-secret-bench-secret-bench-"))
	if err != nil {
		return err
	}
	defer func() { _ = c.server.Close() }()
	notifications := 0
	counted := make(chan struct{})
	go func() {
		defer close(counted)
		for a := range c.got {
			if a.err == nil {
				notifications++
			}
		}
	}()

	metrics := prometheus.NewRegistry()
	n, err := notify.New(notify.Config{
		Node: "cmp-1", Label: "bench", Dir: dir, Log: slog.New(slog.DiscardHandler), Metrics: metrics,
		AllowCallbacks: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, // the consumer is in this process
	})
	if err != nil {
		return err
	}
	running, stop := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- n.Run(running) }()
	defer stop()
	if err := n.SetFile([]notify.Subscription{{
		ID: "5c0e0000-0000-4000-8000-000000000001", Name: "bench", Endpoints: []string{c.url}, Format: "native",
		Secret: secret, Role: notify.RoleAdmin, Origin: notify.OriginFile,
	}}); err != nil {
		return err
	}

	began := time.Now()
	events, err := feed(p, n)
	if err != nil {
		return err
	}
	fed := time.Since(began)
	for len(n.Deliveries("")) > 0 {
		select {
		case <-time.After(20 * time.Millisecond): // asking costs the notifier something, too
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	settled := time.Since(began)
	records, err := counter(metrics, "paramedic_notify_outbox_records_total")
	if err != nil {
		return err
	}
	stop()
	if err := <-done; err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	size, err := os.Stat(filepath.Join(dir, "paramedic.db"))
	if err != nil {
		return err
	}
	_ = c.server.Close()
	close(c.got)
	<-counted

	r.section(fmt.Sprintf("Events through engine and outbox: %d domains crash and run again", p.instances), before)
	r.atLeast("**events, until all is committed and told**", float64(events)/settled.Seconds(), "/s", 20_000)
	r.value("events through the engine, outbox beside it", float64(events)/fed.Seconds(), "/s")
	r.value("outbox records committed", records/settled.Seconds(), "/s")
	r.value("notifications sent, signed, answered (newer ones replace what waits)", float64(notifications)/settled.Seconds(), "/s")
	r.note("%d events; outbox file at the end %.1f MiB.", events, float64(size.Size())/(1<<20))
	return nil
}

// feed steps the engine for as long as planned. Every domain crashes and runs again, one after the other.
func feed(p plan, n *notify.Notifier) (events int, err error) {
	now := time.Now()
	e := correlate.New(correlate.Config{Home: "cmp-1", Term: n.Restored().Term}, nil)
	ids := make([]correlate.ID, p.instances)
	d := correlate.Delta{Source: "bench", Full: true}
	for i := range ids {
		ids[i] = correlate.NewID(correlate.KindDomain, fmt.Sprintf("6d1a6f0e-0000-4000-8000-%012d", i))
		d.Set = append(d.Set, correlate.Resource{ID: ids[i], Name: fmt.Sprintf("instance-%d", i), Project: project})
	}
	e.Topology(now, d)
	status := correlate.StatusFailed
	for end := now.Add(p.feed); now.Before(end); {
		for _, id := range ids {
			now = time.Now()
			eff := e.Step(now, correlate.Event{Source: "bench", Resource: id, Condition: correlate.CondCrash, Status: status, Occurred: now, Observed: now})
			if len(eff.Publish) != 1 {
				return events, fmt.Errorf("%s %s: %d revisions, want 1", id, status, len(eff.Publish))
			}
			eff.Publish[0].Found = now
			n.Publish(eff)
			events++
		}
		if status == correlate.StatusFailed {
			status = correlate.StatusOK
		} else {
			status = correlate.StatusFailed
		}
	}
	return events, nil
}

func counter(g prometheus.Gatherer, name string) (float64, error) {
	families, err := g.Gather()
	if err != nil {
		return 0, err
	}
	for _, f := range families {
		if f.GetName() == name {
			return f.GetMetric()[0].GetCounter().GetValue(), nil
		}
	}
	return 0, fmt.Errorf("no metric %s", name)
}
