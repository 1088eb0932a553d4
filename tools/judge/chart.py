#!/usr/bin/env python3
"""A chart of the errors of judged clients on the same server, as SVG.

    python3 tools/judge/chart.py SCENARIO CLIENT.json ... >errors.svg

The files are those of `ringmark judge --json`. For each client and figure, a bar shows the error on a logarithmic scale, and a
frame how far the client's definition is from ringmark's. Its colours follow the reader's light or dark scheme.
"""

import json
import math
import sys
from html import escape

# Figure, statistic, heading.
COLUMNS = [
    ("TTFT", "p50", "median TTFT"),
    ("TTFT", "p99", "p99 TTFT"),
    ("ITL", "p99", "p99 ITL"),
    ("TPOT", "mean", "mean TPOT"),
    ("latency", "p99", "p99 latency"),
]
SMALLEST_MS, LARGEST_MS = 0.01, 1000.0
NAMES, COLUMN, BAR, ROW, TOP = 110, 150, 84, 30, 64

STYLE = """
text{font:13px system-ui,-apple-system,"Segoe UI",sans-serif;fill:#1c2430}
.soft{fill:#5d6b7e;font-size:11.5px}
.head{font-weight:600}
.right{fill:#12805c}
.wrong{fill:#c2322d}
.other{fill:none;stroke:#a86200;stroke-width:1.4}
.line{stroke:#dfe4ea}
@media(prefers-color-scheme:dark){
text{fill:#e6eaf0}.soft{fill:#98a5b6}.right{fill:#4cc38a}.wrong{fill:#f0706a}.other{stroke:#e5a03c}.line{stroke:#323b47}
}
"""


def width(error_ms):
    """Length of the bar of an error."""
    decades = math.log10(LARGEST_MS / SMALLEST_MS)
    share = math.log10(max(abs(error_ms), SMALLEST_MS) / SMALLEST_MS) / decades
    return max(1.0, min(share, 1.0) * BAR)


def number(error_ms):
    digits = 2 if abs(error_ms) < 1 else 1 if abs(error_ms) < 100 else 0
    return f"{error_ms:+.{digits}f}"


def find(judgements, scenario, figure, of):
    for judgement in judgements:
        if judgement["scenario"] == scenario:
            for one in judgement["deviations"]:
                if one["figure"] == figure and one["of"] == of:
                    return one
    return None


def cell(one, left, middle):
    """The bar of a figure, and the frame of its definition."""
    if one is None:
        return [f'<text class="soft" x="{left}" y="{middle + 4}">not reported</text>']
    colour = "wrong" if one["is_wrong"] else "right"
    parts = [f'<rect class="{colour}" x="{left}" y="{middle - 7}" width="{width(one["error_ms"]):.1f}" height="14" rx="2"/>']
    label = left + width(one["error_ms"])
    if one["definition"]:
        difference = one["true_by_own_definition_ms"] - one["true_ms"]
        parts.append(
            f'<rect class="other" x="{left}" y="{middle - 9}" width="{width(difference):.1f}" height="18" rx="3"/>'
        )
        label = max(label, left + width(difference))
    parts.append(f'<text class="soft" x="{label + 6:.1f}" y="{middle + 4}">{number(one["error_ms"])}</text>')
    title = f'{one["figure"]} {one["of"]}: {one["reported_ms"]:.3f} ms reported, {one["true_by_own_definition_ms"]:.3f} ms true'
    if one["definition"]:
        title += f', measured {one["definition"]} ({one["true_ms"]:.3f} ms by ringmark\'s definition)'
    return [f"<g><title>{escape(title)}</title>{''.join(parts)}</g>"]


def svg(clients, scenario):
    """The chart of one scenario; `clients` are the contents of their files."""
    height = TOP + ROW * len(clients) + 34
    total = NAMES + COLUMN * len(COLUMNS)
    title = f"Errors of load generators in milliseconds, scenario {scenario}"
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {total} {height}" role="img" aria-label="{escape(title)}">',
        f"<style>{STYLE}</style>",
        f'<text class="head" x="0" y="18">{escape(title)}</text>',
    ]
    for place, (_, _, heading) in enumerate(COLUMNS):
        out.append(f'<text class="head" x="{NAMES + COLUMN * place}" y="46">{heading}</text>')
    for place, judgements in enumerate(clients):
        middle = TOP + ROW * place + ROW // 2
        out.append(f'<line class="line" x1="0" x2="{total}" y1="{middle - ROW // 2}" y2="{middle - ROW // 2}"/>')
        out.append(f'<text x="0" y="{middle + 5}">{escape(judgements[0]["name"])}</text>')
        for column, (figure, of, _) in enumerate(COLUMNS):
            out += cell(find(judgements, scenario, figure, of), NAMES + COLUMN * column, middle)
    legend = (
        "Bars: reported minus true, logarithmic from 0.01 ms; green within tolerance, red wrong. "
        "Frames: another definition, by which the error is shown."
    )
    out.append(f'<text class="soft" x="0" y="{height - 10}">{legend}</text></svg>')
    return "\n".join(out) + "\n"


if __name__ == "__main__":
    print(svg([json.load(open(path)) for path in sys.argv[2:]], sys.argv[1]), end="")
