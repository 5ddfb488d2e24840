package disk

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/paramedic-ha/paramedic/correlate"
)

// table is a mount table with the options of the file system on the NVMe drive.
func table(options string) string {
	return strings.Replace(mountTable, "/dev/nvme0n1 rw", "/dev/nvme0n1 "+options, 1)
}

func TestFileSystemThatBecomesReadOnlyHitsWhatIsOnIt(t *testing.T) {
	b := newBench(t)
	b.mounts(table("ro"))
	b.poll()
	b.want("critical volume/nvme0n1 filesystem-read-only nvme")
	b.poll()
	b.want("critical volume/nvme0n1 filesystem-read-only nvme")
	b.mounts(table("rw"))
	b.poll()
	b.want()
}

func TestExt4ThatStoppedWritingIsSeenByItsOwnOption(t *testing.T) {
	b := newBench(t)
	b.mounts(table("rw,emergency_ro"))
	b.poll()
	b.want("critical volume/nvme0n1 filesystem-read-only nvme")
}

func TestFileSystemThatIsMountedToBeReadIsNoFault(t *testing.T) {
	b := newBench(t)
	b.mounts("")
	b.poll()
	b.mounts(table("ro"))
	b.poll()
	b.want()
}

func TestFileSystemThatNobodyNeedsMayBeMadeReadOnly(t *testing.T) {
	b := newBench(t)
	other := "33 30 8:48 / /backup rw - ext4 /dev/sdd rw\n"
	b.mounts(mountTable + other)
	b.poll()
	b.mounts(mountTable + strings.Replace(other, "sdd rw", "sdd ro", 1))
	b.poll()
	b.want()
	errors := b.root.SysPath("fs", "ext4", "sdd")
	if err := os.MkdirAll(errors, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(errors+"/errors_count", []byte("3\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	b.poll()
	b.want("warning volume/sdd filesystem-read-only")
}

func TestReadOnlyAlarmOutlivesTheAgent(t *testing.T) {
	b := newBench(t)
	b.mounts(table("ro"))
	b.poll()
	b.watch = newWatch(b.watch.Source)
	b.watch.remember([]correlate.Key{{Resource: "volume/nvme0n1", Condition: correlate.CondReadOnly}})
	b.poll()
	b.want("critical volume/nvme0n1 filesystem-read-only nvme")
}

func TestFullIsJudgedOfWhatTheHostAndItsDomainsNeedOnly(t *testing.T) {
	b := newBench(t)
	b.mounts(mountTable + "33 30 8:48 / /backup rw - ext4 /dev/sdd rw\n34 30 8:32 / /images rw - ext4 /dev/sdc rw\n")
	b.poll()
	mounts, err := readMounts(b.root)
	if err != nil {
		t.Fatal(err)
	}
	required := []correlate.Requirement{{ID: "vdisk/a/vda", Needs: []correlate.Need{{Of: []correlate.ID{"volume/sdc"}}}}}
	want := map[correlate.ID]bool{"volume/dm-0": true, "volume/nvme0n1": true, "volume/sdc": true}
	if diff := cmp.Diff(want, b.watch.important(mounts, required)); diff != "" {
		t.Error(diff)
	}
	b.watch.config.Filesystems = []string{"/back*"}
	want["volume/sdd"] = true
	if diff := cmp.Diff(want, b.watch.important(mounts, required)); diff != "" {
		t.Error(diff)
	}
}

func TestHolderIsTheInnermostMount(t *testing.T) {
	var mounts []mount
	for i, p := range []string{"/", "/var", "/var/lib", "/var"} {
		mounts = append(mounts, mount{id: fmt.Sprint(i), point: p})
	}
	for path, want := range map[string]string{"/etc": "0", "/var/x": "3", "/var/lib/y": "2", "/variant": "0", "/var": "3"} {
		if got := holder(mounts, path); got == nil || got.id != want {
			t.Errorf("%s is in %+v, want %s", path, got, want)
		}
	}
}

func TestFileSystemOfBtrfsStandsOnItsSource(t *testing.T) {
	b := newBench(t)
	b.mounts(mountTable + "40 30 0:60 /sub /x rw - btrfs /dev/mapper/mpatha rw\n41 30 0:61 / /y rw - btrfs /dev/sdd rw\n")
	b.vdisks = []VDisk{{"vdisk/b/vda", "/x/1"}, {"vdisk/b/vdb", "/y/1"}}
	b.watch.places = map[string]string{"/x/1": "0:60", "/y/1": "0:61"}
	b.poll()
	got := fmt.Sprint(b.last.Require)
	for _, want := range []string{"volume/dm-1", "volume/sdd"} {
		if !strings.Contains(got, want) {
			t.Errorf("required %s, want %s", got, want)
		}
	}
}

func TestExt4ThatStopsAtAnErrorIsFoundByItsCountWhereTheMountTableHidesIt(t *testing.T) {
	b := newBench(t)
	put := func(file, content string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(content+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	count := b.root.SysPath("fs", "ext4", "dm-0", "errors_count")
	options := b.root.ProcPath("fs", "ext4", "dm-0", "options")
	put(options, "rw\nbsddf\nerrors=remount-ro")
	put(count, "2") // an old one: it was mounted with it
	b.poll()
	b.want()
	put(count, "3")
	b.poll()
	b.want("critical volume/dm-0 filesystem-read-only lvm")
	b.watch = newWatch(b.watch.Source)
	b.watch.remember([]correlate.Key{{Resource: "volume/dm-0", Condition: correlate.CondReadOnly}})
	b.poll()
	b.want("critical volume/dm-0 filesystem-read-only lvm")
	put(count, "0") // checked, and mounted anew
	b.poll()
	b.want()
	put(options, "rw\nerrors=continue")
	put(count, "1")
	b.poll()
	b.want()
}
