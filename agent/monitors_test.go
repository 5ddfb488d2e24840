package agent

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/paramedic-ha/paramedic/agent/config"
	"github.com/paramedic-ha/paramedic/agent/southbound"
	"github.com/paramedic-ha/paramedic/correlate"
	"github.com/paramedic-ha/paramedic/hw"
)

// states is a source that sees the same for ever.
func states(d correlate.Delta) func(context.Context, hw.Sink) error {
	return func(ctx context.Context, sink hw.Sink) error {
		if err := sink.Emit(ctx, d); err != nil {
			return err
		}
		<-ctx.Done()
		return ctx.Err()
	}
}

func handIn(t *testing.T, a *Agent, body string) []southbound.Verdict {
	t.Helper()
	items, err := southbound.Decode([]byte(body))
	if err != nil {
		t.Fatal(err)
	}
	verdicts, err := a.HandIn(t.Context(), "", items)
	if err != nil {
		t.Fatal(err)
	}
	return verdicts
}

const portDown = `{"type":"SwitchPortDown","details":{"device":"eth0","monitor":"snmp"}}`

func TestWhatAMonitorSaidStandsOnAcrossARestart(t *testing.T) {
	c := testConfig(t)
	run := func() *Agent {
		return start(t, c, oneSource("nic", states(correlate.Delta{Full: true, Set: []correlate.Resource{{ID: "nic/eth0"}}})))
	}
	a := run()
	handIn(t, a, `{"type":"compute.host.nic.error","details":{"source":"eth0"}}`)
	before := awaitAlarm(t, a, "nic/eth0", "compute.host.nic.error", correlate.Raised)
	stop(t, a)
	a = run()
	eventually(t, "the source has spoken", func() bool { return a.Ready() == nil })
	if v := handIn(t, a, `{"type":"compute.host.nic.error","details":{"source":"eth0"}}`)[0]; v.Alarm != before.ID {
		t.Errorf("%+v; want the alarm of the run before, %s", v, before.ID)
	}
	for _, ch := range first(a.Changes(0)) {
		t.Errorf("told again: %+v", ch.Change.Alarm)
	}
	handIn(t, a, `{"type":"compute.host.nic.error","details":{"source":"eth0","status":"up"}}`)
	if after := awaitAlarm(t, a, "nic/eth0", "compute.host.nic.error", correlate.Cleared); after.ID != before.ID {
		t.Errorf("another alarm has cleared: %+v", after)
	}
}

func TestAReloadChangesWhatEventsMeanAndWhatStandsOfThem(t *testing.T) {
	c := testConfig(t)
	c.Correlate.Events = []config.EventMapping{{Type: "SwitchPortDown", Condition: "switch.port", Severity: "minor", State: "failed"}}
	a := start(t, c, oneSource("nic", states(correlate.Delta{Full: true})))
	if v := handIn(t, a, portDown)[0]; v.Resource != "host/cmp-1" || v.Condition != "switch.port" {
		t.Errorf("%+v", v)
	}
	again := *c
	short := time.Second
	again.Correlate.Events = []config.EventMapping{{Type: "SwitchPortDown", Resource: "nic/{device}", Condition: "switch.port", Severity: "major", State: "failed", Expires: &short}}
	if err := a.Reload(&again); err != nil {
		t.Fatal(err)
	}
	if changed := awaitAlarm(t, a, "host/cmp-1", "switch.port", correlate.Changed); changed.Severity != correlate.SeverityMajor {
		t.Errorf("%+v", changed)
	}
	if v := handIn(t, a, portDown)[0]; v.Resource != "nic/eth0" || v.Alarm == "" {
		t.Errorf("%+v", v)
	}
	for _, id := range []correlate.ID{"host/cmp-1", "nic/eth0"} {
		if over := awaitAlarm(t, a, id, "switch.port", correlate.Cleared); over.ClearReason != correlate.ReasonHeld {
			t.Errorf("%+v", over)
		}
	}
}

func TestNothingIsTakenWhileTheLoopDoesNotAnswer(t *testing.T) {
	a := start(t, testConfig(t), oneSource("nic", states(correlate.Delta{Full: true})))
	leave := make(chan struct{})
	inside := make(chan struct{})
	go func() {
		_ = a.loop.call(context.Background(), func(time.Time) {
			close(inside)
			<-leave
		})
	}()
	<-inside
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := a.HandIn(ctx, "", []southbound.Item{{Type: "x.y", Monitor: "m", EventID: "1"}})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	close(leave)
	if v := handIn(t, a, `{"type":"x.y","details":{"monitor":"m","monitor_event_id":"1"}}`)[0]; v.Word != southbound.Accepted {
		t.Errorf("sent again: %+v", v)
	}
}

func TestAnEventThatWasTakenIsKnownAgainAfterARestart(t *testing.T) {
	c := testConfig(t)
	run := func() *Agent {
		return start(t, c, oneSource("nic", states(correlate.Delta{Full: true, Set: []correlate.Resource{{ID: "nic/eth0"}}})))
	}
	const down = `{"type":"compute.host.nic.error","details":{"source":"eth0","monitor":"m","monitor_event_id":"1"}}`
	a := run()
	if v := handIn(t, a, down)[0]; v.Word != southbound.Accepted {
		t.Fatalf("%+v", v)
	}
	stop(t, a)
	a = run()
	eventually(t, "the source has spoken", func() bool { return a.Ready() == nil })
	if v := handIn(t, a, down)[0]; v.Word != southbound.Duplicate {
		t.Errorf("%+v", v)
	}
	if v := handIn(t, a, strings.Replace(down, `"1"`, `"2"`, 1))[0]; v.Word != southbound.Accepted {
		t.Errorf("%+v", v)
	}
}

func TestAnEventAboutAnotherHostIsAnAlarmOfThatHost(t *testing.T) {
	h := newHosts(t, 3)
	h.start()
	h.ready()
	verdicts := handIn(t, h.all[0].Agent, `[{"type":"switch.port","details":{"hostname":"cmp-2.example.org","severity":"major","monitor":"m","monitor_event_id":"1"}},
		{"type":"switch.port","details":{"hostname":"cmp-1","monitor":"m","monitor_event_id":"1"}},
		{"type":"switch.port","details":{"hostname":"cmp-9","monitor":"m","monitor_event_id":"1"}}]`)
	if verdicts[0].Word != southbound.Accepted || verdicts[0].Alarm == "" || verdicts[0].Resource != "host/cmp-2" || verdicts[1].Resource != "host/cmp-1" ||
		verdicts[2].Word != southbound.Refused || !strings.Contains(verdicts[2].Text, "is not in this cluster") {
		t.Fatalf("%+v", verdicts)
	}
	of := func(at int, home string) *correlate.Alarm {
		all := h.all[at].Cluster().Alarms()
		i := slices.IndexFunc(all, func(a *correlate.Alarm) bool { return a.Key.Home == home && a.Key.Condition == "switch.port" })
		if i < 0 {
			return nil
		}
		return all[i]
	}
	eventually(t, "the third host knows of both", func() bool { return of(2, "cmp-2") != nil && of(2, "cmp-1") != nil })
	if a := of(2, "cmp-2"); a.ID != verdicts[0].Alarm {
		t.Errorf("cmp-2 has %+v, the verdict names %s", a, verdicts[0].Alarm)
	}
	again := handIn(t, h.all[2].Agent, `{"type":"switch.port","details":{"hostname":"cmp-2","severity":"major","monitor":"m","monitor_event_id":"1"}}`)
	if again[0].Word != southbound.Duplicate {
		t.Errorf("the same by way of another host: %+v", again)
	}
	up := handIn(t, h.all[2].Agent, `{"type":"switch.port","details":{"hostname":"cmp-2","status":"up","monitor":"m","monitor_event_id":"1"}}`)
	if up[0].Word != southbound.Accepted {
		t.Errorf("%+v", up)
	}
	eventually(t, "it is over", func() bool { return of(0, "cmp-2") == nil })
}
