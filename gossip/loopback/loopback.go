// Package loopback gives tests networks and addresses of the loopback that nobody else on the machine uses meanwhile: peers all listen
// on one port, and the binaries of several packages' tests run at once.
package loopback

import (
	"fmt"
	"math/rand/v2"
	"net"
	"sync/atomic"
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

// Where a process begins to look for addresses, and how many it has looked at: it gives none twice.
var (
	first = rand.Uint32()
	given atomic.Uint32
)

// Address is one of 127.0.0.1 that nobody listens at, for a process that is yet to begin. Its port lies below those that the kernel
// gives to outgoing connections (net.ipv4.ip_local_port_range, 32768 and up): none takes it meanwhile. The port after it is not
// given either: there an agent watches for lost hosts when it is not told where.
func Address(t testing.TB) string {
	t.Helper()
	for range 100 {
		address := fmt.Sprintf("127.0.0.1:%d", 16384+(first+2*given.Add(1))%16384)
		l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", address)
		if err == nil {
			_ = l.Close()
			return address
		}
		t.Logf("%s is taken: %v", address, err)
	}
	t.Fatal("no port of 127.0.0.1 is free")
	return ""
}
