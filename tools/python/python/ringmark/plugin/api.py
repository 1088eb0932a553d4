"""The base class of APIs."""

import json
import sys
from typing import Any, Dict, Iterable, Iterator, List, Mapping, Optional, Tuple, Union

from ringmark.perf.arguments import Arguments

#: The members of a line of `build` that may hold the prompt.
PROMPTS = ("messages", "prompt", "tokens", "body", "texts")


class ApiPluginBase:
    """How requests look and what answers mean. Derive from it and write ``build_request``, and ``parse_responses``
    where the server's answers do not tell their token counts in a usual way.

    The address is that of ``url``, headers are those of ``headers`` and ``api_key``. While the run goes on answers are
    read in a way that suits most servers; ``tools/examples/api/README.md`` of ringmark describes it.
    """

    #: A prompt that is a text comes as a list with one user message. ``False``, or ``apply_chat_template=False`` in
    #: the arguments: it comes as it is.
    chat: bool = True

    def __init__(self, param: Optional[Arguments] = None) -> None:
        self.param = param

    def build_request(self, messages: Any, param: Arguments) -> Dict[str, Any]:
        """The body of one request.

        ``messages`` is what the data set gave: a list of messages (see :attr:`chat`), token ids, a whole body, texts to
        embed, or a dictionary with ``query`` and ``documents``. ``param`` has the arguments of the call with ``model``, ``stream``
        and what is asked of this very request, such as the ``max_tokens`` that were drawn for it.
        """
        raise NotImplementedError(f"{type(self).__name__} has no build_request")

    def parse_responses(
        self, responses: List[str], request: Optional[Dict[str, Any]] = None, **kwargs: Any
    ) -> Union[None, Tuple[Optional[int], Optional[int]], Dict[str, Any]]:
        """Tokens of the prompt and of the answer; ``None`` keeps what was read while the answer arrived.

        ``responses`` are the data of the events in order, without ``[DONE]``; without streaming one element, the whole
        body. ``request`` is the body that was sent. ``kwargs`` has ``status`` and ``stream``. Instead of two numbers it
        may return a dictionary with any of ``input_tokens``, ``output_tokens``, ``text`` and ``reasoning``.
        """
        return None

    @classmethod
    def answers(cls, param: Arguments, verb: str, lines: Iterable[str]) -> Iterator[str]:
        """What a program for ``--api`` prints when it is called with ``verb`` and reads ``lines``."""
        if verb not in ("build", "parse"):
            raise ValueError(f"the verb is build or parse, not '{verb}'")
        plugin = cls(param)
        for line in lines:
            asked = json.loads(line)
            answer = plugin._build(param, asked) if verb == "build" else plugin._parse(asked)
            yield json.dumps(answer, ensure_ascii=False)

    def _build(self, param: Arguments, asked: Mapping[str, Any]) -> Dict[str, Any]:
        wanted = dict(asked["parameters"])
        if "n" in wanted:
            wanted["n_choices"] = wanted.pop("n")
        own = Arguments(**{**param.given(), **wanted, "model": asked["model"], "stream": asked["stream"]})
        prompt = next((asked[name] for name in PROMPTS if name in asked), None)
        if prompt is None:
            prompt = {name: asked[name] for name in ("query", "documents")}
        if isinstance(prompt, str) and self.chat and param.apply_chat_template is not False:
            prompt = [{"role": "user", "content": prompt}]
        return self.build_request(prompt, own)

    def _parse(self, answer: Mapping[str, Any]) -> Dict[str, Any]:
        found = self.parse_responses(
            answer["responses"], request=answer.get("request"), status=answer["status"], stream=answer["stream"]
        )
        if found is None:
            return {}
        if isinstance(found, Mapping):
            return dict(found)
        input_tokens, output_tokens = found
        return {"input_tokens": input_tokens, "output_tokens": output_tokens}

    @classmethod
    def main(cls) -> None:
        """Makes the file a program for ``ringmark perf --api ./file.py``."""
        if len(sys.argv) != 2 or sys.argv[1] not in ("build", "parse"):
            sys.exit(f"usage: {sys.argv[0]} build|parse")
        for line in cls.answers(Arguments(), sys.argv[1], sys.stdin):
            sys.stdout.write(line + "\n")
            sys.stdout.flush()
