# shellcheck shell=bash
# SPDX-License-Identifier: MIT OR Apache-2.0
# For the other scripts, run from the source's own folder: Debian packages, a Rust toolchain, cargo's tools.

export DEBIAN_FRONTEND=noninteractive
# Where sudo has reset PATH; /opt/cargo-tools may hold tools for all users of a machine.
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin:${CARGO_HOME:-${HOME:-/root}/.cargo}/bin:/opt/cargo-tools/bin

step() { printf '==> %s\n' "$*"; }

# fail EXIT-CODE WHAT NEXT
fail() {
    printf '%s: %s\n  next: %s\n' "$0" "$2" "$3" >&2
    exit "$1"
}

# Installs those of the Debian packages named that are not installed.
install_missing() {
    local package missing=()
    for package; do
        [[ $(dpkg-query -Wf '${db:Status-Status}' "$package" 2>/dev/null) == installed ]] || missing+=("$package")
    done
    ((${#missing[@]})) || return 0
    ((EUID == 0)) || fail 77 "Debian packages are missing" "sudo apt-get update && sudo apt-get install ${missing[*]}"
    step "apt-get install ${missing[*]}"
    apt-get update -qq
    apt-get install -y -qq -o Dpkg::Use-Pty=0 "${missing[@]}" >/dev/null
}

# Whether the cargo on PATH is of the version that Cargo.toml asks for, or newer.
is_cargo_new_enough() {
    local wanted found
    wanted=$(sed -n 's/^rust-version = "\(.*\)"$/\1/p' Cargo.toml)
    found=$(cargo --version 2>/dev/null | cut -d' ' -f2) && [[ -n $found ]] &&
        printf '%s\n' "$wanted" "$found" | sort -CV
}

# Puts a cargo that is new enough first on PATH: the one there, rustup's of root or of the user of sudo, or
# Debian's, which is installed where it is missing (bookworm's own is too old: it has a newer one as cargo-web).
need_cargo() {
    local home packages=(cargo rustc)
    is_cargo_new_enough && return
    for home in "${HOME:-/root}" "$(getent passwd "${SUDO_USER:-root}" | cut -d: -f6)"; do
        [[ -x $home/.cargo/bin/cargo ]] || continue
        export PATH=$home/.cargo/bin:$PATH RUSTUP_HOME=$home/.rustup
        is_cargo_new_enough && return
    done
    [[ $(release) != 12 ]] || packages=(cargo-web rustc-web)
    install_missing "${packages[@]}"
    export PATH=/usr/bin:$PATH
    is_cargo_new_enough || fail 69 "no cargo here is new enough ($(cargo --version))" "install the one of rustup"
}

# need_tool NAME VERSION: installs a tool of cargo's where it is missing.
need_tool() {
    ! command -v "$1" >/dev/null || return 0
    step "cargo install $1"
    cargo install --quiet --locked "$1@$2"
}

# Debian's major version: 12 is bookworm, 13 trixie.
release() { (. /etc/os-release && printf '%s\n' "${VERSION_ID:-}"); }
