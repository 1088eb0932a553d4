"""Serves a GGUF file with xllamacpp. The arguments have the names of llama-server's arguments."""

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
args = parser.parse_args()

import xllamacpp

params = xllamacpp.CommonParams()
params.model.path = args.model
params.hostnames = [args.host]
params.port = args.port
params.endpoint_metrics = args.metrics
params.warmup = False
if args.alias:
    params.model_alias = {args.alias}
if args.ctx_size is not None:
    params.n_ctx = args.ctx_size
if args.parallel is not None:
    params.n_parallel = args.parallel
if args.threads is not None:
    params.cpuparams.n_threads = args.threads
if args.batch_size is not None:
    params.n_batch = args.batch_size
if args.n_gpu_layers is not None:
    params.n_gpu_layers = args.n_gpu_layers

server = xllamacpp.Server(params)
print("serving at", server.listening_address, flush=True)
stop = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: stop.set())
while not stop.wait(0.5):
    pass
sys.exit(0)
