package hw_test

import (
	"errors"
	"io/fs"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/paramedic-ha/paramedic/correlate"
	"github.com/paramedic-ha/paramedic/hw"
)

func TestRootStandsForTheHostUnlessItIsGiven(t *testing.T) {
	if got := (hw.Root{}).SysPath("class", "net"); got != "/sys/class/net" {
		t.Errorf("real path %q", got)
	}
	if got := (hw.Root{Proc: "/fixture"}).ProcPath("stat"); got != "/fixture/stat" {
		t.Errorf("fixture's path %q", got)
	}
}

func TestAttributesAreReadWithoutTheirNewline(t *testing.T) {
	root := hw.Root{Sys: t.TempDir()}
	for name, content := range map[string]string{"number": "12\n", "word": " up \n"} {
		if err := os.WriteFile(root.SysPath(name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if n, err := hw.ReadIntAttr(root.SysPath("number")); err != nil || n != 12 {
		t.Errorf("number %d, error %v", n, err)
	}
	if s, err := hw.ReadAttr(root.SysPath("word")); err != nil || s != "up" {
		t.Errorf("word %q, error %v", s, err)
	}
	if _, err := hw.ReadIntAttr(root.SysPath("word")); err == nil {
		t.Error("a word was read as a number")
	}
	if _, err := hw.ReadAttr(root.SysPath("absent")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("error %v is not about a file that does not exist", err)
	}
}

func TestWhatIsBehindAPCIPortIsFound(t *testing.T) {
	root := hw.Root{Sys: t.TempDir()}
	for _, path := range []string{
		"bus/pci/devices/0000:3a:00.0/0000:3b:00.0/net/ens1f0",
		"bus/pci/devices/0000:3a:00.0/0000:3b:00.1/net/ens1f1",
		"bus/pci/devices/0000:3a:00.0/0000:3b:01.0/0000:3c:00.0/nvme/nvme0/nvme0n1",
		"bus/pci/devices/0000:3a:00.0/pci_bus/0000:3b",
	} {
		if err := os.MkdirAll(root.SysPath(path), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	want := []correlate.ID{"disk/nvme0n1", "nic/ens1f0", "nic/ens1f1"}
	if diff := cmp.Diff(want, root.OfPCI("0000:3a:00.0")); diff != "" {
		t.Error(diff)
	}
	if ids := root.OfPCI("../../x"); ids != nil {
		t.Errorf("no address, and %v", ids)
	}
}
