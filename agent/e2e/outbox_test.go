package e2e

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/paramedic-ha/paramedic/agent/e2e/lab"
)

const outboxFile = lab.StateDir + "/paramedic.db"

func TestADamagedOutboxIsSetAsideAndNobodyGoesUntold(t *testing.T) {
	for name, damage := range map[string]string{
		"garbage":   "head -c 65536 /dev/urandom > " + outboxFile,
		"truncated": "truncate -s 5000 " + outboxFile,
		// All but the meta pages: which of the others are in use depends on how many commits there were.
		"pages": "dd if=/dev/urandom of=" + outboxFile + " bs=4096 seek=2 count=$(($(stat -c %s " + outboxFile + ") / 4096 - 2)) conv=notrunc status=none",
	} {
		t.Run(name, func(t *testing.T) {
			a := consume(t, "a", projectA)
			ag := start(t, a)
			must(t, w.uplink0.Pull())
			a.hears(t, "raised", "carrier")
			must(t, ag.Kill())
			_, err := w.host.Run("sh", "-ec", damage)
			must(t, err)
			a.Forget()
			must(t, ag.Start())
			ag.knows(tinyVMs...)
			ag.logged(t, "set aside")
			aside, err := filepath.Glob(w.host.Path(outboxFile) + ".*")
			if err != nil || len(aside) == 0 {
				t.Errorf("no file was set aside (%v); the directory holds %v", err, ls(t, lab.StateDir))
			}
			// The fault still stands and is told, as new: what the consumer knew is lost with the file.
			affects(t, a.learns(t, "network"), vmA1, vmA2)
			must(t, w.libvirt.KillQEMU(vmA3.Name))
			affects(t, a.hears(t, "raised", "crash"), vmA3)
			must(t, w.uplink0.Plug())
			a.hears(t, "cleared", "carrier")
		})
	}
}

func ls(t *testing.T, dir string) string {
	t.Helper()
	out, err := w.host.Run("ls", "-la", dir)
	must(t, err)
	return out
}

func TestAFullDiskStopsNoNotification(t *testing.T) {
	small := lab.Dir + "/small-state"
	_, err := w.host.Run("sh", "-ec", "mkdir -p "+small+"; mountpoint -q "+small+" || mount -t tmpfs -o size=1m pm-state "+small+"; rm -rf "+small+"/*")
	must(t, err)
	a, ops := consume(t, "a", projectA), consume(t, "ops")
	w.heal(t)
	config := strings.Replace(configuration(t, "", a, ops), "dir: "+lab.StateDir, "dir: "+small, 1)
	ag := launchWith(t, w.host, config)
	ag.knows(tinyVMs...)
	_, err = w.host.Run("sh", "-c", "cat /dev/zero > "+small+"/filler; true")
	must(t, err)
	// More than fits into what the file has already allocated is not needed for a bbolt commit to fail, but each
	// round writes some; every one of them must be told.
	for i := range 30 {
		a.Forget()
		must(t, w.uplink0.Pull())
		affects(t, a.hears(t, "raised", "carrier"), vmA1, vmA2)
		must(t, w.uplink0.Plug())
		a.hears(t, "cleared", "carrier")
		if slices.ContainsFunc(ag.alarms(), func(s standing) bool { return s.Condition == "outbox" }) {
			t.Logf("not durable any more after %d faults", i+1)
			break
		}
		if i == 29 {
			t.Errorf("the disk is full and no alarm says that deliveries are not durable: %+v", ag.alarms())
		}
	}
	ops.hears(t, "raised", "outbox")
	_, err = w.host.Run("rm", small+"/filler")
	must(t, err)
	must(t, w.uplink0.Pull())
	eventually(t, "deliveries to be durable again", func() bool {
		return !slices.ContainsFunc(ag.alarms(), func(s standing) bool { return s.Condition == "outbox" })
	}, func() string { return fmt.Sprintf("%+v\n%s", ag.alarms(), ag.Log()) })
}
