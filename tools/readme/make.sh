#!/usr/bin/env bash
# Makes the pictures of README.md from a run of the built-in server, and the chart from the data of judged clients.
#
#   tools/readme/make.sh [RINGMARK]
#
# Needs python3 and Chromium; pngquant makes the screenshot smaller if it is installed.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
ringmark=$(realpath "${1:-$here/../../target/release/ringmark}")
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
cd "$scratch"

command='ringmark perf --url mock: --parallel 8 --number 200'
PATH=$(dirname "$ringmark"):$PATH python3 "$here/terminal.py" "$command" 100 20 >"$here/terminal.svg"

chromium --headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-component-update \
    --disable-sync --user-data-dir="$scratch/profile" --hide-scrollbars --force-device-scale-factor=1 --window-size=1000,1000 \
    --screenshot="$scratch/report.png" "file://$(realpath outputs/latest)/perf_report.html" 2>/dev/null
if command -v pngquant >/dev/null; then
    pngquant --force --output report.png 64 report.png
fi
cp report.png "$here/report.png"
python3 "$here/../judge/chart.py" "$here/../judge/data.json" >"$here/errors.svg"
ls -l "$here"/*.svg "$here"/*.png
