#!/usr/bin/env bash
# Puts in place what the lab needs (docs/testing.md) and says what it does: Debian packages, and the kernel that
# test guests boot. It changes nothing, and asks for no network, when nothing is lacking.
set -euo pipefail
export LC_ALL=C                # what apt answers is read below
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin # su without "-" leaves them out

packages=(
	libvirt-daemon-system libvirt-clients libvirt-daemon-driver-qemu qemu-system-x86 qemu-utils
	openvswitch-switch openvswitch-switch-dpdk librte-net-null23 librte-mempool-ring23 openipmi ipmitool
	busybox-static iproute2 nftables iptables ethtool socat tini dbus-daemon cpio kmod xz-utils
	gcc libc6-dev make git curl jq ca-certificates python3
	prometheus prometheus-node-exporter prometheus-alertmanager
	mdadm e2fsprogs mmdebstrap lintian rpm rpmlint tmux
)
# What the guest's kernel needs as modules, in the order of loading; dependencies are found.
modules=(virtio_pci virtio_blk virtio_console virtio_net pvpanic-mmio i6300esb)
# What an emulated compute host boots with, in that order, and what it can load besides.
boot=(virtio_pci 9pnet_virtio 9p overlay)
more=(virtio_blk virtio_net bonding 8021q bridge tun ipmi_si ipmi_devintf nvme raid1 ext4 mce-inject)

say() { echo "deps: $*"; }
die() { echo "deps: $*" >&2; exit 1; }

trash=()
trap 'rm -rf "${trash[@]}"' EXIT

# apt waits for another apt (a fresh machine upgrades itself), gives up on a dead mirror, and is silent unless it fails.
log=$(mktemp)
trash+=("$log")
apt() {
	DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0 -o APT::Sandbox::User=root \
		-o Acquire::http::Timeout=15 -o Acquire::https::Timeout=15 -o Acquire::Retries=2 "$@" >"$log" 2>&1 || { cat "$log" >&2; return 1; }
}
mirror="is a Debian mirror reachable? See /etc/apt/sources.list and sources.list.d; behind a proxy, Acquire::http::Proxy in /etc/apt/apt.conf.d"

update=
apt_update() {
	[ -z "$update" ] || return 0
	update=done
	say "apt-get update"
	apt update --error-on=any && return
	# Not the end when one list of somebody else's is broken, or older ones are there.
	apt-cache show "${packages[0]}" >/dev/null 2>&1 || die "apt-get update failed: $mirror"
	say "apt-get update failed; going on with what apt knows"
}

[ -r /etc/os-release ] || die "no /etc/os-release: the lab needs Debian 12 or later"
# shellcheck disable=SC1091
. /etc/os-release
[ "${ID:-}" = debian ] || die "this is ${PRETTY_NAME:-unknown}: the lab needs Debian 12 or later. On another system install the like of: ${packages[*]}"
[ "${VERSION_ID:-99}" -ge 12 ] || die "this is ${PRETTY_NAME:-Debian $VERSION_ID}: the lab needs Debian 12 or later"
[ "$(dpkg --print-architecture)" = amd64 ] || die "this is $(dpkg --print-architecture): the lab's guests need amd64"
[ -n "${XDG_CACHE_HOME:-${HOME:-}}" ] || die "neither HOME nor XDG_CACHE_HOME is set: no place for the guests' kernel"
cache="${XDG_CACHE_HOME:-${HOME:-}/.cache}/paramedic-lab"

# --- packages
missing=()
for p in "${packages[@]}"; do
	[ "$(dpkg-query -W -f '${db:Status-Status}' "$p" 2>/dev/null)" = installed ] || missing+=("$p")
done
if [ ${#missing[@]} -gt 0 ]; then
	[ "$(id -u)" = 0 ] || die "lacking: ${missing[*]}. Run make deps as root, or: apt-get install --no-install-recommends ${missing[*]}"
	apt_update
	say "apt-get install --no-install-recommends ${missing[*]}"
	# No service may start on this machine: the lab runs its own libvirtd. The policy is ours only while we install.
	policy=/usr/sbin/policy-rc.d ours=
	if [ ! -e "$policy" ]; then
		ours=$policy
		trash+=("$policy")
		printf '#!/bin/sh\n# paramedic, make deps\nexit 101\n' >"$policy"
		chmod 755 "$policy"
	fi
	apt install -y --no-install-recommends "${missing[@]}" || die "apt-get install failed: $mirror"
	[ -z "$ours" ] || rm -f "$ours"
	say "those of them that are services start with the next boot, as Debian has it: systemctl disable what is not wanted"
fi

# --- the guest's kernel: unpacked beside the system, never installed
# The memory controller of emulated hosts is a module of ours, built for that kernel.
controller=$(dirname "$0")/../agent/e2e/lab/edac/labedac.c
recipe=$(cat "$controller" - <<<"${modules[*]} / ${boot[*]} / ${more[*]}" | sha256sum)
stamp="$cache/kernel"
if [ -s "$cache/vmlinux" ] && [ -s "$stamp" ] && [ -d "$cache/modules" ] && [ "$(cat "$cache/recipe" 2>/dev/null)" = "$recipe" ]; then
	say "nothing lacking (guest kernel $(cat "$stamp") in $cache)"
	exit 0
fi
newest() { apt-cache depends linux-image-amd64 2>/dev/null | sed -n 's/.*Depends: \(linux-image-[0-9].*-amd64\)$/\1/p' | head -n 1; }

image=$(newest)
if [ -z "$image" ] && [ "$(id -u)" = 0 ]; then
	apt_update
	image=$(newest)
fi
[ -n "$image" ] || die "apt knows no linux-image-amd64: run apt-get update as root first; $mirror"
abi=${image#linux-image-}

mkdir -p "$cache"
work=$(mktemp -d "$cache/.unpack-XXXXXX")
trash+=("$work")
say "guest kernel: apt-get download $image (70 MB, unpacked into $cache; not installed)"
controller=$(realpath "$controller")
cd "$work"
if ! apt download "$image"; then
	# The lists may name a version that the mirror has replaced since.
	[ "$(id -u)" = 0 ] || die "apt-get download $image failed: run apt-get update as root first; $mirror"
	apt_update
	image=$(newest)
	abi=${image#linux-image-}
	apt download "$image" || die "apt-get download $image failed: $mirror"
fi
# What the module is built with: the kernel's headers, and the programs that go with them.
headers=linux-headers-$abi
kbuild=$(apt-cache depends "$headers" | sed -n 's/.*Depends: \(linux-kbuild-.*\)$/\1/p')
common=$(apt-cache depends "$headers" | sed -n 's/.*Depends: \(linux-headers-.*-common\)$/\1/p')
apt download "$headers" "$common" "$kbuild" || die "apt-get download $headers $common $kbuild failed: $mirror"
for deb in ./*.deb; do dpkg -x "$deb" root; done
rm -f ./*.deb
depmod -b "$work/root" "$abi"
# files names what is loaded for modules, their dependencies before them.
files() {
	local m
	for m in "$@"; do
		modprobe -d "$work/root" -S "$abi" --show-depends "$m" | sed -n 's/^insmod \(\S*\).*/\1/p'
	done
}
# flat copies them into a directory, numbered in the order of loading.
flat() {
	local to=$1 n=10 file name
	shift
	mkdir "$to"
	while read -r file; do
		name=$(basename "$file")
		compgen -G "$to/*-$name" >/dev/null && continue
		cp "$file" "$to/$n-$name"
		n=$((n + 1))
	done < <(files "$@")
}
flat "$work/modules" "${modules[@]}"
flat "$work/boot" "${boot[@]}"
src=$(realpath "$work/root/usr/src")
say "the memory controller of emulated hosts: a module for $abi"
mkdir "$work/edac"
cp "$controller" "$work/edac/"
echo 'obj-m := labedac.o' >"$work/edac/Makefile"
sed -i "s|^include /usr/src/|include $src/|" "$src/$headers/Makefile"
make -s -C "$src/$headers" M="$work/edac" CC=gcc modules >"$log" 2>&1 || { cat "$log" >&2; die "the module does not build"; }
# A tree of modules as the machine's own, with what is needed.
tree=$work/host/lib/modules/$abi
mkdir -p "$tree"
cp "$work/root/lib/modules/$abi"/modules.{order,builtin,builtin.modinfo} "$tree/"
for file in $(files "${boot[@]}" "${more[@]}") "$work/edac/labedac.ko"; do cp "$file" "$tree/"; done
depmod -b "$work/host" "$abi"
# An uncompressed kernel boots seconds faster under emulation. It stands in the bzImage as one xz stream; what
# follows the stream makes xz complain after the output is complete.
vmlinuz="$work/root/boot/vmlinuz-$abi"
for at in $(grep -aobP '\xFD7zXZ\x00' "$vmlinuz" | cut -d: -f1); do
	tail -c "+$((at + 1))" "$vmlinuz" | xz -dc --single-stream >"$work/vmlinux" 2>/dev/null || true
	[ "$(head -c 4 "$work/vmlinux" | tail -c 3)" != ELF ] || break
done
[ "$(head -c 4 "$work/vmlinux" | tail -c 3)" = ELF ] || die "no xz-compressed kernel found in $vmlinuz"
rm -rf "$cache"/{modules,boot,host,vmlinux,kernel,recipe}
mv "$work"/{modules,boot,host,vmlinux} "$cache/"
echo "$abi" >"$stamp"
echo "$recipe" >"$cache/recipe"
say "guest kernel $abi in $cache ($(du -shc "$cache"/{vmlinux,modules,boot,host} | tail -n 1 | cut -f1))"
