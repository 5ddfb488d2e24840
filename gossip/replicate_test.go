package gossip

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"
)

// replicating is a replicator that runs.
type replicating struct {
	*Replicator
	t    testing.TB
	end  context.CancelCauseFunc
	done chan error
}

func replicate(t testing.TB, cfg PeerConfig, term uint64) *replicating {
	t.Helper()
	cfg.Log = slog.New(slog.NewTextHandler(io.MultiWriter(testWriter{t}), nil)).With("node", cfg.Node)
	r, err := NewReplicator(ReplicatorConfig{Peer: cfg, Term: term, Log: cfg.Log})
	if err != nil {
		t.Fatal(err)
	}
	return run(t, r)
}

func run(t testing.TB, r *Replicator) *replicating {
	t.Helper()
	ctx, cancel := context.WithCancelCause(context.Background())
	one := &replicating{r, t, cancel, make(chan error, 1)}
	go func() { one.done <- r.Run(ctx) }()
	t.Cleanup(func() { one.finish(nil) })
	return one
}

func (r *replicating) finish(cause error) {
	r.t.Helper()
	r.end(cause)
	select {
	case _, ok := <-r.done:
		if ok {
			close(r.done)
		}
	case <-time.After(20 * time.Second):
		r.t.Error("a replicator does not end")
	}
}

func (n *testNet) replicate(t testing.TB, count int) []*replicating {
	t.Helper()
	var all []*replicating
	for i := 1; i <= count; i++ {
		all = append(all, replicate(t, n.config(i), 2))
	}
	allMembers(t, all...)
	return all
}

func allMembers(t testing.TB, all ...*replicating) {
	t.Helper()
	eventually(t, fmt.Sprintf("%d see each other", len(all)), func() bool {
		for _, r := range all {
			if r.peer.members.count() != len(all) || r.peer.members.hash() != all[0].peer.members.hash() {
				return false
			}
		}
		return true
	})
}

func (r *replicating) root() (root [2]uint64) {
	if err := r.View(context.Background(), func(v *Replica) { root = v.Root() }); err != nil {
		r.t.Fatal(err)
	}
	return root
}

func level(t testing.TB, all ...*replicating) {
	t.Helper()
	eventually(t, "all replicas are equal", func() bool {
		root := all[0].root()
		for _, r := range all[1:] {
			if r.root() != root {
				return false
			}
		}
		return true
	})
}

func (r *replicating) write(kind Kind, count, size int) {
	r.t.Helper()
	err := r.Update(context.Background(), func(_ time.Time, w *Writer) error {
		for i := range count {
			if err := w.Set(kind, fmt.Sprint("id-", i), bytes.Repeat([]byte{byte(i)}, size)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		r.t.Fatal(err)
	}
}

func TestReplicasBecomeEqual(t *testing.T) {
	n := newTestNet(t)
	all := n.replicate(t, 5)
	for i, r := range all {
		r.write(KindDomain, 50, 300)
		if err := r.SetShared(context.Background(), KindSubscription, fmt.Sprint("sub-", i), []byte("wish")); err != nil {
			t.Fatal(err)
		}
	}
	level(t, all...)
	if err := all[0].Set(context.Background(), KindAlarm, "big", make([]byte, 40<<10)); err != nil {
		t.Fatal(err)
	}
	if err := all[1].DeleteShared(context.Background(), KindSubscription, "sub-3"); err != nil {
		t.Fatal(err)
	}
	level(t, all...)
	newcomer := replicate(t, n.config(6), 2)
	level(t, append(all, newcomer)...)
	var found int
	err := newcomer.View(context.Background(), func(v *Replica) {
		for range v.All(KindDomain) {
			found++
		}
	})
	if err != nil || found != 5*50 {
		t.Errorf("the newcomer has %d domains, %v", found, err)
	}
}

func TestWatcherSeesEachChangeAndTheStateBefore(t *testing.T) {
	n := newTestNet(t)
	all := n.replicate(t, 2)
	all[0].write(KindDomain, 3, 10)
	level(t, all...)
	w, err := all[1].Watch(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	<-w.Ready()
	if c := w.Take(); len(c.Changed) != 3 {
		t.Errorf("the state before: %+v", c)
	}
	for i := range 100 {
		if err := all[0].Set(context.Background(), KindDomain, "id-1", []byte(strconv.Itoa(i))); err != nil {
			t.Fatal(err)
		}
	}
	level(t, all...)
	last := ""
	eventually(t, "the newest is seen", func() bool {
		for _, rec := range w.Take().Changed {
			last = string(rec.Payload)
		}
		return last == "99"
	})
}

func TestChangesPassALossyNetworkAndAPartition(t *testing.T) {
	t.Parallel()
	n := newTestNet(t)
	all := n.replicate(t, 6)
	n.lose(0.2)
	for i := range 20 {
		all[i%6].write(Kind(1+i%5), 5+i, 200)
	}
	level(t, all...)
	for i := 4; i <= 6; i++ {
		n.put(i, 1)
	}
	for i, r := range all {
		r.write(KindAlarm, 30+i, 500)
	}
	eventually(t, "both sides have given each other up", func() bool {
		return all[0].peer.members.count() == 3 && all[5].peer.members.count() == 3
	})
	n.lose(0)
	for i := 4; i <= 6; i++ {
		n.put(i, 0)
	}
	healed := time.Now()
	level(t, all...)
	t.Logf("level again %v after the cut ended", time.Since(healed).Round(time.Millisecond))
	allMembers(t, all...)
}

func TestReimagedHostLearnsItsTermAndForgottenHostIsGone(t *testing.T) {
	n := newTestNet(t)
	all := n.replicate(t, 3)
	all[2].write(KindAlarm, 2, 10)
	level(t, all...)
	all[2].finish(errAbandon)
	again := replicate(t, n.config(3), 0)
	if err := again.Set(context.Background(), KindAlarm, "x", nil); !errors.Is(err, ErrNoTerm) {
		t.Fatalf("it writes without a term: %v", err)
	}
	var seen uint64
	eventually(t, "it sees its own term", func() bool {
		_ = again.View(context.Background(), func(v *Replica) { seen = v.SeenTerm() })
		return seen == 2
	})
	if err := again.Update(context.Background(), func(_ time.Time, w *Writer) error { return w.SetTerm(seen + 2) }); err != nil {
		t.Fatal(err)
	}
	again.write(KindAlarm, 1, 20)
	eventually(t, "the others hear the new term", func() bool {
		for _, m := range all[0].peer.Members() {
			if m.Node == "cmp-3" {
				return m.Term == 4
			}
		}
		return false
	})
	if err := all[0].Forget(context.Background(), "cmp-3"); err == nil {
		t.Error("a member was forgotten")
	}
	again.finish(nil)
	eventually(t, "it left", func() bool { return all[0].peer.members.count() == 2 && all[1].peer.members.count() == 2 })
	if err := all[0].Forget(context.Background(), "cmp-3"); err != nil {
		t.Fatal(err)
	}
	level(t, all[:2]...)
	left := 0
	_ = all[1].View(context.Background(), func(v *Replica) {
		for range v.Space("cmp-3", KindAlarm) {
			left++
		}
	})
	if left != 0 || slices.ContainsFunc(all[1].peer.Hosts(), func(h Host) bool { return h.Node == "cmp-3" }) {
		t.Errorf("%d records of it are left", left)
	}
}

// The word that a host is forgotten travels for thirty days: one that came back since stays on the rosters of those who
// hear it again, and one of which no replica holds anything leaves all of them.
func TestForgettingReachesEveryRosterAndNotTheHostThatReturned(t *testing.T) {
	n := newTestNet(t)
	all := n.replicate(t, 3)
	onRoster := func(r *replicating) bool {
		return slices.ContainsFunc(r.peer.roster.list(), func(h Host) bool { return h.Node == "cmp-3" })
	}
	eventually(t, "it is on both rosters", func() bool { return onRoster(all[0]) && onRoster(all[1]) })
	all[2].finish(nil)
	eventually(t, "it left", func() bool { return all[0].peer.members.count() == 2 && all[1].peer.members.count() == 2 })
	if err := all[0].Forget(context.Background(), "cmp-33"); !errors.Is(err, ErrUnknownHost) {
		t.Fatalf("a host that never was: %v", err)
	}
	if err := all[0].Forget(context.Background(), "cmp-3"); err != nil { // it wrote nothing
		t.Fatal(err)
	}
	eventually(t, "it is off both rosters", func() bool { return !onRoster(all[0]) && !onRoster(all[1]) })

	back := replicate(t, n.config(3), 2)
	allMembers(t, all[0], all[1], back)
	eventually(t, "it is on both rosters again", func() bool { return onRoster(all[0]) && onRoster(all[1]) })
	back.finish(nil)
	eventually(t, "it left again", func() bool { return all[0].peer.members.count() == 2 })
	var word []Record
	err := all[1].View(context.Background(), func(v *Replica) {
		for rec := range v.Records() {
			if rec.Kind == KindForget {
				word = append(word, rec)
			}
		}
	})
	if err != nil || len(word) != 1 {
		t.Fatalf("%v, %v", word, err)
	}
	all[0].Replicator.tell(Result{Changed: word}) // as if this agent had been started anew
	if !onRoster(all[0]) {
		t.Error("an old word took a host off the roster that is only away")
	}
}

func TestWatchersHearWhatComesFromTheDisk(t *testing.T) {
	n := newTestNet(t)
	r := replicate(t, n.config(1), 4)
	w, err := r.Watch(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	now := time.Now()
	kept := []Record{{Key: Key{Shared, KindSubscription, "s"}, Version: Version{A: nanos(now), Node: "cmp-1"}, Payload: []byte("wish")}}
	if err := r.Update(context.Background(), func(_ time.Time, w *Writer) error { w.Restore(now, kept); return nil }); err != nil {
		t.Fatal(err)
	}
	<-w.Ready()
	if c := w.Take(); len(c.Changed) != 1 || c.Changed[0].ID != "s" {
		t.Errorf("they hear %+v", c)
	}
	if c := w.Take(); len(c.Changed) != 0 {
		t.Errorf("twice: %+v", c)
	}
}

func TestStoppedReplicatorRefuses(t *testing.T) {
	n := newTestNet(t)
	r := replicate(t, n.config(1), 2)
	if err := r.Set(context.Background(), KindHost, "", nil); err != nil {
		t.Fatal(err)
	}
	r.finish(nil)
	if err := r.Set(context.Background(), KindHost, "", []byte("x")); !errors.Is(err, ErrStopped) {
		t.Errorf("after the end: %v", err)
	}
}

// BenchmarkChange measures how long a change takes to be at every peer, and what a peer sends when nothing happens.
// All peers run in this process and share its processors; twenty changes a second. GOSSIP_IDLE=1 measures the rest as well.
func BenchmarkChange(b *testing.B) {
	for _, count := range []int{10, 30, 50} {
		b.Run(fmt.Sprint(count, "_peers"), func(b *testing.B) {
			n := newTestNet(b)
			var all []*replicating
			for i := 1; i <= count; i++ {
				cfg := n.config(i)
				cfg.wrap = func(t memberlist.NodeAwareTransport) memberlist.NodeAwareTransport { return t }
				all = append(all, replicate(b, cfg, 2))
			}
			allMembers(b, all...)
			for _, r := range all {
				r.write(KindDomain, 50, 300)
			}
			level(b, all...)
			arrived := make(chan time.Time, count*4)
			for _, r := range all {
				w, err := r.Watch(context.Background())
				if err != nil {
					b.Fatal(err)
				}
				w.Take()
				stop := make(chan struct{})
				b.Cleanup(func() { close(stop); w.Close() })
				go func() {
					for {
						select {
						case <-w.Ready():
							for _, rec := range w.Take().Changed {
								if rec.Kind == KindAlarm {
									arrived <- time.Now()
								}
							}
						case <-stop:
							return
						}
					}
				}()
			}
			atRest := 0.0
			if os.Getenv("GOSSIP_IDLE") != "" {
				atRest = idle(all)
			}
			pace := time.NewTicker(50 * time.Millisecond)
			defer pace.Stop()
			var times []time.Duration
			for i := 0; b.Loop(); i++ {
				<-pace.C
				from := all[rand.N(count)]
				at := time.Now()
				if err := from.Set(context.Background(), KindAlarm, fmt.Sprint("alarm-", i), bytes.Repeat([]byte{byte(i)}, 900)); err != nil {
					b.Fatal(err)
				}
				var last time.Time
				for range count {
					select {
					case last = <-arrived:
					case <-time.After(20 * time.Second):
						b.Fatal("a change does not arrive")
					}
				}
				times = append(times, last.Sub(at))
			}
			slices.Sort(times)
			b.ReportMetric(atRest, "rest-B/s/host")
			b.ReportMetric(float64(times[len(times)/2].Microseconds())/1000, "p50-ms")
			b.ReportMetric(float64(times[len(times)*99/100].Microseconds())/1000, "p99-ms")
			b.ReportMetric(float64(times[len(times)-1].Microseconds())/1000, "max-ms")
		})
	}
}

// idle is what a host sends and receives a second while nothing happens: the median of windows, since each host says
// once that it is settled.
func idle(all []*replicating) float64 {
	const window = 5 * time.Second
	sum := func() (bytes uint64) {
		for _, r := range all {
			s := r.peer.Stats()
			bytes += s.BytesIn + s.BytesOut
		}
		return bytes
	}
	var rates []float64
	tick := time.NewTicker(window)
	defer tick.Stop()
	for before := sum(); len(rates) < 7; before = sum() {
		<-tick.C
		rates = append(rates, float64(sum()-before)/window.Seconds()/float64(len(all)))
	}
	slices.Sort(rates)
	return rates[len(rates)/2]
}
