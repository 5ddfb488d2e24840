package cluster

import (
	"encoding/json"
	"errors"
	"flag"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/paramedic-ha/paramedic/gossip"
	"github.com/paramedic-ha/paramedic/notify/delivery"
)

var record = flag.Bool("record", false, "record what is missing in testdata/v1 (only when the format is new)")

// recorded gives what the first version said and kept. The files were written once; what they say does not change.
func recorded(t *testing.T, name string, write func() []byte) []byte {
	t.Helper()
	path := filepath.Join("testdata", "v1", name)
	b, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) && *record {
		b = write()
		err = errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, b, 0o644))
	}
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Agents are replaced one by one: what hosts of the first version say to each other beside the replica is understood.
func TestRecordedMessagesAreUnderstood(t *testing.T) {
	at := time.Date(2026, 11, 22, 12, 0, 0, 5, time.UTC)
	q := request{ID: 1 << 63, HandOver: handOver()}
	_, body, err := openMessage(recorded(t, "request", func() []byte {
		msg, err := encodeRequest(q)
		if err != nil {
			t.Fatal(err)
		}
		return msg
	}))
	if err != nil {
		t.Fatal(err)
	}
	gotRequest, _, err := decodeMessage(typeRequest, body)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(q, *gotRequest); diff != "" {
		t.Errorf("the request: %s", diff)
	}

	a := answer{
		ID: 7, Refused: "enough to do", Sent: at, Answered: at.Add(time.Millisecond),
		Outcome: delivery.Outcome{Verdict: delivery.Retry, RetryAfter: time.Second, Err: "answered 503"},
	}
	for name, kind := range map[string]gossip.MessageType{"answer": typeAnswer, "working": typeWorking} {
		got, body, err := openMessage(recorded(t, name, func() []byte {
			msg := encodeAnswer(a)
			msg[1] = byte(kind)
			return msg
		}))
		if err != nil || got != kind {
			t.Fatalf("%s: type %d, %v", name, got, err)
		}
		_, gotAnswer, err := decodeMessage(kind, body)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(a, *gotAnswer); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}

	if got, _, err := openMessage(recorded(t, "known", func() []byte { return encodeMessage(typeKnown, nil) })); err != nil || got != typeKnown {
		t.Errorf("known: type %d, %v", got, err)
	}
	k := knowledge{Settled: true, Records: 12, Newest: gossip.Version{A: 4, B: 99, Node: "cmp-1"}}
	got, body, err := openMessage(recorded(t, "knowns", func() []byte {
		body, err := json.Marshal(k)
		if err != nil {
			t.Fatal(err)
		}
		return encodeMessage(typeKnowns, body)
	}))
	var gotKnown knowledge
	if err = errors.Join(err, json.Unmarshal(body, &gotKnown)); err != nil || got != typeKnowns || gotKnown != k {
		t.Errorf("knowns: type %d %+v, %v", got, gotKnown, err)
	}
}

// What the first version kept on disk is read.
func TestTheRecordedFileIsRead(t *testing.T) {
	at := time.Date(2026, 11, 22, 12, 0, 0, 5, time.UTC)
	want := []gossip.Record{
		sharedRecord(1),
		{Key: gossip.Key{Kind: gossip.KindAck, ID: "a-1"}, Version: gossip.Version{A: 9, Node: "cmp-2"}, Deleted: true},
	}
	dir := t.TempDir()
	file := recorded(t, storeName, func() []byte { return encodeStore(want, at) })
	if err := os.WriteFile(filepath.Join(dir, storeName), file, 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := loadStore(dir, at.Add(time.Hour), slog.New(slog.DiscardHandler))
	if err != nil || !got.saved.Equal(at) || got.expired {
		t.Fatalf("%+v, %v", got, err)
	}
	if diff := cmp.Diff(want, got.records); diff != "" {
		t.Error(diff)
	}
}
