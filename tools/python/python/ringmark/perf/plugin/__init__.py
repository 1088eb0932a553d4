"""The places that evalscope has for these classes."""

from ringmark.plugin import ApiPluginBase, DatasetPluginBase, register_api, register_dataset

__all__ = ["ApiPluginBase", "DatasetPluginBase", "register_api", "register_dataset"]
