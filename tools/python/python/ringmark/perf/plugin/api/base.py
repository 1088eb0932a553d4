"""`from ringmark.perf.plugin.api.base import ApiPluginBase`, as in evalscope."""

from ringmark.plugin import ApiPluginBase

__all__ = ["ApiPluginBase"]
