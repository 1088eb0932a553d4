"""These classes under their import paths in evalscope."""

from ringmark.plugin import ApiPluginBase, DatasetPluginBase, DefaultApiPlugin, register_api, register_dataset

__all__ = ["ApiPluginBase", "DatasetPluginBase", "DefaultApiPlugin", "register_api", "register_dataset"]
