#!/usr/bin/env bash
# The drivers built and tested as a 32-bit program, beside a C compiler's layouts of that word size:
# a Raspberry Pi OS of 32 bits has other ioctl numbers, shared memory and datagrams than one of 64.
set -euo pipefail
cd "$(dirname "$0")/.."
target=i686-unknown-linux-gnu

if ! echo 'int main(void){return 0;}' | cc -m32 -x c - -o /dev/null 2>/dev/null; then
    sudo=()
    [ "$(id -u)" = 0 ] || sudo=(sudo)
    "${sudo[@]}" apt-get -qq update
    "${sudo[@]}" apt-get -y -qq -o DPkg::Lock::Timeout=300 install --no-install-recommends gcc-multilib
fi
rustup target list --installed | grep -qx "$target" || rustup target add "$target"
cargo test -p refclocks --all-features --target "$target" --lib --test serial
