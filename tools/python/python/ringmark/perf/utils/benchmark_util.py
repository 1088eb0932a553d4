"""`from ringmark.perf.utils.benchmark_util import BenchmarkData`, as in evalscope, for annotations."""


class BenchmarkData:
    """What `process_request` returns in evalscope. Here the program sends the requests itself."""


__all__ = ["BenchmarkData"]
