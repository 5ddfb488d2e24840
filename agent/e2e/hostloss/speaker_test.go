package hostloss

import (
	"fmt"
	"net/http"
	"sync/atomic"
	"testing"

	"github.com/paramedic-ha/paramedic/agent/e2e/fleet"
	"github.com/paramedic-ha/paramedic/agent/e2e/lab"
)

func TestTheNextOneFinishesWhatADeadSpeakerBegan(t *testing.T) {
	all, l := formed(t, 6)
	victim := all[1]
	// One consumer takes the request and says nothing, the other is as usual.
	release := make(chan struct{})
	var stuck atomic.Bool
	stuck.Store(true)
	l.confirmed.Respond(func(w http.ResponseWriter, r *http.Request) {
		if !stuck.Load() {
			w.WriteHeader(http.StatusNoContent)
			return
		}
		select {
		case <-release:
		case <-r.Context().Done():
		}
	})
	t.Cleanup(func() { close(release) })

	cut(t, victim)
	first := l.confirmed.Hears(t, "raised", "host-lost", victim.Machine)
	l.probable.Hears(t, "changed", "host-lost", victim.Machine)
	speaker := byName(t, all, first.Data.Reporter)
	if said, _ := first.Data.Evidence["speaker"].(string); said != speaker.Name {
		t.Errorf("%s tells that %q speaks", speaker.Name, said)
	}
	stuck.Store(false)
	fleet.Must(t, speaker.Kill())
	next, err := l.confirmed.Wait(fleet.Patience, func(n lab.Notification) bool {
		return fleet.Is("raised", "host-lost", victim.Machine)(n) && n.Data.Reporter != speaker.Name
	})
	fleet.Must(t, err)
	t.Logf("%s began, %s went on %v later", speaker.Name, next.Data.Reporter, next.Arrived.Sub(first.Arrived))
	if next.ID != first.ID || next.Data.Alarm.Revision != first.Data.Alarm.Revision {
		t.Errorf("another notification: %s is not %s", next, first)
	}
	affects(t, next, victim.Machine, "failed")

	fleet.Must(t, speaker.Start())
	mend(t, victim)
	for _, c := range l.both() {
		c.Hears(t, "cleared", "host-lost", victim.Machine)
	}
	wellAgain(t, all)
	tells(t, l.probable, "host-lost", victim.Name, "raised probable", "changed confirmed", "cleared confirmed")
	tells(t, l.confirmed, "host-lost", victim.Name, "raised confirmed", "cleared confirmed")
	t.Logf("%d calls were repetitions", l.repeated(t))
}

func byName(t *testing.T, all fleet.Agents, name string) *fleet.Agent {
	t.Helper()
	for _, a := range all {
		if a.Name == name {
			return a
		}
	}
	t.Fatalf("there is no %q", name)
	return nil
}

func TestWhatALostHostOwesIsTold(t *testing.T) {
	all, l := formed(t, 6)
	victim := all[1]
	down := func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) }
	l.confirmed.Respond(down)
	fleet.Must(t, victim.Uplink.Pull())
	l.probable.Hears(t, "raised", "carrier", victim.Machine)
	owed := l.confirmed.Hears(t, "raised", "carrier", victim.Machine) // and was not taken
	for _, a := range all {
		a.Carrier(victim.Machine)
	}
	cut(t, victim)
	l.probable.Hears(t, "changed", "host-lost", victim.Machine)
	l.confirmed.Forget()
	l.confirmed.Respond(nil)
	n := l.confirmed.Hears(t, "raised", "carrier", victim.Machine)
	if n.ID != owed.ID || n.Data.Reporter == victim.Name || n.Source != "/paramedic/lab/"+victim.Name {
		t.Errorf("%s told %s, owed was %s", n.Data.Reporter, n, owed)
	}
	t.Logf("%s told what %s owed", n.Data.Reporter, victim.Name)
	l.confirmed.Hears(t, "raised", "host-lost", victim.Machine)
	for _, a := range append(all[:1:1], all[2:]...) { // its alarm stands as it was
		if x := a.Carrier(victim.Machine); x.ID != owed.Data.Alarm.ID {
			t.Errorf("%s knows it as %+v", a.Name, x)
		}
	}

	mend(t, victim)
	for _, c := range l.both() {
		c.Hears(t, "cleared", "host-lost", victim.Machine)
	}
	all.Level(fleet.Patience)
	for _, a := range all {
		fleet.Within(t, fleet.Patience, a.Name+" to know its alarm as before", func() error {
			x, err := stands(a, "carrier", victim.Name)
			if err == nil && x.ID != owed.Data.Alarm.ID {
				err = fmt.Errorf("%+v", x)
			}
			return err
		})
	}
	fleet.Must(t, victim.Uplink.Plug())
	for _, c := range l.both() {
		if over := c.Hears(t, "cleared", "carrier", victim.Machine); over.Data.Alarm.ID != owed.Data.Alarm.ID || !ownWord(over, victim.Machine) {
			t.Errorf("%s ended %s", over.Data.Reporter, over)
		}
	}
	wellAgain(t, all)
	for _, c := range l.both() {
		settled(t, c)
	}
	t.Logf("%d calls were repetitions", l.repeated(t))
}
