#!/usr/bin/env bash
# The steps of the action that are the same everywhere: measure, compare with the baseline, write the summary. All inputs are variables:
# RINGMARK, MEASURE_*, GITHUB_STEP_SUMMARY, GITHUB_OUTPUT.
#
# Exit status: 0 fast enough, 1 too slow, 2 could not be measured, 3 the run is void.
set -euo pipefail

results=$MEASURE_FOLDER/runs
[ ! -e "$results" ] || { echo "$results exists already: give each measurement of a job a name of its own" >&2; exit 2; }
arguments=()
while IFS= read -r line; do
    [ -z "$line" ] || arguments+=("$line")
done <<<"$MEASURE_ARGUMENTS"
[ -z "$MEASURE_SLO" ] || arguments+=(--slo "$MEASURE_SLO")

verdicts=$(mktemp)
trap 'rm -f "$verdicts"' EXIT
measured=0
"$RINGMARK" perf --url "$MEASURE_URL" --parallel "$MEASURE_PARALLEL" --number "$MEASURE_NUMBER" --repeat "$MEASURE_REPEAT" \
    --outputs-dir "$MEASURE_FOLDER" --no-timestamp --name runs --quiet "${arguments[@]}" | tee "$verdicts" || measured=$?
[ -d "$results" ] || exit "$measured"
echo "folder=$MEASURE_FOLDER" >>"$GITHUB_OUTPUT"

compared=0
{
    echo "## $(basename "$MEASURE_FOLDER"): $MEASURE_URL"
    echo
    if [ -d "$MEASURE_BASELINE" ] && [ "$measured" -le 1 ]; then
        gate=()
        [ -z "$MEASURE_FAIL_ON" ] || gate=(--fail-on "$MEASURE_FAIL_ON")
        "$RINGMARK" compare "$MEASURE_BASELINE" "$results" "${gate[@]}" --markdown - || compared=$?
    else
        echo "No comparison: $([ -d "$MEASURE_BASELINE" ] && echo "the run is not usable" || echo "there is no baseline yet")."
    fi
    echo
    echo '```text'
    cat "$verdicts"
    echo '```'
} >>"$GITHUB_STEP_SUMMARY"

status=$((measured != 0 ? measured : compared))
echo "status=$status" >>"$GITHUB_OUTPUT"
# What was too slow must not become what later jobs are compared with.
if [ "$MEASURE_UPDATE" = true ] && [ "$status" = 0 ]; then
    rm -rf "$MEASURE_BASELINE"
    cp -R "$results" "$MEASURE_BASELINE"
    echo "stored=true" >>"$GITHUB_OUTPUT"
fi
exit "$status"
