package agent

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/paramedic-ha/paramedic/agent/cluster"
	"github.com/paramedic-ha/paramedic/agent/config"
	"github.com/paramedic-ha/paramedic/correlate"
	"github.com/paramedic-ha/paramedic/hw"
)

// noteMemory is the file of a run under another kernel.
func noteMemory(t *testing.T, dir string, doc memoryDocument) {
	t.Helper()
	text, err := json.Marshal(doc)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, memoryFile), text, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestAMemoryThatCannotBeReadIsNone(t *testing.T) {
	for name, test := range map[string]struct {
		text string
		warn bool
	}{
		"missing":           {"", false},
		"broken":            {`{"version":1,"boot":"a","domains":[`, true},
		"of other shape":    {`{"version":1,"boot":7}`, true},
		"empty":             {" ", true},
		"a later version":   {`{"version":2,"boot":"a"}`, true},
		"no version":        {`{"boot":"a"}`, true},
		"far too long":      {`{"version":1,"boot":"a","domains":[]}` + strings.Repeat(" ", maxMemory), true},
		"sound":             {`{"version":1,"boot":"a","domains":[{"Resource":"domain/web"}]}`, false},
		"with a later word": {`{"version":1,"boot":"a","more":true}`, false},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if test.text != "" {
				if err := os.WriteFile(filepath.Join(dir, memoryFile), []byte(test.text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			var log bytes.Buffer
			m := recall(dir, "b", slog.New(slog.NewTextHandler(&log, nil)))
			if warned := log.Len() > 0; warned != test.warn {
				t.Errorf("it logs %q", log.String())
			}
			if known := !test.warn && test.text != ""; m.restarted() != known {
				t.Errorf("restarted: %v, of %+v", m.restarted(), m.last)
			}
			if m.restarted() {
				return
			}
			for _, e := range m.events("host/cmp-1", time.Unix(0, 0)) {
				if e.Status != correlate.StatusOK || e.Reason != correlate.ReasonReturned {
					t.Errorf("it says %+v", e)
				}
			}
		})
	}
}

func TestADirectoryInPlaceOfTheMemoryIsNone(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, memoryFile), 0o700); err != nil {
		t.Fatal(err)
	}
	if m := recall(dir, "b", slog.New(slog.DiscardHandler)); m.restarted() {
		t.Errorf("it remembers %+v", m.last)
	}
}

func TestAHostWithoutABootIdIsNeverRestarted(t *testing.T) {
	dir := t.TempDir()
	noteMemory(t, dir, memoryDocument{Version: memoryVersion, Boot: "a"})
	if m := recall(dir, "", slog.New(slog.DiscardHandler)); m.restarted() {
		t.Error("it can't know")
	}
	if m := recall(dir, "a", slog.New(slog.DiscardHandler)); m.restarted() {
		t.Error("it is the same kernel")
	}
}

// oneRuns states a domain that runs and one that does not.
func oneRuns() []sourceSpec {
	return oneSource("virt", func(ctx context.Context, sink hw.Sink) error {
		err := sink.Emit(ctx, correlate.Delta{Full: true, Set: []correlate.Resource{
			{ID: "domain/web", Name: "web", Project: "red", VNF: correlate.VNF{ID: "vnf-a"}}, {ID: "domain/off", Name: "off", Inactive: true},
		}})
		if err != nil {
			return err
		}
		<-ctx.Done()
		return ctx.Err()
	})
}

func TestARestartOfTheHostNamesWhatRanOnIt(t *testing.T) {
	boot := cluster.KernelBoot()
	if boot == "" {
		t.Fatal("needs /proc/sys/kernel/random/boot_id")
	}
	c := testConfig(t)
	path := filepath.Join(c.Notify.Dir, memoryFile)
	noteMemory(t, c.Notify.Dir, memoryDocument{Version: memoryVersion, Boot: "another", Domains: []correlate.Affected{
		{Resource: "domain/old", Name: "old", Project: "blue"}, {Resource: "domain/web", Name: "web", Project: "red", VNF: correlate.VNF{ID: "vnf-a", VNFC: "vdu"}},
	}})
	a := start(t, c, oneRuns())
	raised := awaitAlarm(t, a, "host/cmp-1", correlate.CondHostRestarted, correlate.Raised)
	if fmt.Sprint(raised.Affected) != "[{domain/old old blue { } failed []} {domain/web web red {vnf-a vdu} failed []}]" {
		t.Errorf("it has hit %v", raised.Affected)
	}
	if raised.Severity != correlate.SeverityCritical || raised.Evidence["boot_id_before"] != "another" || raised.Evidence["boot_id"] != boot ||
		raised.Times.Occurred.After(raised.Times.Observed) {
		t.Errorf("it says %+v", raised)
	}
	var noted memoryDocument
	eventually(t, "what runs now is noted", func() bool {
		text, err := os.ReadFile(path)
		return err == nil && json.Unmarshal(text, &noted) == nil && noted.Boot == boot
	})
	if fmt.Sprint(noted.Domains) != "[{domain/web web red {vnf-a } ok []}]" {
		t.Errorf("it notes %v", noted.Domains)
	}
	// The agent alone starts again: the alarm stands, and is not raised anew.
	stop(t, a)
	a = start(t, c, oneRuns())
	eventually(t, "the alarm is there", func() bool {
		var again *correlate.Alarm
		if err := a.Query(t.Context(), func(e *correlate.Engine) {
			for _, one := range e.Alarms() {
				if one.Key.Condition == correlate.CondHostRestarted {
					again = one
				}
			}
		}); err != nil {
			t.Fatal(err)
		}
		if again == nil {
			return false
		}
		if again.ID != raised.ID || len(again.Affected) != 2 {
			t.Fatalf("it is now %+v", again)
		}
		return true
	})
}

// leave starts an agent, lets it stop while its host goes down or not, and says how long that took.
func leave(t *testing.T, url string, down bool) time.Duration {
	t.Helper()
	c := testConfig(t)
	c.Notify.Subscriptions = []config.Subscription{fileSubscription("ops", url)}
	a, err := New(Options{
		Config: c, Version: "test", Log: slog.New(slog.DiscardHandler), sources: oneRuns(),
		ShuttingDown: func(context.Context) bool { return down },
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it sees what runs", func() bool {
		n := 0
		return a.Query(t.Context(), func(e *correlate.Engine) { n = len(e.Running()) }) == nil && n == 1
	})
	began := time.Now()
	stop(t, a)
	return time.Since(began)
}

func TestAHostThatGoesDownTellsItsConsumersBeforeItsAgentEnds(t *testing.T) {
	for range 10 { // it must not depend on who is quicker
		r := receive(t)
		leave(t, r.URL, true)
		r.mu.Lock()
		got := r.got
		r.mu.Unlock()
		if len(got) != 1 || got[0].Data.Alarm.Condition != string(correlate.CondHostShutdown) || got[0].Data.Alarm.State != "raised" {
			t.Fatalf("told before the end: %v", got)
		}
	}
}

func TestAnAgentThatIsStoppedSaysNothingOfItsHost(t *testing.T) {
	r := receive(t)
	leave(t, r.URL, false)
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.got) > 0 {
		t.Errorf("told: %v", r.got)
	}
}

// TestAShutdownDoesNotWaitForWhoIsNotThere: nobody listens, or who listens does not answer.
func TestAShutdownDoesNotWaitForWhoIsNotThere(t *testing.T) {
	gone := httptest.NewServer(nil)
	gone.Close()
	if took := leave(t, gone.URL, true); took > shutdownNotice+5*time.Second {
		t.Errorf("it took %v", took)
	}
	release := make(chan struct{})
	mute := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-release }))
	t.Cleanup(mute.Close)
	t.Cleanup(func() { close(release) })
	if took := leave(t, mute.URL, true); took < shutdownNotice || took > shutdownNotice+10*time.Second {
		t.Errorf("it took %v", took)
	}
}
