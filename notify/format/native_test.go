package format

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	cloudevents "github.com/cloudevents/sdk-go/v2"

	"github.com/paramedic-ha/paramedic/correlate"
)

var epoch = time.Date(2026, 11, 22, 12, 0, 0, 123, time.UTC)

const domain = "domain/4dea22b3-1d52-d8f3-2516-782e98ab3fa0"

func bond(last correlate.Transition) *correlate.Alarm {
	a := &correlate.Alarm{
		Key: correlate.Key{Home: "cmp-1", Resource: "bond/bond0", Condition: correlate.CondCarrier},
		ID:  "a1", Revision: correlate.Revision{Term: 2, Counter: 7}, Last: last, Severity: correlate.SeverityCritical,
		EventType: correlate.TypeCommunications, ProbableCause: "loss-of-signal", AbstractCause: "network",
		Confidence: correlate.ConfidenceConfirmed, State: correlate.StateFailed, RootCause: true, Correlated: []string{"a2", "a3"},
		Source: "nic", Text: "bond0: both legs have lost their carrier", Evidence: map[string]string{"carrier_changes": "3", "speed": "unknown"},
		Times: correlate.Times{Occurred: epoch, Observed: epoch.Add(time.Millisecond), Raised: epoch.Add(2 * time.Millisecond)},
		Affected: []correlate.Affected{{
			Resource: domain, Name: "instance-1\u202e<b>\u001b[31m", Project: "p1", State: correlate.StateFailed,
			Ports: []correlate.Port{{MAC: "52:54:00:00:00:01", PortID: "e1"}, {MAC: "52:54:00:00:00:02"}},
		}},
	}
	if last == correlate.Cleared {
		a.Severity, a.ClearReason, a.Affected = correlate.SeverityCleared, correlate.ReasonRecovered, nil
		a.Times.Changed, a.Times.Cleared = epoch.Add(time.Second), epoch.Add(time.Second)
	}
	return a
}

func fault(a *correlate.Alarm) Fault {
	return Fault{
		ID: "n1", Label: "prod", Reporter: "cmp-1", Subscription: "s1", Alarm: a, Affected: a.Affected, Projects: []string{"p1"},
		Timeline: Timeline{Occurred: epoch, Observed: epoch.Add(time.Millisecond), Found: epoch.Add(2 * time.Millisecond), Outbox: epoch.Add(3 * time.Millisecond), Sent: epoch.Add(4 * time.Millisecond)},
	}
}

func TestBodiesAreAsEver(t *testing.T) {
	abstract := func(f Fault) Fault { f.Abstract = true; return f }
	crash := bond(correlate.Raised)
	crash.Key = correlate.Key{Home: "cmp-1", Resource: domain, Condition: correlate.CondCrash}
	crash.ProbableCause, crash.AbstractCause, crash.Correlated = "software-program-abnormally-terminated", "compute", nil
	zone, lost := bond(correlate.Raised), bond(correlate.Changed)
	zone.Key = correlate.Key{Home: "zone/rack-b", Resource: "zone/rack-b", Condition: correlate.CondZoneLost}
	zone.Revision, zone.Text = correlate.Revision{Term: 3, Counter: 2}, "2 hosts of zone rack-b were lost at once"
	zone.Evidence, zone.AbstractCause = map[string]string{"speaker": "cmp-9"}, "compute"
	lost.Key = correlate.Key{Home: "cmp-1", Resource: "host/cmp-1", Condition: correlate.CondHostLost}
	lost.Revision, lost.Text, lost.Correlated = correlate.Revision{Term: 3, Counter: 2}, "a majority of the hosts can't reach it", nil
	lost.Evidence, lost.AbstractCause = map[string]string{"speaker": "cmp-9"}, "compute"
	by := func(reporter string, f Fault) Fault { f.Reporter = reporter; return f }
	s := schema(t, "cloudevents-1.0.json")
	for name, body := range map[string]func() ([]byte, error){
		"zone-lost":        func() ([]byte, error) { return Native(by("cmp-9", fault(zone))) },
		"host-lost":        func() ([]byte, error) { return Native(by("cmp-9", fault(lost))) },
		"consumer-lost":    func() ([]byte, error) { return Native(abstract(by("cmp-9", fault(lost)))) },
		"raised":           func() ([]byte, error) { return Native(fault(bond(correlate.Raised))) },
		"cleared":          func() ([]byte, error) { return Native(fault(bond(correlate.Cleared))) },
		"crash":            func() ([]byte, error) { return Native(fault(crash)) },
		"consumer-raised":  func() ([]byte, error) { return Native(abstract(fault(bond(correlate.Raised)))) },
		"consumer-cleared": func() ([]byte, error) { return Native(abstract(fault(bond(correlate.Cleared)))) },
		"consumer-crash":   func() ([]byte, error) { return Native(abstract(fault(crash))) },
		"test": func() ([]byte, error) {
			return NativeMessage(Message{ID: "n1", Type: TypeTest, Label: "prod", Reporter: "cmp-1", Subscription: "s1", At: epoch, Text: "a test"})
		},
		"heartbeat":          func() ([]byte, error) { return NativeMessage(beat(false)) },
		"consumer-heartbeat": func() ([]byte, error) { return NativeMessage(beat(true)) },
		"verification": func() ([]byte, error) {
			return NativeMessage(Message{ID: "n1", Type: TypeVerification, Label: "prod", Reporter: "cmp-1", Subscription: "s1", At: epoch, Challenge: "abc", Abstract: true})
		},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := body()
			if err != nil {
				t.Fatal(err)
			}
			var e cloudevents.Event
			if err := json.Unmarshal(got, &e); err != nil {
				t.Fatalf("not a CloudEvent: %v", err)
			}
			if err := e.Validate(); err != nil {
				t.Fatalf("not a valid CloudEvent: %v", err)
			}
			valid(t, s, got)
			if strings.HasPrefix(name, "consumer") &&
				(strings.Contains(string(got), "cmp-1") || strings.Contains(string(got), "bond") || strings.Contains(string(got), "carrier")) {
				t.Errorf("a tenant sees something physical: %s", got)
			}
			golden(t, name, got)
		})
	}
}

func TestABodyStaysUnder20kBUnlessTheAffectedListNeedsMore(t *testing.T) {
	a := bond(correlate.Raised)
	a.Text = strings.Repeat("é<", 100_000)
	for i := range 500 {
		a.Correlated = append(a.Correlated, fmt.Sprintf("%064d", i))
		a.Evidence[fmt.Sprint("key", i)] = strings.Repeat("ü", 500)
	}
	body, err := Native(fault(a))
	if err != nil {
		t.Fatal(err)
	}
	if len(body) > 20_000 {
		t.Fatalf("%d bytes", len(body))
	}
	for i := range 1000 {
		a.Affected = append(a.Affected, correlate.Affected{Resource: correlate.ID(fmt.Sprint("domain/", i))})
	}
	if body, err = Native(fault(a)); err != nil || !strings.Contains(string(body), `"domain/999"`) {
		t.Fatalf("the affected list is cut: %v", err)
	}
}

func TestSubjectsNameResourcesClusterWide(t *testing.T) {
	for id, want := range map[correlate.ID]string{
		"bond/bond0": "host/cmp-1/bond/bond0", "host/cmp-1": "host/cmp-1", "domain/u": "domain/u", "vnic/u/m": "vnic/u/m",
		"service/paramedic/nic": "host/cmp-1/service/paramedic/nic", "hypervisor/libvirt": "host/cmp-1/hypervisor/libvirt",
	} {
		if got := Subject(correlate.Key{Home: "cmp-1", Resource: id}); got != want {
			t.Errorf("%s: %s, want %s", id, got, want)
		}
	}
	if got := Subject(correlate.Key{Home: "zone/rack-b", Resource: "zone/rack-b"}); got != "zone/rack-b" {
		t.Errorf("a zone: %s", got)
	}
}

// beat is a heartbeat of a cluster that has lost a host.
func beat(abstract bool) Message {
	return Message{
		ID: "n1", Type: TypeHeartbeat, Label: "prod", Reporter: "cmp-1", Subscription: "s1", At: epoch, Abstract: abstract,
		Beat: &Beat{
			Every: 30 * time.Second, Next: epoch.Add(30 * time.Second), Alarms: 2, Severity: correlate.SeverityCritical, Pending: 3, Parked: 1,
			Alive: 4, Lost: []string{"cmp-1"}, Expires: epoch.Add(time.Hour),
		},
	}
}
