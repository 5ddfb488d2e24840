// Package loopback gives tests networks of loopback addresses that nobody else on the machine uses meanwhile: peers all listen
// on one port, and the binaries of several packages' tests run at once.
package loopback

import (
	"fmt"
	"math/rand/v2"
	"net"
	"testing"
)

// Network takes a free /24 of 127.0.0.0/8 until the end of the test, and returns how its addresses begin: "127.7.9". Those
// that end with 1 to 253 are the test's.
func Network(t testing.TB) string {
	t.Helper()
	for {
		prefix := fmt.Sprintf("127.%d.%d", 1+rand.N(254), 1+rand.N(254))
		// Whoever holds this has the network.
		claim, err := new(net.ListenConfig).Listen(t.Context(), "tcp", prefix+".254:7945")
		if err == nil {
			t.Cleanup(func() { _ = claim.Close() })
			return prefix
		}
		t.Logf("%s.0/24 is taken: %v", prefix, err)
	}
}
