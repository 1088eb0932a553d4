#!/usr/bin/env bash
# Tests the artefacts that build.sh has made: each is installed as a user would, in a place that has nothing else, and measures.
#
#   tools/release/test.sh FOLDER [ARCH]
#
# With the ARCH of another machine, what can be tested with qemu is: the archive, that the program measures, the wheel, the Debian package
# and the list of parts, but not the timestamps, which qemu has only in part.
#
# Needs root, or user namespaces, to run programs in an empty root folder; python3 with venv; openssl; apt-get.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
folder=$(cd "${1:?"usage: tools/release/test.sh FOLDER"}" && pwd)
host=$(uname -m)
arch=${2:-$host}
# What starts a program of that architecture.
runner=()
[ "$arch" = "$host" ] || runner=("qemu-$arch-static")
largest_mb=20

scratch=$(mktemp -d)
server=
# Where a measurement of check_measurement writes, as the program that runs it sees it.
outputs=
clean_up() {
    [ -z "$server" ] || { kill "$server" 2>/dev/null && wait "$server" 2>/dev/null; } || true
    rm -rf "$scratch"
}
trap clean_up EXIT

fail() {
    echo "release test: $1" >&2
    [ ! -s "$scratch/output" ] || tail -n 30 "$scratch/output" >&2
    exit 1
}

# Runs the command with this folder as its root, without the certificates that variables name outside of it.
within() {
    local root=$1
    shift
    if [ "$(id -u)" = 0 ]; then
        env -u SSL_CERT_FILE -u SSL_CERT_DIR chroot "$root" "$@"
    else
        env -u SSL_CERT_FILE -u SSL_CERT_DIR unshare --user --map-root-user --root="$root" --wd=/ "$@"
    fi
}

# Measures the built-in server with the given command, and checks the document of the run. A busy machine may make it void.
check_measurement() {
    local status=0
    "$@" perf --url 'mock:?ttft=5ms&itl=1ms&tokens=10' --parallel 4 --number 100 --outputs-dir "$outputs" --json - \
        >"$scratch/call.json" 2>"$scratch/output" || status=$?
    [ "$status" = 0 ] || [ "$status" = 3 ] || fail "$1: status $status"
    python3 - "$scratch/call.json" <<'END' || fail "$1: the measurement is wrong"
import json
import sys

run = json.load(open(sys.argv[1]))["scenarios"][0]["runs"][0]
summary = run["summary"]
assert summary["Succeed requests"] == 100, summary
print("   ", summary["Succeed requests"], "requests, TTFT", summary["Average time to first token (s)"], "s")
END
    "$@" report "$outputs" >"$scratch/output" 2>&1 || fail "$1: the report cannot be made again"
    [ "$arch" = "$host" ] || return 0
    grep -q 'Reads with a kernel timestamp *| *100.00 %' "$scratch/output" || fail "$1: reads without a timestamp of the kernel"
}

test_checksums() {
    (cd "$folder" && sha256sum --quiet --check "SHA256SUMS-$arch")
}

test_program() {
    tar -C "$scratch" -xzf "$folder"/ringmark-*-"$arch"-unknown-linux-musl.tar.gz
    local unpacked size
    unpacked=$(echo "$scratch"/ringmark-*-musl)
    program=$unpacked/ringmark
    size=$(stat -c %s "$program")
    echo "    $((size / 1000)) kB"
    [ "$size" -le $((largest_mb * 1000000)) ] || fail "the program is larger than $largest_mb MB"
    if ldd "$program" >"$scratch/output" 2>&1 && ! grep -q 'statically linked' "$scratch/output"; then
        fail "the program is not statically linked"
    fi
    grep -q '^\.TH ringmark' "$unpacked/man/ringmark.1" || fail "no manual page"
}

# Without /proc, /etc, /dev, /tmp, and without root certificates of the system.
test_empty_root() {
    local empty=$scratch/empty
    mkdir "$empty"
    cp "$program" "$empty"
    outputs=/outputs check_measurement within "$empty" /ringmark
    test -s "$empty"/outputs/*/*/perf_report.html || fail "no report"
    within "$empty" /ringmark version >"$scratch/output"
    grep -q 'unknown-linux-musl' "$scratch/output" || fail "not the program for musl"
    start_tls_server
    if within "$empty" /ringmark perf --url "https://127.0.0.1:$port/v1" --model m --number 1 >"$scratch/output" 2>&1; then
        fail "a certificate of an unknown authority was accepted"
    fi
    grep -q 'give the certificate of its authority with --cacert' "$scratch/output" || fail "the built-in root certificates were not used"
}

# Sets $port. The certificate is signed by nobody.
start_tls_server() {
    openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=127.0.0.1 -addext subjectAltName=IP:127.0.0.1 \
        -addext basicConstraints=critical,CA:FALSE -keyout "$scratch/key.pem" -out "$scratch/cert.pem" 2>"$scratch/output"
    python3 - "$scratch" <<'END' &
import http.server
import os
import ssl
import sys

server = http.server.HTTPServer(("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(f"{sys.argv[1]}/cert.pem", f"{sys.argv[1]}/key.pem")
server.socket = context.wrap_socket(server.socket, server_side=True)
with open(f"{sys.argv[1]}/port.part", "w") as file:
    file.write(str(server.server_address[1]))
os.rename(f"{sys.argv[1]}/port.part", f"{sys.argv[1]}/port")
server.serve_forever()
END
    server=$!
    until [ -e "$scratch/port" ]; do
        kill -0 "$server" || fail "the TLS server does not start"
        sleep 0.05
    done
    port=$(cat "$scratch/port")
}

# Sets $wheel and $venv.
check_platforms() {
    local wheels=("$folder"/ringmark-*.whl)
    [ ${#wheels[@]} = 1 ] || fail "one wheel is expected"
    wheel=${wheels[0]} venv=$scratch/venv
    python3 -m venv "$venv"
    # Every platform that its name promises accepts it.
    for platform in "manylinux2014_$arch" "manylinux_2_17_$arch" "musllinux_1_1_$arch"; do
        "$venv/bin/python" -m pip download --quiet --disable-pip-version-check --no-deps --no-index --find-links "$folder" \
            --platform "$platform" --only-binary :all: --dest "$scratch/$platform" ringmark
    done
}

test_wheel() {
    check_platforms
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-index "$wheel"
    cmp "$venv/bin/ringmark" "$program" || fail "the wheel has another program"
    outputs=$scratch/wheel-outputs check_measurement "$venv/bin/ringmark"
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check 'jsonschema>=4.18,<5'
    (cd "$scratch" && PYTHONDONTWRITEBYTECODE=1 "$venv/bin/python" -m unittest discover -s "$here/../python/tests") \
        >"$scratch/output" 2>&1 || fail "the tests of the package fail"
}

# It is built in the target folder of this repository, where all crates but ringmark are built already.
test_sdist() {
    local build
    build=$(cargo metadata --manifest-path "$here/../../Cargo.toml" --locked --no-deps --format-version 1 |
        python3 -c 'import json, sys; print(json.load(sys.stdin)["target_directory"])')
    mkdir "$scratch/sdist"
    for archive in "$folder"/ringmark-*.tar.gz; do
        case $archive in *-musl.tar.gz | *-image.tar.gz) ;; *) tar -C "$scratch/sdist" -xzf "$archive" ;; esac
    done
    (cd "$scratch"/sdist/ringmark-* && CARGO_TARGET_DIR=$build "$build/release-parts/python/bin/maturin" build --locked --profile dist \
        --target "$arch-unknown-linux-musl" --compatibility linux --out "$scratch/from-sdist") >"$scratch/output" 2>&1 ||
        fail "the sdist cannot be built"
    ls "$scratch"/from-sdist/ringmark-*.whl
}

# Runs apt-get for the system in this folder, which has nothing installed and no sources.
apt_for() {
    local root=$1 option options=()
    shift
    for option in Dir::State="$root/apt" Dir::State::status="$root/var/lib/dpkg/status" Dir::Cache="$root/apt" Dir::Log="$root/apt" \
        Dir::Etc::sourcelist=/dev/null Dir::Etc::sourceparts=/dev/null APT::Sandbox::User="" Dpkg::Options::=--root="$root" \
        Dpkg::Options::=--force-not-root Dpkg::Options::=--force-script-chrootless Dpkg::Options::=--log=/dev/null; do
        options+=(-o "$option")
    done
    apt-get "${options[@]}" --yes "$@" >"$scratch/output" 2>&1
}

test_deb() {
    local root=$scratch/debian deb=("$folder"/ringmark_*.deb)
    mkdir -p "$root"/var/lib/dpkg/{info,updates} "$root"/apt/{lists,archives}/partial
    : >"$root/var/lib/dpkg/status"
    apt_for "$root" install --no-install-recommends "${deb[0]}" || fail "apt cannot install the package"
    outputs=/outputs check_measurement within "$root" /usr/bin/ringmark
    gzip -t "$root/usr/share/man/man1/ringmark-perf.1.gz"
    apt_for "$root" remove ringmark || fail "apt cannot remove the package"
    [ ! -e "$root/usr/bin/ringmark" ] || fail "the program is still there after the package was removed"
}

# The program of another architecture starts. It cannot measure here: qemu lacks system calls for that.
test_foreign_program() {
    "${runner[@]}" "$program" version | tee "$scratch/version"
    grep -q "^target: *$arch-unknown-linux-musl\$" "$scratch/version" || fail "the program is not one for $arch"
    "${runner[@]}" "$program" guide start >"$scratch/guide"
    grep -q '^Getting started' "$scratch/guide" || fail "the program does not print its manual"
}

test_foreign_wheel() {
    check_platforms
    "$venv/bin/python" -m zipfile -e "$wheel" "$scratch/unpacked-wheel"
    cmp "$scratch"/unpacked-wheel/ringmark-*.data/scripts/ringmark "$program" || fail "the wheel has another program"
}

test_foreign_deb() {
    local deb=("$folder"/ringmark_*.deb)
    dpkg-deb -x "${deb[0]}" "$scratch/unpacked-deb"
    cmp "$scratch/unpacked-deb/usr/bin/ringmark" "$program" || fail "the package has another program"
    echo "    $(dpkg-deb -f "${deb[0]}" Architecture)"
}

buildah_here() {
    buildah --storage-driver vfs --root "$scratch/storage" --runroot "$scratch/run" "$@"
}

test_image() {
    local images=("$folder"/ringmark-*-image.tar.gz) container
    if [ ! -e "${images[0]}" ]; then
        echo "    not made"
        return
    fi
    gunzip -c "${images[0]}" >"$scratch/image.tar"
    container=$(buildah_here from "docker-archive:$scratch/image.tar")
    # The user of the image writes into a folder of this machine.
    mkdir -m 777 "$scratch/results"
    outputs=/results/outputs check_measurement buildah_here run --isolation chroot --volume "$scratch/results:/results" "$container" -- /ringmark
    [ "$(stat -c %u "$scratch/results/outputs")" = 65532 ] || fail "the image does not run as its own user"
    buildah_here rm "$container" >/dev/null
}

test_parts_list() {
    local venv=$scratch/parts-venv
    python3 -m venv "$venv"
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check 'cyclonedx-python-lib[json-validation]>=8,<12'
    "$venv/bin/python" - "$folder"/*.cdx.json <<'END' || fail "the list of parts is wrong"
import json
import sys

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

text = open(sys.argv[1]).read()
error = JsonStrictValidator(SchemaVersion.V1_5).validate_str(text)
assert error is None, error
components = json.loads(text)["components"]
names = {component["name"] for component in components}
assert {"rustls", "io-uring", "libsqlite3-sys", "mimalloc"} <= names and not {"proptest", "cc"} & names, names
incomplete = [part["name"] for part in components if not part.get("licenses") or not part.get("hashes")]
assert not incomplete, incomplete
print("   ", len(names), "parts")
END
}

tests=(checksums program empty_root wheel sdist deb image parts_list)
[ "$arch" = "$host" ] || tests=(checksums program foreign_program foreign_wheel foreign_deb parts_list)
for name in "${tests[@]}"; do
    echo "--- ${name/_/ }"
    : >"$scratch/output"
    "test_$name"
done
echo "release test: done"
