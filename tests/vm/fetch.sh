#!/usr/bin/env bash
# Gets what the guest is made of: QEMU and the headers of the guest's kernel are installed here (the
# module must be built against them), the rest is only unpacked below $REFCLOCKD_VM/root, so that no
# chronyd or gpsd is ever started on this machine.
set -euo pipefail
vm=${REFCLOCKD_VM:-${XDG_CACHE_HOME:-$HOME/.cache}/refclockd-vm}
mkdir -p "$vm/packages"

if [ -e "$vm/fetched" ] && [ -e "$vm/root/boot/vmlinuz-$(sed s/-cloud// "$vm/fetched")" ] &&
    command -v qemu-system-x86_64 > /dev/null; then
    echo "kernel $(cat "$vm/fetched") is there already; remove $vm to begin again"
    exit 0
fi

sudo=()
[ "$(id -u)" = 0 ] || sudo=(sudo)
export DEBIAN_FRONTEND=noninteractive

# Old lists name kernels that the archive has replaced since.
"${sudo[@]}" apt-get -qq update

# The cloud kernel: small, boots in a second of guest time, has PPS and its line discipline.
kernel=$(apt-cache depends linux-image-cloud-amd64 | sed -n 's/.*Depends: linux-image-//p')
[ -n "$kernel" ] || { echo "apt knows no linux-image-cloud-amd64: this needs Debian on x86-64" >&2; exit 1; }

"${sudo[@]}" apt-get -y -qq -o DPkg::Lock::Timeout=300 install --no-install-recommends \
    qemu-system-x86 "linux-headers-$kernel" gcc make > "$vm/apt.log" 2>&1 ||
    { tail -5 "$vm/apt.log" >&2; exit 1; }

# The full kernel of the same version has a parallel port and its pulse besides.
full=${kernel/-cloud/}

# chronyd (the yardstick) and gpsd (which gives it the name of the second), with their libraries;
# the list is what `ldd` asks for beyond a bare Debian.
packages=(
    "linux-image-$kernel" "linux-image-$full" "linux-headers-$full" busybox-static util-linux chrony gpsd
    libgps28 libnettle8 libhogweed6 libgnutls30 libcap2 libseccomp2 libp11-kit0 libidn2-0
    libunistring2 libtasn1-6 libgmp10 libffi8 libedit2 libtinfo6 libbsd0 libmd0 libusb-1.0-0
    libbluetooth3 libdbus-1-3 libudev1 libsystemd0 libgcrypt20 liblzma5 libzstd1 liblz4-1
    libgpg-error0 libc6 libgcc-s1
)
cd "$vm/packages"
# apt warns that its sandbox user cannot write here; only a failure is worth showing.
apt-get -qq download "${packages[@]}" 2> "$vm/download.log" || { cat "$vm/download.log" >&2; exit 1; }
rm -rf "$vm/root"
mkdir -p "$vm/root"
for package in ./*.deb; do dpkg-deb -x "$package" "$vm/root"; done
# The headers of the full kernel are not installed; what they share with the others is.
for kbuild in /usr/lib/linux-kbuild-*; do ln -sfn "$kbuild" "$vm/root/usr/lib/"; done
echo "$kernel" > "$vm/fetched"
echo "kernel $kernel and ${#packages[@]} packages are below $vm"
