"""`from ringmark.perf.plugin.datasets.base import DatasetPluginBase`, as in evalscope."""

from ringmark.plugin import DatasetPluginBase

__all__ = ["DatasetPluginBase"]
