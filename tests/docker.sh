#!/usr/bin/env bash
# SPDX-License-Identifier: MIT OR Apache-2.0
# Takes Docker and buildx out of Debian 13's packages where they are not there yet, and prints their folder:
#   sudo tests/docker.sh
# They are kept in tests/cache/docker, under a name that changes with these scripts. Nothing is installed.
set -euo pipefail
cd "$(dirname "$0")/.."
. packaging/toolchain.sh
. tests/debian.sh

begin tests/docker.sh tests/cache/docker trixie
unpack trixie "$(dpkg --print-architecture)" "$root" docker.io,docker-cli,docker-buildx
mkdir "$work/bin"
# runc would need that release's C library.
mv "$root"/usr/sbin/dockerd "$root"/usr/bin/{docker,containerd,containerd-shim-runc-v2} \
    "$root"/usr/libexec/docker/cli-plugins/docker-buildx "$work/bin"
finish "$work/bin"
