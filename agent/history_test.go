package agent

import (
	"testing"

	"github.com/paramedic-ha/paramedic/agent/history"
	"github.com/paramedic-ha/paramedic/correlate"
)

func TestWhatBecameOfAnAlarmIsKnownAfterARestart(t *testing.T) {
	c := testConfig(t)
	run := func() *Agent {
		return start(t, c, oneSource("nic", states(correlate.Delta{Full: true, Set: []correlate.Resource{{ID: "nic/eth0"}}})))
	}
	a := run()
	handIn(t, a, `{"type":"compute.host.nic.error","details":{"source":"eth0"}}`)
	alarm := awaitAlarm(t, a, "nic/eth0", "compute.host.nic.error", correlate.Raised)
	stop(t, a)
	a = run()
	handIn(t, a, `{"type":"compute.host.nic.error","details":{"source":"eth0","status":"up"}}`)
	awaitAlarm(t, a, "nic/eth0", "compute.host.nic.error", correlate.Cleared)
	stop(t, a)
	a = run()
	e, known, err := a.History().Entry(t.Context(), alarm.ID)
	if err != nil || !known {
		t.Fatalf("%v %v", known, err)
	}
	var what []string
	for _, s := range e.Steps {
		what = append(what, s.What)
	}
	if len(what) != 2 || what[0] != "raised" || what[1] != "cleared" || e.Worst != correlate.SeverityWarning {
		t.Errorf("%v, %v", what, e.Worst)
	}
	if past, err := a.History().Cleared(t.Context(), history.Position{}, 10, func(history.Entry) bool { return true }); err != nil || len(past) != 1 {
		t.Errorf("%v %v", past, err)
	}
}
