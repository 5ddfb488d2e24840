package gossip

import (
	"bytes"
	"fmt"
	"runtime"
	"slices"
	"testing"
	"time"
)

// fleet is the inventory of so many hosts, as their replicas write it.
func fleet(t testing.TB, hosts, domains int) []Record {
	var all []Record
	for h := range hosts {
		all = append(all, fleetHost(t, h, domains)...)
	}
	return all
}

func fleetHost(t testing.TB, h, domains int) []Record {
	r := newReplica(t, fmt.Sprintf("cmp-%d", h), 2)
	mustSet(t, r, noon, KindHost, "", `{"zone":"rack-a","api":"10.0.0.1:7940"}`)
	for d := range domains {
		mustSet(t, r, noon, KindDomain, fmt.Sprintf("6f1c9a52-7a1e-4a1e-9d60-%06d%06d", h, d), domainPayload(h, d))
	}
	return slices.Collect(r.Records())
}

func domainPayload(h, d int) string {
	return fmt.Sprintf(`{"name":"instance-%08x","project":"5f0c5bdb-3e52-4c6a-9a7a-%012d","state":"running","ports":[`+
		`{"mac":"fa:16:3e:00:%02x:01","port_id":"0d6f7a3c-8b5e-4d7b-a9d3-%012d"},{"mac":"fa:16:3e:01:%02x:02","port_id":"7a3c0d6f-8b5e-4d7b-a9d3-%012d"}]}`,
		h*1000+d, h%7, d%256, d, d%256, d)
}

// heap is what is live after all garbage is gone.
func heap() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// The bound of the issue: at most 1 KB for each remote domain, with a payload of some 300 bytes.
func TestARemoteDomainTakesLessThanAKilobyte(t *testing.T) {
	messages := EncodeRecords(fleet(t, 200, 50), chunkBytes)
	before := heap()
	r := newReplica(t, "me", 2)
	for _, m := range messages {
		if _, err := r.Handle(noon, "cmp-0", bytes.Clone(m)); err != nil {
			t.Fatal(err)
		}
	}
	each := float64(heap()-before) / (200 * 50)
	runtime.KeepAlive(messages)
	st := r.Status()
	t.Logf("%.0f bytes for each of %d domains (%d of payload), %.1f MB in all", each, 200*50, st.Bytes/st.Records, each*200*50/1e6)
	if each > 1000 {
		t.Errorf("%.0f bytes for each domain", each)
	}
	if len(slices.Collect(r.All(KindDomain))) != 200*50 {
		t.Fatal("they are not all there")
	}
}

func BenchmarkMergeNew(b *testing.B) {
	records := fleet(b, 200, 50)
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		r := newReplica(b, "me", 2)
		r.Merge(noon, records)
		n += len(records)
	}
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "records/s")
}

func BenchmarkMergeNewerVersion(b *testing.B) {
	records := fleet(b, 200, 50)
	r := newReplica(b, "me", 2)
	r.Merge(noon, records)
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		rec := &records[i%len(records)]
		rec.Version.B += 1000
		r.Merge(noon, records[i%len(records):][:1])
		i++
	}
	b.ReportMetric(float64(i)/b.Elapsed().Seconds(), "records/s")
}

func BenchmarkMergeKnown(b *testing.B) {
	records := fleet(b, 200, 50)
	r := newReplica(b, "me", 2)
	r.Merge(noon, records)
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		r.Merge(noon, records)
		n += len(records)
	}
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "records/s")
}

func BenchmarkCodec(b *testing.B) {
	records := fleet(b, 200, 50)
	b.Run("encode", func(b *testing.B) {
		b.ReportAllocs()
		size := 0
		for b.Loop() {
			size = 0
			for _, m := range EncodeRecords(records, chunkBytes) {
				size += len(m)
			}
		}
		b.SetBytes(int64(size))
		b.ReportMetric(float64(size)/float64(len(records)), "bytes/record")
	})
	b.Run("decode", func(b *testing.B) {
		messages := EncodeRecords(records, chunkBytes)
		b.ReportAllocs()
		for b.Loop() {
			for _, m := range messages {
				if _, err := DecodeRecords(m); err != nil {
					b.Fatal(err)
				}
			}
		}
	})
}

// BenchmarkExchange is what two replicas of 10 200 records pay: when they are in sync, and to find one record that differs.
func BenchmarkExchange(b *testing.B) {
	records := fleet(b, 200, 50)
	x, y := newReplica(b, "x", 2), newReplica(b, "y", 2)
	x.Merge(noon, records)
	y.Merge(noon, records)
	b.Run("in sync", func(b *testing.B) {
		for b.Loop() {
			res, err := y.Handle(noon, "x", x.Digest(noon))
			if err != nil || !res.InSync {
				b.Fatal(res, err)
			}
		}
	})
	b.Run("one differs", func(b *testing.B) {
		sent, n := 0, 0
		now := noon
		for b.Loop() {
			now = now.Add(time.Second)
			mustSet(b, x, now, KindAlarm, "a", fmt.Sprint(n))
			sent += converse(b, now, x, y)
			n++
		}
		b.ReportMetric(float64(sent)/float64(n), "bytes/repair")
	})
}

// converse runs one exchange that x begins, and returns its bytes.
func converse(t testing.TB, now time.Time, x, y *Replica) int {
	sent := 0
	from, to := x, y
	messages := [][]byte{x.Digest(now)}
	for len(messages) > 0 {
		var replies [][]byte
		for _, m := range messages {
			sent += len(m)
			res, err := to.Handle(now, from.Self(), m)
			if err != nil {
				t.Fatal(err)
			}
			replies = append(replies, res.Replies...)
		}
		from, to, messages = to, from, replies
	}
	return sent
}

func TestOneExchangeBringsOneDifferenceAtAFewKilobytes(t *testing.T) {
	records := fleet(t, 200, 50)
	x, y := newReplica(t, "x", 2), newReplica(t, "y", 2)
	x.Merge(noon, records)
	y.Merge(noon, records)
	for i, do := range []func(){
		func() { mustSet(t, x, noon, KindAlarm, "a", "raised") },
		func() { mustSet(t, y, noon, KindAlarm, "a", "raised") },
		func() { _, _, _ = x.Delete(noon, KindAlarm, "a") },
		func() { mustSet(t, x, noon, KindAlarm, "b", "one"); mustSet(t, y, noon, KindAlarm, "b", "other") },
		func() {
			for _, r := range []*Replica{x, y} {
				if _, _, err := r.SetShared(noon, KindSubscription, "s", []byte("by "+r.Self())); err != nil {
					t.Fatal(err)
				}
			}
		},
	} {
		do()
		sent := converse(t, noon, x, y)
		if x.Root() != y.Root() {
			t.Errorf("difference %d: not repaired", i)
		}
		if sent > 4000 {
			t.Errorf("difference %d took %d bytes", i, sent)
		}
	}
}

func TestALargeDifferenceComesInBoundedPieces(t *testing.T) {
	records := fleet(t, 100, 100)
	x, y := newReplica(t, "x", 2), newReplica(t, "y", 2)
	x.Merge(noon, records[:len(records)/2])
	y.Merge(noon, records[len(records)/2:])
	rounds := 0
	for x.Root() != y.Root() {
		rounds++
		if rounds > 10 {
			t.Fatal("no end")
		}
		if sent := converse(t, noon, x, y); sent > 20*answerBytes {
			t.Fatalf("%d bytes in one exchange", sent)
		}
	}
	t.Logf("%d records in %d exchanges", len(records), rounds)
	// Both hold all now.
	if n := x.Status().Records; n != len(records) {
		t.Fatalf("%d of %d", n, len(records))
	}
}
