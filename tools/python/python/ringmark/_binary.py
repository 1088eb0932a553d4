"""The program that the wheel brings, and what it knows of its flags."""

import functools
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from typing import Dict, List


class RingmarkError(RuntimeError):
    """A call that could not run; the text is the program's own line, which says what to do."""


def binary() -> str:
    """Path of the program: what the variable RINGMARK names, else the one installed beside this package, else PATH."""
    named = os.environ.get("RINGMARK")
    if named:
        return named
    folders = [sysconfig.get_path("scripts"), os.path.dirname(sys.executable)]
    for folder in folders + [os.path.join(os.path.expanduser("~"), ".local", "bin")]:
        path = os.path.join(folder, "ringmark")
        if os.access(path, os.X_OK):
            return path
    found = shutil.which("ringmark")
    if found is None:
        raise RingmarkError("the program ringmark is not there: install this package again, or set RINGMARK to its path")
    return found


def ask(*arguments: str) -> str:
    """What the program prints to these arguments."""
    try:
        return subprocess.run([binary(), *arguments], check=True, capture_output=True, text=True).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        raise RingmarkError(f"{binary()} does not answer: {error}") from error


def version() -> str:
    """The program's version."""
    return ask("--version").split()[-1]


@dataclass(frozen=True)
class Flag:
    """A flag of `ringmark perf`."""

    name: str
    takes_value: bool
    #: It may also stand without its value.
    value_is_optional: bool
    several: bool


FLAG = re.compile(r"^  (?:-\w, |    )--([a-z][a-z0-9-]*)( \[?<[^>]+>\]?)?(\.\.\.)?")
ALIASES = re.compile(r"\[alias(?:es)?:([^\]]+)\]")


@functools.lru_cache(maxsize=None)
def flags() -> Dict[str, Flag]:
    """The flags of `ringmark perf` by their names in Python (`max_tokens` for `--max-tokens`), from its own help."""
    found: Dict[str, Flag] = {}
    last: List[Flag] = []
    for line in ask("perf", "--help").splitlines():
        match = FLAG.match(line)
        if match and match[1] != "help":
            value = match[2] or ""
            last = [Flag(match[1], bool(value), "[" in value, bool(match[3]))]
            found[match[1].replace("-", "_")] = last[0]
        aliases = ALIASES.search(line)
        if aliases and last:
            for alias in re.findall(r"--([a-z][a-z0-9-]*)", aliases[1]):
                found[alias.replace("-", "_")] = last[0]
    return found
