package watch

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// What may happen to a host in one run of the property below.
const (
	fine = iota
	dies
	agentFreezes
	agentDies
	stops
	cutOff
)

// Without loss: whoever lives on the larger side is never held to be dead, whoever dies there is confirmed by somebody within
// a second, and those on the smaller side accuse nobody.
func TestTheDeadAreFoundAndTheLivingAreNot(t *testing.T) {
	cfg := Config{Probable: 350 * time.Millisecond, Confirmed: 700 * time.Millisecond, Echo: true}
	rapid.Check(t, func(rt *rapid.T) {
		n := rapid.IntRange(3, 14).Draw(rt, "hosts")
		c := newCluster(t, n, cfg, []string{"a", "b", "c", "d"}[:rapid.IntRange(1, 4).Draw(rt, "zones")]...)
		c.run(4*time.Second + time.Duration(rapid.IntRange(0, 50).Draw(rt, "phase"))*time.Millisecond)
		fate, lost := map[string]int{}, 0
		var deaths int
		for _, nd := range c.nodes {
			f := rapid.IntRange(fine, cutOff).Draw(rt, "fate of "+nd.Name)
			if f == dies || f == cutOff {
				if 2*(lost+1) >= n { // the others stay the majority
					f = fine
				} else {
					lost++
				}
			}
			if f == dies {
				deaths++
			}
			fate[nd.Name] = f
		}
		voters, stopped := 0, 0
		for _, nd := range c.nodes {
			switch fate[nd.Name] {
			case fine:
				voters++
			case dies:
				nd.off = true
			case agentFreezes:
				nd.frozen = c.now.Add(time.Duration(rapid.IntRange(50, 4000).Draw(rt, "frozen ms")) * time.Millisecond)
			case agentDies:
				nd.running = false
			case stops:
				stopped++
				c.carry(nd, nd.machine.Goodbye(c.now, LeftStopped))
				nd.running = false
			case cutOff:
				c.split = true
				c.side[nd.Name] = 1
			}
		}
		c.run(2 * time.Second)
		confirmed := map[string]bool{}
		for _, told := range c.told {
			v := told.news.Verdict
			if told.news.Kind != NewsVerdict || v.Level < LevelProbable {
				continue
			}
			if fate[told.by] == cutOff {
				rt.Errorf("%s is cut off and accuses %s", told.by, v.Host)
			}
			if f := fate[v.Host]; f != dies && f != cutOff {
				rt.Errorf("%s, of fate %d, is %s, says %s: %+v", v.Host, f, levels[v.Level], told.by, v.Votes)
			}
			if len(v.Votes) < 2 && v.Level > LevelProbable || !slices.ContainsFunc(v.Votes, func(v Vote) bool { return v.Voter == told.by }) {
				rt.Errorf("%s counts %+v", told.by, v.Votes)
			}
			confirmed[v.Host] = confirmed[v.Host] || v.Level == LevelConfirmed
		}
		if 2*lost >= n-stopped { // whose agent was stopped counts no more: those that are left must take themselves for the smaller side
			return
		}
		for name, f := range fate {
			if (f == dies || f == cutOff) && voters >= 4 && !confirmed[name] {
				rt.Errorf("%s, of fate %d, is not confirmed; %d of %d are fine", name, f, voters, n)
			}
		}
	})
}

// Every call of a machine answers within its bounds, whatever it is told.
func TestNonsenseIsBorne(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		now := noon
		var x uint64
		m := New(Config{Self: "cmp-1", Probable: 350 * time.Millisecond, Confirmed: 700 * time.Millisecond, Echo: true, Witness: true}, func() uint64 { x += 0x9e3779b97f4a7c15; return x }, now)
		name := rapid.SampledFrom([]string{"cmp-1", "cmp-2", "cmp-3", "cmp-4", "cmp-5", "cmp-6", "nobody", ""})
		known := rapid.SampledFrom([]string{"cmp-1", "cmp-2", "cmp-3", "cmp-4", "cmp-5", "cmp-6", ""})
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.IntRange(0, 90).Draw(t, "ms")) * time.Millisecond)
			var eff Effects
			switch rapid.IntRange(0, 6).Draw(t, "what") {
			case 0:
				var hosts []Host
				for range rapid.IntRange(0, 8).Draw(t, "hosts") {
					hosts = append(hosts, Host{
						Name: known.Draw(t, "host"), Zone: rapid.SampledFrom([]string{"a", "b"}).Draw(t, "zone"), Term: rapid.Uint64().Draw(t, "term"),
						Member: rapid.Bool().Draw(t, "member"), Watched: rapid.Bool().Draw(t, "watched"), Left: Left(rapid.IntRange(0, 2).Draw(t, "left")),
						Lost: rapid.Bool().Draw(t, "lost"),
					})
				}
				eff = m.Hosts(now, hosts)
			case 1:
				pkt := anyPacket(t)
				pkt.Host = name.Draw(t, "about")
				eff = m.Receive(now, name.Draw(t, "from"), pkt)
			case 2:
				eff = m.Echoed(now, name.Draw(t, "host"), now.Add(time.Duration(rapid.IntRange(-5000, 50).Draw(t, "asked"))*time.Millisecond))
			case 3:
				eff = m.Closed(now, name.Draw(t, "host"))
			case 4:
				eff = m.WitnessEchoed(now, now.Add(time.Duration(rapid.IntRange(-5000, 50).Draw(t, "asked"))*time.Millisecond))
			default:
				eff = m.Tick(now)
				if !eff.Wake.After(now) {
					t.Fatal("a tick wants another one at once")
				}
			}
			if eff.Wake.IsZero() || eff.Wake.After(now.Add(time.Second)) {
				t.Fatalf("wake %s", eff.Wake.Sub(now))
			}
			for _, s := range eff.Send {
				if s.To == "cmp-1" || s.To == "nobody" || s.To == "" {
					t.Fatalf("a packet to %q", s.To)
				}
				if _, err := Decode(s.Packet.Encode()); err != nil {
					t.Fatalf("%+v: %v", s.Packet, err)
				}
			}
			m.Status(now)
		}
	})
}

func TestAHostThatWasNeverHeardIsNotAccused(t *testing.T) {
	cfg := Config{Probable: 350 * time.Millisecond, Confirmed: 700 * time.Millisecond, Echo: true}
	c := newCluster(t, 5, cfg)
	c.node("cmp-5").off = true
	c.run(20 * time.Second)
	if len(c.told) > 0 {
		t.Errorf("%+v", c.told)
	}
}

func TestAHostWhosePortIsBlockedIsBlindAndAccusesNobody(t *testing.T) {
	cfg := Config{Probable: 350 * time.Millisecond, Confirmed: 700 * time.Millisecond, Echo: true}
	c := newCluster(t, 5, cfg)
	c.run(0)
	c.node("cmp-2").machine = New(Config{Self: "cmp-2", Probable: cfg.Probable, Confirmed: cfg.Confirmed, Echo: true}, func() uint64 { return 1 }, c.now)
	m := c.node("cmp-2").machine
	hosts := c.hostsFor(c.node("cmp-2"))
	now := c.now
	eff := m.Hosts(now, hosts)
	for range 3000 {
		now = eff.Wake
		eff = m.Tick(now)
		for _, h := range eff.Ping {
			m.Echoed(now, h, now)
		}
		if len(eff.News) > 0 {
			t.Fatalf("%+v", eff.News)
		}
	}
	if !m.Status(now).Blind {
		t.Error("it is not blind")
	}
}

func TestTheSameSeedGivesTheSameRun(t *testing.T) {
	run := func() string {
		c := newCluster(t, 9, Config{Probable: 350 * time.Millisecond, Confirmed: 700 * time.Millisecond, Echo: true}, "a", "b")
		c.run(3 * time.Second)
		c.node("cmp-3").off = true
		c.node("cmp-4").off = true
		c.run(2 * time.Second)
		return fmt.Sprint(c.told, c.packets)
	}
	if a, b := run(), run(); a != b {
		t.Errorf("%s\n%s", a, b)
	}
}
