"""`from ringmark.perf.plugin.datasets.utils import load_tokenizer`, as in evalscope."""

from ringmark.plugin.tokens import load_tokenizer, tokenize_chat_messages

__all__ = ["load_tokenizer", "tokenize_chat_messages"]
