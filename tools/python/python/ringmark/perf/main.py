"""Runs `ringmark perf` and returns its results."""

import json
import pathlib
import signal
import subprocess
import sys
import threading
import time
import warnings
from argparse import Namespace
from typing import Any, Callable, Dict, List, Mapping, Optional, Union

from ringmark._binary import RingmarkError, binary
from ringmark.perf.arguments import Arguments
from ringmark.plugin import _bridge

#: Exit statuses of the program.
MISSED, VOID, INTERRUPTED = 1, 3, 130
#: The prefix of the line with the folder of the results.
PLACE = "Results: "


class Results(Dict[str, Dict[str, Any]]):
    """The results of a call by run, such as ``parallel_8_number_100`` or ``rate_5.0_number_100``. Each run has

    ``metrics``      the summary: the figures by their names in the table, ``None`` if unknown
    ``percentiles``  the columns of the percentile table, each with as many values as ``percentiles["Percentiles"]``
    ``arguments``    the arguments of the run, with secrets masked
    ``folder``       the folder with its files
    """

    def __init__(self, folder: pathlib.Path, status: int) -> None:
        super().__init__()
        #: The folder of the call: log, summary, HTML report.
        self.folder = folder
        #: 0; 1: an objective was missed or every request failed; 3: the figures must not be used.
        self.status = status


def run_perf_benchmark(args: Union[Arguments, Mapping[str, Any], Namespace]) -> Results:
    """Runs ``ringmark perf`` with these arguments and prints its output.

    Ctrl-C stops the run, as it does on the command line, and raises ``KeyboardInterrupt`` when all results are written; a
    second Ctrl-C ends it immediately. Raises :class:`ringmark.RingmarkError` if the program cannot run.
    """
    arguments = Arguments.of(args)
    began_ns = time.time_ns()
    with _bridge.Bridge(arguments) as bridge:
        lines: List[str] = []
        status = _run([binary(), "perf", *bridge.arguments.command_line()], lines)
    place = next((line[len(PLACE) :] for line in reversed(lines) if line.startswith(PLACE)), None)
    if status == INTERRUPTED:
        raise KeyboardInterrupt(f"interrupted; results: {place}")
    if status not in (0, MISSED, VOID) or place is None:
        raise RingmarkError(_error_message(lines) or f"ringmark exited with status {status}")
    if status == VOID:
        warnings.warn("the run is void: its figures must not be used (see the findings)", stacklevel=2)
    return _read(pathlib.Path(place), status, began_ns)


def _read(folder: pathlib.Path, status: int, began_ns: int) -> Results:
    results = Results(folder, status)
    written = {path: path.stat().st_mtime_ns for path in folder.glob("*/benchmark_summary.json")}
    # With --no-timestamp the folder may contain runs of earlier calls. One second of tolerance for coarse file times.
    ours = [path for path, at_ns in written.items() if at_ns > began_ns - 1_000_000_000]
    for summary in sorted(ours, key=written.__getitem__):
        percentiles = json.loads(summary.with_name("benchmark_percentile.json").read_text(encoding="utf-8"))
        names = list(percentiles[0]) if percentiles else []
        results[summary.parent.name] = {
            "metrics": json.loads(summary.read_text(encoding="utf-8")),
            "percentiles": {name: [row[name] for row in percentiles] for name in names},
            "arguments": json.loads(summary.with_name("benchmark_args.json").read_text(encoding="utf-8")),
            "folder": summary.parent,
        }
    return results


def _error_message(lines: List[str]) -> Optional[str]:
    """The last error message of the program."""
    return next((line[len("error: ") :] for line in reversed(lines) if line.startswith("error: ")), None)


def _run(command: List[str], lines: List[str]) -> int:
    """Runs the program, prints its output and appends it to ``lines``. Returns the exit status."""
    on_terminal = sys.stderr is not None and sys.stderr.isatty()
    child = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        # On a terminal, the program writes progress bars directly; else its lines are also searched for an error message.
        stderr=None if on_terminal else subprocess.PIPE,
        text=True,
        encoding="utf-8",
        errors="replace",
        # A separate session, so that Ctrl-C reaches this process only, which forwards it.
        start_new_session=True,
    )
    pipes = [(child.stdout, sys.stdout), (child.stderr, sys.stderr)]
    readers = [threading.Thread(target=_show, args=(pipe, to, lines)) for pipe, to in pipes if pipe is not None]
    restore = _forward_interrupts(child)
    try:
        for reader in readers:
            reader.start()
        return child.wait()
    finally:
        restore()
        if child.poll() is None:
            child.terminate()
        for reader in readers:
            reader.join()
        for pipe, _ in pipes:
            if pipe is not None:
                pipe.close()


def _show(pipe: Any, to: Any, lines: List[str]) -> None:
    for line in pipe:
        lines.append(line.rstrip("\n"))
        if to is not None:
            to.write(line)
            to.flush()


def _forward_interrupts(child: "subprocess.Popen[str]") -> Callable[[], None]:
    """Forwards Ctrl-C to the child until the returned function is called."""
    if threading.current_thread() is not threading.main_thread():
        # Signal handlers can be set in the main thread only.
        return lambda: None
    previous = signal.signal(signal.SIGINT, lambda *_: child.send_signal(signal.SIGINT))

    def restore() -> None:
        signal.signal(signal.SIGINT, previous)

    return restore
