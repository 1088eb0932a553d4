"""`from ringmark.perf import run_perf_benchmark, Arguments`: the counterparts of `evalscope.perf`."""

from ringmark.perf.arguments import Arguments
from ringmark.perf.main import run_perf_benchmark, run_perf_benchmark_async
from ringmark.perf.results import Results, Run

__all__ = ["Arguments", "Results", "Run", "run_perf_benchmark", "run_perf_benchmark_async"]
