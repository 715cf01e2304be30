#!/usr/bin/env bash
# SPDX-License-Identifier: MIT OR Apache-2.0
# Takes Docker Compose out of Debian 13's package where it is not there yet, and prints its folder:
#   sudo tests/compose.sh
# It is kept in tests/cache/compose, under a name that changes with these scripts. Nothing is installed.
set -euo pipefail
cd "$(dirname "$0")/.."
. packaging/toolchain.sh
. tests/debian.sh

begin tests/compose.sh tests/cache/compose trixie
unpack trixie "$(dpkg --print-architecture)" "$root" docker-compose
mkdir "$work/bin"
mv "$root"/usr/libexec/docker/cli-plugins/docker-compose "$work/bin"
finish "$work/bin"
