"""Responses in the forms that classes for evalscope expect: text, bytes, or dictionaries which `json.loads` accepts too."""

import contextlib
import json
from typing import Any, Dict, Iterator, Mapping


class JsonObject(Dict[str, Any]):
    """A JSON object: a dictionary that `json.loads` accepts within :func:`read_json_objects`; `str` is its text."""

    def __init__(self, value: Mapping[str, Any], text: str) -> None:
        super().__init__(value)
        self._text = text

    def __str__(self) -> str:
        return self._text

    def decode(self, *_: Any) -> str:
        """The text, as if it were bytes."""
        return self._text


class Text(str):
    """A string with the method `decode` of bytes."""

    def decode(self, *_: Any) -> str:
        """The text."""
        return str(self)


def as_annotated(text: str, annotation: str) -> Any:
    """A response in the form that the annotation of the parameter names. Text that is not a JSON object stays text."""
    kind = annotation.lower()
    if "bytes" in kind:
        return text.encode()
    if "dict" in kind:
        try:
            value = json.loads(text)
        except ValueError:
            value = None
        if isinstance(value, dict):
            return JsonObject(value, text)
    return Text(text)


@contextlib.contextmanager
def read_json_objects() -> Iterator[None]:
    """Within it, `json.loads` accepts a :class:`JsonObject`, and returns a copy of it."""
    module: Any = json
    original = module.loads

    def loads(value: Any, *arguments: Any, **options: Any) -> Any:
        return original(str(value) if isinstance(value, JsonObject) else value, *arguments, **options)

    module.loads = loads
    try:
        yield
    finally:
        module.loads = original
