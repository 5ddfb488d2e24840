#!/usr/bin/env bash
# Makes what make vm boots: a small Debian 12 with systemd and libvirtd, as a file system in a file. It does nothing, and asks for no
# network, when there is one of this recipe.
set -euo pipefail
export LC_ALL=C
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin

packages=(systemd systemd-sysv udev dbus kmod iproute2 procps socat libvirt-daemon-system libvirt-daemon-driver-qemu polkitd)
# What a person at the machine would need, and what runs by the clock, would only cost time.
masked=(
	proc-sys-fs-binfmt_misc.automount sys-kernel-debug.mount sys-kernel-tracing.mount dev-hugepages.mount
	getty-static.service getty@tty1.service serial-getty@ttyS0.service systemd-logind.service systemd-update-utmp.service
	systemd-ask-password-console.path systemd-ask-password-wall.path libvirt-guests.service e2scrub_reap.service
	apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer fstrim.timer logrotate.timer
)

say() { echo "root: $*"; }
die() { echo "root: $*" >&2; exit 1; }

cache="${XDG_CACHE_HOME:-${HOME:-}/.cache}/paramedic-lab"
[ -s "$cache/kernel" ] && [ -d "$cache/host" ] || die "the guests' kernel is lacking in $cache: run make deps"
[ "$(id -u)" = 0 ] || die "run make vm as root: owners and rights in the file system are root's to give"
recipe=$(cat "$0" "$cache/kernel" "$cache/recipe" | sha256sum)
if [ -s "$cache/debian.img" ] && [ "$(cat "$cache/debian.recipe" 2>/dev/null)" = "$recipe" ]; then
	say "nothing lacking"
	exit 0
fi
work=$(mktemp -d "$cache/.root-XXXXXX")
trap 'rm -rf "$work"' EXIT

# The mirror that this machine's own packages come from.
site=$(apt-get indextargets --format '$(CODENAME) $(SITE)' 'Created-By: Packages' | sed -n 's/^bookworm //p' | head -n 1)
[ -n "$site" ] || die "apt has no lists of bookworm: run apt-get update, on Debian 12"
list=$(IFS=,; echo "${packages[*]}")
say "mmdebstrap bookworm from $site (some minutes): $list"
mmdebstrap --quiet --mode=root --variant=minbase --include="$list" --aptopt='APT::Install-Recommends "false"' bookworm "$work/root" "$site" >"$work/log" 2>&1 ||
	{ cat "$work/log" >&2; die "mmdebstrap failed: is a Debian mirror reachable? See /etc/apt/sources.list.d; behind a proxy, set http_proxy"; }

root=$work/root
mkdir -p "$root/usr/lib/modules"
cp -a "$cache/host/lib/modules/." "$root/usr/lib/modules/"
echo 0123456789abcdef0123456789abcdef >"$root/etc/machine-id" # one that has booted before: no first boot's work
echo vm-1 >"$root/etc/hostname"
printf '127.0.0.1 localhost\n127.0.1.1 vm-1\n' >"$root/etc/hosts"
for unit in "${masked[@]}"; do ln -sf /dev/null "$root/etc/systemd/system/$unit"; done
# The serial line is the tests': a command a line, answered with what it says and a line "=<number> <status>".
install -m 755 /dev/stdin "$root/usr/local/sbin/lab-line" <<'X'
#!/bin/bash
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TERM=dumb LC_ALL=C DEBIAN_FRONTEND=noninteractive
cd /root
exec </dev/ttyS0 >/dev/ttyS0 2>&1
stty -echo -onlcr -opost
while read -r number command; do
	case $number in *[!0-9]*|"") continue;; esac
	(eval "$command") </dev/null
	echo "=$number $?"
done
X
install -m 644 /dev/stdin "$root/etc/systemd/system/lab-line.service" <<'X'
[Unit]
DefaultDependencies=no
After=systemd-remount-fs.service
Conflicts=shutdown.target
[Service]
ExecStart=/usr/local/sbin/lab-line
Restart=always
KillMode=process
[Install]
WantedBy=sysinit.target
X
mkdir -p "$root/etc/systemd/system/sysinit.target.wants"
ln -s ../lab-line.service "$root/etc/systemd/system/sysinit.target.wants/lab-line.service"
# What its first file system loads to find the disk, numbered in the order of loading.
abi=$(cat "$cache/kernel")
mkdir "$work/disk"
cp "$cache"/boot/*-virtio*.ko "$work/disk/"
n=50
while read -r module; do
	compgen -G "$work/disk/*-$(basename "$module")" >/dev/null || cp "$module" "$work/disk/$((n++))-$(basename "$module")"
done < <(for m in virtio_blk ext4; do modprobe -d "$cache/host" -S "$abi" --show-depends "$m" | sed -n 's/^insmod \(\S*\).*/\1/p'; done)
truncate -s 1500M "$work/img"
mke2fs -q -t ext4 -O ^has_journal -d "$root" "$work/img"
rm -rf "$cache/disk"
mv "$work/disk" "$cache/disk"
mv "$work/img" "$cache/debian.img"
echo "$recipe" >"$cache/debian.recipe"
say "$cache/debian.img ($(du -sh "$cache/debian.img" | cut -f1))"
