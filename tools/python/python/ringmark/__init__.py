"""ringmark from Python: run measurements, read the results as dictionaries, define datasets and APIs as classes.

>>> from ringmark.perf import Arguments, run_perf_benchmark
>>> results = run_perf_benchmark(Arguments(url="mock:", parallel=[1, 8], number=[20, 100]))
>>> results["parallel_8_number_100"]["metrics"]["Request throughput (req/s)"]
"""

from ringmark._binary import RingmarkError, binary, version
from ringmark.perf.arguments import Arguments
from ringmark.perf.main import run_perf_benchmark, run_perf_benchmark_async
from ringmark.perf.results import Results, Run

__all__ = [
    "Arguments",
    "Results",
    "RingmarkError",
    "Run",
    "binary",
    "run_perf_benchmark",
    "run_perf_benchmark_async",
    "version",
]
