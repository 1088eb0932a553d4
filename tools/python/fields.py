#!/usr/bin/env python3
"""Writes python/ringmark/perf/_fields.py: a typed field for each flag of `ringmark perf`, from its `--help`.

    RINGMARK=target/debug/ringmark tools/python/fields.py            # writes the file
    RINGMARK=target/debug/ringmark tools/python/fields.py --check    # exit status 1 if it is not current
"""

import importlib.util
import pathlib
import sys
import textwrap
from typing import Any

HERE = pathlib.Path(__file__).resolve().parent
TARGET = HERE / "python" / "ringmark" / "perf" / "_fields.py"
sys.dont_write_bytecode = True


def binary_module() -> Any:
    """The module that reads the help. Not by importing the package, which needs the file that is written here."""
    spec = importlib.util.spec_from_file_location("_binary", HERE / "python" / "ringmark" / "_binary.py")
    if spec is None or spec.loader is None:
        raise ImportError("_binary.py is missing")
    module = importlib.util.module_from_spec(spec)
    # A data class looks its module up.
    sys.modules["_binary"] = module
    spec.loader.exec_module(module)
    return module


BINARY = binary_module()
flags = BINARY.flags

#: Python types of a value, by its name in the help.
INT, FLOAT, TEXT, PATH, JSON = "int", "float", "str", "PathLike", "Json"
TYPES = {
    "<N>": INT, "<ID>": INT, "<K>": INT,
    "<S>": FLOAT, "<R>": FLOAT, "<X>": FLOAT, "<T>": FLOAT, "<P>": FLOAT,
    "<FILE>": PATH, "<PATH>": PATH, "<DIR>": PATH,
    "<JSON>": f"Union[{TEXT}, {JSON}]",
    "<SIZE>": "Union[int, str]", "<LIST>": "Union[int, str]", "<ARG>": "Union[str, int, float]",
    "<CRITERIA>": f"Union[{TEXT}, {JSON}]", "<CRITERION>": f"Union[{TEXT}, {JSON}]",
    "<NAME=VALUE>": TEXT, "<FORMAT=FILE>": TEXT,
}
#: Values that are not what the name of the value says.
SPECIAL = {"warmup-num": FLOAT, "dataset": PATH, "api": PATH, "prompt": TEXT}

HEAD = '''"""A typed field for each flag of `ringmark perf`. Written by tools/python/fields.py; do not edit."""

import os
from typing import Any, Dict, List, Mapping, Optional, Sequence, Union

PathLike = Union[str, "os.PathLike[str]"]
Json = Union[Dict[str, Any], List[Any]]


class Fields:
    """The keywords of :class:`ringmark.perf.Arguments`."""
'''


def type_of(name: str) -> str:
    """The type of the value of a flag."""
    flag = flags()[name.replace("-", "_")]
    if not flag.takes_value:
        return "bool"
    one = SPECIAL.get(flag.name) or TYPES.get(flag.value_name, TEXT)
    kinds = [one]
    if flag.several:
        kinds.append(f"Sequence[{one}]")
        if "=" in flag.value_name:
            kinds.append("Mapping[str, Any]")
    if flag.value_is_optional:
        kinds.append("bool")
    return kinds[0] if len(kinds) == 1 else f"Union[{', '.join(kinds)}]"


def help_texts() -> "dict[str, str]":
    """The first sentence about each flag, by the flag's name."""
    texts, name = {}, ""
    for line in BINARY.output("perf", "-h").splitlines():
        match = BINARY.FLAG.match(line)
        if match:
            name = match[1]
            texts[name] = line[match.end():].strip()
        elif name and line.startswith("            "):
            texts[name] += " " + line.strip()
        else:
            name = ""
    return {name: BINARY.ALIASES.sub("", " ".join(text.split())).strip() for name, text in texts.items()}


def module() -> str:
    """The text of the generated module."""
    texts = help_texts()
    names = sorted(flags())
    lines = [HEAD]
    for name in names:
        text = texts.get(flags()[name].name, "")
        lines += [f"    #: {line}" for line in textwrap.wrap(text, 110)]
        lines.append(f"    {name}: Optional[{type_of(name)}]")
    lines += ["", "    def __init__(", "        self,", "        *,"]
    lines += [f"        {name}: Optional[{type_of(name)}] = None," for name in names]
    lines += ["    ) -> None: ...", ""]
    return "\n".join(lines)


def main() -> int:
    text = module()
    if sys.argv[1:] != ["--check"]:
        TARGET.write_text(text, encoding="utf-8")
        return 0
    if TARGET.read_text(encoding="utf-8") == text:
        return 0
    print(f"{TARGET.name} is not current: run tools/python/fields.py with RINGMARK set to this build", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
