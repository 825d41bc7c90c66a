#!/usr/bin/env bash
# Builds every fuzz target with AddressSanitizer and runs each for so many seconds, from the committed seeds.
#
#   fuzz/run.sh [seconds = 10] [target ...]
#
# The stable toolchain does. What is found new goes to fuzz/corpus/, which git ignores; a finding ends the script, and is
# in fuzz/artifacts/.
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${1:-10}
shift || true
if (($#)); then targets=("$@"); else mapfile -t targets < <(ls fuzz/targets | sed 's/\.rs$//'); fi

command -v cargo-fuzz >/dev/null || cargo install cargo-fuzz --locked --debug
export RUSTC_BOOTSTRAP=1 CARGO_INCREMENTAL=0
# Linked eleven times: what the linker would gain there costs more than the runs.
export CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16
# Dependencies are built once for all of them, apart from every other build.
options=(--target-dir target/fuzz --sanitizer address)
log=$(mktemp)
trap 'rm -f "$log"' EXIT

# One after the other: each is a link of everything.
for target in "${targets[@]}"; do
    cargo fuzz build "${options[@]}" "$target" 2>"$log" || { cat "$log"; exit 1; }
done
for target in "${targets[@]}"; do
    mkdir -p "fuzz/corpus/$target"
    cargo fuzz run "${options[@]}" "$target" "fuzz/corpus/$target" "fuzz/seeds/$target" -- \
        -max_total_time="$seconds" -print_final_stats=1 -rss_limit_mb=4096 -timeout=25 2>"$log" \
        || { cat "$log"; exit 1; }
    executions=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
    # A target that does nothing would pass.
    ((executions > 0)) || { cat "$log"; exit 1; }
    echo "evidence fuzz $target $executions executions"
done
