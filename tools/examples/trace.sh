#!/bin/sh
# Replays recorded traffic: the requests of trace.jsonl, each at its recorded time, whatever the server does.
#
#   trace.sh URL [SPEED]             # SPEED 2: twice as fast as recorded
#
# A line of the file is {"timestamp": SECONDS, "body": REQUEST}. The public traces of Mooncake, Bailian, BurstGPT and Azure are read as well;
# they have lengths instead of texts, so they need --tokenizer-path.
set -eu
url=${1:?"usage: trace.sh URL [SPEED]"}
here=$(cd "$(dirname "$0")" && pwd)
"${RINGMARK:-ringmark}" perf --url "$url" --open-loop --dataset trace --dataset-path "$here/trace.jsonl" --trace-speed "${2:-1}" \
    --name trace
