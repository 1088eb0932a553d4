"""As in evalscope; see `ringmark.plugin`."""

from ringmark.plugin import ApiPluginBase, DefaultApiPlugin

__all__ = ["ApiPluginBase", "DefaultApiPlugin"]
