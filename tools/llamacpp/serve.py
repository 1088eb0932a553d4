"""Serves a model with llama.cpp's own server until SIGINT or SIGTERM.

    serve.py MODEL.gguf PORT [SLOTS [generate | embed | rank]]
"""

import signal
import sys
import threading

import xllamacpp


def main():
    work = sys.argv[4] if len(sys.argv) == 5 else "generate"
    if len(sys.argv) not in (3, 4, 5) or work not in ("generate", "embed", "rank"):
        sys.exit("usage: serve.py MODEL.gguf PORT [SLOTS [generate | embed | rank]]")
    params = xllamacpp.CommonParams()
    params.model.path = sys.argv[1]
    params.port = int(sys.argv[2])
    params.hostnames = ["127.0.0.1"]
    params.n_parallel = int(sys.argv[3]) if len(sys.argv) > 3 else 8
    params.n_ctx = 4096 * params.n_parallel
    params.endpoint_metrics = True
    params.warmup = False
    if work != "generate":
        kinds = xllamacpp.llama_pooling_type
        params.embedding = True
        params.pooling_type = kinds.LLAMA_POOLING_TYPE_MEAN if work == "embed" else kinds.LLAMA_POOLING_TYPE_RANK
        # Each text must fit into one batch.
        params.n_batch = params.n_ubatch = 2048
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    # The reference keeps the server running.
    server = xllamacpp.Server(params)  # noqa: F841
    stop.wait()


if __name__ == "__main__":
    main()
