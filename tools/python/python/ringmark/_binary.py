"""The program installed by the wheel, and its flags."""

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
    """The program could not run. The message is the program's error message."""


def binary() -> str:
    """Path of the program: the value of the variable RINGMARK, else the installed program, else the one on PATH."""
    path = os.environ.get("RINGMARK")
    if path:
        return path
    folders = [sysconfig.get_path("scripts"), os.path.dirname(sys.executable)]
    for folder in folders + [os.path.join(os.path.expanduser("~"), ".local", "bin")]:
        path = os.path.join(folder, "ringmark")
        if os.access(path, os.X_OK):
            return path
    on_path = shutil.which("ringmark")
    if on_path is None:
        raise RingmarkError("the program ringmark was not found: reinstall this package, or set RINGMARK to its path")
    return on_path


def output(*arguments: str) -> str:
    """The standard output of the program with these arguments."""
    try:
        return subprocess.run([binary(), *arguments], check=True, capture_output=True, text=True).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        raise RingmarkError(f"{binary()} cannot be run: {error}") from error


def version() -> str:
    """The program's version. `ringmark version` also prints the commit."""
    return output("--version").split()[1]


@dataclass(frozen=True)
class Flag:
    """A flag of `ringmark perf`."""

    name: str
    takes_value: bool
    #: The flag may be given without a value.
    value_is_optional: bool
    several: bool
    #: The name of its value in the help, such as `<N>`; empty if it takes none.
    value_name: str


FLAG = re.compile(r"^  (?:-\w, |    )--([a-z][a-z0-9-]*)( \[?<[^>]+>\]?)?(\.\.\.)?")
ALIASES = re.compile(r"\[alias(?:es)?:([^\]]+)\]")


@functools.lru_cache(maxsize=None)
def flags() -> Dict[str, Flag]:
    """The flags of `ringmark perf` by keyword (`max_tokens` for `--max-tokens`), parsed from its help."""
    found: Dict[str, Flag] = {}
    last: List[Flag] = []
    for line in output("perf", "--help").splitlines():
        match = FLAG.match(line)
        if match and match[1] != "help":
            value = match[2] or ""
            last = [Flag(match[1], bool(value), "[" in value, bool(match[3]), value.strip(" []"))]
            found[match[1].replace("-", "_")] = last[0]
        aliases = ALIASES.search(line)
        if aliases and last:
            for alias in re.findall(r"--([a-z][a-z0-9-]*)", aliases[1]):
                found[alias.replace("-", "_")] = last[0]
    return found
