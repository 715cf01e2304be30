#!/usr/bin/env bash
# SPDX-License-Identifier: MIT OR Apache-2.0
# Makes a small Debian with systemd and QEMU where it is not there yet, and prints its archive:
#   sudo tests/package/base.sh bookworm|trixie amd64|arm64
# They are kept in tests/cache/package, under a name that changes with these scripts.
set -euo pipefail
cd "$(dirname "$0")/../.."
. packaging/toolchain.sh
. tests/debian.sh

suite=${1-} arch=${2-}
case $suite in
    bookworm) qemu=qemu-user-static spare=qemu-user-static ;;
    # Without recommended packages: Debian's rules for binfmt.d are in a package of their own.
    trixie) qemu=qemu-user spare=qemu-user-binfmt ;;
    *) fail 64 "unknown suite: $suite" "$0 bookworm|trixie amd64|arm64" ;;
esac
begin tests/package/base.sh tests/cache/package "$suite-$arch"
extract "$suite" "$arch" systemd "$qemu"
(cd "$root/opt/debs" && apt_inside download "$spare")
configure "$arch"
tar --numeric-owner -C "$root" -cf "$work/base.tar" .
finish "$work/base.tar"
