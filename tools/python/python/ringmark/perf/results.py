"""The results of a call: figures, and requests and token arrivals as tables."""

import contextlib
import heapq
import html
import importlib
import pathlib
import sqlite3
from typing import Any, Callable, Dict, Iterator, List, Optional, TypedDict

#: Columns of requests that are bytes; :meth:`Results.arrivals` decodes the arrivals.
BYTES = ("arrivals", "silent_arrivals", "silent_kinds", "choices", "early", "raw")
#: Figures in `_repr_html_`: title, and key of the metrics.
FIGURES = (
    ("Succeeded", "Succeed requests"),
    ("Failed", "Failed requests"),
    ("req/s", "Request throughput (req/s)"),
    ("tok/s", "Output token throughput (tok/s)"),
    ("TTFT (s)", "Average time to first token (s)"),
    ("TPOT (s)", "Average time per output token (s)"),
    ("Latency (s)", "Average latency (s)"),
)
Row = Dict[str, Any]
DATABASE = "benchmark_data.db"


class Folder(str):
    """The path of a folder: a string, which JSON can have, that joins like :class:`pathlib.Path`."""

    def __truediv__(self, name: str) -> pathlib.Path:
        return pathlib.Path(self) / name


class Run(TypedDict):
    """The results of one run."""

    #: The summary: the figures by their names in the table, ``None`` if unknown.
    metrics: Dict[str, Any]
    #: The columns of the percentile table, each with as many values as ``percentiles["Percentiles"]``.
    percentiles: Dict[str, List[Any]]
    #: The arguments of the run, with secrets masked.
    arguments: Dict[str, Any]
    #: The folder with its files.
    folder: Folder


class Results(Dict[str, Run]):
    """The results of a call by run, such as ``parallel_8_number_100`` or ``rate_5.0_number_100``.

    ``json.dumps(results)`` writes all of it. In a notebook, the results are shown as a table.
    """

    def __init__(self, folder: pathlib.Path, status: int) -> None:
        super().__init__()
        #: The folder of the call: log, summary, HTML report.
        self.folder = folder
        #: 0; 1: an objective was missed or every request failed; 3: the figures must not be used.
        self.status = status

    def requests(self, frame: Optional[str] = None) -> Any:
        """A row per measured request: the columns of the table ``request`` without bytes, ``run``, and

        ``due_unix_s``                          the scheduled time
        ``ttft_s``, ``latency_s``               from the scheduled time; ``None`` if the request does not have it
        ``tpot_s``                              of one choice; with more tokens than events a value of its range
        ``send_lag_s``                          from the scheduled time to the first byte sent

        As a ``"pandas"`` or ``"polars"`` frame, or as ``"rows"``, a list of dictionaries; without ``frame`` the first of
        these that is installed.
        """
        return _frame([row for name, run in self.items() for row in _all(_requests, name, run["folder"])], frame)

    def arrivals(self, frame: Optional[str] = None) -> Any:
        """A row per output event of the measured requests: ``run``, ``idx`` (of its request), ``event`` (from 0),
        ``choice``, ``at_s`` (from the scheduled time), ``unix_s``, and ``gap_s`` (to the event before it of the same choice;
        ``None`` for the first). ``frame`` as for :meth:`requests`.
        """
        return _frame([row for name, run in self.items() for row in _all(_arrivals, name, run["folder"])], frame)

    def _repr_html_(self) -> str:
        head = "".join(f"<th>{html.escape(title)}</th>" for title in ("Run", *(title for title, _ in FIGURES)))
        body = "".join(_html_row(name, run["metrics"]) for name, run in self.items())
        note = "<p><b>Void: these figures must not be used.</b></p>" if self.status == 3 else ""
        place = html.escape(str(self.folder))
        return f"{note}<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table><p>{place}</p>"


def _html_row(name: str, metrics: Dict[str, Any]) -> str:
    values = (metrics.get(key) for _, key in FIGURES)
    shown = ("-" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value) for value in values)
    cells = "".join(f"<td>{html.escape(text)}</td>" for text in shown)
    return f"<tr><td>{html.escape(name)}</td>{cells}</tr>"


def _all(rows: Callable[[str, pathlib.Path], Iterator[Row]], run: str, folder: str) -> Iterator[Row]:
    """The rows of a run: of its database, or of the databases of its shards."""
    paths = [pathlib.Path(folder) / DATABASE]
    if not paths[0].exists():
        paths = sorted(pathlib.Path(folder).glob(f"shard_*/{DATABASE}"))
    return heapq.merge(*(rows(run, path) for path in paths), key=lambda row: row["idx"])


@contextlib.contextmanager
def _database(path: pathlib.Path) -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)
    connection.row_factory = sqlite3.Row
    try:
        yield connection
    finally:
        connection.close()


def _measured(connection: sqlite3.Connection) -> Iterator[sqlite3.Row]:
    yield from connection.execute("SELECT * FROM request WHERE phase = 'measured' ORDER BY idx")


def _wall_offset_ns(connection: sqlite3.Connection) -> int:
    return int(connection.execute("SELECT value FROM run WHERE key = 'wall_offset_ns'").fetchone()[0])


def _requests(run: str, path: pathlib.Path) -> Iterator[Row]:
    with _database(path) as connection:
        offset_ns = _wall_offset_ns(connection)
        for request in _measured(connection):
            due = request["due_ns"]
            yield {
                "run": run,
                **{name: request[name] for name in request.keys() if name not in BYTES},
                "due_unix_s": (due + offset_ns) / 1e9,
                "ttft_s": _seconds(due, request["first_token_ns"]) if request["success"] and request["streamed"] else None,
                "latency_s": _seconds(due, request["end_ns"]) if request["success"] else None,
                "tpot_s": _tpot_s(request),
                "send_lag_s": _seconds(due, request["write_start_ns"]),
            }


def _seconds(since_ns: int, at_ns: Optional[int]) -> Optional[float]:
    return None if at_ns is None else (at_ns - since_ns) / 1e9


def _tpot_s(request: sqlite3.Row) -> Optional[float]:
    tokens = request["output_tokens"] or 0
    if not (request["success"] and request["streamed"] and tokens >= 2) or request["first_token_ns"] is None:
        return None
    # The tokens are those of all choices.
    if "choices" in request.keys() and request["choices"]:
        return None
    return float(request["last_token_ns"] - request["first_token_ns"]) / 1e9 / (tokens - 1)


def _arrivals(run: str, path: pathlib.Path) -> Iterator[Row]:
    with _database(path) as connection:
        offset_ns = _wall_offset_ns(connection)
        for request in _measured(connection):
            due, coded = request["due_ns"], request["arrivals"] or b""
            choices = request["choices"] if "choices" in request.keys() and request["choices"] else None
            last: Dict[int, int] = {}
            for event, at_ns in enumerate(decode_arrivals(due, coded)):
                choice = choices[event] if choices else 0
                yield {
                    "run": run,
                    "idx": request["idx"],
                    "event": event,
                    "choice": choice,
                    "at_s": (at_ns - due) / 1e9,
                    "unix_s": (at_ns + offset_ns) / 1e9,
                    "gap_s": _seconds(last[choice], at_ns) if choice in last else None,
                }
                last[choice] = at_ns


def decode_arrivals(due_ns: int, coded: bytes) -> Iterator[int]:
    """The arrivals of a request, nanoseconds of the run's clock, from the columns ``due_ns`` and ``arrivals``."""
    at, number, shift = due_ns, 0, 0
    for byte in coded:
        number |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            at += (number >> 1) ^ -(number & 1)
            yield at
            number, shift = 0, 0


def _frame(rows: List[Row], frame: Optional[str]) -> Any:
    makers: Dict[str, Callable[[Any, List[Row]], Any]] = {
        "pandas": lambda module, rows: module.DataFrame(rows),
        "polars": lambda module, rows: module.DataFrame(rows, infer_schema_length=None),
    }
    if frame == "rows":
        return rows
    if frame is not None and frame not in makers:
        raise ValueError(f"frame must be 'pandas', 'polars' or 'rows', not {frame!r}")
    for name in [frame] if frame else makers:
        try:
            module = importlib.import_module(name)
        except ImportError:
            if frame:
                raise
            continue
        return makers[name](module, rows)
    return rows
