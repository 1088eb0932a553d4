"""Data sets and APIs of your own, as classes.

A class is used in one of two ways:

* registered with :func:`register_dataset` or :func:`register_api`, its name can be given to ``run_perf_benchmark`` as
  ``dataset`` or ``api``;
* with ``MyClass.main()`` at the end of a file, that file is a program for ``ringmark perf --dataset ./file.py`` or
  ``--api ./file.py``.

Nothing of it runs while requests are measured: prompts and bodies are made before, answers are read after the run.
"""

from ringmark.plugin.api import ApiPluginBase
from ringmark.plugin.dataset import DatasetPluginBase
from ringmark.plugin.registry import register_api, register_dataset

__all__ = ["ApiPluginBase", "DatasetPluginBase", "register_api", "register_dataset"]
