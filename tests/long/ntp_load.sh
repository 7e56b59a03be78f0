#!/bin/sh
# One worker of refclockd beside chronyd, saturated in turn over a wire of namespaces: server on one core,
# generator on the other, both in real time, so that what else the machine does hardly counts.
#
#   eval "$(tests/peers/fetch.sh FOLDER)"
#   cargo build --release
#   NTPBENCH=PROGRAM tests/long/ntp_load.sh [GENERATOR OPTIONS] > results
#
# PROGRAM keeps 128 requests under way (--server, --window, --secs, --cpu, --label) and prints one line of JSON,
# with reply_rate and the errors of the server's stamps. Needs root; no clock is touched.
set -eu
: "${NTPBENCH:?a load generator}" "${REFCLOCKD_CHRONYD:?see tests/peers/fetch.sh}"
refclockd=${REFCLOCKD:-target/release/refclockd}
folder=$(mktemp -d)
chmod 700 "$folder"
here=refclockd-load-a there=refclockd-load-b
finish() {
    [ -z "${chronyd:-}" ] || kill "$chronyd" 2>/dev/null || true
    [ -z "${ours:-}" ] || kill "$ours" 2>/dev/null || true
    ip netns del $here 2>/dev/null || true
    ip netns del $there 2>/dev/null || true
    rm -rf "$folder"
}
trap finish EXIT
ip netns add $here
ip netns add $there
ip link add va netns $here type veth peer name vb netns $there
ip -n $here link set lo up
ip -n $there link set lo up
ip -n $here addr add 10.77.0.1/24 dev va
ip -n $there addr add 10.77.0.2/24 dev vb
ip -n $here link set va up
ip -n $there link set vb up

echo "5 AES128 HEX:00112233445566778899aabbccddeeff" >"$folder/keys"
chmod 600 "$folder/keys"
cat >"$folder/chrony.conf" <<CONF
local stratum 2
allow 10.77.0.0/24
port 1123
keyfile $folder/keys
cmdport 0
bindcmdaddress /
pidfile $folder/pid
CONF
cat >"$folder/refclockd.toml" <<CONF
[local]
stratum = 2
[keys]
file = "$folder/keys"
[state]
dir = "$folder/state"
[control]
socket = "$folder/api.sock"
[process]
user = "root"
sandbox = false
[serve]
listen = ["10.77.0.1:2123"]
allow = ["10.77.0.0/24"]
CONF
on_core() { exec ip netns exec "$1" chrt -f 5 taskset -c "$2" "$3" $4; }
on_core $here 1 "$REFCLOCKD_CHRONYD" "-x -d -U -u root -f $folder/chrony.conf" >"$folder/chronyd.log" 2>&1 &
chronyd=$!
on_core $here 1 "$refclockd" "run -c $folder/refclockd.toml" >"$folder/refclockd.log" 2>&1 &
ours=$!
sleep 3
for _ in 1 2 3 4 5 6 7; do
    for server in chronyd:1123 refclockd:2123; do
        ip netns exec $there chrt -f 5 "$NTPBENCH" --server "10.77.0.1:${server#*:}" --window 128 --secs 1 --cpu 0 \
            --label "${server%:*}" "$@"
        sleep 0.2
    done
done
