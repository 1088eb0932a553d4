"""The base class of APIs."""

import json
import sys
from typing import Any, Dict, Iterable, Iterator, List, Mapping, Optional, Tuple, Union

from ringmark.perf.arguments import Arguments

#: The members of an input line of `build` that may contain the prompt.
PROMPTS = ("messages", "prompt", "tokens", "body", "texts")


class ApiPluginBase:
    """Base class of APIs. Derive from it and implement ``build_request``, and ``parse_responses`` if the server does not
    report token counts in a common format.

    The address is ``url``; headers come from ``headers`` and ``api_key``. During the run, responses are parsed with rules
    that suit most servers; see ``tools/examples/api/README.md`` of ringmark.
    """

    #: If true, a prompt that is a string is passed as a list with one user message. If false, or with
    #: ``apply_chat_template=False`` in the arguments, it is passed unchanged.
    chat: bool = True

    def __init__(self, param: Optional[Arguments] = None) -> None:
        self.param = param

    def build_request(self, messages: Any, param: Arguments) -> Dict[str, Any]:
        """The body of one request.

        ``messages`` is the prompt from the dataset: a list of messages (see :attr:`chat`), token ids, a complete body, texts
        to embed, or a dictionary with ``query`` and ``documents``. ``param`` has the arguments of the call, with ``model``,
        ``stream`` and the parameters of this request, such as its ``max_tokens``.
        """
        raise NotImplementedError(f"{type(self).__name__} does not implement build_request")

    def parse_responses(
        self, responses: List[str], request: Optional[Dict[str, Any]] = None, **kwargs: Any
    ) -> Union[None, Tuple[Optional[int], Optional[int]], Dict[str, Any]]:
        """The token counts of the prompt and of the output; ``None`` keeps the values parsed during the run.

        ``responses`` is the list of the events' data, without ``[DONE]``; without streaming it has one element, the body.
        ``request`` is the body that was sent. ``kwargs`` has ``status`` and ``stream``. Instead of two numbers, the method
        may return a dictionary with any of ``input_tokens``, ``output_tokens``, ``text`` and ``reasoning``.
        """
        return None

    @classmethod
    def answers(cls, param: Arguments, verb: str, lines: Iterable[str]) -> Iterator[str]:
        """The output of a program for ``--api`` that is called with ``verb`` and reads ``lines``."""
        if verb not in ("build", "parse"):
            raise ValueError(f"the verb must be build or parse, not '{verb}'")
        plugin = cls(param)
        for line in lines:
            item = json.loads(line)
            result = plugin._build(param, item) if verb == "build" else plugin._parse(item)
            yield json.dumps(result, ensure_ascii=False)

    def _build(self, param: Arguments, item: Mapping[str, Any]) -> Dict[str, Any]:
        parameters = dict(item["parameters"])
        if "n" in parameters:
            parameters["n_choices"] = parameters.pop("n")
        own = Arguments(**{**param.given(), **parameters, "model": item["model"], "stream": item["stream"]})
        prompt = next((item[name] for name in PROMPTS if name in item), None)
        if prompt is None:
            prompt = {name: item[name] for name in ("query", "documents")}
        if isinstance(prompt, str) and self.chat and param.apply_chat_template is not False:
            prompt = [{"role": "user", "content": prompt}]
        return self.build_request(prompt, own)

    def _parse(self, item: Mapping[str, Any]) -> Dict[str, Any]:
        parsed = self.parse_responses(
            item["responses"], request=item.get("request"), status=item["status"], stream=item["stream"]
        )
        if parsed is None:
            return {}
        if isinstance(parsed, Mapping):
            return dict(parsed)
        input_tokens, output_tokens = parsed
        return {"input_tokens": input_tokens, "output_tokens": output_tokens}

    @classmethod
    def main(cls) -> None:
        """Makes the file a program for ``ringmark perf --api ./file.py``."""
        if len(sys.argv) != 2 or sys.argv[1] not in ("build", "parse"):
            sys.exit(f"usage: {sys.argv[0]} build|parse")
        for line in cls.answers(Arguments(), sys.argv[1], sys.stdin):
            sys.stdout.write(line + "\n")
            sys.stdout.flush()
