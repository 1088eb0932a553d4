"""The base class of datasets."""

import itertools
import json
import os
import sys
from typing import Any, Dict, Iterator, List, Mapping, Union

from ringmark.perf.arguments import Arguments

#: A prompt: a string, a list of messages, or a complete request body.
Prompt = Union[str, List[Dict[str, Any]], Dict[str, Any]]


class DatasetPluginBase:
    """Base class of datasets. Derive from it and implement ``build_messages``.

    ``self.query_parameters`` has the arguments of the call. In a program (see :meth:`main`) it has ``model``, ``seed``,
    ``number`` and ``dataset_offset`` only.
    """

    def __init__(self, query_parameters: Arguments) -> None:
        self.query_parameters = query_parameters

    def build_messages(self) -> Iterator[Prompt]:
        """Yields prompts, each a string, a list of messages or a complete body. The generator may be endless."""
        raise NotImplementedError(f"{type(self).__name__} does not implement build_messages")

    @staticmethod
    def dataset_line_by_line(dataset: str) -> Iterator[str]:
        """The lines of a file, without line ends."""
        with open(dataset, encoding="utf-8") as file:
            for line in file:
                yield line.rstrip("\n")

    @staticmethod
    def dataset_json_list(dataset: str) -> List[Dict[str, Any]]:
        """The items of a file with one JSON array."""
        with open(dataset, encoding="utf-8") as file:
            items: List[Dict[str, Any]] = json.load(file)
        return items

    @classmethod
    def lines(cls, query_parameters: Arguments, environment: Mapping[str, str]) -> Iterator[str]:
        """The output of a program for ``--dataset``. ``environment`` has the RINGMARK_ variables of the run."""
        prompts = cls(query_parameters).build_messages()
        if "RINGMARK_NUMBER" in environment:
            count = int(environment["RINGMARK_NUMBER"]) + int(environment.get("RINGMARK_OFFSET", "0"))
            prompts = itertools.islice(prompts, count)
        for prompt in prompts:
            yield json.dumps(prompt, ensure_ascii=False)

    @classmethod
    def main(cls) -> None:
        """Makes the file a program for ``ringmark perf --dataset ./file.py``."""
        known = {"model": "RINGMARK_MODEL", "seed": "RINGMARK_SEED", "dataset_offset": "RINGMARK_OFFSET"}
        given = {name: os.environ[variable] for name, variable in known.items() if variable in os.environ}
        if "RINGMARK_NUMBER" in os.environ:
            given["number"] = os.environ["RINGMARK_NUMBER"]
        arguments = Arguments.of({name: value if name == "model" else int(value) for name, value in given.items()})
        for line in cls.lines(arguments, os.environ):
            sys.stdout.write(line + "\n")
