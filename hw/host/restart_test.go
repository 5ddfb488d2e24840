package host

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/paramedic-ha/paramedic/hw"
)

// entry is one record of wtmp.
func entry(kind uint16, user string, at time.Time) string {
	b := make([]byte, recordSize)
	binary.NativeEndian.PutUint16(b, kind)
	copy(b[44:76], user)
	binary.NativeEndian.PutUint32(b[340:], uint32(at.Unix()))
	return string(b)
}

func TestCauseOfARestartIsFoundWhereItWasLeft(t *testing.T) {
	booted := time.Now().Add(-time.Minute).Truncate(time.Second)
	before := booted.Add(-24 * time.Hour)
	const login = 7
	orderly := entry(bootRecord, "reboot", before.Add(-time.Hour)) + entry(bootRecord, "reboot", before) + entry(login, "root", before) +
		entry(runLevel, "shutdown", booted.Add(-time.Minute)) + entry(bootRecord, "reboot", booted) + entry(runLevel, "runlevel", booted)
	cut := entry(runLevel, "shutdown", before.Add(-time.Hour)) + entry(bootRecord, "reboot", before) + entry(bootRecord, "reboot", booted)
	for name, c := range map[string]struct {
		files map[string]string
		old   []string // are of an earlier boot
		want  string
	}{
		"nothing is known":    {nil, nil, "why is not known"},
		"orderly":             {map[string]string{"var/log/wtmp": orderly}, nil, "orderly"},
		"power lost":          {map[string]string{"var/log/wtmp": cut}, nil, "no shutdown is recorded"},
		"this boot not noted": {map[string]string{"var/log/wtmp": entry(bootRecord, "reboot", before) + entry(runLevel, "shutdown", booted.Add(-time.Hour))}, nil, "orderly"},
		"first boot":          {map[string]string{"var/log/wtmp": entry(bootRecord, "reboot", booted)}, nil, "why is not known"},
		"panic": {map[string]string{
			"var/log/wtmp":              cut,
			"sys/fs/pstore/dmesg-efi-1": "Panic#1 Part2\n<4>[  1.0] Call Trace:\n",
			"sys/fs/pstore/dmesg-efi-2": "Panic#1 Part1\n<0>[  1.0] Kernel panic - not syncing: Fatal exception in interrupt\n<0>[  1.1] Kernel Offset: disabled\n",
		}, nil, "Kernel panic - not syncing: Fatal exception in interrupt"},
		"panic put away by systemd": {map[string]string{
			"var/lib/systemd/pstore/1732830000/dmesg.txt": "Panic#1 Part1\nKernel panic - not syncing: sysrq triggered crash\n",
		}, nil, "Kernel panic - not syncing: sysrq triggered crash"},
		"panic of long ago": {map[string]string{
			"var/log/wtmp": cut, "sys/fs/pstore/dmesg-efi-1": "Kernel panic - not syncing: old",
		}, []string{"sys/fs/pstore/dmesg-efi-1"}, "no shutdown is recorded"},
		"dump":          {map[string]string{"var/log/wtmp": cut, "var/crash/202611290001/dmesg": "x"}, nil, "left a dump"},
		"watchdog":      {map[string]string{"var/log/wtmp": cut, "sys/class/watchdog/watchdog0/bootstatus": "32\n"}, nil, "watchdog was not fed"},
		"no dog barked": {map[string]string{"var/log/wtmp": cut, "sys/class/watchdog/watchdog0/bootstatus": "0\n"}, nil, "no shutdown is recorded"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			for file, content := range c.files {
				put(t, filepath.Join(dir, file), content)
			}
			for _, file := range c.old {
				if err := os.Chtimes(filepath.Join(dir, file), before.Add(-time.Hour), before.Add(-time.Hour)); err != nil {
					t.Fatal(err)
				}
			}
			got := LastRestart(hw.Root{Proc: filepath.Join(dir, "proc"), Sys: filepath.Join(dir, "sys"), Var: filepath.Join(dir, "var")}, booted)
			if !strings.Contains(got.Text, c.want) {
				t.Errorf("found %+v, want %q", got, c.want)
			}
		})
	}
}

func TestCauseIsNotWaitedForLong(t *testing.T) {
	dir := t.TempDir()
	pipe := filepath.Join(dir, "var", "log", "wtmp")
	if err := os.MkdirAll(filepath.Dir(pipe), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	got := LastRestart(hw.Root{Sys: filepath.Join(dir, "sys"), Var: filepath.Join(dir, "var")}, began)
	if took := time.Since(began); took > 30*time.Second || !strings.Contains(got.Text, "not known") {
		t.Errorf("found %+v after %v", got, took)
	}
	wake, err := os.OpenFile(pipe, os.O_WRONLY, 0) // what hung goes on, and ends
	if err != nil {
		t.Fatal(err)
	}
	wake.Close()
}

func FuzzHistory(f *testing.F) {
	f.Add([]byte(entry(bootRecord, "reboot", time.Unix(1, 0))+entry(bootRecord, "reboot", time.Unix(1e9, 0))), int64(1e9))
	f.Fuzz(func(t *testing.T, b []byte, booted int64) {
		h, ok := decodeHistory(b, time.Unix(booted, 0))
		if !ok && h != (history{}) {
			t.Errorf("nothing was found, and %+v", h)
		}
	})
}

func FuzzProcessorList(f *testing.F) {
	f.Add("0-3,8")
	f.Add("")
	f.Add("0-4294967295")
	f.Fuzz(func(t *testing.T, text string) {
		list, err := parseList(text)
		if err != nil {
			return
		}
		again, err := parseList(formatList(list))
		if err != nil || len(again) != len(list) {
			t.Errorf("%q is %v, and then %v, %v", text, list, again, err)
		}
	})
}

func FuzzTally(f *testing.F) {
	f.Add("RxErr 0\nTOTAL_ERR_COR 12")
	f.Fuzz(func(t *testing.T, text string) {
		if n, err := parseTally(text); err != nil && n != 0 {
			t.Errorf("%q is %d and %v", text, n, err)
		}
	})
}

func FuzzUevent(f *testing.F) {
	f.Add([]byte("offline@/devices/system/cpu/cpu1\x00ACTION=offline\x00SUBSYSTEM=cpu\x00"))
	f.Add([]byte("change@/devices/pci0000:3a/0000:3a:00.0\x00ACTION=change\x00ERROR_EVENT=BEGIN_RECOVERY\x00"))
	f.Fuzz(func(_ *testing.T, message []byte) { ours(message) })
}

func TestOnlyEventsOfItsOwnPromptTheSource(t *testing.T) {
	for message, want := range map[string]bool{
		"offline@/devices/system/cpu/cpu1\x00ACTION=offline\x00":                                       true,
		"change@/devices/platform/coretemp.0/hwmon/hwmon1\x00ACTION=change\x00":                        true,
		"change@/devices/pci0000:3a/0000:3a:00.0\x00ERROR_EVENT=BEGIN_RECOVERY\x00DEVICE_ONLINE=0\x00": true,
		"change@/devices/pci0000:00/0000:00:02.0/drm/card0\x00HOTPLUG=1\x00":                           false,
		"add@/devices/virtual/net/tap0\x00ACTION=add\x00":                                              false,
		"libudev\x00\xfe\xed\xca\xfe":                                                                  false,
		"":                                                                                             false,
	} {
		if got := ours([]byte(message)); got != want {
			t.Errorf("%q: %t", message, got)
		}
	}
}
