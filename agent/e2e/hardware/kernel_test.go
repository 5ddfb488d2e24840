package hardware

import (
	"errors"
	"fmt"
	"testing"

	"github.com/paramedic-ha/paramedic/agent/e2e/fleet"
)

// hungTask freezes a file system under somebody who writes.
func hungTask(t *testing.T, h *host) {
	h.run(t, "echo 1 >/proc/sys/kernel/hung_task_timeout_secs")
	f := fault{condition: "hung-task", severity: "critical", affected: all("degraded")}
	h.fails(t, f, h.shell("fsfreeze -f /srv/nvme; touch /srv/nvme/hangs & true"))
	h.run(t, "fsfreeze -u /srv/nvme")
	h.passes(f)
}

// outOfMemory has the kernel do what it does when memory runs out (a system request), with the choice told beforehand. A machine
// that really ran out would stand still for half a minute before.
func outOfMemory(t *testing.T, h *host) {
	f := fault{condition: "out-of-memory", severity: "critical", affected: all("degraded")}
	h.fails(t, f, h.shell("(echo 1000 >/proc/$BASHPID/oom_score_adj; exec sleep 60) & sleep 0.1; echo f >/proc/sysrq-trigger"))
	h.passes(f)
}

// The status of a memory read error as IA32_MCi_STATUS has it (Intel's manual, volume 3B, 16.3.2.2): valid, enabled, with an
// address and more; bit 61 says uncorrected. The kernel's injector hands it to all that a real one would reach.
const (
	correctedStatus   = 0x9c00000000000150
	uncorrectedStatus = correctedStatus | 1<<61
)

func inject(status uint64) string {
	return fmt.Sprintf("cd /sys/kernel/debug/mce-inject && echo sw >flags && echo 0 >cpu && echo %#x >status && echo 0x1000 >addr && echo 0x8c >misc && echo 4 >bank", status)
}

func correctedMachineCheck(t *testing.T, h *host) {
	f := fault{condition: "hardware-corrected", severity: "warning", affected: all("at-risk")}
	h.fails(t, f, h.shell(inject(correctedStatus)))
	h.passes(f)
}

func machineCheck(t *testing.T, h *host) {
	f := fault{condition: "machine-check", severity: "critical", affected: all("degraded")}
	h.acknowledged(t, f, h.fails(t, f, h.shell(inject(uncorrectedStatus))))
}

// panics kills the kernel, which restarts the machine at once. The peers say that the host is lost, and it says that it was
// restarted when it is back, each with the domains that ran.
func panics(t *testing.T, h *host) {
	lost := fault{condition: "host-lost", severity: "critical", affected: all("failed")}
	h.fails(t, lost, h.shell("(sleep 0.2; echo c >/proc/sysrq-trigger) & true"))
	h.heals(t, lost, func() error {
		fleet.Must(t, h.Booted())
		h.start(t)
		return nil
	})
	restarted := fault{condition: "host-restarted", severity: "critical", affected: all("failed")}
	for _, n := range h.ops.All() {
		if h.is(n, "raised", restarted) {
			h.judge(t, restarted, n)
			return
		}
	}
	fleet.Must(t, errors.New("nobody was told of the restart"))
}
