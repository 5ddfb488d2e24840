package nic

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/paramedic-ha/paramedic/correlate"
)

// bridged is a host with one uplink and one tap on a bridge; the other end of the uplink is "wire".
const bridged = `
link add br0 type bridge
link add up0 type veth peer name wire
link set up0 master br0
tuntap add vnet0 mode tap
link set vnet0 master br0
link set br0 up
link set up0 up
link set wire up
`

func TestCarrierOfUplinkIsSeenBehindTapAndBridge(t *testing.T) {
	h := newHost(t)
	h.ip(bridged)
	_, l := watchHost(t, h, Config{Include: []string{"up*"}})
	l.awaitStated(t, "nic/up0", "bridge/br0", "nic/vnet0")
	l.await(t, "the chain of needs", func() bool {
		return l.needs("nic/vnet0") == "all-of:bridge/br0" && l.needs("bridge/br0") == "all-of:nic/up0" && l.needs("nic/up0") == ""
	})
	l.await(t, "only what counts", func() bool { return len(l.resources) == 3 })
	l.awaitStatus(t, "nic/up0", correlate.CondCarrier, correlate.StatusOK)

	h.ip("link set wire down")
	l.awaitStatus(t, "nic/up0", correlate.CondCarrier, correlate.StatusFailed)
	l.awaitStatus(t, "nic/up0", correlate.CondDisabled, correlate.StatusOK)
	h.ip("link set wire up")
	l.awaitStatus(t, "nic/up0", correlate.CondCarrier, correlate.StatusOK)

	h.ip("link set up0 down")
	l.awaitStatus(t, "nic/up0", correlate.CondDisabled, correlate.StatusFailed)
	l.awaitStatus(t, "nic/up0", correlate.CondCarrier, correlate.StatusOK) // unknown keeps what was
	h.ip("link set up0 up")
	l.awaitStatus(t, "nic/up0", correlate.CondDisabled, correlate.StatusOK)

	for _, e := range l.events() {
		if e.Source != "nic" || e.Observed.IsZero() || !strings.Contains(e.Text, e.Resource.Name()) {
			t.Errorf("event without source, time or name: %+v", e)
		}
	}
}

func TestDeletedUplinkIsStillNeededByItsBridge(t *testing.T) {
	h := newHost(t)
	h.ip(bridged)
	_, l := watchHost(t, h, Config{Include: []string{"up*"}})
	l.awaitStated(t, "nic/up0", "bridge/br0")

	h.ip("link del up0")
	l.awaitGone(t, "nic/up0", correlate.GoneVanished)
	l.await(t, "the bridge needs what it lost", func() bool { return l.needs("bridge/br0") == "all-of:nic/up0" })

	h.ip("link add up0 type veth peer name wire\nlink set up0 master br0\nlink set up0 up\nlink set wire up")
	l.awaitStated(t, "nic/up0")
	l.awaitStatus(t, "nic/up0", correlate.CondCarrier, correlate.StatusOK)
	l.await(t, "the bridge needs it again", func() bool { return l.needs("bridge/br0") == "all-of:nic/up0" })
}

func TestLinkThatVanishedInAnEarlierRunIsStillNeeded(t *testing.T) {
	h := newHost(t)
	h.ip(bridged)
	h.ip("link del up0\nlink add br1 type bridge\ntuntap add vnet1 mode tap\nlink set vnet1 master br1\nlink del br1")
	_, l := watchHost(t, h, Config{
		Include: []string{"up*"},
		Alarmed: func(context.Context) (map[correlate.ID][]correlate.ID, error) {
			return map[correlate.ID][]correlate.ID{"nic/up0": {"bridge/br0"}, "bridge/br1": {"nic/vnet1"}}, nil
		},
	})
	l.awaitStated(t, "bridge/br0", "nic/vnet0", "nic/vnet1")
	l.awaitGone(t, "nic/up0", correlate.GoneVanished)
	l.awaitGone(t, "bridge/br1", correlate.GoneVanished)
	l.await(t, "the bridge misses its uplink, the tap its bridge", func() bool {
		return l.needs("bridge/br0") == "all-of:nic/up0" && l.needs("nic/vnet1") == "all-of:bridge/br1"
	})
	h.ip("link add up0 type veth peer name wire\nlink set up0 up\nlink add br1 type bridge")
	l.await(t, "it returned and is no port, so nothing needs it", func() bool { return l.needs("bridge/br0") == "" })
	l.await(t, "the tap has a second to become a port again", func() bool { return l.needs("nic/vnet1") == "" })
}

func TestRunEndsWhenNobodySaysWhatStands(t *testing.T) {
	loopGone := errors.New("the loop does not answer")
	s, err := New(Config{Alarmed: func(context.Context) (map[correlate.ID][]correlate.ID, error) { return nil, loopGone }})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Run(t.Context(), newLedger()); !errors.Is(err, loopGone) {
		t.Errorf("Run returned %v", err)
	}
}

func TestPortTakenOutOfItsBridgeIsNoLongerNeeded(t *testing.T) {
	h := newHost(t)
	h.ip(bridged)
	_, l := watchHost(t, h, Config{Include: []string{"up*"}})
	l.awaitStated(t, "nic/up0", "bridge/br0")
	h.ip("link set up0 nomaster")
	l.await(t, "the bridge needs nothing", func() bool { return l.needs("bridge/br0") == "" })
}

func TestDeletedBridgeIsStillNeededByItsTaps(t *testing.T) {
	h := newHost(t)
	h.ip(bridged)
	_, l := watchHost(t, h, Config{Include: []string{"up*"}})
	l.awaitStated(t, "bridge/br0", "nic/vnet0")
	h.ip("link del br0")
	l.awaitGone(t, "bridge/br0", correlate.GoneVanished)
	l.await(t, "the tap needs what it lost", func() bool { return l.needs("nic/vnet0") == "all-of:bridge/br0" })

	h.ip("link add br1 type bridge\nlink set vnet0 master br1")
	l.await(t, "the tap needs its new bridge", func() bool { return l.needs("nic/vnet0") == "all-of:bridge/br1" })
}

func TestTapEndsByFaultForItsDomainToExplain(t *testing.T) {
	h := newHost(t)
	h.ip(bridged)
	_, l := watchHost(t, h, Config{Include: []string{"up*"}})
	l.awaitStated(t, "nic/vnet0")
	h.ip("link del vnet0")
	l.awaitGone(t, "nic/vnet0", correlate.GoneByFault)
	l.awaitStatus(t, "nic/vnet0", correlate.CondBacking, correlate.StatusFailed)
	for _, e := range l.events() {
		if e.Resource == "nic/vnet0" && e.Condition != correlate.CondBacking {
			t.Errorf("a tap reports %s: %+v", e.Condition, e)
		}
	}
}

func TestBridgeCountsWhileTapsAreOnIt(t *testing.T) {
	h := newHost(t)
	h.ip("link add virbr0 type bridge\nlink add lonely type veth peer name far\nlink set lonely master virbr0")
	_, l := watchHost(t, h, Config{})
	h.ip("tuntap add vnet0 mode tap\nlink set vnet0 master virbr0\nlink set virbr0 up")
	l.awaitStated(t, "nic/vnet0", "bridge/virbr0")
	h.ip("link del vnet0")
	l.awaitGone(t, "bridge/virbr0", correlate.GoneOrderly)
	l.await(t, "nothing that counts", func() bool { return len(l.resources) == 0 })
}

func TestMacvtapNeedsItsParent(t *testing.T) {
	h := newHost(t)
	h.ip(`link add up0 type veth peer name wire
link set up0 up
link set wire up
link add link up0 name macvtap0 type macvtap mode bridge
link set macvtap0 up`)
	_, l := watchHost(t, h, Config{})
	l.awaitStated(t, "nic/macvtap0", "nic/up0") // up0 counts because a macvtap stands on it
	l.await(t, "the need", func() bool { return l.needs("nic/macvtap0") == "all-of:nic/up0" })
	l.awaitStatus(t, "nic/macvtap0", correlate.CondCarrier, correlate.StatusOK)
	h.ip("link set wire down")
	l.awaitStatus(t, "nic/up0", correlate.CondCarrier, correlate.StatusFailed)
	l.awaitStatus(t, "nic/macvtap0", correlate.CondCarrier, correlate.StatusFailed)
	h.ip("link del macvtap0")
	l.awaitGone(t, "nic/macvtap0", correlate.GoneByFault)
	l.awaitGone(t, "nic/up0", correlate.GoneOrderly)
}

func TestRenamedLinkIsAnotherResource(t *testing.T) {
	h := newHost(t)
	h.ip(bridged)
	_, l := watchHost(t, h, Config{Include: []string{"up*"}})
	l.awaitStated(t, "nic/up0", "bridge/br0")
	h.ip("link set up0 down\nlink set up0 name up9\nlink set up9 up")
	l.awaitGone(t, "nic/up0", correlate.GoneOrderly)
	l.awaitStated(t, "nic/up9")
	l.await(t, "the bridge needs the new name", func() bool { return l.needs("bridge/br0") == "all-of:nic/up9" })
}

func TestLinkMovedToAnotherNamespace(t *testing.T) {
	h, other := newHost(t), newHost(t)
	h.ip(bridged)
	_, l := watchHost(t, h, Config{Include: []string{"up*"}})
	l.awaitStated(t, "nic/up0", "bridge/br0")
	h.ip("link set up0 netns " + other.name)
	l.awaitGone(t, "nic/up0", correlate.GoneVanished)
	l.await(t, "a text that says so", func() bool {
		for _, d := range l.deltas {
			for _, g := range d.Gone {
				if g.ID == "nic/up0" && strings.Contains(g.Text, "namespace") {
					return true
				}
			}
		}
		return false
	})
	l.await(t, "the bridge needs what it lost", func() bool { return l.needs("bridge/br0") == "all-of:nic/up0" })
	other.ip("link set up0 netns " + h.name) // its index is another one now
	l.awaitStated(t, "nic/up0")
}

func TestExcludedLinkIsNotStated(t *testing.T) {
	h := newHost(t)
	h.ip(bridged)
	_, l := watchHost(t, h, Config{Include: []string{"up*"}, Exclude: []string{"up0"}})
	l.awaitStated(t, "bridge/br0", "nic/vnet0")
	l.await(t, "no uplink", func() bool { _, ok := l.resources["nic/up0"]; return !ok && l.needs("bridge/br0") == "" })
}

func TestTwoUplinksAreAGroup(t *testing.T) {
	h := newHost(t)
	h.ip(bridged)
	_, l := watchHost(t, h, Config{Include: []string{"up*"}})
	l.awaitStated(t, "nic/up0", "bridge/br0")
	h.ip("link add up1 type veth peer name wire1\nlink set up1 master br0")
	l.await(t, "one of two", func() bool { return l.needs("bridge/br0") == "1-of(carrier):nic/up0,nic/up1" })
}

func TestBadGlobsAreNamed(t *testing.T) {
	_, err := New(Config{Include: []string{"eth*", "["}, Exclude: []string{"[a"}})
	if err == nil || !strings.Contains(err.Error(), "hw.nic.include[1]") || !strings.Contains(err.Error(), "hw.nic.exclude[0]") {
		t.Errorf("error %v does not name both globs", err)
	}
}
