"""Runs `ringmark perf` and returns its results."""

import asyncio
import functools
import importlib
import json
import pathlib
import queue
import re
import signal
import subprocess
import sys
import threading
import time
import warnings
from argparse import Namespace
from typing import Any, Callable, List, Mapping, Optional, Tuple, Union

from ringmark._binary import RingmarkError, binary
from ringmark.perf.arguments import Arguments
from ringmark.perf.results import Folder, Results
from ringmark.plugin import _bridge

#: Exit statuses of the program.
MISSED, VOID, INTERRUPTED = 1, 3, 130
#: The prefix of the line with the folder of the results.
PLACE = "Results: "
#: A line of the log with the figures so far.
PROGRESS = re.compile(r" - INFO - (\d+ done, .*)")


def run_perf_benchmark(args: Union[Arguments, Mapping[str, Any], Namespace]) -> Results:
    """Runs ``ringmark perf`` with these arguments and prints its output.

    Ctrl-C stops the run, as it does on the command line, and raises ``KeyboardInterrupt`` when all results are written; a
    second Ctrl-C ends it immediately. Raises :class:`ringmark.RingmarkError` if the program cannot run.
    """
    return _measure(Arguments.of(args), _Child())


async def run_perf_benchmark_async(args: Union[Arguments, Mapping[str, Any], Namespace]) -> Results:
    """The same for asynchronous code: the event loop goes on meanwhile. Cancelling the task stops the run in order: it ends
    when all results are written.
    """
    child = _Child()
    measure = functools.partial(_measure, Arguments.of(args), child)
    run = asyncio.get_running_loop().run_in_executor(None, measure)
    try:
        return await asyncio.shield(run)
    except asyncio.CancelledError:
        child.interrupt()
        await asyncio.wait([run])
        # It was interrupted, which the caller learns from the cancellation.
        run.exception()
        raise


def _measure(arguments: Arguments, child: "_Child") -> Results:
    began_ns = time.time_ns()
    with _bridge.Bridge(arguments) as bridge:
        lines: List[str] = []
        status = child.run([binary(), "perf", *bridge.arguments.command_line()], lines)
    place = next((line[len(PLACE) :] for line in reversed(lines) if line.startswith(PLACE)), None)
    if status == INTERRUPTED:
        raise KeyboardInterrupt(f"interrupted; results: {place}")
    if status not in (0, MISSED, VOID) or place is None:
        raise RingmarkError(_error_message(lines) or f"ringmark exited with status {status}")
    if status == VOID:
        warnings.warn("the run is void: its figures must not be used (see the findings)", stacklevel=3)
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
            "folder": Folder(summary.parent),
        }
    return results


def _error_message(lines: List[str]) -> Optional[str]:
    """The last error message of the program."""
    return next((line[len("error: ") :] for line in reversed(lines) if line.startswith("error: ")), None)


class _Child:
    """The process of the program."""

    def __init__(self) -> None:
        self._process: Optional["subprocess.Popen[str]"] = None
        # A signal handler may take it while this thread has it.
        self._lock = threading.RLock()
        self._interrupted = False

    def interrupt(self) -> None:
        """Stops the run as Ctrl-C does; one that has not started yet, when it starts."""
        with self._lock:
            self._interrupted = True
            if self._process is not None:
                self._process.send_signal(signal.SIGINT)

    def run(self, command: List[str], lines: List[str]) -> int:
        """Runs the program, prints its output and appends it to ``lines``. Returns the exit status."""
        on_terminal = sys.stderr is not None and sys.stderr.isatty()
        process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            # On a terminal, the program writes progress bars directly; else its lines are also searched for an error.
            stderr=None if on_terminal else subprocess.PIPE,
            text=True,
            encoding="utf-8",
            errors="replace",
            # A separate session, so that Ctrl-C reaches this process only, which forwards it.
            start_new_session=True,
        )
        restore = _forward_interrupts(self)
        with self._lock:
            self._process = process
            if self._interrupted:
                process.send_signal(signal.SIGINT)
        try:
            _print_output(process, lines)
            return process.wait()
        finally:
            restore()
            if process.poll() is None:
                process.terminate()
                process.wait()
            for pipe in (process.stdout, process.stderr):
                if pipe is not None:
                    pipe.close()


def _print_output(process: "subprocess.Popen[str]", lines: List[str]) -> None:
    """Prints what the process writes until it ends, in this thread: notebooks assign output to cells by thread."""
    pipes = [(process.stdout, sys.stdout), (process.stderr, sys.stderr)]
    written: "queue.SimpleQueue[Optional[Tuple[str, Any]]]" = queue.SimpleQueue()

    def read(pipe: Any, to: Any) -> None:
        for line in pipe:
            written.put((line, to))
        written.put(None)

    open_pipes = [(pipe, to) for pipe, to in pipes if pipe is not None]
    for pipe, to in open_pipes:
        threading.Thread(target=read, args=(pipe, to), daemon=True).start()
    show_progress = _notebook_progress()
    ended = 0
    while ended < len(open_pipes):
        item = written.get()
        if item is None:
            ended += 1
            continue
        line, to = item
        lines.append(line.rstrip("\n"))
        progress = PROGRESS.search(line) if show_progress else None
        if progress and show_progress:
            show_progress(progress[1])
        elif to is not None:
            to.write(line)
            to.flush()


def _notebook_progress() -> Optional[Callable[[str], None]]:
    """In a notebook, a function that shows a text in place of the one before; else ``None``."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    if type(shell).__name__ != "ZMQInteractiveShell":
        return None
    module: Any = importlib.import_module("IPython.display")
    handles: List[Any] = []

    def show(text: str) -> None:
        if handles:
            handles[0].update(module.Pretty(text))
        else:
            handles.append(module.display(module.Pretty(text), display_id=True))

    return show


def _forward_interrupts(child: _Child) -> Callable[[], None]:
    """Forwards Ctrl-C to the child until the returned function is called."""
    if threading.current_thread() is not threading.main_thread():
        # Signal handlers can be set in the main thread only.
        return lambda: None
    previous = signal.signal(signal.SIGINT, lambda *_: child.interrupt())

    def restore() -> None:
        signal.signal(signal.SIGINT, previous)

    return restore
