#!/usr/bin/env bash
# SPDX-License-Identifier: MIT OR Apache-2.0
# Makes a small Debian with systemd and QEMU where it is not there yet, and prints its archive:
#   sudo tests/package/base.sh bookworm|trixie amd64|arm64
# It is kept in tests/cache/package, under a name that changes with this script. What runs of another architecture, and
# all scripts of packages, run in a namespace with a binfmt_misc of its own: the machine's table stays as it is.
set -euo pipefail
cd "$(dirname "$0")/../.."
. packaging/toolchain.sh

suite=${1-} arch=${2-}
case $suite in
    bookworm) include=systemd,qemu-user-static spare=(qemu-user-static) ;;
    # Without recommended packages: Debian's rules for binfmt.d are in a package of their own.
    trixie) include=systemd,qemu-user spare=(qemu-user-binfmt) ;;
    *) fail 64 "unknown suite: $suite" "$0 bookworm|trixie amd64|arm64" ;;
esac
cache=$PWD/tests/cache/package
base=$cache/$suite-$arch-$(sha256sum "$0" | cut -c1-16).tar
mkdir -p "$cache"
exec {lock}>"$cache/.lock"
flock "$lock"
if [[ -f $base ]]; then
    printf '%s\n' "$base"
    exit
fi
((EUID == 0)) || fail 77 "a system has files of many users" "sudo $0 $suite $arch"
exec {out}>&1 >&2

# What a killed run has left would never be taken for a system.
rm -rf --one-file-system "$cache"/.building-* "$cache/$suite-$arch"-*
work=$(mktemp -d "$cache/.building-XXXXXX")
trap 'rm -rf --one-file-system "$work"' EXIT
chmod 755 "$work"
root=$work/root

# The mirror is the machine's own, for whatever suite.
# shellcheck disable=SC2016 # for apt
apt-get indextargets --format '$(LABEL) $(REPO_URI)' 'Created-By: Packages' | sort -u |
    sed -n "s/^Debian \(.*\)/deb \1 $suite main/p" >"$work/sources.list"
[[ -s $work/sources.list ]] || fail 69 "apt knows no mirror of Debian" "look into /etc/apt"
mmdebstrap --quiet --mode=root --variant=extract --architectures="$arch" --include='?essential' --include="$include" \
    --aptopt='APT::Install-Recommends "false"' --dpkgopt='path-exclude=/usr/share/locale/*' \
    --skip=download/empty,cleanup/apt,cleanup/mmdebstrap "$suite" "$root" - <"$work/sources.list"
mkdir -p "$root/opt/debs"
printf 'Dir "%s";\nAPT::Architecture "%s";\nAPT::Architectures { "%s"; };\nAPT::Sandbox::User "root";\n' \
    "$root" "$arch" "$arch" >"$work/apt.conf"
(cd "$root/opt/debs" && APT_CONFIG=$work/apt.conf apt-get -qq download "${spare[@]}")
cat >"$work/configure" <<'INSIDE'
dpkg="dpkg --root=$root --log=/dev/null --force-unsafe-io --force-depends --path-exclude=/usr/share/locale/*"
$dpkg --unpack "$root"/var/cache/apt/archives/*.deb
$dpkg --configure --pending
INSIDE
root=$root tests/package/inside.sh "$arch" "$work/configure" >"$cache/$suite-$arch.log" 2>&1 || {
    tail -n 30 "$cache/$suite-$arch.log"
    fail 1 "a package cannot be configured" "read $cache/$suite-$arch.log"
}
rm -rf "$root"/var/cache/apt/* "$root"/var/lib/apt/lists/* "$root"/etc/apt/sources.list*
tar --numeric-owner -C "$root" -cf "$work/base.tar" .
mv "$work/base.tar" "$base"
printf '%s\n' "$base" >&"$out"
