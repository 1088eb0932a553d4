#!/bin/sh
# Measures a server whose API is not one of the built-in ones: api/plain.toml describes its request and its response. api/README.md has all that
# such a file can contain, and how a program takes its place.
#
#   custom_api.sh URL                # without a path: the path is in the file
set -eu
url=${1:?"usage: custom_api.sh URL"}
here=$(cd "$(dirname "$0")" && pwd)
"${RINGMARK:-ringmark}" perf --url "$url" --api "$here/api/plain.toml" --no-stream --parallel 4 --number "${NUMBER:-200}" \
    --name custom_api
