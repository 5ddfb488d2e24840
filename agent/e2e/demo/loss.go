package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"syscall"
	"time"
)

// frozen is how long an agent stands still in the demo.
const frozen = time.Second

// call is a notification and who got it.
type call struct {
	*consumer
	told
}

// hostLoss has an agent stand still, which is no loss, and cuts a host off, which is one.
func (s *stage) hostLoss(ctx context.Context, lost, other *node) error {
	fmt.Fprint(s.out, "A host that is cut off, or dead, calls nobody. Its peers watch it, twenty times a second, and call for it.\n\n")
	if err := s.together(); err != nil {
		return err
	}
	if err := s.subscribePair(other); err != nil {
		return err
	}
	if err := s.scenes(ctx, "", []scene{{
		fmt.Sprintf("the agent of %s stands still for %v (SIGSTOP, SIGCONT): its kernel answers its peers, nobody is called", other.host.Name, frozen),
		func() error { return freeze(ctx, other) }, nil, "",
	}}); err != nil {
		return err
	}

	fmt.Fprintf(s.out, "■ %s is cut off the management network, with all that runs on it\n", lost.host.Name)
	began := time.Now()
	if err := lost.port.Pull(); err != nil {
		return err
	}
	calls, err := s.gather(ctx, began, map[string][]string{
		"pair": {"raised compute probable", "changed compute confirmed"}, "red": {"raised compute confirmed"},
		"blue": {"raised compute confirmed"}, "ops": {"raised host-lost confirmed"},
	})
	if err != nil {
		return err
	}
	for _, c := range calls {
		if c.name == "ops" {
			s.proof(c)
		}
	}

	fmt.Fprintf(s.out, "\n■ the cable of %s is put back: it says itself that it was isolated, and that it lives, with its machines\n", lost.host.Name)
	began = time.Now()
	if err := lost.port.Plug(); err != nil {
		return err
	}
	_, err = s.gather(ctx, began, map[string][]string{
		"pair": {"cleared compute"}, "red": {"cleared compute"}, "blue": {"cleared compute"}, "ops": {"cleared host-lost"},
	})
	fmt.Fprintln(s.out)
	return err
}

// subscribePair makes a fourth consumer: whoever can switch back cheaply wants to know early.
func (s *stage) subscribePair(at *node) error {
	pair := &consumer{name: "pair", project: red, confidence: "probable"}
	if err := pair.listen(s.outside, s.bin, consumerAddr+":8090"); err != nil {
		return err
	}
	if err := at.host.WriteFile(pair.secretFile(), pair.secret(), 0o600); err != nil {
		return err
	}
	s.consumers = append(s.consumers, pair)
	fmt.Fprintf(s.out, "■ a fourth consumer subscribes, at %s: an active-standby pair of red, which switches back cheaply and so wants to know early\n", at.host.Name)
	if err := s.subscribeOne(at, pair); err != nil {
		return err
	}
	_, err := s.inForce()
	fmt.Fprintln(s.out)
	return err
}

func freeze(ctx context.Context, n *node) error {
	if err := n.agent.Process().Signal(syscall.SIGSTOP); err != nil {
		return err
	}
	select {
	case <-time.After(frozen):
	case <-ctx.Done():
	}
	return n.agent.Process().Signal(syscall.SIGCONT)
}

// gather waits until each consumer was told what it must be, in order, and prints all that in the order of time. What a host
// that was isolated says of that may come or not: it is over when the host can say it.
func (s *stage) gather(ctx context.Context, began time.Time, want map[string][]string) ([]call, error) {
	var calls []call
	for _, c := range s.consumers {
		for left := len(want[c.name]); left > 0; {
			t, err := c.take(patience)
			if err != nil {
				return nil, fmt.Errorf("%s: %w; the agents say: %s", c.name, err, s.logs())
			}
			calls = append(calls, call{c, t})
			if t.Event.Data.Alarm.Condition != "isolated" {
				left--
			}
		}
	}
	select {
	case <-time.After(quiet):
	case <-ctx.Done():
	}
	for _, c := range s.consumers {
		for t, err := c.take(0); err == nil; t, err = c.take(0) {
			calls = append(calls, call{c, t})
		}
	}
	slices.SortStableFunc(calls, func(a, b call) int { return a.Received.Compare(b.Received) })
	got := map[string][]string{}
	var errs []error
	for _, c := range calls {
		d := c.Event.Data
		what := strings.TrimPrefix(c.Event.Type, "paramedic.fault.") + " " + d.Alarm.Condition
		why := cmp.Or(d.Alarm.ClearReason, d.Alarm.Confidence)
		by := ""
		if d.Reporter != "" {
			by = " of " + d.Host + ", told by " + d.Reporter
		}
		fmt.Fprintf(s.out, "    %-4s %7.1f ms   %s%s, %s, %s: %s\n", c.name, milliseconds(c.Received.Sub(began)), what, by, why, d.Alarm.Severity, c.machines())
		if c.Signature != "good" {
			errs = append(errs, fmt.Errorf("%s: the signature is %s", c.name, c.Signature))
		}
		if d.Alarm.ClearReason == "" {
			what += " " + d.Alarm.Confidence
		}
		if d.Alarm.Condition != "isolated" {
			got[c.name] = append(got[c.name], what)
		}
	}
	for _, c := range s.consumers {
		if !slices.Equal(got[c.name], want[c.name]) {
			errs = append(errs, fmt.Errorf("%s was told %q, want %q; the agents say: %s", c.name, got[c.name], want[c.name], s.logs()))
		}
	}
	return calls, errors.Join(errs...)
}

// proof prints by what a host was found lost.
func (s *stage) proof(c call) {
	e := c.Event.Data.Evidence
	fmt.Fprintf(s.out, "    %s spoke. The proof, as the administrators have it; %v counted the votes:\n", c.Event.Data.Reporter, e["counted_by"])
	for _, name := range slices.Sorted(maps.Keys(e)) {
		if voter, ok := strings.CutPrefix(name, "vote."); ok {
			fmt.Fprintf(s.out, "      %s: %v\n", voter, e[name])
		}
	}
}
