"""Compares the shards of a load with one process that sent the same load, and their merged figures with the mock's records.

    compare.py [--clocks COUNT] NAME WHOLE SHARDS MERGED.json TRUTH.json

WHOLE and SHARDS are folders of results, MERGED.json is from `ringmark merge --json`, TRUTH.json is the page /truth of the mock
after the shards. COUNT is how many clocks the shards have as far as they can find out; in truth they all have one, so each
offset must be able to be 0. The exit status is 1, and each difference is printed, unless everything is equal.
"""

import json
import os
import pathlib
import sqlite3
import sys
from typing import Any, Dict, Iterator, List, NamedTuple, Tuple

#: The percentiles that are compared: name in the JSON file, and per mille.
LEVELS = (("50%", 500), ("90%", 900), ("99%", 990), ("max", 1000))
#: The mock takes the time before its system call. If it lost its core between the two, the bytes were sent that much later.
SERVER_LATE_S = 0.002

Place = Tuple[str, int]


class Stored(NamedTuple):
    """What one database has."""

    path: pathlib.Path
    facts: Dict[str, Any]
    end: Dict[str, Any]
    #: By phase and index: the body, and the scheduled time in nanoseconds of CLOCK_MONOTONIC.
    requests: Dict[Place, Tuple[str, int]]


def databases(folder: pathlib.Path) -> Iterator[pathlib.Path]:
    """The databases below a folder, without those behind symbolic links."""
    for root, _, files in os.walk(folder):
        if "benchmark_data.db" in files:
            yield pathlib.Path(root) / "benchmark_data.db"


def read(path: pathlib.Path) -> Stored:
    connection = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)
    try:
        run = dict(connection.execute("SELECT key, value FROM run WHERE key IN ('facts', 'end')"))
        rows = connection.execute(
            "SELECT phase, idx, json, due_ns FROM request LEFT JOIN body ON body.id = body_id"
        ).fetchall()
    finally:
        connection.close()
    if "end" not in run:
        sys.exit(f"{path}: the run has no end")
    requests = {(phase, index): (body, due) for phase, index, body, due in rows}
    return Stored(path, json.loads(run["facts"]), json.loads(run["end"]), requests)


def union(shards: List[Stored], differences: List[str]) -> Dict[Place, Tuple[str, int]]:
    """The requests of all shards, with their times from the start on, which each shard has on its own clock. Each may have only
    those of its share."""
    together: Dict[Place, Tuple[str, int]] = {}
    for stored in shards:
        shard, start = stored.facts["shard"], stored.end["shard_start"]["tick_ns"]
        for place, (body, due) in stored.requests.items():
            if place[1] % shard["count"] != shard["index"]:
                differences.append(f"shard {shard['index']} sent request {place}, which is not its own")
            if place in together:
                differences.append(f"request {place} was sent twice")
            together[place] = (body, due - start)
    return together


def compare_requests(whole: Stored, shards: List[Stored]) -> List[str]:
    """The differences between the requests of one process and those of all shards: numbers, bodies, scheduled times."""
    differences: List[str] = []
    counts = {stored.facts["shard"]["count"] for stored in shards}
    if counts != {len(shards)}:
        differences.append(f"{len(shards)} databases of shards, which were {counts} shards")
    starts = {stored.end["shard_start"]["unix_ns"] for stored in shards}
    if len(starts) != 1:
        differences.append(f"the shards did not agree on a start: {starts}")
    together = union(shards, differences)
    if together.keys() != whole.requests.keys():
        odd = sorted(together.keys() ^ whole.requests.keys())[:5]
        differences.append(f"{len(together)} requests of the shards, {len(whole.requests)} of one process: {odd}")
        return differences
    open_loop = whole.facts["parallel"] is None
    begin = min(due for _, due in together.values())
    whole_begin = min(due for _, due in whole.requests.values())
    for place, (body, due) in together.items():
        whole_body, whole_due = whole.requests[place]
        if body != whole_body:
            differences.append(f"request {place} has another body: {body[:200]} {whole_body[:200]}")
        if open_loop and due - begin != whole_due - whole_begin:
            differences.append(f"request {place} was due {due - begin} ns after the first, not {whole_due - whole_begin}")
    return differences[:20]


def quantile(values: List[float], per_mille: int) -> float:
    """By nearest rank, as the program does."""
    ordered = sorted(values)
    rank = max(1, -(-len(ordered) * per_mille // 1000))
    return ordered[rank - 1]


class Truth(NamedTuple):
    """What the mock recorded about the measured requests."""

    ttft_s: List[float]
    latency_s: List[float]
    #: First scheduled time to last byte sent.
    duration_s: float

    @property
    def requests_per_s(self) -> float:
        return len(self.ttft_s) / self.duration_s


def read_truth(path: pathlib.Path, shards: List[Stored]) -> Truth:
    dues = {
        f"{stored.facts['request_id_prefix']}-m{index}": due
        for stored in shards
        for (phase, index), (_, due) in stored.requests.items()
        if phase == "measured"
    }
    records = {record["request_id"]: record for record in json.loads(path.read_text())["requests"]}
    found = [(due, records[name]) for name, due in dues.items() if name in records]
    if len(found) != len(dues):
        sys.exit(f"the mock has records of {len(found)} of the {len(dues)} measured requests")
    last = max(record["last_byte"] for _, record in found)
    return Truth(
        ttft_s=[(record["sends"][0] - due) / 1e9 for due, record in found],
        latency_s=[(record["last_byte"] - due) / 1e9 for due, record in found],
        duration_s=(last - min(dues.values())) / 1e9,
    )


def compare_figures(merged: Dict[str, Any], truth: Truth, count: int) -> List[str]:
    """The merged figures that contradict the records of the mock."""
    differences = []
    totals = {name: merged[name] for name in ("Total requests", "Succeed requests", "Failed requests")}
    if list(totals.values()) != [count, count, 0]:
        differences.append(f"{count} requests were sent, but the merged run has {totals}")
    bounds = merged["Own error"]["Bounds"]
    for name, values in (("TTFT (s)", truth.ttft_s), ("Latency (s)", truth.latency_s)):
        for level, per_mille in LEVELS:
            low, high = bounds[name][level]
            true = quantile(values, per_mille)
            # A response cannot arrive before it was sent, but it may have been sent after its time was taken.
            if not low - SERVER_LATE_S <= true <= high:
                differences.append(f"{level} of {name} is within {low} and {high}, but {true} at the mock")
    low, high = merged["Joint figures"]["requests_per_s"]
    # The last byte arrives after it was sent.
    if not (count / high <= truth.duration_s + SERVER_LATE_S and truth.duration_s <= count / low):
        differences.append(f"{low} to {high} requests/s are joint, but {truth.requests_per_s} at the mock")
    return differences


def compare_clocks(merged: Dict[str, Any], shards: List[Stored], expected: int) -> List[str]:
    """What is wrong about the clocks of the shards, all of which are one."""
    differences = []
    clocks = {stored.facts["shard"]["clock_domain"] for stored in shards}
    if len(clocks) != expected:
        differences.append(f"the shards have {len(clocks)} clocks, not {expected}: {clocks}")
    for row in merged["Shards"]:
        low, high = row["clock_offset_ns"]
        if not low <= 0 <= high:
            differences.append(f"the clock offset of shard {row['shard']} is within {low} and {high} ns, but 0 in truth")
    low, high = merged["Joint figures"]["requests_per_s"]
    if (low < high) != (expected > 1):
        differences.append(f"{low} to {high} requests/s are joint, with {expected} clocks")
    return differences


def main() -> int:
    arguments = sys.argv[1:]
    clocks = 1
    if arguments[0] == "--clocks":
        clocks = int(arguments[1])
        arguments = arguments[2:]
    name, *paths = arguments
    whole_folder, shards_folder, merged_path, truth_path = map(pathlib.Path, paths)
    wholes = [read(path) for path in databases(whole_folder)]
    shards = [read(path) for path in databases(shards_folder)]
    if len(wholes) != 1 or not shards or any("shard" not in stored.facts for stored in shards):
        print(f"{name}: {len(wholes)} runs of one process in {whole_folder}, {len(shards)} databases in {shards_folder}")
        return 1
    merged = json.loads(merged_path.read_text())
    truth = read_truth(truth_path, shards)
    count = sum(phase == "measured" for phase, _ in wholes[0].requests)
    differences = compare_requests(wholes[0], shards) + compare_figures(merged, truth, count)
    differences += compare_clocks(merged, shards, clocks)
    for line in differences:
        print(f"{name}: {line}")
    if differences:
        return 1
    low, high = merged["Joint figures"]["requests_per_s"]
    offsets = [row["clock_offset_ns"] for row in merged["Shards"]]
    widest = max(high - low for low, high in offsets)
    ttft, true = merged["Own error"]["Bounds"]["TTFT (s)"]["50%"], quantile(truth.ttft_s, 500)
    print(
        f"{name}: {len(shards)} shards, {count} requests with the numbers, bodies and scheduled times of one process; "
        f"{low:.2f} .. {high:.2f} requests/s ({truth.requests_per_s:.2f} at the mock); "
        f"p50 TTFT {ttft[0] * 1e3:.3f} .. {ttft[1] * 1e3:.3f} ms ({true * 1e3:.3f} at the mock); "
        f"{clocks} clocks, offsets within {widest / 1e3:.0f} us"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
