"""`from ringmark.perf.plugin.datasets.base import DatasetPluginBase`, as in evalscope."""

from ringmark.plugin.dataset import Conversation, DatasetPluginBase, Message, Messages, Turn

__all__ = ["Conversation", "DatasetPluginBase", "Message", "Messages", "Turn"]
