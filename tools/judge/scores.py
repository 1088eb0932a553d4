#!/usr/bin/env python3
"""The scores of judged clients as a Markdown table.

    python3 tools/judge/scores.py CLIENT.json ...

The files are those of `ringmark judge --json`.
"""

import json
import sys

FAILED, OTHER, UNKNOWN = "fail", "other_definition", "unknown"


def score(judgement):
    """Checks passed of those that could be answered, and the checks that failed."""
    verdicts = [check["verdict"] for check in judgement["checks"]]
    judged = [verdict for verdict in verdicts if verdict != UNKNOWN]
    failed = [check["name"] for check in judgement["checks"] if check["verdict"] == FAILED]
    return sum(verdict == "pass" for verdict in judged), len(judged), failed


def table(clients):
    """A row for each scenario, a column for each client."""
    names = [judgements[0]["name"] for judgements in clients]
    scenarios = list(dict.fromkeys(judgement["scenario"] for judgements in clients for judgement in judgements))
    lines = ["| scenario | " + " | ".join(names) + " |", "|---|" + "---|" * len(names)]
    for scenario in scenarios:
        cells = []
        for judgements in clients:
            found = [judgement for judgement in judgements if judgement["scenario"] == scenario]
            cells.append("{} of {}".format(*score(found[-1])[:2]) if found else "-")
        lines.append(f"| {scenario} | " + " | ".join(cells) + " |")
    lines.append("")
    for judgements in clients:
        wrong = ", ".join(sorted({name for judgement in judgements for name in score(judgement)[2]})) or "nothing"
        other = {
            f"{one['figure']} {one['definition']}"
            for judgement in judgements
            for one in judgement["deviations"]
            if one["definition"]
        }
        lines.append(f"- {judgements[0]['name']}: wrong in some scenario: {wrong}." + "".join(f"\n  - {text}" for text in sorted(other)))
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(table([json.load(open(path)) for path in sys.argv[1:]]), end="")
