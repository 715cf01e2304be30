#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
# Times qemu-persist beside Debian's systemd-binfmt, on the same rules and in one run: the rules of
# Debian's qemu-user-static, in a user namespace whose table nobody else sees. Ratios count, since
# machines are noisy. Usage: tests/bench.sh [RUNS]
set -eu
here=$(dirname "$(readlink -f "$0")")
runs=${1:-100}
program=$here/../target/release/qemu-persist

if [ "${QEMU_PERSIST_BENCH:-}" != inside ]; then
    for tool in hyperfine strace /usr/bin/time /usr/lib/systemd/systemd-binfmt /usr/bin/qemu-aarch64-static \
        docker-registry skopeo; do
        command -v "$tool" >/dev/null || {
            echo "$tool is missing: sudo apt-get install hyperfine strace time systemd qemu-user-static docker-registry skopeo" >&2
            exit 1
        }
    done
    cargo build --release --manifest-path "$here/../Cargo.toml"
    # As it is packaged.
    cargo build --release --no-default-features --bin qemu-persistd --manifest-path "$here/../Cargo.toml"
    cargo bench --no-run --bench latency --manifest-path "$here/../Cargo.toml"
    echo "== the self-test, with Docker"
    cargo bench --quiet --manifest-path "$here/../Cargo.toml" --bench depth -- "${rounds:-20}"
    echo "== image check, of a registry that is 20 ms away"
    cargo bench --quiet --manifest-path "$here/../Cargo.toml" --bench images -- "$program" "${rounds:-5}"
    QEMU_PERSIST_BENCH=inside exec unshare --user --map-root-user --mount "$0" "$runs"
fi

table=/proc/sys/fs/binfmt_misc
mount -t binfmt_misc binfmt_misc $table
mount -t tmpfs run /run && mkdir -p /run/systemd/system
mount -t tmpfs etc /mnt && mkdir /mnt/binfmt.d /mnt/rules /mnt/config /mnt/state
cp /usr/lib/binfmt.d/qemu-*.conf /mnt/rules/
for directory in /etc/binfmt.d:binfmt.d /usr/lib/binfmt.d:rules /etc/qemu-persist:config /var/lib/qemu-persist:state; do
    place=${directory%:*}
    # Mounts are this namespace's own, and folders are not: those that are made here go again.
    [ -d "$place" ] || { mkdir -p "$place" && made="${made:-} $place"; }
    mount --bind "/mnt/${directory#*:}" "$place"
done
trap 'for place in ${made:-}; do umount "$place" && rmdir "$place"; done' EXIT
{
    echo 'platforms = []'
    cat /mnt/rules/*.conf | while IFS=: read -r _ name _ _ magic mask interpreter flags; do
        printf "[[handler]]\nname = '%s'\nmagic = '%s'\nmask = '%s'\ninterpreter = '%s'\nflags = '%s'\n" \
            "$name" "$magic" "$mask" "$interpreter" "$flags"
    done
} > /etc/qemu-persist/config.toml
"$program" config check
"$program" apply > /mnt/first
echo "$(grep -c '^\* register' /mnt/first) rules"

flush="sh -c 'echo -1 > $table/status'"
# Of many short runs on a machine with other work the middle one says more than the mean.
measure() {
    hyperfine -N -i -w 5 -r "$runs" --style none --export-csv /mnt/times "$@" > /mnt/out 2>&1 || { cat /mnt/out; exit 1; }
    awk -F, 'NR == 1 { for (i = 1; i <= NF; i++) column[$i] = i; next }
        { printf "%-20s median %6.2f ms   mean %6.2f   least %6.2f\n", $column["command"],
            $column["median"] * 1000, $column["mean"] * 1000, $column["min"] * 1000 }' /mnt/times
}
echo "== from an empty table"
measure --prepare "$flush" -n 'qemu-persist apply' "$program apply" \
    -n systemd-binfmt /usr/lib/systemd/systemd-binfmt
"$program" apply > /mnt/again
echo "== with nothing to do, and status"
measure -n 'qemu-persist apply' "$program apply" -n systemd-binfmt /usr/lib/systemd/systemd-binfmt
"$program" apply > /mnt/again
measure -n 'qemu-persist apply' "$program apply" -n 'qemu-persist status' "$program status"

echo "== the service"
foreign=$here/cache/busybox/arm64/bin/busybox
if [ "$(uname -m)" != x86_64 ] || [ ! -x "$foreign" ]; then
    echo "skipped: it needs an x86-64 host, and the foreign busybox that tests/run.sh fetches"
else
    service() {
        cargo bench --quiet --offline --manifest-path "$here/../Cargo.toml" --bench latency -- \
            "${program}d" /usr/lib/systemd/systemd-binfmt "$1" "$foreign" aarch64
    }
    mkdir -p /etc/qemu-persist/config.toml.d
    printf '[service]\nback_off_after = 1000000\n' > /etc/qemu-persist/config.toml.d/10-bench.toml
    service "${flushes:-500}"
    mv /etc/qemu-persist/config.toml /mnt/all && mv /mnt/rules /mnt/others && mkdir /mnt/rules
    cp /mnt/others/qemu-aarch64.conf /mnt/rules/
    mount --bind /mnt/rules /usr/lib/binfmt.d
    printf 'platforms = ["arm64"]\n' > /etc/qemu-persist/config.toml
    echo -1 > $table/status
    "$program" apply > /mnt/again
    service "${flushes:-500}"
    umount /usr/lib/binfmt.d
    mv /mnt/all /etc/qemu-persist/config.toml
    rm -r /etc/qemu-persist/config.toml.d
    "$program" apply > /mnt/again
fi

echo "== programs executed besides qemu-persist itself"
for verb in apply status; do
    [ $verb = status ] || sh -c "echo -1 > $table/status"
    strace -f -e trace=execve -o /mnt/trace "$program" $verb > /mnt/out || true
    echo "$verb: $(($(grep -c 'execve(' /mnt/trace) - 1))"
done
echo "== size and peak memory"
stat -c '%n: %s bytes' "$program" "${program}d" | sed 's,.*/,,'
for verb in apply status; do
    /usr/bin/time -f "$verb: %M KiB" "$program" $verb 2>&1 > /mnt/out | tail -n 1
done
