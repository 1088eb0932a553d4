"""The flags of `ringmark perf` as an object."""

import difflib
import json
import sys
from argparse import Namespace
from typing import TYPE_CHECKING, Any, Dict, List, Mapping, Union

from ringmark._binary import flags
from ringmark.perf._fields import Fields

#: Default values for plug-ins. They are not added to the command line.
DEFAULTS: Dict[str, Any] = {
    "api": "openai",
    "dataset_offset": 0,
    "max_prompt_length": sys.maxsize,
    "max_tokens": 2048,
    "min_prompt_length": 0,
    "number": 1000,
    "parallel": 1,
    "prefix_length": 0,
    "rate": -1,
    "stream": True,
    "temperature": 0.0,
    "warmup_num": 0,
}
#: This flag takes all following arguments, so it comes last.
LAST = "server_args"


class Arguments(Fields):
    """The arguments of `ringmark perf`, one keyword per flag.

    A keyword is the flag's name with underscores: ``max_tokens=64`` is ``--max-tokens 64``. ``True`` gives the flag itself,
    ``False`` its opposite ``--no-...`` if there is one, a list several values, a dictionary JSON (for ``headers`` and
    ``export``: one ``name=value`` per entry), and ``None`` nothing. ``ringmark perf --help`` explains all flags;
    :meth:`names` lists the keywords. An unknown keyword raises ``TypeError``, and type checkers find it before.

    >>> Arguments(url="mock:", parallel=[1, 8], stream=False, extra_args={"ignore_eos": True}).command_line()
    ['--url=mock:', '--parallel=1', '--parallel=8', '--no-stream', '--extra-args={"ignore_eos": true}']
    """

    if not TYPE_CHECKING:
        # Type checkers see the keywords of Fields. A name that is unknown here may be one of a newer program.
        def __init__(self, **given: Any) -> None:
            for name in given:
                self._check(name)
            self.__dict__.update(given)

        def __setattr__(self, name: str, value: Any) -> None:
            self._check(name)
            self.__dict__[name] = value

        def __getattr__(self, name: str) -> Any:
            # Called only for values that were not given.
            if name.startswith("_") or name not in flags():
                raise AttributeError(f"'{name}' is not an argument of ringmark perf")
            return DEFAULTS.get(name)

    @staticmethod
    def names() -> List[str]:
        """All keywords."""
        return sorted(flags())

    @classmethod
    def of(cls, what: Union["Arguments", Mapping[str, Any], Namespace]) -> "Arguments":
        """Arguments from another object, a dictionary or a namespace of argparse."""
        if isinstance(what, Arguments):
            return cls(**what.given())
        if isinstance(what, Namespace):
            return cls(**vars(what))
        if isinstance(what, Mapping):
            return cls(**what)
        raise TypeError(f"arguments must be an Arguments, a dictionary or a Namespace, not {type(what).__name__}")

    def given(self) -> Dict[str, Any]:
        """The given values that are not ``None``."""
        return {name: value for name, value in self.__dict__.items() if value is not None}

    def command_line(self) -> List[str]:
        """The command-line arguments of `ringmark perf`."""
        given = self.given()
        words: List[str] = []
        for name, value in given.items():
            if name != LAST:
                words += self._words(name, value)
        if LAST in given:
            words += [f"--{LAST.replace('_', '-')}", *map(str, _list(given[LAST]))]
        return words

    @staticmethod
    def _words(name: str, value: Any) -> List[str]:
        flag = flags()[name]
        word = f"--{flag.name}"
        if isinstance(value, bool):
            if flag.takes_value and not (value and flag.value_is_optional):
                raise TypeError(f"{name} needs a value, not {value}")
            if value:
                return [word]
            return [f"--no-{flag.name}"] if f"no_{name}" in flags() else []
        if not flag.takes_value:
            raise TypeError(f"{name} must be True or False, not {value!r}")
        if isinstance(value, Mapping) and flag.several:
            value = [f"{key}={one}" for key, one in value.items()]
        separate = flag.several and not any(_is_json(one) for one in _list(value))
        return [f"{word}={_text(one)}" for one in (_list(value) if separate else [value])]

    @staticmethod
    def _check(name: str) -> None:
        if name in flags():
            return
        near = difflib.get_close_matches(name, flags(), 1)
        hint = f", did you mean '{near[0]}'?" if near else "; Arguments.names() lists all of them"
        raise TypeError(f"'{name}' is not an argument of ringmark perf{hint}")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Arguments) and self.given() == other.given()

    def __repr__(self) -> str:
        secret = {name for name in self.given() if name.endswith("api_key") or name == "headers"}
        shown = (f"{name}={'****' if name in secret else repr(value)}" for name, value in self.given().items())
        return f"Arguments({', '.join(shown)})"


def _list(value: Any) -> List[Any]:
    return list(value) if isinstance(value, (list, tuple)) else [value]


def _is_json(value: Any) -> bool:
    return isinstance(value, (Mapping, list, tuple))


def _text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False) if _is_json(value) else str(value)
