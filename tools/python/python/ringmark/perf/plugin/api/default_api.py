"""`from ringmark.perf.plugin.api.default_api import DefaultApiPlugin`, as in evalscope."""

from ringmark.plugin import DefaultApiPlugin

__all__ = ["DefaultApiPlugin"]
