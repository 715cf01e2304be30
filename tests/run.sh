#!/usr/bin/env bash
# SPDX-License-Identifier: MIT OR Apache-2.0
# Installs what the tests need and runs everything: sudo tests/run.sh [--quick] [--vm=none|quick|full]
# --quick leaves out the licence check, the fuzz targets, the packages and lintian.
# --vm also boots Debian systems with the package in virtual machines: none, the one that matters most, or all.
#
# QEMU_PERSIST_TEST_ROOT=1 tells the tests that they run as root of the machine itself: those that start container
# engines do it in namespaces and folders of their own, and end them.
set -euo pipefail
cd "$(dirname "$0")/.."
. packaging/toolchain.sh

quick='' vm=''
for argument; do
    case $argument in
        --quick) quick=yes ;;
        --vm=none) vm='' ;;
        --vm=quick | --vm=full) vm=${argument#--vm=} ;;
        *) fail 64 "unknown argument: $argument" "sudo $0 [--quick] [--vm=none|quick|full]" ;;
    esac
done
((EUID == 0)) || fail 77 "the tests need root: engines, packages" "sudo $0${*:+ $*}"

# Runs a command as the step `name`, and says how long it took.
run() {
    local name=$1 start=$SECONDS
    step "$name"
    current=$name
    "${@:2}"
    printf '    %s: %d s\n' "$name" $((SECONDS - start))
}

# Tools and packages, where they are missing.
prepare() {
    install_missing qemu-user-static docker.io podman runc uidmap rootlesskit busybox-static shellcheck lintian man-db bash zsh fish \
        systemd clang-19 lld-19 binutils gcc g++ libc6-dev dpkg-dev ca-certificates git mmdebstrap \
        curl openssl perl-base docker-registry skopeo patch debian-archive-keyring
    # A newer qemu-utils than the release's makes way for the emulators.
    [[ -z $vm ]] || install_missing qemu-system-arm
    [[ -z $vm ]] || install_missing qemu-utils arch-test e2fsprogs kmod cpio xz-utils zstd gzip
    [[ $vm != full ]] || install_missing qemu-system-x86
    need_cargo
    if ! { cargo fmt --version && cargo clippy --version; } &>/dev/null; then
        case $(release) in
            12) install_missing rustfmt-web rust-web-clippy ;;
            *) install_missing rustfmt rust-clippy ;;
        esac
    fi
    need_tool cargo-nextest 0.9.100
    [[ -n $quick ]] || need_tool cargo-deny 0.18.3
}

# Debian's own busybox of another architecture, for a container that is not of our making.
fetch_busybox() {
    local arch=arm64 folder=tests/cache/busybox
    [[ $(dpkg --print-architecture) != arm64 ]] || arch=amd64
    [[ ! -x $folder/$arch/bin/busybox ]] || return 0
    dpkg --add-architecture "$arch"
    apt-get update -qq
    rm -rf "$folder" && mkdir -p "$folder"
    (cd "$folder" && apt-get download -qq -o APT::Sandbox::User=root "busybox-static:$arch")
    dpkg -x "$folder"/*.deb "$folder/$arch"
}

check_scripts() {
    git ls-files -z '*.sh' .ci/run 'packaging/debian/p*' | xargs -0 shellcheck --external-sources
}

# Nothing of TLS, HTTP or registries is in the service; that all of it is in the program shows that it would be seen.
service_asks_nobody() {
    local word
    for word in rustls ureq HTTP/1.1 docker-content-digest; do
        grep -aq -- "$word" target/package/qemu-persist
        ! grep -aq -- "$word" target/package/qemu-persistd || { printf 'the service has %s in it\n' "$word" >&2; return 1; }
    done
}

# Builds the package for this machine, and from amd64 for arm64 too, and looks at what came out.
check_packages() {
    local arch arches=("$(dpkg --print-architecture)")
    [[ ${arches[0]} != amd64 ]] || arches+=(arm64)
    rm -rf target/debian
    for arch in "${arches[@]}"; do packaging/build-deb.sh --arch "$arch"; done
    for arch in "${arches[@]}"; do packaging/qemu/build.sh --arch "$arch"; done
    service_asks_nobody
    lintian --allow-root --fail-on error,warning target/debian/*.deb
    [[ $arch == "${arches[0]}" ]] ||
        qemu-aarch64-static -L /usr/aarch64-linux-gnu target/package/qemu-persist --version
}

# Installs, upgrades and removes the package in small systems of both releases; with --vm=full the other one too.
check_installation() {
    local suite deb
    for deb in target/debian/qemu-persist_*.deb; do
        [[ $deb == *_$(dpkg --print-architecture).deb || $vm == full ]] || continue
        for suite in bookworm trixie; do tests/package/check.sh "$suite" "$deb"; done
    done
}

# What virtual machines boot, and the packages that go into them.
prepare_machines() {
    local image images=(trixie-arm64) arch arches=(arm64)
    [[ $vm != full ]] || images+=(plain-arm64 bookworm-arm64 article-arm64 trixie-amd64) arches+=(amd64)
    [[ -z $quick ]] || for arch in "${arches[@]}"; do packaging/build-deb.sh --arch "$arch"; done
    [[ -z $quick ]] || packaging/qemu/build.sh --arch arm64
    for image in "${images[@]}"; do tests/vm/build-image.sh "$image"; done
    [[ $vm != full ]] || tests/vm/build-programs.sh
}

# All that the runner says and all that tests write (the reasons for what is skipped), without libtest's own words.
run_tests() {
    cargo nextest run --locked --all-features --no-fail-fast --success-output immediate 2>&1 | grep --line-buffered -vE \
        '^ *(running 1 test|test .* \.\.\. (ok|FAILED)|test result: .*|failures:)?$|^ +std(out|err) ───$'
}

clean_up() {
    local code=$?
    rm -rf --one-file-system "$TMPDIR"
    ((${SUDO_UID:-0} == 0)) || chown -R "$SUDO_UID:$SUDO_GID" target tests/fuzz
    ((code == 0)) || printf '%s: failed: %s (exit code %d)\n' "$0" "$current" "$code" >&2
}
TMPDIR=$(mktemp -d /tmp/qemu-persist-tests.XXXXXX)
chmod 755 "$TMPDIR" # tests drop to other users
export TMPDIR QEMU_PERSIST_TEST_ROOT=1
trap clean_up EXIT

run "what is missing" prepare
run "a foreign busybox" fetch_busybox
run "Docker of Debian 13" tests/docker.sh
run "Docker Compose of Debian 13" tests/compose.sh
run "format" cargo fmt --check
run "shell scripts" check_scripts
run "lints" cargo clippy --quiet --locked --all-targets --all-features -- -D warnings
run "lints of the service" cargo clippy --quiet --locked --no-default-features --bin qemu-persistd -- -D warnings
RUSTDOCFLAGS='-D warnings' run "documentation" cargo doc --quiet --locked --no-deps --all-features
if [[ -z $quick ]]; then
    run "licences" cargo deny --locked --all-features check bans licenses sources
    run "fuzz targets" tests/fuzz/run.sh 5
    run "packages" check_packages
    run "installation of the packages" check_installation
fi
if [[ -n $vm ]]; then
    run "virtual machines" prepare_machines
    export QEMU_PERSIST_VM=$vm
fi
# What the service is promised to endure; fewer of each otherwise.
[[ $vm != full ]] || export QEMU_PERSIST_TEST_BREAKAGES=1000 QEMU_PERSIST_TEST_KILLS=200 \
    QEMU_PERSIST_TEST_SYSTEMD_BINFMT_RUNS=1000
run "build of the tests" cargo nextest run --locked --all-features --no-run
current=tests
step "tests"
run_tests
