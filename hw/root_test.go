package hw_test

import (
	"errors"
	"io/fs"
	"os"
	"testing"

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
