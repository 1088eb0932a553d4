"""Reads an export of `--export evalscope=DIR` with evalscope's own loader, reports and dashboards.

    python check.py DIR

DIR is the folder that the export was written to. Fails if evalscope does not show a run as ringmark measured it.
"""

import importlib.util
import json
import pathlib
import sys
import types


def skip_unused_imports() -> None:
    """Lets the readers be imported alone. The `__init__` of evalscope imports all benchmarks and metrics, and one of its
    helpers imports `datasets`, which need a gigabyte of packages.
    """
    root = pathlib.Path(importlib.util.find_spec("evalscope").origin).parent
    for name, folder in (("evalscope", root), ("evalscope.service", root / "service")):
        package = types.ModuleType(name)
        package.__path__ = [str(folder)]
        sys.modules[name] = package
    datasets = types.ModuleType("datasets")
    datasets.__getattr__ = lambda name: type(name, (), {})
    sys.modules["datasets"] = datasets


skip_unused_imports()

from evalscope.perf.utils.db_util import get_percentile_results  # noqa: E402
from evalscope.perf.utils.report.perf_data import RunLoader  # noqa: E402
from evalscope.service.perf_archive import build_run_detail, list_run_items, list_run_summaries  # noqa: E402


def main() -> None:
    folder = pathlib.Path(sys.argv[1]).resolve()
    runs = RunLoader.load_all(str(folder))
    assert len(runs) == 2, [run.dir_name for run in runs]
    for run in runs:
        check_run(folder, run)
    # The dashboards find the folder, and every view of it can be made.
    (listed,) = list_run_summaries(str(folder.parent))
    assert listed["num_runs"] == 2 and listed["success_rate"] == 100.0, listed
    detail = build_run_detail(str(folder.parent), folder.name)
    assert detail["model"] == "mock" and len(detail["summary_rows"]) == 2, detail
    items = list_run_items(str(folder.parent), folder.name)
    assert all(item["has_requests"] for item in items), items
    print("evalscope: shows", ", ".join(run.name for run in runs))


def check_run(folder: pathlib.Path, run) -> None:
    """The summary, the percentiles and the requests of a run agree with each other."""
    requests = [request for request in run.requests if request.success]
    assert len(requests) == run.summary.succeed_requests == run.number, run.dir_name
    near(sum(request.latency for request in requests) / len(requests), run.summary.avg_latency)
    near(sum(request.first_chunk_latency for request in requests) / len(requests), run.summary.avg_ttft)
    gaps = [gap for request in requests for gap in request.inter_token_latencies]
    near(sum(gaps) / len(gaps), run.summary.avg_itl)
    # Its own computation from the database gives the percentiles of the file.
    written = json.loads((folder / run.dir_name / "benchmark_percentile.json").read_text())
    computed = get_percentile_results(str(folder / run.dir_name / "benchmark_data.db"), api_type="openai").to_list()
    assert [row["Percentiles"] for row in written] == [row["Percentiles"] for row in computed]
    # It leaves out a TPOT of 0, which a response has whose tokens arrived in one read of a busy machine.
    has_zeros = any(not request.time_per_output_token for request in requests)
    skipped = {"Percentiles"} | ({"TPOT (ms)"} if has_zeros else set())
    for ours, theirs in zip(written, computed):
        assert ours.keys() == theirs.keys(), (ours, theirs)
        for name in ours.keys() - skipped:
            near(ours[name], theirs[name], 1e-3)


def near(a: float, b: float, share: float = 1e-6) -> None:
    assert abs(a - b) <= share * max(abs(a), abs(b)) + 1e-4, (a, b)


if __name__ == "__main__":
    main()
