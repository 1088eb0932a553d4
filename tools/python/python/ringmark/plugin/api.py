"""The base class of APIs."""

import inspect
import json
import sys
from typing import Any, Callable, Dict, Iterable, Iterator, List, Mapping, Optional, Tuple, Type, Union

from ringmark.perf.arguments import Arguments
from ringmark.plugin.responses import JsonObject, as_annotated, read_json_objects

#: The members of an input line of `build` that may contain the prompt.
PROMPTS = ("messages", "prompt", "tokens", "body", "texts")


class ApiPluginBase:
    """Base class of APIs. Derive from it and implement ``build_request``, and ``parse_responses`` if the server does not
    report token counts in a common format.

    The address is ``url``; headers come from ``headers`` and ``api_key``. The program sends the requests itself, so that a
    method ``process_request`` is an error. During the run, responses are parsed with rules that suit most servers; see
    ``tools/examples/api/README.md`` of ringmark.
    """

    #: If true, a prompt that is a string is passed as a list with one user message. If false, or with
    #: ``apply_chat_template=False`` in the arguments, it is passed unchanged.
    chat: bool = True
    #: Set in a process in which the program calls registered classes itself.
    called_by_program: bool = False

    def __init__(self, param: Optional[Arguments] = None) -> None:
        self.param = param
        self.model_path = None if param is None else param.tokenizer_path

    def build_request(self, messages: Any, param: Arguments) -> Dict[str, Any]:
        """The body of one request.

        ``messages`` is the prompt from the dataset: a list of messages (see :attr:`chat`), token ids, a complete body, texts
        to embed, or a dictionary with ``query`` and ``documents``. ``param`` has the arguments of the call, with ``model``,
        ``stream`` and the parameters of this request, such as its ``max_tokens``.
        """
        raise NotImplementedError(f"{type(self).__name__} does not implement build_request")

    def parse_responses(
        self, responses: List[Any], request: Any = None, **kwargs: Any
    ) -> Union[None, Tuple[Optional[int], Optional[int]], Dict[str, Any]]:
        """The token counts of the prompt and of the output. ``None``, and 0, keep the values parsed during the run.

        ``responses`` is the list of the events' data, without ``[DONE]``; without streaming it has one element, the body.
        The annotation of the parameter decides what the elements are: dictionaries with ``List[Dict]``, bytes with
        ``List[bytes]``, else strings. ``json.loads`` accepts all of them. ``request`` is the body that was sent. ``kwargs``
        has ``status`` and ``stream``. Instead of two numbers, the method may return a dictionary with any of
        ``input_tokens``, ``output_tokens``, ``text`` and ``reasoning``.
        """
        return None

    @classmethod
    def answers(cls, param: Arguments, verb: str, lines: Iterable[str]) -> Iterator[str]:
        """The output of a program for ``--api`` that is called with ``verb`` and reads ``lines``."""
        if verb not in ("build", "parse"):
            raise ValueError(f"the verb must be build or parse, not '{verb}'")
        _check_sending(cls)
        plugin = _new(cls, param)
        answer = _builder(plugin, param) if verb == "build" else _parser(plugin)
        with read_json_objects():
            for line in lines:
                yield json.dumps(answer(json.loads(line)), ensure_ascii=False)

    @classmethod
    def main(cls) -> None:
        """Makes the file a program for ``ringmark perf --api ./file.py``."""
        if cls.called_by_program:
            return
        if len(sys.argv) != 2 or sys.argv[1] not in ("build", "parse"):
            sys.exit(f"usage: {sys.argv[0]} build|parse")
        for line in cls.answers(Arguments(), sys.argv[1], sys.stdin):
            sys.stdout.write(line + "\n")
            sys.stdout.flush()


class DefaultApiPlugin(ApiPluginBase):
    """The same, under the name that evalscope has for APIs like OpenAI's."""


Answer = Callable[[Mapping[str, Any]], Any]


def _new(cls: Type[ApiPluginBase], param: Arguments) -> ApiPluginBase:
    """An instance. Classes of 2024 take the path of the tokenizer as ``model_path``."""
    constructor: Callable[..., ApiPluginBase] = cls
    names = list(inspect.signature(cls).parameters)
    return constructor(param.tokenizer_path if names[:1] == ["model_path"] else param)


def _check_sending(cls: Type[ApiPluginBase]) -> None:
    """Rejects a class that sends requests itself. One that only raises NotImplementedError does not."""
    method = getattr(cls, "process_request", None)
    code = getattr(method, "__code__", None)
    if method is not None and (code is None or set(code.co_names) - {"NotImplementedError"}):
        raise TypeError(
            f"{cls.__name__}.process_request cannot be used: the program sends the requests itself. Remove the method; headers "
            "come from --headers and --api-key"
        )


def _builder(plugin: ApiPluginBase, param: Arguments) -> Answer:
    def build(item: Mapping[str, Any]) -> Any:
        parameters = dict(item["parameters"])
        if "n" in parameters:
            parameters["n_choices"] = parameters.pop("n")
        own = Arguments(**{**param.given(), **parameters, "model": item["model"], "stream": item["stream"]})
        prompt = next((item[name] for name in PROMPTS if name in item), None)
        if prompt is None:
            prompt = {name: item[name] for name in ("query", "documents")}
        if isinstance(prompt, str) and plugin.chat and param.apply_chat_template is not False:
            prompt = [{"role": "user", "content": prompt}]
        body = plugin.build_request(prompt, own)
        if not isinstance(body, Mapping) or not body:
            shown = "an empty body" if isinstance(body, Mapping) else f"{body!r}, not a dictionary"
            raise TypeError(f"{type(plugin).__name__}.build_request returned {shown}")
        return body

    return build


def _parser(plugin: ApiPluginBase) -> Answer:
    parameters = inspect.signature(plugin.parse_responses).parameters
    takes_all = any(each.kind is inspect.Parameter.VAR_KEYWORD for each in parameters.values())
    names = {"request", "status", "stream"}
    accepted = names if takes_all else names & set(parameters)
    first = next(iter(parameters.values()), None)
    annotation = "" if first is None else str(first.annotation)

    def parse(item: Mapping[str, Any]) -> Any:
        request = item.get("request")
        more = {
            "request": JsonObject(request, json.dumps(request, ensure_ascii=False)) if request is not None else None,
            "status": item["status"],
            "stream": item["stream"],
        }
        responses = [as_annotated(text, annotation) for text in item["responses"]]
        parsed = plugin.parse_responses(responses, **{name: more[name] for name in accepted})
        if parsed is None:
            return {}
        if isinstance(parsed, Mapping):
            return dict(parsed)
        input_tokens, output_tokens = parsed
        # Evalscope's examples return 0 for a count that they cannot find.
        return {"input_tokens": input_tokens or None, "output_tokens": output_tokens or None}

    return parse
