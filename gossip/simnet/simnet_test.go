package simnet

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/paramedic-ha/paramedic/gossip"
)

// cluster is a network of n nodes, each with so many domains of a realistic size, of which all know all.
func cluster(t testing.TB, seed uint64, link Link, n, domains int) *Net {
	t.Helper()
	net := New(seed, link)
	for i := range n {
		x, err := net.Add(fmt.Sprintf("cmp-%d", i))
		if err != nil {
			t.Fatal(err)
		}
		for d := range domains {
			id := fmt.Sprintf("6f1c9a52-7a1e-4a1e-9d60-%06d%06d", i, d)
			x.Truth[gossip.Key{Space: x.Name, Kind: gossip.KindDomain, ID: id}] = domain(i, d)
			_, _, err := x.Replica.Set(x.Now(), gossip.KindDomain, id, []byte(domain(i, d)))
			check(t, err)
		}
	}
	records := make([]gossip.Record, 0, n*(domains+1))
	for _, x := range net.Nodes() {
		records = append(records, slices.Collect(x.Replica.Records())...)
	}
	for _, x := range net.Nodes() {
		x.Replica.Merge(x.Now(), records)
	}
	net.Run(FloorsOut)
	if !net.Converged() {
		if _, ok := net.RunUntil(100*time.Millisecond, time.Minute, net.Converged); !ok {
			t.Fatal("the cluster did not come up")
		}
	}
	for _, x := range net.Nodes() {
		x.Sent, x.Messages = 0, 0
	}
	return net
}

// FloorsOut is when the floors of a start have been told.
const FloorsOut = gossip.FloorDelay + 2*time.Second

func domain(host, d int) string {
	return fmt.Sprintf(`{"name":"instance-%08x","project":"5f0c5bdb-3e52-4c6a-9a7a-%012d","state":"running","ports":[{"mac":"fa:16:3e:%02x:%02x:01","port_id":"0d6f7a3c-8b5e-4d7b-a9d3-%012d"},{"mac":"fa:16:3e:%02x:%02x:02","port_id":"7a3c0d6f-8b5e-4d7b-a9d3-%012d"}]}`,
		host*1000+d, host%7, host%256, d%256, d, host%256, d%256, d)
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func contents(r *gossip.Replica) map[gossip.Key]gossip.Record {
	all := map[gossip.Key]gossip.Record{}
	for rec := range r.Records() {
		all[rec.Key] = rec
	}
	return all
}

// Everything that can go wrong goes wrong for a minute. Then the network is whole: all that live hold the same, each host
// is known by what is true of it, and whatever a survivor held at any crash is still there, or a newer word in its place.
func TestChaosEndsInOneStateAndLosesNothingThatASurvivorHeld(t *testing.T) {
	for seed := range uint64(30) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			chaos(t, seed)
		})
	}
}

func chaos(t *testing.T, seed uint64) {
	link := Link{Delay: time.Millisecond, Jitter: 50 * time.Millisecond, Loss: float64(seed%5) * 0.05, Duplicate: 0.1}
	net := New(seed, link)
	rnd := net.Rand()
	for i := range 3 + int(seed%6) {
		x, err := net.Add(fmt.Sprintf("h%d", i))
		check(t, err)
		x.Skew = time.Duration(rnd.Int64N(int64(40*time.Second))) - 20*time.Second
	}
	survived := map[gossip.Key]gossip.Record{}
	held := func() map[gossip.Key]gossip.Record { // by all that live, together
		all, err := gossip.New(gossip.Config{Self: "observer"})
		check(t, err)
		for _, x := range net.Live() {
			all.Merge(net.Now().Add(2*time.Hour), slices.Collect(x.Replica.Records()))
		}
		return contents(all)
	}
	nothingLost := func(now map[gossip.Key]gossip.Record) {
		for key, rec := range survived {
			floor := now[gossip.Key{Space: rec.Space, Kind: gossip.KindFloor}].Version
			if rec.Space == gossip.Shared && rec.Version.A > uint64(net.Now().Add(time.Minute).UnixNano()) {
				continue // by a clock that is ahead: it is written again under an earlier time
			}
			voided := rec.Space != gossip.Shared && (rec.Version.A < floor.A || rec.Version.A == floor.A && rec.Version.B < floor.B)
			if is, ok := now[key]; !voided && (!ok || is.Version.Compare(rec.Version) < 0) {
				t.Errorf("lost, though one that lives held it: %+v; there is %+v", rec, is)
			}
		}
	}
	reimaged := map[string]bool{}
	wrong := false // a clock was
	write := func(err error) {
		t.Helper()
		if !wrong || !errors.Is(err, gossip.ErrClock) {
			check(t, err)
		}
	}
	for range 600 {
		net.Run(100 * time.Millisecond)
		x := net.Nodes()[rnd.IntN(len(net.Nodes()))]
		id := fmt.Sprint(rnd.IntN(10))
		kind := gossip.Kind(1 + rnd.IntN(5))
		payload := fmt.Sprint(rnd.Uint64())
		switch dice := rnd.IntN(100); {
		case dice < 30:
			check(t, x.Set(kind, id, payload))
		case dice < 50:
			check(t, x.Delete(kind, id))
		case dice < 60 && x.Replica != nil:
			write(x.SetShared(gossip.KindSubscription, id, payload))
		case dice < 65 && x.Replica != nil:
			write(x.DeleteShared(gossip.KindSubscription, id))
		case dice < 68 && x.Replica != nil && len(net.Live()) > 1:
			nothingLost(held())
			if dice == 67 {
				x.Reimage()
				reimaged[x.Name] = true
			} else {
				x.Crash()
			}
			survived = held()
		case dice < 80 && x.Replica == nil:
			check(t, x.Start())
		case dice < 82:
			at := rnd.IntN(len(net.Nodes()))
			net.Partition(func(y *Node) int {
				if slices.Index(net.Nodes(), y) < at {
					return 1
				}
				return 2
			})
		case dice < 84:
			net.Heal()
		case dice < 85:
			hostile(net, x)
		case dice < 88: // of one host the clock is now an hour ahead, now behind, now right
			wrong = true
			net.Nodes()[0].Skew = []time.Duration{time.Hour, -time.Hour, 0}[rnd.IntN(3)]
		}
	}
	net.Heal()
	net.Nodes()[0].Skew = 0
	for _, x := range net.Nodes() {
		if x.Replica == nil && (reimaged[x.Name] || rnd.IntN(2) == 0) {
			check(t, x.Start())
		}
	}
	net.Run(AskTermFor + 2*FloorsOut) // twice: one that took too low a term is told, and begins again
	if took, ok := net.RunUntil(100*time.Millisecond, 30*time.Second, net.Converged); !ok {
		for _, x := range net.Live() {
			t.Logf("%s: %v %+v", x.Name, x.Replica.Root(), x.Replica.Status())
		}
		t.Fatalf("not in one state %v after everything was told", took)
	}
	live := net.Live()
	final := contents(live[0].Replica)
	for _, x := range live {
		known := map[gossip.Key]string{}
		for k, rec := range final {
			if k.Space == x.Name && !rec.Deleted && k.Kind != gossip.KindFloor {
				known[k] = string(rec.Payload)
			}
		}
		if diff := cmp.Diff(x.Truth, known); diff != "" {
			t.Errorf("%s is known otherwise than it is (-true +known):\n%s", x.Name, diff)
		}
	}
	nothingLost(final)
	for _, x := range live {
		check(t, x.SetShared(gossip.KindAck, x.Name, "whoever's clock was wrong"))
	}
	if took, ok := net.RunUntil(100*time.Millisecond, 30*time.Second, net.Converged); !ok {
		t.Errorf("what was written last is not everywhere after %v", took)
	}
}

// hostile sends each node what nobody should.
func hostile(net *Net, from *Node) {
	rnd := net.Rand()
	good := gossip.EncodeRecords([]gossip.Record{{
		Key: gossip.Key{Space: "h0", Kind: gossip.KindAlarm, ID: "forged"}, Version: gossip.Version{A: 1000, B: 1, Node: "liar"}, Payload: []byte("lie"),
	}}, Datagram)[0]
	noise := make([]byte, rnd.IntN(2000))
	for i := range noise {
		noise[i] = byte(rnd.Uint32())
	}
	future := slices.Clone(good)
	future[0]++
	for _, to := range net.Nodes() {
		for _, m := range [][]byte{good, good[:len(good)-rnd.IntN(len(good))], append(slices.Clone(good), 0), noise, append([]byte{1, byte(rnd.IntN(8))}, noise...), future} {
			from.Send(to, m)
		}
	}
}

func TestTheSameSeedIsTheSameRun(t *testing.T) {
	run := func() (string, int) {
		net := cluster(t, 7, Link{Delay: time.Millisecond, Jitter: 5 * time.Millisecond, Loss: 0.2, Duplicate: 0.1}, 10, 5)
		net.Nodes()[3].Crash()
		check(t, net.Nodes()[4].Set(gossip.KindAlarm, "x", "y"))
		net.Run(10 * time.Second)
		sent := 0
		for _, x := range net.Nodes() {
			sent += x.Sent
		}
		return fmt.Sprint(net.Nodes()[0].Replica.Root(), net.Nodes()[9].Replica.Status()), sent
	}
	state, sent := run()
	for range 3 {
		if s, n := run(); s != state || n != sent {
			t.Fatalf("%s, %d bytes; then %s, %d bytes", state, sent, s, n)
		}
	}
}

// The figure of the issue: at most 5 s after a partition heals, here of 200 hosts with changes on both sides.
func TestAHealedPartitionConvergesWithinFiveSeconds(t *testing.T) {
	for seed := range uint64(2) {
		net := cluster(t, seed, Link{Delay: time.Millisecond, Jitter: 2 * time.Millisecond, Loss: 0.05}, 200, 2)
		net.Partition(func(x *Node) int { return slices.Index(net.Nodes(), x) % 2 })
		for i, x := range net.Nodes() {
			check(t, x.Set(gossip.KindAlarm, "nic/eth0/carrier", fmt.Sprint("raised ", i)))
			check(t, x.Set(gossip.KindDomain, "new", domain(i, 999)))
		}
		check(t, net.Nodes()[0].SetShared(gossip.KindSubscription, "s", "of side 0"))
		check(t, net.Nodes()[1].SetShared(gossip.KindSubscription, "s", "of side 1"))
		net.Run(10 * time.Second)
		if net.Converged() {
			t.Fatal("there was no partition")
		}
		net.Heal()
		took, ok := net.RunUntil(50*time.Millisecond, time.Minute, net.Converged)
		t.Logf("seed %d: one state %v after the partition healed", seed, took)
		if !ok || took > 5*time.Second {
			t.Errorf("seed %d: %v", seed, took)
		}
	}
}

func TestIdleTrafficIsFlatInTheSizeOfTheCluster(t *testing.T) {
	perHost := func(n int) float64 {
		net := cluster(t, 1, LAN, n, 0)
		net.Run(20 * time.Second)
		sent := 0
		for _, x := range net.Nodes() {
			sent += x.Sent
		}
		return float64(sent) / float64(n) / 20
	}
	small := perHost(10)
	for _, n := range []int{100, 400} {
		big := perHost(n)
		t.Logf("bytes per host and second: %.1f with 10 hosts, %.1f with %d", small, big, n)
		if big > small*1.2 || big < small/1.2 {
			t.Errorf("not flat: %.1f with 10 hosts, %.1f with %d", small, big, n)
		}
	}
}

func TestANewAgentKnowsALargeClusterWithinSeconds(t *testing.T) {
	net := cluster(t, 3, LAN, 20, 500) // as many records as 200 hosts of 50 domains
	x := net.Nodes()[17]
	x.Crash()
	net.Run(time.Minute)
	check(t, x.Start())
	took, ok := net.RunUntil(50*time.Millisecond, time.Minute, net.Converged)
	if !ok {
		t.Fatal("it never did")
	}
	st := x.Replica.Status()
	t.Logf("%d records, %d bytes of payload, %v after the start (of which up to %v wait for its floor)", st.Records, st.Bytes, took, gossip.FloorDelay)
	if took > 30*time.Second {
		t.Errorf("it took %v", took)
	}
}

func TestAReimagedHostTakesATermAboveItsFormerLife(t *testing.T) {
	net := cluster(t, 5, Link{Delay: time.Millisecond, Jitter: 5 * time.Millisecond, Loss: 0.2}, 5, 3)
	x, peer := net.Nodes()[2], net.Nodes()[4]
	before := x.Replica.Term()
	x.Reimage()
	check(t, x.Start())
	check(t, x.Set(gossip.KindDomain, "fresh", "of the new life"))
	net.Run(AskTermFor + FloorsOut + 5*time.Second)
	if x.Replica.Term() <= before || !net.Converged() {
		t.Fatalf("term %d after %d, converged %v", x.Replica.Term(), before, net.Converged())
	}
	var known []string
	for rec := range peer.Replica.Space(x.Name, gossip.KindDomain) {
		known = append(known, rec.ID)
	}
	if diff := cmp.Diff([]string{"fresh"}, known); diff != "" {
		t.Fatal(diff)
	}
}

func TestAClockAnHourWrongHarmsNobodyElseAndIsNamed(t *testing.T) {
	net := cluster(t, 6, LAN, 5, 1)
	wrong, right := net.Nodes()[0], net.Nodes()[1]
	wrong.Skew = time.Hour
	net.Run(10 * time.Second)
	if err := wrong.SetShared(gossip.KindSubscription, "s", "from the future"); err == nil {
		t.Error("the host with the wrong clock was not told")
	}
	check(t, right.SetShared(gossip.KindSubscription, "t", "in time"))
	net.Run(10 * time.Second)
	if !net.Converged() {
		t.Fatal("not in one state")
	}
	if _, ok := wrong.Replica.Get(gossip.Key{Kind: gossip.KindSubscription, ID: "t"}); !ok {
		t.Error("what the others write does not reach it")
	}
	st := right.Replica.Status()
	if len(st.Clocks) != 1 || st.Clocks[0].Host != wrong.Name {
		t.Errorf("named are %+v", st.Clocks)
	}

	// Started anew it knows no clock but its own, and writes what the others refuse, until its clock is set.
	wrong.Crash()
	check(t, wrong.Start())
	check(t, wrong.SetShared(gossip.KindSubscription, "s", "from the future"))
	net.Run(20 * time.Second)
	rejected := right.Replica.Status().Rejected
	if len(rejected) != 1 || rejected[0].Host != wrong.Name || rejected[0].Reason != gossip.Ahead {
		t.Errorf("counted are %+v", rejected)
	}
	if net.Converged() {
		t.Error("the future was taken")
	}
	wrong.Skew = 0
	took, ok := net.RunUntil(100*time.Millisecond, time.Minute, net.Converged)
	if rec, known := right.Replica.Get(gossip.Key{Kind: gossip.KindSubscription, ID: "s"}); !ok || !known {
		t.Errorf("not healed after %v: %+v", took, rec)
	}
	check(t, wrong.SetShared(gossip.KindSubscription, "s", "of today"))
	net.Run(time.Second)
	if rec, _ := right.Replica.Get(gossip.Key{Kind: gossip.KindSubscription, ID: "s"}); string(rec.Payload) != "of today" {
		t.Errorf("what it writes after is not taken: %+v", rec)
	}
	if named, ok := net.RunUntil(time.Second, time.Minute, func() bool { return len(right.Replica.Status().Clocks) == 0 }); !ok {
		t.Errorf("still named are %+v after %v", right.Replica.Status().Clocks, named)
	}
	t.Logf("healed %v after the clock was set", took)
}
