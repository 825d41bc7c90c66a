#!/usr/bin/env bash
# The core's unit tests under miri, as far as an interpreter gets through them in minutes: the primitives between threads and the
# machines below the hub. Without a backend for signatures, which is C.
#
#   core/miri.sh [filter ...]
#
# Where no nightly toolchain with miri can be had, it says so and does nothing.
set -euo pipefail
cd "$(dirname "$0")/.."
if (($#)); then filters=("$@"); else filters=(sync:: time:: id:: rate:: auth::tickets connection::validity); fi

cargo +nightly miri --version >/dev/null 2>&1 \
    || rustup toolchain install nightly --profile minimal --component miri --component rust-src >/dev/null 2>&1 || true
if ! cargo +nightly miri --version >/dev/null 2>&1; then
    echo "miri: skipped, since no nightly toolchain with miri can be had on this machine"
    exit
fi
log=$(mktemp)
trap 'rm -f "$log"' EXIT
# Generated cases find a place for their failures by asking the environment; an interpreter has no time for many.
export MIRIFLAGS=-Zmiri-disable-isolation PROPTEST_CASES=4 CARGO_TARGET_DIR=target/miri CARGO_INCREMENTAL=0
cargo +nightly miri test -p trunkline-core --no-default-features --lib -- "${filters[@]}" --skip exploration 2>&1 | tee "$log"
passed=$(sed -nE 's/^test result: ok\. ([0-9]+) passed.*/\1/p' "$log")
# A filter that fits nothing would pass.
((passed > 0)) || { echo "miri: no test fits"; exit 1; }
echo "evidence miri core $passed tests"
