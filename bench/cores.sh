#!/usr/bin/env bash
# How the cost of an event and the error of the client change with the number of workers: `bench/cores.sh RINGMARK`.
#
# The mock server has the last cores of the machine, one thread on each; the workers have the first ones, and every
# worker gets the same load, so that a shared resource shows as a cost that grows with the number of workers. Needs a
# machine with four cores or more. ROUNDS (3), SECONDS_EACH (10), STREAMS (per worker, "500 1000").
set -euo pipefail
ringmark=$1
rounds=${ROUNDS:-3}
seconds=${SECONDS_EACH:-10}
cores=$(nproc)
scratch=$(mktemp -d)
mock=
trap 'kill $mock 2>/dev/null || true; rm -rf "$scratch"' EXIT
ulimit -n "$(ulimit -Hn)"

uname -rm
lscpu | grep -E '^(Model name|Thread|Core|Socket|NUMA node\(s\))'

# The value of a key of benchmark_summary.json, or of its median or p99 if it is a group.
value() {
    awk -v key="\"$1\":" -v part="\"${2:-}\":" '
        index($0, key) { found = 1; if (part == "\"\":") { print value($0); exit } }
        found && part != "\"\":" && index($0, part) { print value($0); exit }
        function value(line) { sub(/.*: /, "", line); sub(/,$/, "", line); return line }' "$summary"
}

# One measurement: workers, streams of each worker, threads of the server.
measure() {
    local workers=$1 streams=$2 threads=$3 first=$((cores - $3))
    "$ringmark" mock --port 0 --cores "$first-$((cores - 1))" ttft='uniform(50ms,500ms)' itl=10ms tokens=200 \
        >"$scratch/mock" 2>&1 &
    mock=$!
    until grep -q 'http://' "$scratch/mock"; do sleep 0.1; done
    local url
    url=$(grep -o 'http://[0-9.:]*' "$scratch/mock" | head -1)
    rm -rf "$scratch/out"
    "$ringmark" perf --url "$url" --cores "0-$((workers - 1))" --workers "$workers" --parallel $((workers * streams)) \
        --duration "$seconds" --max-tokens 200 --ramp 1 --no-timestamp --outputs-dir "$scratch/out" --quiet \
        >"$scratch/perf" 2>&1 || { cat "$scratch/perf"; exit 1; }
    kill $mock
    wait $mock 2>/dev/null || true
    summary=$(find "$scratch/out" -name benchmark_summary.json | head -1)
    printf '%7s %8s %7s %10.0f %9.2f %8.1f %8.1f %9.1f %8.1f %9s %8.2f\n' "$workers" "$((workers * streams))" \
        "$threads" "$(value 'Output token throughput (tok/s)')" \
        "$(awk "BEGIN { print $(value 'CPU per output event (ns)') / 1000 }")" \
        "$(awk "BEGIN { print $(value 'Receive lag (ns)' '50%') / 1000 }")" \
        "$(awk "BEGIN { print $(value 'Receive lag (ns)' '99%') / 1000 }")" \
        "$(awk "BEGIN { print $(value 'Turnaround (ns)' '50%') / 1000 }")" \
        "$(awk "BEGIN { print 100 * $(value 'Worker CPU max (share)') }")" \
        "$(value 'Failed requests')" "$(value 'Mean concurrency while sending')"
}

printf '%7s %8s %7s %10s %9s %8s %8s %9s %8s %9s %8s\n' workers streams server 'tokens/s' 'us/event' 'lag p50' \
    'lag p99' 'turn p50' 'busy %' failed 'in flight'
for _ in $(seq "$rounds"); do
    for streams in ${STREAMS:-500 1000}; do
        for workers in 1 2 4 8 16; do
            if [ $((workers * 2)) -le "$cores" ]; then
                measure "$workers" "$streams" $((cores / 2))
            fi
        done
    done
    # Nearly all cores for the workers, at a tenth of the load.
    if [ "$cores" -ge 8 ]; then
        measure $((cores - 2)) 100 2
    fi
done
