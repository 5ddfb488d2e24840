package vm

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestThePackageOnAHostWithSystemd is one host's life with the package, from the installation to the purge; each test leaves it as
// it found it.
func TestThePackageOnAHostWithSystemd(t *testing.T) {
	h := boot(t)
	for _, test := range []struct {
		name string
		do   func(*host)
	}{
		{"it is installed as the manual says, and runs", installed},
		{"it has its rights and no others", rights},
		{"what it sees", sees},
		{"a right that is taken away is missed aloud", missed},
		{"drives are seen with the drop-in", drives},
		{"a reload that is refused leaves it as it was", reload},
		{"keys and tokens are credentials", credentials},
		{"an agent that stands still is started again", watchdog},
		{"it stops in time, whatever hangs, and says goodbye", stops},
		{"it comes back when the host does", reboots},
		{"an upgrade keeps what stands and what is owed, removal the state, a purge only what is the administrator's", upgrade},
	} {
		if !t.Run(test.name, func(t *testing.T) {
			here := &host{T: t, vm: h.vm}
			t.Cleanup(func() {
				if t.Failed() {
					t.Log(here.journal())
				}
			})
			test.do(here)
		}) && test.name == "it is installed as the manual says, and runs" {
			t.FailNow()
		}
	}
}

func installed(h *host) {
	for _, c := range commands(h.T, "install.md", "Debian, Ubuntu") {
		h.run("%s", c)
	}
	h.want("after the installation", h.run("systemctl is-active paramedic"), "active")
	h.want("at boot", h.run("systemctl is-enabled paramedic"), "enabled")
	h.run("%s", firstCommand(h.T, "install.md", "modprobe "))
	for path, want := range map[string]string{
		"/etc/paramedic": "root:paramedic 750", "/run/paramedic": "paramedic:paramedic 750", "/run/paramedic/api.sock": "paramedic:paramedic 660",
		"/var/lib/paramedic": "paramedic:paramedic 700", "/dev/ipmi0": "root:paramedic 660",
	} {
		h.want(path, h.run("udevadm settle; stat -c '%%U:%%G %%a' %s", path), want)
	}
	h.want("modules", h.run("lsmod | grep -cE '^ipmi_(si|devintf) '"), "2")
	h.want("net.core.rmem_max", h.run("cat /proc/sys/net/core/rmem_max"), "8388608")
	for _, c := range commands(h.T, "install.md", "The first day") {
		h.run("%s", c)
	}
}

func rights(h *host) {
	h.want("Type", h.property("Type"), "notify")
	process := h.run("cat /proc/$(systemctl show -P MainPID paramedic)/status")
	field := func(name string) string {
		_, rest, _ := strings.Cut("\n"+process, "\n"+name+":")
		value, _, _ := strings.Cut(rest, "\n")
		return strings.TrimSpace(value)
	}
	const syslog, netRaw = 34, 13 // linux/capability.h
	caps := fmt.Sprintf("%016x", 1<<syslog|1<<netRaw)
	for _, set := range []string{"CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"} {
		h.want(set, field(set), caps)
	}
	h.want("NoNewPrivs", field("NoNewPrivs"), "1")
	h.want("Seccomp", field("Seccomp"), "2")
	id := h.run("id -u paramedic")
	h.want("Uid", field("Uid"), strings.Join([]string{id, id, id, id}, "\t"))
	h.want("Groups", field("Groups"), h.run("id -g paramedic"))
	h.want("MemoryMax", h.property("MemoryMax"), "536870912")
	h.want("memory.max", h.run("cat /sys/fs/cgroup/system.slice/paramedic.service/memory.max"), "536870912")
	h.want("pids.max", h.run("cat /sys/fs/cgroup/system.slice/paramedic.service/pids.max"), "256")
	h.run("systemd-analyze security --threshold=25 --no-pager paramedic")

	// Whoever is in the group is an administrator, and nobody else.
	h.run("useradd --groups paramedic ann && useradd ben")
	h.contains("one of the group", h.run("runuser -u ann -- paramedic status"), "vm-1")
	h.contains("one who is not", h.refused("runuser -u ben -- paramedic status"), "permission denied")
}

// sees holds that the unit allows what the sources need.
func sees(h *host) {
	h.sources(func(all map[string]string) error {
		for source, want := range map[string]string{
			"nic": "clear", "virt": "clear", "ipmi": "clear", "disk": "clear", "service": "clear", "pressure": "clear", "clock": "clear",
			"host": "clear", "kmsg": "clear", "mem": "absent the kernel counts no memory errors here", "ovs": "absent no Open vSwitch here",
		} {
			if !strings.HasPrefix(all[source], want) {
				return fmt.Errorf("%s: %q, want %q", source, all[source], want)
			}
		}
		return nil
	})
}

func missed(h *host) {
	without := func(right string) string {
		left := strings.TrimSpace(strings.ReplaceAll("CAP_SYSLOG CAP_NET_RAW", right, ""))
		return "[Service]\nAmbientCapabilities=\nAmbientCapabilities=" + left + "\nCapabilityBoundingSet=\nCapabilityBoundingSet=" + left + "\n"
	}
	lacks := func(sub *host, source, word string) {
		sub.Helper()
		sub.sources(func(all map[string]string) error {
			if !strings.HasPrefix(all[source], "degraded") || !strings.Contains(all[source], word) {
				return fmt.Errorf("%s: %q, want it degraded, and to name %s", source, all[source], word)
			}
			return nil
		})
	}
	in := func(name string, do func(*host)) {
		h.Run(name, func(t *testing.T) { do(&host{T: t, vm: h.vm}) })
	}
	in("CAP_SYSLOG", func(sub *host) {
		sub.dropIn("less", without("CAP_SYSLOG"))
		lacks(sub, "kmsg", "CAP_SYSLOG")
	})
	in("CAP_NET_RAW", func(sub *host) {
		sub.configure("cluster: {bind: 127.0.0.1, insecure: true}\n")
		sub.dropIn("less", without("CAP_NET_RAW"))
		sub.eventually("what it says of echoes", func() error {
			var s status
			if err := sub.ask(&s, "status"); err != nil {
				return err
			}
			if s.Cluster.Watch.Echo != "none" || !strings.Contains(s.Cluster.Watch.EchoReason, "CAP_NET_RAW") {
				return fmt.Errorf("%+v", s.Cluster)
			}
			return nil
		})
	})
	in("net.core.rmem_max", func(sub *host) {
		sub.run("sysctl -q net.core.rmem_max=212992")
		sub.Cleanup(func() { sub.run("sysctl -q net.core.rmem_max=8388608 && systemctl restart paramedic") })
		sub.run("systemctl restart paramedic")
		lacks(sub, "nic", "net.core.rmem_max")
	})
	in("/dev/ipmi0", func(sub *host) {
		sub.dropIn("less", "[Service]\nDeviceAllow=\nDeviceAllow=/dev/kmsg r\n")
		sub.sources(func(all map[string]string) error {
			if strings.HasPrefix(all["ipmi"], "clear") || !strings.Contains(all["ipmi"], "/dev/ipmi0") {
				return fmt.Errorf("ipmi: %q, want it to name the device", all["ipmi"])
			}
			return nil
		})
	})
}

// drives uses the example where the packages put it, as it says itself.
func drives(h *host) {
	to := regexp.MustCompile(`Install as (\S+),`).FindStringSubmatch(h.run("cat /usr/share/doc/paramedic/examples/drives.conf"))
	if to == nil {
		h.Fatal("the example does not say where it belongs")
	}
	h.dropIn(strings.TrimSuffix(to[1][strings.LastIndex(to[1], "/")+1:], ".conf"), h.run("cat /usr/share/doc/paramedic/examples/drives.conf")+"\n")
	h.run("systemctl is-active paramedic && test -e %s", to[1])
	groups := strings.Fields(h.run("sed -n 's/^Groups:\t//p' /proc/$(systemctl show -P MainPID paramedic)/status"))
	if disk := h.run("getent group disk | cut -d: -f3"); !slices.Contains(groups, disk) {
		h.Errorf("its groups are %v, want %s (disk) among them", groups, disk)
	}
	sees(h)
}

func reload(h *host) {
	h.configure("log: {level: debug}\n")
	h.run("systemctl reload paramedic")
	h.eventually("the good file to be taken over", func() error {
		if j := h.journal(); !strings.Contains(j, `msg="configuration reloaded"`) {
			return fmt.Errorf("%s", j)
		}
		return nil
	})
	pid := h.property("MainPID")
	h.write("/etc/paramedic/paramedic.yaml", "log: {level: loud}\n")
	h.refused("systemctl reload paramedic")
	h.contains("the journal", h.journal(), `paramedic.yaml:1:`, "loud")
	h.want("after the refused reload", h.run("systemctl is-active paramedic"), "active")
	h.want("its process", h.property("MainPID"), pid)
	h.eventually("the source that stays", func() error { _, err := h.vm.Run("paramedic status"); return err })

	// What only a restart can change passes the check. The agent refuses it then, and says so where systemctl status shows it.
	h.write("/etc/paramedic/paramedic.yaml", "node: {name: another}\n")
	h.run("systemctl reload paramedic")
	h.eventually("the refusal", func() error {
		if text := h.property("StatusText"); !strings.Contains(text, "the last reload was refused") {
			return fmt.Errorf("systemctl status says %q", text)
		}
		return nil
	})
	h.contains("the journal", h.journal(), "node.name")
}
