"""Runs SGLang's benchmark client, a native module of its wheel: sglang_bench.py FOLDER_OF_THE_MODULE ARGUMENT ..."""

import importlib.util
import sys
from pathlib import Path

path = next(Path(sys.argv[1]).glob("_bench*.so"))
spec = importlib.util.spec_from_file_location("_bench", path)
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
sys.exit(module.run_argv(sys.argv[2:]))
