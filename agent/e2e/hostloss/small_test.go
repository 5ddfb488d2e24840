package hostloss

import (
	"fmt"
	"testing"
	"time"

	"github.com/paramedic-ha/paramedic/agent/e2e/fleet"
	"github.com/paramedic-ha/paramedic/agent/e2e/lab"
)

func TestOneHostAloneAccusesNobody(t *testing.T) {
	all, l := form(t, 1)
	cut(t, all[0])
	l.quiet(t, 2*time.Second, anything)
	if x, err := all[0].Standing(); err != nil || len(x) > 0 {
		t.Errorf("%v: it says %+v", err, x)
	}
	mend(t, all[0])
}

func TestOfTwoHostsTheOtherIsOnlyProbablyLost(t *testing.T) {
	all, l := formed(t, 2)
	victim := all[1]
	cut(t, victim)
	n := l.probable.Hears(t, "raised", "host-lost", victim.Machine)
	affects(t, n, victim.Machine, "failed")
	l.quiet(t, 3*time.Second, func(n lab.Notification) bool { return n.Data.Alarm.Confidence == "confirmed" && accuses(n) })
	if x, err := stands(all[0], "host-lost", victim.Name); err != nil || x.Confidence != "probable" {
		t.Errorf("%v: %+v", err, x)
	}
	mend(t, victim)
	over := l.probable.Hears(t, "cleared", "host-lost", victim.Machine)
	t.Logf("over because of %q", over.Data.Alarm.ClearReason)
	wellAgain(t, all)
	for _, c := range l.both() {
		settled(t, c)
		for _, n := range c.All() {
			// The one that was cut off can't know it. What it could tell nobody it may tell when it is back, before it hears the other.
			if accuses(n) && (n.Data.Alarm.Confidence != "probable" || n.Data.Host == all[0].Name && n.Data.Reporter == all[0].Name) {
				t.Errorf("%s was told by %s: %s", c.Name, n.Data.Reporter, n)
			}
		}
	}
}

func TestOfTwoHostsTheOneThatReachesTheWitnessIsSure(t *testing.T) {
	all, l := formed(t, 2, func(_ *fleet.Machine, s *fleet.Settings) { s.Cluster = "witness: " + fleet.ConsumerAddr })
	victim := all[1]
	cut(t, victim)
	first := l.probable.Hears(t, "raised", "host-lost", victim.Machine)
	sure := l.confirmed.Hears(t, "raised", "host-lost", victim.Machine)
	affects(t, sure, victim.Machine, "failed")
	if first.Data.Alarm.ID != sure.Data.Alarm.ID || sure.Data.Reporter != all[0].Name {
		t.Errorf("%s told %s, not %s", sure.Data.Reporter, sure, first)
	}
	standsAt(t, all[1:], "isolated", "")
	accusesNone(t, all[1:])
	mend(t, victim)
	for _, c := range l.both() {
		c.Hears(t, "cleared", "host-lost", victim.Machine)
	}
	wellAgain(t, all)
	for _, c := range l.both() {
		settled(t, c)
	}
	l.quiet(t, 0, func(n lab.Notification) bool { return accuses(n) && n.Data.Host != victim.Name })
}

func TestOfThreeHostsTwoAgree(t *testing.T) {
	all, l := formed(t, 3)
	victim := all[1]
	at := cut(t, victim)
	for _, c := range l.both() {
		n := c.Hears(t, "raised", "host-lost", victim.Machine)
		t.Logf("%s was told after %v", c.Name, n.Arrived.Sub(at))
		affects(t, n, victim.Machine, "failed")
		if len(voters(n)) != 2 {
			t.Errorf("%s is proved by %v", n, n.Data.Evidence)
		}
	}
	standsAt(t, all[1:2], "isolated", "")
	accusesNone(t, all[1:2])
	mend(t, victim)
	for _, c := range l.both() {
		c.Hears(t, "cleared", "host-lost", victim.Machine)
	}
	wellAgain(t, all)
	l.quiet(t, 0, func(n lab.Notification) bool { return accuses(n) && n.Data.Host != victim.Name })
}

// A host is switched off on purpose: those who speak for it obey what was said at another one.
func TestALossThatIsMutedIsToldWhenTheMuteEnds(t *testing.T) {
	all, l := formed(t, 3)
	victim := all[1]
	out, err := all[0].Command("mute", "add", "--id", "power", "--host", victim.Name, "--for", "1h", "--reason", "a new power supply")
	fleet.Must(t, err)
	t.Log(out)
	began := time.Now()
	for _, a := range all[1:] {
		fleet.Within(t, fleet.Patience, a.Name+" to know the mute", func() error {
			out, err := a.Command("mute", "list")
			if err == nil && !containsAll(out, "power", "host="+victim.Name, "a new power supply") {
				err = fmt.Errorf("it shows %s", out)
			}
			return err
		})
	}
	t.Logf("all know it after %v", time.Since(began))

	cut(t, victim)
	for _, a := range []*fleet.Agent{all[0], all[2]} {
		fleet.Within(t, fleet.Patience, a.Name+" to be sure of the loss", func() error {
			x, err := stands(a, "host-lost", victim.Name)
			if err == nil && x.Confidence != "confirmed" {
				err = fmt.Errorf("%+v", x)
			}
			return err
		})
	}
	if out, err := all[2].Command("alarms"); err != nil || !containsAll(out, "host-lost", "(muted)") {
		t.Errorf("alarms shows, %v:\n%s", err, out)
	}
	l.quiet(t, 2*time.Second, accuses)

	at := time.Now()
	_, err = all[2].Command("mute", "end", "power")
	fleet.Must(t, err)
	for _, c := range l.both() {
		n, err := c.Wait(fleet.Patience, accuses)
		fleet.Must(t, err)
		t.Logf("%s was told %v after the end", c.Name, n.Arrived.Sub(at))
		if n.Data.Host != victim.Name || n.Data.Alarm.Confidence != "confirmed" {
			t.Errorf("%s was told %s", c.Name, n)
		}
	}
	mend(t, victim)
	for _, c := range l.both() {
		c.Hears(t, "cleared", "host-lost", victim.Machine)
	}
	wellAgain(t, all)
}
