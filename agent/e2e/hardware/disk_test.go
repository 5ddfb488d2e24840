package hardware

import "testing"

// mirror has an array lose a member and get it back.
func mirror(t *testing.T, h *host) {
	behind := map[string]string{behindBond.Name: "at-risk"}
	member := fault{condition: "raid-member-failed", on: "disk/vdb", severity: "warning", affected: behind}
	array := fault{condition: "raid-degraded", on: "volume/md0", severity: "warning", affected: behind}
	h.fails(t, member, h.shell("mdadm -q --fail /dev/md0 /dev/vdb"))
	h.heals(t, member, h.shell("mdadm -q --remove /dev/md0 /dev/vdb"))
	h.heals(t, array, h.shell("mdadm -q --add /dev/md0 /dev/vdb"))
}

// full has the file system that holds an image run out of space.
func full(t *testing.T, h *host) {
	f := fault{condition: "filesystem-full", on: "volume/nvme0n1", severity: "warning", affected: map[string]string{behindCard.Name: "at-risk"}}
	h.fails(t, f, h.shell("cat /dev/zero >/srv/nvme/zeros; true"))
	h.heals(t, f, h.shell("rm /srv/nvme/zeros"))
}

// remount ends the domain whose image is on the NVMe drive, does something to the drive, and starts the domain again.
func (h *host) remount(t *testing.T, between string) func() error {
	return func() error {
		h.run(t, "virsh -q destroy "+behindCard.Name+"; umount /srv/nvme && "+between+" && mount -o errors=remount-ro /dev/nvme0n1 /srv/nvme && virsh -q start "+behindCard.Name)
		return nil
	}
}

// readOnly has the kernel find an error in a file system, which is repaired where it is not mounted. The error ends with
// the mount when the agent sees that there is none, else when somebody has seen it.
func readOnly(t *testing.T, h *host) {
	readOnly := fault{condition: "filesystem-read-only", on: "volume/nvme0n1", severity: "critical", affected: map[string]string{behindCard.Name: "failed"}}
	damaged := fault{condition: "filesystem-error", on: "volume/nvme0n1"}
	before := len(h.ops.All())
	h.fails(t, readOnly, h.shell("echo lab >/sys/fs/ext4/nvme0n1/trigger_fs_error"))
	raised := h.told(t, "raised", damaged, before)
	h.heals(t, readOnly, h.remount(t, "{ e2fsck -fy /dev/nvme0n1 >/dev/null 2>&1; test $? -le 1; }"))
	h.run(t, "paramedic ack "+raised.Data.Alarm.ID+" "+server+" || true")
	h.told(t, "cleared", damaged, before)
}

// failing is a drive that says it is no longer reliable.
func failing(t *testing.T, h *host) {
	f := fault{condition: "disk-failing", on: "disk/nvme0n1", severity: "warning", affected: map[string]string{behindCard.Name: "at-risk"}}
	h.fails(t, f, func() error { return h.Warn(1 << 2) })
	h.heals(t, f, func() error { return h.Warn(0) })
}

// gone has a drive vanish under a file system.
func gone(t *testing.T, h *host) {
	f := fault{condition: "gone", on: "disk/nvme0n1", severity: "critical", affected: map[string]string{behindCard.Name: "failed"}}
	h.fails(t, f, h.shell("echo 1 >/sys/class/nvme/nvme0/device/remove"))
	h.heals(t, f, h.remount(t, "echo 1 >/sys/bus/pci/rescan && { while [ ! -b /dev/nvme0n1 ]; do sleep 0.1; done; }"))
}
