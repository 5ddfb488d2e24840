package notify

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"sync"
	"testing"
	"time"

	"github.com/paramedic-ha/paramedic/correlate"
	"github.com/paramedic-ha/paramedic/notify/boltfile"
	"github.com/paramedic-ha/paramedic/notify/delivery"
)

// filled makes an outbox with a few thousand records, stopped cleanly or not, and returns the path.
func filled(t testing.TB, dir string, clean bool) string {
	cfg, _ := testConfig(t, dir)
	o, _, err := openOutbox(dir, time.Now, cfg.Log, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 800 {
		id := fmt.Sprintf("alarm-%04d", i)
		a := alarm(id, uint64(i+1), correlate.Raised, "p1")
		o.put(write{place{shelfAlarms, id}, alarmRecord{Alarm: a, Found: epoch}},
			write{pairPlace("sub", id), pairRecord{AlarmID: id, Owed: a.Revision, Created: epoch}})
		if i%100 == 0 {
			o.commit()
		}
	}
	o.commit()
	if clean {
		o.finish()
	} else {
		o.closeQuietly()
	}
	return filepath.Join(dir, dbName)
}

func TestTermsAreEvenAndGrow(t *testing.T) {
	dir := t.TempDir()
	for want := uint64(2); want <= 8; want += 2 {
		cfg, _ := testConfig(t, dir)
		n, stop := start(t, cfg)
		if n.Restored().Term != want {
			t.Fatalf("term %d, want %d", n.Restored().Term, want)
		}
		stop()
	}
}

func TestRecordsComeBackAsTheyWere(t *testing.T) {
	a := alarm("a1", 7, correlate.Changed, "p1", "p2")
	a.Ack = &correlate.Acknowledgement{By: "ops", Comment: "seen", At: epoch}
	b, err := encodeRecord(alarmRecord{Alarm: a, Found: epoch})
	if err != nil {
		t.Fatal(err)
	}
	r, err := decodeAlarm("a1", b)
	if err != nil || !reflect.DeepEqual(r.Alarm, a) {
		t.Fatalf("%v\n%+v\n%+v", err, r.Alarm, a)
	}
	p := pairRecord{AlarmID: "a1", Owed: a.Revision, Told: correlate.Revision{Term: 2, Counter: 1}, Parked: true, Attempts: 3, Superseded: 2, Created: epoch, Next: epoch, LastError: "x"}
	if b, err = encodeRecord(p); err != nil {
		t.Fatal(err)
	}
	if q, err := decodePair("a1", b); err != nil || !reflect.DeepEqual(q, p) {
		t.Fatalf("%v %+v", err, q)
	}
	s := fileSub("api", "http://localhost/x")
	s.ID, s.Origin, s.Secret = "id", OriginAPI, NewSecret(make([]byte, 32))
	if b, err = encodeRecord(subscriptionRecord{Subscription: s, Keys: s.Secret.keys}); err != nil {
		t.Fatal(err)
	}
	if q, err := decodeSubscription("id", b, nil); err != nil || !reflect.DeepEqual(q.Subscription, s) {
		t.Fatalf("%v %+v", err, q)
	}
}

func FuzzRecords(f *testing.F) {
	for _, v := range []any{alarmRecord{Alarm: alarm("a1", 7, correlate.Raised, "p")}, pairRecord{AlarmID: "a1"}, subscriptionRecord{Subscription: Subscription{ID: "a1", Origin: OriginAPI}}, muteRecord{ID: "a1", Until: epoch}} {
		b, _ := encodeRecord(v)
		f.Add(b)
	}
	f.Add([]byte{2})
	f.Fuzz(func(t *testing.T, b []byte) {
		if r, err := decodeAlarm("a1", b); err == nil && r.Alarm.ID != "a1" {
			t.Fatal("another alarm")
		}
		if r, err := decodeMute("a1", b); err == nil {
			_ = Mute(r).Validate(epoch)
			mutes{"a1": Mute(r)}.of(alarm("a", 1, correlate.Raised), nil, epoch)
		}
		if r, err := decodePair("a1", b); err == nil {
			m := delivery.New(delivery.DefaultConfig(), func() float64 { return 0 })
			m.Restore(delivery.Record(r), correlate.Change{Alarm: alarm("a1", 7, correlate.Raised)}, epoch)
			m.Tick(epoch)
		}
		if r, err := decodeSubscription("a1", b, nil); err == nil && r.ID != "a1" {
			t.Fatal("another subscription")
		}
	})
}

func TestTheFileCheckPassesWhatIsSoundAndIsUsedByBolt(t *testing.T) {
	for _, clean := range []bool{true, false} {
		path := filled(t, t.TempDir(), clean)
		if err := boltfile.Check(path); err != nil {
			t.Fatal(err)
		}
	}
	if err := boltfile.Check(filepath.Join(t.TempDir(), "none")); err != nil {
		t.Fatal(err)
	}
}

// TestADamagedOutboxIsNeverFatal damages files at random. Each time the outbox must open, with what is sound or anew.
func TestADamagedOutboxIsNeverFatal(t *testing.T) {
	t.Parallel()
	sound, err := os.ReadFile(filled(t, t.TempDir(), false))
	if err != nil {
		t.Fatal(err)
	}
	rnd := rand.New(rand.NewPCG(1, 2))
	aside := 0
	for range 80 {
		dir := t.TempDir()
		path := filepath.Join(dir, dbName)
		b := append([]byte(nil), sound...)
		switch rnd.IntN(5) {
		case 0:
			b = b[:rnd.IntN(len(b))]
		case 1:
			for range 1 + rnd.IntN(50) {
				b[rnd.IntN(len(b))] = byte(rnd.Uint32())
			}
		case 2: // a page is written where another belongs
			from, to := rnd.IntN(len(b)/4096), rnd.IntN(len(b)/4096)
			copy(b[to*4096:(to+1)*4096], b[from*4096:])
		case 3:
			at := rnd.IntN(len(b) / 4096)
			clear(b[at*4096 : (at+1)*4096])
		case 4: // page headers
			at := rnd.IntN(len(b)/4096) * 4096
			binary.LittleEndian.PutUint64(b[at+8:], rnd.Uint64())
		}
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		cfg, _ := testConfig(t, dir)
		n, err := New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		if p := n.box.problem(); p != "" {
			t.Fatal(p)
		}
		if bad, _ := filepath.Glob(path + ".bad-*"); len(bad) > 0 {
			aside++
			if n.Restored().Term < 1_700_000_000 {
				t.Fatalf("term %d may go back", n.Restored().Term)
			}
		}
		n.box.put(write{place{shelfAlarms, "x"}, alarmRecord{Alarm: alarm("x", 1, correlate.Raised)}})
		n.box.commit()
		n.box.finish()
	}
	if aside < 10 {
		t.Fatalf("only %d of the damaged files were set aside", aside)
	}
}

func TestAtMostThreeDamagedOutboxesAreKept(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, dbName)
	for i := range 6 {
		if err := os.WriteFile(path, []byte("this is no database at all"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := boltfile.SetAside(path, epoch.Add(time.Duration(i)*time.Second), keepBad); err != nil {
			t.Fatal(err)
		}
	}
	if bad, _ := filepath.Glob(path + ".bad-*"); len(bad) != 3 || filepath.Base(bad[2]) != "paramedic.db.bad-20261122T120005.000000000" {
		t.Fatalf("kept %v", bad)
	}
}

func TestASecondAgentIsRefused(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cfg, _ := testConfig(t, dir)
	start(t, cfg)
	if _, err := New(cfg); err == nil {
		t.Fatal("two agents share an outbox")
	}
}

func TestWithoutADiskNotificationsStillGoOutAndItHealsItself(t *testing.T) {
	t.Parallel()
	parent := t.TempDir()
	dir := filepath.Join(parent, "state")
	if err := os.WriteFile(dir, nil, 0o600); err != nil { // a file where the directory belongs
		t.Fatal(err)
	}
	c := newConsumer(t, nil)
	cfg, r := testConfig(t, dir)
	n, stop := start(t, cfg, fileSub("a", c.URL))
	if n.Restored().Term < 1_700_000_000 || n.Restored().Term%2 != 0 {
		t.Fatalf("term %d", n.Restored().Term)
	}
	eventually(t, "it is reported", func() bool { return r.last(correlate.CondOutbox) == correlate.StatusFailed })
	n.Publish(effects(alarm("a1", 1, correlate.Raised)))
	c.waitFor(t, 1)
	if err := os.Remove(dir); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it heals", func() bool { return r.last(correlate.CondOutbox) == correlate.StatusOK })
	stop()
	n2, _ := start(t, cfg, fileSub("a", c.URL))
	if got := n2.Restored(); len(got.Alarms) != 1 || got.Alarms[0].ID != "a1" || got.Term <= n.Restored().Term {
		t.Fatalf("restored %+v", got)
	}
	n2.Publish(effects(alarm("a1", 2, correlate.Cleared)))
	if got := c.waitFor(t, 2); got[1].event.Type != "paramedic.fault.cleared" {
		t.Fatalf("got %s", got[1].body)
	}
}

func TestAFullDiskIsReportedAndHeals(t *testing.T) {
	dir := t.TempDir()
	cfg, _ := testConfig(t, dir)
	o, _, err := openOutbox(dir, time.Now, cfg.Log, nil)
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var said []string
	o.report = func(p string) { mu.Lock(); said = append(said, p); mu.Unlock() }
	truth := []write{{place{shelfAlarms, "a1"}, alarmRecord{Alarm: alarm("a1", 3, correlate.Raised)}}}
	o.contents = func() []write { return truth }
	o.db.MaxSize = 1 // bbolt's own limit stands for ENOSPC: the commit fails where the disk would
	for i := range 2000 {
		o.put(write{place{shelfAlarms, fmt.Sprint("x", i)}, alarmRecord{Alarm: alarm(fmt.Sprint("x", i), 1, correlate.Raised, "p", "p", "p", "p")}})
	}
	o.commit()
	if o.problem() == "" {
		t.Fatal("the commit went through")
	}
	o.put(truth...)
	o.commit()
	var during []string
	late := write{place{shelfAlarms, "a2"}, alarmRecord{Alarm: alarm("a2", 1, correlate.Raised)}}
	o.contents = func() []write {
		during = append(during, o.problem())
		o.put(late) // after the copy was taken
		return truth
	}
	o.db.MaxSize = 0
	o.repair()
	if len(during) != 1 || during[0] == "" {
		t.Errorf("said to be durable while that is only tried: %q", during)
	}
	o.commit()
	if p := o.problem(); p != "" {
		t.Fatal(p)
	}
	o.finish()
	if len(said) != 2 || said[0] == "" || said[1] != "" {
		t.Fatalf("reported %q", said)
	}
	_, l, err := openOutbox(dir, time.Now, cfg.Log, nil)
	if err != nil || len(l.alarms) != 2 || l.alarms[0].Alarm.ID != "a1" || l.alarms[1].Alarm.ID != "a2" {
		t.Fatalf("%v %+v", err, l)
	}
}

func BenchmarkOutboxCommit(b *testing.B) {
	dir := b.TempDir()
	cfg, _ := testConfig(b, dir)
	o, _, err := openOutbox(dir, time.Now, cfg.Log, nil)
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); o.run(ctx) }()
	var seq uint64
	b.ResetTimer()
	for i := range b.N {
		id := fmt.Sprint("a", i%1000)
		seq = o.put(write{pairPlace("sub", fmt.Sprint(i%1000)), pairRecord{AlarmID: id, Created: epoch}})
		if i%256 == 0 {
			o.await(ctx, seq, time.Minute)
		}
	}
	o.await(ctx, seq, time.Minute)
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "records/s")
	cancel()
	<-done
}
