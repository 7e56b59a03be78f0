#!/bin/sh
# Fetches the real programs that the tests talk to (chrony, NTPsec, gpsd, tshark) as the packages of the
# Debian or Ubuntu release this runs on, and unpacks them into a folder. Nothing is installed: no
# maintainer script runs and no service is started. No privileges are needed.
#
#   eval "$(tests/peers/fetch.sh FOLDER)"
#
# prints the variables that the tests look for. What is in FOLDER already is not fetched again.
set -eu

folder=${1:?"usage: fetch.sh FOLDER"}
mkdir -p "$folder/debs" "$folder/root" "$folder/bin"
folder=$(cd "$folder" && pwd)
packages="chrony ntpsec ntpsec-ntpdig python3-ntp gpsd gpsd-clients gpsd-tools tshark wireshark-common"

# The shared libraries that these packages want and a bare system may lack.
closure() {
    todo=$1 seen=' '
    while [ -n "$todo" ]; do
        next=
        for package in $todo; do
            case $seen in *" $package "*) continue ;; esac
            seen="$seen$package "
            next="$next $(apt-cache depends --no-recommends --no-suggests --no-conflicts --no-breaks \
                --no-replaces --no-enhances "$package" |
                sed -n 's/^ *|\{0,1\}Depends: \(lib[a-z0-9.+-]*\)$/\1/p' |
                grep -Ev '^(libc6|libgcc-s1|libstdc\+\+6|libcrypt1)$' || true)"
        done
        todo=$(echo "$next" | xargs)
    done
    echo "$seen"
}

if [ ! -e "$folder/complete" ]; then
    # gpsd-tools came with Debian 12.
    available=
    for package in $packages; do
        if apt-cache show "$package" >/dev/null 2>&1; then
            available="$available $package"
        elif [ "$package" != gpsd-tools ]; then
            echo "fetch.sh: apt knows no package $package; run apt-get update?" >&2
            exit 1
        fi
    done
    wanted=$(closure "$available")
    # shellcheck disable=SC2086
    (cd "$folder/debs" && apt-get download $wanted) >&2
    for deb in "$folder"/debs/*.deb; do
        dpkg-deb -x "$deb" "$folder/root"
    done
    # ntpsec's Python looks for its library beside itself before it looks in the system.
    library=$(find "$folder/root/usr/lib" -name libntpc.so | head -n 1)
    [ -z "$library" ] || ln -sf "$library" "$folder/root/usr/lib/python3/dist-packages/ntp/libntpc.so"
    touch "$folder/complete"
fi

# A wrapper for each program that finds its libraries; exec keeps the process ID.
libraries=$(find "$folder/root/lib" "$folder/root/usr/lib" -name 'lib*.so*' -exec dirname {} + 2>/dev/null |
    grep -v dist-packages | sort -u | paste -sd: -)
for program in usr/sbin/chronyd usr/bin/chronyc usr/bin/ntpdig usr/bin/ntpq usr/sbin/ntpd usr/sbin/gpsd \
    usr/bin/gpspipe usr/bin/ntpshmmon usr/bin/gpsfake usr/bin/tshark usr/bin/dumpcap; do
    [ -e "$folder/root/$program" ] || continue
    name=$(basename "$program")
    interpreter=
    case $(head -c 2 "$folder/root/$program") in '#!') interpreter=/usr/bin/python3 ;; esac
    cat >"$folder/bin/$name" <<WRAPPER
#!/bin/sh
export LD_LIBRARY_PATH='$libraries'
export WIRESHARK_DATA_DIR='$folder/root/usr/share/wireshark'
export PYTHONPATH='$folder/root/usr/lib/python3/dist-packages'"\${PYTHONPATH:+:\$PYTHONPATH}"
exec $interpreter '$folder/root/$program' "\$@"
WRAPPER
    chmod +x "$folder/bin/$name"
    echo "export REFCLOCKD_$(echo "$name" | tr '[:lower:]' '[:upper:]')='$folder/bin/$name'"
done
