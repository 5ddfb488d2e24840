package vm

import (
	"errors"
	"fmt"
	"strings"
)

// credentials are given as docs/security.md says, one more beside them.
func credentials(h *host) {
	const dir = "/etc/paramedic/"
	h.run("paramedic keygen --gossip --file %[1]sgossip.key && paramedic keygen --secrets --file %[1]ssecrets.key && paramedic keygen --token --file %[1]sops.token", dir)
	h.Cleanup(func() { h.run("rm %[1]sgossip.key %[1]ssecrets.key %[1]sops.token", dir) })
	_, ini, ok := strings.Cut(page(h.T, "security.md"), "```ini\n")
	ini, _, _ = strings.Cut(ini, "```")
	if !ok || !strings.Contains(ini, "LoadCredential=") {
		h.Fatal("docs/security.md shows no drop-in with credentials")
	}
	h.dropIn("keys", ini+"LoadCredential=ops.token:/etc/paramedic/ops.token\n")
	h.configure(`
cluster: {bind: 127.0.0.1, key_file: gossip.key, secrets_key_file: secrets.key}
api: {listen: "127.0.0.1:7480", tokens: [{name: ops, token_file: ops.token, role: admin}]}
`)
	h.run("systemctl restart paramedic")
	for _, name := range []string{"gossip.key", "secrets.key", "ops.token"} {
		h.want(name, h.run("stat -c '%%U %%a' %s%s", dir, name), "root 600")
		h.contains("the agent's user", h.refused("runuser -u paramedic -- cat %s%s 2>&1", dir, name), "Permission denied")
	}
	h.contains("without the credentials", h.refused("runuser -u paramedic -- paramedic check-config 2>&1"), "gossip.key", "secrets.key", "ops.token")
	h.contains("status", h.run("paramedic status"), "encrypted with key", "sealed with key")
	h.contains("over TCP", h.run("paramedic --server http://127.0.0.1:7480 --server-token-file /etc/paramedic/ops.token status"), "vm-1")

	// A reload reads them too, and so does the check before it.
	h.run("systemctl reload paramedic")
	h.eventually("the reload", func() error {
		if text := h.property("StatusText"); text != "running" {
			return fmt.Errorf("systemctl status says %q", text)
		}
		return nil
	})

	// A bundle takes systemd's journal and properties, and none of the secrets.
	h.run("paramedic bundle --file /root/bundle.tar.gz && mkdir /root/bundle && tar -xzf /root/bundle.tar.gz -C /root/bundle --strip-components=1")
	h.Cleanup(func() { h.run("rm -r /root/bundle /root/bundle.tar.gz") })
	h.contains("the bundle's log", h.run("cat /root/bundle/log.txt"), "Started paramedic.service", "msg=started")
	h.contains("the bundle's unit", h.run("cat /root/bundle/unit.txt"), "Type=notify", "ActiveState=active", "paramedic.service.d/keys.conf")
	h.run("! grep -rFf %[1]sgossip.key /root/bundle && ! grep -rFf %[1]ssecrets.key /root/bundle && ! grep -rFf %[1]sops.token /root/bundle", dir)
}

// watchdog stops the whole process: its loop feeds no watchdog then, whatever else is well. That nothing but the loop feeds it is
// held in package agent.
func watchdog(h *host) {
	pid, restarts := h.property("MainPID"), h.property("NRestarts")
	times := strings.Fields(h.run(`cut -d' ' -f1 /proc/uptime; kill -STOP %[1]s; until p=$(systemctl show -P MainPID paramedic); `+
		`[ "$p" != 0 ] && [ "$p" != %[1]s ] && [ "$(systemctl show -P ActiveState paramedic)" = active ]; do sleep 0.2; done; cut -d' ' -f1 /proc/uptime`, pid))
	if len(times) != 2 {
		h.Fatalf("the times are %v", times)
	}
	took := seconds(h.T, times[1]) - seconds(h.T, times[0])
	h.Logf("from standing still to running again: %.1f s", took)
	if took > 60 { // 10 s without food, and what an end with its stacks and a new start take; an emulated processor may stand still
		h.Errorf("it took %.1f s", took)
	}
	if again := h.property("NRestarts"); again == restarts {
		h.Errorf("systemd has started it again %s times, as before", again)
	}
	h.contains("the journal", h.run("journalctl -u paramedic --no-pager -o cat"), "Watchdog timeout")
	h.eventually("it answers", func() error { _, err := h.vm.Run("paramedic status"); return err })
}

// unheard is a consumer that takes what is sent and never answers.
const unheard = "http://127.0.0.1:9009/failure"

func stops(h *host) {
	h.run("ip address add 10.9.0.1/32 dev lo && ip address add 10.9.0.2/32 dev lo")
	h.run("systemd-run --quiet --unit=unheard socat -u TCP-LISTEN:9009,fork,reuseaddr EXEC:'sleep 1000'")
	h.write("/root/peer.yaml", `
node: {name: vm-2}
api: {socket: /run/peer.sock}
cluster: {bind: 10.9.0.2, join: [10.9.0.1], insecure: true}
hw: {nic: {disabled: true}, virt: {disabled: true}, ipmi: {disabled: true}, mem: {disabled: true}, disk: {disabled: true}, host: {disabled: true}, kmsg: {disabled: true}, ovs: {disabled: true}, pressure: {disabled: true}, service: {disabled: true}, clock: {disabled: true}}
notify: {dir: /root/peer}
`)
	h.run("systemd-run --quiet --unit=peer paramedic run --config /root/peer.yaml")
	h.Cleanup(func() {
		h.run("systemctl stop peer unheard; systemctl reset-failed peer unheard 2>/dev/null; ip address del 10.9.0.1/32 dev lo; ip address del 10.9.0.2/32 dev lo; rm -r /root/peer")
	})
	h.configure(`
cluster: {bind: 10.9.0.1, join: [10.9.0.2], insecure: true}
notify:
  allow_callbacks: [127.0.0.0/8]
  subscriptions: [{name: unheard, endpoints: ["` + unheard + `"]}]
`)
	h.run("systemctl restart paramedic")
	peer := func(want string) func() error {
		return func() error {
			out, err := h.vm.Run("paramedic --server unix:///run/peer.sock hosts")
			if err == nil && !strings.Contains(strings.Join(strings.Fields(out), " "), want) {
				err = fmt.Errorf("%s", out)
			}
			return err
		}
	}
	h.eventually("the peer to know it", peer("vm-1 - member"))
	h.run("paramedic emit compute.host.nic.error --detail source=eth0")
	h.eventually("a delivery in flight", func() error {
		var s status
		err := h.ask(&s, "status")
		if out, _ := h.vm.Run("ss -Htn state established 'dport = :9009'"); err == nil && (s.Deliveries.Pending == 0 || strings.TrimSpace(out) == "") {
			err = fmt.Errorf("%d are pending; connections to the consumer: %q", s.Deliveries.Pending, out)
		}
		return err
	})
	h.run("systemctl kill --signal=STOP libvirtd")
	h.Cleanup(func() { h.run("systemctl kill --signal=CONT libvirtd") })
	h.run("systemctl stop paramedic")
	// From when systemd told it to when it had ended, in microseconds.
	took := (seconds(h.T, h.property("ExecMainExitTimestampMonotonic")) - seconds(h.T, h.property("ActiveExitTimestampMonotonic"))) / 1e6
	h.Logf("stopped after %.1f s", took)
	if took > 5 {
		h.Errorf("it took %.1f s to stop, want 5 at most", took)
	}
	h.want("Result", h.property("Result"), "success")
	h.want("ExecMainStatus", h.property("ExecMainStatus"), "0")
	h.eventually("the peer to have heard goodbye", peer("vm-1 - stopped"))
}

func reboots(h *host) {
	if err := h.vm.Reboot(); err != nil {
		h.Fatal(err)
	}
	h.booted()
	h.want("after the reboot", h.run("systemctl is-active paramedic"), "active")
	h.want("/dev/ipmi0", h.run("stat -c '%%U:%%G %%a' /dev/ipmi0"), "root:paramedic 660")
	h.want("net.core.rmem_max", h.run("cat /proc/sys/net/core/rmem_max"), "8388608")
	sees(h)
}

type listing struct {
	Alarms []struct{ ID, Resource, State string }

	Deliveries []struct {
		ID    string
		Alarm string `json:"alarm_id"`
		State string
	}
}

func upgrade(h *host) {
	h.write("/etc/paramedic/paramedic.yaml", `
notify:
  allow_callbacks: [127.0.0.0/8]
  subscriptions: [{name: vnfm, endpoints: ["http://127.0.0.1:9/failure"]}]
`)
	h.run("ip link set eth0 up; systemctl restart paramedic")
	h.eventually("the link to be watched", func() error { _, err := h.vm.Run("paramedic topology nic/eth0"); return err })
	h.run("paramedic emit compute.host.nic.error --detail source=eth0")
	// standing is the alarm of the link and what is owed of it.
	standing := func() (ids string) {
		h.eventually("the alarm stands and is owed", func() error {
			var l listing
			if err := errors.Join(h.ask(&l, "alarms"), h.ask(&l, "deliveries")); err != nil {
				return err
			}
			for _, a := range l.Alarms {
				for _, d := range l.Deliveries {
					if a.Resource == "nic/eth0" && d.Alarm == a.ID && d.State == "pending" {
						ids = a.ID + " " + d.ID
						return nil
					}
				}
			}
			return fmt.Errorf("%+v", l)
		})
		return ids
	}
	before, pid := standing(), h.property("MainPID")
	h.run("apt install ./newer/paramedic*.deb")
	h.want("the version", h.run("dpkg-query -W -f '${Version}' paramedic | cut -c1-2"), upgraded)
	h.want("after the upgrade", h.run("systemctl is-active paramedic"), "active")
	if h.property("MainPID") == pid {
		h.Error("the upgrade has not restarted it")
	}
	h.want("alarm and delivery after the upgrade", standing(), before)
	h.run("touch /etc/paramedic/vnfm.secret")

	h.run("apt remove -y paramedic")
	h.refused("systemctl is-active paramedic")
	h.refused("pgrep -x paramedic")
	h.run("test ! -e /usr/bin/paramedic && test -e /etc/paramedic/paramedic.yaml && test -e /var/lib/paramedic/paramedic.db")
	h.run("apt purge -y paramedic")
	h.run("test ! -e /etc/paramedic/paramedic.yaml && test ! -e /var/lib/paramedic && test -e /etc/paramedic/vnfm.secret && id paramedic")
	h.refused("systemctl cat paramedic")
	h.want("what is left of the unit", h.run("find /etc/systemd /run/systemd -name 'paramedic*'"), "")
	h.booted()
}
