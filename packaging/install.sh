#!/usr/bin/env bash
# SPDX-License-Identifier: MIT OR Apache-2.0
# From a fresh Debian 12 or 13 to a proven foreign container: sudo packaging/install.sh [FILE.deb]
# Builds the package where none is given, installs it, applies, self-tests, and ends with status and its exit code.
set -euo pipefail
deb=${1:+$(realpath -- "$1")}
cd "$(dirname "$0")/.."
. packaging/toolchain.sh

# Refuses what cannot work, before anything is changed.
check_host() {
    local userland kernel
    userland=$(dpkg --print-architecture && command -v apt-get >/dev/null) ||
        fail 69 "no Debian: dpkg or apt-get is missing" "use Debian 12 or 13, or Raspberry Pi OS based on them"
    kernel=$(uname -m)
    case $userland-$kernel in
        amd64-x86_64 | arm64-aarch64) ;;
        *-armv6*)
            fail 69 "an ARMv6 board (Pi 1, Pi Zero): neither QEMU nor Docker supports it any more" \
                "use a board with a 64-bit CPU" ;;
        *-aarch64 | *-x86_64)
            fail 69 "a 64-bit kernel ($kernel) with a 32-bit userland ($userland): 64-bit containers fail there, exit code 159" \
                "install the 64-bit edition of the operating system" ;;
        armhf-* | armel-*)
            fail 69 "a 32-bit ARM system: QEMU for amd64 is not to be had there since Debian 13" \
                "install the 64-bit edition of the operating system, on a board with a 64-bit CPU" ;;
        *) fail 69 "not supported: userland $userland on kernel $kernel" "use arm64 or amd64" ;;
    esac
    [[ $(release) == 1[23] ]] || step "neither Debian 12 nor 13: not tried here; going on"
    [[ -z $deb || $(dpkg-deb -f "$deb" Package)-$(dpkg-deb -f "$deb" Architecture) == "qemu-persist-$userland" ]] ||
        fail 65 "$deb is not a qemu-persist package for $userland" "packaging/build-deb.sh --arch $userland"
}

# Builds as the user who called sudo, so that nothing in the source folder becomes root's.
build() {
    local as=() arch version
    arch=$(dpkg --print-architecture)
    (($(awk '/^MemTotal/ { print $2 }' /proc/meminfo) >= 1900000)) ||
        step "less than 2 GiB of memory: building takes long and may fail; elsewhere: packaging/build-deb.sh --arch $arch"
    install_missing gcc libc6-dev dpkg-dev ca-certificates
    need_cargo
    ((${SUDO_UID:-0} == 0)) || [[ $(command -v cargo) == /root/* ]] || as=(sudo --user "$SUDO_USER" --set-home)
    "${as[@]}" packaging/build-deb.sh
    version=$(dpkg-parsechangelog -l packaging/debian/changelog -SVersion)
    deb=$(realpath "target/debian/qemu-persist_${version}_$arch.deb")
}

[[ $# -le 1 && ${1-} != -* ]] || fail 64 "unknown arguments: $*" "sudo $0 [FILE.deb]"
check_host
((EUID == 0)) || fail 77 "only root can install" "sudo $0${1:+ $1}"
[[ -n $deb ]] || build
step "apt-get install $deb"
apt-get update -qq
apt-get install -y -qq -o Dpkg::Use-Pty=0 --reinstall --allow-downgrades "$deb" >/dev/null ||
    fail 69 "apt-get could not install $deb" "see its words above, then run this again"
[[ -d /run/systemd/system ]] ||
    step "systemd is not running: without it nothing restores the handlers at the next boot"
for verb in apply selftest; do
    step "qemu-persist $verb"
    qemu-persist "$verb" || step "qemu-persist $verb ended with exit code $?; going on"
done
step "qemu-persist status"
exec qemu-persist status
