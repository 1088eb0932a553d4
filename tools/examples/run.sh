#!/usr/bin/env bash
# Runs every example of this folder against the built-in server, and the script of the GitHub action.
#
#   tools/examples/run.sh [RINGMARK]
#
# Needs python3. A run that is void because this machine is busy, or an objective that it misses, is no failure here; everything else is.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
RINGMARK=$(realpath "${1:-$here/../../target/release/ringmark}")
export RINGMARK NUMBER=24 PYTHONPATH=$here/../python/python PYTHONDONTWRITEBYTECODE=1 RINGMARK_FLAG_SLEEP_INTERVAL=0
unset GITHUB_STEP_SUMMARY GITHUB_OUTPUT

servers=()
scratch=$(mktemp -d)
clean_up() {
    for server in "${servers[@]}"; do
        kill "$server" 2>/dev/null || true
        wait "$server" 2>/dev/null || true
    done
    rm -rf "$scratch"
}
trap clean_up EXIT
cd "$scratch"

# Starts a mock with the given parameters and sets $url.
start_server() {
    local log=server${#servers[@]}.log
    # The file must exist before it is read.
    : >"$log"
    "$RINGMARK" mock --port 0 "$@" >>"$log" 2>&1 &
    servers+=($!)
    for _ in $(seq 100); do
        url=$(sed -n 's/^listening on //p' "$log")
        [ -z "$url" ] || return 0
        sleep 0.1
    done
    echo "examples: the mock does not start" >&2
    exit 1
}

# Runs a command, shows its last line, and fails with all of its output unless it ends with one of these statuses.
example() {
    local statuses=$1 start=$SECONDS status=0
    shift
    "$@" >output.txt 2>&1 || status=$?
    if [[ " $statuses " != *" $status "* ]]; then
        cat output.txt >&2
        echo "examples: $1 ended with status $status" >&2
        exit 1
    fi
    echo "$(basename "$1"): status $status, $((SECONDS - start)) s"
}

# Fails unless the files exist.
made() {
    for file in "$@"; do
        [ -s "$file" ] || { cat output.txt >&2; echo "examples: $file was not written" >&2; exit 1; }
    done
}

start_server ttft=5ms itl=1ms tokens=8
first=$url
start_server ttft=5ms itl=1.5ms tokens=8
second=$url

RINGMARK_FLAG_SLA_NUM_RUNS=1 DURATION=1 example "0 1 3" "$here/capacity.sh" "$first" 4
made capacity/in_flight/sla_summary.json capacity/rate/sla_summary.json

example "0 1 3" "$here/ci_gate.sh" "$first" baseline
if [ -d baseline ]; then
    example "0 1 3" "$here/ci_gate.sh" "$first" baseline
fi

example "0 1 3" "$here/ab.sh" "$first" "$second"
made rounds/compare.html
grep -q 'P50 ITL' output.txt

example "0 3" "$here/trace.sh" "$first" 4
grep -q '24 requests' output.txt
example "0 3" "$here/conversations.sh" "$first"
grep -q 'Turn' output.txt
example "0 3" "$here/custom_api.sh" "${first%/v1/*}"
example "0 3" "$here/custom_dataset.sh" "$first"
example "0 3" "$here/sql.sh" "$first"
grep -q 'send_lag_ms' output.txt

cells='
import json, sys, warnings
warnings.simplefilter("ignore")
names = {}
for cell in json.load(open(sys.argv[1]))["cells"]:
    if cell["cell_type"] == "code":
        exec("".join(cell["source"]), names)
'
example "0" python3 -c "$cells" "$here/notebook.ipynb"

# The action: the first call stores a baseline, the second one compares with it.
action=$here/../../.github/actions/measure/measure.sh
export MEASURE_URL=$first MEASURE_PARALLEL=4 MEASURE_NUMBER=24 MEASURE_REPEAT=6 MEASURE_SLO='failed<=0%' MEASURE_ARGUMENTS='--max-tokens
16' MEASURE_FAIL_ON='p50_ttft:+10000%' MEASURE_FOLDER=measured MEASURE_BASELINE=stored GITHUB_STEP_SUMMARY=summary.md GITHUB_OUTPUT=outputs.txt
MEASURE_UPDATE=true example "0 3" "$action"
if [ -d stored ]; then
    rm -rf measured summary.md
    MEASURE_UPDATE=false example "0 3" "$action"
    grep -q '^|' summary.md
fi
grep -q '^status=' outputs.txt
echo "examples: done"
