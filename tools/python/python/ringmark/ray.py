"""One load from many machines of a Ray cluster, a shard on each.

>>> import ringmark.ray
>>> results = ringmark.ray.run({"url": "http://server:8000/v1/chat/completions", "parallel": 4000, "number": 100000})
>>> results["parallel_4000_number_100000"]["metrics"]["Joint figures"]["requests_per_s"]

The nodes need nothing but Ray: this machine's program is sent to them.
"""

import importlib
import json
import pathlib
import secrets
import subprocess
import time
import warnings
from argparse import Namespace
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Optional, Tuple, Union

from ringmark import _ray_shard
from ringmark._binary import RingmarkError, binary
from ringmark.perf.arguments import Arguments
from ringmark.perf.main import MISSED, VOID, _error_message, _read
from ringmark.perf.results import Results
from ringmark.plugin import registry

__all__ = ["Search", "run", "search"]

#: Arguments that this module sets, or that have no meaning for shards on other machines.
NOT_FOR_SHARDS = {
    "shard": "ringmark.ray sets it",
    "rendezvous": "ringmark.ray sets it",
    "rendezvous_timeout": "give timeout to ringmark.ray",
    "no_timestamp": "the results get a folder of their own",
    "name": "the results get a folder of their own",
    "sla_auto_tune": "use ringmark.ray.search",
    "csv": "use 'ringmark merge --csv' with the folder of the results",
    "export": "it cannot be written for merged shards",
    "json": "json.dumps(results) has the same",
    "junit": "see results.status",
    "live": "the shards have no terminal",
    "visualizer": "send the figures of the merged run instead",
    "print_config": "it measures nothing",
}
#: The exit status of a shard, its last lines, and by the name of each run its files and their sizes.
Ended = Tuple[int, List[str], Dict[str, Dict[str, int]]]
#: The part of a file that is transferred at once, bytes.
CHUNK = 64 << 20
#: How long interrupted shards have to write their results, seconds.
INTERRUPT_S = 60.0
#: How long the nodes of a placement group are waited for, seconds.
PLACEMENT_S = 60.0


def run(
    args: Union[Arguments, Mapping[str, Any], Namespace],
    *,
    shards: Optional[int] = None,
    resources: Optional[Mapping[str, float]] = None,
    program: Optional[str] = None,
    timeout: float = 300.0,
    allow_missing: bool = False,
) -> Results:
    """Runs ``ringmark perf`` with these arguments, which state the total load, as shards on ``shards`` nodes (default: all
    nodes of the cluster), and merges them.

    Each node has one shard, an actor with the ``resources`` of a bundle (default: ``{"CPU": 1}``; give as many as the shard
    has workers) in a STRICT_SPREAD placement group. All start at one time. The results are those of
    :func:`ringmark.run_perf_benchmark`, with the figures of all shards and the keys ``Joint figures`` and ``Shards`` of
    ``ringmark merge``; the databases are in ``results.folder``.

    ``program``: the path of the program on the nodes; default: this machine's program is sent to them. ``timeout``: how long
    shards wait for each other, seconds. ``allow_missing``: the figures may be used although a shard was lost.

    Uses the cluster of ``ray.init()``, which is called if that has not been done. Files that the arguments name, such as
    ``dataset_path``, must be on all nodes. Raises :class:`ringmark.RingmarkError` if the shards cannot run.
    """
    arguments = _checked(args)
    with _Shards(shards, resources, program) as cluster:
        return cluster.measure(arguments, timeout, allow_missing)


class Search(NamedTuple):
    """The result of :func:`search`."""

    #: The highest load that was measured and holds; ``None`` if none does.
    best: Optional[int]
    #: The lowest load that was measured and does not hold; ``None`` if all do.
    lowest_failing: Optional[int]
    #: The runs at each load, in the order in which they were measured.
    loads: Dict[int, List[Results]]


def search(
    args: Union[Arguments, Mapping[str, Any], Namespace],
    slo: Union[str, List[str]],
    *,
    variable: str = "parallel",
    lower: int = 1,
    upper: int = 65536,
    runs: int = 1,
    shards: Optional[int] = None,
    resources: Optional[Mapping[str, float]] = None,
    program: Optional[str] = None,
    timeout: float = 300.0,
) -> Search:
    """The highest ``parallel``, or open-loop ``rate``, that meets ``slo`` in each of ``runs`` runs, a whole number from
    ``lower`` to ``upper``: the load is doubled until it fails, then bisected.

    A load holds if the objectives are met, the run is not void, and, unless the objectives have ``failed`` or ``success``, all
    requests succeed. Without ``number`` and ``duration``, a run has two requests for each unit of ``parallel``, or ten seconds
    of ``rate``. The other arguments are those of :func:`run`.
    """
    if variable not in ("parallel", "rate"):
        raise ValueError(f"variable must be 'parallel' or 'rate', not {variable!r}")
    if not 1 <= lower <= upper or runs < 1:
        raise ValueError(f"lower={lower}, upper={upper} and runs={runs} must be at least 1, and lower at most upper")
    given = _checked(args).given()
    objectives = [slo] if isinstance(slo, str) else list(slo)
    loads: Dict[int, List[Results]] = {}
    with _Shards(shards, resources, program) as cluster:
        count = cluster.count
        if variable == "parallel" and lower < count:
            raise ValueError(f"lower={lower} is less than the number of shards, {count}")

        def holds(load: int) -> bool:
            size = {"number": max(load * (2 if variable == "parallel" else 10), count)}
            sized = given if {"number", "duration"} & given.keys() else {**given, **size}
            open_loop = {"open_loop": True} if variable == "rate" else {}
            call = Arguments(**{**sized, **open_loop, variable: load, "slo": objectives})
            loads[load] = [cluster.measure(call, timeout, False) for _ in range(runs)]
            return all(_holds(results, objectives) for results in loads[load])

        best, failing = _bisect(holds, lower, upper)
    return Search(best, failing, loads)


def _bisect(holds: Callable[[int], bool], lower: int, upper: int) -> Tuple[Optional[int], Optional[int]]:
    """The highest load that holds and the lowest one that does not, if all loads up to some one hold."""
    best: Optional[int] = None
    load = lower
    while holds(load):
        best = load
        if load == upper:
            return best, None
        load = min(2 * load, upper)
    failing = load
    while best is not None and failing - best > 1:
        middle = (best + failing) // 2
        if holds(middle):
            best = middle
        else:
            failing = middle
    return best, failing


def _holds(results: Results, objectives: List[str]) -> bool:
    tolerates_failures = any(word in text for text in objectives for word in ("failed", "success"))
    metrics = [run["metrics"] for run in results.values()]
    complete = all(figures["Succeed requests"] == figures["Total requests"] for figures in metrics)
    met = all(figures["SLO"] is not None and figures["SLO"]["met"] for figures in metrics)
    return bool(metrics) and results.status != VOID and met and (complete or tolerates_failures)


def _checked(args: Union[Arguments, Mapping[str, Any], Namespace]) -> Arguments:
    arguments = Arguments.of(args)
    given = arguments.given()
    for name, why in NOT_FOR_SHARDS.items():
        if name in given and given[name] is not False:
            raise TypeError(f"{name} cannot be an argument of a load on Ray: {why}")
    for kind, known in (("dataset", registry.DATASETS), ("api", registry.APIS)):
        if given.get(kind) in known:
            raise TypeError(f"{kind}={given[kind]!r} is a class of this process, which other nodes do not have: give a file")
    return arguments


def _import_ray(name: str = "ray") -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ImportError("ringmark.ray needs Ray: pip install ray") from error


class _Shards:
    """An actor on each of some nodes."""

    def __init__(self, count: Optional[int], resources: Optional[Mapping[str, float]], program: Optional[str]) -> None:
        self._ray = _import_ray()
        self._groups = _import_ray("ray.util.placement_group")
        if not self._ray.is_initialized():
            self._ray.init()
        nodes = sum(bool(node["Alive"]) for node in self._ray.nodes())
        self.count = nodes if count is None else count
        if not 1 <= self.count <= nodes:
            raise RingmarkError(f"{self.count} shards need as many nodes, and the Ray cluster has {nodes}")
        self._bundle = dict(resources or {"CPU": 1})
        self._program = program

    def __enter__(self) -> "_Shards":
        ray = self._ray
        self._group = self._groups.placement_group([self._bundle] * self.count, strategy="STRICT_SPREAD")
        try:
            ray.get(self._group.ready(), timeout=PLACEMENT_S)
            self._start_actors()
        except BaseException as error:
            self._groups.remove_placement_group(self._group)
            if isinstance(error, ray.exceptions.GetTimeoutError):
                raise RingmarkError(
                    f"the Ray cluster has no {self.count} nodes with {self._bundle} free: other work may hold them, or give resources"
                ) from error
            raise
        return self

    def _start_actors(self) -> None:
        ray = self._ray
        # The nodes need not have this package.
        ray.cloudpickle.register_pickle_by_value(_ray_shard)
        try:
            actor = ray.remote(_ray_shard.Shard)
            program = self._program or ray.put(pathlib.Path(binary()).read_bytes())
            strategy = _import_ray("ray.util.scheduling_strategies").PlacementGroupSchedulingStrategy
            self._actors = [
                actor.options(
                    num_cpus=self._bundle.get("CPU", 0),
                    max_restarts=0,
                    # Interrupts come while a run is in progress.
                    max_concurrency=2,
                    scheduling_strategy=strategy(self._group, placement_group_bundle_index=index),
                ).remote(program)
                for index in range(self.count)
            ]
            ray.get([actor.ready.remote() for actor in self._actors])
        finally:
            ray.cloudpickle.unregister_pickle_by_value(_ray_shard)

    def __exit__(self, *_: Any) -> None:
        ray = self._ray
        closing = [actor.close.remote() for actor in self._actors]
        ray.wait(closing, num_returns=len(closing), timeout=5.0)
        for actor in self._actors:
            ray.kill(actor)
        self._groups.remove_placement_group(self._group)

    def measure(self, arguments: Arguments, timeout: float, allow_missing: bool) -> Results:
        given = arguments.given()
        outputs = pathlib.Path(given.pop("outputs_dir", "outputs"))
        quiet = bool(given.get("quiet"))
        token = secrets.token_hex(16)
        address = self._ray.get(self._actors[0].address.remote())
        flags = Arguments(**given).command_line()
        calls = []
        for index, actor in enumerate(self._actors):
            place = [f"--shard={index}/{self.count}", f"--rendezvous=tcp:{address}", f"--rendezvous-timeout={timeout}"]
            calls.append(actor.run.remote([*place, *flags], token, index == 0 and not quiet))
        ended, interrupted = self._wait(calls)
        if not any(files for _, _, files in ended):
            if interrupted:
                raise KeyboardInterrupt("interrupted before a shard had measured something")
            raise RingmarkError(_why(ended))
        folder = outputs / f"{time.strftime('%Y%m%d_%H%M%S')}_{secrets.token_hex(4)}"
        for index, (_, _, files) in enumerate(ended):
            self._fetch(index, files, folder)
        results = _merge(folder, allow_missing, quiet)
        if interrupted:
            raise KeyboardInterrupt(f"interrupted; results: {folder}")
        failed = [(index, status) for index, (status, _, _) in enumerate(ended) if status not in (0, MISSED, VOID)]
        for index, status in failed:
            warnings.warn(f"shard {index} ended with status {status}: {_why([ended[index]])}", stacklevel=3)
        if results.status == VOID:
            warnings.warn("the run is void: its figures must not be used (see the findings)", stacklevel=3)
        return results

    def _wait(self, calls: List[Any]) -> Tuple[List[Ended], bool]:
        """The results of all shards; a lost one has status -1. Whether they were interrupted, as Ctrl-C does."""
        ray = self._ray
        interrupted = False
        try:
            ray.wait(calls, num_returns=len(calls))
        except KeyboardInterrupt:
            interrupted = True
            ray.get([actor.interrupt.remote() for actor in self._actors])
            ray.wait(calls, num_returns=len(calls), timeout=INTERRUPT_S)
        ended: List[Ended] = []
        for call in calls:
            try:
                ended.append(ray.get(call, timeout=1.0))
            except (ray.exceptions.RayError, ray.exceptions.GetTimeoutError) as error:
                ended.append((-1, [f"error: the actor was lost: {error}".splitlines()[0]], {}))
        return ended, interrupted

    def _fetch(self, index: int, runs: Dict[str, Dict[str, int]], folder: pathlib.Path) -> None:
        """Writes the files of a shard to `folder/RUN/shard_INDEX/`."""
        actor = self._actors[index]
        for run_name, files in runs.items():
            place = folder / run_name / f"shard_{index}"
            place.mkdir(parents=True)
            for name, size in files.items():
                with open(place / name, "xb") as file:
                    for offset in range(0, size, CHUNK):
                        file.write(self._ray.get(actor.read.remote(run_name, name, offset, CHUNK)))
        self._ray.get(actor.forget.remote())


def _why(ended: List[Ended]) -> str:
    """The error message of the shard that failed by itself; the others have one about that shard."""
    for status, lines, _ in ended:
        if status not in (0, MISSED, VOID):
            return _error_message(lines) or (lines[-1] if lines else f"ringmark exited with status {status}")
    return "no shard has measured anything"


def _merge(folder: pathlib.Path, allow_missing: bool, quiet: bool) -> Results:
    """Merges the shards of each run, and writes the files that a run of one process has."""
    status = 0
    for run in sorted(path for path in folder.iterdir() if path.is_dir()):
        merged = run / "merged.json"
        command = [binary(), "merge", str(run), f"--json={merged}", f"--html={run / 'perf_report.html'}"]
        done = subprocess.run(command + ["--allow-missing"] * allow_missing, capture_output=True, text=True)
        if done.returncode not in (0, MISSED, VOID):
            raise RingmarkError(_error_message(done.stderr.splitlines()) or f"ringmark merge exited with {done.returncode}")
        if not quiet:
            print(done.stdout, end="", flush=True)
        figures = json.loads(merged.read_text(encoding="utf-8"))
        percentiles = figures.pop("Percentiles")
        (run / "benchmark_summary.json").write_text(json.dumps(figures, indent=1), encoding="utf-8")
        (run / "benchmark_percentile.json").write_text(json.dumps(percentiles, indent=1), encoding="utf-8")
        first = sorted(run.glob("shard_*/benchmark_args.json"))[0]
        (run / "benchmark_args.json").write_text(first.read_text(encoding="utf-8"), encoding="utf-8")
        missed = figures["SLO"] is not None and not figures["SLO"]["met"]
        status = max(status, done.returncode, MISSED if missed else 0)
    return _read(folder, status, 0)
