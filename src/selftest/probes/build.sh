#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
# Makes the probes for every platform, and a note of the compiler that made them:
#
#     build.sh [DIRECTORY [FLAG...]]
#
# into DIRECTORY (beside the sources if none is given), with further compiler flags if any.
# Needs clang and lld of exactly this major version (Debian: clang-19, lld-19), which make the same
# bytes on every machine; a test compares them with those that are carried in the program.
set -eu
version=19
sources=$(cd "$(dirname "$0")" && pwd)
out=${1:-$sources}
[ $# -eq 0 ] || shift

# What is in the environment must not change the bytes.
unset CCC_OVERRIDE_OPTIONS CPATH C_INCLUDE_PATH COMPILER_PATH LIBRARY_PATH SOURCE_DATE_EPOCH
export LC_ALL=C

build() {
    probe=$1 platform=$2
    shift 2
    # -nostdinc, -nostdlib: what is installed for the host must not matter either.
    "clang-$version" --no-default-config "$@" \
        -std=c11 -Os -Wall -Wextra -Werror -ffreestanding -nostdinc -fno-pic -fomit-frame-pointer \
        -fno-stack-protector -fno-unwind-tables -fno-asynchronous-unwind-tables -fno-ident \
        -c "$sources/$probe.c" -o "$work/$probe.o"
    "ld.lld-$version" --static --strip-all --build-id=none --gc-sections --orphan-handling=error \
        -z max-page-size=65536 -T "$sources/probe.ld" "$work/$probe.o" -o "$out/$probe.$platform.elf"
}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# The oldest processor that each platform's distributions run on, or one older than that.
target() {
    case $1 in
    amd64) echo --target=x86_64-linux-gnu -march=x86-64 ;;
    386) echo --target=i486-linux-gnu -march=i486 ;;
    arm64) echo --target=aarch64-linux-gnu -march=armv8-a -mno-outline-atomics ;;
    arm) echo --target=arm-linux-gnueabi -march=armv5te -marm -mfloat-abi=soft ;;
    riscv64) echo --target=riscv64-linux-gnu -march=rv64i -mabi=lp64 ;;
    ppc64le) echo --target=powerpc64le-linux-gnu -mcpu=pwr8 -mabi=elfv2 ;;
    s390x) echo --target=s390x-linux-gnu -march=z10 ;;
    mips64le) echo --target=mips64el-linux-gnuabi64 -march=mips3 -mabi=64 -mno-abicalls ;;
    mips64) echo --target=mips64-linux-gnuabi64 -march=mips3 -mabi=64 -mno-abicalls ;;
    loong64) echo --target=loongarch64-linux-gnusf -march=loongarch64 ;;
    esac
}

for platform in amd64 386 arm64 arm riscv64 ppc64le s390x mips64le mips64 loong64; do
    # shellcheck disable=SC2046 # words are meant
    build identity $platform $(target $platform) "$@"
done
for platform in amd64 386 arm64 arm; do
    # shellcheck disable=SC2046
    build depth $platform $(target $platform) "$@"
done

{
    "clang-$version" --version | head -n 1
    "ld.lld-$version" --version
} >"$out/compiler.txt"
