"""Serves a GGUF file with xllamacpp, under the names of llama-server's own arguments."""

import argparse
import signal
import sys
import threading

parser = argparse.ArgumentParser(prog="xllamacpp", allow_abbrev=False)
parser.add_argument("-m", "--model", required=True)
parser.add_argument("--host", default="127.0.0.1")
parser.add_argument("--port", type=int, required=True)
parser.add_argument("--alias")
parser.add_argument("--metrics", action="store_true")
parser.add_argument("-c", "--ctx-size", type=int)
parser.add_argument("-np", "--parallel", type=int)
parser.add_argument("-t", "--threads", type=int)
parser.add_argument("-b", "--batch-size", type=int)
parser.add_argument("-ngl", "--n-gpu-layers", type=int)
given = parser.parse_args()

import xllamacpp

params = xllamacpp.CommonParams()
params.model.path = given.model
params.hostnames = [given.host]
params.port = given.port
params.endpoint_metrics = given.metrics
params.warmup = False
if given.alias:
    params.model_alias = {given.alias}
if given.ctx_size is not None:
    params.n_ctx = given.ctx_size
if given.parallel is not None:
    params.n_parallel = given.parallel
if given.threads is not None:
    params.cpuparams.n_threads = given.threads
if given.batch_size is not None:
    params.n_batch = given.batch_size
if given.n_gpu_layers is not None:
    params.n_gpu_layers = given.n_gpu_layers

server = xllamacpp.Server(params)
print("serving at", server.listening_address, flush=True)
stop = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: stop.set())
while not stop.wait(0.5):
    pass
sys.exit(0)
