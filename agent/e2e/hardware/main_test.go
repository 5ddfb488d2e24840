package hardware

import (
	"os"
	"testing"

	"github.com/paramedic-ha/paramedic/agent/e2e/fleet"
)

// peers of the emulated host: with it they are three.
const peers = 2

var w fleet.Fleet

func TestMain(m *testing.M) { os.Exit(w.Run(m, peers)) }
