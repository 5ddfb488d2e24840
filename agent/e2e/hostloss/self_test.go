package hostloss

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"

	"github.com/paramedic-ha/paramedic/agent/e2e/fleet"
	"github.com/paramedic-ha/paramedic/agent/e2e/lab"
)

// busConfig is a message bus on which everybody may do everything, at the system bus's usual place.
const busConfig = `<busconfig>
  <type>system</type>
  <listen>unix:path=%s</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow own="*"/><allow send_destination="*"/><allow receive_sender="*"/><allow user="*"/>
  </policy>
</busconfig>`

const busSocket = "/run/dbus/system_bus_socket"

// manager is as much of systemd as the agent asks at its end.
type manager struct{ state string }

func (m manager) Get(iface, property string) (dbus.Variant, *dbus.Error) {
	if iface != "org.freedesktop.systemd1.Manager" || property != "SystemState" {
		return dbus.Variant{}, dbus.MakeFailedError(fmt.Errorf("there is no %s of %s", property, iface))
	}
	return dbus.MakeVariant(m.state), nil
}

// systemd has the host's system bus say that systemd is in that state.
func systemd(t *testing.T, m *fleet.Machine, state string) {
	t.Helper()
	const file = lab.Dir + "/bus.conf"
	fleet.Must(t, m.WriteFile(file, fmt.Sprintf(busConfig, busSocket), 0o644))
	fleet.Must(t, m.WriteFile("/run/dbus/here", "", 0o644)) // for the directory
	bus, err := m.Host.Start("dbus-daemon", "--nofork", "--nopidfile", "--nosyslog", "--config-file="+file)
	fleet.Must(t, err)
	t.Cleanup(func() { _ = bus.Kill() })
	var conn *dbus.Conn
	fleet.Within(t, fleet.Patience, "the bus", func() (err error) {
		conn, err = dbus.Connect("unix:path=" + m.Path(busSocket))
		if err != nil {
			err = fmt.Errorf("%w: %s", err, bus.Log())
		}
		return err
	})
	t.Cleanup(func() { _ = conn.Close() })
	fleet.Must(t, conn.Export(manager{state}, "/org/freedesktop/systemd1", "org.freedesktop.DBus.Properties"))
	got, err := conn.RequestName("org.freedesktop.systemd1", dbus.NameFlagDoNotQueue)
	if err != nil || got != dbus.RequestNameReplyPrimaryOwner {
		t.Fatalf("the name was not given: %v, %v", got, err)
	}
}

func TestAHostThatGoesDownSaysSo(t *testing.T) {
	all, l := form(t, 6)
	victim := all[1]
	systemd(t, victim.Machine, "stopping")
	at := time.Now()
	fleet.Must(t, victim.Stop())
	for _, c := range l.both() {
		n := c.Hears(t, "raised", "host-shutdown", victim.Machine)
		t.Logf("%s was told after %v by %s", c.Name, n.Arrived.Sub(at), n.Data.Reporter)
		affects(t, n, victim.Machine, "failed")
		if n.Data.Alarm.Severity != "critical" || n.Arrived.Sub(at) > tolerable {
			t.Errorf("after %v: %s", n.Arrived.Sub(at), n)
		}
	}
	cut(t, victim)
	l.quiet(t, 5*time.Second, func(n lab.Notification) bool { return n.Data.Alarm.Condition != "host-shutdown" })
	for _, a := range append(all[:1:1], all[2:]...) {
		if _, err := stands(a, "host-shutdown", victim.Name); err != nil {
			t.Error(err)
		}
	}
	mend(t, victim)
	fleet.Must(t, victim.Start())
	for _, c := range l.both() {
		c.Hears(t, "cleared", "host-shutdown", victim.Machine)
	}
	wellAgain(t, all)
	for _, c := range l.both() {
		settled(t, c)
	}
	t.Logf("%d calls were repetitions", l.repeated(t))
}

func TestAHostThatWasRestartedSaysWhatRanOnIt(t *testing.T) {
	all, l := form(t, 3)
	victim := all[1]
	// Its memory is made that of another run of the kernel: namespaces have but one.
	const file = lab.StateDir + "/host.json"
	var doc map[string]any
	fleet.Within(t, fleet.Patience, "the memory of what runs", func() error {
		out, err := victim.Machine.Host.Run("cat", file)
		if err != nil {
			return err
		}
		if !containsAll(out, domainsOf(victim.Machine)...) {
			return fmt.Errorf("it is %s", out)
		}
		return json.NewDecoder(strings.NewReader(out)).Decode(&doc)
	})
	fleet.Must(t, victim.Kill())
	doc["boot"] = "00000000-0000-4000-8000-000000000001"
	text, err := json.Marshal(doc)
	fleet.Must(t, err)
	fleet.Must(t, victim.WriteFile(file, string(text), 0o600))
	fleet.Must(t, victim.Start())
	for _, c := range l.both() {
		n := c.Hears(t, "raised", "host-restarted", victim.Machine)
		affects(t, n, victim.Machine, "failed")
		if n.Data.Alarm.Severity != "critical" || n.Data.Reporter != victim.Name {
			t.Errorf("%s told %s", n.Data.Reporter, n)
		}
	}
	// A restart of the agent alone is none of the host.
	all.Level(fleet.Patience)
	l.forget()
	fleet.Must(t, victim.Kill())
	fleet.Must(t, victim.Start())
	all.Level(fleet.Patience)
	l.quiet(t, time.Second, func(n lab.Notification) bool {
		return n.Type == "paramedic.fault.raised" && n.Data.Alarm.Condition == "host-restarted"
	})
}
