"""As in evalscope; see `ringmark.plugin`."""

from ringmark.plugin import ApiPluginBase

__all__ = ["ApiPluginBase"]
