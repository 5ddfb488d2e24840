package disk

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/paramedic-ha/paramedic/correlate"
	"github.com/paramedic-ha/paramedic/hw"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const mountTable = "30 1 253:0 / / rw,relatime - ext4 /dev/dm-0 rw\n" +
	"31 30 259:0 / /srv/a\\040b rw - xfs /dev/nvme0n1 rw\n" +
	"32 30 0:40 / /mnt rw - nfs4 nas:/x rw\n"

// bench plays polls of a host of files to an engine.
type bench struct {
	t      *testing.T
	root   hw.Root
	watch  *watch
	engine *correlate.Engine
	now    time.Time
	vdisks []VDisk
	health hw.Health
	last   correlate.Delta
}

func newBench(t *testing.T) *bench {
	t.Helper()
	b := &bench{
		t: t, root: hw.Root{Sys: t.TempDir(), Proc: t.TempDir()}, now: time.Unix(1000, 0),
		engine: correlate.New(correlate.Config{Home: "cmp-1", Term: 2}, nil),
	}
	text, err := os.ReadFile(filepath.Join("testdata", "host.txt"))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if path, content, _ := strings.Cut(strings.TrimSpace(line), " "); path != "#" {
			if !strings.HasPrefix(line, "#") {
				b.set(path, content)
			}
		}
	}
	b.mounts(mountTable)
	b.watch = newWatch(New(Config{Root: b.root, Health: -1, Dir: "/srv/a b/state"}))
	// A domain on each of the three stores.
	for name, volume := range map[string]correlate.ID{"lvm": "volume/dm-0", "san": "volume/dm-1", "nvme": "volume/nvme0n1"} {
		b.engine.Topology(b.now, correlate.Delta{Source: "test-" + name, Set: []correlate.Resource{
			{ID: correlate.ID("domain/" + name), Name: name, Needs: []correlate.Need{{Of: []correlate.ID{volume}}}},
		}})
	}
	b.poll()
	return b
}

func (b *bench) set(path, content string) {
	b.t.Helper()
	file := b.root.SysPath("class/block", path)
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		b.t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(content+"\n"), 0o600); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) remove(paths ...string) {
	b.t.Helper()
	for _, p := range paths {
		if err := os.RemoveAll(b.root.SysPath("class/block", p)); err != nil {
			b.t.Fatal(err)
		}
	}
}

func (b *bench) mounts(table string) {
	b.t.Helper()
	file := b.root.ProcPath("self", "mountinfo")
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		b.t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(table), 0o600); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) poll() {
	b.now = b.now.Add(2 * time.Second)
	b.last, b.health = b.watch.poll(b.t.Context(), b.now, b.vdisks)
	b.engine.Topology(b.now, b.last)
}

// stands gives the alarms: "severity resource condition", "under" when another explains it, and the domains that it hits.
// Real file systems are looked at under the fixture's mount points: how full they are is not this machine's to say here.
func (b *bench) stands() []string {
	var all []string
	for _, a := range b.engine.Alarms() {
		if a.Key.Condition == correlate.CondFilesystemFull {
			continue
		}
		s := fmt.Sprintf("%s %s %s", a.Severity, a.Key.Resource, a.Key.Condition)
		if a.Under != "" {
			s += " under"
		}
		for _, hit := range a.Affected {
			s += " " + hit.Name
		}
		all = append(all, s)
	}
	return all
}

func (b *bench) want(want ...string) {
	b.t.Helper()
	if diff := cmp.Diff(want, b.stands()); diff != "" {
		b.t.Errorf("alarms (-want +got):\n%s", diff)
	}
}

func TestWhatStandsOnWhatIsFound(t *testing.T) {
	b := newBench(t)
	var got []string
	for _, r := range b.last.Set {
		s := string(r.ID)
		for _, n := range r.Needs {
			s += fmt.Sprintf(" %s %d %v", n.Mode, n.K, n.Of)
		}
		got = append(got, s)
	}
	want := []string{
		"disk/nvme0n1", "disk/sda", "disk/sdb", "disk/sdc", "disk/sdd",
		"volume/dm-0 all-of 0 [volume/md0]",
		"volume/dm-1 k-of-n 1 [disk/sdc disk/sdd]",
		"volume/md0 k-of-n 1 [volume/sda1 volume/sdb1]",
		"volume/nvme0n1 all-of 0 [disk/nvme0n1]",
		"volume/sda1 all-of 0 [disk/sda]",
		"volume/sdb1 all-of 0 [disk/sdb]",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	b.want()
	if b.health != (hw.Health{}) {
		t.Errorf("health %+v", b.health)
	}
}

func TestArrayThatLostOneMemberHitsNobodyAndTheSecondHitsAll(t *testing.T) {
	b := newBench(t)
	b.set("md0/md/dev-sdb1/state", "faulty")
	b.set("md0/md/degraded", "1")
	b.poll()
	b.want("warning volume/md0 raid-degraded", "warning volume/sdb1 raid-member-failed")
	b.set("sda/device/state", "offline")
	b.poll()
	b.want("critical disk/sda disk-offline under lvm", "warning volume/md0 raid-degraded", "critical volume/md0 raid-failed lvm",
		"critical volume/sdb1 raid-member-failed under lvm")
	b.set("sda/device/state", "running")
	b.set("md0/md/dev-sdb1/state", "in_sync")
	b.set("md0/md/degraded", "0")
	b.poll()
	b.want()
}

func TestMemberThatWasTakenOutLeavesTheArrayDegraded(t *testing.T) {
	b := newBench(t)
	b.remove("md0/md/dev-sdb1", "md0/slaves/sdb1")
	b.set("md0/md/degraded", "1")
	b.set("md0/md/dev-sdc1/state", "spare")
	b.poll()
	b.want("warning volume/md0 raid-degraded")
}

func TestStripedArrayFailsWithAnyMember(t *testing.T) {
	b := newBench(t)
	b.set("md0/md/level", "raid0")
	b.poll()
	b.set("sdb/device/state", "offline")
	b.poll()
	if got := b.stands(); !slices.Contains(got, "critical volume/md0 raid-failed lvm") {
		t.Errorf("alarms %q", got)
	}
}

func TestBrokenArrayIsBelieved(t *testing.T) {
	b := newBench(t)
	b.set("md0/md/array_state", "broken")
	b.poll()
	b.want("critical volume/md0 raid-failed lvm")
}

func TestOnePathLostIsAWarningAndTheLastIsNot(t *testing.T) {
	b := newBench(t)
	b.set("sdc/device/state", "transport-offline")
	b.poll()
	b.want("warning disk/sdc disk-offline")
	b.remove("sdd", "dm-1/slaves/sdd") // its way is gone, and with it its device
	b.poll()
	if got := b.stands(); !slices.Contains(got, "critical volume/dm-1 no-path san") {
		t.Errorf("alarms %q", got)
	}
	b.set("sdc/device/state", "running")
	b.poll()
	b.want("warning disk/sdd gone")
}

func TestDiskThatIsPulledHitsWhatStoodOnIt(t *testing.T) {
	b := newBench(t)
	b.remove("nvme0n1")
	b.poll()
	b.want("critical disk/nvme0n1 gone nvme")
	b.poll()
	b.want("critical disk/nvme0n1 gone nvme")
	b.set("nvme0n1/dev", "259:0")
	b.set("nvme0n1/device/state", "live")
	b.set("nvme0n1/size", "4000000")
	b.poll()
	b.want()
}

func TestDiskThatIsPulledHasTheOnlyAlarmOfItsPartitions(t *testing.T) {
	b := newBench(t)
	b.remove("sdb", "sdb1", "md0/md/dev-sdb1", "md0/slaves/sdb1")
	b.set("md0/md/degraded", "1")
	b.poll()
	b.want("warning disk/sdb gone", "warning volume/md0 raid-degraded")
}

func TestVolumesThatAreTakenAwayOnPurposeAreNoFault(t *testing.T) {
	b := newBench(t)
	b.remove("dm-0", "sda1", "sda/sda1")
	b.mounts("31 30 8:48 / /x rw - xfs /dev/sdd rw\n")
	b.poll()
	b.mounts("")
	b.remove("dm-1")
	b.poll()
	b.want()
}

func TestMediumThatIsMadeToBeRemovedIsNoFault(t *testing.T) {
	b := newBench(t)
	b.set("sdx/dev", "65:112")
	b.set("sdx/size", "100")
	b.set("sdx/removable", "1")
	b.set("sdx/device/model", "CARD")
	b.poll()
	b.remove("sdx")
	b.poll()
	b.want()
}

func TestFailedReadIsNeitherFaultNorRecoveryHere(t *testing.T) {
	b := newBench(t)
	b.set("md0/md/degraded", "1")
	b.poll()
	b.want("warning volume/md0 raid-degraded")
	b.set("md0/md/degraded", "rubbish")
	b.poll()
	b.want("warning volume/md0 raid-degraded")
	b.mounts("rubbish\n")
	b.poll()
	if b.last.Full || b.health.Sight != hw.SightBlind {
		t.Errorf("delta %+v, health %+v", b.last, b.health)
	}
}

func TestEachLevelKnowsWhatItNeeds(t *testing.T) {
	for _, c := range []struct {
		array
		want int
	}{
		{array{level: "raid0", disks: 3}, 3},
		{array{level: "raid1", disks: 3}, 1},
		{array{level: "raid5", disks: 4}, 3},
		{array{level: "raid6", disks: 5}, 3},
		{array{level: "raid10", disks: 4, copies: 2}, 2},
		{array{level: "raid10", disks: 5, copies: 2}, 3},
		{array{level: "container"}, 0},
	} {
		if got := c.needed(); got != c.want {
			t.Errorf("%s of %d needs %d, want %d", c.level, c.disks, got, c.want)
		}
	}
}

func TestDomainsNeedWhatTheirImagesStandOn(t *testing.T) {
	var sources []VDisk
	host := newWatch(New(Config{Health: -1}))
	host.probe.limit = 10 * time.Second // machines that run tests are slow
	file := filepath.Join(t.TempDir(), "disk.qcow2")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	sources = append(sources, VDisk{"vdisk/a/vda", file}, VDisk{"vdisk/a/vdb", "/proc/self/status"}, VDisk{"vdisk/a/vdc", file + "-absent"})
	d, _ := host.poll(t.Context(), time.Unix(1000, 0), sources)
	at, err := host.find(t.Context(), file, nil)
	if err != nil {
		t.Fatal(err)
	}
	if host.stack.numbers[at] == nil { // an overlay, or memory: this machine's files stand on no device
		at = ""
	}
	var got []correlate.ID
	for _, r := range d.Require {
		got = append(got, r.ID)
	}
	want := []correlate.ID{"vdisk/a/vda"}
	if at == "" {
		want = nil
	}
	if !slices.Equal(got, want) {
		t.Errorf("required of %v, want %v", got, want)
	}
}

func TestPlaceIsRememberedWhenThePathLeadsNowhere(t *testing.T) {
	b := newBench(t)
	b.watch.places = map[string]string{"/dev/nowhere": "253:1"}
	got := b.watch.require(t.Context(), nil, []VDisk{{"vdisk/a/vda", "/dev/nowhere"}})
	want := []correlate.Requirement{{ID: "vdisk/a/vda", Needs: []correlate.Need{{Of: []correlate.ID{"volume/dm-1"}}}}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestLookThatHangsIsCutOffAndNotRepeated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWatch(New(Config{}))
		release := make(chan struct{})
		hang := func() error { <-release; return nil }
		began := time.Now()
		if err := w.look(t.Context(), "/stale", hang); !errors.Is(err, errHangs) || time.Since(began) != lookTime {
			t.Errorf("error %v after %s", err, time.Since(began))
		}
		began = time.Now()
		if err := w.look(t.Context(), "/stale", hang); !errors.Is(err, errHangs) || time.Since(began) != 0 {
			t.Errorf("again: error %v after %s", err, time.Since(began))
		}
		if w.probe.stuck() != "/stale" {
			t.Errorf("stuck is %q", w.probe.stuck())
		}
		close(release)
		synctest.Wait()
		if err := w.look(t.Context(), "/stale", hang); err != nil || w.probe.stuck() != "" {
			t.Errorf("when it answers again: %v, stuck %q", err, w.probe.stuck())
		}
	})
}

func TestSpaceIsRoundedAsPeopleSeeIt(t *testing.T) {
	for _, c := range [][3]uint64{{0, 0, 0}, {1, 100, 1}, {941, 1000, 95}, {100, 100, 100}, {5, 0, 0}} {
		if got := percent(c[0], c[1]); got != c[2] {
			t.Errorf("%d of %d is %d%%, want %d%%", c[0], c[1], got, c[2])
		}
	}
}

func TestRunStatesTheWholeTruthAndEnds(t *testing.T) {
	b := newBench(t)
	ctx, cancel := context.WithCancel(t.Context())
	l := &ledger{emitted: cancel}
	if err := New(Config{Root: b.root, Health: -1}).Run(ctx, l); !errors.Is(err, context.Canceled) {
		t.Errorf("ended with %v", err)
	}
	if len(l.deltas) != 1 || !l.deltas[0].Full {
		t.Errorf("deltas %+v", l.deltas)
	}
}

type ledger struct {
	emitted func()
	deltas  []correlate.Delta
}

func (l *ledger) Emit(_ context.Context, d correlate.Delta) error {
	l.deltas = append(l.deltas, d)
	l.emitted()
	return nil
}

func (l *ledger) Health(hw.Health) {}

func FuzzMounts(f *testing.F) {
	for line := range strings.Lines(mountTable) {
		f.Add(strings.TrimSpace(line))
	}
	f.Add(`1 2 8:1 / /a\0 rw shared:1 - ext4 /dev/sda1 ro`)
	f.Fuzz(func(t *testing.T, line string) {
		if m, err := parseMount(line); err == nil && (m.number == "" || m.kind == "") {
			t.Errorf("%q gives %+v", line, m)
		}
	})
}

func BenchmarkPollOfThisHost(b *testing.B) {
	w := newWatch(New(Config{Health: -1}))
	for b.Loop() {
		w.poll(b.Context(), time.Unix(1000, 0), nil)
	}
}

// place puts a device where the kernel shows one that is reached in this way.
func (b *bench) place(name, where string) {
	b.t.Helper()
	link, target := b.root.SysPath("class/block", name), b.root.SysPath("devices", where, "block", name)
	if err := os.MkdirAll(filepath.Dir(target), 0o700); err != nil {
		b.t.Fatal(err)
	}
	if err := os.Rename(link, target); err != nil {
		b.t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join("../../devices", where, "block", name), link); err != nil {
		b.t.Fatal(err)
	}
}

func TestVolumeOfTheNetworkThatIsGivenBackIsNoFault(t *testing.T) {
	b := newBench(t)
	for _, name := range []string{"sdc", "sdd"} {
		b.place(name, "platform/host2/session1")
	}
	b.poll()
	b.remove("dm-1", "sdc", "sdd") // as a volume is detached
	b.poll()
	b.want()
}

func TestPathOfTheNetworkThatIsLostIsAFaultUntilNothingNeedsIt(t *testing.T) {
	b := newBench(t)
	for _, name := range []string{"sdc", "sdd"} {
		b.place(name, "platform/host2/session1")
	}
	b.poll()
	b.remove("sdc")
	b.poll()
	b.want("warning disk/sdc gone")
	b.remove("sdd")
	b.poll()
	b.want("critical disk/sdc gone under san", "critical disk/sdd gone under san", "critical volume/dm-1 no-path san")
	b.remove("dm-1")
	b.poll()
	b.want()
}

func TestDriveThatIsPluggedInAnewUnderAnotherNameIsBack(t *testing.T) {
	b := newBench(t)
	b.set("sde/dev", "8:64")
	b.set("sde/size", "5000")
	b.set("sde/device/wwid", "naa.5")
	b.poll()
	b.remove("sde")
	b.poll()
	b.want("warning disk/sde gone")
	b.set("sdf/dev", "8:80")
	b.set("sdf/size", "5000")
	b.set("sdf/device/wwid", "naa.5")
	b.poll()
	b.want()
}

func TestDriveThatWasLostBeforeTheAgentStartedIsFoundByWhatHangsOnIt(t *testing.T) {
	b := newBench(t)
	b.remove("nvme0n1", "sdc") // the mount and the multipath device stay
	b.mounts(strings.Replace(mountTable, "/dev/dm-0", "/dev/root", 1))
	if err := os.MkdirAll(b.root.SysPath("dev/block/253:0"), 0o700); err != nil {
		t.Fatal(err)
	}
	b.watch = newWatch(b.watch.Source)
	b.engine = correlate.New(correlate.Config{Home: "cmp-1", Term: 2}, nil)
	b.engine.Topology(b.now, correlate.Delta{Source: "test", Set: []correlate.Resource{
		{ID: "domain/nvme", Name: "nvme", Needs: []correlate.Need{{Of: []correlate.ID{"volume/nvme0n1"}}}},
	}})
	b.poll()
	b.want("critical disk/nvme0n1 gone nvme", "warning disk/sdc gone")
	b.poll()
	b.want("critical disk/nvme0n1 gone nvme", "warning disk/sdc gone")
}
