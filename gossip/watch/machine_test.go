package watch

import (
	"fmt"
	"testing"
	"time"
)

var detect = Config{Probable: 350 * time.Millisecond, Confirmed: 700 * time.Millisecond, Echo: true}

// verdicts are those of one host, in order.
func (c *cluster) verdicts(by string) (levels []Level, at []time.Time) {
	for _, told := range c.told {
		if told.news.Kind == NewsVerdict && told.by == by {
			levels, at = append(levels, told.news.Verdict.Level), append(at, told.at)
		}
	}
	return levels, at
}

func TestWhoStoodStillWaitsAsLongAsEverBeforeItAccuses(t *testing.T) {
	c := newCluster(t, 6, detect)
	c.run(5 * time.Second)
	c.node("cmp-2").off = true
	woke := c.now.Add(280 * time.Millisecond)
	for _, nd := range c.nodes {
		nd.stalled = woke
	}
	c.run(3 * time.Second)
	for _, nd := range c.nodes {
		levels, at := c.verdicts(nd.Name)
		if nd.Name == "cmp-2" {
			continue
		}
		if len(levels) != 2 || at[0].Before(woke.Add(200*time.Millisecond)) {
			t.Errorf("%s: %v, %v after it woke", nd.Name, levels, at[0].Sub(woke))
		}
	}
}

func TestAStrangerIsIgnored(t *testing.T) {
	m := New(Config{Self: "cmp-1", Probable: time.Second, Confirmed: 2 * time.Second}, func() uint64 { return 1 }, noon)
	m.Hosts(noon, manyHosts(2))
	for kind := Heartbeat; kind <= Accusation; kind++ {
		eff := m.Receive(noon, "cmp-99", Packet{Kind: kind, Host: "cmp-0", Level: LevelProbable})
		if len(eff.Send)+len(eff.News)+len(eff.Ping) > 0 {
			t.Errorf("kind %d: %+v", kind, eff)
		}
	}
}

func TestAnAccusationIsTakenOnceForEachLevelOfATerm(t *testing.T) {
	m := New(Config{Self: "cmp-1"}, func() uint64 { return 1 }, noon)
	hosts := manyHosts(3) // of term 2
	m.Hosts(noon, hosts)
	var news []string
	for _, a := range []struct {
		term  uint64
		level Level
	}{{1, LevelConfirmed}, {2, LevelProbable}, {2, LevelProbable}, {2, LevelConfirmed}, {2, LevelConfirmed}, {5, LevelProbable}, {2, LevelSilent}} {
		for _, n := range m.Receive(noon, "cmp-2", Packet{Kind: Accusation, Term: a.term, Level: a.level}).News {
			news = append(news, describe(n))
		}
	}
	want := "[accused of being probable in term 2 accused of being confirmed in term 2 accused of being probable in term 5]"
	if got := fmt.Sprint(news); got != want {
		t.Errorf("got %s", got)
	}
}

// The one that came back is told until it takes a higher term, and not for ever.
func TestAccusationsEnd(t *testing.T) {
	c := newCluster(t, 6, detect)
	c.run(5 * time.Second)
	c.node("cmp-4").stalled = c.now.Add(500 * time.Millisecond)
	c.run(10 * time.Second)
	if got := c.packets[Accusation]; got != 5*5 {
		t.Errorf("five observers accused %d times", got)
	}
	c.node("cmp-4").stalled = c.now.Add(500 * time.Millisecond)
	c.run(700 * time.Millisecond)
	c.node("cmp-4").Term = 4
	c.view()
	before := c.packets[Accusation]
	c.run(5 * time.Second)
	if got := c.packets[Accusation]; got != before {
		t.Errorf("%d accusations after it took a higher term", got-before)
	}
}

func TestAWitnessWorksOnABoundedNumberOfQuestions(t *testing.T) {
	m := New(Config{Self: "cmp-0", Probable: 350 * time.Millisecond, Confirmed: 700 * time.Millisecond, Echo: true}, func() uint64 { return 1 }, noon)
	m.Hosts(noon, manyHosts(1000))
	asked := 0
	for i := 2; i < 1000; i++ {
		asked += len(m.Receive(noon, "cmp-1", Packet{Kind: WitnessRequest, Host: fmt.Sprintf("cmp-%d", i), Level: LevelProbable}).Ping)
	}
	if asked != maxInquiries {
		t.Errorf("it asks %d hosts", asked)
	}
	ballots, now := 0, noon
	for now.Before(noon.Add(100 * time.Millisecond)) {
		now = now.Add(5 * time.Millisecond)
		for _, s := range m.Tick(now).Send {
			if s.Packet.Kind == Ballot && s.Packet.Witness {
				ballots++
			}
		}
	}
	if ballots != maxInquiries || len(m.inquiries) > 0 {
		t.Errorf("it answers %d, and %d are left", ballots, len(m.inquiries))
	}
}

func TestAWitnessObjectsWhenTheHostAnswers(t *testing.T) {
	for _, c := range []struct {
		name   string
		level  Level
		answer func(m *Machine, now time.Time) Effects
		want   PacketKind
	}{
		{"its agent", LevelConfirmed, func(m *Machine, now time.Time) Effects {
			return m.Receive(now, "cmp-2", Packet{Kind: EchoReply, Stamp: uint64(now.Sub(m.start))})
		}, Objection},
		{"its kernel", LevelProbable, func(m *Machine, now time.Time) Effects { return m.Echoed(now, "cmp-2", now) }, Objection},
		{"its kernel, and the agent is the question", LevelSilent, func(m *Machine, now time.Time) Effects { return m.Echoed(now, "cmp-2", now) }, Ballot},
		{"a late answer", LevelProbable, func(m *Machine, now time.Time) Effects { return m.Echoed(now, "cmp-2", now.Add(-time.Second/2)) }, Ballot},
	} {
		m := New(Config{Self: "cmp-0", Probable: 350 * time.Millisecond, Confirmed: 700 * time.Millisecond, Echo: true}, func() uint64 { return 1 }, noon)
		m.Hosts(noon, manyHosts(8))
		sent := m.Receive(noon, "cmp-1", Packet{Kind: WitnessRequest, Host: "cmp-2", Level: c.level}).Send
		now := noon.Add(time.Millisecond)
		sent = append(sent, c.answer(m, now).Send...)
		for now.Before(noon.Add(70 * time.Millisecond)) {
			now = now.Add(5 * time.Millisecond)
			sent = append(sent, m.Tick(now).Send...)
		}
		var got []PacketKind
		for _, s := range sent {
			if s.To == "cmp-1" && (s.Packet.Kind == Objection || s.Packet.Kind == Ballot) {
				got = append(got, s.Packet.Kind)
			}
		}
		if len(got) != 1 || got[0] != c.want {
			t.Errorf("%s answers: %v", c.name, got)
		}
	}
}

// A reply to what was asked before the verdict was on its way for long: it says nothing of now.
func TestAStaleReplyEndsNoVerdict(t *testing.T) {
	c := newCluster(t, 5, detect)
	c.run(5 * time.Second)
	asked := c.now
	c.node("cmp-3").off = true
	c.run(time.Second)
	m := c.node("cmp-1").machine
	stamp := uint64(asked.Sub(m.start))
	if eff := m.Receive(c.now, "cmp-3", Packet{Kind: EchoReply, Term: 2, Stamp: stamp}); len(eff.News) > 0 {
		t.Errorf("%+v", eff.News)
	}
	if eff := m.Receive(c.now, "cmp-3", Packet{Kind: Heartbeat, Term: 2}); len(eff.News) != 1 || eff.News[0].Kind != NewsHeard {
		t.Errorf("%+v", eff.News)
	}
}

func TestWhoSaidGoodbyeIsQuiet(t *testing.T) {
	c := newCluster(t, 7, detect)
	c.run(5 * time.Second)
	m := c.node("cmp-3").machine
	if got := len(m.Goodbye(c.now, LeftStopped).Send); got != 6 {
		t.Errorf("it says goodbye to %d", got)
	}
	for i := range 50 {
		now := c.now.Add(time.Duration(i) * 20 * time.Millisecond)
		eff := m.Tick(now)
		more := m.Receive(now, "cmp-1", Packet{Kind: EchoRequest, Stamp: 5, Observe: true})
		if n := len(eff.Send) + len(eff.Ping) + len(more.Send) + len(more.Ping); n > 0 {
			t.Fatalf("it sends %d more", n)
		}
	}
	if got := len(m.Goodbye(c.now.Add(time.Second), LeftShutdown).Send); got != 6 {
		t.Errorf("the second time it says goodbye to %d", got)
	}
}

// Nobody knew whom to tell: the heartbeats go to those whom the membership shows, and to those that ask.
func TestHeartbeatsGoToWhoAsksForThem(t *testing.T) {
	m := New(Config{Self: "cmp-0", Probable: 350 * time.Millisecond, Confirmed: 700 * time.Millisecond}, func() uint64 { return 1 }, noon)
	hosts := manyHosts(4)
	for i := range hosts {
		hosts[i].Member = i < 2
	}
	m.Hosts(noon, hosts)
	m.Receive(noon, "cmp-3", Packet{Kind: EchoRequest, Observe: true, Stamp: 1})
	beats := map[string]int{}
	now := noon
	for now.Before(noon.Add(5 * time.Second)) {
		eff := m.Tick(now)
		for _, s := range eff.Send {
			if s.Packet.Kind == Heartbeat {
				beats[s.To]++
			}
		}
		now = eff.Wake
	}
	if beats["cmp-1"] < 99 || beats["cmp-2"] != 0 || beats["cmp-3"] < 39 || beats["cmp-3"] > 41 {
		t.Errorf("%v", beats)
	}
}

// What a host does for the watch does not depend on how many there are.
func TestTheTrafficOfAHealthyHostIsFlat(t *testing.T) {
	for _, n := range []int{10, 40} {
		c := newCluster(t, n, detect, "a", "b", "c")
		c.run(6 * time.Second)
		clear(c.packets)
		c.run(5 * time.Second)
		total := 0
		for _, k := range c.packets {
			total += k
		}
		if perHost := float64(total) / float64(n) / 5; perHost < 98 || perHost > 104 {
			t.Errorf("n = %d: %.1f packets a second and host, %v", n, perHost, c.packets)
		}
	}
}
