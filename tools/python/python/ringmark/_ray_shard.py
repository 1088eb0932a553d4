"""A shard of a load as a Ray actor. Ray sends this module to the nodes, which need neither this package nor the program, so it
imports nothing else of the package.
"""

import contextlib
import ctypes
import importlib
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
from typing import Any, Dict, List, Optional, Tuple

#: Lines of the program that are kept for an error message.
KEPT_LINES = 200
#: `prctl(PR_SET_PDEATHSIG)`: the signal that a process gets when its parent ends.
PR_SET_PDEATHSIG = 1
#: Files of a run that the driver needs.
FILES = ("benchmark_data.db", "benchmark_data.db-wal", "benchmark_args.json")


class Shard:
    """Runs the program on its node and keeps the files until they have been read."""

    def __init__(self, program: Any) -> None:
        """``program``: the path of the program on the node, or the bytes of the program."""
        self._folder = pathlib.Path(tempfile.mkdtemp(prefix="ringmark-"))
        self._lock = threading.Lock()
        self._process: Optional["subprocess.Popen[str]"] = None
        self._interrupted = False
        self._calls = 0
        self._outputs = self._folder
        self._runs: Dict[str, pathlib.Path] = {}
        # Not after the fork, where loading could wait for a lock of another thread.
        self._prctl: Any = ctypes.CDLL(None).prctl
        if isinstance(program, bytes):
            self._program = str(self._folder / "ringmark")
            pathlib.Path(self._program).write_bytes(program)
            os.chmod(self._program, 0o700)
        else:
            self._program = str(program)

    def ready(self) -> None:
        """Returns when the actor has started."""

    def address(self) -> str:
        """An address of this node with a free port, for the rendezvous on shard 0."""
        host: str = importlib.import_module("ray").util.get_node_ip_address()
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with contextlib.closing(socket.socket(family)) as free:
            free.bind((host, 0))
            port = free.getsockname()[1]
        return f"[{host}]:{port}" if family == socket.AF_INET6 else f"{host}:{port}"

    def run(self, flags: List[str], token: str, prints: bool) -> Tuple[int, List[str], Dict[str, Dict[str, int]]]:
        """Runs ``ringmark perf`` with these flags. Returns the exit status, the last lines of the program, and by the name of
        each run its files and their sizes. ``prints``: print the lines as well, which Ray shows where the driver is.
        """
        self._calls += 1
        self._outputs = self._folder / f"call-{self._calls}"
        process = subprocess.Popen(
            [self._program, "perf", *flags, f"--outputs-dir={self._outputs}"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            errors="replace",
            env={**os.environ, "RINGMARK_JOB_TOKEN": token},
            # If the driver ends, Ray kills this process, and the program must not go on alone.
            preexec_fn=lambda: self._prctl(PR_SET_PDEATHSIG, signal.SIGTERM),
        )
        with self._lock:
            self._process = process
            if self._interrupted:
                process.send_signal(signal.SIGINT)
        lines: List[str] = []
        assert process.stdout is not None
        for line in process.stdout:
            lines.append(line.rstrip("\n"))
            del lines[:-KEPT_LINES]
            if prints:
                print(line, end="", flush=True)
        status = process.wait()
        process.stdout.close()
        return status, lines, self._files()

    def _files(self) -> Dict[str, Dict[str, int]]:
        found: Dict[str, Dict[str, int]] = {}
        for database in sorted(self._outputs.rglob(FILES[0])):
            run = database.parent
            # The same run is also behind the link to the latest results.
            if not any(folder.is_symlink() for folder in run.parents):
                files = (run / name for name in FILES)
                found[run.name] = {file.name: file.stat().st_size for file in files if file.exists()}
                self._runs[run.name] = run
        return found

    def read(self, run: str, name: str, offset: int, size: int) -> bytes:
        """A part of a file of the last call."""
        with open(self._runs[run] / name, "rb") as file:
            file.seek(offset)
            return file.read(size)

    def interrupt(self) -> None:
        """Ends the run as Ctrl-C does; one that has not started yet, when it starts."""
        with self._lock:
            self._interrupted = True
            if self._process is not None and self._process.poll() is None:
                self._process.send_signal(signal.SIGINT)

    def forget(self) -> None:
        """Removes the files of the last call."""
        shutil.rmtree(self._outputs, ignore_errors=True)

    def close(self) -> None:
        """Removes all files."""
        shutil.rmtree(self._folder, ignore_errors=True)
