package hostloss

import (
	"fmt"
	"os"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/paramedic-ha/paramedic/agent/e2e/fleet"
	"github.com/paramedic-ha/paramedic/agent/e2e/lab"
)

// freeze stops the agents where they stand; thaw lets them go on.
func freeze(t *testing.T, as fleet.Agents) { t.Helper(); signal(t, as, syscall.SIGSTOP) }

func thaw(t *testing.T, as fleet.Agents) { t.Helper(); signal(t, as, syscall.SIGCONT) }

func signal(t *testing.T, as fleet.Agents, sig os.Signal) {
	t.Helper()
	for _, a := range as {
		fleet.Must(t, a.Process().Signal(sig))
	}
}

// TestAFrozenAgentIsNoLostHost also kills one: its port is closed, so that it is never taken for hung.
func TestAFrozenAgentIsNoLostHost(t *testing.T) {
	all, l := form(t, size)
	victim, killed := all[1], all[2]

	for _, some := range []fleet.Agents{all[1:2], all} {
		freeze(t, some)
		l.quiet(t, time.Second, anything)
		thaw(t, some)
		l.quiet(t, 2500*time.Millisecond, anything)
	}
	all.Level(fleet.Patience)

	at := time.Now()
	freeze(t, all[1:2])
	fleet.Must(t, killed.Kill())
	for _, c := range l.both() {
		if n := c.Hears(t, "raised", "agent-silent", killed.Machine); n.Data.Alarm.Severity != "warning" || n.Arrived.Sub(at) > tolerable {
			t.Errorf("after %v: %s", n.Arrived.Sub(at), n)
		}
		silent := c.Hears(t, "raised", "agent-silent", victim.Machine)
		t.Logf("%s: agent-silent after %v", c.Name, silent.Arrived.Sub(at))
		if len(silent.Data.Affected) > 0 || silent.Data.Alarm.Severity != "warning" || silent.Data.Reporter == victim.Name || silent.Arrived.Sub(at) > tolerable {
			t.Errorf("it was told after %v by %s: %s", silent.Arrived.Sub(at), silent.Data.Reporter, silent)
		}
	}
	var hung lab.Notification
	for _, c := range l.both() {
		hung = c.Hears(t, "raised", "host-hung", victim.Machine)
		t.Logf("%s: host-hung after %v", c.Name, hung.Arrived.Sub(at))
		affects(t, hung, victim.Machine, "unknown")
		if hung.Data.Alarm.Severity != "critical" || hung.Data.Reporter == victim.Name || hung.Arrived.Sub(at) < 9*time.Second {
			t.Errorf("it was told after %v by %s: %s", hung.Arrived.Sub(at), hung.Data.Reporter, hung)
		}
		if over := c.Hears(t, "cleared", "agent-silent", victim.Machine); over.Data.Alarm.ClearReason != "superseded" {
			t.Errorf("the lesser word ends because of %q: %s", over.Data.Alarm.ClearReason, over)
		}
	}
	fleet.Within(t, fleet.Patience, "a peer to know", func() error {
		x, err := stands(all[7], "host-hung", victim.Name)
		if err == nil && x.ID != hung.Data.Alarm.ID {
			err = fmt.Errorf("%+v", x)
		}
		return err
	})
	l.quiet(t, 3*time.Second, func(n lab.Notification) bool {
		return accuses(n) && (n.Data.Host != victim.Name || n.Data.Alarm.Condition != "host-hung")
	})
	thaw(t, all[1:2])
	fleet.Must(t, killed.Start())
	for _, c := range l.both() {
		if over := c.Hears(t, "cleared", "host-hung", victim.Machine); !ownWord(over, victim.Machine) || over.Data.Alarm.ClearReason != "returned" {
			t.Errorf("%s told that it is over because of %q: %s", over.Data.Reporter, over.Data.Alarm.ClearReason, over)
		}
	}
	for _, c := range l.both() {
		if over := c.Hears(t, "cleared", "agent-silent", killed.Machine); !ownWord(over, killed.Machine) || over.Data.Alarm.ClearReason != "returned" {
			t.Errorf("%s told that it is over because of %q: %s", over.Data.Reporter, over.Data.Alarm.ClearReason, over)
		}
	}
	wellAgain(t, all)
	for _, c := range l.both() {
		tells(t, c, "agent-silent", killed.Name, "raised confirmed", "cleared confirmed")
		tells(t, c, "host-hung", victim.Name, "raised confirmed", "cleared confirmed")
		for _, n := range c.All() {
			if n.Data.Alarm.Condition == "host-lost" || n.Data.Host != victim.Name && (n.Data.Host != killed.Name || n.Data.Alarm.Condition != "agent-silent") {
				t.Errorf("%s was told %s", c.Name, n)
			}
		}
	}
	t.Logf("%d calls were repetitions", l.repeated(t))
}

func TestAnAgentThatIsStoppedIsNotMissedButItsHostIsWatched(t *testing.T) {
	all, l := form(t, 6)
	victim := all[1]
	fleet.Must(t, victim.Stop())
	l.quiet(t, 5*time.Second, anything)

	at := cut(t, victim)
	for _, c := range l.both() {
		n := c.Hears(t, "raised", "host-lost", victim.Machine)
		t.Logf("%s: host-lost %v after the cut", c.Name, n.Arrived.Sub(at))
		affects(t, n, victim.Machine, "failed")
	}
	mend(t, victim)
	fleet.Must(t, victim.Start())
	for _, c := range l.both() {
		c.Hears(t, "cleared", "host-lost", victim.Machine)
	}
	wellAgain(t, all)
	tells(t, l.probable, "host-lost", victim.Name, "raised probable", "changed confirmed", "cleared confirmed")
	tells(t, l.confirmed, "host-lost", victim.Name, "raised confirmed", "cleared confirmed")
	t.Logf("%d calls were repetitions", l.repeated(t))
}

func TestBusyProcessorsLoseNoHost(t *testing.T) {
	all, l := form(t, size)
	for range 2 * runtime.NumCPU() {
		p, err := w.Consumers.Start("sh", "-c", "while :; do :; done")
		fleet.Must(t, err)
		t.Cleanup(func() { _ = p.Kill() })
	}
	l.quiet(t, 20*time.Second, accuses)
	t.Logf("told meanwhile: %v", l.probable.All())
	all.Level(fleet.Patience)
}
