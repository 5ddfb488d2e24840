package hw

import (
	"os"
	"path/filepath"
	"testing"
)

func TestFileIsReplacedAsAWhole(t *testing.T) {
	path := filepath.Join(t.TempDir(), "kept")
	for _, want := range []string{"a longer text", "short"} {
		if err := Replace(path, []byte(want)); err != nil {
			t.Fatal(err)
		}
		if b, err := os.ReadFile(path); err != nil || string(b) != want {
			t.Errorf("%q, %v", b, err)
		}
	}
	if err := Replace(filepath.Join(path, "below"), nil); err == nil {
		t.Error("a file has a file below it")
	}
	if b, err := os.ReadFile(path); err != nil || string(b) != "short" {
		t.Errorf("%q, %v", b, err)
	}
}
