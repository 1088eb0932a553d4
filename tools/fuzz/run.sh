#!/usr/bin/env bash
# Builds every fuzz target and runs it for SECONDS, with the stable compiler. Fails when one finds something.
#
#   tools/fuzz/run.sh SECONDS|build [TARGET...]
#
# With `build`, none is run.
set -euo pipefail
cd "$(dirname "$0")"
seconds=${1:?"usage: tools/fuzz/run.sh SECONDS|build [TARGET...]"}
shift
[ $# -gt 0 ] || set -- $(basename -s .rs fuzz_targets/*.rs)

# The coverage flags of cargo-fuzz. Sanitizers would need a nightly compiler.
coverage=(--cfg fuzzing -Cpasses=sancov-module)
for option in level=4 inline-8bit-counters pc-table trace-compares; do
    coverage+=("-Cllvm-args=-sanitizer-coverage-$option")
done
host=$(rustc -vV | sed -n 's/^host: //p')
build=../../target/fuzz
RUSTFLAGS="${coverage[*]}" cargo build --locked --bins --target "$host" --target-dir "$build"
[ "$seconds" != build ] || exit 0

./seed
for target in "$@"; do
    mkdir -p "corpus/$target" "artifacts/$target"
    echo "fuzzing $target for $seconds s"
    "$build/$host/debug/$target" "corpus/$target" -artifact_prefix="artifacts/$target/" -max_total_time="$seconds" \
        -timeout=20 -verbosity=0 -print_final_stats=1
done
