#!/usr/bin/env python3
"""What judged clients did and how far their figures are from the true ones, as Markdown tables.

    python3 tools/judge/tables.py tools/judge/data.json

The files are those of `ringmark judge --json`, or what reduce.py has made of them. Values of several runs have a slash between them.
"""

import sys

import chart

FAILED, OTHER, WARNED, UNKNOWN = "fail", "other_definition", "warned", "unknown"
FIGURES = ["TTFT", "ITL", "TPOT", "latency"]


def names_of(judgements):
    return list(dict.fromkeys(judgement["name"] for judgement in judgements))


def row(cells):
    return "| " + " | ".join(cells) + " |"


def table(head, rows):
    return "\n".join([row(head), "|" + "---|" * len(head), *map(row, rows)]) + "\n"


def checks(judgement, verdict):
    return [check["name"] for check in judgement["checks"] if check["verdict"] == verdict]


def score(judgement):
    """Checks passed, of those that could be answered."""
    judged = [check for check in judgement["checks"] if check["verdict"] != UNKNOWN]
    if chart.is_void(judgement):
        return "void"
    return f"{sum(check['verdict'] == 'pass' for check in judged)} of {len(judged)}"


def place(judgement):
    """The scenario and the number of streams."""
    return f"{judgement['scenario']} ({judgement['asked']['parallel']} streams)"


def scores(judgements):
    """A row for each scenario, a column for each client, the values of several runs."""
    names = names_of(judgements)
    rows = []
    for where in dict.fromkeys(place(judgement) for judgement in judgements):
        cells = [where]
        for name in names:
            cells.append(joined([score(one) for one in judgements if (one["name"], place(one)) == (name, where)]))
        rows.append(cells)
    return table(["scenario", *names], rows)


def verdicts(judgements):
    """For each client, which checks were not passed in which scenarios."""
    lines = []
    for name in names_of(judgements):
        lines.append(f"- {name}")
        for verdict, text in [(FAILED, "wrong"), (WARNED, "wrong and reported to be"), (OTHER, "another definition")]:
            where = {}
            for judgement in judgements:
                if judgement["name"] == name and not chart.is_void(judgement):
                    for check in checks(judgement, verdict):
                        where.setdefault(check, []).append(place(judgement))
            for check, scenarios in where.items():
                lines.append(f"  - {text}: {check} in {', '.join(dict.fromkeys(scenarios))}")
    return "\n".join(lines) + "\n"


def by_load(judgements, scenario):
    """The judgements of a scenario by the number of streams."""
    loads = sorted({one["asked"]["parallel"] for one in judgements if one["scenario"] == scenario})
    return [(parallel, [one for one in judgements if one["scenario"] == scenario and one["asked"]["parallel"] == parallel]) for parallel in loads]


def error(one):
    """The error of a figure by the client's own definition; bold if it is wrong."""
    text = chart.number(one["error_ms"]) + (" ≈" if one["definition"] else "")
    return f"**{text}**" if one["is_wrong"] else text


def joined(values):
    """The values of several runs, or one if all are equal."""
    texts = list(dict.fromkeys(values)) if len(set(values)) == 1 else values
    return " / ".join(texts) if texts else "-"


def errors(judgements, figure):
    """A row for each client, a column for each statistic."""
    rows = []
    for name in names_of(judgements):
        runs = [one for one in judgements if one["name"] == name and not chart.is_void(one)]
        cells = []
        for of in chart.STATISTICS:
            found = [chart.deviation(judgement, figure, of) for judgement in runs]
            cells.append(joined([error(one) for one in found if one is not None]))
        if any(cell != "-" for cell in cells):
            rows.append([name, *cells])
    return table([f"{figure}, ms", *chart.STATISTICS], rows) if rows else ""


def definitions(judgements):
    """The definitions other than ringmark's, and how far they are from it."""
    lines = []
    for name in names_of(judgements):
        found = {}
        for judgement in judgements:
            for one in judgement["deviations"]:
                if judgement["name"] == name and one["definition"] and not chart.is_void(judgement):
                    key = (one["figure"], one["definition"])
                    found.setdefault(key, []).append((place(judgement), one["of"], chart.difference_ms(one)))
        for (figure, definition), places in found.items():
            scenario, of, difference = max(places, key=lambda place: abs(place[2]))
            scenarios = ", ".join(dict.fromkeys(place[0] for place in places))
            lines.append(f"- {name}, {figure}: {definition} ({scenarios}; largest: {of} {chart.number(difference)} ms in {scenario})")
    return "\n".join(lines) + "\n"


# Heading, and the value of a judgement as text.
CLIENT = [
    ("requests", lambda one: str(one["observed"]["requests"])),
    ("connections", lambda one: str(one["observed"]["connections"])),
    ("requests/s", lambda one: f"{one['truth']['requests_per_s'] or 0:.2f}"),
    ("in flight, mean", lambda one: f"{one['observed']['mean_in_flight'] or 0:.2f}"),
    ("peak", lambda one: str(one["observed"]["peak_in_flight"])),
    ("first wave, ms", lambda one: f"{(one['observed']['first_wave_s'] or 0) * 1e3:.1f}"),
    ("turnaround p50 / p99, ms", lambda one: f"{one['observed']['turnaround_p50_s'] * 1e3:.2f}, {one['observed']['turnaround_p99_s'] * 1e3:.2f}"),
    ("CPU per event, us", lambda one: "-" if one["client"]["steady_cpu_per_event_us"] is None else f"{one['client']['steady_cpu_per_event_us']:.0f}"),
    ("fixed CPU, s", lambda one: "-" if one["client"]["fixed_cpu_s"] is None else f"{one['client']['fixed_cpu_s']:.1f}"),
    ("busiest thread", lambda one: "-" if one["client"]["busiest_thread"] is None else f"{one['client']['busiest_thread'] * 100:.0f} %"),
    ("all threads, of its cores", lambda one: "-" if one["client"].get("busiest_share") is None else f"{one['client']['busiest_share'] * 100:.0f} %"),
    ("memory, MiB", lambda one: f"{one['client']['peak_rss_bytes'] / (1 << 20):.0f}"),
    ("threads", lambda one: str(one["client"]["peak_threads"])),
    ("server's own lateness p99, ms", lambda one: f"{one['server']['lateness_p99_ns'] / 1e6:.2f}"),
]


def behaviour(judgements):
    """A row for each client: what the server and the kernel saw of it."""
    rows = []
    for name in names_of(judgements):
        runs = [one for one in judgements if one["name"] == name and not chart.is_void(one)]
        rows.append([name, *(joined([value(one) for one in runs]) for _, value in CLIENT)])
    return table(["client", *(heading for heading, _ in CLIENT)], rows)


def tables(judgements):
    """All tables."""
    out = ["## Checks passed\n", scores(judgements), verdicts(judgements), "## Definitions\n", definitions(judgements)]
    for parallel, found in by_load(judgements, "steady"):
        out += [f"## steady, {parallel} streams\n", behaviour(found), *(errors(found, figure) for figure in FIGURES)]
    return "\n".join(out)


if __name__ == "__main__":
    sys.stdout.reconfigure(encoding="utf-8")
    print(tables(chart.read(sys.argv[1:])), end="")
