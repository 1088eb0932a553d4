"""Runs `ringmark perf` and hands back its figures."""

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
#: How the line begins that says where everything is.
PLACE = "Results: "


class Results(Dict[str, Dict[str, Any]]):
    """The figures of a call by its runs, as ``parallel_8_number_100`` or ``rate_5.0_number_100``, each with

    ``metrics``      the summary: the names of the table with their figures, ``None`` where one is unknown
    ``percentiles``  the names of the columns with their values, as long as ``percentiles["Percentiles"]``
    ``arguments``    what the run was asked, secrets masked
    ``folder``       where its files are
    """

    def __init__(self, folder: pathlib.Path, status: int) -> None:
        super().__init__()
        #: Of the whole call: log, summary, HTML report.
        self.folder = folder
        #: 0; 1: an objective was missed or every request failed; 3: the figures must not be used.
        self.status = status


def run_perf_benchmark(args: Union[Arguments, Mapping[str, Any], Namespace]) -> Results:
    """Measures as ``ringmark perf`` does, with these arguments, and shows what it shows.

    Ctrl-C ends the run in order, as it does on the command line, and raises ``KeyboardInterrupt`` when everything is
    written; a second one ends it at once. Raises :class:`ringmark.RingmarkError` where the program could not run.
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
        raise RingmarkError(_mistake(lines) or f"ringmark ended with status {status}")
    if status == VOID:
        warnings.warn("the run is void: its figures must not be used (see the findings)", stacklevel=2)
    return _read(pathlib.Path(place), status, began_ns)


def _read(folder: pathlib.Path, status: int, began_ns: int) -> Results:
    results = Results(folder, status)
    written = {path: path.stat().st_mtime_ns for path in folder.glob("*/benchmark_summary.json")}
    # Without a time in its name the folder may hold runs of earlier calls. File systems have coarse clocks.
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


def _mistake(lines: List[str]) -> Optional[str]:
    """The line that says why it could not run."""
    return next((line[len("error: ") :] for line in reversed(lines) if line.startswith("error: ")), None)


def _run(command: List[str], lines: List[str]) -> int:
    """Runs the program, shows what it says and keeps it; gives its exit status."""
    on_terminal = sys.stderr is not None and sys.stderr.isatty()
    child = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        # A terminal gets progress bars; everything else gets lines, which are also searched for what went wrong.
        stderr=None if on_terminal else subprocess.PIPE,
        text=True,
        encoding="utf-8",
        errors="replace",
        # Ctrl-C comes to us alone, and is passed on.
        start_new_session=True,
    )
    pipes = [(child.stdout, sys.stdout), (child.stderr, sys.stderr)]
    readers = [threading.Thread(target=_show, args=(pipe, to, lines)) for pipe, to in pipes if pipe is not None]
    restore = _pass_interrupts_on(child)
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


def _pass_interrupts_on(child: "subprocess.Popen[str]") -> Callable[[], None]:
    """Ctrl-C goes to the child until the result is called."""
    if threading.current_thread() is not threading.main_thread():
        # Signals come to the main thread only, which has its own idea of them.
        return lambda: None
    usual = signal.signal(signal.SIGINT, lambda *_: child.send_signal(signal.SIGINT))

    def restore() -> None:
        signal.signal(signal.SIGINT, usual)

    return restore
