package hostloss

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/paramedic-ha/paramedic/agent/e2e/fleet"
	"github.com/paramedic-ha/paramedic/agent/e2e/lab"
)

// tolerable is how long anything may take on a machine that is busy with twenty agents; make bench judges the promises.
const tolerable = 5 * time.Second

func TestAHostThatIsCutOffIsSpokenFor(t *testing.T) {
	all, l := formed(t, size)
	victim, rest := all[0], all[1:]

	at := cut(t, victim)
	first := l.probable.Hears(t, "raised", "host-lost", victim.Machine)
	sure := l.probable.Hears(t, "changed", "host-lost", victim.Machine)
	only := l.confirmed.Hears(t, "raised", "host-lost", victim.Machine)
	t.Logf("cut → probable %v, confirmed %v", first.Arrived.Sub(at), only.Arrived.Sub(at))
	for _, n := range []lab.Notification{first, sure, only} {
		affects(t, n, victim.Machine, "failed")
		if n.Data.Reporter == victim.Name || !slices.Contains(all.Names(), n.Data.Reporter) || n.Source != "/paramedic/lab/"+victim.Name {
			t.Errorf("%s was told by %s as %s", n, n.Data.Reporter, n.Source)
		}
		if len(voters(n)) < 3 {
			t.Errorf("%s is proved by %v", n, n.Data.Evidence)
		}
		if n.Data.Alarm.ID != first.Data.Alarm.ID || n.Data.Alarm.Severity != "critical" {
			t.Errorf("another alarm, or not critical: %s", n)
		}
	}
	for _, a := range rest {
		fleet.Within(t, fleet.Patience, a.Name+" to know of the loss", func() error {
			x, err := stands(a, "host-lost", victim.Name)
			if err == nil && (x.Confidence != "confirmed" || x.ID != first.Data.Alarm.ID) {
				err = fmt.Errorf("%+v", x)
			}
			return err
		})
	}
	if out, err := rest[3].Command("alarms"); err != nil || !containsAll(out, "host-lost", victim.Name) {
		t.Errorf("alarms shows, %v:\n%s", err, out)
	}
	l.quiet(t, 2*time.Second, func(n lab.Notification) bool { // nothing else, and nothing of anybody else
		return n.ID != first.ID && n.ID != sure.ID && n.ID != only.ID
	})

	mend(t, victim)
	for _, c := range l.both() {
		over := c.Hears(t, "cleared", "host-lost", victim.Machine)
		if over.Data.Alarm.ID != first.Data.Alarm.ID || over.Data.Alarm.ClearReason != "returned" || !ownWord(over, victim.Machine) {
			t.Errorf("%s told %s is over because of %q: %s", over.Data.Reporter, over.Data.Alarm.ID, over.Data.Alarm.ClearReason, over)
		}
	}
	wellAgain(t, all)
	tells(t, l.probable, "host-lost", victim.Name, "raised probable", "changed confirmed", "cleared confirmed")
	tells(t, l.confirmed, "host-lost", victim.Name, "raised confirmed", "cleared confirmed")

	t.Run("one after the other", func(t *testing.T) { cutOneByOne(t, all, l) })
}

// cutOneByOne prints how long it takes. What is asserted is generous: make bench judges.
func cutOneByOne(t *testing.T, all fleet.Agents, l listeners) {
	const cuts = 8
	var probable, confirmed []time.Duration
	l.forget()
	for i := range cuts {
		victim := all[(3+2*i)%len(all)]
		at := cut(t, victim)
		probable = append(probable, l.probable.Hears(t, "raised", "host-lost", victim.Machine).Arrived.Sub(at))
		confirmed = append(confirmed, l.confirmed.Hears(t, "raised", "host-lost", victim.Machine).Arrived.Sub(at))
		mend(t, victim)
		for _, c := range l.both() {
			c.Hears(t, "cleared", "host-lost", victim.Machine)
		}
		tells(t, l.probable, "host-lost", victim.Name, "raised probable", "changed confirmed", "cleared confirmed")
		tells(t, l.confirmed, "host-lost", victim.Name, "raised confirmed", "cleared confirmed")
	}
	wellAgain(t, all)
	for _, c := range l.both() {
		for _, n := range c.All() {
			if x := n.Data.Alarm.Condition; x != "host-lost" && x != "isolated" {
				t.Errorf("%s was told %s", c.Name, n)
			}
		}
	}
	t.Logf("%d calls were repetitions", l.repeated(t))
	for what, took := range map[string][]time.Duration{"probable": probable, "confirmed": confirmed} {
		slices.Sort(took)
		t.Logf("cut → %s, of %d: p50 %v, p99 %v", what, cuts, took[cuts/2], took[cuts-1])
		if took[cuts-1] > tolerable {
			t.Errorf("%s took %v", what, took)
		}
	}
}
