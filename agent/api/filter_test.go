package api

import (
	"encoding/json"
	"reflect"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/paramedic-ha/paramedic/correlate"
	"github.com/paramedic-ha/paramedic/notify"
)

// TestAFilterIsAnsweredAsItWasAsked: each field.
func TestAFilterIsAnsweredAsItWasAsked(t *testing.T) {
	full := notify.Filter{
		Projects: []string{"p1"}, Domains: []string{"vm-1"}, ResourceTypes: []correlate.Kind{correlate.KindNIC},
		Conditions: []correlate.Condition{correlate.CondCarrier}, MinSeverity: correlate.SeverityMajor, Kinds: []string{"fault"},
		States: []correlate.State{correlate.StateFailed}, MinConfidence: correlate.ConfidenceProbable,
		Resources: []string{"nic/*"}, Hosts: []string{"cmp-*"}, Zones: []string{"rack-a"}, Labels: map[string][]string{"az": {"nova-1"}},
		VNFs: []string{"vnf-1"},
		SOL: notify.SOLFilter{
			NotificationTypes: []string{"AlarmNotification"}, FaultyResourceTypes: []string{"NETWORK"}, PerceivedSeverities: []string{"CRITICAL"},
			EventTypes: []string{"QOS_ALARM"}, ProbableCauses: []string{"network"},
		},
	}
	v := reflect.ValueOf(full)
	for i := range v.NumField() {
		if v.Field(i).IsZero() {
			t.Errorf("%s: the test does not have it", v.Type().Field(i).Name)
		}
	}
	text, err := json.Marshal(fromFilter(full))
	if err != nil {
		t.Fatal(err)
	}
	var f Filter
	if err := decode(text, &f); err != nil {
		t.Fatal(err)
	}
	got, err := f.parse()
	if diff := cmp.Diff(full, got); diff != "" || err != nil {
		t.Error(diff, err)
	}
}
