#!/bin/sh
# Fails if a server misses an objective, or has become slower than a stored baseline. Without a baseline, this measurement becomes it.
#
#   ci_gate.sh URL BASELINE          # BASELINE: a folder that is kept between jobs
#
# Exit status: 0 fast enough, 1 too slow, 2 could not be measured, 3 the run is void (this machine was too busy: repeat the job).
set -eu
url=${1:?"usage: ci_gate.sh URL BASELINE"}
baseline=${2:?"usage: ci_gate.sh URL BASELINE"}
ringmark=${RINGMARK:-ringmark}
results=$(mktemp -d "${TMPDIR:-/tmp}/gate.XXXXXX")
trap 'rm -rf "$results"' EXIT

# Five runs allow one figure to be judged, six allow two: equal builds fail in at most 1 % of all comparisons.
"$ringmark" perf --url "$url" --parallel 8 --number "${NUMBER:-500}" --warmup-num 8 --repeat 6 --slo 'p99_ttft<=2 failed<=0%' \
    --outputs-dir "$results" --no-timestamp --name run --quiet
if [ -d "$baseline" ]; then
    "$ringmark" compare "$baseline" "$results/run" --fail-on 'p99_ttft:+5%,tps:-3%' --markdown summary.md
else
    cp -R "$results/run" "$baseline"
    echo "stored as the baseline: $baseline"
fi
