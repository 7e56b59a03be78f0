#!/usr/bin/env bash
# run.sh KIT CLKNETSIM CHRONYD [OPTION...]: refclockd beside chronyd in the simulator, as README.md
# says. The options are those of the kit's bench.py, e.g. --only pps,lan --seeds 1,2,3.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
kit=$(realpath "$1") clknetsim=$(realpath "$2") chronyd=$(realpath "$3")
shift 3
daemon=${REFCLOCKD:-$here/../../target/release/refclockd}

# Clients of the simulator must not be root: what they load lies where everybody may read it.
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
chmod 755 "$folder"
mkdir -m 1777 "$folder/work"
cp "$clknetsim/clknetsim" "$clknetsim/clknetsim.so" "$chronyd" "$daemon" "$folder/"
${CC:-cc} -O2 -Wall -fPIC -shared -o "$folder/shmctl.so" "$here/shmctl.c"

# What comes last in front of the program wins: the bench's own preloads, and ours before them.
preload="$folder/shmctl.so:$folder/simshim.so:$folder/clknetsim.so"
python3 "$kit/bench.py" --clknetsim "$folder" --chronyd "$folder/$(basename "$chronyd")" \
    --shim "$folder/simshim.so" --work "$folder/work" \
    --candidate-cmd "LD_PRELOAD=$preload $folder/$(basename "$daemon") run --single-thread -c {conf}" \
    --candidate-templates "$here/refclockd" "$@"
