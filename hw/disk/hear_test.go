package disk

import (
	"context"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestChangeOfTheMountTableIsHeardAtOnce(t *testing.T) {
	s := New(Config{Health: -1})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.attend(ctx) }()
	defer func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()
	dir := t.TempDir()
	deadline := time.After(10 * time.Second)
	for { // until the table is waited for
		if err := unix.Mount("none", dir, "tmpfs", 0, "size=4k"); err != nil {
			t.Fatal(err)
		}
		if err := unix.Unmount(dir, 0); err != nil {
			t.Fatal(err)
		}
		select {
		case <-s.config.Prompt:
			return
		case <-deadline:
			t.Fatal("no prompt")
		case <-time.After(10 * time.Millisecond):
		}
	}
}
