#!/usr/bin/env bash
# Puts in place what the lab needs (docs/testing.md) and says what it does: Debian packages, and the kernel that
# test guests boot. It changes nothing, and asks for no network, when nothing is lacking.
set -euo pipefail

packages=(
	libvirt-daemon-system libvirt-clients libvirt-daemon-driver-qemu qemu-system-x86 qemu-utils
	busybox-static iproute2 nftables iptables ethtool socat tini cpio kmod xz-utils
	gcc libc6-dev make git curl jq ca-certificates
)
# What the guest's kernel needs as modules, in the order of loading; dependencies are found.
modules=(virtio_pci virtio_blk virtio_console virtio_net pvpanic-mmio i6300esb)
cache="${XDG_CACHE_HOME:-$HOME/.cache}/paramedic-lab"

say() { echo "deps: $*"; }
die() { echo "deps: $*" >&2; exit 1; }

update=
apt_update() {
	if [ -z "$update" ]; then
		say "apt-get update"
		apt-get -qq update || die "apt-get update failed: is a Debian mirror reachable, and /etc/apt/sources.list right?"
		update=done
	fi
}

# shellcheck disable=SC1091
. /etc/os-release 2>/dev/null || die "no /etc/os-release: the lab needs Debian 12 or later"
[ "${ID:-}" = debian ] || die "this is ${PRETTY_NAME:-unknown}: the lab needs Debian 12 or later. On another system install the like of: ${packages[*]}"
[ "${VERSION_ID:-99}" -ge 12 ] || die "this is ${PRETTY_NAME}: the lab needs Debian 12 or later"

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
	policy=/usr/sbin/policy-rc.d
	if [ ! -e "$policy" ]; then
		trap 'rm -f "$policy"' EXIT
		printf '#!/bin/sh\nexit 101\n' >"$policy"
		chmod 755 "$policy"
	fi
	DEBIAN_FRONTEND=noninteractive apt-get -qq -o Dpkg::Use-Pty=0 install -y --no-install-recommends "${missing[@]}" >/dev/null ||
		die "apt-get install failed"
	[ -z "$(trap -p EXIT)" ] || { rm -f "$policy"; trap - EXIT; }
fi

# --- the guest's kernel: unpacked beside the system, never installed
stamp="$cache/kernel"
if [ -s "$cache/vmlinux" ] && [ -s "$stamp" ] && [ -d "$cache/modules" ]; then
	say "nothing lacking (guest kernel $(cat "$stamp") in $cache)"
	exit 0
fi
image=$(apt-cache depends linux-image-amd64 2>/dev/null | sed -n 's/.*Depends: \(linux-image-[0-9].*-amd64\)$/\1/p' | head -n 1)
if [ -z "$image" ] && [ "$(id -u)" = 0 ]; then
	apt_update
	image=$(apt-cache depends linux-image-amd64 2>/dev/null | sed -n 's/.*Depends: \(linux-image-[0-9].*-amd64\)$/\1/p' | head -n 1)
fi
[ -n "$image" ] || die "apt knows no linux-image-amd64: run apt-get update as root first"
abi=${image#linux-image-}

mkdir -p "$cache"
work=$(mktemp -d "$cache/.unpack-XXXXXX")
trap 'rm -rf "$work"' EXIT
say "guest kernel: apt-get download $image (70 MB, unpacked into $cache; not installed)"
(
	cd "$work"
	if ! apt-get -qq -o APT::Sandbox::User=root download "$image" >/dev/null 2>&1; then
		[ "$(id -u)" != 0 ] || { apt_update; }
		apt-get -qq -o APT::Sandbox::User=root download "$image" >/dev/null || die "apt-get download $image failed"
	fi
	dpkg -x ./*.deb root
	rm -f ./*.deb
)
depmod -b "$work/root" "$abi"
mkdir "$work/modules"
n=10
for m in "${modules[@]}"; do
	while read -r verb file _; do
		[ "$verb" = insmod ] || continue
		name=$(basename "$file")
		compgen -G "$work/modules/*-$name" >/dev/null && continue
		cp "$file" "$work/modules/$n-$name"
		n=$((n + 1))
	done < <(modprobe -d "$work/root" -S "$abi" --show-depends "$m")
done
# An uncompressed kernel boots seconds faster under emulation. It stands in the bzImage as one xz stream; what
# follows the stream makes xz complain after the output is complete.
vmlinuz="$work/root/boot/vmlinuz-$abi"
for at in $(LC_ALL=C grep -aobP '\xFD7zXZ\x00' "$vmlinuz" | cut -d: -f1); do
	tail -c "+$((at + 1))" "$vmlinuz" | xz -dc --single-stream >"$work/vmlinux" 2>/dev/null || true
	[ "$(head -c 4 "$work/vmlinux" | tail -c 3)" != ELF ] || break
done
[ "$(head -c 4 "$work/vmlinux" | tail -c 3)" = ELF ] || die "no xz-compressed kernel found in $vmlinuz"
rm -rf "$cache/modules" "$cache/vmlinux" "$stamp"
mv "$work/modules" "$work/vmlinux" "$cache/"
echo "$abi" >"$stamp"
say "guest kernel $abi in $cache ($(du -shc "$cache/vmlinux" "$cache/modules" | tail -n 1 | cut -f1))"
