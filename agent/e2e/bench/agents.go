package main

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/paramedic-ha/paramedic/agent/e2e/lab"
)

// Aims of the cluster.
const (
	spreadAim    = 100 * time.Millisecond // a change is at all of 50 hosts, p99
	healAim      = 5 * time.Second        // after a partition all know the same
	subscribeAim = time.Second            // after the 201 a subscription is active everywhere
	few          = 10                     // hosts to whose idle traffic that of all is compared

	// At rest is a cluster a minute after its last start: 15 s after its start a host says what is void of its former life
	// (gossip.FloorDelay), and 30 to 60 s after it that it is there to stay (settledAfter of package gossip).
	settled = 66 * time.Second
	calm    = 10 * time.Second // after faults
)

// agents measures a cluster of real agents.
func agents(ctx context.Context, p plan, r *report) (err error) {
	before := machineNow()
	c, err := buildCloud(p.agents)
	if c != nil {
		defer func() {
			if err != nil && len(c.members) > 0 {
				err = fmt.Errorf("%w; the first agent says: %s", err, lastOf(c.members[0].agent.Log()))
			}
			err = errors.Join(err, c.lab.Close())
		}()
	}
	if err != nil {
		return err
	}
	less := min(few, p.agents)
	if err := c.start(c.members[:less], less); err != nil {
		return err
	}
	small, err := c.atRest(ctx, c.members[:less], settled, p.rest)
	if err != nil {
		return err
	}
	began := time.Now()
	if err := c.start(c.members[less:], p.agents); err != nil {
		return err
	}
	joined := time.Since(began)
	if err := c.faults(ctx, p, r); err != nil {
		return err
	}
	large, err := c.atRest(ctx, c.members, max(calm, settled-time.Since(began)), p.rest)
	if err != nil {
		return err
	}
	r.section("Real agents: each host at rest, frames with all headers, sent + received", before)
	r.value(fmt.Sprintf("%d agents", less), small.bytes(), "bytes/s")
	r.value(fmt.Sprintf("**%d agents**", p.agents), large.bytes(), "bytes/s")
	r.flat(fmt.Sprintf("from %d to %d agents", less, p.agents), large.bytes()/small.bytes())
	r.value(fmt.Sprintf("%d agents: packets", p.agents), large.packets(), "/s")
	r.value(fmt.Sprintf("%d agents: processor, of a core, mean", p.agents), large.percent, "%")
	r.value(fmt.Sprintf("%d agents: resident memory, median", p.agents), large.rss[0]*(1<<20)/1e6, "MB")
	r.note("%d more agents were started at once and knew all after %.1f s.", p.agents-less, joined.Seconds())
	return nil
}

// faults has things happen to the cluster.
func (c *cloud) faults(ctx context.Context, p plan, r *report) error {
	streams, end := context.WithCancel(ctx)
	defer end()
	changes, err := c.follow(streams)
	if err != nil {
		return err
	}
	for _, measure := range []func(context.Context, plan, *report, <-chan change) error{c.spread, c.subscriptions, c.handOvers, c.partitions} {
		if err := measure(ctx, p, r, changes); err != nil {
			return err
		}
	}
	return nil
}

func lastOf(log string) string {
	const most = 3000
	return log[max(0, len(log)-most):]
}

// rest is what a host takes while nothing happens.
type rest struct {
	traffic linkCount // a second
	percent float64   // of a core
	wakeUps float64   // a second
	rss     [2]float64
}

func (r rest) bytes() float64   { return r.traffic.txBytes + r.traffic.rxBytes }
func (r rest) packets() float64 { return r.traffic.txPackets + r.traffic.rxPackets }

// atRest leaves the cluster alone for a time, and watches it for another.
func (c *cloud) atRest(ctx context.Context, members []*member, wait, period time.Duration) (out rest, err error) {
	if err := pause(ctx, wait); err != nil {
		return out, err
	}
	read := func() (traffic linkCount, sum usage, rss []float64, err error) {
		for _, m := range members {
			l, err := linkCountOf(m.Host, cloudLink)
			if err != nil {
				return traffic, sum, rss, err
			}
			u, err := usageOf(m.agent.Process().PID())
			if err != nil {
				return traffic, sum, rss, err
			}
			traffic = linkCount{traffic.txBytes + l.txBytes, traffic.rxBytes + l.rxBytes, traffic.txPackets + l.txPackets, traffic.rxPackets + l.rxPackets}
			sum.cpu += u.cpu
			sum.switches += u.switches
			rss = append(rss, float64(u.rss)/1024)
		}
		return traffic, sum, rss, nil
	}
	first, used, _, err := read()
	if err != nil {
		return out, err
	}
	began := time.Now()
	if err := pause(ctx, period); err != nil {
		return out, err
	}
	last, usedThen, rss, err := read()
	if err != nil {
		return out, err
	}
	took, n := time.Since(began), float64(len(members))
	d := last.minus(first)
	each := took.Seconds() * n
	out.traffic = linkCount{d.txBytes / each, d.rxBytes / each, d.txPackets / each, d.rxPackets / each}
	out.percent = 100 * float64(usedThen.cpu-used.cpu) / float64(took) / n
	out.wakeUps = float64(usedThen.switches-used.switches) / each
	slices.Sort(rss)
	out.rss = [2]float64{rss[len(rss)/2], rss[len(rss)-1]}
	return out, nil
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// spread pulls and plugs the cable of one host after the other and waits until every agent's stream has told of it.
func (c *cloud) spread(ctx context.Context, p plan, r *report, changes <-chan change) error {
	before := machineNow()
	var own, one, all spread
	for n := range p.changes {
		m := n / 2 % len(c.members)
		if err := pause(ctx, 20*time.Millisecond+rand.N(60*time.Millisecond)); err != nil {
			return err
		}
		act, transition := c.members[m].cable.Pull, "raised"
		if n%2 == 1 {
			act, transition = c.members[m].cable.Plug, "cleared"
		}
		began := time.Now()
		if err := act(); err != nil {
			return err
		}
		at, err := c.carrierSeen(changes, c.members[m].Name, transition, patience)
		if err != nil {
			return err
		}
		last := began
		for i, t := range at {
			if t.After(last) {
				last = t
			}
			if i != m {
				one = append(one, t.Sub(began))
			}
		}
		own = append(own, at[m].Sub(began))
		all = append(all, last.Sub(began))
	}
	r.section(fmt.Sprintf("%d real agents: a cable is pulled or plugged at one", len(c.members)), before)
	r.times("the stream of the host itself", own)
	r.times("the stream of each other", one)
	r.times("**the stream of the last of all**", all, aim{99, spreadAim})
	return nil
}

// wish is a consumer and how to subscribe it.
type wish struct {
	*lab.Receiver
	secret string
}

func (c *cloud) consumer() (wish, error) {
	key := []byte(strings.Repeat("bench-secret-", 8)[:32])
	r, err := c.consumers.Receiver(cloudConsumer+":0", key)
	return wish{r, "whsec_" + base64.StdEncoding.EncodeToString(key)}, err
}

func raisedBy(host string) func(lab.Notification) bool {
	return func(n lab.Notification) bool {
		return n.Type == "paramedic.fault.raised" && n.Data.Alarm.Condition == "carrier" && n.Data.Host == host
	}
}

func clearedBy(host string) func(lab.Notification) bool {
	return func(n lab.Notification) bool {
		return n.Type == "paramedic.fault.cleared" && n.Data.Alarm.Condition == "carrier" && n.Data.Host == host
	}
}

// subscriptions subscribes here and there. Half of the times the others are asked whether they have it; else a cable is pulled at
// another host as soon as the 201 is there, and must be told.
func (c *cloud) subscriptions(ctx context.Context, p plan, r *report, _ <-chan change) error {
	before := machineNow()
	w, err := c.consumer()
	if err != nil {
		return err
	}
	var one, all, told spread
	for n := range 2 * p.subscriptions {
		at, other := c.members[rand.N(len(c.members))], c.members[rand.N(len(c.members))]
		began := time.Now()
		id, err := at.subscribe("bench", w.URL, w.secret)
		if err != nil {
			return err
		}
		answered := time.Now()
		if n%2 == 0 {
			seen, err := sweep(c.members, patience, func(m *member) bool { return m.has(id) })
			if err != nil {
				return fmt.Errorf("subscription at %s, %v after the request: %w", at.Name, time.Since(began), err)
			}
			for _, t := range seen {
				one = append(one, t.Sub(answered))
			}
			all = append(all, slices.MaxFunc(seen, time.Time.Compare).Sub(answered))
		} else {
			w.Forget()
			pulled := time.Now()
			if err := other.cable.Pull(); err != nil {
				return err
			}
			got, err := w.Wait(patience, raisedBy(other.Name))
			if err != nil {
				return fmt.Errorf("subscription at %s, fault at %s: %w", at.Name, other.Name, err)
			}
			told = append(told, got.Arrived.Sub(pulled))
			if err := other.cable.Plug(); err != nil {
				return err
			}
			if _, err := w.Wait(patience, clearedBy(other.Name)); err != nil {
				return err
			}
		}
		if err := at.unsubscribe(id); err != nil {
			return err
		}
		if _, err := sweep(c.members, patience, func(m *member) bool { return !m.has(id) }); err != nil {
			return fmt.Errorf("subscription ended at %s: %w", at.Name, err)
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	r.section(fmt.Sprintf("%d real agents: a subscription, from its 201", len(c.members)), before)
	r.times("active at each (upper bound)", one)
	r.times("**active at the last of all** (upper bound)", all, aim{100, subscribeAim})
	r.times("a fault at any of them right after the 201 → callback", told)
	return nil
}

// handOvers cuts a host off from its consumer and has it fail: the first fault finds that out, the further ones know.
func (c *cloud) handOvers(ctx context.Context, p plan, r *report, _ <-chan change) error {
	before := machineNow()
	w, err := c.consumer()
	if err != nil {
		return err
	}
	id, err := c.members[0].subscribe("bench", w.URL, w.secret)
	if err != nil {
		return err
	}
	if _, err := sweep(c.members, patience, func(m *member) bool { return m.has(id) }); err != nil {
		return err
	}
	const further = 5
	var direct, first, later spread
	for n := range p.handOvers {
		m := c.members[n%len(c.members)]
		// fault returns who told.
		fault := func(into *spread) (string, error) {
			w.Forget()
			began := time.Now()
			if err := m.cable.Pull(); err != nil {
				return "", err
			}
			got, err := w.Wait(patience, raisedBy(m.Name))
			if err != nil {
				return "", fmt.Errorf("%s: %w; its agent says: %s", m.Name, err, lastOf(m.agent.Log()))
			}
			*into = append(*into, got.Arrived.Sub(began))
			if err := m.cable.Plug(); err != nil {
				return "", err
			}
			_, err = w.Wait(patience, clearedBy(m.Name))
			return got.Data.Reporter, err
		}
		if _, err := fault(&direct); err != nil {
			return err
		}
		if err := c.lan.Block(m.Host, c.consumers, true); err != nil {
			return err
		}
		for k := range 1 + further {
			into := &first
			if k > 0 {
				into = &later
			}
			by, err := fault(into)
			if err != nil {
				return err
			}
			if by == m.Name {
				return fmt.Errorf("%s told of its fault itself although it is cut off from the consumer", m.Name)
			}
		}
		if err := c.lan.Block(m.Host, c.consumers, false); err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	r.section(fmt.Sprintf("%d real agents: a host is cut off from its consumer, fault → callback", len(c.members)), before)
	r.times("nothing cut: by the host itself", direct)
	r.times("first fault after the cut: by a peer", first)
	r.times("**further faults: by a peer**", later)
	return c.members[0].unsubscribe(id)
}

// partitions splits the cluster in halves, has something happen in both, and heals it.
func (c *cloud) partitions(ctx context.Context, p plan, r *report, changes <-chan change) error {
	before := machineNow()
	w, err := c.consumer()
	if err != nil {
		return err
	}
	half := len(c.members) / 2
	sides := [2][]*member{c.members[:half], c.members[half:]}
	hosts := func(members []*member) (list []*lab.Host) {
		for _, m := range members {
			list = append(list, m.Host)
		}
		return list
	}
	var alarms, subscribed, joined, level spread
	for n := range p.partitions {
		if err := c.lan.Split(hosts(sides[0]), hosts(sides[1])); err != nil {
			return err
		}
		for _, side := range sides { // until each half takes the other for gone
			for _, m := range side {
				if err := m.until(2*time.Minute, func(s status) bool { return s.Cluster.Members == len(side) }); err != nil {
					return err
				}
			}
		}
		var failed [2]*member
		var ids [2]string
		for i, side := range sides {
			failed[i] = side[n%len(side)]
			if err := failed[i].cable.Pull(); err != nil {
				return err
			}
			if ids[i], err = side[(n+1)%len(side)].subscribe(fmt.Sprint("side-", i), w.URL, w.secret); err != nil {
				return err
			}
			if _, err := sweep(side, patience, func(m *member) bool { return m.has(ids[i]) }); err != nil {
				return err
			}
		}
		if err := pause(ctx, 500*time.Millisecond); err != nil {
			return err
		}
		drain(changes)
		began := time.Now()
		if err := c.lan.Split(); err != nil {
			return err
		}
		ends := began
		note := func(into *spread, at []time.Time) {
			latest := slices.MaxFunc(at, time.Time.Compare)
			if latest.After(ends) {
				ends = latest
			}
			*into = append(*into, latest.Sub(began))
		}
		// The streams tell of the other half's alarms, and are read while the rest is asked for.
		type result struct {
			at  []time.Time
			err error
		}
		seen := make(chan result, 1)
		go func() {
			at, err := c.crossed(changes, failed, half)
			seen <- result{at, err}
		}()
		at, err := sweep(c.members, patience, func(m *member) bool { return m.has(ids[0]) && m.has(ids[1]) })
		if err != nil {
			return err
		}
		note(&subscribed, at)
		if at, err = sweep(c.members, patience, func(m *member) bool {
			s, err := statusOf(m.agent)
			return err == nil && s.Cluster.Members == len(c.members)
		}); err != nil {
			return err
		}
		note(&joined, at)
		got := <-seen
		if got.err != nil {
			return got.err
		}
		note(&alarms, got.at)
		level = append(level, ends.Sub(began))

		for i := range sides {
			if err := failed[i].cable.Plug(); err != nil {
				return err
			}
			if _, err := c.carrierSeen(changes, failed[i].Name, "cleared", patience); err != nil {
				return err
			}
			if err := c.members[0].unsubscribe(ids[i]); err != nil {
				return err
			}
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	r.section(fmt.Sprintf("%d real agents: a partition into halves ends", len(c.members)), before)
	r.times("the other half's alarm is at the last of all", alarms)
	r.times("both halves' subscriptions are active at the last of all", subscribed)
	r.times("the last of all knows all members again", joined)
	r.times("**all of that**", level, aim{100, healAim})
	return nil
}

func drain(changes <-chan change) {
	for {
		select {
		case <-changes:
		default:
			return
		}
	}
}

// crossed waits until each member has told of the alarm of the other half.
func (c *cloud) crossed(changes <-chan change, failed [2]*member, half int) ([]time.Time, error) {
	at := make([]time.Time, len(c.members))
	late := time.NewTimer(patience)
	defer late.Stop()
	for left := len(at); left > 0; {
		select {
		case one := <-changes:
			other := failed[1]
			if one.by >= half {
				other = failed[0]
			}
			if one.Alarm.Host == other.Name && one.Alarm.Condition == "carrier" && at[one.by].IsZero() {
				at[one.by] = one.at
				left--
			}
		case <-late.C:
			return at, fmt.Errorf("%d hosts have not told of the other half's alarm after %v", left, patience)
		}
	}
	return at, nil
}
