#!/usr/bin/env bash
# Every scenario of the virtual machine, those with noise for five seeds, and chronyd in the same
# machine beside us; prints what docs/vm.md holds. Ends with 0 only if every bar is held. About a quarter
# of an hour on two quiet cores; the bars do not depend on how quiet they are.
#
#   SEEDS="1 2 3 4 5" JOBS=2 tests/long/vm.sh
set -euo pipefail
vm_tests=$(cd "$(dirname "$0")/../vm" && pwd)
vm=${REFCLOCKD_VM:-${XDG_CACHE_HOME:-$HOME/.cache}/refclockd-vm}
read -ra seeds <<< "${SEEDS:-1 2 3 4 5}"
once=(frequency-step stepped hung slept paused leap-insert leap-delete leap-slew leap-step leap-after-step leap-warning
    wrong-week year-1970 realtime-away no-messages no-sky hardware-stamps hardware-served)
missed=0

# log SCENARIO SEED DAEMON
log() { echo "$vm/$1.$2.$3.log"; }

# field FILE LINE NAME: a number of the log's LINEth verdict.
field() { grep '^{' "$1" | sed -n "$2p" | sed -n "s/.*\"$3\":\(-\{0,1\}[0-9.]*\).*/\1/p" | cut -d. -f1; }

# passed FILE: yes, or why not.
passed() {
    if grep -q '^RESULT PASS' "$1"; then echo yes; else grep -m1 '^FAILED' "$1" || echo "no result"; fi
}

mean() { awk '{ sum += $1 } END { printf "%.0f", sum / NR }'; }

# bar WHAT VALUE LIMIT: both may have fractions.
bar() {
    awk -v value="$2" -v limit="$3" 'BEGIN { exit !(value <= limit) }' && return 0
    echo "MISSED: $1 is $2, and may be $3 at most"
    missed=$((missed + 1))
}

# judge SCENARIO SEED: our verdict counts.
judge() {
    [ "$(passed "$(log "$1" "$2" refclockd)")" = yes ] && return 0
    echo "MISSED: $1, seed $2: $(passed "$(log "$1" "$2" refclockd)")"
    missed=$((missed + 1))
}

# beside SCENARIO: noise and chronyd's, seed by seed. The verdict of line 1 counts from the 60th second.
beside() {
    echo "| seed | rms 60 to 360 s, ns | greatest from 60 s on, ns | chronyd: rms, ns | greatest, ns | rms, ratio |"
    echo "|---|---|---|---|---|---|"
    local ours=() theirs=()
    for seed in "${seeds[@]}"; do
        local us chronyd
        us=$(log "$1" "$seed" refclockd) chronyd=$(log "$1" "$seed" chronyd)
        ours+=("$(field "$us" 1 rms_after_60s_ns)") theirs+=("$(field "$chronyd" 1 rms_after_60s_ns)")
        echo "$seed ${ours[-1]} $(field "$us" 1 max_after_60s_ns) ${theirs[-1]} $(field "$chronyd" 1 max_after_60s_ns)" |
            awk '{ printf "| %s | %s | %s | %s | %s | %.2f |\n", $1, $2, $3, $4, $5, $2 / $4 }'
        judge "$1" "$seed"
    done
    local our_mean their_mean ratio
    our_mean=$(printf '%s\n' "${ours[@]}" | mean) their_mean=$(printf '%s\n' "${theirs[@]}" | mean)
    ratio=$(awk "BEGIN { printf \"%.3f\", $our_mean / $their_mean }")
    echo "| mean | $our_mean | | $their_mean | | $ratio |"
    bar "$1: ratio to chronyd's rms" "$ratio" 0.8
    [ "$1" != start ] || bar "$1: mean rms, ns" "$our_mean" 449
}

# back: ten minutes without pulses, and afterwards.
back() {
    echo "| seed | daemon | greatest in the outage, ns | bound at its end, ns | greatest 10 to 60 s after, ns | rms 60 to 360 s after, ns |"
    echo "|---|---|---|---|---|---|"
    for seed in "${seeds[@]}"; do
        for daemon in refclockd chronyd; do
            local file
            file=$(log no-pulse "$seed" "$daemon")
            echo "| $seed | $daemon | $(field "$file" 2 max_ns) | $(field "$file" 2 final_bound_ns) | $(field "$file" 4 max_ns) | $(field "$file" 5 rms_ns) |"
        done
        judge no-pulse "$seed"
    done
}

# floods: the clock under a flood beside itself at rest, with the same noise.
floods() {
    echo "| seed | at rest: rms 60 to 360 s, ns | under floods: rms, ns | greatest, ns | rms, ratio |"
    echo "|---|---|---|---|---|"
    local rest=() flood=()
    for seed in "${seeds[@]}"; do
        local file
        file=$(log flood "$seed" refclockd)
        rest+=("$(field "$(log start "$seed" refclockd)" 1 rms_after_60s_ns)") flood+=("$(field "$file" 1 rms_after_60s_ns)")
        echo "$seed ${rest[-1]} ${flood[-1]} $(field "$file" 1 max_after_60s_ns)" |
            awk '{ printf "| %s | %s | %s | %s | %.2f |\n", $1, $2, $3, $4, $3 / $2 }'
        judge flood "$seed"
    done
    local ratio
    ratio=$(awk "BEGIN { printf \"%.3f\", $(printf '%s\n' "${flood[@]}" | mean) / $(printf '%s\n' "${rest[@]}" | mean) }")
    echo "| mean | | | | $ratio |"
    bar "rms under floods, ratio to rest" "$ratio" 1.1
}

"$vm_tests/fetch.sh"
"$vm_tests/build.sh"
{
    for seed in "${seeds[@]}"; do
        for scenario in start dcd parport no-pulse; do
            for daemon in refclockd chronyd; do echo "$daemon $scenario $seed"; done
        done
        echo "refclockd flood $seed"
    done
    for scenario in "${once[@]}"; do echo "refclockd $scenario 1"; done
} | LIMIT=${LIMIT:-3600} xargs -P "${JOBS:-1}" -L 1 sh -c \
    'DAEMON=$1 "$0/run.sh" "$2" "$3" > /dev/null 2>&1; echo "$1 $2, seed $3: done" >&2' "$vm_tests" || true

cat << END
$(date -u +%F), refclockd $(git -C "$vm_tests" rev-parse --short HEAD), kernel $(cat "$vm/fetched"), $(
    qemu-system-x86_64 --version | head -1), $("$vm/guest/bin/chronyd" --version 2> /dev/null | head -1 || echo chronyd)

### The pulse as a PPS device

END
beside start
printf '\n### The pulse on DCD, by the line discipline\n\n'
beside dcd
printf '\n### The pulse on a parallel port, by pps_parport\n\n'
beside parport
printf '\n### Ten minutes without pulses, after an hour of lock\n\n'
back
printf '\n### Floods on the NTP port\n\n'
floods
printf '\n### The rest\n\n| scenario | passed | what it shows |\n|---|---|---|\n'
for scenario in "${once[@]}"; do
    what=$(sed '/^#/!Q; s/^# //' "$vm_tests/scenarios/$scenario" | tr '\n' ' ')
    echo "| $scenario | $(passed "$(log "$scenario" 1 refclockd)") | ${what% } |"
done
for scenario in "${once[@]}"; do judge "$scenario" 1; done
exit $((missed > 0))
