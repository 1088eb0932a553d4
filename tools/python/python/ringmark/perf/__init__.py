"""`from ringmark.perf import run_perf_benchmark, Arguments`: the counterparts of `evalscope.perf`."""

from ringmark.perf.arguments import Arguments
from ringmark.perf.main import Results, run_perf_benchmark

__all__ = ["Arguments", "Results", "run_perf_benchmark"]
