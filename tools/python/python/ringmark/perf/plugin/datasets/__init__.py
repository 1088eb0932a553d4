"""As in evalscope; see `ringmark.plugin`."""

from ringmark.plugin import DatasetPluginBase

__all__ = ["DatasetPluginBase"]
