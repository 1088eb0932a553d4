#!/usr/bin/env python3
"""The figures of judged clients that the chart and the tables need, as JSON with a judgement a line.

    python3 tools/judge/reduce.py FILE.json ... >tools/judge/data.json

The files are those of `ringmark judge --json`. chart.py and tables.py read both.
"""

import json
import sys

import chart

# The members that are kept; None keeps all.
KEPT = {
    "name": None,
    "scenario": None,
    "mock": None,
    "asked": None,
    "client": [
        "cpu_s",
        "steady_cpu_per_event_us",
        "fixed_cpu_s",
        "busiest_thread",
        "busiest_share",
        "cores",
        "peak_rss_bytes",
        "peak_threads",
    ],
    "observed": [
        "requests",
        "connections",
        "mean_in_flight",
        "peak_in_flight",
        "first_wave_s",
        "turnaround_p50_s",
        "turnaround_p99_s",
    ],
    "truth": ["requests_per_s"],
    "server": ["lateness_p99_ns"],
}
DEVIATION = ["figure", "of", "reported_ms", "true_ms", "true_by_own_definition_ms", "definition", "error_ms", "is_wrong"]
DIGITS = 7


def rounded(value):
    """Numbers with so many digits as can be seen."""
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}")
    if isinstance(value, dict):
        return {key: rounded(member) for key, member in value.items()}
    if isinstance(value, list):
        return [rounded(member) for member in value]
    return value


def reduced(judgement):
    out = {}
    for key, members in KEPT.items():
        found = judgement[key]
        out[key] = found if members is None else {member: found[member] for member in members if member in found}
    out["checks"] = [{"name": check["name"], "verdict": check["verdict"]} for check in judgement["checks"]]
    shown = [one for one in judgement["deviations"] if one["of"] in chart.STATISTICS]
    out["deviations"] = [{key: one[key] for key in DEVIATION} for one in shown]
    return rounded(out)


def text(judgements):
    """The file's content: a list, with a line for each judgement so that changes can be read."""
    lines = [json.dumps(reduced(judgement), separators=(",", ":"), ensure_ascii=False) for judgement in judgements]
    return "[\n" + ",\n".join(lines) + "\n]\n"


if __name__ == "__main__":
    print(text(chart.read(sys.argv[1:])), end="")
