#!/usr/bin/env python3
"""How many events per second the built-in server sends from one core, and how late: a table in Markdown.

    RINGMARK=target/release/ringmark python3 tools/judge/capacity.py [STREAMS ...]

Each stream sends an event every 10 ms for five seconds; ringmark reads them on the other cores. The server is that of
`ringmark judge`, on a core of its own.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
STREAMS = [500, 1000, 1250, 1500, 1750, 2000]
TOKENS, ITL_MS = 500, 10


def judge(ringmark, streams):
    """The judgement of ringmark with so many streams, each with one answer."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "judgement.json"
        call = [ringmark, "judge", "--parallel", str(streams), "--number", str(streams), "--read", "ringmark", "--json", str(file)]
        call += [f"itl={ITL_MS}ms", f"tokens={TOKENS}", "--"]
        call += [ringmark, "perf", "--url", "{chat}", "--model", "{model}", "--parallel", "{parallel}", "--number", "{number}"]
        call += ["--max-tokens", str(TOKENS), "--quiet"]
        subprocess.run(call, stdout=subprocess.DEVNULL, check=False)
        return json.loads(file.read_text())[0]


def main():
    ringmark = str(Path(os.environ.get("RINGMARK", ROOT / "target/release/ringmark")).resolve())
    head = ["streams", "events/s asked for", "events/s sent", "late p50, ms", "p99", "max", "send call p50, us", "p99", "client's busiest thread"]
    print("| " + " | ".join(head) + " |\n|" + "---|" * len(head))
    for streams in [int(word) for word in sys.argv[1:]] or STREAMS:
        judgement = judge(ringmark, streams)
        server, client = judgement["server"], judgement["client"]
        busiest = client["busiest_thread"]
        cells = [
            f"{streams:,}",
            f"{streams * 1000 / ITL_MS:,.0f}",
            f"{judgement['truth']['output_events_per_s']:,.0f}",
            *(f"{server[f'lateness_{which}_ns'] / 1e6:.3f}" for which in ["p50", "p99", "max"]),
            *(f"{server[f'uncertainty_{which}_ns'] / 1e3:.1f}" for which in ["p50", "p99"]),
            "-" if busiest is None else f"{busiest * 100:.0f} %",
        ]
        print("| " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
