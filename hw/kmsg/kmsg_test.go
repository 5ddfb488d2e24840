package kmsg

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
	"golang.org/x/tools/txtar"

	"github.com/paramedic-ha/paramedic/correlate"
	"github.com/paramedic-ha/paramedic/hw"
)

func TestMain(m *testing.M) {
	if count := os.Getenv(writerEnv); count != "" {
		if err := writeLines(count); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

const host = correlate.ID("host/cmp-1")

// The lines are what the kernel's formats give; rules.go names the files.
func TestLinesMeanWhatTheTableSays(t *testing.T) {
	s, root := newSource(t, Config{})
	put(t, root.ProcPath("4242", "cmdline"), "/usr/bin/qemu-system-x86_64\x00-name\x00guest=a\x00-uuid\x005f2b6a1c-0d4e-4a59-9a3c-1f0e6d7c8b9a\x00")
	put(t, root.SysPath("bus", "pci", "devices", "0000:3b:00.0", "net", "ens1f0", "address"), "")
	put(t, root.SysPath("devices", "system", "cpu", "cpu4", "topology", "physical_package_id"), "1\n")
	const domain = "domain/5f2b6a1c-0d4e-4a59-9a3c-1f0e6d7c8b9a"
	for _, c := range []struct{ line, want string }{
		{"INFO: task kworker/u8:3:1234 blocked for more than 120 seconds.", "host/cmp-1 hung-task"},
		{"INFO: task dd:77 blocked in I/O wait for more than 241 seconds.", "host/cmp-1 hung-task"},
		{"watchdog: BUG: soft lockup - CPU#3 stuck for 23s! [qemu-system-x86:4242]", "host/cmp-1 lockup"},
		{"NMI watchdog: Watchdog detected hard LOCKUP on cpu 5", "host/cmp-1 lockup"},
		{"watchdog: CPU7: Watchdog detected hard LOCKUP on cpu 5", "host/cmp-1 lockup"},
		{"rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:", "host/cmp-1 lockup"},
		{"rcu: INFO: rcu_sched self-detected stall on CPU", "host/cmp-1 lockup"},
		{"BUG: workqueue lockup - pool cpus=1 node=0 flags=0x0 nice=0 stuck for 42s!", "host/cmp-1 lockup"},
		{"BUG: unable to handle page fault for address: ffffffffc0400000", "host/cmp-1 kernel-oops"},
		{"kernel BUG at mm/slub.c:4023!", "host/cmp-1 kernel-oops"},
		{"Oops: 0002 [#1] PREEMPT SMP NOPTI", "host/cmp-1 kernel-oops"},
		{"Out of memory: Killed process 17 (java) total-vm:1kB, anon-rss:1kB, file-rss:0kB, shmem-rss:0kB, UID:0 pgtables:1kB oom_score_adj:0", "host/cmp-1 out-of-memory"},
		{"Out of memory: Killed process 4242 (qemu-system-x86) total-vm:1kB, anon-rss:1kB", "host/cmp-1 out-of-memory, " + domain + " out-of-memory"},
		{"Memory cgroup out of memory: Killed process 4242 (qemu-system-x86) total-vm:1kB", domain + " out-of-memory"},
		{"Memory cgroup out of memory: Killed process 17 (java) total-vm:1kB", ""},
		{"EXT4-fs (sda1): Remounting filesystem read-only", ""},
		{"BTRFS info (device sdb: state E): forced readonly", ""},
		{"XFS (dm-0): Log I/O Error (0x2) detected at xlog_ioend_work+0x6a/0x70 [xfs] (fs/xfs/xfs_log.c:1377).  Shutting down filesystem.", ""},
		{"XFS (dm-0): Filesystem has been shut down due to log error (0x2).", ""},
		{"EXT4-fs error (device vda1): ext4_lookup:1855: inode #2: comm ls: iget: checksum invalid", "volume/vda1 filesystem-error"},
		{"XFS (sda3): Metadata CRC error detected at xfs_agi_read_verify+0x5e/0x110 [xfs], xfs_agi block 0x2", "volume/sda3 filesystem-error"},
		{"XFS (sda3): Mounting V5 Filesystem", ""},
		{"BTRFS error (device sdb): bdev /dev/sdb errs: wr 1, rd 0, flush 0, corrupt 0, gen 0", "volume/sdb filesystem-error"},
		{"I/O error, dev sda, sector 2048 op 0x0:(READ) flags 0x80700 phys_seg 1 prio class 2", "disk/sda disk-error"},
		{"blk_update_request: critical medium error, dev nvme0n1, sector 4096 op 0x1:(WRITE) flags 0x0 phys_seg 1 prio class 0", "disk/nvme0n1 disk-error"},
		{"Buffer I/O error on dev sda1, logical block 0, async page read", "volume/sda1 disk-error"},
		{"I/O error, dev sr0, sector 0 op 0x0:(READ) flags 0x0 phys_seg 1 prio class 2", ""},
		{"operation not supported error, dev loop0, sector 0 op 0x9:(WRITE_ZEROES)", ""},
		{"NETDEV WATCHDOG: eth0 (e1000e): transmit queue 0 timed out 5120 ms", "nic/eth0 transmit-timeout"},
		{"e1000e 0000:00:1f.6 eth0: NETDEV WATCHDOG: CPU: 2: transmit queue 0 timed out 5120 ms", "nic/eth0 transmit-timeout"},
		{"megaraid_sas 0000:17:00.0: FW in FAULT state Fault code:0x10000 subcode:0x0 func:megasas_wait_for_outstanding_fusion", "host/cmp-1 firmware-crash"},
		{"nvme nvme0: controller is down; will reset: CSTS=0xffffffff, PCI_STATUS=0xffff", "host/cmp-1 firmware-crash"},
		{"mlx5_core 0000:3b:00.0: poll_health:825:(pid 0): Fatal error 1 detected\n SUBSYSTEM=pci\n DEVICE=+pci:0000:3b:00.0", "nic/ens1f0 firmware-crash"},
		{"mce: [Hardware Error]: CPU 2: Machine Check: 0 Bank 8: 88000040000800c0", "host/cmp-1 hardware-corrected"},
		{"mce: [Hardware Error]: CPU 2: Machine Check Exception: 5 Bank 4: b200000000070f0f", "host/cmp-1 machine-check"},
		{"mce: [Hardware Error]: Machine check events logged", ""},
		{"{1}[Hardware Error]: event severity: corrected", "host/cmp-1 hardware-corrected"},
		{"{2}[Hardware Error]: event severity: fatal", "host/cmp-1 machine-check"},
		{"CPU4: Package temperature above threshold, cpu clock is throttled (total events = 12)", "cpu/package1 thermal-throttling"},
		{"CPU4: Core temperature is above threshold, cpu clock is throttled (total events = 1)", "cpu/package1 thermal-throttling"},
		{"mlx5_core 0000:3b:00.0: PCIe Bus Error: severity=Uncorrected (Fatal), type=Transaction Layer, (Requester ID)\n DEVICE=+pci:0000:3b:00.0", "nic/ens1f0 pcie-fatal"},
		{"mlx5_core 0000:3b:00.0: PCIe Bus Error: severity=Uncorrectable (Non-Fatal), type=Transaction Layer, (Completer ID)\n DEVICE=+pci:0000:3b:00.0", "nic/ens1f0 pcie-non-fatal"},
		{"pcieport 0000:00:1c.0: PCIe Bus Error: severity=Corrected, type=Physical Layer, (Receiver ID)\n DEVICE=+pci:0000:00:1c.0", ""},
		{"pcieport 0000:00:1c.0: AER: device recovery failed\n DEVICE=+pci:0000:00:1c.0", "host/cmp-1 pcie-fatal"},
		{"pcieport 0000:00:1c.0: DPC: containment event, status:0x1f01 source:0x0000\n DEVICE=+pci:0000:00:1c.0", "host/cmp-1 pcie-fatal"},
		{"usb 1-1: new high-speed USB device number 2 using xhci_hcd", ""},
	} {
		r := newReader(s)
		rec, err := parse("3,7,1000,-;" + c.line)
		if err != nil {
			t.Fatal(err)
		}
		if got := spell(r.judge(rec, time.Time{}, time.Now())); got != c.want {
			t.Errorf("%s\n got %q\nwant %q", c.line, got, c.want)
		}
	}
}

func TestRecordsOfARealKernelMeanWhatTheTableSays(t *testing.T) {
	archive, err := txtar.ParseFile(filepath.Join("testdata", "linux-6.1.txtar"))
	if err != nil {
		t.Fatal(err)
	}
	prompts := map[string]hw.Prompt{"mem": hw.NewPrompt(), "disk": hw.NewPrompt()}
	s, root := newSource(t, Config{Prompts: prompts})
	put(t, root.SysPath("bus", "pci", "devices", "0000:00:01.0", "0000:01:00.0", "net", "eth0", "address"), "")
	put(t, root.SysPath("bus", "pci", "devices", "0000:01:00.0", "net", "eth0", "address"), "")
	r := newReader(s)
	now := time.Now()
	var got strings.Builder
	for _, line := range regexp.MustCompile(`(?m)^\d+,.*\n(?: .*\n)*`).FindAllString(string(archive.Files[0].Data), -1) {
		rec, err := parse(line)
		if err != nil {
			t.Fatal(err)
		}
		now = now.Add(2 * again)
		means := spell(r.judge(rec, now, now))
		for name, p := range prompts {
			select {
			case <-p:
				means += " → " + name
			default:
			}
		}
		if means != "" {
			fmt.Fprintf(&got, "%d %s\n", rec.seq, strings.TrimSpace(means))
		}
	}
	if diff := cmp.Diff(string(archive.Files[1].Data), got.String()); diff != "" {
		t.Error(diff)
	}
}

func TestALineAsksItsSourceToLook(t *testing.T) {
	prompts := map[string]hw.Prompt{"mem": hw.NewPrompt(), "disk": hw.NewPrompt()}
	s, _ := newSource(t, Config{Prompts: prompts})
	for line, want := range map[string]string{
		"EDAC MC0: 1 CE memory read error on CPU_SrcID#0_Ha#0_Chan#0_DIMM#0 (channel:0 slot:0 page:0x1 offset:0x0 grain:32 syndrome:0x0)": "mem",
		"EDAC MC0: 1 UE memory read error on any memory (page:0x0 offset:0x0 grain:0)":                                                    "mem",
		"EDAC MC1: Giving out device to module skx_edac controller Skylake Socket#0 IMC#0: DEV 0000:64:0a.0 (INTERRUPT)":                  "mem",
		"EDAC MC: Ver: 3.0.0":                                               "",
		"EDAC sbridge: Seeking for: PCI ID 8086:6fa0":                       "",
		"md/raid1:md0: Disk failure on sdb1, disabling device.":             "disk",
		"device-mapper: multipath: 253:1: Failing path 8:32.":               "disk",
		"sd 2:0:0:0: Device offlined - not ready after error recovery":      "disk",
		"sd 2:0:0:0: rejecting I/O to offline device":                       "disk",
		"sd 2:0:0:0: [sdb] Synchronizing SCSI cache":                        "disk",
		"nvme nvme0: Disabling device after reset failure: -19":             "disk",
		"sd 2:0:0:0: [sdb] Write Protect is off":                            "",
		"EXT4-fs (sda1): Remounting filesystem read-only":                   "disk",
		"BTRFS info (device sdb: state E): forced readonly":                 "disk",
		"XFS (dm-0): Filesystem has been shut down due to log error (0x2).": "disk",
	} {
		rec, err := parse("4,7,1000,-;" + line)
		if err != nil {
			t.Fatal(err)
		}
		if got := newReader(s).judge(rec, time.Time{}, time.Now()); len(got) != 0 {
			t.Errorf("%s\nis told as %v", line, got)
		}
		for name, prompt := range prompts {
			if got := len(prompt) > 0; got != (name == want) {
				t.Errorf("%s\nprompted %s: %t", line, name, got)
			}
			select {
			case <-prompt:
			default:
			}
		}
	}
}

func TestLinesOfProcessesAreNotBelieved(t *testing.T) {
	s, _ := newSource(t, Config{})
	rec, err := parse("11,7,1000,-;kernel BUG at mm/slub.c:4023!")
	if err != nil {
		t.Fatal(err)
	}
	if got := newReader(s).judge(rec, time.Time{}, time.Now()); len(got) != 0 {
		t.Errorf("a process made the kernel say %v", got)
	}
}

func TestRecordsAreTakenApart(t *testing.T) {
	got, err := parse("6,1234,5254310628,-,caller=T1;task_memcg=/machine-qemu\\x5cx2d1 tab\\x09\n SUBSYSTEM=pci\n DEVICE=+pci:0000:00:1f.6\n")
	want := record{seq: 1234, at: 5254310628 * time.Microsecond, text: `task_memcg=/machine-qemu\x2d1 tab\x09`, device: "+pci:0000:00:1f.6"}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(record{})); diff != "" || err != nil {
		t.Errorf("%v\n%s", err, diff)
	}
	for _, bad := range []string{"", ";", "6,1", "6,1;x", "a,1,1,-;x", "6,a,1,-;x", "6,1,-1,-;x", "6,1,99999999999999999,-;x"} {
		if r, err := parse(bad); err == nil {
			t.Errorf("%q was read as %+v", bad, r)
		}
	}
}

func FuzzRecord(f *testing.F) {
	f.Add("6,1234,5254310628,-;text\\x5c\n DEVICE=b8:0\n")
	f.Add("3,1,1,c,caller=T1;mce: [Hardware Error]: CPU 2: Machine Check: 0 Bank 8: 88000040000800c0")
	s, _ := newSource(f, Config{})
	f.Fuzz(func(t *testing.T, line string) {
		rec, err := parse(line)
		if err != nil {
			return
		}
		r := newReader(s)
		for _, e := range r.judge(rec, time.Time{}, time.Now()) {
			if e.Resource.Name() == "" || e.Condition == "" {
				t.Errorf("%q means %+v", line, e)
			}
		}
	})
}

func TestPatternsOfTheOperatorComeFirstAndIgnoredLinesMeanNothing(t *testing.T) {
	s, _ := newSource(t, Config{
		Without: []string{"oops"}, Ignore: []string{`dev sdz`},
		Patterns: []Pattern{{Name: "tape", Match: `^st\d+: `, Severity: correlate.SeverityMajor}},
	})
	r := newReader(s)
	var got []string
	for _, line := range []string{"st0: failed", "I/O error, dev sdz, sector 1", "kernel BUG at a", "I/O error, dev sda, sector 1"} {
		rec, _ := parse("3,7,1000,-;" + line)
		got = append(got, spell(r.judge(rec, time.Time{}, time.Now())))
	}
	if diff := cmp.Diff([]string{"host/cmp-1 kernel-message", "", "", "disk/sda disk-error"}, got); diff != "" {
		t.Error(diff)
	}
	_, err := New(Config{Without: []string{"opps"}, Ignore: []string{"("}, Patterns: []Pattern{{Match: "["}}})
	for _, want := range []string{"without[0]", "ignore[0]", "patterns[0]"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v does not name %s", err, want)
		}
	}
}

func TestARestartReadsWhatIsNewAndNothingTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, root := newSource(t, Config{Cursor: filepath.Join(t.TempDir(), "cursor")})
		log := []string{"3,5,1,-;I/O error, dev sda, sector 1", "3,6,2,-;I/O error, dev sdb, sector 1"}
		first := follow(t, s, log...)
		if got := first.events(); got != "disk/sda disk-error, disk/sdb disk-error" {
			t.Fatalf("first: %q", got)
		}
		log = append(log, "3,7,3,-;I/O error, dev sdc, sector 1")
		if got := follow(t, s, log...).events(); got != "disk/sdc disk-error" {
			t.Errorf("after a restart: %q", got)
		}
		put(t, root.ProcPath("sys", "kernel", "random", "boot_id"), "another\n")
		if got := follow(t, s, "3,0,1,-;I/O error, dev sdd, sector 1").events(); got != "disk/sdd disk-error" {
			t.Errorf("under another kernel: %q", got)
		}
	})
}

func TestOldLinesOfAKernelThatTheAgentDoesNotKnowAreNotTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, root := newSource(t, Config{})
		put(t, root.ProcPath("uptime"), "1000.00 10.0\n")
		got := follow(t, s, "3,5,1000000,-;I/O error, dev sda, sector 1", "3,6,990000000,-;I/O error, dev sdb, sector 1").deltas
		if len(got) != 2 || !got[0].Full || spell(got[1].Events) != "disk/sdb disk-error" {
			t.Fatalf("told %+v", got)
		}
		if at := time.Until(got[1].Events[0].Occurred); at != -10*time.Second {
			t.Errorf("it occurred %v from now", at)
		}
	})
}

func TestLinesAreLeftToGatherWhileTheyComeFast(t *testing.T) {
	now := time.Unix(1000, 0)
	var p pace
	pauses := func(n int, every time.Duration, waited bool) (pauses int) {
		for range n {
			now = now.Add(every)
			if p.line(now, waited) {
				pauses++
			}
		}
		return pauses
	}
	if n := pauses(1000, 10*time.Millisecond, true); n != 0 {
		t.Errorf("paused %d times at 100 lines a second", n)
	}
	if n := pauses(1000, 200*time.Microsecond, true); n < 800 {
		t.Errorf("paused %d times at 5 000 lines a second", n)
	}
	if n := pauses(1000, 200*time.Microsecond, false); n != 0 {
		t.Errorf("paused %d times with lines at hand", n)
	}
	now = now.Add(time.Minute)
	if n := pauses(10, time.Second, true); n != 0 {
		t.Errorf("paused %d times when it was over", n)
	}
}

func TestTimesOfLinesFollowTheHostsClock(t *testing.T) {
	zero := time.Unix(1000, 0)
	s := stamps{zero: zero}
	up := time.Hour
	read := func(late time.Duration, waited bool) time.Duration {
		t.Helper()
		up += time.Minute
		now := zero.Add(up + late)
		return now.Sub(s.at(&record{at: up}, now, waited))
	}
	if age := read(50*time.Millisecond, true); age != 50*time.Millisecond {
		t.Errorf("a line that was read a moment later is %v old", age)
	}
	if age := read(time.Hour, false); age != time.Hour {
		t.Errorf("one of an hour ago is %v old", age)
	}
	if age := read(time.Minute, true); age != time.Minute {
		t.Errorf("one that an agent read that was stopped for a minute is %v old", age)
	}
	for range 2 * enough { // the kernel's clock has lost two minutes
		read(2*time.Minute, true)
	}
	if age := read(2*time.Minute, true); age != 0 {
		t.Errorf("a line that was just written is %v old", age)
	}
	if age := read(2*time.Minute-time.Second, true); age != 0 { // and now gains
		t.Errorf("a line of the future is %v old", age)
	}
}

func TestOverrunIsCountedAndReadingGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := newSource(t, Config{})
		l := follow(t, s, "6,5,1,-;a", "EPIPE", "6,50,2,-;b", "EINVAL", "rubbish", "3,51,3,-;I/O error, dev sda, sector 1")
		if got := l.events(); got != "disk/sda disk-error" {
			t.Errorf("told %q", got)
		}
		want := map[string]uint64{"records": 3, "matched": 1, "repeated": 0, "undecodable": 2, "overruns": 1, "lost": 44}
		if diff := cmp.Diff(want, s.Counts()); diff != "" {
			t.Error(diff)
		}
	})
}

func TestAStormIsToldOnceASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := newSource(t, Config{})
		var log []string
		for i := range 1000 {
			log = append(log, fmt.Sprintf("3,%d,%d,-;I/O error, dev sda, sector %d", i, i, i))
		}
		if l := follow(t, s, log...); len(l.deltas) != 2 || s.Counts()["repeated"] != 999 {
			t.Errorf("%d deltas, counts %v", len(l.deltas), s.Counts())
		}
	})
}

func TestMissingRightIsSaidAndWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := newSource(t, Config{})
		var fail atomic.Uintptr
		fail.Store(uintptr(syscall.EPERM))
		s.open = func() (recordLog, error) {
			if errno := syscall.Errno(fail.Load()); errno != 0 {
				return nil, errno
			}
			return newLog(), nil
		}
		l, stop := start(t, s)
		synctest.Wait()
		if h := l.lastHealth(); h.Sight != hw.SightDegraded || !strings.Contains(h.Text, "CAP_SYSLOG") || len(l.deltas) != 1 {
			t.Errorf("health %+v, deltas %+v", h, l.deltas)
		}
		fail.Store(uintptr(syscall.ENOENT))
		<-time.After(retry)
		synctest.Wait()
		if h := l.lastHealth(); h.Sight != hw.SightAbsent {
			t.Errorf("health %+v", h)
		}
		fail.Store(0)
		<-time.After(retry)
		synctest.Wait()
		if h := l.lastHealth(); h != (hw.Health{}) {
			t.Errorf("health %+v", h)
		}
		stop()
	})
}

func TestAlarmsThatStandAreLeftStanding(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := newSource(t, Config{Standing: func(context.Context) ([]correlate.Key, error) {
			return []correlate.Key{{Resource: "volume/sda1", Condition: correlate.CondReadOnly}}, nil
		}})
		e := correlate.New(correlate.Config{Home: "cmp-1", Term: 2}, nil)
		e.Step(time.Now(), correlate.Event{Source: "kmsg", Resource: "volume/sda1", Condition: correlate.CondReadOnly, Status: correlate.StatusFailed})
		for _, d := range follow(t, s).deltas {
			e.Topology(time.Now(), d)
		}
		if !e.Stands("volume/sda1", correlate.CondReadOnly) {
			t.Error("a restart of the source ended a latched alarm")
		}
	})
}

// TestTheRealLogIsRead writes to the kernel's log as a process and finds the line there.
func TestTheRealLogIsRead(t *testing.T) {
	log, err := os.OpenFile(device0, os.O_WRONLY, 0)
	if err != nil {
		t.Fatalf("needs to write to the kernel's log: run it as root: %v", err)
	}
	defer log.Close()
	cursor := filepath.Join(t.TempDir(), "cursor")
	s, err := New(Config{Host: host, Cursor: cursor})
	if err != nil {
		t.Fatal(err)
	}
	s.anybody = true
	l, stop := start(t, s)
	name := fmt.Sprintf("pm%d", os.Getpid())
	fmt.Fprintf(log, "<3>I/O error, dev %s, sector 2048 op 0x0:(READ) flags 0x0 phys_seg 1 prio class 2\n", name)
	deadline := time.Now().Add(time.Minute)
	for !strings.Contains(l.events(), "disk/"+name+" disk-error") {
		if time.Now().After(deadline) {
			t.Fatalf("the line was not told: %q, %v, %v", l.events(), l.lastHealth(), s.Counts())
		}
		<-l.news
	}
	for {
		if b, err := os.ReadFile(cursor); err == nil && len(b) > 0 {
			break // written while the log is quiet
		}
		if time.Now().After(deadline) {
			t.Fatal("the cursor was not written")
		}
		<-time.After(50 * time.Millisecond)
	}
	stop()

	again, stop := start(t, s)
	defer stop()
	fmt.Fprintf(log, "<3>I/O error, dev %sb, sector 2048\n", name)
	for !strings.Contains(again.events(), "disk/"+name+"b disk-error") {
		if time.Now().After(deadline) {
			t.Fatalf("the second line was not told: %q", again.events())
		}
		<-again.news
	}
	if got := again.events(); strings.Contains(got, "disk/"+name+" ") {
		t.Errorf("told twice: %q", got)
	}
}

const (
	// writerEnv has the test binary be who writes: a process of its own, so that what it costs is not counted.
	writerEnv = "PARAMEDIC_TEST_KMSG_LINES"
	rate      = 5000 // lines a second
)

// writeLines writes so many records to file descriptor 3, evenly.
func writeLines(count string) error {
	n, err := strconv.Atoi(count)
	if err != nil {
		return err
	}
	began := time.Now()
	for i := range n {
		for time.Since(began) < time.Duration(i)*time.Second/rate {
			if err := unix.Nanosleep(&unix.Timespec{Nsec: 50_000}, nil); err != nil && !errors.Is(err, unix.EINTR) {
				return err
			}
		}
		if _, err := unix.Write(3, fmt.Appendf(nil, "6,%d,%d,-;%0150d\n", i, i, i)); err != nil {
			return err
		}
	}
	return nil
}

// BenchmarkFollow reads lines that come one by one at 5 000 a second, each with a read of its own and a wait for the next, as
// from the device. Budget: 5 % of a processor.
func BenchmarkFollow(b *testing.B) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		b.Fatal(err)
	}
	if err := unix.SetNonblock(fds[1], true); err != nil {
		b.Fatal(err)
	}
	s, _ := newSource(b, Config{})
	s.open = func() (recordLog, error) { return newKernelLog(os.NewFile(uintptr(fds[1]), "kmsg")) }
	_, stop := start(b, s)
	defer stop()
	end := os.NewFile(uintptr(fds[0]), "writer")
	defer end.Close()
	writer := exec.CommandContext(b.Context(), os.Args[0])
	writer.Env = append(os.Environ(), writerEnv+"="+strconv.Itoa(b.N))
	writer.ExtraFiles = []*os.File{end}
	used := func() time.Duration {
		var u unix.Rusage
		if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
			b.Fatal(err)
		}
		return time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	before, began := used(), time.Now()
	if err := writer.Run(); err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(100*(used()-before).Seconds()/time.Since(began).Seconds(), "%cpu")
	b.ReportMetric(float64(b.N)/time.Since(began).Seconds(), "lines/s")
}

// Budget: 5 000 lines a second shall cost less than 5 % of a processor: 10 µs a line.
func BenchmarkLine(b *testing.B) {
	s, _ := newSource(b, Config{})
	r := newReader(s)
	r.sink = newLedger()
	r.known = true
	for _, c := range []struct{ name, text string }{
		{"nothing", "audit: type=1400 audit(1732830000.123:42): apparmor=\"ALLOWED\" operation=\"open\" profile=\"libvirtd\" name=\"/proc/1/cmdline\" pid=4242 comm=\"libvirtd\""},
		{"fault", "I/O error, dev sda, sector 2048 op 0x0:(READ) flags 0x80700 phys_seg 1 prio class 2"},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for i := range b.N {
				if err := r.take(b.Context(), fmt.Sprintf("3,%d,1000,-;%s\n", r.next, c.text), time.Now(), false); err != nil {
					b.Fatal(i, err)
				}
			}
		})
	}
}
