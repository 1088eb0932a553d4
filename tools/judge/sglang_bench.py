"""Runs SGLang's benchmark client, a native module of its wheel: sglang_bench.py FOLDER_OF_THE_MODULE ARGUMENT ..."""

import importlib.util
import sys
from pathlib import Path

path = next(Path(sys.argv[1]).glob("_bench*.so"))
spec = importlib.util.spec_from_file_location("_bench", path)
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
# An error is an exception; the result is a text with the figures.
print(module.run_argv(["bench", *sys.argv[2:]]))
