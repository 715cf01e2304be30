#!/usr/bin/env bash
# SPDX-License-Identifier: MIT OR Apache-2.0
# Installs, upgrades, removes, purges and reinstalls a package in a small Debian, and looks at what becomes of its files,
# of the units and of the kernel's table:  sudo tests/package/check.sh bookworm|trixie FILE.deb
set -euo pipefail
cd "$(dirname "$0")/../.."
. packaging/toolchain.sh

[[ $# == 2 && -f $2 ]] || fail 64 "wrong arguments: $*" "sudo $0 bookworm|trixie FILE.deb"
((EUID == 0)) || fail 77 "packages are installed by root" "sudo $0 $*"
unshare --user --map-root-user --mount mount -t binfmt_misc binfmt_misc /proc/sys/fs/binfmt_misc 2>/dev/null || {
    echo "skipped: this kernel gives no namespace a table of handlers of its own (Linux 6.7 does)" >&2
    exit 0
}
suite=$1 deb=$2 arch=$(dpkg-deb -f "$2" Architecture)
base=$(tests/package/base.sh "$suite" "$arch")
work=$(mktemp -d "${TMPDIR:-/tmp}/package.XXXXXX")
trap 'rm -rf --one-file-system "$work"' EXIT
chmod 755 "$work"
mkdir "$work/root"
tar -xf "$base" -C "$work/root"
cp "$deb" "$work/root/opt/debs/this.deb"
# The same with a higher version.
dpkg-deb -R "$deb" "$work/next"
sed -i 's/^Version: .*/&+next/' "$work/next/DEBIAN/control"
dpkg-deb --root-owner-group -Zgzip -b "$work/next" "$work/root/opt/debs/next.deb" >/dev/null
root=$work/root suite=$suite tests/inside.sh "$arch" tests/package/steps.sh
