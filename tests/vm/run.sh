#!/usr/bin/env bash
# run.sh SCENARIO [SEED]: boots the guest, runs scenarios/SCENARIO in it, shows its console, and ends
# with 0 only if it passed. DAEMON=chronyd runs the yardstick instead of us, where that makes sense;
# STAMPS=kernel leaves the stamps of network cards unused, where there are any.
#
# Guest time is counted in instructions and jumps over what is idle: an hour of a quiet guest takes
# less than a minute here, and this machine's load cannot disturb it.
set -euo pipefail
vm=${REFCLOCKD_VM:-${XDG_CACHE_HOME:-$HOME/.cache}/refclockd-vm}
scenario=$1 seed=${2:-1} daemon=${DAEMON:-refclockd}
log=$vm/$scenario.$seed.$daemon.log
# A scenario names the kernel that it needs, and what the machine has besides, in its text.
here=$(cd "$(dirname "$0")" && pwd)
named() { sed -n "s/^# $1: //p" "$here/scenarios/$scenario"; }
begin=$SECONDS
set +e
timeout -k 5 "${LIMIT:-900}" qemu-system-x86_64 -accel tcg -machine q35 -cpu max -smp 1 -m 256 \
    $(named machine) ${EXTRA:-} -nodefaults -display none -no-reboot -serial stdio \
    -icount shift=1,sleep=off -rtc base="${RTC:-2026-06-30T12:00:00}",clock=vm \
    -chardev null,id=gps -device isa-serial,chardev=gps \
    -kernel "$vm/$(kernel=$(named kernel); echo "${kernel:-vmlinuz}")" -initrd "$vm/initramfs.cpio" \
    -append "console=ttyS0 quiet panic=-1 mitigations=off random.trust_cpu=on scenario=$scenario seed=$seed daemon=$daemon stamps=${STAMPS:-hardware}" \
    < /dev/null | tr -d '\r' | sed -u 's/\x1b[c\[][?0-9;]*[A-Za-z]*//g' | tee "$log"
set -e
echo "$scenario, seed $seed, $daemon: $((SECONDS - begin)) s here"
grep -q '^RESULT PASS' "$log"
