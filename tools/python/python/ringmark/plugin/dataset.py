"""The base class of datasets."""

import itertools
import json
import os
import sys
from dataclasses import dataclass
from typing import Any, Dict, Iterator, List, Mapping, Optional, Tuple, Union

from ringmark.perf.arguments import Arguments
from ringmark.plugin.tokens import count_tokens, load_tokenizer

Message = Dict[str, Any]
Messages = List[Message]
#: A prompt: a string, a list of messages, or a complete request body.
Prompt = Union[str, Messages, Dict[str, Any]]
#: The arguments that a program gets in its environment.
VARIABLES = {
    "model": "RINGMARK_MODEL",
    "seed": "RINGMARK_SEED",
    "number": "RINGMARK_NUMBER",
    "dataset_offset": "RINGMARK_OFFSET",
    "dataset_path": "RINGMARK_DATASET_PATH",
    "dataset_args": "RINGMARK_DATASET_ARGS",
    "min_prompt_length": "RINGMARK_MIN_PROMPT_LENGTH",
    "max_prompt_length": "RINGMARK_MAX_PROMPT_LENGTH",
    "tokenizer_path": "RINGMARK_TOKENIZER_PATH",
}
#: Those whose values are texts; the others are JSON.
TEXTS = ("model", "dataset_path", "tokenizer_path")


@dataclass
class Turn:
    """One turn of a conversation, as in evalscope. A dataset can yield a list of one turn, whose messages are the prompt."""

    messages: Messages
    max_tokens: Optional[int] = None
    tool_call_latency: Optional[float] = None
    is_final: bool = False
    rid: Optional[str] = None


Conversation = List[Turn]


class DatasetPluginBase:
    """Base class of datasets. Derive from it and implement ``build_messages``.

    ``self.query_parameters`` has the arguments of the call. In a program (see :meth:`main`) it has those of
    :data:`VARIABLES` only.
    """

    #: Set in a process in which the program calls registered classes itself.
    called_by_program: bool = False
    _tokenizer: Any = None

    def __init__(self, query_parameters: Arguments) -> None:
        self.query_parameters = query_parameters
        given: Any = query_parameters.dataset_args
        schema = getattr(self, "args_schema", None)
        #: ``dataset_args`` of the call; an object of the class ``args_schema``, if the derived class has that.
        self.dataset_args: Any = given if schema is None else schema(**(given or {}))

    def build_messages(self) -> Iterator[Prompt]:
        """Yields prompts, each a string, a list of messages or a complete body. The generator may be endless."""
        raise NotImplementedError(f"{type(self).__name__} does not implement build_messages")

    def __iter__(self) -> Iterator[Prompt]:
        return self.build_messages()

    @property
    def tokenizer(self) -> Any:
        """The tokenizer of ``tokenizer_path``, loaded when it is first used; ``None`` without one."""
        path = self.query_parameters.tokenizer_path
        if self._tokenizer is None and path:
            self._tokenizer = load_tokenizer(str(path))
        return self._tokenizer

    @tokenizer.setter
    def tokenizer(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer

    def check_prompt_length(self, prompt: str) -> Tuple[bool, int]:
        """Whether the length is within ``min_prompt_length`` and ``max_prompt_length``, both included, and the length: tokens
        with a tokenizer, after the chat template if ``apply_chat_template`` is set, else characters.
        """
        parameters = self.query_parameters
        length = count_tokens(self.tokenizer, prompt, parameters.apply_chat_template) if self.tokenizer else len(prompt)
        least, most = parameters.min_prompt_length or 0, parameters.max_prompt_length or sys.maxsize
        return least <= length <= most, length

    def create_message(self, text: str, image_urls: Union[None, str, List[str]] = None, role: str = "user") -> Message:
        """A message with a text and, if given, with the addresses of pictures."""
        if image_urls is None:
            return {"role": role, "content": text}
        urls = [image_urls] if isinstance(image_urls, str) else image_urls
        pictures = [{"type": "image_url", "image_url": {"url": url}} for url in urls]
        return {"role": role, "content": [{"type": "text", "text": text}, *pictures]}

    def prepare_prompt(self, prompt: str) -> Optional[str]:
        """The prompt, or ``None`` if its length is outside of the limits."""
        return prompt if self.check_prompt_length(prompt)[0] else None

    def prepare_messages(self, prompt: str) -> Union[None, str, Messages]:
        """The prompt as it is sent: a list of messages if ``apply_chat_template`` is set, else the text; ``None`` if its
        length is outside of the limits.
        """
        prepared = self.prepare_prompt(prompt)
        if prepared is None or not self.query_parameters.apply_chat_template:
            return prepared
        return [self.create_message(prepared)]

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
            yield json.dumps(_messages(prompt), ensure_ascii=False)

    @classmethod
    def main(cls) -> None:
        """Makes the file a program for ``ringmark perf --dataset ./file.py``."""
        if cls.called_by_program:
            return
        given = {name: os.environ[variable] for name, variable in VARIABLES.items() if variable in os.environ}
        arguments = Arguments.of({name: value if name in TEXTS else json.loads(value) for name, value in given.items()})
        for line in cls.lines(arguments, os.environ):
            sys.stdout.write(line + "\n")


def _messages(prompt: Any) -> Any:
    """The prompt; of a conversation, the messages of its only turn."""
    if not (isinstance(prompt, list) and prompt and isinstance(prompt[0], Turn)):
        return prompt
    if len(prompt) > 1:
        raise ValueError(
            f"build_messages yields a conversation of {len(prompt)} turns: write conversations to a file, and read it with "
            "--dataset custom_multi_turn"
        )
    return prompt[0].messages
