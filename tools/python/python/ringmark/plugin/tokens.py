"""Tokenizers for datasets and APIs: those of an installed package, loaded from `tokenizer_path`."""

import importlib
import pathlib
from typing import Any, Dict, List, Optional


def load_tokenizer(tokenizer_path: str) -> Any:
    """The tokenizer of a folder or a model id, with `encode` and `decode`: that of modelscope, transformers or tokenizers,
    whichever is installed.
    """
    for name in ("modelscope", "transformers"):
        try:
            module = importlib.import_module(name)
        except ImportError:
            continue
        return module.AutoTokenizer.from_pretrained(tokenizer_path, trust_remote_code=True)
    try:
        module = importlib.import_module("tokenizers")
    except ImportError:
        raise ImportError(
            "counting tokens in Python needs the package modelscope, transformers or tokenizers: install one of them, or leave "
            "--tokenizer-path out to count characters"
        ) from None
    path = pathlib.Path(tokenizer_path)
    return _Tokenizer(module.Tokenizer.from_file(str(path / "tokenizer.json" if path.is_dir() else path)))


class _Tokenizer:
    """A tokenizer of the package tokenizers with the methods of one of transformers."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer

    def encode(self, text: str, add_special_tokens: bool = True) -> List[int]:
        ids: List[int] = self._tokenizer.encode(text, add_special_tokens=add_special_tokens).ids
        return ids

    def decode(self, ids: List[int], skip_special_tokens: bool = False) -> str:
        return str(self._tokenizer.decode(ids, skip_special_tokens=skip_special_tokens))


def count_tokens(tokenizer: Any, prompt: str, apply_chat_template: Optional[bool]) -> int:
    """The tokens of a prompt, after the chat template of the tokenizer if `apply_chat_template` is set."""
    if not apply_chat_template:
        return len(tokenizer.encode(prompt))
    return len(tokenize_chat_messages(tokenizer, [{"role": "user", "content": prompt}]))


def tokenize_chat_messages(tokenizer: Any, messages: List[Dict[str, Any]], add_generation_prompt: bool = True) -> List[int]:
    """The tokens of messages after the chat template."""
    if not hasattr(tokenizer, "apply_chat_template"):
        raise ImportError(
            "the chat template needs the package transformers: install it, or give --no-apply-chat-template to count the "
            "prompt alone"
        )
    tokens = tokenizer.apply_chat_template(messages, tokenize=True, add_generation_prompt=add_generation_prompt)
    # Since version 4.46 of transformers, not a list.
    ids = tokens if isinstance(tokens, list) else list(tokens["input_ids"])
    return ids[0] if ids and isinstance(ids[0], list) else ids
