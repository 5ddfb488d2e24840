package format

import (
	"encoding/json"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/paramedic-ha/paramedic/correlate"
	"github.com/paramedic-ha/paramedic/notify/delivery"
)

func alertAsks(f Fault, over bool) []delivery.Ask {
	var asks []delivery.Ask
	for _, p := range alertParts(f) {
		asks = append(asks, delivery.Ask{Part: p, Over: over})
	}
	return asks
}

func TestAlertmanagerBodiesAreAsEver(t *testing.T) {
	s := schema(t, "alertmanager-api-v2.json")
	tell := func(f Fault) Fault { f.Asks = alertAsks(f, false); return f }
	over := func(told, f Fault) Fault { f.Asks = alertAsks(told, true); return f }
	abstract := func(f Fault) Fault { f.Abstract = true; return f }
	raised, cleared := fault(bond(correlate.Raised)), fault(bond(correlate.Cleared))
	nobody := fault(bond(correlate.Raised))
	nobody.Affected = nil
	crash := bond(correlate.Raised)
	crash.Key = correlate.Key{Home: "cmp-1", Resource: domain, Condition: correlate.CondCrash}
	crash.ProbableCause, crash.AbstractCause, crash.Correlated = "software-program-abnormally-terminated", "compute", nil
	for name, f := range map[string]Fault{
		"alertmanager-raised": tell(raised), "alertmanager-cleared": over(raised, cleared), "alertmanager-nobody": tell(nobody),
		"alertmanager-crash": tell(fault(crash)), "alertmanager-consumer-raised": tell(abstract(raised)),
		"alertmanager-consumer-cleared": over(abstract(raised), abstract(cleared)), "alertmanager-consumer-crash": tell(abstract(fault(crash))),
	} {
		t.Run(name, func(t *testing.T) {
			got, err := alertFault(f)
			if err != nil {
				t.Fatal(err)
			}
			if f.Abstract {
				unsayable(t, got)
			}
			valid(t, s, got)
			golden(t, name, got)
		})
	}
	got, err := alertMessage(Message{ID: "n1", Type: TypeTest, Label: "prod", Reporter: "cmp-1", Subscription: "s1", At: epoch, Text: "a test"})
	if err != nil {
		t.Fatal(err)
	}
	valid(t, s, got)
	golden(t, "alertmanager-test", got)
	if got, err = alertMessage(beat(true)); err != nil {
		t.Fatal(err)
	}
	unsayable(t, got)
	valid(t, s, got)
	golden(t, "alertmanager-heartbeat", got)
}

func alerts(t *testing.T, f Fault) []alert {
	t.Helper()
	body, err := alertFault(f)
	if err != nil {
		t.Fatal(err)
	}
	var got []alert
	if err := json.Unmarshal(body, &got); err != nil {
		t.Fatal(err)
	}
	return got
}

// TestAnAlertEndsUnderTheLabelsThatItBeganWith, whatever has become of the alarm since; no two alerts have the same, and their names
// are ones that Prometheus knows.
func TestAnAlertEndsUnderTheLabelsThatItBeganWith(t *testing.T) {
	legal := regexp.MustCompile(`^[a-zA-Z_][a-zA-Z0-9_]*$`)
	for _, abstract := range []bool{false, true} {
		f := fault(bond(correlate.Raised))
		f.Abstract = abstract
		f.Alarm.Affected = append(f.Alarm.Affected, correlate.Affected{Resource: "domain/z", Project: "p1", State: correlate.StateDegraded})
		f.Affected = f.Alarm.Affected
		f.Asks = alertAsks(f, false)
		begun := alerts(t, f)
		end := fault(bond(correlate.Cleared))
		end.Abstract, end.Asks = abstract, alertAsks(f, true)
		ended := alerts(t, end)
		if len(begun) != len(ended) || len(begun) < 2 {
			t.Fatalf("%d, %d", len(begun), len(ended))
		}
		seen := map[string]bool{}
		for i := range begun {
			if !maps.Equal(begun[i].Labels, ended[i].Labels) || begun[i].StartsAt != ended[i].StartsAt {
				t.Errorf("began %v, ended %v", begun[i], ended[i])
			}
			key, _ := json.Marshal(begun[i].Labels)
			if seen[string(key)] {
				t.Errorf("twice: %s", key)
			}
			seen[string(key)] = true
			for name := range begun[i].Labels {
				if !legal.MatchString(name) {
					t.Errorf("label %q", name)
				}
			}
		}
	}
}

func TestAnAlertOfAnotherSeverityIsAnotherAlert(t *testing.T) {
	f := fault(bond(correlate.Raised))
	before := alertParts(f)
	f.Alarm.Severity = correlate.SeverityWarning
	after := alertParts(f)
	for _, p := range after {
		if slices.ContainsFunc(before, func(b delivery.Part) bool { return b.ID == p.ID }) {
			t.Errorf("%s stays", p.ID)
		}
	}
	f.Asks = nil
	for _, p := range delivery.Missing(before, after) {
		f.Asks = append(f.Asks, delivery.Ask{Part: p, Over: true})
	}
	for _, a := range alerts(t, f) {
		if a.Labels["severity"] != "critical" || strings.Contains(a.EndsAt, "T12:04") {
			t.Errorf("%+v", a)
		}
	}
}

// TestAnEndLiesInThePastOfAClockThatIsSlower, and never before the beginning, which Alertmanager refuses.
func TestAnEndLiesInThePastOfAClockThatIsSlower(t *testing.T) {
	for age, want := range map[time.Duration]time.Duration{time.Minute: time.Minute - 5*time.Second, time.Second: 0} {
		f := fault(bond(correlate.Raised))
		f.Asks = alertAsks(f, true)
		f.Alarm = bond(correlate.Cleared)
		f.Alarm.Times.Cleared = epoch.Add(age)
		a := alerts(t, f)[0]
		if end, err := time.Parse(time.RFC3339, a.EndsAt); err != nil || !end.Equal(epoch.Add(want)) {
			t.Errorf("after %v: from %s to %s", age, a.StartsAt, a.EndsAt)
		}
	}
}
