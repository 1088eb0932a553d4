#!/bin/sh
# Holds conversations: each turn sends all earlier messages with the model's real answers, after a think time. The tables have a row for
# each turn.
#
#   conversations.sh URL
#
# A line of conversations.jsonl is the list of a user's messages. NUMBER counts conversations.
set -eu
url=${1:?"usage: conversations.sh URL"}
here=$(cd "$(dirname "$0")" && pwd)
"${RINGMARK:-ringmark}" perf --url "$url" --dataset custom_multi_turn --dataset-path "$here/conversations.jsonl" --think-time 0.1 0.5 \
    --parallel 4 --number "${NUMBER:-40}" --max-tokens 200 --name conversations --verbose
