package hostloss

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/paramedic-ha/paramedic/agent/e2e/fleet"
	"github.com/paramedic-ha/paramedic/agent/e2e/lab"
)

// silence is how long docs/delivery.md says that heartbeats may be missing before the cluster is to be taken for dead.
func silence(every time.Duration) time.Duration { return max(3*every, 5*time.Second) }

// heard is one heartbeat as the consumer reads it.
type heard struct {
	lab.Notification
	data struct {
		Interval float64   `json:"interval"`
		Next     time.Time `json:"next"`
		Hosts    struct {
			Alive int      `json:"alive"`
			Lost  []string `json:"lost"`
		} `json:"hosts"`
	}
}

func read(t *testing.T, n lab.Notification) (h heard) {
	t.Helper()
	h.Notification = n
	var body struct {
		Data json.RawMessage `json:"data"`
	}
	fleet.Must(t, json.Unmarshal(n.Body, &body))
	fleet.Must(t, json.Unmarshal(body.Data, &h.data))
	if len(n.Trouble) > 0 {
		t.Errorf("it objects to %s: %v", n.Body, n.Trouble)
	}
	return h
}

// hears waits for a heartbeat that arrived after a moment.
func hears(t *testing.T, c *fleet.Consumer, what string, after time.Time, ok func(lab.Notification) bool) heard {
	t.Helper()
	n, err := c.Wait(fleet.Patience, func(n lab.Notification) bool {
		return n.Type == "paramedic.heartbeat" && n.Arrived.After(after) && ok(n)
	})
	if err != nil {
		t.Fatalf("it waits for %s: %v", what, err)
	}
	return read(t, n)
}

// rhythm is the longest time between two heartbeats, and how many were said twice, which each consumer folds by the id.
func rhythm(t *testing.T, c *fleet.Consumer) (longest time.Duration, twice int) {
	t.Helper()
	var last time.Time
	slots := map[string]time.Time{}
	for _, n := range c.All() {
		if n.Type != "paramedic.heartbeat" {
			continue
		}
		next := read(t, n).data.Next
		if was, again := slots[n.ID]; again {
			twice++
			if !was.Equal(next) {
				t.Errorf("two heartbeats have the id %s", n.ID)
			}
		}
		slots[n.ID] = next
		if !last.IsZero() {
			longest = max(longest, n.Arrived.Sub(last))
		}
		last = n.Arrived
	}
	return longest, twice
}

// pulsing starts so many agents and a consumer that is told that all is watched; sender is who tells it.
func pulsing(t *testing.T, n int, every time.Duration) (all fleet.Agents, c *fleet.Consumer, sender *fleet.Agent) {
	t.Helper()
	all, _ = formed(t, n)
	c = w.Consume(t, "pulse")
	c.Heartbeat = every.String()
	id, _ := c.Subscribe(all[0])
	all.Active(id)
	first := hears(t, c, "the first", time.Time{}, anything)
	if first.data.Hosts.Alive != n || len(first.data.Hosts.Lost) > 0 || first.data.Interval != every.Seconds() {
		t.Errorf("%s", first.Body)
	}
	return all, c, byName(t, all, first.Data.Reporter)
}

// by matches what an agent sends.
func by(a *fleet.Agent) func(lab.Notification) bool {
	return func(n lab.Notification) bool { return n.Data.Reporter == a.Name }
}

// beforeTheNext waits for a heartbeat of the sender, and then until shortly before its next is due.
func beforeTheNext(t *testing.T, c *fleet.Consumer, sender *fleet.Agent) {
	t.Helper()
	was := hears(t, c, "a heartbeat of "+sender.Name, time.Now(), by(sender))
	<-time.After(time.Until(was.data.Next.Add(-100 * time.Millisecond)))
}

// The sender of the heartbeats goes at the worst moment, just before the next is due, in each way that a host can go.
func TestAHeartbeatOutlivesItsSender(t *testing.T) {
	const every, rounds = time.Second, 1 // more, by hand, for figures
	all, c, sender := pulsing(t, 3, every)
	other := all[slices.IndexFunc(all, func(a *fleet.Agent) bool { return a != sender })]
	for _, way := range []struct {
		name        string
		who         *fleet.Agent
		gone, again func() error
	}{
		{"killed", sender, sender.Kill, sender.Start},
		{"cut off", sender, sender.Port.Pull, sender.Port.Plug},
		{"stopped", sender, sender.Stop, sender.Start},
		{"another one is killed", other, other.Kill, other.Start},
		{"another one is cut off", other, other.Port.Pull, other.Port.Plug},
	} {
		t.Run(way.name, func(t *testing.T) {
			c.Forget()
			var takes []time.Duration
			for range rounds {
				beforeTheNext(t, c, sender)
				at := time.Now()
				fleet.Must(t, way.gone())
				next := hears(t, c, "the next", at, func(n lab.Notification) bool { return by(sender)(n) == (way.who != sender) })
				takes = append(takes, next.Arrived.Sub(at))
				if strings.HasSuffix(way.name, "cut off") {
					hears(t, c, "one that knows of the loss", at, func(n lab.Notification) bool { return slices.Contains(read(t, n).data.Hosts.Lost, way.who.Name) })
				}
				back := time.Now()
				fleet.Must(t, way.again())
				all.Meet(fleet.Patience)
				hears(t, c, sender.Name+" to send again", back, by(sender))
			}
			longest, twice := rhythm(t, c)
			slices.Sort(takes)
			t.Logf("gone → the next: %v; longest silence %v, %d came twice", takes, longest, twice)
			if longest > silence(every) || way.who != sender && longest > 2*every {
				t.Errorf("it was silent for %v", longest)
			}
		})
	}
}

// What the sender did not live to send is sent by another one, late.
func TestAHeartbeatIsSentLateRatherThanNotAtAll(t *testing.T) {
	const every, late = 6 * time.Second, 2500 * time.Millisecond
	all, c, sender := pulsing(t, 3, every)
	for name, way := range map[string]struct{ gone, again func() error }{
		"killed": {sender.Kill, sender.Start}, "cut off": {sender.Port.Pull, sender.Port.Plug},
	} {
		t.Run(name, func(t *testing.T) {
			beforeTheNext(t, c, sender)
			c.Forget()
			at := time.Now()
			fleet.Must(t, way.gone())
			first := hears(t, c, "the next", at, anything)
			if took := first.Arrived.Sub(at); took > every || by(sender)(first.Notification) {
				t.Errorf("it came after %v from %s", took, first.Data.Reporter)
			}
			second := hears(t, c, "the one after it", first.Arrived, anything)
			t.Logf("late by %v, the one after it %v later", first.Arrived.Sub(at)-100*time.Millisecond, second.Arrived.Sub(first.Arrived))
			if second.ID == first.ID || !second.data.Next.Equal(first.data.Next.Add(every)) || second.Arrived.Sub(first.Arrived) > every-late+time.Second {
				t.Errorf("%s follows %s", second.Body, first.Body)
			}
			fleet.Must(t, way.again())
			all.Meet(fleet.Patience)
			hears(t, c, sender.Name+" to send again", time.Now(), by(sender))
		})
	}
}

// Half of the hosts go at once, the sender among them: nobody may say that they are lost. The others, which say that they are isolated, go on
// among themselves.
func TestHeartbeatsGoOnWhenHalfOfTheHostsAreGone(t *testing.T) {
	const every = time.Second
	all, c, sender := pulsing(t, 4, every)
	rest := slices.DeleteFunc(slices.Clone(all), func(a *fleet.Agent) bool { return a == sender })
	left := rest[1:]
	ofLeft := func(n lab.Notification) bool { return by(left[0])(n) || by(left[1])(n) }
	beforeTheNext(t, c, sender)
	last := c.All()
	at := time.Now()
	fleet.Must(t, w.LAN.Split([]*lab.Host{sender.Machine.Host, rest[0].Machine.Host}, []*lab.Host{left[0].Machine.Host, left[1].Machine.Host, w.Consumers}))
	next := hears(t, c, "the next", at, ofLeft)
	t.Logf("half are gone → the next %v, from %s", next.Arrived.Sub(at), next.Data.Reporter)
	hears(t, c, "one that counts two", at, func(n lab.Notification) bool { return ofLeft(n) && read(t, n).data.Hosts.Alive == 2 })
	fleet.Must(t, w.LAN.Heal())
	all.Meet(fleet.Patience)
	hears(t, c, sender.Name+" to send again", time.Now(), by(sender))
	longest, twice := rhythm(t, c)
	t.Logf("longest silence %v, %d of %d came twice", longest, twice, len(c.All())-len(last))
	if longest > silence(every) {
		t.Errorf("it was silent for %v", longest)
	}
}
