"""Checks that the files written by the SDKs contain the figures of the sweep in run.sh.

    python check.py OUTPUTS CLEARML_CACHE
"""

import json
import pathlib
import sqlite3
import struct
import sys

LOADS = {"parallel_1_number_40": [20, 40], "parallel_2_number_60": [20, 40, 60]}
outputs, cache = map(pathlib.Path, sys.argv[1:])


def single_file(folder, pattern):
    files = sorted(folder.glob(pattern))
    assert len(files) == 1, f"{folder} has {len(files)} files that match {pattern}"
    return files[0]


def records(data):
    """The record payloads of a LevelDB log, wandb's run format: blocks of 32 KiB; a record may consist of several parts."""
    at, whole = 7, b""
    while at + 7 <= len(data):
        left = 32768 - at % 32768
        if left < 7:
            at += left
            continue
        length, kind = struct.unpack_from("<HB", data, at + 4)
        whole += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):
            yield whole
            whole = b""


def wandb():
    from wandb.proto import wandb_internal_pb2 as messages

    file = single_file(outputs / "name_of_wandb_log", "wandb/offline-run-*/run-*.wandb")
    points, results, about = [], {}, None
    for payload in records(file.read_bytes()):
        record = messages.Record()
        record.ParseFromString(payload)
        name = lambda item: item.key or "/".join(item.nested_key)
        kind = record.WhichOneof("record_type")
        if kind == "history":
            points.append({name(item): json.loads(item.value_json) for item in record.history.item})
        elif kind == "summary":
            results.update({name(item): json.loads(item.value_json) for item in record.summary.update})
        elif kind == "run":
            about = about or record.run
    assert (about.project, about.display_name) == ("perf_benchmark", "name_of_wandb_log"), about
    for load, steps in LOADS.items():
        series = [point for point in points if f"{load}/requests" in point]
        assert [point[f"{load}/requests"] for point in series] == steps, series
        assert all(point[f"{load}/ttft_p50_s"] >= 0.002 for point in series), series
        assert results[f"{load}/Succeed requests"] == steps[-1], results
        single_file(file.parent, f"files/media/table/tables/percentiles_{load}_*.json")
    table = json.loads(single_file(file.parent, "files/media/table/tables/summary_*.json").read_text())
    assert [row[0] for row in table["data"]] == list(LOADS), table


def swanlab():
    folder = outputs / "name_of_swanlab_log" / "swanlog"
    run = single_file(folder, "run-*")
    with sqlite3.connect(folder / "runs.swanlab") as database:
        assert database.execute("SELECT name FROM project").fetchall() == [("perf_benchmark",)]
        assert database.execute("SELECT name FROM experiment").fetchall() == [("name_of_swanlab_log",)]
        names = {row[0] for row in database.execute("SELECT name FROM tag")}
    series = {}
    for file in run.glob("logs/*/*.log"):
        lines = [json.loads(line) for line in file.read_text().splitlines()]
        series[file.parent.name] = [(line["index"], line["data"]) for line in lines]
    for load, steps in LOADS.items():
        assert f"{load}/ok" in names and f"{load}/ttft_p99_s" in names, names
        assert [(step, step) for step in steps] in series.values(), series
    assert "results/parallel_2_number_60/Succeed requests" in (run / "files/config.yaml").read_text()
    stored = single_file(outputs / "kept_for_later", "swanlog/run-*/run-*.swanlab").read_bytes()
    assert all(f"{load}/ttft_p99_s".encode() in stored for load in LOADS) and b"tables/summary" in stored


def clearml():
    folder = next(path for path in (cache / "offline").iterdir() if path.is_dir())
    task = json.loads((folder / "task.json").read_text())
    assert task["name"] == "name_of_clearml_task", task["name"]
    events = [event for line in (folder / "metrics.jsonl").read_text().splitlines() for event in json.loads(line)]
    for load, steps in LOADS.items():
        ok = [(e["iter"], e["value"]) for e in events if (e["metric"], e["variant"]) == ("ok", load)]
        assert sorted(ok) == [(step, step) for step in steps], ok
        final = [e["value"] for e in events if (e["metric"], e["variant"]) == ("Summary", f"{load}: Succeed requests")]
        assert final == [steps[-1]], final
    plots = {(e["metric"], e["variant"]) for e in events if e.get("type") == "plot"}
    assert ("summary", "run") in plots and ("percentiles", "parallel_2_number_60") in plots, plots


for check in (wandb, swanlab, clearml):
    check()
    print(f"visualizers: {check.__name__} has all figures")
