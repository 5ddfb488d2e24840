package format

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/paramedic-ha/paramedic/correlate"
	"github.com/paramedic-ha/paramedic/notify/delivery"
)

func TestAodhBodiesAreAsEver(t *testing.T) {
	s := schema(t, "aodh-event-alarm.json")
	raised := fault(bond(correlate.Raised))
	tell := func(f Fault) Fault { f.Asks = []delivery.Ask{{Part: aodhParts(f)[0]}}; return f }
	over := func(f Fault) Fault {
		f.Asks = []delivery.Ask{{Part: delivery.Part{ID: domain, Project: "p1"}, Over: true}}
		return f
	}
	still := func(f Fault) Fault { f = over(f); f.Asks[0].Still = true; return f }
	abstract := func(f Fault) Fault { f.Abstract = true; return f }
	atRisk := fault(bond(correlate.Changed))
	atRisk.Affected = []correlate.Affected{{Resource: domain, Project: "p1", State: correlate.StateAtRisk}}
	left := fault(bond(correlate.Changed))
	left.Affected = nil
	crash := bond(correlate.Raised)
	crash.Key = correlate.Key{Home: "cmp-1", Resource: domain, Condition: correlate.CondCrash}
	crash.ProbableCause, crash.AbstractCause, crash.Correlated = "software-program-abnormally-terminated", "compute", nil
	for name, f := range map[string]Fault{
		"aodh-raised": tell(raised), "aodh-left": over(left), "aodh-cleared": over(fault(bond(correlate.Cleared))), "aodh-at-risk": tell(atRisk), "aodh-still": still(left),
		"aodh-consumer-raised": tell(abstract(raised)), "aodh-consumer-left": over(abstract(left)),
		"aodh-consumer-cleared": over(abstract(fault(bond(correlate.Cleared)))), "aodh-consumer-crash": tell(abstract(fault(crash))),
	} {
		t.Run(name, func(t *testing.T) {
			got, err := aodhFault(f)
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
	got, err := aodhMessage(Message{ID: "n1", Type: TypeTest, Label: "prod", Reporter: "cmp-1", Subscription: "s1", At: epoch, Text: "a test"})
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "aodh-test", got)
}

// TestTheSchemaIsThatOfARealAodh: what real ones sent passes it as well (a log of an OPNFV Doctor test of 2017, some traits left out).
func TestTheSchemaIsThatOfARealAodh(t *testing.T) {
	s := schema(t, "aodh-event-alarm.json")
	files, err := filepath.Glob("testdata/received/aodh-*.json")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		body, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		valid(t, s, body)
	}
}

func TestAnAodhAlarmIsOneFaultOnOneMachine(t *testing.T) {
	a := bond(correlate.Raised)
	a.Affected = nil
	for i := range 3 {
		a.Affected = append(a.Affected, correlate.Affected{Resource: correlate.ID(fmt.Sprint("domain/", 9-i)), Project: "p", State: correlate.StateFailed})
	}
	f := fault(a)
	parts := aodhParts(f)
	if !slices.IsSortedFunc(parts, func(a, b delivery.Part) int { return strings.Compare(a.ID, b.ID) }) {
		t.Errorf("%+v", parts)
	}
	ids := map[string]bool{}
	for _, p := range parts {
		for _, over := range []bool{false, true} {
			f.Asks = []delivery.Ask{{Part: p, Over: over}}
			body, err := aodhFault(f)
			if err != nil {
				t.Fatal(err)
			}
			var got struct {
				AlarmID string `json:"alarm_id"`
			}
			if err := json.Unmarshal(body, &got); err != nil {
				t.Fatal(err)
			}
			if _, err := uuid.Parse(got.AlarmID); err != nil || ids[got.AlarmID] != over {
				t.Errorf("alarm %s of %s", got.AlarmID, p.ID)
			}
			ids[got.AlarmID] = true
		}
	}
}

func TestWhatAMachineIsShownChangesWithItsStateAndTheFaultsSeverityAlone(t *testing.T) {
	view := func(change func(a *correlate.Alarm)) uint64 {
		a := bond(correlate.Raised)
		change(a)
		return aodhParts(fault(a))[0].View
	}
	first := view(func(*correlate.Alarm) {})
	for name, change := range map[string]func(a *correlate.Alarm){
		"state": func(a *correlate.Alarm) { a.Affected[0].State = correlate.StateDegraded }, "severity": func(a *correlate.Alarm) { a.Severity = correlate.SeverityMajor },
		"confidence": func(a *correlate.Alarm) { a.Confidence = correlate.ConfidenceFenced },
	} {
		if view(change) == first {
			t.Errorf("%s: not shown", name)
		}
	}
	for name, change := range map[string]func(a *correlate.Alarm){
		"text": func(a *correlate.Alarm) { a.Text = "other" }, "revision": func(a *correlate.Alarm) { a.Revision.Counter++ },
		"somebody else": func(a *correlate.Alarm) { a.Affected = append(a.Affected, correlate.Affected{Resource: "domain/z"}) },
	} {
		if view(change) != first {
			t.Errorf("%s: shown", name)
		}
	}
}

// TestNoTraitIsWiderThanItsColumn, nor has the brackets at which OPNFV Doctor's application manager reads YAML.
func TestNoTraitIsWiderThanItsColumn(t *testing.T) {
	a := bond(correlate.Raised)
	a.Affected[0].Name, a.ProbableCause = "[{", strings.Repeat("ü", 300)
	f := fault(a)
	f.Asks = []delivery.Ask{{Part: aodhParts(f)[0]}}
	body, err := aodhFault(f)
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		ReasonData struct {
			Event struct{ Traits [][3]any }
		} `json:"reason_data"`
	}
	if err := json.Unmarshal(body, &got); err != nil {
		t.Fatal(err)
	}
	for _, trait := range got.ReasonData.Event.Traits {
		if v := fmt.Sprint(trait[2]); len(v) > 255 || strings.ContainsAny(v, "[{") {
			t.Errorf("%v: %s", trait[0], v)
		}
	}
}
