"""Lets the program call classes in this process.

In place of the dataset or API, the program starts the script ``_caller.py``, which forwards the call to this process.
"""

import json
import os
import pathlib
import shlex
import socket
import sys
import sysconfig
import tempfile
import threading
import traceback
from typing import Any, Callable, Dict, Iterable, Iterator

from ringmark.perf.arguments import Arguments
from ringmark.plugin import _caller, registry

#: Takes the verb, the environment and the standard input of a call, and returns the lines to print.
Handler = Callable[[str, Dict[str, str], Iterable[str]], Iterator[str]]


class Bridge:
    """While the bridge is open, ``arguments`` are the given arguments with programs in place of registered classes."""

    def __init__(self, arguments: Arguments) -> None:
        self.arguments = arguments
        handlers: Dict[str, Handler] = {}
        given = arguments.given()
        dataset, api = registry.DATASETS.get(given.get("dataset", "")), registry.APIS.get(given.get("api", ""))
        if dataset is not None:
            handlers["dataset"] = lambda verb, environment, lines: dataset.lines(arguments, environment)
            # These are used by the class.
            for name in ("dataset_path", "min_prompt_length", "max_prompt_length"):
                given.pop(name, None)
        if api is not None:
            handlers["api"] = lambda verb, environment, lines: api.answers(arguments, verb, lines)
        self._handlers = handlers
        self._given = given

    def __enter__(self) -> "Bridge":
        if not self._handlers:
            return self
        self._folder = tempfile.TemporaryDirectory(prefix="ringmark-")
        folder = pathlib.Path(self._folder.name)
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(folder / "bridge"))
        self._listener.listen()
        for kind in self._handlers:
            # The program's messages contain the file name, so it is the registered name.
            launcher = folder / kind / str(self._given[kind]).replace("/", "_")
            launcher.parent.mkdir()
            words = [sys.executable, "-I", _caller.__file__, str(folder / "bridge"), kind]
            launcher.write_text(f'#!/bin/sh\nexec {shlex.join(words)} "$@"\n', encoding="utf-8")
            launcher.chmod(0o700)
            self._given[kind] = str(launcher)
        self.arguments = Arguments(**self._given)
        threading.Thread(target=self._listen, daemon=True).start()
        return self

    def __exit__(self, *_: Any) -> None:
        if self._handlers:
            self._listener.close()
            self._folder.cleanup()

    def _listen(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        # Two files, because a file for both directions discards its read buffer when it writes.
        reader = connection.makefile("r", encoding="utf-8", newline="\n")
        writer = connection.makefile("w", encoding="utf-8", newline="\n")
        with connection, reader, writer:
            try:
                call = json.loads(reader.readline())
                for line in self._handlers[call["kind"]](call["verb"], call["environment"], reader):
                    writer.write(f"{_caller.LINE}{line}\n")
                writer.write(f"{_caller.END}\n")
                writer.flush()
            except (BrokenPipeError, ConnectionResetError):
                # The program does not need more lines.
                pass
            except Exception as error:
                traceback.print_exc()
                self._fail(writer, " ".join(f"{type(error).__name__}: {error}{_place(error)}".split()))

    @staticmethod
    def _fail(stream: Any, text: str) -> None:
        try:
            stream.write(f"{_caller.FAILED}{text}\n")
            stream.flush()
        except OSError:
            pass


def _place(error: Exception) -> str:
    """Where the error arose in code that is neither Python's nor this package's; empty if nowhere."""
    others = (sysconfig.get_path("stdlib"), os.path.dirname(__file__))
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith(others)]
    return f" ({os.path.basename(frames[-1].filename)}, line {frames[-1].lineno})" if frames else ""
