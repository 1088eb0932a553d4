"""Custom datasets and APIs, as classes.

A class can be used in two ways:

* Register it with :func:`register_dataset` or :func:`register_api`, and give its name to ``run_perf_benchmark`` as
  ``dataset`` or ``api``.
* Register it in a file, and give the file to ``ringmark perf --dataset ./file.py`` or ``--api ./file.py``, or
  ``./file.py:NAME`` if it registers several.

This code does not run during the measurement: prompts and bodies are built before it, responses are parsed after it.
"""

from ringmark.plugin.api import ApiPluginBase, DefaultApiPlugin
from ringmark.plugin.dataset import DatasetPluginBase
from ringmark.plugin.registry import register_api, register_dataset

__all__ = ["ApiPluginBase", "DatasetPluginBase", "DefaultApiPlugin", "register_api", "register_dataset"]
