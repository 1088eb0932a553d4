#!/usr/bin/env python3
"""A chart of the errors of judged clients on the same server, as SVG.

    python3 tools/judge/chart.py tools/judge/data.json >tools/readme/errors.svg

The files are those of `ringmark judge --json`, or what reduce.py has made of them. For each panel, client and figure there is a bar for the error of each run by
the client's own definition, on a logarithmic scale, and a frame for how far that definition is from ringmark's. The colours
follow the reader's light or dark scheme.
"""

import json
import math
import sys
from html import escape
from pathlib import Path

# Scenario, streams, heading, explanation.
PANELS = [
    ("steady", 8, "8 streams", "about 800 events/s in all"),
    ("steady", 200, "200 streams", "about 10,000 events/s in all; the client has one core"),
    ("role_first", 8, "The role 200 ms before the first token", "8 streams"),
]
# Figure, statistic, heading.
COLUMNS = [
    ("TTFT", "p50", "median TTFT"),
    ("TTFT", "p99", "p99 TTFT"),
    ("ITL", "p99", "p99 ITL"),
    ("TPOT", "mean", "mean TPOT"),
    ("latency", "p99", "p99 latency"),
]
# The statistics of the tables, of which the chart shows some.
STATISTICS = ["mean", "p50", "p90", "p95", "p99", "max"]
SMALLEST_MS, LARGEST_MS = 0.01, 10_000.0
NAMES, COLUMN, BAR, ROW, HEAD = 104, 156, 66, 22, 54

STYLE = """
text{font:13px system-ui,-apple-system,"Segoe UI",sans-serif;fill:#1c2430}
.soft{fill:#5d6b7e;font-size:11.5px}
.head{font-weight:600}
.title{font-weight:600;font-size:15px}
.right{fill:#12805c}
.wrong{fill:#c2322d}
text.wrong{font-weight:600;font-size:11.5px}
.other{fill:none;stroke:#a86200;stroke-width:1.3}
.own{fill:#a86200;font-weight:400}
.line{stroke:#dfe4ea}
@media(prefers-color-scheme:dark){
text{fill:#e6eaf0}.soft{fill:#98a5b6}.right{fill:#4cc38a}.wrong{fill:#f0706a}.other{stroke:#e5a03c}.own{fill:#e5a03c}.line{stroke:#323b47}
}
"""


def read(paths):
    """The judgements in these files."""
    return [judgement for path in paths for judgement in json.loads(Path(path).read_text(encoding="utf-8"))]


def is_void(judgement):
    """Whether the server was too late for the client to be judged."""
    return any(check["name"] == "mock" and check["verdict"] != "pass" for check in judgement["checks"])


def runs(judgements, name, scenario, parallel):
    """The judgements of a client in a scenario with so many streams."""
    return [
        judgement
        for judgement in judgements
        if judgement["name"] == name
        and judgement["scenario"] == scenario
        and judgement["asked"]["parallel"] == parallel
        and not is_void(judgement)
    ]


def deviation(judgement, figure, of):
    """A mean or percentile beside the true one, or None if it was not reported."""
    for one in judgement["deviations"]:
        if one["figure"] == figure and one["of"] == of:
            return one
    return None


def difference_ms(one):
    """How far the client's definition is from ringmark's."""
    return one["true_by_own_definition_ms"] - one["true_ms"] if one["definition"] else 0.0


def width(error_ms):
    """Length of the bar of an error."""
    decades = math.log10(LARGEST_MS / SMALLEST_MS)
    share = math.log10(max(abs(error_ms), SMALLEST_MS) / SMALLEST_MS) / decades
    return max(1.5, min(share, 1.0) * BAR)


def number(error_ms):
    if abs(error_ms) < 0.005:
        return "0.00"
    digits = 2 if abs(error_ms) < 10 else 1 if abs(error_ms) < 100 else 0
    return f"{error_ms:+,.{digits}f}".replace("-", "−")


def explanation(one):
    """The text of the tooltip."""
    text = f'{one["figure"]} {one["of"]}: {one["reported_ms"]:.3f} ms reported, {one["true_by_own_definition_ms"]:.3f} ms true'
    if one["definition"]:
        text += f', measured {one["definition"]} ({one["true_ms"]:.3f} ms by ringmark\'s definition)'
    return text


def cell(found, left, middle):
    """The bars of a figure, one for each run, the frame of its definition, and the largest error as a number."""
    found = [one for one in found if one is not None]
    if not found:
        return [f'<text class="soft" x="{left}" y="{middle + 4}">–</text>']
    height = 14 / len(found)
    parts = []
    for place, one in enumerate(found):
        colour = "wrong" if one["is_wrong"] else "right"
        top = middle - 7 + place * height
        parts.append(
            f'<rect class="{colour}" x="{left}" y="{top:.1f}" width="{width(one["error_ms"]):.1f}" height="{height - 1:.1f}" rx="1.5"/>'
        )
    largest = max(found, key=lambda one: abs(one["error_ms"]))
    other = max(found, key=lambda one: abs(difference_ms(one)))
    label = left + max(width(one["error_ms"]) for one in found)
    if other["definition"]:
        framed = width(difference_ms(other))
        parts.append(f'<rect class="other" x="{left - 1}" y="{middle - 9}" width="{framed + 2:.1f}" height="17" rx="3"/>')
        label = max(label, left + framed)
    colour = "wrong" if any(one["is_wrong"] for one in found) else "soft"
    text = f'<tspan class="{colour}">{number(largest["error_ms"])}</tspan>'
    if other["definition"]:
        text += f' <tspan class="own">≈ {number(difference_ms(other))}</tspan>'
    parts.append(f'<text class="{colour}" x="{label + 6:.1f}" y="{middle + 4}">{text}</text>')
    title = "; ".join(explanation(one) for one in found)
    return [f"<g><title>{escape(title)}</title>{''.join(parts)}</g>"]


def panel(judgements, names, place, top):
    """The rows of a panel, and where it ends."""
    scenario, parallel, heading, about = place
    rows = [(name, runs(judgements, name, scenario, parallel)) for name in names]
    rows = [(name, found) for name, found in rows if found]
    total = NAMES + COLUMN * len(COLUMNS)
    if not rows:
        return [], top
    out = [
        f'<text class="head" x="0" y="{top + 16}">{escape(heading)}'
        f'<tspan class="soft" dx="8">{escape(about)}</tspan></text>'
    ]
    for column, (_, _, name) in enumerate(COLUMNS):
        out.append(f'<text class="soft" x="{NAMES + COLUMN * column}" y="{top + 38}">{name}</text>')
    top += 46
    for name, found in rows:
        middle = top + ROW // 2
        out.append(f'<line class="line" x1="0" x2="{total}" y1="{top}" y2="{top}"/>')
        out.append(f'<text x="0" y="{middle + 5}">{escape(name)}</text>')
        for column, (figure, of, _) in enumerate(COLUMNS):
            out += cell([deviation(one, figure, of) for one in found], NAMES + COLUMN * column, middle)
        top += ROW
    return out, top + 20


def svg(judgements):
    """The chart of all panels that have a client."""
    names = list(dict.fromkeys(judgement["name"] for judgement in judgements))
    title = "Errors of load generators against a server that records what it sends, milliseconds"
    body, top = [f'<text class="title" x="0" y="20">{escape(title)}</text>'], HEAD - 18
    for place in PANELS:
        rows, top = panel(judgements, names, place, top)
        body += rows
    legend = [
        "Bars: reported minus true by the client's own definition, one for each run, logarithmic from 0.01 ms to 10 s; green is within",
        "tolerance, red is wrong; the number is the largest. ≈ and a frame: so far is the client's definition from ringmark's. –: not reported.",
    ]
    for line in legend:
        body.append(f'<text class="soft" x="0" y="{top + 4}">{escape(line)}</text>')
        top += 17
    total = NAMES + COLUMN * len(COLUMNS)
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{total}" height="{top}" viewBox="0 0 {total} {top}" role="img"'
        f' aria-label="{escape(title)}">'
    )
    return "\n".join([head, f"<style>{STYLE}</style>", *body, "</svg>"]) + "\n"


if __name__ == "__main__":
    sys.stdout.reconfigure(encoding="utf-8")
    print(svg(read(sys.argv[1:])), end="")
