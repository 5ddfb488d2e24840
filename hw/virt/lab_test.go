package virt

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/digitalocean/go-libvirt"
	"github.com/digitalocean/go-libvirt/socket/dialers"
	"go.uber.org/goleak"

	"github.com/paramedic-ha/paramedic/correlate"
	"github.com/paramedic-ha/paramedic/hw"
)

// capabilities is where every libvirtd of this run keeps what it learned of qemu: probing it takes seconds.
var capabilities string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "paramedic-virt-")
	if err != nil {
		panic(err)
	}
	capabilities = dir
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		if err := os.RemoveAll(dir); err != nil {
			code = 1
		}
		os.Exit(code)
	}))
}

// enough is how long a loaded machine may take for what takes a second.
const enough = 90 * time.Second

// eventually polls until ok or the patience ends.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(enough)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", enough, what)
		}
		<-tick.C
	}
}

// world is a Sink that keeps what a source said, as the engine would.
type world struct {
	mu        sync.Mutex
	resources map[correlate.ID]correlate.Resource
	events    map[correlate.ID]map[correlate.Condition]correlate.Event // newest
	log       []correlate.Event                                        // all
	gone      map[correlate.ID]correlate.Gone
	health    []hw.Health
	fulls     int
	// eventDelays holds, for each delta with events that isn't full, the time since libvirt's word arrived.
	eventDelays []time.Duration
}

func newWorld() *world {
	return &world{
		resources: map[correlate.ID]correlate.Resource{}, events: map[correlate.ID]map[correlate.Condition]correlate.Event{},
		gone: map[correlate.ID]correlate.Gone{},
	}
}

func (w *world) Emit(_ context.Context, d correlate.Delta) error {
	now := time.Now()
	w.mu.Lock()
	defer w.mu.Unlock()
	if d.Full {
		w.fulls++
		w.resources = map[correlate.ID]correlate.Resource{}
	}
	for _, r := range d.Set {
		w.resources[r.ID] = r
		delete(w.gone, r.ID)
	}
	for _, g := range d.Gone {
		delete(w.resources, g.ID)
		w.gone[g.ID] = g
	}
	if !d.Full && len(d.Events) > 0 {
		w.eventDelays = append(w.eventDelays, now.Sub(d.Events[0].Observed))
	}
	for _, e := range d.Events {
		if w.events[e.Resource] == nil {
			w.events[e.Resource] = map[correlate.Condition]correlate.Event{}
		}
		w.events[e.Resource][e.Condition] = e
		w.log = append(w.log, e)
	}
	return nil
}

func (w *world) Health(h hw.Health) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if n := len(w.health); n == 0 || w.health[n-1] != h {
		w.health = append(w.health, h)
	}
}

func (w *world) status(id correlate.ID, c correlate.Condition) correlate.Status {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.events[id][c].Status
}

func (w *world) event(id correlate.ID, c correlate.Condition) correlate.Event {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.events[id][c]
}

func (w *world) resource(id correlate.ID) (correlate.Resource, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	r, ok := w.resources[id]
	return r, ok
}

func (w *world) goneAs(id correlate.ID) (correlate.GoneReason, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	g, ok := w.gone[id]
	return g.Reason, ok
}

func (w *world) sight() hw.Sight {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.health) == 0 {
		return hw.SightBlind
	}
	return w.health[len(w.health)-1].Sight
}

// said counts how often a status of a condition was said.
func (w *world) said(id correlate.ID, c correlate.Condition, s correlate.Status) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := 0
	for _, e := range w.log {
		if e.Resource == id && e.Condition == c && e.Status == s {
			n++
		}
	}
	return n
}

// watch runs a source until the test ends.
func watch(t testing.TB, cfg Config) *world {
	t.Helper()
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.NewTextHandler(testLog{t}, nil))
	}
	src, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- src.Run(ctx, w) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("Run: %v, want the context's error", err)
		}
	})
	return w
}

type testLog struct{ t testing.TB }

func (l testLog) Write(p []byte) (int, error) {
	l.t.Log(strings.TrimSpace(string(p)))
	return len(p), nil
}

// host is a libvirtd in namespaces of its own: mounts, processes (all end with it), network.
type host struct {
	t    testing.TB
	cmd  *exec.Cmd
	in   io.WriteCloser
	out  *bufio.Reader
	pid  int // of the namespaces' first process, as seen here
	mu   sync.Mutex
	root string // its file system, as seen here
	lib  *libvirt.Libvirt
}

// setup makes the host's private places; then the shell carries out one command per line and answers each with a line.
const setup = `
set -e
mount -t tmpfs -o mode=755 tmpfs /run
mount -t tmpfs -o mode=755 tmpfs /etc/libvirt
mount -t tmpfs -o mode=755 tmpfs /var/lib/libvirt
mount --bind "$CAPABILITIES" /var/cache/libvirt
mount -t tmpfs -o mode=755 tmpfs /var/log/libvirt
mkdir -p /run/libvirt /etc/libvirt/qemu /var/lib/libvirt/images /var/lib/libvirt/small
mount -t tmpfs -o mode=755,size=64k tmpfs /var/lib/libvirt/small
ip link set lo up
ip link add br0 type bridge
ip link set br0 up
cat > /etc/libvirt/libvirtd.conf <<X
auth_unix_ro = "none"
auth_unix_rw = "none"
unix_sock_ro_perms = "0777"
unix_sock_rw_perms = "0700"
X
cat > /etc/libvirt/qemu.conf <<X
user = "root"
group = "root"
dynamic_ownership = 0
remember_owner = 0
security_driver = "none"
namespaces = []
cgroup_controllers = []
stdio_handler = "file"
X
set +e
echo ready
while read -r line; do eval "$line"; done
`

func newHost(t testing.TB) *host {
	t.Helper()
	if os.Getuid() != 0 {
		t.Fatal("this test makes namespaces and runs libvirtd: run it as root")
	}
	cmd := exec.Command("unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--net",
		"tini", "--", "sh", "-c", setup)
	cmd.Env = append(os.Environ(), "CAPABILITIES="+capabilities)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	errs := &strings.Builder{}
	cmd.Stderr = errs
	if err := cmd.Start(); err != nil {
		t.Fatalf("starting a private host: %v", err)
	}
	h := &host{t: t, cmd: cmd, in: in, out: bufio.NewReader(out)}
	t.Cleanup(func() {
		if h.lib != nil {
			_ = h.lib.Disconnect()
		}
		_ = in.Close()
		_ = cmd.Process.Kill() // --kill-child: every process of the namespace ends
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("stderr of the host: %s", errs)
		}
	})
	if line, err := h.out.ReadString('\n'); err != nil || line != "ready\n" {
		t.Fatalf("preparing a private host: %q, %v", line, err)
	}
	children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", cmd.Process.Pid, cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	h.pid, err = strconv.Atoi(strings.TrimSpace(string(children)))
	if err != nil {
		t.Fatalf("finding the host's first process: %v", err)
	}
	h.root = fmt.Sprintf("/proc/%d/root", h.pid)
	return h
}

// sh runs a command inside and returns the line that it prints.
func (h *host) sh(command string) string {
	h.t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	if _, err := fmt.Fprintf(h.in, "%s\n", command); err != nil {
		h.t.Fatalf("%s: %v", command, err)
	}
	line, err := h.out.ReadString('\n')
	if err != nil {
		h.t.Fatalf("%s: %v", command, err)
	}
	return strings.TrimSpace(line)
}

func (h *host) path(p string) string   { return filepath.Join(h.root, p) }
func (h *host) readOnlySocket() string { return h.path("/run/libvirt/libvirt-sock-ro") }

// start starts libvirtd and waits until it answers.
func (h *host) start() {
	h.t.Helper()
	h.sh("rm -f /run/libvirtd.pid /run/libvirt/libvirt-sock*; libvirtd >/var/log/libvirt/d.log 2>&1 & echo $!")
	if h.lib != nil {
		_ = h.lib.Disconnect()
		h.lib = nil
	}
	eventually(h.t, "libvirtd answers", func() bool {
		conn, err := dialers.NewLocal(dialers.WithSocket(h.path("/run/libvirt/libvirt-sock"))).Dial()
		if err != nil {
			return false
		}
		lib := libvirt.NewWithDialer(dialers.NewAlreadyConnected(conn))
		if err := lib.ConnectToURI("qemu:///system"); err != nil {
			_ = conn.Close()
			return false
		}
		h.lib = lib
		return true
	})
}

func (h *host) signalDaemon(sig string) {
	h.t.Helper()
	h.sh("kill -" + sig + " $(pidof libvirtd); echo sent")
}

// signal hits a domain's qemu.
func (h *host) signal(name, sig string) {
	h.t.Helper()
	if got := h.sh(fmt.Sprintf("kill -%s $(cat /run/libvirt/qemu/%s.pid) && echo sent || echo failed", sig, name)); got != "sent" {
		h.t.Fatalf("signal %s to %s: %s", sig, name, got)
	}
}

// Boot sectors: what the tiny guests do.
var (
	guestIdle = []byte{0xf4, 0xeb, 0xfd} // hlt; jmp back
	// mov dx,0x505; mov al,1; out dx,al: the pvpanic device (qemu docs/specs/pvpanic.txt)
	guestPanics = []byte{0xba, 0x05, 0x05, 0xb0, 0x01, 0xee, 0xf4, 0xeb, 0xfd}
	// mov al,0xfe; out 0x64,al: the keyboard controller resets the machine
	guestReboots = []byte{0xb0, 0xfe, 0xe6, 0x64, 0xf4, 0xeb, 0xfd}
	// mov dx,0x443; mov al,0x0f; out dx,al: the ib700 watchdog fires after 0 s (qemu hw/watchdog/wdt_ib700.c)
	guestStarves = []byte{0xba, 0x43, 0x04, 0xb0, 0x0f, 0xee, 0xf4, 0xeb, 0xfd}
	// The guest's side of ACPI PCI hot-unplug (qemu docs/specs/acpi_pci_hotplug.txt), for ever: select bus 0 (0xae10),
	// read the slots to be ejected (0xae04), eject them (0xae08), wait for the timer.
	guestEjects = []byte{
		0xba, 0x10, 0xae, 0x66, 0x31, 0xc0, 0x66, 0xef, 0xba, 0x04, 0xae, 0x66, 0xed, 0x66, 0x85, 0xc0, 0x74, 0x05,
		0xba, 0x08, 0xae, 0x66, 0xef, 0xfb, 0xf4, 0xeb, 0xe5,
	}
	// int 13h, ah=3: write sector 2 of the second disk
	guestWrites = []byte{
		0x31, 0xc0, 0x8e, 0xc0, 0xbb, 0x00, 0x7c, 0xb8, 0x01, 0x03, 0xb9, 0x02, 0x00, 0xba, 0x81, 0x00, 0xcd, 0x13,
		0xf4, 0xeb, 0xfd,
	}
)

// guest is a domain to be.
type guest struct {
	name, uuid, mac string
	code            []byte
	onCrash         string // default destroy
	metadata        string
	disk            string // a second disk, or other devices
}

func (g guest) id() correlate.ID { return correlate.NewID(correlate.KindDomain, g.uuid) }

func (h *host) xml(g guest) string {
	h.t.Helper()
	image := make([]byte, 2<<20) // SeaBIOS boots no disk of less than a cylinder
	copy(image, g.code)
	image[510], image[511] = 0x55, 0xaa
	path := "/var/lib/libvirt/images/" + g.name
	if err := os.WriteFile(h.path(path), image, 0o600); err != nil {
		h.t.Fatal(err)
	}
	if g.onCrash == "" {
		g.onCrash = "destroy"
	}
	nic := ""
	if g.mac != "" {
		nic = fmt.Sprintf("<interface type='bridge'><mac address='%s'/><source bridge='br0'/><model type='virtio'/></interface>", g.mac)
	}
	return fmt.Sprintf(`<domain type='qemu'><name>%s</name><uuid>%s</uuid><metadata>%s</metadata><memory unit='MiB'>16</memory>
<vcpu>1</vcpu><cputune><vcpupin vcpu='0' cpuset='0'/></cputune><os><type arch='x86_64' machine='pc'>hvm</type></os><features><acpi/></features><on_crash>%s</on_crash>
<devices><emulator>/usr/bin/qemu-system-x86_64</emulator><controller type='usb' model='none'/><memballoon model='none'/>
<disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='%s'/><target dev='vda' bus='virtio'/><boot order='1'/></disk>%s%s
<panic model='isa'/></devices></domain>`, g.name, g.uuid, g.metadata, g.onCrash, path, g.disk, nic)
}

func (h *host) define(g guest) libvirt.Domain {
	h.t.Helper()
	dom, err := h.lib.DomainDefineXML(h.xml(g))
	if err != nil {
		h.t.Fatalf("defining %s: %v", g.name, err)
	}
	return dom
}

func (h *host) boot(g guest) libvirt.Domain {
	h.t.Helper()
	dom := h.define(g)
	h.create(dom)
	return dom
}

func (h *host) create(dom libvirt.Domain) {
	h.t.Helper()
	if err := h.lib.DomainCreate(dom); err != nil {
		h.t.Fatalf("starting %s: %v", dom.Name, err)
	}
}

func (h *host) must(what string, err error) {
	h.t.Helper()
	if err != nil {
		h.t.Fatalf("%s: %v", what, err)
	}
}
