package format

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/paramedic-ha/paramedic/correlate"
	"github.com/paramedic-ha/paramedic/notify/delivery"
)

var site = SOLSite{APIRoot: "https://faults.example:8443", VIM: "vim-1"}

// vnfs is the bond's fault hitting two machines of one VNF, one of another and one of none.
func vnfs(last correlate.Transition) *correlate.Alarm {
	a := bond(last)
	one := func(n int, project string, vnf correlate.VNF, state correlate.State) correlate.Affected {
		return correlate.Affected{
			Resource: correlate.ID(fmt.Sprintf("domain/0000000%d-0000-4000-8000-000000000000", n)), Name: fmt.Sprint("vm-", n), Project: project,
			VNF: vnf, State: state, Ports: []correlate.Port{{MAC: fmt.Sprint("52:54:00:00:00:0", n), PortID: fmt.Sprint("port-", n)}},
		}
	}
	a.Affected = []correlate.Affected{
		one(1, "p1", correlate.VNF{ID: "vnf-a", VNFC: "vdu-2"}, correlate.StateDegraded), one(2, "p1", correlate.VNF{ID: "vnf-b"}, correlate.StateFailed),
		one(3, "p1", correlate.VNF{}, correlate.StateFailed), one(4, "p1", correlate.VNF{ID: "vnf-a", VNFC: "vdu-1"}, correlate.StateFailed),
	}
	return a
}

func solOf(f Fault, object string, over bool) Fault {
	f.SOL, f.Subscription = site, "8f1de1e6-5c3e-5c3e-9a44-1d2f0a5b7c10"
	f.Asks = []delivery.Ask{{Part: delivery.Part{ID: object}, Over: over}}
	return f
}

func TestSOLBodiesAreAsEver(t *testing.T) {
	s := schema(t, "sol-vnffm.json")
	abstract := func(f Fault) Fault { f.Abstract = true; return f }
	crash := vnfs(correlate.Raised)
	crash.Key = correlate.Key{Home: "cmp-1", Resource: crash.Affected[3].Resource, Condition: correlate.CondCrash}
	crash.EventType, crash.Correlated = correlate.TypeProcessingError, nil
	crash.ProbableCause, crash.AbstractCause, crash.Affected = "software-program-abnormally-terminated", "compute", crash.Affected[3:]
	acknowledged := vnfs(correlate.Changed)
	acknowledged.Severity, acknowledged.Times.Changed = correlate.SeverityWarning, epoch.Add(time.Second)
	acknowledged.Ack = &correlate.Acknowledgement{By: "ops", At: epoch.Add(2 * time.Second)}
	for name, f := range map[string]Fault{
		"sol-raised":           solOf(fault(vnfs(correlate.Raised)), "vnf-a", false),
		"sol-machine":          solOf(fault(vnfs(correlate.Raised)), "00000003-0000-4000-8000-000000000000", false),
		"sol-changed":          solOf(fault(acknowledged), "vnf-b", false),
		"sol-left":             solOf(fault(bond(correlate.Changed)), "vnf-a", true),
		"sol-cleared":          solOf(fault(bond(correlate.Cleared)), "vnf-a", true),
		"sol-crash":            solOf(fault(crash), "vnf-a", false),
		"sol-consumer-raised":  solOf(abstract(fault(vnfs(correlate.Raised))), "vnf-a", false),
		"sol-consumer-cleared": solOf(abstract(fault(bond(correlate.Cleared))), "vnf-a", true),
		"sol-consumer-crash":   solOf(abstract(fault(crash)), "vnf-a", false),
	} {
		t.Run(name, func(t *testing.T) {
			got, err := solFault(f)
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
	for name, typ := range map[string]string{"sol-test": TypeTest, "sol-rebuilt": TypeRebuilt} {
		got, err := solMessage(Message{ID: "n1", Type: typ, Label: "prod", Reporter: "cmp-1", Subscription: "s1", At: epoch, Text: "a test", SOL: site})
		if err != nil {
			t.Fatal(err)
		}
		valid(t, s, got)
		golden(t, name, got)
	}
}

// TestASOLAlarmIsOneFaultOfOneVNF, under one id whoever writes it, and however often.
func TestASOLAlarmIsOneFaultOfOneVNF(t *testing.T) {
	f := fault(vnfs(correlate.Raised))
	parts := solParts(f)
	var objects []string
	for _, p := range parts {
		objects = append(objects, p.ID)
	}
	if want := []string{"00000003-0000-4000-8000-000000000000", "vnf-a", "vnf-b"}; !slices.Equal(objects, want) {
		t.Fatalf("%v, want %v", objects, want)
	}
	type ids struct {
		ID      string
		AlarmID string `json:"alarmId"`
		Alarm   struct{ ID string }
	}
	read := func(f Fault) (got ids) {
		body, err := solFault(f)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(body, &got); err != nil {
			t.Fatal(err)
		}
		return got
	}
	seen := map[string]bool{}
	for i, object := range objects {
		raised, cleared := read(solOf(f, object, false)), read(solOf(fault(bond(correlate.Cleared)), object, true))
		id := raised.Alarm.ID
		if _, err := uuid.Parse(id); err != nil || cleared.AlarmID != id || SOLAlarmID("a1", object) != id || seen[id] || seen[raised.ID] || seen[cleared.ID] {
			t.Errorf("%s: raised %+v, cleared %+v", object, raised, cleared)
		}
		if list := SOLAlarms(f); list[i].ID != id || list[i].ManagedObject != object {
			t.Errorf("listed as %+v", list[i])
		}
		// "If a notification is sent multiple times due to multiple subscriptions, the id attribute … shall have the same value."
		other := solOf(f, object, false)
		other.Subscription, other.Reporter, other.ID = "another", "cmp-9", "n9"
		if got := read(other); got.ID != raised.ID {
			t.Errorf("notification %s to one subscription, %s to another", raised.ID, got.ID)
		}
		seen[id], seen[raised.ID], seen[cleared.ID] = true, true, true
	}
}

func TestWhatAVNFIsShownChangesWithItsMachinesAndTheFaultAlone(t *testing.T) {
	view := func(change func(a *correlate.Alarm)) uint64 {
		a := vnfs(correlate.Raised)
		change(a)
		return solParts(fault(a))[1].View
	}
	first := view(func(*correlate.Alarm) {})
	for name, change := range map[string]func(a *correlate.Alarm){
		"state":     func(a *correlate.Alarm) { a.Affected[0].State = correlate.StateFailed },
		"severity":  func(a *correlate.Alarm) { a.Severity = correlate.SeverityMajor },
		"component": func(a *correlate.Alarm) { a.Affected[0].VNF.VNFC = "vdu-9" },
		"another of its machines": func(a *correlate.Alarm) {
			a.Affected = append(a.Affected, correlate.Affected{Resource: "domain/z", VNF: correlate.VNF{ID: "vnf-a"}})
		},
		"a machine less": func(a *correlate.Alarm) { a.Affected = a.Affected[:3] },
	} {
		if view(change) == first {
			t.Errorf("%s: not shown", name)
		}
	}
	for name, change := range map[string]func(a *correlate.Alarm){
		"text": func(a *correlate.Alarm) { a.Text = "other" }, "revision": func(a *correlate.Alarm) { a.Revision.Counter++ },
		"another VNF": func(a *correlate.Alarm) { a.Affected[1].State = correlate.StateDegraded },
	} {
		if view(change) != first {
			t.Errorf("%s: shown", name)
		}
	}
}

func TestTheFilterOfSOLJudgesWhatItsConsumerIsShown(t *testing.T) {
	raised := fault(vnfs(correlate.Raised))
	tenant := raised
	tenant.Abstract = true
	cleared := fault(bond(correlate.Cleared))
	for _, c := range []struct {
		name   string
		filter SOLFilter
		f      Fault
		want   bool
	}{
		{"nothing asked", SOLFilter{}, raised, true},
		{"the resource", SOLFilter{FaultyResourceTypes: []string{"COMPUTE", "NETWORK"}}, raised, true},
		{"another resource", SOLFilter{FaultyResourceTypes: []string{"STORAGE"}}, raised, false},
		{"the type", SOLFilter{EventTypes: []string{"COMMUNICATIONS_ALARM"}}, raised, true},
		{"another type", SOLFilter{EventTypes: []string{"QOS_ALARM"}}, raised, false},
		{"the severity", SOLFilter{PerceivedSeverities: []string{"CRITICAL"}}, raised, true},
		{"another severity", SOLFilter{PerceivedSeverities: []string{"MAJOR"}}, raised, false},
		{"how severe a cleared one was is not known", SOLFilter{PerceivedSeverities: []string{"MAJOR"}}, cleared, true},
		{"the cause", SOLFilter{ProbableCauses: []string{"loss-of-signal"}}, raised, true},
		{"a tenant can't find the physical cause out", SOLFilter{ProbableCauses: []string{"loss-of-signal"}}, tenant, false},
		{"a tenant's cause", SOLFilter{ProbableCauses: []string{"network"}}, tenant, true},
		{"all must pass", SOLFilter{EventTypes: []string{"COMMUNICATIONS_ALARM"}, PerceivedSeverities: []string{"MINOR"}}, raised, false},
	} {
		if got := c.filter.Match(c.f); got != c.want {
			t.Errorf("%s: %t", c.name, got)
		}
	}
	var fields []string
	wrong := SOLFilter{
		[]string{"AlarmRaised"}, []string{"compute"}, []string{"CRITICAL", "FATAL"}, []string{"equipment"}, []string{""},
	}
	wrong.Problems(func(field, _ string, _ ...any) { fields = append(fields, field) })
	if got := strings.Join(fields, " "); got != "notification_types faulty_resource_types perceived_severities event_types probable_causes" {
		t.Errorf("problems of %s", got)
	}
}
