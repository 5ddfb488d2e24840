package cluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/paramedic-ha/paramedic/gossip"
	"github.com/paramedic-ha/paramedic/gossip/durable"
)

func sharedRecord(i int) gossip.Record {
	return gossip.Record{
		Key:     gossip.Key{Kind: gossip.KindSubscription, ID: fmt.Sprint("sub-", i)},
		Version: gossip.Version{A: uint64(i) + 1, Node: "cmp-1"}, Payload: bytes.Repeat([]byte{byte(i)}, 3000), Deleted: false,
	}
}

func TestSharedRecordsComeBackAsTheyWere(t *testing.T) {
	now := time.Now()
	records := []gossip.Record{
		sharedRecord(1), sharedRecord(2),
		{Key: gossip.Key{Kind: gossip.KindAck, ID: "a"}, Version: gossip.Version{A: 9, Node: "cmp-2"}, Deleted: true},
	}
	dir := t.TempDir()
	if err := durable.Replace(filepath.Join(dir, storeName), encodeStore(records, now)); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(filepath.Join(dir, storeName)); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v; want it for its owner alone", info.Mode(), err)
	}
	got, err := loadStore(dir, now, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	for i := range got.records {
		if len(got.records[i].Payload) == 0 {
			got.records[i].Payload = nil
		}
	}
	if diff := cmp.Diff(records, got.records); diff != "" || !got.saved.Equal(now) || got.expired {
		t.Errorf("saved %v, expired %v:\n%s", got.saved, got.expired, diff)
	}
	if got, err := loadStore(t.TempDir(), now, slog.New(slog.DiscardHandler)); err != nil || len(got.records) > 0 {
		t.Errorf("without a file: %v, %v", got, err)
	}
}

// Killed while it wrote, it leaves a file behind, which is nobody's any more.
func TestWhatACrashHasLeftIsRemoved(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{storeName, storeName + durable.Unfinished, storeName + ".damaged", "paramedic.db"} {
		if err := os.WriteFile(filepath.Join(dir, name), encodeStore(nil, time.Now()), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := loadStore(dir, time.Now(), slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	var names []string
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		names = append(names, f.Name())
	}
	if diff := cmp.Diff([]string{storeName, storeName + ".damaged", "paramedic.db"}, names); diff != "" {
		t.Error(diff)
	}
}

func TestADamagedFileIsSetAsideLoudly(t *testing.T) {
	good := encodeStore([]gossip.Record{sharedRecord(1)}, time.Now())
	foreign := gossip.Record{Key: gossip.Key{Space: "cmp-9", Kind: gossip.KindAlarm, ID: "x"}, Version: gossip.Version{A: 2, B: 1, Node: "cmp-9"}}
	flipped := bytes.Clone(good)
	flipped[len(flipped)-10] ^= 1
	newer := bytes.Clone(good)
	newer[len(storeMagic)]++
	for what, b := range map[string][]byte{
		"cut": good[:len(good)-1], "empty": {}, "a flipped bit": flipped, "another version": newer, "something else": []byte(strings.Repeat("x", 100)),
		"longer": append(bytes.Clone(good), 0), "of a host": encodeStore([]gossip.Record{foreign}, time.Now()),
	} {
		t.Run(what, func(t *testing.T) {
			dir, log := t.TempDir(), new(bytes.Buffer)
			path := filepath.Join(dir, storeName)
			if err := os.WriteFile(path, b, 0o600); err != nil {
				t.Fatal(err)
			}
			got, err := loadStore(dir, time.Now(), slog.New(slog.NewTextHandler(log, nil)))
			if err != nil || len(got.records) > 0 || got.expired {
				t.Errorf("loaded %v, %v; want to begin without", got, err)
			}
			if aside, err := os.ReadFile(path + ".damaged"); err != nil || !bytes.Equal(aside, b) {
				t.Errorf("it was not kept aside: %v", err)
			}
			if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("it is still there: %v", err)
			}
			if !strings.Contains(log.String(), "level=ERROR") || !strings.Contains(log.String(), path) {
				t.Errorf("the log does not say so: %s", log)
			}
		})
	}
}

func TestWhatWasWrittenBeforeTombstonesEndedIsDropped(t *testing.T) {
	dir, now := t.TempDir(), time.Now()
	path := filepath.Join(dir, storeName)
	write := func(age time.Duration) kept {
		t.Helper()
		if err := durable.Replace(path, encodeStore([]gossip.Record{sharedRecord(1)}, now.Add(-age))); err != nil {
			t.Fatal(err)
		}
		got, err := loadStore(dir, now, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	if got := write(gossip.TombstoneLife - time.Hour); got.expired || len(got.records) != 1 {
		t.Errorf("within 30 days: %+v", got)
	}
	if got := write(gossip.TombstoneLife + time.Hour); !got.expired || len(got.records) != 0 {
		t.Errorf("after 30 days: %+v", got)
	}
	if got := write(-time.Hour); got.expired || len(got.records) != 1 {
		t.Errorf("of the future, for the clock was set back: %+v", got)
	}
}

func TestManyCallsShareOneWrite(t *testing.T) {
	dir := t.TempDir()
	var writes atomic.Int32
	slow := make(chan struct{})
	s := newStore(dir, slog.New(slog.DiscardHandler), func(context.Context) ([]gossip.Record, error) {
		if writes.Add(1) == 1 {
			<-slow
		}
		return []gossip.Record{sharedRecord(1)}, nil
	})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); s.run(ctx) }()
	var calls sync.WaitGroup
	call := func() {
		if err := s.save(t.Context()); err != nil {
			t.Error(err)
		}
	}
	calls.Go(call)
	for writes.Load() == 0 { // the test's own limit bounds this
		runtime.Gosched()
	}
	for range 50 {
		calls.Go(call)
	}
	close(slow)
	calls.Wait()
	if n := writes.Load(); n > 25 {
		t.Errorf("51 calls made %d writes", n)
	}
	cancel()
	<-done
	if err := s.save(t.Context()); !errors.Is(err, gossip.ErrStopped) {
		t.Errorf("a call after the end: %v", err)
	}
}

func TestAChangeThatNobodyWaitsForIsWrittenOnceASecond(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		var writes atomic.Int32
		var problem atomic.Pointer[error]
		log := new(bytes.Buffer)
		s := newStore(dir, slog.New(slog.NewTextHandler(log, nil)), func(context.Context) ([]gossip.Record, error) {
			writes.Add(1)
			if err := problem.Load(); err != nil {
				return nil, *err
			}
			return nil, nil
		})
		ctx, cancel := context.WithCancel(t.Context())
		go s.run(ctx)
		for range 5 {
			s.touch()
			<-time.After(100 * time.Millisecond)
		}
		synctest.Wait()
		if n := writes.Load(); n != 0 {
			t.Errorf("%d writes within half a second", n)
		}
		<-time.After(storeDelay)
		if n := writes.Load(); n != 1 {
			t.Errorf("%d writes of five changes", n)
		}
		<-time.After(storeTouch) // its age says how long we were away
		if n := writes.Load(); n != 2 {
			t.Errorf("%d writes after an hour without a change", n)
		}
		broken := errors.New("the disk is gone")
		problem.Store(&broken)
		for range 3 {
			if err := s.save(t.Context()); !errors.Is(err, broken) {
				t.Errorf("saved on a broken disk: %v", err)
			}
		}
		problem.Store(nil)
		if err := s.save(t.Context()); err != nil {
			t.Error(err)
		}
		cancel()
		synctest.Wait()
		if n := strings.Count(log.String(), "level=ERROR"); n != 1 || !strings.Contains(log.String(), "on disk again") {
			t.Errorf("said %d times:\n%s", n, log)
		}
	})
}

func FuzzStore(f *testing.F) {
	f.Add(encodeStore([]gossip.Record{sharedRecord(1), sharedRecord(2)}, time.Unix(1_700_000_000, 0)))
	f.Add(encodeStore(nil, time.Unix(0, 0)))
	f.Add([]byte(storeMagic))
	f.Fuzz(func(t *testing.T, b []byte) {
		records, written, err := decodeStore(b)
		if err != nil {
			if !errors.Is(err, errDamaged) {
				t.Errorf("error %v is not said to be damage", err)
			}
			return
		}
		again, at, err := decodeStore(encodeStore(records, written))
		if err != nil || !at.Equal(written) || !slices.EqualFunc(records, again, func(a, b gossip.Record) bool {
			return a.Key == b.Key && a.Version == b.Version && a.Deleted == b.Deleted && bytes.Equal(a.Payload, b.Payload)
		}) {
			t.Errorf("%d records became %d, %v", len(records), len(again), err)
		}
	})
}
