#!/bin/sh
# Finds how much load a server carries while it keeps its objectives: first the number of requests in flight, then the rate of an
# open loop, which is what independent users cause.
#
#   capacity.sh URL [HIGHEST]        # HIGHEST: the largest load to try, 256 by default
#
# DURATION is the length of a run at a rate, 60 seconds by default. Each load is measured three times.
# Results: capacity/, with a report for the browser in each folder. Exit status 1: not even one request at a time keeps them.
set -eu
url=${1:?"usage: capacity.sh URL [HIGHEST]"}
highest=${2:-256}
ringmark=${RINGMARK:-ringmark}
objectives='p99_ttft<=2 p99_tpot<=50ms'

search() {
    name=$1
    shift
    "$ringmark" perf --url "$url" --sla-auto-tune --sla-params "$objectives" --sla-upper-bound "$highest" \
        --outputs-dir capacity --no-timestamp --name "$name" "$@"
}

search in_flight --number "${NUMBER:-1000}"
search rate --sla-variable rate --sla-lower-bound 1 --duration "${DURATION:-60}"
