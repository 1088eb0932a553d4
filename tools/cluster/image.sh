#!/usr/bin/env bash
# Builds the container image with podman, docker or buildah, or only the folder that an image is built from.
#
#   tools/cluster/image.sh NAME:TAG [BINARY]
#   tools/cluster/image.sh --folder FOLDER [BINARY]
#
# BINARY is linked statically [default: target/ARCH-unknown-linux-musl/dist/ringmark, for this machine]. The certificates are those of
# this machine.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
certificates=${SSL_CERT_FILE:-/etc/ssl/certs/ca-certificates.crt}
target=$(uname -m)-unknown-linux-musl

fail() {
    echo "image: $1" >&2
    exit 2
}

make_folder() {
    local folder=$1 binary=$2
    [ -f "$binary" ] || fail "there is no $binary: build it with cargo build --profile dist --target $target"
    # A program that needs an interpreter cannot start in an image without libraries.
    if LC_ALL=C readelf -l "$binary" 2>/dev/null | grep -q INTERP; then
        fail "$binary is linked dynamically: give a static one"
    fi
    [ -f "$certificates" ] || fail "there is no $certificates: install ca-certificates, or set SSL_CERT_FILE"
    mkdir -p "$folder"
    install -m 755 "$binary" "$folder/ringmark"
    install -m 644 "$certificates" "$folder/ca-certificates.crt"
    install -m 644 "$here/Containerfile" "$folder/Containerfile"
}

folder=
if [ "${1:-}" = --folder ]; then
    folder=${2:?"usage: tools/cluster/image.sh --folder FOLDER [BINARY]"}
    shift
fi
name=${1:?"usage: tools/cluster/image.sh NAME:TAG [BINARY]"}
binary=${2:-$here/../../target/$target/dist/ringmark}
if [ -n "$folder" ]; then
    make_folder "$folder" "$binary"
    exit 0
fi
for builder in podman docker buildah; do
    command -v "$builder" >/dev/null || continue
    scratch=$(mktemp -d)
    trap 'rm -rf "$scratch"' EXIT
    make_folder "$scratch" "$binary"
    "$builder" build --tag "$name" --file "$scratch/Containerfile" "$scratch"
    exit 0
done
fail "none of podman, docker and buildah is installed"
