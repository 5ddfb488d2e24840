package lab

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/digitalocean/go-libvirt"
)

// TestMain is also the victim of TestNothingIsLeftWhenTheOwnerIsKilled: with the variable set it builds a lab with a
// running domain, says so and waits to be killed.
func TestMain(m *testing.M) {
	if os.Getenv("PM_LAB_VICTIM") != "" {
		if err := victim(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		select {}
	}
	os.Exit(m.Run())
}

func victim() error {
	l, err := New()
	if err != nil {
		return err
	}
	h, err := l.Host("victim")
	if err != nil {
		return err
	}
	if err := h.Bridge("br0"); err != nil {
		return err
	}
	lv, err := h.Libvirt()
	if err != nil {
		return err
	}
	if err := lv.StartDomain(Domain{Name: "vm", UUID: "11111111-1111-4111-8111-000000000001", NICs: []NIC{{Bridge: "br0", MAC: "52:54:00:00:00:01"}}}); err != nil {
		return err
	}
	fmt.Println("up", l.name)
	return nil
}

func TestNothingIsLeftWhenTheOwnerIsKilled(t *testing.T) {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "PM_LAB_VICTIM=1")
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("the victim said %q: %v", line, err)
	}
	name := strings.TrimSpace(strings.TrimPrefix(line, "up "))
	if len(traces(t, name)) == 0 {
		t.Fatal("no trace of the running lab: the test looks in the wrong places")
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	eventually(t, "the lab to vanish", func() bool { return len(traces(t, name)) == 0 })
}

// traces lists the processes that carry the lab's name, and those that live in a PID namespace of such a process.
func traces(t *testing.T, name string) map[string]bool {
	t.Helper()
	found := map[string]bool{}
	spaces := map[string]bool{}
	procs, _ := filepath.Glob("/proc/[0-9]*")
	for _, p := range procs {
		cmdline, _ := os.ReadFile(p + "/cmdline")
		if strings.Contains(string(cmdline), name+"-") {
			found[p] = true
			if ns, err := os.Readlink(p + "/ns/pid"); err == nil {
				spaces[ns] = true
			}
		}
	}
	for _, p := range procs {
		if ns, err := os.Readlink(p + "/ns/pid"); err == nil && spaces[ns] {
			found[p] = true
		}
	}
	return found
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("waited 30 s for %s", what)
		}
		<-time.After(5 * time.Millisecond)
	}
}

// TestFaultsAreReal does to real domains what the end-to-end tests do, and asks libvirt what it thinks of it.
func TestFaultsAreReal(t *testing.T) {
	l, err := New()
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	}()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	h, err := l.Host("cmp")
	must(err)
	far, err := l.Host("far")
	must(err)
	must(h.Bridge("br0"))
	must(far.Bridge("br0")) // as many links as there, so that the ends of the cable would have one index
	cable, err := l.Connect(End{Host: h, Link: "uplink0", Master: "br0"}, End{Host: far, Link: "far0"})
	must(err)
	indices, err := h.Run("cat", "/sys/class/net/uplink0/ifindex", "/sys/class/net/uplink0/iflink")
	must(err)
	if both := strings.Fields(indices); len(both) != 2 || both[0] == both[1] {
		t.Errorf("the ends of the cable have the indices %v: the loss of its carrier is told late", both)
	}
	// The flags, not the operational state: that of a veth depends on the kernel and the indices (net/core/link_watch.c,
	// default_operstate).
	flag := func(name string) bool {
		out, err := h.Run("ip", "-br", "link", "show", "uplink0")
		must(err)
		_, flags, _ := strings.Cut(out, "<")
		return slices.Contains(strings.Split(strings.TrimSuffix(strings.TrimSpace(flags), ">"), ","), name)
	}
	must(cable.Pull())
	eventually(t, "carrier loss", func() bool { return flag("NO-CARRIER") && flag("UP") })
	must(cable.Plug())
	eventually(t, "carrier", func() bool { return flag("LOWER_UP") })
	must(cable.Disable())
	eventually(t, "link down", func() bool { return !flag("UP") })
	must(cable.Enable())

	lv, err := h.Libvirt()
	must(err)
	state := func(name string) string {
		s, reason, err := lv.State(name)
		must(err)
		return fmt.Sprint(s, " ", reason)
	}
	const (
		crashed   = int32(libvirt.DomainShutoffCrashed)
		destroyed = int32(libvirt.DomainShutoffDestroyed)
	)
	nic := func(i int) NIC { return NIC{Bridge: "br0", MAC: fmt.Sprintf("52:54:00:00:00:%02x", i)} }
	uuid := func(i int) string { return fmt.Sprintf("11111111-1111-4111-8111-%012d", i) }
	for i, name := range []string{"panicked", "killed", "destroyed"} {
		must(lv.StartDomain(Domain{Name: name, UUID: uuid(i), Project: "p", NICs: []NIC{nic(i)}}))
	}
	must(lv.Panic("panicked"))
	must(lv.KillQEMU("killed"))
	must(lv.Destroy("destroyed"))
	for name, reason := range map[string]int32{"panicked": crashed, "killed": crashed, "destroyed": destroyed} {
		eventually(t, name, func() bool { return state(name) == fmt.Sprint(libvirt.DomainShutoff, " ", reason) })
	}

	must(lv.Freeze())
	must(lv.Thaw())
	must(lv.Kill())
	must(lv.Start())

	// Linux: its disk fills, its watchdog starves, its NIC is let go, it panics.
	_, err = h.Run("sh", "-ec", "mkdir /run/lab/small; mount -t tmpfs -o size=1m pm-small /run/lab/small; truncate -s 32M /run/lab/small/disk")
	must(err)
	must(lv.StartDomain(Domain{
		Name: "linux", UUID: uuid(9), Guest: Linux, Agent: true, Watchdog: true, NICs: []NIC{nic(9)},
		Disks: []Disk{{Path: "/run/lab/small/disk", Target: "vda"}},
	}))
	connected := func() bool {
		out, err := h.Run("virsh", "-q", "dumpxml", "linux")
		must(err)
		return strings.Contains(out, "state='connected'")
	}
	must(lv.Tell("linux", "agent-open"))
	eventually(t, "the guest agent", connected)
	must(lv.Tell("linux", "agent-close"))
	eventually(t, "the guest agent to be lost", func() bool { return !connected() })
	must(lv.DetachNIC("linux", nic(9)))
	must(lv.Tell("linux", "fill"))
	eventually(t, "the full disk to pause the guest", func() bool {
		return state("linux") == fmt.Sprint(libvirt.DomainPaused, " ", int32(libvirt.DomainPausedIoerror))
	})
	_, err = h.Run("mount", "-o", "remount,size=64m", "/run/lab/small")
	must(err)
	must(lv.Resume("linux"))
	must(lv.Tell("linux", "watchdog"))
	eventually(t, "the watchdog to reset the guest", func() bool { return strings.Count(lv.Console("linux"), "lab-ready") >= 2 })
	must(lv.Tell("linux", "panic"))
	eventually(t, "the guest's panic", func() bool { return state("linux") == fmt.Sprint(libvirt.DomainShutoff, " ", crashed) })
}
