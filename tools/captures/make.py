"""Makes pictures of everything that ringmark shows, for people who change it and want to see the result.

    python3 tools/captures/make.py FOLDER [RINGMARK] [--only PART]

FOLDER gets one text and one picture for each terminal capture (the last screen with its colours) at 80, 120 and 200 columns,
and pictures of each report page: light, dark, 390 pixels wide, as it is printed, and in Chinese, in parts of 2400 pixels.
All runs are of the built-in server. Needs tmux and Chromium; with TOKENIZER=FOLDER (tools/tokenizers/fetch.sh) embeddings and
rankings are included.
"""

import html
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time

MOCK = "--url 'mock:?ttft=40ms&itl=8ms&tokens=20{}' --no-timestamp --outputs-dir out --name {}"
SLO = "--slo 'p99_ttft<=400ms p99_itl<=5ms'"
LONG = "--model Qwen/Qwen2.5-VL-72B-Instruct-GPTQ-Int4-long-context-128k-preview-2026-11-27"
MANY = "--slo 'p99_ttft<=400ms p99_itl<=5ms p99_tpot<=500us p99_latency<=2 failed<=1% rps>=5'"
# Name, arguments of perf, and the keys that are pressed after so many seconds.
TERMINAL = [
    ("run", f"{MOCK.format('', 'run')} --parallel 8 --number 200 {SLO}", {}),
    ("objectives", f"{MOCK.format('', 'objectives')} --parallel 8 --number 100 {MANY}", {}),
    ("sweep", f"{MOCK.format('', 'sweep')} --parallel 1 4 16 64 --number 40 80 320 640 --sleep-interval 0 {SLO}", {}),
    ("repeat", f"{MOCK.format('', 'repeat')} --parallel 2 8 --number 60 --repeat 3 --sleep-interval 0", {}),
    (
        "search",
        f"{MOCK.format('&max_running=12', 'search')} --sla-auto-tune --sla-params 'p99_ttft<=150ms' --sla-upper-bound 64 "
        "--sla-num-runs 1 --sla-number-multiplier 6 --sleep-interval 0",
        {},
    ),
    ("failing", f"{MOCK.format('&fault=error:1/5&fault=status(429):1/7', 'failing')} --parallel 8 --number 200", {}),
    ("refused", "--url http://127.0.0.1:9/v1/chat/completions --model m --ready-timeout 1 --number 5", {}),
    ("dead", f"{MOCK.format('&fault=status(500)', 'dead')} --parallel 4 --number 40 --no-test-connection", {}),
    ("interrupted", f"{MOCK.format('', 'interrupted')} --parallel 4 --number 1000", {4: "C-c"}),
    ("open", f"{MOCK.format('&fault=status(503):1/9', 'open')} --open-loop --rate 20 80 --number 200 600 --sleep-interval 0", {}),
    ("live", f"{MOCK.format('&fault=status(503):1/30', 'live')} --parallel 8 --duration 14 --live", {9: "capture"}),
    ("live-sweep", f"{MOCK.format('', 'live-sweep')} --parallel 2 16 --duration 6 --sleep-interval 2 --live", {13: "capture"}),
    ("wide", "--url 'mock:?ttft=0ms&itl=0ms&tokens=400' --no-timestamp --outputs-dir out --name wide --parallel 64 --number 20000", {}),
    ("long-name", f"{MOCK.format('', 'long-name')} {LONG} --parallel 1 8 --number 60 --sleep-interval 0 {SLO}", {}),
    ("long-run", f"{MOCK.format('', 'a-name-of-a-folder-that-is-rather-long-for-a-line')} {LONG} --parallel 8 --number 60 {SLO}", {}),
    ("chinese", f"{MOCK.format('', '结果')} --model 通义千问-2.5-72B-指令微调版 --language zh --parallel 1 8 --number 60 --sleep-interval 0 {SLO}", {}),
    ("conversations", f"{MOCK.format('', 'conversations')} --dataset custom_multi_turn --multi-turn --dataset-path talks.jsonl --parallel 4 --number 30", {}),
    ("quiet", f"{MOCK.format('', 'quiet')} --parallel 1 8 --number 60 --sleep-interval 0 --quiet {SLO}", {}),
]
TEXTS = [
    ("embeddings", "--url 'mock:/v1/embeddings?ttft=20ms' --api openai_embedding --dataset random_embedding", "1 8"),
    ("rerank", "--url 'mock:/v1/rerank?ttft=20ms' --api openai_rerank --dataset random_rerank", "1 8"),
    ("embedding-run", "--url 'mock:/v1/embeddings?ttft=20ms&fault=status(429):1/20' --api openai_embedding --dataset random_embedding", "8"),
]
LIMITS = "--min-prompt-length 64 --max-prompt-length 128 --number 200 --sleep-interval 0 --no-timestamp --outputs-dir out"
WIDTHS = {80: 24, 120: 40, 200: 60}
TILE = 2400
COLOURS = ["#1e222a", "#e06c75", "#98c379", "#e5c07b", "#61afef", "#c678dd", "#56b6c2", "#dcdfe4"]
TALK = '{"conversation": [{"human": "one", "assistant": "x"}, {"human": "two", "assistant": "x"}, {"human": "three"}]}\n'


def capture(work: pathlib.Path, into: pathlib.Path, ringmark: str, name: str, arguments: str, keys: dict, columns: int) -> None:
    """Runs `ringmark perf` in a terminal of so many columns; writes its whole output, and its last screen as a picture."""
    socket = f"captures-{os.getpid()}-{name}-{columns}"
    folder = work / f"{name}-{columns}"
    folder.mkdir()
    (folder / "talks.jsonl").write_text(TALK * 5)
    environment = {"TERM": "xterm-256color", "PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), "LANG": "C.UTF-8"}

    def tmux(*words: str) -> str:
        return subprocess.run(["tmux", "-u", "-L", socket, "-f", "/dev/null", *words], env=environment, capture_output=True, text=True, check=True).stdout

    command = f"PS1='$ '; clear; {shlex.quote(ringmark)} perf {arguments}; echo END-$?"
    (folder / "command.sh").write_text(command)
    tmux("new-session", "-d", "-x", str(columns), "-y", str(WIDTHS[columns]), "-s", "s", "-c", str(folder), "bash --norc")
    tmux("set-option", "-g", "history-limit", "5000")
    tmux("send-keys", "-t", "s", ". ./command.sh", "Enter")
    start, screen = time.monotonic(), None
    pending = sorted(keys.items())
    while time.monotonic() - start < 120:
        time.sleep(0.1)
        if pending and time.monotonic() - start > pending[0][0]:
            key = pending.pop(0)[1]
            if key == "capture":
                screen = tmux("capture-pane", "-e", "-p", "-t", "s")
            else:
                tmux("send-keys", "-t", "s", key)
        if re.search("^END-", tmux("capture-pane", "-p", "-t", "s"), re.MULTILINE):
            break
    target = into / f"{name}-{columns}"
    target.with_suffix(".txt").write_text(tmux("capture-pane", "-p", "-S", "-", "-t", "s"))
    end = tmux("capture-pane", "-e", "-p", "-t", "s")
    if screen:
        terminal_picture(screen, columns, into / f"{name}-{columns}-view.png")
    terminal_picture(end, columns, target.with_suffix(".png"))
    tmux("kill-server")


def terminal_picture(screen: str, columns: int, path: pathlib.Path) -> None:
    """A picture of a screen with its colours."""
    lines = screen.rstrip("\n").split("\n")
    out, style = [], ""
    for part in re.split("(\x1b\\[[0-9;]*m)", "\n".join(lines)):
        if part.startswith("\x1b"):
            for number in (int(n) for n in part[2:-1].split(";") if n) or [0]:
                style = {0: "", 1: style + "font-weight:bold;", 2: style + "opacity:.6;"}.get(number, style)
                if 30 <= number <= 37 or 90 <= number <= 97:
                    style += f"color:{COLOURS[number % 10]};"
                if number == 39:
                    style = re.sub("color:[^;]*;", "", style)
            if part in ("\x1b[m", "\x1b[0m"):
                style = ""
        elif part:
            out.append(f'<span style="{style}">{html.escape(part)}</span>')
    page = f'<meta charset="utf-8"><body style="margin:8px;background:#1e222a;color:#dcdfe4"><pre style="font:14px/17px \'DejaVu Sans Mono\',monospace">{"".join(out)}</pre>'
    source = path.with_suffix(".html")
    source.write_text(page)
    chromium(source, path, int(columns * 8.45) + 24, len(lines) * 17 + 46)
    source.unlink()


def chromium(page: pathlib.Path, picture: pathlib.Path, width: int, height: int, *flags: str) -> str:
    """Takes a picture of a page; without one, returns the document after its scripts."""
    with tempfile.TemporaryDirectory() as profile:
        what = [f"--screenshot={picture}", f"--window-size={width},{height}"] if picture else ["--dump-dom", f"--window-size={width},2000"]
        quiet = ["--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"]
        command = ["chromium", "--headless", "--no-sandbox", *quiet, f"--user-data-dir={profile}", "--hide-scrollbars", *flags, *what]
        return subprocess.run([*command, page.as_uri()], capture_output=True, text=True, check=True).stdout


def page_pictures(page: pathlib.Path, into: pathlib.Path, name: str) -> None:
    """Pictures of a report page in every form."""
    text = page.read_text().replace("<details>", "<details open>", 1)
    chinese = text.replace(' checked="checked"', "").replace('id="in-zh"', 'id="in-zh" checked="checked"')
    printed = text.replace("@media print", "@media all").replace("<details>", "<details open>")
    dark = ["--blink-settings=preferredColorScheme=0"]
    for form, content, width, flags in [
        ("light", text, 1240, []),
        ("dark", text, 1240, dark),
        ("phone", text, 390, []),
        ("print", printed, 718, []),
        ("chinese", chinese, 1240, []),
    ]:
        copy = into / "copy.html"
        copy.write_text(content + "<script>document.title = document.documentElement.scrollHeight + 'px'</script>")
        frame = into / "frame.html"
        wrap = '<meta charset="utf-8"><body style="margin:0;overflow:hidden"><iframe id="f" src="copy.html" style="border:0;width:{}px;height:{}px;margin-top:-{}px">'
        # The height of a page depends on its width, and windows are at least 500 pixels wide.
        frame.write_text(wrap.format(width, 600, 0) + "</iframe><script>onload = () => { document.title = f.contentDocument.documentElement.scrollHeight + 'px' }</script>")
        found = re.search(r"<title>(\d+)px", chromium(frame, None, max(width, 500), 0, "--allow-file-access-from-files"))
        height = min(int(found[1]) if found else 6000, 20000)
        for tile in range(0, height, TILE):
            frame.write_text(wrap.format(width, height, tile) + "</iframe>")
            rest = min(TILE, height - tile)
            chromium(frame, into / f"{name}-{form}-{tile // TILE + 1}.png", max(width, 500), rest, "--allow-file-access-from-files", *flags)
        frame.unlink()
        copy.unlink()


def main() -> None:
    words = sys.argv[1:]
    only = ""
    if "--only" in words:
        at = words.index("--only")
        only, words = words[at + 1], words[:at] + words[at + 2 :]
    into = pathlib.Path(words[0]).resolve()
    default = pathlib.Path(__file__).parents[2] / "target/release/ringmark"
    ringmark = str(pathlib.Path(words[1] if len(words) > 1 else default).resolve())
    into.mkdir(parents=True, exist_ok=True)
    work = into / "work"
    work.mkdir(exist_ok=True)
    calls = list(TERMINAL)
    if tokenizer := os.environ.get("TOKENIZER"):
        path = shlex.quote(str(pathlib.Path(tokenizer).resolve()))
        calls += [(name, f"{call} --parallel {loads} --tokenizer-path {path} --name {name} {LIMITS}", {}) for name, call, loads in TEXTS]
    for name, arguments, keys in calls:
        if not re.fullmatch(only or ".*", name):
            continue
        for columns in WIDTHS:
            shutil.rmtree(work / f"{name}-{columns}", ignore_errors=True)
            capture(work, into, ringmark, name, arguments, keys, columns)
        for page in (work / f"{name}-120").glob("out/*/perf_report.html"):
            page_pictures(page, into, name)
        print(name, flush=True)
    if re.fullmatch(only or ".*", "compare"):
        sides = [str(next((work / f"{name}-120" / "out").iterdir())) for name in ("repeat", "repeat")]
        sides[1] = str(next((work / "repeat-200" / "out").iterdir()))
        page = work / "compare.html"
        text = subprocess.run([ringmark, "compare", *sides, "--html", str(page)], capture_output=True, text=True)
        (into / "compare.txt").write_text(text.stdout + text.stderr)
        page_pictures(page, into, "compare")


if __name__ == "__main__":
    main()
