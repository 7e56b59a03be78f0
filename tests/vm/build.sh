#!/usr/bin/env bash
# Builds the guest: the module, the programs beside the daemon, the daemon itself (release), and one
# uncompressed cpio of it all, which the emulated kernel unpacks faster than a compressed one.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
project=$(cd "$here/../.." && pwd)
vm=${REFCLOCKD_VM:-${XDG_CACHE_HOME:-$HOME/.cache}/refclockd-vm}
[ -e "$vm/fetched" ] || { echo "run tests/vm/fetch.sh first" >&2; exit 1; }
kernel=$(cat "$vm/fetched") root=$vm/root guest=$vm/guest

# The sources are copied out, so that the project stays clean; one copy for each kernel.
full=${kernel/-cloud/}
for headers in "/lib/modules/$kernel/build" "$root/usr/src/linux-headers-$full"; do
    module=$vm/module; [ "$headers" = "/lib/modules/$kernel/build" ] || module=$vm/module-full
    rm -rf "$module"
    cp -r "$here/module" "$module"
    make -s -C "$headers" M="$module" modules 2>&1 | grep -vi btf || true
done

(cd "$project" && cargo build --release -p refclockd -p vm-guest)
built=$(cd "$project" && cargo metadata --format-version 1 --no-deps | sed 's/.*"target_directory":"\([^"]*\)".*/\1/')/release

rm -rf "$guest"
mkdir -p "$guest"/{bin,sbin,etc,dev,proc,sys,run,tmp,var/lib/chrony,var/lib/refclockd,lib64,lib/x86_64-linux-gnu,modules}
cp "$root/bin/busybox" "$guest/bin/"
for applet in $("$root/bin/busybox" --list); do
    [ -e "$guest/bin/$applet" ] || ln -s busybox "$guest/bin/$applet"
done
# A rival that we did not ask for must not be found by mistake.
rm -f "$guest/bin/ntpd"

# A program, and every library that it names: Debian's from the unpacked packages, ours from here.
put() {
    cp "$1" "$guest/bin/"
    LD_LIBRARY_PATH=$2 ldd "$1" | awk '/=> \//{print $3} /^\t\/lib64/{print $1}' | while read -r library; do
        case $library in
            /lib64/*) cp -nL "$library" "$guest/lib64/" ;;
            *) cp -nL "$library" "$guest/lib/x86_64-linux-gnu/" ;;
        esac
    done
}
strip -g -o "$vm/refclockd" "$built/refclockd"
put "$vm/refclockd" ""
put "$built/vm-guest" ""
for program in usr/sbin/chronyd usr/sbin/gpsd usr/sbin/ldattach; do
    put "$root/$program" "$root/lib/x86_64-linux-gnu:$root/usr/lib/x86_64-linux-gnu"
done
cp "$(find "$root/lib/modules/$kernel" -name pps-ldisc.ko)" "$guest/modules/"
for module in vmpulse vmwire; do
    strip -g -o "$guest/modules/$module.ko" "$vm/module/$module.ko"
done
# Scenarios that need the full kernel find its modules in a folder of their own.
mkdir "$guest/modules/full"
strip -g -o "$guest/modules/full/vmpulse.ko" "$vm/module-full/vmpulse.ko"
for module in parport parport_pc pps_parport; do
    cp "$(find "$root/lib/modules/$full" -name "$module.ko")" "$guest/modules/full/"
done
cp "$root/boot/vmlinuz-$full" "$vm/vmlinuz-full"
# The daemon is started as root and becomes an ordinary user.
printf '%s\n' 'root:x:0:0:root:/:/bin/sh' 'refclockd:x:990:990::/:/bin/false' > "$guest/etc/passwd"
printf '%s\n' 'root:x:0:' 'refclockd:x:990:' > "$guest/etc/group"
cp "$here/init" "$guest/init"
cp -r "$here/scenarios" "$guest/scenarios"
cp "$root/boot/vmlinuz-$kernel" "$vm/vmlinuz"
(cd "$guest" && find . | "$root/bin/busybox" cpio -o -H newc 2> /dev/null) > "$vm/initramfs.cpio"
