"""Serves a model with llama.cpp's own server, until it is told to stop.

    serve.py MODEL.gguf PORT [SLOTS]
"""

import signal
import sys
import threading

import xllamacpp


def main():
    if len(sys.argv) not in (3, 4):
        sys.exit("usage: serve.py MODEL.gguf PORT [SLOTS]")
    params = xllamacpp.CommonParams()
    params.model.path = sys.argv[1]
    params.port = int(sys.argv[2])
    params.hostnames = ["127.0.0.1"]
    params.n_parallel = int(sys.argv[3]) if len(sys.argv) == 4 else 8
    params.n_ctx = 2048 * params.n_parallel
    params.endpoint_metrics = True
    params.warmup = False
    told = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: told.set())
    # Held until the end: the server stops with the last reference to it.
    server = xllamacpp.Server(params)  # noqa: F841
    told.wait()


if __name__ == "__main__":
    main()
