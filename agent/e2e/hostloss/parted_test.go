package hostloss

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/paramedic-ha/paramedic/agent/e2e/fleet"
	"github.com/paramedic-ha/paramedic/agent/e2e/lab"
)

// inZones puts the hosts into zones of so many, in their order.
func inZones(sizes ...int) func(m *fleet.Machine, s *fleet.Settings) {
	return func(m *fleet.Machine, s *fleet.Settings) {
		n := m.N
		for i, size := range sizes {
			if n -= size; n <= 0 {
				s.Zone = fmt.Sprint("rack-", i+1)
				return
			}
		}
	}
}

// standsAt waits until each of these says such an alarm of that home; empty: each of itself.
func standsAt(t *testing.T, as fleet.Agents, condition, home string) {
	t.Helper()
	for _, a := range as {
		of := home
		if of == "" {
			of = a.Name
		}
		fleet.Within(t, fleet.Patience, fmt.Sprintf("%s to say %s of %s", a.Name, condition, of), func() error {
			_, err := stands(a, condition, of)
			return err
		})
	}
}

// accusesNone fails if one of these says of any other host that it is lost or hung.
func accusesNone(t *testing.T, as fleet.Agents) {
	t.Helper()
	for _, a := range as {
		all, err := a.Standing()
		fleet.Must(t, err)
		for _, x := range all {
			if slices.Contains([]string{"host-lost", "host-hung", "zone-lost", "agent-silent"}, x.Condition) {
				t.Errorf("%s says %s of %s: %+v", a.Name, x.Condition, x.Host, x)
			}
		}
	}
}

func TestAMinorityAccusesNobody(t *testing.T) {
	all, l := formed(t, size, inZones(7, 7, 6))
	minority, majority := all[:7], all[7:]
	fleet.Must(t, w.LAN.Split(minority.Hosts(), majority.Hosts()))

	var lost lab.Notification
	for _, c := range l.both() {
		n, err := c.Wait(fleet.Patience, func(n lab.Notification) bool {
			return n.Type == "paramedic.fault.raised" && n.Data.Alarm.Condition == "zone-lost"
		})
		fleet.Must(t, err)
		lost = n
		if !slices.Contains(majority.Names(), n.Data.Reporter) {
			t.Errorf("%s told %s", n.Data.Reporter, n)
		}
	}
	standsAt(t, minority, "isolated", "")
	for _, m := range minority { // the consumers hear each of them all the same
		l.confirmed.Hears(t, "raised", "isolated", m.Machine)
	}
	accusesNone(t, minority)
	for _, m := range minority {
		standsAt(t, majority, "host-lost", m.Name)
	}
	l.quiet(t, 2*time.Second, func(n lab.Notification) bool {
		return accuses(n) && (slices.Contains(majority.Names(), n.Data.Host) || slices.Contains(minority.Names(), n.Data.Reporter))
	})

	fleet.Must(t, w.LAN.Heal())
	wellAgain(t, all)
	for _, c := range l.both() {
		_, err := c.Wait(fleet.Patience, func(n lab.Notification) bool {
			return n.Type == "paramedic.fault.cleared" && n.Data.Alarm.ID == lost.Data.Alarm.ID
		})
		fleet.Must(t, err)
		settled(t, c)
	}
	t.Logf("%d calls were repetitions", l.repeated(t))
}

// settled fails unless all that a consumer was told of is over, and nothing of it came under two ids.
func settled(t *testing.T, c *fleet.Consumer) {
	t.Helper()
	ids := map[string]string{} // condition and home → alarm
	newest := map[string]lab.Notification{}
	for _, n := range c.All() {
		key := n.Data.Alarm.Condition + " of " + n.Data.Host + n.Subject
		if id, known := ids[key]; known && id != n.Data.Alarm.ID {
			t.Errorf("%s was told of %s under two ids: %s", c.Name, key, n)
		}
		ids[key] = n.Data.Alarm.ID
		newest[n.Data.Alarm.ID] = n
	}
	for id := range newest {
		_, err := c.Wait(fleet.Patience, func(n lab.Notification) bool {
			return n.Data.Alarm.ID == id && n.Data.Alarm.State == "cleared"
		})
		if err != nil {
			t.Errorf("%s was not told that it is over: %s", c.Name, newest[id])
		}
	}
	c.Identities(t)
}

func TestOfTwoHalvesNoneAccusesTheOther(t *testing.T) {
	all, l := form(t, size)
	fleet.Must(t, w.LAN.Split(all[:size/2].Hosts(), all[size/2:].Hosts()))
	standsAt(t, all, "isolated", "")
	accusesNone(t, all)
	l.quiet(t, 3*time.Second, accuses)
	accusesNone(t, all)
	for _, a := range all {
		l.confirmed.Hears(t, "raised", "isolated", a.Machine)
	}
	fleet.Must(t, w.LAN.Heal())
	wellAgain(t, all)
	for _, c := range l.both() {
		settled(t, c)
	}
	t.Logf("%d calls were repetitions", l.repeated(t))
}

func TestARackIsOneAlarm(t *testing.T) {
	all, l := formed(t, size, inZones(6, 7, 7))
	rack, rest := all[:6], all[6:]
	var victims []string
	for _, a := range rack {
		victims = append(victims, domainsOf(a.Machine)...)
	}
	at := time.Now()
	cutAll(t, rack, rest)

	// All of them may be known a moment after the first: the last call for each level names all.
	whole := func(c *fleet.Consumer, confidences ...string) lab.Notification {
		t.Helper()
		n, err := c.Wait(fleet.Patience, func(n lab.Notification) bool {
			return n.Data.Alarm.Condition == "zone-lost" && slices.Contains(confidences, n.Data.Alarm.Confidence) && slices.Equal(names(n), victims)
		})
		fleet.Must(t, err)
		t.Logf("%s was told of all after %v: %s", c.Name, n.Arrived.Sub(at), n)
		return n
	}
	whole(l.probable, "probable", "confirmed")
	sure := whole(l.confirmed, "confirmed")
	for _, a := range rest {
		for _, b := range rack {
			fleet.Within(t, fleet.Patience, a.Name+" to know of "+b.Name, func() error {
				x, err := stands(a, "host-lost", b.Name)
				if err == nil && x.Under != sure.Data.Alarm.ID {
					err = fmt.Errorf("it is under %q: %+v", x.Under, x)
				}
				return err
			})
		}
	}
	l.quiet(t, 2*time.Second, func(n lab.Notification) bool { return n.Data.Alarm.ID != sure.Data.Alarm.ID }) // no host's own
	for _, c := range l.both() {                                                                              // on a machine that is busy with twenty agents some may be known late, and more than one may speak
		t.Logf("%s was called %d times", c.Name, len(c.All()))
		last := slices.MaxFunc(c.All(), func(a, b lab.Notification) int { return revision(a).Compare(revision(b)) })
		if last.Data.Alarm.Confidence != "confirmed" || !slices.Equal(names(last), victims) {
			t.Errorf("the last that %s was told is %s", c.Name, last)
		}
	}
	if newest, err := stands(rest[0], "zone-lost", sure.Data.Host); err != nil || len(newest.Correlated) != len(rack) {
		t.Errorf("%v: under it are %v", err, newest.Correlated)
	}

	fleet.Must(t, w.LAN.Heal())
	for _, c := range l.both() {
		_, err := c.Wait(fleet.Patience, func(n lab.Notification) bool {
			return n.Type == "paramedic.fault.cleared" && n.Data.Alarm.ID == sure.Data.Alarm.ID
		})
		fleet.Must(t, err)
	}
	wellAgain(t, all)
	for _, c := range l.both() {
		settled(t, c)
	}
	t.Logf("%d calls were repetitions", l.repeated(t))
}

// names are those of the domains that a notification says are affected, in order.
func names(n lab.Notification) (of []string) {
	for _, d := range n.Data.Affected {
		of = append(of, d.Name)
	}
	slices.Sort(of)
	return of
}
