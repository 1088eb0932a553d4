#!/bin/sh
# Compares two builds that run at the same time on two ports. They are measured in turn, so that a machine that slowly becomes warmer
# or busier does not decide the result.
#
#   ab.sh URL_A URL_B [ROUNDS]       # 6 rounds by default: enough to judge two figures
#
# Results: rounds/, with compare.html for the browser. Exit status 1: B is significantly slower than A.
set -eu
a=${1:?"usage: ab.sh URL_A URL_B [ROUNDS]"}
b=${2:?"usage: ab.sh URL_A URL_B [ROUNDS]"}
rounds=${3:-6}
ringmark=${RINGMARK:-ringmark}

# The same seed gives both builds the same lengths and schedule; the text differs, so that no prefix cache answers the second one.
measure() {
    "$ringmark" perf --url "$2" --parallel 8 --number "${NUMBER:-500}" --warmup-num 8 --data-seed 1 --outputs-dir "rounds/$1" \
        --no-timestamp --name "$3" --quiet
}

round=1
while [ "$round" -le "$rounds" ]; do
    # Every other round begins with B: what the first of the two leaves behind does not always meet the same build.
    if [ $((round % 2)) = 1 ]; then
        measure a "$a" "$round"
        measure b "$b" "$round"
    else
        measure b "$b" "$round"
        measure a "$a" "$round"
    fi
    round=$((round + 1))
done
"$ringmark" compare rounds/a rounds/b --pool --fail-on 'p50_itl:+2%,tps:-2%' --html rounds/compare.html
