package ovs

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/paramedic-ha/paramedic/correlate"
	"github.com/paramedic-ha/paramedic/hw"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is how long a test waits for what must happen; a loaded machine takes longer than the usual milliseconds.
const patience = 30 * time.Second

// lab is a network namespace with the daemons of the real package, in a directory of their own.
type lab struct {
	t           *testing.T
	ns, dir     string
	server, vsw *exec.Cmd
	binary      string

	mu     sync.Mutex
	engine *correlate.Engine
	health hw.Health
	deltas int
}

const (
	packaged = "/usr/lib/openvswitch-switch/ovs-vswitchd"
	withDPDK = "/usr/lib/openvswitch-switch-dpdk/ovs-vswitchd-dpdk"
)

func newLab(t *testing.T, binary string) *lab {
	t.Helper()
	if os.Getuid() != 0 {
		t.Fatal("network namespaces need root: run the tests as root")
	}
	if _, err := os.Stat(binary); err != nil {
		t.Fatalf("%v: make deps installs it", err)
	}
	dir, err := os.MkdirTemp("", "ovs") // short, for the names of sockets
	if err != nil {
		t.Fatal(err)
	}
	l := &lab{t: t, dir: dir, ns: "pm" + filepath.Base(dir), binary: binary, engine: correlate.New(correlate.Config{Home: "cmp-1", Term: 2}, nil)}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	at := time.Duration(0) // what the rules wait for is not for this test to wait for
	l.engine.SetPolicies(time.Now(), []correlate.Policy{{HoldDown: &at}})
	l.run("ip", "netns", "add", l.ns)
	t.Cleanup(func() { l.run("ip", "netns", "del", l.ns) })
	l.ip("link set lo up")
	l.run("ovsdb-tool", "create", filepath.Join(dir, "conf.db"), "/usr/share/openvswitch/vswitch.ovsschema")
	l.startServer()
	return l
}

func (l *lab) run(name string, args ...string) string {
	l.t.Helper()
	out, err := l.command(name, args...).CombinedOutput()
	if err != nil {
		l.t.Fatalf("%s %v: %v: %s", name, args, err, out)
	}
	return string(out)
}

func (l *lab) command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(name, args...)
	for _, v := range []string{"OVS_RUNDIR", "OVS_LOGDIR", "OVS_DBDIR", "OVS_SYSCONFDIR"} {
		cmd.Env = append(cmd.Env, v+"="+l.dir)
	}
	cmd.Env = append(cmd.Env, "PATH="+os.Getenv("PATH"))
	return cmd
}

func (l *lab) ip(args string) {
	l.t.Helper()
	l.run("ip", append([]string{"-n", l.ns}, strings.Fields(args)...)...)
}

// vsctl changes the configuration. It does not wait for ovs-vswitchd.
func (l *lab) vsctl(args string) string {
	l.t.Helper()
	return l.run("ovs-vsctl", append([]string{"--timeout=20", "--no-wait", "--db=unix:" + l.socket()}, strings.Fields(args)...)...)
}

func (l *lab) socket() string { return filepath.Join(l.dir, "db.sock") }

// daemon starts one in the foreground and ends it with the test.
func (l *lab) daemon(args ...string) *exec.Cmd {
	l.t.Helper()
	cmd := l.command("ip", append([]string{"netns", "exec", l.ns}, args...)...)
	if err := cmd.Start(); err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() { kill(cmd) })
	return cmd
}

// kill ends a process for good, a stopped one as well, and waits for its end.
func kill(cmd *exec.Cmd) {
	if cmd.ProcessState == nil {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
}

func (l *lab) startServer() {
	l.t.Helper()
	_ = os.Remove(l.socket())
	l.server = l.daemon("ovsdb-server", filepath.Join(l.dir, "conf.db"), "--remote=punix:"+l.socket(), "--pidfile", "-vconsole:off")
	l.eventually("ovsdb-server", func() bool {
		return l.command("ovs-vsctl", "--timeout=20", "--no-wait", "--db=unix:"+l.socket(), "init").Run() == nil
	})
}

func (l *lab) startSwitch() {
	l.t.Helper()
	pid := filepath.Join(l.dir, "ovs-vswitchd.pid")
	called := filepath.Join(l.dir, "ovs-vswitchd") // as packages call it, whichever it is
	if err := os.Symlink(l.binary, called); err != nil && !os.IsExist(err) {
		l.t.Fatal(err)
	}
	l.vsw = l.daemon(called, "unix:"+l.socket(), "--pidfile="+pid, "--disable-system", "-vconsole:off", "--log-file="+filepath.Join(l.dir, "vswitchd.log"))
	l.eventually("ovs-vswitchd", func() bool {
		return l.command("ovs-appctl", "-T1", "-t", "ovs-vswitchd", "version").Run() == nil
	})
}

func (l *lab) eventually(what string, ok func() bool) {
	l.t.Helper()
	for deadline := time.Now().Add(patience); ; <-time.After(5 * time.Millisecond) {
		if ok() {
			return
		}
		if time.Now().After(deadline) {
			l.mu.Lock()
			defer l.mu.Unlock()
			var standing []string
			for _, a := range l.engine.Alarms() {
				standing = append(standing, fmt.Sprintf("%s %s: %s", a.Key.Resource, a.Key.Condition, a.Text))
			}
			for _, v := range l.engine.Resources() {
				standing = append(standing, fmt.Sprintf("%s %s %v %v", v.ID, v.Derived, v.Needs, v.Facts))
			}
			log, _ := os.ReadFile(filepath.Join(l.dir, "vswitchd.log"))
			l.t.Fatalf("%s: not within %s; health %+v; standing, and resources:\n%s\n%s", what, patience, l.health, strings.Join(standing, "\n"), log[max(0, len(log)-14000):])
		}
	}
}

// Emit and Health are the sink: an engine, and the domains that another source would state.
func (l *lab) Emit(_ context.Context, d correlate.Delta) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if d.Source == "ovs" {
		l.deltas++
	}
	l.engine.Topology(time.Now(), d)
	return nil
}

func (l *lab) Health(h hw.Health) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.health = h
}

func (l *lab) sight() hw.Sight {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.health.Sight
}

// watch runs the source until the test ends. It has spoken when this returns.
func (l *lab) watch(include ...string) {
	l.t.Helper()
	s, err := New(Config{Socket: l.socket(), Interval: 20 * time.Millisecond, Timeout: 500 * time.Millisecond, Include: include})
	if err != nil {
		l.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx, l) }()
	l.t.Cleanup(func() {
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			l.t.Errorf("ended with %v", err)
		}
	})
	l.eventually("the first word", func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		return l.deltas > 0
	})
}

// others states what other sources would: links, and domains with one vnic on a link each.
func (l *lab) others(links []correlate.ID, domains map[correlate.ID]correlate.ID) {
	d := correlate.Delta{Source: "others"}
	for _, id := range links {
		d.Set = append(d.Set, correlate.Resource{ID: id})
	}
	for domain, on := range domains {
		vnic := correlate.NewID(correlate.KindVNIC, domain.Name()+"/52:54:00:00:00:01")
		d.Set = append(d.Set,
			correlate.Resource{ID: vnic, Domain: domain, Needs: []correlate.Need{{Of: []correlate.ID{on}}}},
			correlate.Resource{ID: domain, Needs: []correlate.Need{{Mode: correlate.SomeOf, Of: []correlate.ID{vnic}}}})
	}
	_ = l.Emit(context.Background(), d)
}

// says is an event of another source.
func (l *lab) says(id correlate.ID, c correlate.Condition, status correlate.Status) {
	now := time.Now()
	_ = l.Emit(context.Background(), correlate.Delta{Source: "others", Events: []correlate.Event{
		{Source: "others", Resource: id, Condition: c, Status: status, Occurred: now, Observed: now},
	}})
}

// hit waits until an alarm stands and hits exactly these domains ("domain/a failed").
func (l *lab) hit(id correlate.ID, c correlate.Condition, want ...string) {
	l.t.Helper()
	var got []string
	l.eventually(fmt.Sprintf("%s %s hits %v", id, c, want), func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.engine.Tick(time.Now())
		for _, a := range l.engine.Alarms() {
			if a.Key.Resource != id || a.Key.Condition != c {
				continue
			}
			got = nil
			for _, f := range slices.Concat(a.Affected, a.AtRisk) {
				got = append(got, fmt.Sprintf("%s %s", f.Resource, f.State))
			}
			return slices.Equal(got, want)
		}
		return false
	})
}

// well waits until no alarm stands.
func (l *lab) well() {
	l.t.Helper()
	l.eventually("all is well", func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.engine.Tick(time.Now())
		return len(l.engine.Alarms()) == 0 && l.health.Sight == hw.SightClear
	})
}

func (l *lab) clear(id correlate.ID, c correlate.Condition) {
	l.t.Helper()
	l.eventually(fmt.Sprintf("%s %s is clear", id, c), func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.engine.Tick(time.Now())
		return !l.engine.Stands(id, c)
	})
}

// veths makes cables whose other ends have an x behind their names.
func (l *lab) veths(names ...string) {
	l.t.Helper()
	for _, name := range names {
		l.ip("link add " + name + " type veth peer name " + name + "x")
		l.ip("link set " + name + " up")
		l.ip("link set " + name + "x up")
	}
}

// provider makes br-ex with a bond of p0 and p1, and br-int with a tap, patched to each other.
func (l *lab) provider() {
	l.t.Helper()
	l.veths("p0", "p1")
	l.ip("tuntap add tap0 mode tap")
	l.vsctl(`add-br br-ex -- set bridge br-ex datapath_type=netdev
		-- add-bond br-ex uplink p0 p1 bond_mode=active-backup
		-- add-br br-int -- set bridge br-int datapath_type=netdev
		-- add-port br-int int-ex -- set interface int-ex type=patch options:peer=ex-int
		-- add-port br-ex ex-int -- set interface ex-int type=patch options:peer=int-ex
		-- add-port br-int tap0 -- set interface tap0 external_ids:iface-id=port-1 external_ids:attached-mac=52:54:00:00:00:01`)
	l.others([]correlate.ID{"nic/p0", "nic/p1", "nic/tap0"}, map[correlate.ID]correlate.ID{"domain/a": "nic/tap0"})
}

func TestLostUplinksReachTheDomainThroughBondPatchAndTap(t *testing.T) {
	t.Parallel()
	l := newLab(t, packaged)
	l.startSwitch()
	l.provider()
	l.watch()
	l.well()
	l.says("nic/p0", correlate.CondCarrier, correlate.StatusFailed)
	l.hit("nic/p0", correlate.CondCarrier, "domain/a at-risk")
	l.says("nic/p1", correlate.CondCarrier, correlate.StatusFailed)
	l.hit("bond/uplink", correlate.CondCarrier, "domain/a failed")
	l.says("nic/p0", correlate.CondCarrier, correlate.StatusOK)
	l.says("nic/p1", correlate.CondCarrier, correlate.StatusOK)
	l.well()
}

func TestDeadOrHungSwitchIsAnAlarmOfTheDomainsBehindIt(t *testing.T) {
	t.Parallel()
	l := newLab(t, packaged)
	l.startSwitch()
	l.provider()
	l.watch()
	l.well()
	for _, f := range []struct {
		name         string
		fault, cure  func()
		id           correlate.ID
		c            correlate.Condition
		affected     []string
		otherwiseOff correlate.Condition
	}{
		{"killed", func() { kill(l.vsw) }, l.startSwitch, vswitchd, correlate.CondSwitch, []string{"domain/a failed"}, correlate.CondSwitchHung},
		{
			"stopped",
			func() { l.signal(l.vsw, syscall.SIGSTOP) }, func() { l.signal(l.vsw, syscall.SIGCONT) },
			vswitchd, correlate.CondSwitch,
			[]string{"domain/a failed"},
			correlate.CondSwitchHung,
		},
		{"its database killed", func() { kill(l.server) }, l.startServer, ovsdb, correlate.CondSwitchDatabase, []string{"domain/a at-risk"}, ""},
		{
			"its database stopped",
			func() { l.signal(l.server, syscall.SIGSTOP) }, func() { l.signal(l.server, syscall.SIGCONT) },
			ovsdb, correlate.CondSwitchDatabase,
			[]string{"domain/a at-risk"},
			"",
		},
		{"ended in order", func() { l.signal(l.vsw, syscall.SIGTERM); _ = l.vsw.Wait() }, l.startSwitch, vswitchd, correlate.CondSwitch, []string{"domain/a failed"}, ""},
	} {
		began := time.Now()
		f.fault()
		l.hit(f.id, f.c, f.affected...)
		t.Logf("%s: alarm after %s", f.name, time.Since(began).Round(time.Millisecond))
		if f.otherwiseOff != "" {
			l.clear(f.id, f.otherwiseOff)
		}
		f.cure()
		l.well()
	}
}

func (l *lab) signal(cmd *exec.Cmd, s syscall.Signal) {
	l.t.Helper()
	if err := cmd.Process.Signal(s); err != nil {
		l.t.Fatal(err)
	}
}

func TestTunnelsNeedWhatTheyRunOver(t *testing.T) {
	t.Parallel()
	l := newLab(t, packaged)
	l.startSwitch()
	l.veths("u0")
	l.ip("addr add 198.51.100.1/24 dev u0")
	l.ip("tuntap add tap0 mode tap")
	l.vsctl(`add-br br-tun -- set bridge br-tun datapath_type=netdev
		-- add-port br-tun vx0 -- set interface vx0 type=vxlan options:remote_ip=198.51.100.2 bfd:enable=true
		-- add-br br-int -- set bridge br-int datapath_type=netdev
		-- add-port br-int tap0 -- set interface tap0 external_ids:iface-id=port-1
		-- add-port br-int int-tun -- set interface int-tun type=patch options:peer=tun-int
		-- add-port br-tun tun-int -- set interface tun-int type=patch options:peer=int-tun`)
	l.others([]correlate.ID{"nic/u0", "nic/tap0"}, map[correlate.ID]correlate.ID{"domain/a": "nic/tap0"})
	l.watch()
	// Nobody answers there, which is no fault of this host.
	l.hit("nic/vx0", correlate.CondTunnel)
	l.vsctl("set interface vx0 bfd:enable=false")
	l.well()
	l.says("nic/u0", correlate.CondCarrier, correlate.StatusFailed)
	l.hit("nic/u0", correlate.CondCarrier, "domain/a failed")
	l.says("nic/u0", correlate.CondCarrier, correlate.StatusOK)
	l.well()
}

func TestLegWithoutAPartnerIsNoWayOut(t *testing.T) {
	t.Parallel()
	l := newLab(t, packaged)
	l.startSwitch()
	l.provider()
	l.watch()
	l.well()
	l.vsctl("set port uplink lacp=active")
	l.hit("bond/uplink", correlate.CondCarrier, "domain/a failed")
	l.vsctl("set port uplink lacp=off")
	l.well()
}

func TestBridgeInTheKernelOnlyDegradesWithoutItsDaemon(t *testing.T) {
	t.Parallel()
	l := newLab(t, packaged)
	l.startSwitch()
	l.vsctl("add-br br-int -- add-port br-int tap0 -- set interface tap0 external_ids:iface-id=port-1") // the daemon can't make it here
	l.others([]correlate.ID{"nic/tap0"}, map[correlate.ID]correlate.ID{"domain/a": "nic/tap0"})
	l.watch()
	l.well()
	kill(l.vsw)
	l.hit(vswitchd, correlate.CondSwitch, "domain/a degraded")
}

func TestBridgeThatIsDeletedUnderADomainIsMissed(t *testing.T) {
	t.Parallel()
	l := newLab(t, packaged)
	l.startSwitch()
	l.provider()
	l.watch()
	l.well()
	l.vsctl("del-br br-int")
	l.hit("bridge/br-int", correlate.CondGone, "domain/a failed")
	l.vsctl("add-br br-int -- set bridge br-int datapath_type=netdev -- add-port br-int tap0 -- set interface tap0 external_ids:iface-id=port-1")
	l.well()
	l.vsctl("del-port tap0") // the domain is unplugged first
	l.vsctl("del-br br-int")
	l.vsctl("del-br br-ex")
	l.eventually("the bridges to be gone", func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		_, there := l.engine.Resource("bridge/br-ex")
		return !there
	})
	l.well()
}

func TestSwitchThatIsNotThereIsSaidToBeSoAndSeenWhenItComes(t *testing.T) {
	t.Parallel()
	l := newLab(t, packaged)
	kill(l.server)
	if err := os.Remove(l.socket()); err != nil {
		t.Fatal(err)
	}
	l.watch()
	l.eventually("it is absent", func() bool { return l.sight() == hw.SightAbsent })
	if l.deltas != 1 {
		t.Errorf("%d deltas, want one that is full", l.deltas)
	}
	l.startServer()
	l.startSwitch()
	l.provider()
	l.well()
	l.says("nic/p0", correlate.CondCarrier, correlate.StatusFailed)
	l.says("nic/p1", correlate.CondCarrier, correlate.StatusFailed)
	l.hit("bond/uplink", correlate.CondCarrier, "domain/a failed")
}

func TestAgentThatStartsWhileTheSwitchIsDead(t *testing.T) {
	t.Parallel()
	l := newLab(t, packaged)
	l.startSwitch()
	l.provider()
	kill(l.vsw)
	l.watch()
	l.hit(vswitchd, correlate.CondSwitch, "domain/a failed")
}

func TestPortsOfDPDKAndVhostUser(t *testing.T) {
	t.Parallel()
	l := newLab(t, withDPDK)
	const (
		id     = "5f2b6a1c-0d4e-4a59-9a3c-1f0e6d7c8b9a"
		domain = correlate.ID("domain/" + id)
	)
	l.run("ovs-vsctl", "--no-wait", "--db=unix:"+l.socket(), "set", "Open_vSwitch", ".", "other_config:dpdk-init=true",
		"other_config:dpdk-extra=--no-huge --legacy-mem --no-pci --file-prefix="+l.ns+" --iova-mode=va -m 256 --vdev=net_null0 --vdev=net_null1",
		"other_config:dpdk-lcore-mask=1", "other_config:pmd-cpu-mask=1", "other_config:per-port-memory=true")
	l.startSwitch()
	vhost := filepath.Join(l.dir, "vh0.sock")
	l.vsctl(`add-br br-int -- set bridge br-int datapath_type=netdev
		-- add-bond br-int dpdkbond dpdk0 dpdk1 bond_mode=active-backup
		-- set interface dpdk0 type=dpdk options:dpdk-devargs=net_null0
		-- set interface dpdk1 type=dpdk options:dpdk-devargs=net_null1
		-- add-port br-int vh0 -- set interface vh0 type=dpdkvhostuserclient options:vhost-server-path=` + vhost + `
			external_ids:attached-mac=52:54:00:00:00:01 external_ids:vm-uuid=` + id)
	vnic := correlate.NewID(correlate.KindVNIC, id+"/52:54:00:00:00:01")
	_ = l.Emit(t.Context(), correlate.Delta{Source: "others", Set: []correlate.Resource{
		{ID: vnic, Domain: domain}, {ID: domain, Needs: []correlate.Need{{Mode: correlate.SomeOf, Of: []correlate.ID{vnic}}}},
	}})
	l.watch()
	l.well()
	l.eventually("DPDK's link", func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		r, _ := l.engine.Resource("nic/dpdk0")
		return r.Facts["carrier"] == "yes" && r.Facts["driver"] == "net_null"
	})

	// Links.
	l.run("ovs-ofctl", "mod-port", "unix:"+l.dir+"/br-int.mgmt", "dpdk0", "down")
	l.hit("nic/dpdk0", correlate.CondDisabled, string(domain)+" at-risk")
	l.run("ovs-ofctl", "mod-port", "unix:"+l.dir+"/br-int.mgmt", "dpdk1", "down")
	l.hit("bond/dpdkbond", correlate.CondCarrier, string(domain)+" failed")
	l.run("ovs-ofctl", "mod-port", "unix:"+l.dir+"/br-int.mgmt", "dpdk0", "up")
	l.run("ovs-ofctl", "mod-port", "unix:"+l.dir+"/br-int.mgmt", "dpdk1", "up")
	l.well()
	l.vsctl("add-port br-int dpdk2 -- set interface dpdk2 type=dpdk options:dpdk-devargs=0000:99:00.0")
	l.hit("nic/dpdk2", correlate.CondPort, string(domain)+" at-risk")
	l.vsctl("del-port dpdk2")
	l.well()

	// A domain's qemu that listens, with a queue so full that the switch can't connect.
	listener := listenFull(t, vhost)
	l.hit("nic/vh0", correlate.CondBacking, string(domain)+" failed")
	accepted := make(chan net.Conn, 16)
	go func() {
		defer close(accepted)
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			accepted <- c
		}
	}()
	l.well() // connected, although no guest drives it

	// Unplugged under the domain, whose definition names the port.
	_ = l.Emit(t.Context(), correlate.Delta{Source: "others", Set: []correlate.Resource{
		{ID: vnic, Domain: domain, Needs: []correlate.Need{{Of: []correlate.ID{"nic/vh0"}}}},
	}})
	l.vsctl("del-port vh0")
	l.hit("nic/vh0", correlate.CondBacking, string(domain)+" failed")
	_ = listener.Close()
	for c := range accepted {
		_ = c.Close()
	}
}

// listenFull listens on a Unix socket whose queue is full until somebody accepts.
func listenFull(t *testing.T, path string) net.Listener {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), path)
	defer func() { _ = f.Close() }()
	if err := errors.Join(syscall.Bind(fd, &syscall.SockaddrUnix{Name: path}), syscall.Listen(fd, 0)); err != nil {
		t.Fatal(err)
	}
	for {
		c, err := net.Dial("unix", path)
		if err != nil {
			break
		}
		t.Cleanup(func() { _ = c.Close() })
	}
	listener, err := net.FileListener(f)
	if err != nil {
		t.Fatal(err)
	}
	return listener
}
