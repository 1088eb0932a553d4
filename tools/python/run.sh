#!/usr/bin/env bash
# Builds the wheel, installs it into a fresh virtual environment, runs the package's tests there, and checks its types.
#
#   tools/python/run.sh FOLDER [PROFILE|install]
#
# FOLDER keeps the build environment and the wheel. The default profile is `release`, which uses an existing
# `cargo build --release`. With `install` only the build environment is made. Needs python3 with venv, and Rust.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
folder=${1:?"usage: tools/python/run.sh FOLDER [PROFILE|install]"}
mkdir -p "$folder"
folder=$(cd "$folder" && pwd)
profile=${2:-release}

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

if ! "$folder/build/bin/maturin" --version >/dev/null 2>&1; then
    rm -rf "$folder/build"
    python3 -m venv "$folder/build"
    "$folder/build/bin/python" -m pip install --quiet --disable-pip-version-check 'maturin>=1.7,<2'
fi
if ! "$folder/build/bin/mypy" --version >/dev/null 2>&1; then
    "$folder/build/bin/python" -m pip install --quiet --disable-pip-version-check mypy
fi
[ "$profile" != install ] || exit 0
rm -rf "$folder/wheels"
start=$SECONDS
(cd "$here" && "$folder/build/bin/maturin" build --profile "$profile" --out "$folder/wheels")
echo "python: the wheel took $((SECONDS - start)) s"

python3 -m venv "$scratch/venv"
"$scratch/venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-index "$folder"/wheels/ringmark-*.whl
# The documents of --json are checked with a validator that is not ours.
"$scratch/venv/bin/python" -m pip install --quiet --disable-pip-version-check 'jsonschema>=4.18,<5'
cd "$scratch"
unset RINGMARK PYTHONPATH
MYPYPATH="$here/python" "$folder/build/bin/mypy" --strict --cache-dir "$scratch/mypy" -p ringmark
MYPY="$folder/build/bin/mypy" PYTHONDONTWRITEBYTECODE=1 "$scratch/venv/bin/python" -m unittest discover -s "$here/tests"
echo "python: done"
