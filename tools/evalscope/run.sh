#!/usr/bin/env bash
# Exports a sweep with --export evalscope=DIR and reads it with evalscope's own loader, reports and dashboards.
#
#   tools/evalscope/run.sh FOLDER [RINGMARK|install]
#
# FOLDER keeps a virtual environment with evalscope and what its readers import, which is made if it is not there; with
# `install` nothing else is done. Needs python3 with venv.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
folder=${1:?"usage: tools/evalscope/run.sh FOLDER [RINGMARK|install]"}
mkdir -p "$folder"
folder=$(cd "$folder" && pwd)
ringmark=$(realpath -m "${2:-$here/../../target/release/ringmark}")
python=$folder/venv/bin/python
version=1.14.1
if ! "$python" -m pip show evalscope 2>/dev/null | grep -qx "Version: $version"; then
    rm -rf "$folder/venv"
    python3 -m venv "$folder/venv"
    "$python" -m pip install --quiet --disable-pip-version-check 'pydantic>=2,<3' 'numpy>=2,<3' 'pillow>=11' 'tabulate<1' \
        'colorlog<7' 'docstring_parser<1' 'pyyaml<7' 'jsonschema>=4,<5' 'filelock<4' 'tqdm<5' 'filetype<2' 'jsonlines<5'
    "$python" -m pip install --quiet --disable-pip-version-check --no-deps "evalscope==$version"
fi
[ "${2:-}" != install ] || exit 0

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
(cd "$scratch" && "$ringmark" perf --url 'mock:?ttft=5ms&itl=1ms&tokens=8' --parallel 1 4 --number 20 --sleep-interval 0 \
    --quiet --export evalscope=results/mock) || [ $? -eq 3 ]
HF_HUB_OFFLINE=1 "$python" "$here/check.py" "$scratch/results/mock"
