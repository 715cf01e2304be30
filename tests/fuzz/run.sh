#!/usr/bin/env bash
# SPDX-License-Identifier: MIT OR Apache-2.0
# Fuzzes every parser for SECONDS each: tests/fuzz/run.sh SECONDS [TARGET…]
# Needs a stable Rust of 1.85 or newer and a C++ compiler; no nightly, no cargo-fuzz.
# What crashes a target is left in tests/fuzz/artifacts/, and the exit code is then 1.
set -euo pipefail
cd "$(dirname "$0")"

[[ ${1-} =~ ^[1-9][0-9]*$ ]] || {
    printf 'usage: %s SECONDS [TARGET…]\n' "$0" >&2
    exit 64
}
seconds=$1
shift
targets=("$@")
((${#targets[@]})) || targets=(rule entry fragment config)

# What cargo-fuzz passes to a nightly compiler to have libFuzzer see which code a text reaches; stable takes it
# too. There is no sanitizer of memory errors (that would need nightly), which code without `unsafe` can spare.
# --target keeps the flags away from build scripts.
flags=(
    --cfg fuzzing
    -Cpasses=sancov-module
    -Cllvm-args=-sanitizer-coverage-level=4
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters
    -Cllvm-args=-sanitizer-coverage-pc-table
    -Cllvm-args=-sanitizer-coverage-trace-compares
    -Ccodegen-units=1
)
CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$(realpath ../..)/target/fuzz}
export CARGO_TARGET_DIR
host=$(rustc -vV | sed -n 's/^host: //p')
# The product's own versions of everything; libFuzzer is added to them.
[[ Cargo.lock -nt ../../Cargo.lock ]] || cp ../../Cargo.lock Cargo.lock
RUSTFLAGS="${flags[*]}" cargo build --quiet --release --target "$host"
programs=$CARGO_TARGET_DIR/$host/release

corpus=$(mktemp -d "${TMPDIR:-/tmp}/qemu-persist-fuzz.XXXXXX")
trap 'rm -rf --one-file-system "$corpus"' EXIT
mkdir -p artifacts

failed=()
for target in "${targets[@]}"; do
    mkdir "$corpus/$target"
    dictionary=()
    [[ ! -f dictionaries/$target ]] || dictionary=("-dict=dictionaries/$target")
    if "$programs/$target" -max_total_time="$seconds" -timeout=5 -rss_limit_mb=1024 -max_len=4096 \
        -artifact_prefix="artifacts/$target-" "${dictionary[@]}" -print_final_stats=1 \
        "$corpus/$target" "seeds/$target" &>"$corpus/$target.log"; then
        outcome="nothing found"
    else
        outcome="FAILED"
        failed+=("$target")
        grep -av '^#' "$corpus/$target.log" | tail -n 40
    fi
    runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$corpus/$target.log")
    features=$(grep -ao 'cov: [0-9]* ft: [0-9]*' "$corpus/$target.log" | tail -n 1)
    printf '%-9s %s: %s runs in %s s, %s\n' "$target" "$outcome" "${runs:-unknown}" "$seconds" "${features:-no coverage seen}"
    # Without coverage it only tries at random: a check that cannot fail.
    if [[ ! $features =~ ^cov:\ [0-9]{2,} ]]; then
        printf '%s: libFuzzer sees no coverage: the compiler did not take the flags\n' "$target" >&2
        failed+=("$target")
    fi
done
rmdir artifacts 2>/dev/null || true
((${#failed[@]} == 0))
