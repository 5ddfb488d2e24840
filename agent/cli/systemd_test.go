package cli

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"testing"
)

// A socket's queue is full after a handful of datagrams that nobody reads.
func TestSystemdThatDoesNotReadHoldsUpNobody(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "notify")
	manager, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer manager.Close()
	const enough = 1_000_000
	for range enough {
		if err := sendToSystemd(socket, "WATCHDOG=1"); err != nil {
			if !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("%v", err)
			}
			return
		}
	}
	t.Error("the queue was never full")
}
