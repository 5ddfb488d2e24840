package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/paramedic-ha/paramedic/agent/e2e/lab"
)

// Aims of host loss.
const (
	probableAim  = 500 * time.Millisecond // from the cut to the consumer that asked for probable, p99
	confirmedAim = 850 * time.Millisecond // the same, confirmed
)

const (
	watchPort = 7947 // beside the gossip's

	// Hosts that are long gone are nobody's suspects, so cuts that are so far apart are each a host's alone.
	cutsApart = 2500 * time.Millisecond
	// cutFor bounds how long a host is cut off until plain memberlist has noticed.
	cutFor = 40 * time.Second
	// levelWithin bounds how long plain memberlist may take until all its nodes know each other, and mostWrong how often its nodes may
	// declare hosts dead that live, in one size: each such claim is refuted to all, which takes the processors from all that is measured.
	levelWithin = time.Minute
	mostWrong   = 500
)

// lossStage is a cloud that loses hosts, and who hears of it.
type lossStage struct {
	*cloud
	probable, confirmed wish
	plain               []*plain

	losses []*loss // of this size
	before []*loss // of smaller ones
}

// unmeasured stands for what a memberlist that was given up would have taken.
const unmeasured time.Duration = -1

// loss is one host cut off.
type loss struct {
	host      string
	at        time.Time
	healed    time.Time     // its cable is back
	probable  time.Duration // until a consumer had the POST
	confirmed time.Duration
	left      []time.Duration // as plain of the stage; zero: not within cutFor, or unmeasured
	cleared   time.Duration   // from the cable's return until the consumer of confirmed had the clear
	err       error
}

// hostLoss cuts hosts off a growing cluster.
func hostLoss(ctx context.Context, p plan, r *report) (err error) {
	c, err := buildCloud(p.sizes[len(p.sizes)-1])
	s := &lossStage{cloud: c, plain: plainSettings()}
	if c != nil {
		defer func() {
			for _, l := range s.plain {
				l.stop()
			}
			if err != nil && len(c.members) > 0 && c.members[0].agent != nil {
				err = fmt.Errorf("%w; the first agent says: %s", err, lastOf(c.members[0].agent.Log()))
			}
			err = errors.Join(err, c.lab.Close())
		}()
	}
	if err != nil {
		return err
	}
	started := 0
	for _, n := range p.sizes {
		members := c.members[:n]
		if err := each(members, countWatch); err != nil {
			return err
		}
		if err := c.start(members[started:], n); err != nil {
			return err
		}
		if started == 0 {
			if err := s.listen(members); err != nil {
				return err
			}
		}
		started = n
		for _, l := range s.plain {
			if l.givenUp != "" {
				continue
			}
			if err := l.grow(members); err != nil {
				return err
			}
		}
		if err := s.size(ctx, members, p, r); err != nil {
			return fmt.Errorf("%d hosts: %w", n, err)
		}
	}
	return nil
}

// listen makes the two consumers and subscribes them.
func (s *lossStage) listen(members []*member) (err error) {
	for _, w := range []struct {
		level string
		into  *wish
	}{{"probable", &s.probable}, {"confirmed", &s.confirmed}} {
		if *w.into, err = s.consumer(); err != nil {
			return err
		}
		filter := map[string]any{"conditions": []string{"host-lost"}, "min_confidence": w.level}
		id, err := members[0].subscribeTo(filter, w.level, w.into.URL, w.into.secret)
		if err != nil {
			return err
		}
		if _, err := sweep(members, patience, func(m *member) bool { return m.has(id) }); err != nil {
			return err
		}
	}
	return nil
}

// size measures a cluster of one size.
func (s *lossStage) size(ctx context.Context, members []*member, p plan, r *report) error {
	if err := s.untilLevel(ctx); err != nil {
		return err
	}
	if err := pause(ctx, calm/2); err != nil {
		return err
	}
	before := machineNow()
	s.probable.Forget()
	s.confirmed.Forget()
	s.before, s.losses = append(s.before, s.losses...), nil
	wrongBefore, blamedBefore := s.counts()
	if err := s.cutAll(ctx, members, p.cuts); err != nil {
		return err
	}
	if err := s.untilLevel(ctx); err != nil {
		return err
	}
	if err := pause(ctx, calm/2); err != nil {
		return err
	}
	wrong, blamed := s.counts()
	after := machineNow()
	for i, l := range s.plain {
		if n := wrong[i] - wrongBefore[i]; n > mostWrong && l.givenUp == "" {
			l.giveUp("it declares living hosts dead without end")
		}
	}
	idle, err := s.watchAtRest(ctx, members, p.rest)
	if err != nil {
		return err
	}

	r.section(fmt.Sprintf("Host loss: %d real agents, from the cut", len(members)), before)
	r.note("Load %s after the cuts. Up to %d hosts are cut off at a time, %.1f s or more apart.", after.load, mostCut(len(members)), cutsApart.Seconds())
	var probable, confirmed, cleared spread
	left, late := make([]spread, len(s.plain)), make([]int, len(s.plain))
	for _, l := range s.losses {
		probable, confirmed, cleared = append(probable, l.probable), append(confirmed, l.confirmed), append(cleared, l.cleared)
		for i, d := range l.left {
			switch d {
			case 0:
				late[i]++
			case unmeasured:
			default:
				left[i] = append(left[i], d)
			}
		}
	}
	r.times("**probable, consumer's POST**", probable, aim{99, probableAim})
	r.times("**confirmed, consumer's POST**", confirmed, aim{99, confirmedAim})
	for i, l := range s.plain {
		if len(left[i])+late[i] > 0 {
			r.times("memberlist, "+l.name+", the same cuts: first NotifyLeave", left[i])
		}
	}
	for _, l := range s.plain {
		if l.givenUp != "" {
			r.add(row{what: "memberlist, " + l.name + ": " + l.givenUp, most: "stopped"})
		}
	}
	r.times("back: from the cable to the clear", cleared)
	r.atMost("paramedic: hosts said to be lost that were not", float64(s.falseCalls()), "", 0)
	for i, l := range s.plain {
		if len(left[i])+late[i] == 0 {
			continue
		}
		r.value("memberlist, "+l.name+": declared dead though not cut off, by hosts that were not either", float64(wrong[i]-wrongBefore[i]), "")
		r.note("By hosts that were: %d.", blamed[i]-blamedBefore[i])
	}
	s.printDoubled(r)
	for i, l := range s.plain {
		if late[i] > 0 {
			r.note("memberlist, %s, had not noticed %d of %d within %v.", l.name, late[i], len(s.losses), cutFor)
		}
	}
	idle.print(r)
	return nil
}

func (s *lossStage) counts() (wrong, blamed []int) {
	for _, l := range s.plain {
		w, b := l.count()
		wrong, blamed = append(wrong, w), append(blamed, b)
	}
	return wrong, blamed
}

// untilLevel waits until plain memberlist has all hosts again. On a busy machine news get lost there: its nodes join anew, then. One
// that does not find together all the same is given up.
func (s *lossStage) untilLevel(ctx context.Context) error {
	for _, l := range s.plain {
		deadline, again := time.Now().Add(levelWithin), time.Now().Add(calm)
		for l.givenUp == "" && !l.level() {
			now := time.Now()
			if now.After(deadline) {
				l.giveUp(fmt.Sprintf("its nodes did not all know each other after %v", levelWithin))
				break
			}
			if now.After(again) {
				again = now.Add(calm)
				for n := range l.nodes {
					_ = l.join(n) // whether it helped is looked at
				}
			}
			if err := pause(ctx, 100*time.Millisecond); err != nil {
				return err
			}
		}
	}
	return nil
}

// mostCut is how many hosts are cut off at a time: plain memberlist takes so long that one after the other would take an hour.
func mostCut(n int) int { return min(max(3, n/6), 6) }

// cutAll cuts hosts off, in turn, until there were count.
func (s *lossStage) cutAll(ctx context.Context, members []*member, count int) error {
	var running sync.WaitGroup
	defer running.Wait()
	places := make(chan struct{}, mostCut(len(members)))
	order := rand.Perm(len(members))
	for i := range count {
		select {
		case places <- struct{}{}:
		case <-ctx.Done():
			return ctx.Err()
		}
		n := order[i%len(order)]
		if i >= len(order) && s.plain[0].isCut(members[n].Name) { // it is the next one's turn
			<-places
			continue
		}
		one := &loss{host: members[n].Name, left: make([]time.Duration, len(s.plain))}
		s.losses = append(s.losses, one)
		running.Go(func() {
			defer func() { <-places }()
			one.err = s.cutOne(ctx, members[n], n, one)
		})
		if err := pause(ctx, cutsApart+rand.N(200*time.Millisecond)); err != nil {
			return err
		}
	}
	running.Wait()
	var errs []error
	for _, l := range s.losses {
		errs = append(errs, l.err)
	}
	return errors.Join(errs...)
}

func (s *lossStage) cutOne(ctx context.Context, m *member, n int, one *loss) error {
	began := time.Now()
	one.at = began
	for _, l := range s.plain {
		l.cutOff(m.Name, began)
	}
	if err := m.port.Pull(); err != nil {
		return err
	}
	wait := func(w wish, kind string, since time.Time) (time.Duration, error) {
		got, err := w.Wait(patience, func(n lab.Notification) bool {
			return n.Data.Host == m.Name && n.Type == "paramedic.fault."+kind && n.Arrived.After(since)
		})
		if err != nil {
			return 0, fmt.Errorf("%s: %w", m.Name, err)
		}
		return got.Arrived.Sub(since), nil
	}
	var err error
	if one.probable, err = wait(s.probable, "raised", began); err != nil {
		return err
	}
	if one.confirmed, err = wait(s.confirmed, "raised", began); err != nil {
		return err
	}
	for i, l := range s.plain {
		if l.givenUp != "" {
			one.left[i] = unmeasured
			continue
		}
		for one.left[i] = l.leftAfter(m.Name); one.left[i] == 0 && time.Since(began) < cutFor; one.left[i] = l.leftAfter(m.Name) {
			if err := pause(ctx, 20*time.Millisecond); err != nil {
				return err
			}
		}
	}
	plugged := time.Now()
	if err := m.port.Plug(); err != nil {
		return err
	}
	one.healed = time.Now()
	for _, l := range s.plain {
		l.healed(m.Name)
		if l.givenUp == "" {
			_ = l.join(n) // untilLevel tries anew
		}
	}
	one.cleared, err = wait(s.confirmed, "cleared", plugged)
	return err
}

// falseCalls counts the POSTs that say anew that a host is lost which was not cut off, nor a moment ago.
func (s *lossStage) falseCalls() (n int) {
	all := slices.Concat(s.before, s.losses)
	for _, w := range []wish{s.probable, s.confirmed} {
		had := map[string]bool{}
		for _, got := range w.All() {
			of := func(l *loss) bool {
				return l.host == got.Data.Host && got.Arrived.After(l.at) && (l.healed.IsZero() || got.Arrived.Before(l.healed.Add(time.Second)))
			}
			if got.Type != "paramedic.fault.cleared" && !had[got.ID] && !slices.ContainsFunc(all, of) {
				n++
			}
			had[got.ID] = true
		}
	}
	return n
}

// double is a notification that a consumer had already.
type double struct {
	what, by, first string // transition, and who sent it, and who the first one
	after           time.Duration
}

func (s *lossStage) doubled() (calls int, doubles []double) {
	for _, w := range []wish{s.probable, s.confirmed} {
		had := map[string]lab.Notification{}
		for _, got := range w.All() {
			calls++
			if first, ok := had[got.ID]; ok {
				doubles = append(doubles, double{strings.TrimPrefix(got.Type, "paramedic.fault."), got.Data.Reporter, first.Data.Reporter, got.Arrived.Sub(first.Arrived)})
				continue
			}
			had[got.ID] = got
		}
	}
	return calls, doubles
}

func (s *lossStage) printDoubled(r *report) {
	calls, doubles := s.doubled()
	r.note("%d POSTs about host-lost, %d of them with an id that the consumer had already.", calls, len(doubles))
	for _, what := range []string{"raised", "changed", "cleared"} {
		var after spread
		same := 0
		for _, d := range doubles {
			if d.what == what {
				after = append(after, d.after)
				if d.by == d.first {
					same++
				}
			}
		}
		if len(after) > 0 {
			slices.Sort(after)
			r.note("%d of these said %s, %d by the same host, %.0f to %.0f ms after the first.", len(after), what, same, milliseconds(after[0]), milliseconds(after[len(after)-1]))
		}
	}
}

// Each host counts the watch's packets: heartbeats, votes and the echoes of its own, and those of kernels.
var watchRules = fmt.Sprintf(`
table inet bench {
	counter udp_in { }
	counter udp_out { }
	counter icmp_in { }
	counter icmp_out { }
	chain in { type filter hook input priority 0; udp dport %[1]d counter name udp_in; ip protocol icmp counter name icmp_in; }
	chain out { type filter hook output priority 0; udp dport %[1]d counter name udp_out; ip protocol icmp counter name icmp_out; }
}
`, watchPort)

// countWatch begins to count at a host, from zero.
func countWatch(m *member) error {
	const file = lab.Dir + "/bench.nft"
	if err := m.WriteFile(file, "add table inet bench\ndelete table inet bench\n"+watchRules, 0o600); err != nil {
		return err
	}
	_, err := m.Run("nft", "-f", file)
	return err
}

// packetCount is what a counter of nftables has: IP packets, without the header of Ethernet.
type packetCount struct{ Packets, Bytes float64 }

func watchCountOf(m *member) (map[string]packetCount, error) {
	out, err := m.Output("nft", "-j", "list", "counters")
	if err != nil {
		return nil, err
	}
	var answer struct {
		NFTables []struct {
			Counter *struct {
				Name string
				packetCount
			}
		}
	}
	if err := json.Unmarshal([]byte(out), &answer); err != nil {
		return nil, fmt.Errorf("nft at %s: %w", m.Name, err)
	}
	counts := map[string]packetCount{}
	for _, x := range answer.NFTables {
		if x.Counter != nil {
			counts[x.Counter.Name] = x.Counter.packetCount
		}
	}
	return counts, nil
}

// watchRest is what a host takes while nobody is lost, a second.
type watchRest struct {
	rest
	counts map[string]packetCount
	load   string
}

func (s *lossStage) watchAtRest(ctx context.Context, members []*member, period time.Duration) (out watchRest, err error) {
	read := func() (map[string]packetCount, error) {
		sum := map[string]packetCount{}
		for _, m := range members {
			counts, err := watchCountOf(m)
			if err != nil {
				return nil, err
			}
			for name, c := range counts {
				sum[name] = packetCount{sum[name].Packets + c.Packets, sum[name].Bytes + c.Bytes}
			}
		}
		return sum, nil
	}
	first, err := read()
	if err != nil {
		return out, err
	}
	began := time.Now()
	if out.rest, err = s.atRest(ctx, members, 0, period); err != nil {
		return out, err
	}
	last, err := read()
	if err != nil {
		return out, err
	}
	each := time.Since(began).Seconds() * float64(len(members)) // both readings take a while, and the same
	out.load, out.counts = machineNow().load, map[string]packetCount{}
	for _, name := range slices.Collect(maps.Keys(last)) {
		out.counts[name] = packetCount{(last[name].Packets - first[name].Packets) / each, (last[name].Bytes - first[name].Bytes) / each}
	}
	return out, nil
}

func (w watchRest) print(r *report) {
	var all, echoes packetCount
	for name, c := range w.counts {
		all = packetCount{all.Packets + c.Packets, all.Bytes + c.Bytes}
		if strings.HasPrefix(name, "icmp") {
			echoes.Packets += c.Packets
		}
	}
	r.value("each host, nobody lost: packets of the watch, sent + received", all.Packets, "/s")
	r.value("the same, headers of IP and UDP included", all.Bytes, "bytes/s")
	r.value("processor, the whole agent, of a core", w.percent, "%")
	r.note("Load %s; of the packets echoes of kernels (ICMP): %.1f a second; the whole agent wakes %.0f times a second.", w.load, echoes.Packets, w.wakeUps)
}
