#!/usr/bin/env bash
# Runs the documented commands for wandb, SwanLab and ClearML against the mock with the services' own SDKs in their
# offline modes, and checks that the files that they write contain the figures.
#
#   tools/visualizers/run.sh FOLDER [RINGMARK|install]
#
# FOLDER keeps the Python environment for later calls; with `install` it is made, and nothing runs. Needs python3 with venv.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
folder=${1:?"usage: tools/visualizers/run.sh FOLDER [RINGMARK|install]"}
mkdir -p "$folder"
folder=$(cd "$folder" && pwd)
ringmark=$(realpath -m "${2:-$here/../../target/release/ringmark}")

python=$folder/venv/bin/python
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
cd "$scratch"

fail() {
    echo "visualizers: $1" >&2
    exit 1
}

make_environment() {
    if ! "$python" -c 'import wandb, swanlab, swanboard, clearml' 2>/dev/null; then
        rm -rf "$folder/venv"
        python3 -m venv "$folder/venv"
        "$python" -m pip install --quiet --disable-pip-version-check wandb 'swanlab[dashboard]' clearml
    fi
}

# Runs a sweep of two loads with the given arguments; data points are 20 requests apart.
measure() {
    "$ringmark" perf --url 'mock:?ttft=2ms&itl=1ms&tokens=5' --parallel 1 2 --number 40 60 --sleep-interval 0 \
        --log-every-n-query 20 --no-timestamp --outputs-dir "$scratch/outputs" "$@" >"$scratch/screen.txt" 2>&1 ||
        { cat "$scratch/screen.txt" >&2; fail "ringmark exited with status $?"; }
    if grep -E 'may lack figures|did not reach|refused' "$scratch/screen.txt" >&2; then
        fail "figures were lost"
    fi
}

# The caller's settings are neither used nor changed, and no service is contacted.
unset "${!WANDB_@}" "${!SWANLAB_@}" "${!CLEARML_@}"
make_environment
[ "${2:-}" != install ] || exit 0
export HOME=$scratch/home PATH=$folder/venv/bin:$PATH
export CLEARML_CACHE_DIR=$scratch/clearml WANDB_ERROR_REPORTING=false
mkdir -p "$HOME"

WANDB_MODE=offline measure --visualizer wandb --name 'name_of_wandb_log'
measure --visualizer swanlab --swanlab-api-key local --name 'name_of_swanlab_log'
SWANLAB_MODE=offline SWANLAB_PROJ_NAME=mine measure --visualizer swanlab --name 'kept_for_later'
CLEARML_OFFLINE_MODE=1 CLEARML_PROJECT_NAME=mine measure --visualizer clearml --name 'name_of_clearml_task'
"$python" "$here/check.py" "$scratch/outputs" "$CLEARML_CACHE_DIR" || fail "the services' files do not have all figures"
echo "visualizers: done"
