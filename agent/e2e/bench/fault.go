package main

import (
	"context"
	"errors"
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
		from: "kernel, netlink", aim: 5 * time.Millisecond, fault: act(s.cable.Pull), mend: act(s.cable.Plug),
	}
}

func (s *stage) domainFault() kind {
	name := func(round int) string { return s.domains[round%len(s.domains)] }
	return kind{
		name: "qemu killed → callback", short: "domain", condition: "crash", affected: 1, listener: []string{"domain", lab.LibvirtSocket},
		from: "kernel, libvirtd",
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
}

// who listens during a block.
type who struct{ agent, floor bool }

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
		pause := 80*time.Millisecond + rand.N(120*time.Millisecond)
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		one, err := s.once(k, w)
		if err != nil {
			return nil, fmt.Errorf("fault %d: %w", len(samples)+1, err)
		}
		samples = append(samples, one)
	}
	return samples, nil
}

// once makes a fault, waits until all who listen have told of it, mends it and waits again.
func (s *stage) once(k kind, w who) (one sample, err error) {
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
	if one.agent, one.floor, one.floorAt, err = s.told(k, w, what, true); err != nil {
		return one, err
	}
	if w.agent {
		if one.waited, err = waitedOf(s.agent.Process().PID()); err != nil {
			return one, err
		}
		one.waited -= waited
	}
	if one.mend, what, err = k.mend(round); err != nil {
		return one, err
	}
	a, _, _, err := s.told(k, w, what, false)
	if a != nil {
		one.cleared = a.at
	}
	return one, err
}

// told waits until everybody who listens has told of the fault, or of its end.
func (s *stage) told(k kind, w who, what string, fault bool) (a *arrived, floor, floorAt time.Time, err error) {
	late := time.NewTimer(patience)
	defer late.Stop()
	typ := "paramedic.fault.cleared"
	if fault {
		typ = "paramedic.fault.raised"
	}
	for w.agent && a == nil || w.floor && floor.IsZero() {
		select {
		case got := <-s.consumer.got:
			if got.err != nil {
				return nil, floor, floorAt, fmt.Errorf("a notification is not as it should be: %w", got.err)
			}
			if got.Type != typ || got.Data.Alarm.Condition != k.condition {
				continue
			}
			if n := len(got.Data.Affected); fault && n != k.affected {
				return nil, floor, floorAt, fmt.Errorf("the notification names %d domains, want %d", n, k.affected)
			}
			a = &got
		case h := <-s.floor.words:
			if h.What == what && h.Fault == fault {
				floor, floorAt = h.at, h.At
			}
		case <-late.C:
			return nil, floor, floorAt, errors.Join(fmt.Errorf("agent told: %v, bare listener told: %v after %v", a != nil, !floor.IsZero(), patience))
		}
	}
	return a, floor, floorAt, nil
}
