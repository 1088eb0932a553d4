#!/usr/bin/env bash
# Runs ringmark through nginx in front of the mock: without TLS, over TLS with a private certificate authority, without
# streaming, and with a thousand concurrent TLS streams. Fails unless every request succeeds.
#
#   tools/nginx/run.sh [RINGMARK]
#
# Needs nginx and openssl; as root on Debian it installs nginx-light. Without nginx the script is skipped with status 0, but
# fails with CI=true.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
ringmark=${1:-$here/../../target/release/ringmark}
requests=200
parallel=8

mock=
nginx=
scratch=$(mktemp -d)
clean_up() {
    for process in $nginx $mock; do
        kill "$process" 2>/dev/null || true
        wait "$process" 2>/dev/null || true
    done
    rm -rf "$scratch"
}
trap clean_up EXIT

fail() {
    echo "nginx: $1" >&2
    [ ! -f "$scratch/error.log" ] || tail -n 20 "$scratch/error.log" >&2
    exit 1
}

find_nginx() {
    PATH=$PATH:/usr/sbin
    if ! command -v nginx >/dev/null && command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
        apt-get install -y -qq --no-install-recommends nginx-light >"$scratch/apt.log" 2>&1 || true
    fi
    if ! command -v nginx >/dev/null; then
        [ "${CI:-}" != true ] || fail "nginx is missing and could not be installed"
        echo "nginx: skipped: install nginx-light to run this"
        exit 0
    fi
}

free_ports() {
    python3 - "$1" <<'PORTS'
import socket, sys
sockets = [socket.socket() for _ in range(int(sys.argv[1]))]
for each in sockets:
    each.bind(("127.0.0.1", 0))
print(*[each.getsockname()[1] for each in sockets])
PORTS
}

# Creates a certificate authority and a certificate for localhost.
make_certificates() {
    local log=$scratch/openssl.log
    cd "$scratch"
    {
        openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj "/CN=ringmark test CA" -keyout ca.key -out ca.pem
        openssl req -newkey rsa:2048 -nodes -subj "/CN=localhost" -keyout server.key -out server.csr
        printf 'subjectAltName=DNS:localhost,IP:127.0.0.1\nbasicConstraints=CA:FALSE\n' >server.ext
        openssl x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile server.ext \
            -out server.pem
    } >"$log" 2>&1 || fail "openssl failed: $(tail -n 1 "$log")"
    cd "$OLDPWD"
}

await() {
    local what=$1
    shift
    for _ in $(seq 100); do
        if "$@" >/dev/null 2>&1; then
            return
        fi
        sleep 0.1
    done
    fail "$what did not start within 10 s"
}

# Starts the mock behind nginx with the given parameters, and stops the previous one.
start_mock() {
    if [ -n "$mock" ]; then
        kill "$mock"
        wait "$mock" 2>/dev/null || true
    fi
    "$ringmark" mock --port "$backend" "$@" >"$scratch/mock.log" &
    mock=$!
    await "the mock" grep -q '^listening' "$scratch/mock.log"
}

start_nginx() {
    sed -e "s|FOLDER|$scratch|g; s|PLAIN|$plain|; s|TLS|$tls|; s|BACKEND|$backend|" \
        "$here/nginx.conf.template" >"$scratch/nginx.conf"
    nginx -p "$scratch" -c "$scratch/nginx.conf" -e "$scratch/error.log" &
    nginx=$!
    await nginx python3 -c "import socket; socket.create_connection(('127.0.0.1', $plain), 1)"
}

# Runs ringmark with the given arguments and checks its summary.
measure() {
    local name=$1 status=0
    shift
    "$ringmark" perf --model mock --number "$requests" --parallel "$parallel" --quiet \
        --outputs-dir "$scratch/out" --no-timestamp --name "$name" "$@" || status=$?
    # On a busy machine the figures may be void (3), which is accepted.
    [ "$status" = 0 ] || [ "$status" = 3 ] || fail "$name: ringmark exited with status $status"
    python3 - "$scratch/out/$name" "$requests" "$name" "${connections:-$parallel}" <<'CHECK' || fail "$name: requests failed, or connections were replaced"
import json, pathlib, sys
found = next(pathlib.Path(sys.argv[1]).glob("*/benchmark_summary.json"))
summary = json.loads(found.read_text())
ok, failed = summary["Succeed requests"], summary["Failed requests"]
opened = summary["Client"]["Connections opened"]
print(f"nginx: {sys.argv[3]}: {ok} ok, {failed} failed, {opened} connections opened")
# nginx closes none of them, so each slot keeps its own, also where OpenSSL sends session tickets late.
sys.exit(0 if (ok, failed) == (int(sys.argv[2]), 0) and opened <= int(sys.argv[4]) else 1)
CHECK
}

find_nginx
read -r plain tls backend <<<"$(free_ports 3)"
make_certificates
start_mock ttft=10ms itl=2ms tokens=20
start_nginx
measure plain --url "http://127.0.0.1:$plain/v1/chat/completions"
measure tls --url "https://localhost:$tls/v1/chat/completions" --cacert "$scratch/ca.pem"
measure tls_by_address --url "https://127.0.0.1:$tls/v1/chat/completions" --cacert "$scratch/ca.pem"
measure tls_unverified --url "https://localhost:$tls/v1/chat/completions" --insecure
measure whole --url "http://127.0.0.1:$plain/v1/chat/completions" --no-stream
connections=$requests measure open --url "http://127.0.0.1:$plain/v1/chat/completions" --open-loop --rate 200
if "$ringmark" perf --model mock --number 2 --quiet --outputs-dir "$scratch/out" --no-timestamp --name unknown_ca \
    --url "https://localhost:$tls/v1/chat/completions" 2>"$scratch/refused.log"; then
    fail "a certificate of an unknown authority was accepted"
fi
grep -qi certificate "$scratch/refused.log" || fail "the error does not mention the certificate: $(cat "$scratch/refused.log")"
# A thousand handshakes, then a thousand concurrent streams; all requests must succeed.
[ "$(ulimit -n)" -ge 4096 ] || ulimit -n 4096 || fail "a thousand streams need ulimit -n 4096"
start_mock ttft=200ms itl=50ms tokens=20
requests=3000 parallel=1000 measure tls_thousand --url "https://localhost:$tls/v1/chat/completions" \
    --cacert "$scratch/ca.pem"
echo "nginx: done"
