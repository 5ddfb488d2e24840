package cluster

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/paramedic-ha/paramedic/agent/e2e/fleet"
)

// size of the whole lab. Most tests start fewer agents.
const size = 20

var w fleet.Fleet

// TestMain is also the peer of TestAPeerThatFloodsIsNamed: with the variable set it is nothing else.
func TestMain(m *testing.M) {
	if addrs := strings.Fields(os.Getenv("PM_EVIL")); len(addrs) == 2 {
		fmt.Fprintln(os.Stderr, runEvil(addrs[0], addrs[1]))
		os.Exit(1)
	}
	os.Exit(w.Run(m, size))
}
