#!/usr/bin/env bash
# SPDX-License-Identifier: MIT OR Apache-2.0
# Builds the Debian package into target/debian: packaging/build-deb.sh [--arch amd64|arm64]
set -euo pipefail
cd "$(dirname "$0")/.."
. packaging/toolchain.sh

native=$(dpkg --print-architecture)
case "$#${1-}" in
    0) arch=$native ;;
    2--arch) arch=$2 ;;
    *) fail 64 "unknown arguments: $*" "$0 [--arch amd64|arm64]" ;;
esac
case $arch in
    amd64) triple=x86_64-unknown-linux-gnu gnu=x86-64-linux-gnu ;;
    arm64) triple=aarch64-unknown-linux-gnu gnu=aarch64-linux-gnu ;;
    *) fail 64 "cannot build for $arch" "$0 [--arch amd64|arm64]" ;;
esac
install_missing gcc libc6-dev dpkg-dev
need_cargo
need_tool cargo-deb 3.4.0

export CARGO_TARGET_DIR=$PWD/target SOURCE_DATE_EPOCH
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct 2>/dev/null || dpkg-parsechangelog -l packaging/debian/changelog -STimestamp)

step "man pages and completions"
rm -rf target/package
cargo run --quiet --locked --features assets --bin qemu-persist-assets -- \
    target/package "$(date -u -d "@$SOURCE_DATE_EPOCH" +%F)"

if [[ $arch != "$native" ]]; then
    # The cross compiler is Debian's, and so is the standard library for it: its own cargo goes with them.
    web=$([[ $(release) != 12 ]] || echo -web)
    if ! dpkg --print-foreign-architectures | grep -qx "$arch"; then
        ((EUID == 0)) || fail 77 "packages for $arch are needed" "sudo dpkg --add-architecture $arch"
        dpkg --add-architecture "$arch"
    fi
    install_missing "cargo$web" "rustc$web" "libstd-rust$web-dev:$arch" "gcc-$gnu" "libc6-dev-$arch-cross"
    export PATH=/usr/bin:$PATH RUSTC=/usr/bin/rustc
    linker=${triple//-/_}
    export "CARGO_TARGET_${linker^^}_LINKER=${gnu/x86-/x86_}-gcc"
fi

step "programs for $triple"
# No path of this machine in the programs.
separator=$'\x1f'
CARGO_ENCODED_RUSTFLAGS="--remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}=/cargo$separator--remap-path-prefix=$PWD=/src"
export CARGO_ENCODED_RUSTFLAGS
build=(cargo build --quiet --locked --release --target "$triple")
"${build[@]}" --no-default-features --bin qemu-persistd
"${build[@]}" --bin qemu-persist
cp "target/$triple/release/"qemu-persist{,d} target/package/

step "package for $arch"
cargo-deb --quiet --no-build --no-strip --locked --target "$triple" --output target/debian/
