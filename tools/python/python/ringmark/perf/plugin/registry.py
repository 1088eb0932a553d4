"""`from ringmark.perf.plugin.registry import register_dataset`, as in evalscope."""

from ringmark.plugin.registry import register_api, register_dataset

__all__ = ["register_api", "register_dataset"]
