#!/usr/bin/env bash
# SPDX-License-Identifier: MIT OR Apache-2.0
# Runs a script beside the system in the folder $root, as an image builder does:
#   root=FOLDER tests/inside.sh amd64|arm64 SCRIPT
# in namespaces of its own, with a binfmt_misc that is empty but for what $root's own programs need. Every user is mapped
# to itself, since packages have files of several.
set -euo pipefail
export arch=$1 script=$2 root LC_ALL=C TERM=dumb DEBIAN_FRONTEND=noninteractive
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin

# shellcheck disable=SC2016 # for the shells inside
mounts='mount -t binfmt_misc binfmt_misc /proc/sys/fs/binfmt_misc
mount -t proc proc "$root/proc"
mount -t tmpfs -o mode=755 run "$root/run"
for device in null zero full random urandom; do
    [ -e "$root/dev/$device" ] || : >"$root/dev/$device"
    mount --bind "/dev/$device" "$root/dev/$device"
done
if [ "$arch" != "$(dpkg --print-architecture)" ]; then
    case $arch in arm64) machine=aarch64 ;; amd64) machine=x86_64 ;; esac
    cat "/usr/lib/binfmt.d/qemu-$machine.conf" >/proc/sys/fs/binfmt_misc/register
fi
. "$script"'
gate=$(mktemp -u "${TMPDIR:-/tmp}/gate.XXXXXX")
mkfifo "$gate"
trap 'rm -f "$gate"' EXIT
# TMPDIR is a folder of this machine, which the system does not have.
# shellcheck disable=SC2016
env -u TMPDIR unshare --user /bin/sh -ec 'read -r _ <"$0"; exec unshare --mount --pid --fork --kill-child --mount-proc \
    /bin/bash -euo pipefail -c "$1"' "$gate" "$mounts" &
here=$(readlink /proc/self/ns/user)
until there=$(readlink "/proc/$!/ns/user") && [[ $there != "$here" ]]; do sleep 0.05; done
for map in uid_map gid_map; do echo '0 0 65536' >"/proc/$!/$map"; done
echo >"$gate"
wait "$!"
