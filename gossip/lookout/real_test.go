package lookout

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"

	"github.com/paramedic-ha/paramedic/gossip/loopback"
	"github.com/paramedic-ha/paramedic/gossip/watch"
)

// These tests run the real machine: on loopback addresses, where every kernel lives, and in namespaces behind a bridge, where
// a host can be cut off.

// watcher is a lookout with the real machine, and the news of it.
type watcher struct {
	*Lookout
	end  func()
	mu   sync.Mutex
	news []watch.News
	at   []time.Time
}

func watching(t *testing.T, self, addr string) *watcher {
	t.Helper()
	w := &watcher{}
	l, err := New(Config{
		Self: self, Bind: netip.AddrPortFrom(netip.MustParseAddr(addr), 0), Boot: [16]byte{1}, Started: time.Now(), Keys: [][]byte{key(1)},
		Probable: 350 * time.Millisecond, Confirmed: 700 * time.Millisecond, Log: slog.New(slog.DiscardHandler),
		News: func(n watch.News) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.news, w.at = append(w.news, n), append(w.at, time.Now())
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	w.Lookout = l
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx) }()
	w.end = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(w.end)
	return w
}

// told returns the first news of a kind about a host and a level, and when it came.
func (w *watcher) told(kind watch.NewsKind, host string, level watch.Level) (watch.News, time.Time, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	i := slices.IndexFunc(w.news, func(n watch.News) bool {
		return n.Kind == kind && n.Host == host && n.Verdict.Level == level
	})
	if i < 0 {
		return watch.News{}, time.Time{}, false
	}
	return w.news[i], w.at[i], true
}

// all returns the news so far.
func (w *watcher) all() []watch.News {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.news)
}

// meet introduces all to all and waits until each is heard by each.
func meet(t *testing.T, all []*watcher) {
	t.Helper()
	var hosts []Host
	for _, w := range all {
		hosts = append(hosts, at(w.cfg.Self, w.Addr()))
	}
	for _, w := range all {
		w.SetHosts(hosts)
	}
	for _, w := range all {
		eventually(t, "each hears each", func() bool {
			s := w.Status()
			fresh := 0
			for _, o := range s.Observed {
				if o.Silence >= 0 && o.Silence < 100*time.Millisecond {
					fresh++
				}
			}
			return len(s.Sessions) == len(all)-1 && fresh == len(all)-1
		})
	}
}

// standStill holds up the goroutine that calls it: of what really runs there is no other way to be late.
func standStill(d time.Duration) {
	timer := time.NewTimer(d)
	<-timer.C
}

// behindABridge starts n hosts in namespaces of their own; cut takes the link of one down, or up again.
func behindABridge(t *testing.T, n int) (all []*watcher, cut func(i int, down bool)) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Fatal("needs namespaces and links: run it as root")
	}
	var hub *netlink.Handle
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // for good: the thread ends with the goroutine
		done <- func() error {
			here, err := netns.New()
			if err != nil {
				return err
			}
			defer here.Close()
			if hub, err = netlink.NewHandleAt(here); err != nil {
				return err
			}
			bridge := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "br0"}}
			if err := hub.LinkAdd(bridge); err != nil {
				return err
			}
			if err := hub.LinkSetUp(bridge); err != nil {
				return err
			}
			for i := range n {
				there, err := netns.New() // and the thread is there
				if err != nil {
					return err
				}
				defer there.Close()
				if err := plug(hub, bridge, there, i); err != nil {
					return err
				}
				all = append(all, watching(t, fmt.Sprintf("host%d", i), fmt.Sprintf("10.0.0.%d", i+1)))
			}
			return nil
		}()
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(hub.Close)
	return all, func(i int, down bool) {
		t.Helper()
		port, err := hub.LinkByName(fmt.Sprintf("port%d", i))
		if err == nil && down {
			err = hub.LinkSetDown(port)
		} else if err == nil {
			err = hub.LinkSetUp(port)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// plug connects the namespace of host i with the bridge.
func plug(hub *netlink.Handle, bridge netlink.Link, there netns.NsHandle, i int) error {
	h, err := netlink.NewHandleAt(there)
	if err != nil {
		return err
	}
	defer h.Close()
	veth := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: fmt.Sprintf("port%d", i)}, PeerName: "eth0", PeerNamespace: netlink.NsFd(there)}
	if err := hub.LinkAdd(veth); err != nil {
		return err
	}
	if err := hub.LinkSetMaster(veth, bridge); err != nil {
		return err
	}
	if err := hub.LinkSetUp(veth); err != nil {
		return err
	}
	eth, err := h.LinkByName("eth0")
	if err != nil {
		return err
	}
	addr, err := netlink.ParseAddr(fmt.Sprintf("10.0.0.%d/24", i+1))
	if err != nil {
		return err
	}
	if err := h.AddrAdd(eth, addr); err != nil {
		return err
	}
	return h.LinkSetUp(eth)
}

func TestAHostThatIsCutOffIsLostForTheOthersAndIsolatedForItself(t *testing.T) {
	t.Parallel()
	all, cut := behindABridge(t, 3)
	meet(t, all)
	begin := time.Now()
	cut(2, true)
	for _, w := range all[:2] {
		for _, level := range []watch.Level{watch.LevelProbable, watch.LevelConfirmed} {
			eventually(t, "the others lose it", func() bool { _, _, ok := w.told(watch.NewsVerdict, "host2", level); return ok })
			n, at, _ := w.told(watch.NewsVerdict, "host2", level)
			t.Logf("%s: level %d after %v, with %d votes", w.cfg.Self, level, at.Sub(begin).Round(time.Millisecond), len(n.Verdict.Votes))
		}
	}
	eventually(t, "it knows that it is isolated", func() bool { _, _, ok := all[2].told(watch.NewsIsolated, "host2", 0); return ok })
	for _, n := range all[2].all() {
		if n.Kind == watch.NewsVerdict {
			t.Errorf("the isolated host accuses: %+v", n)
		}
	}
	cut(2, false)
	for _, w := range all[:2] {
		eventually(t, "it is heard again", func() bool { _, _, ok := w.told(watch.NewsHeard, "host2", watch.LevelConfirmed); return ok })
	}
	eventually(t, "it is told", func() bool { _, _, ok := all[2].told(watch.NewsRejoined, "host2", 0); return ok })
}

func TestAnAgentThatIsHeldUpIsNotLostAndAccusesNobody(t *testing.T) {
	t.Parallel()
	all, _ := behindABridge(t, 4)
	meet(t, all)
	all[1].ask(func(time.Time) { standStill(700 * time.Millisecond) })
	var wg sync.WaitGroup
	for _, w := range all[1:] { // and most of them at once
		wg.Go(func() { w.ask(func(time.Time) { standStill(700 * time.Millisecond) }) })
	}
	wg.Wait()
	heard := make([]uint64, len(all))
	for i, w := range all {
		heard[i] = w.Status().Counters.Received
	}
	for i, w := range all { // longer than a verdict takes, at twenty heartbeats a second of each of three
		eventually(t, "all are heard as before", func() bool { return w.Status().Counters.Received >= heard[i]+3*15 })
	}
	for _, w := range all {
		if news := w.all(); len(news) != 0 {
			t.Errorf("%s: %+v", w.cfg.Self, news)
		}
	}
	if s := all[1].Status().Counters; s.Late < 2 || s.Latest < time.Second/2 {
		t.Errorf("it was late, and counts %+v", s)
	}
}

func TestAnAgentThatIsKilledIsSilentOnALivingHost(t *testing.T) {
	t.Parallel()
	prefix := loopback.Network(t)
	var all []*watcher
	for i := range 3 {
		all = append(all, watching(t, fmt.Sprintf("host%d", i), fmt.Sprintf("%s.%d", prefix, i+1)))
	}
	meet(t, all)
	all[2].end()
	for _, w := range all[:2] {
		eventually(t, "its agent is silent", func() bool { _, _, ok := w.told(watch.NewsVerdict, "host2", watch.LevelSilent); return ok })
		n, _, _ := w.told(watch.NewsVerdict, "host2", watch.LevelSilent)
		if !slices.ContainsFunc(n.Verdict.Votes, func(v watch.Vote) bool { return v.Closed }) {
			t.Errorf("nobody saw that its port is closed: %+v", n.Verdict)
		}
		if len(w.all()) != 1 {
			t.Errorf("%s was told %+v", w.cfg.Self, w.all())
		}
	}
}
