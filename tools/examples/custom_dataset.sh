#!/bin/sh
# Sends the prompts that a program prints: my_prompts.py, one JSON value on each line. It runs before the measurement, so it may be slow.
#
#   custom_dataset.sh URL
set -eu
url=${1:?"usage: custom_dataset.sh URL"}
here=$(cd "$(dirname "$0")" && pwd)
"${RINGMARK:-ringmark}" perf --url "$url" --dataset "$here/my_prompts.py" --parallel 4 --number "${NUMBER:-200}" --name custom_dataset
