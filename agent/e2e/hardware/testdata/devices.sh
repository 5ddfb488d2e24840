# What hangs on the hardware of the emulated host; it runs after each boot.
modprobe -a ipmi_si ipmi_devintf bonding 8021q bridge tun nvme raid1 ext4 mce-inject labedac

# A VLAN on a bond of two cards below one bridge, a card alone below the other.
ip link add bond0 type bond mode active-backup miimon 100
for link in eth1 eth2; do
	ip link set $link master bond0
	ip link set $link up
done
ip link add link bond0 name bond0.7 type vlan id 7
ip link add br0 type bridge
ip link add br1 type bridge
ip link set bond0.7 master br0
ip link set eth3 master br1
for link in bond0 bond0.7 br0 br1 eth3; do ip link set $link up; done

# A mirror of two disks, an NVMe drive, and where the agent keeps its state.
mdadm -q --assemble /dev/md0 /dev/vdb /dev/vdc 2>/dev/null ||
	mdadm -q --create /dev/md0 --run --level=1 --raid-devices=2 --assume-clean /dev/vdb /dev/vdc 2>/dev/null
volume() {
	mkdir -p "/srv/$2"
	mount -o errors=remount-ro "/dev/$1" "/srv/$2" 2>/dev/null && return
	mkfs.ext4 -q "/dev/$1"
	mount -o errors=remount-ro "/dev/$1" "/srv/$2"
}
volume md0 mirror
volume nvme0n1 nvme
volume vda state
truncate -s 1M /srv/mirror/vm-bond.img /srv/nvme/vm-card.img
