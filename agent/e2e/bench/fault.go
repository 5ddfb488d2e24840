package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/paramedic-ha/paramedic/agent/e2e/lab"
)

// kind is a kind of fault, and how it is made and mended.
type kind struct {
	name      string
	short     string
	condition string
	affected  int // domains that each notification must name
	listener  []string
	from      string // what T01 is behind
	mended    string
	aim       time.Duration
	// fault and mend return when they began to act. Each names what the bare listener will name.
	fault, mend func(round int) (began time.Time, what string, err error)
}

func (s *stage) linkFault() kind {
	act := func(f func() error) func(int) (time.Time, string, error) {
		return func(int) (time.Time, string, error) {
			began := time.Now()
			return began, uplink, f()
		}
	}
	return kind{
		name: "Carrier lost → callback", short: "link", condition: "carrier", affected: len(s.domains), listener: []string{"link", uplink},
		from: "kernel, netlink", mended: "plugged", aim: 5 * time.Millisecond, fault: act(s.cable.Pull), mend: act(s.cable.Plug),
	}
}

func (s *stage) domainFault() kind {
	name := func(round int) string { return s.domains[round%len(s.domains)] }
	return kind{
		name: "qemu killed → callback", short: "domain", condition: "crash", affected: 1, listener: []string{"domain", lab.LibvirtSocket},
		from: "kernel, libvirtd", mended: "its start is asked for",
		fault: func(round int) (time.Time, string, error) {
			pid, err := s.libvirt.QEMU(name(round))
			if err != nil {
				return time.Time{}, "", err
			}
			began := time.Now()
			return began, name(round), unix.Kill(pid, unix.SIGKILL)
		},
		mend: func(round int) (time.Time, string, error) {
			began := time.Now()
			return began, name(round), s.libvirt.StartAgain(name(round))
		},
	}
}

// sample is one fault and what came of it; zero times for who was not there.
type sample struct {
	fault   time.Time
	floorAt time.Time // the bare listener had its message
	floor   time.Time // and its consumer the request
	agent   *arrived
	mend    time.Time
	cleared time.Time
	waited  time.Duration // by the agent's threads, together, for a processor

	floorCleared        time.Time
	alerted, alertEnded time.Time // Alertmanager's consumer had the body
	alert               string
}

// From the fault, or from its end, to the consumer.
func (s sample) told() time.Duration       { return s.agent.at.Sub(s.fault) }
func (s sample) floorTold() time.Duration  { return s.floor.Sub(s.fault) }
func (s sample) clear() time.Duration      { return s.cleared.Sub(s.mend) }
func (s sample) floorClear() time.Duration { return s.floorCleared.Sub(s.mend) }

// who listens during a block.
type who struct {
	agent, floor bool
	chain        *chain
}

// measure runs three blocks of a fault: the bare listener alone, both on the same faults, the agent alone.
func (s *stage) measure(ctx context.Context, k kind, p plan, r *report) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	before := machineNow()
	floor, err := s.startFloor(self, k.listener...)
	if err != nil {
		return err
	}
	defer func() { _ = floor.Kill() }() // at the latest: the next part starts its own
	if s.agent != nil {
		if err := s.agent.Stop(); err != nil {
			return err
		}
	}
	alone, err := s.block(ctx, k, p.alone, who{floor: true})
	if err != nil {
		return err
	}
	if err := s.startAgent(); err != nil {
		return err
	}
	if err := s.settle(ctx); err != nil {
		return err
	}
	both, err := s.block(ctx, k, p.faults, who{agent: true, floor: true})
	if err != nil {
		return err
	}
	if err := floor.Kill(); err != nil {
		return err
	}
	agentAlone, err := s.block(ctx, k, p.alone, who{agent: true})
	if err != nil {
		return err
	}
	r.faults(k, before, alone, both, agentAlone)
	return nil
}

// settle lets what was just started do its first work: libvirt's resyncs come closer together then.
func (s *stage) settle(ctx context.Context) error {
	select {
	case <-time.After(3 * time.Second):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *stage) block(ctx context.Context, k kind, n int, w who) ([]sample, error) {
	samples := make([]sample, 0, n)
	for range n {
		// Not in step with any timer of the machine or the agent.
		if err := pause(ctx, 80*time.Millisecond+w.apart()); err != nil {
			return nil, err
		}
		one, err := s.once(ctx, k, w)
		if err != nil {
			return nil, fmt.Errorf("fault %d: %w", len(samples)+1, err)
		}
		samples = append(samples, one)
	}
	return samples, nil
}

// apart is a time at random. Prometheus tells in step with its clock, so what follows at once would always have the longest way to the next scrape.
func (w who) apart() time.Duration {
	if w.chain != nil {
		return rand.N(time.Second)
	}
	return rand.N(120 * time.Millisecond)
}

// once makes a fault, waits until all who listen have told of it, mends it and waits again.
func (s *stage) once(ctx context.Context, k kind, w who) (one sample, err error) {
	round := s.rounds
	s.rounds++
	var what string
	waited := time.Duration(0)
	if w.agent {
		if waited, err = waitedOf(s.agent.Process().PID()); err != nil {
			return one, err
		}
	}
	if one.fault, what, err = k.fault(round); err != nil {
		return one, err
	}
	raised, err := s.told(k, w, what, true)
	if err != nil {
		return one, err
	}
	one.agent, one.floor, one.floorAt, one.alerted, one.alert = raised.agent, raised.floor, raised.floorAt, raised.alerted, raised.alert
	if w.agent {
		if one.waited, err = waitedOf(s.agent.Process().PID()); err != nil {
			return one, err
		}
		one.waited -= waited
	}
	if w.chain != nil {
		if err := pause(ctx, w.apart()); err != nil {
			return one, err
		}
	}
	if one.mend, what, err = k.mend(round); err != nil {
		return one, err
	}
	cleared, err := s.told(k, w, what, false)
	if cleared.agent != nil {
		one.cleared = cleared.agent.at
	}
	one.floorCleared, one.alertEnded = cleared.floor, cleared.alerted
	return one, err
}

// words are what was told of a fault, or of its end; zero times for who has not told yet.
type words struct {
	agent          *arrived
	floor, floorAt time.Time
	alerted        time.Time
	alert          string
}

// told waits until everybody who listens has told of the fault, or of its end.
func (s *stage) told(k kind, w who, what string, fault bool) (got words, err error) {
	late := time.NewTimer(patience)
	defer late.Stop()
	typ := "paramedic.fault.cleared"
	if fault {
		typ = "paramedic.fault.raised"
	}
	var alerts <-chan chainWord
	if w.chain != nil {
		alerts = w.chain.words
	}
	for w.agent && got.agent == nil || w.floor && got.floor.IsZero() || w.chain != nil && got.alerted.IsZero() {
		select {
		case a := <-s.consumer.got:
			if a.err != nil {
				return got, fmt.Errorf("a notification is not as it should be: %w", a.err)
			}
			if a.Type != typ || a.Data.Alarm.Condition != k.condition {
				continue
			}
			if n := len(a.Data.Affected); fault && n != k.affected {
				return got, fmt.Errorf("the notification names %d domains, want %d", n, k.affected)
			}
			got.agent = &a
		case h := <-s.floor.words:
			if h.What == what && h.Fault == fault {
				got.floor, got.floorAt = h.at, h.At
			}
		case a := <-alerts:
			if a.err != nil {
				return got, a.err
			}
			if a.device == what && a.firing == fault && got.alerted.IsZero() {
				got.alerted, got.alert = a.at, a.body
			}
		case <-late.C:
			return got, fmt.Errorf("agent told: %v, bare listener told: %v, Alertmanager told: %v after %v", got.agent != nil, !got.floor.IsZero(), !got.alerted.IsZero(), patience)
		}
	}
	return got, nil
}
