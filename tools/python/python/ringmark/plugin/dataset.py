"""The base class of data sets."""

import itertools
import json
import os
import sys
from typing import Any, Dict, Iterator, List, Mapping, Union

from ringmark.perf.arguments import Arguments

#: What a data set may yield: a text, a list of messages, or a whole body.
Prompt = Union[str, List[Dict[str, Any]], Dict[str, Any]]


class DatasetPluginBase:
    """Prompts. Derive from it and write ``build_messages``.

    ``self.query_parameters`` holds the arguments of the call. In a program (see :meth:`main`) it holds ``model``,
    ``seed``, ``number`` and ``dataset_offset``; the rest of the command line is not told to programs.
    """

    def __init__(self, query_parameters: Arguments) -> None:
        self.query_parameters = query_parameters

    def build_messages(self) -> Iterator[Prompt]:
        """Yields prompts, each a text, a list of messages or a whole body; as many as are wanted are taken."""
        raise NotImplementedError(f"{type(self).__name__} has no build_messages")

    @staticmethod
    def dataset_line_by_line(dataset: str) -> Iterator[str]:
        """The lines of a file, without their ends."""
        with open(dataset, encoding="utf-8") as file:
            for line in file:
                yield line.rstrip("\n")

    @staticmethod
    def dataset_json_list(dataset: str) -> List[Dict[str, Any]]:
        """The content of a file that is one JSON array."""
        with open(dataset, encoding="utf-8") as file:
            items: List[Dict[str, Any]] = json.load(file)
        return items

    @classmethod
    def lines(cls, query_parameters: Arguments, environment: Mapping[str, str]) -> Iterator[str]:
        """What a program for ``--dataset`` prints, with the wishes of the run in its environment."""
        prompts = cls(query_parameters).build_messages()
        if "RINGMARK_NUMBER" in environment:
            wanted = int(environment["RINGMARK_NUMBER"]) + int(environment.get("RINGMARK_OFFSET", "0"))
            prompts = itertools.islice(prompts, wanted)
        for prompt in prompts:
            yield json.dumps(prompt, ensure_ascii=False)

    @classmethod
    def main(cls) -> None:
        """Makes the file a program for ``ringmark perf --dataset ./file.py``."""
        known = {"model": "RINGMARK_MODEL", "seed": "RINGMARK_SEED", "dataset_offset": "RINGMARK_OFFSET"}
        given = {name: os.environ[variable] for name, variable in known.items() if variable in os.environ}
        if "RINGMARK_NUMBER" in os.environ:
            given["number"] = os.environ["RINGMARK_NUMBER"]
        numbers = {name: int(value) for name, value in given.items() if name != "model"}
        for line in cls.lines(Arguments(**{**given, **numbers}), os.environ):
            sys.stdout.write(line + "\n")
