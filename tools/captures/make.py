"""Makes pictures of everything that ringmark shows, for people who change it and want to see the result.

    python3 tools/captures/make.py FOLDER [RINGMARK] [--only PATTERN]

FOLDER gets, for each call of `CALLS`, one text with all output and one picture of the last screen at 80, 120 and 200
columns, and pictures of its report page: light, dark, 390 pixels wide, as it is printed, and in Chinese, in parts of
2400 pixels. `pages.txt` has the size of each page and the time until it is drawn. It takes ten minutes on two cores. All runs are
of the built-in server. Needs tmux, Chromium and pdftoppm; with TOKENIZER=FOLDER (tools/tokenizers/fetch.sh), embeddings,
rankings and images are included.
"""

import base64
import concurrent.futures
import fcntl
import html
import json
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time

MOCK = "--url 'mock:?ttft=40ms&itl=8ms&tokens=20{}' --no-timestamp --outputs-dir out --sleep-interval 0 --name {}"
SLO = "--slo 'p99_ttft<=400ms p99_itl<=5ms'"
LONG = "--model Qwen/Qwen2.5-VL-72B-Instruct-GPTQ-Int4-long-context-128k-preview-2026-11-27-with-a-name-of-one-hundred-and-twenty-charact"
MANY = "--slo 'p99_ttft<=400ms p99_itl<=5ms p99_tpot<=500us p99_latency<=2 failed<=1% rps>=5'"
FAULTS = "&fault=error:1/5&fault=status(429):1/7&fault=reset:1/11&fault=empty:1/13&fault=truncate:1/17"
# Name, arguments of perf, and the keys that are pressed after so many seconds.
CALLS = [
    ("run", f"{MOCK.format('', 'run')} --parallel 8 --number 200 {SLO}", {}),
    ("objectives", f"{MOCK.format('', 'objectives')} --parallel 8 --number 100 {MANY}", {}),
    ("sweep", f"{MOCK.format('', 'sweep')} --parallel 1 4 16 64 --number 20 80 320 640 {SLO}", {}),
    ("repeat", f"{MOCK.format('', 'repeat')} --parallel 2 8 --number 60 --repeat 3", {}),
    (
        "search",
        f"{MOCK.format('&max_running=12', 'search')} --sla-auto-tune --sla-params 'p99_ttft<=150ms' --sla-upper-bound 32 "
        "--sla-num-runs 1 --sla-number-multiplier 6",
        {},
    ),
    ("failing", f"{MOCK.format(FAULTS, 'failing')} --parallel 8 --number 200", {}),
    ("refused", "--url http://127.0.0.1:9/v1/chat/completions --model m --ready-timeout 1 --number 5", {}),
    ("dead", f"{MOCK.format('&fault=status(500)', 'dead')} --parallel 4 --number 40 --no-test-connection", {}),
    ("interrupted", f"{MOCK.format('', 'interrupted')} --parallel 4 --number 1000 {SLO}", {3: "C-c"}),
    ("interrupted-sweep", f"{MOCK.format('', 'interrupted-sweep')} --parallel 4 8 16 --number 60 900 100", {6: "C-c"}),
    ("open", f"{MOCK.format('&fault=status(503):1/9', 'open')} --open-loop --rate 40 160 --number 120 480", {}),
    ("live", f"{MOCK.format('&fault=status(503):1/30', 'live')} --parallel 8 --duration 9 --live", {7: "capture"}),
    ("live-sweep", f"{MOCK.format('', 'live-sweep')} --parallel 2 16 --duration 4 --live", {8: "capture"}),
    ("wide", "--url 'mock:?ttft=0ms&itl=0ms&tokens=400' --no-timestamp --outputs-dir out --name wide --parallel 64 --number 2000", {}),
    ("long-name", f"{MOCK.format('', 'long-name')} {LONG} --parallel 1 8 --number 60 {SLO}", {}),
    ("long-run", f"{MOCK.format('', 'a-name-of-a-folder-that-is-rather-long-for-a-line')} {LONG} --parallel 8 --number 60 {SLO}", {}),
    ("chinese", f"{MOCK.format('', '结果')} --model 通义千问-2.5-72B-指令微调版 --language zh --parallel 1 8 --number 60 {SLO}", {}),
    ("conversations", f"{MOCK.format('', 'conversations')} --dataset custom_multi_turn --multi-turn --dataset-path talks.jsonl --parallel 4 --number 30", {}),
    ("quiet", f"{MOCK.format('', 'quiet')} --parallel 1 8 --number 60 --quiet {SLO}", {}),
]
EMBED = "--url 'mock:/v1/embeddings?ttft=20ms{}' --api openai_embedding --dataset random_embedding"
WITH_TOKENIZER = [
    ("embeddings", EMBED.format(""), "1 8"),
    ("rerank", "--url 'mock:/v1/rerank?ttft=20ms' --api openai_rerank --dataset random_rerank", "1 8"),
    ("embedding-run", EMBED.format("&fault=status(429):1/20"), "8"),
    ("images", "--url 'mock:?ttft=20ms&itl=2ms' --dataset random_vl --image-width 64 --image-height 64", "4"),
]
LENGTHS = "--min-prompt-length 64 --max-prompt-length 128 --number 200 --sleep-interval 0 --no-timestamp --outputs-dir out"
# Columns and lines of the terminals.
SCREENS = {80: 24, 120: 40, 200: 60}
TILE = 2400
LONGEST_CALL_S = 300
COLOURS = ["#1e222a", "#e06c75", "#98c379", "#e5c07b", "#61afef", "#c678dd", "#56b6c2", "#dcdfe4"]
TALK = '[{"role": "user", "content": "one"}, {"role": "assistant", "content": "x"}, {"role": "user", "content": "two"}]\n'


class Browser:
    """Chromium without a window, which takes commands of the DevTools protocol over a pipe."""

    def __init__(self) -> None:
        self.profile = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        commands, self.to_browser = os.pipe()
        self.from_browser, answers = os.pipe()
        # Chromium reads from 3 and writes to 4.
        ends = [fcntl.fcntl(end, fcntl.F_DUPFD, 10) for end in (commands, answers)]
        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
        flags += ["--disable-component-update", "--disable-sync", "--hide-scrollbars", "--remote-debugging-pipe"]
        shell = f'exec chromium "$@" 3<&{ends[0]} 4>&{ends[1]}'
        self.process = subprocess.Popen(
            ["bash", "-c", shell, "chromium", *flags, f"--user-data-dir={self.profile.name}", "about:blank"],
            pass_fds=ends, stderr=subprocess.DEVNULL,
        )
        for end in (commands, answers, *ends):
            os.close(end)
        self.number, self.buffer, self.session = 0, b"", None
        target = self.command("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.command("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self.command("Page.enable")

    def message(self) -> dict:
        while b"\0" not in self.buffer:
            part = os.read(self.from_browser, 1 << 20)
            if not part:
                raise RuntimeError("Chromium has ended")
            self.buffer += part
        message, self.buffer = self.buffer.split(b"\0", 1)
        return json.loads(message)

    def command(self, method: str, **parameters: object) -> dict:
        self.number += 1
        call = {"id": self.number, "method": method, "params": parameters}
        if self.session:
            call["sessionId"] = self.session
        data = json.dumps(call).encode() + b"\0"
        while data:
            data = data[os.write(self.to_browser, data) :]
        while (answer := self.message()).get("id") != self.number:
            pass
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']}")
        return answer["result"]

    def evaluate(self, script: str) -> object:
        return self.command("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)["result"].get("value")

    def open(self, url: str, width: int, height: int) -> float:
        """Opens a page; returns the seconds until it is drawn."""
        self.command("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        start = time.monotonic()
        self.command("Page.navigate", url=url)
        loaded = "new Promise(done => document.readyState == 'complete' ? done() : addEventListener('load', done))"
        self.evaluate(f"{loaded}.then(() => new Promise(done => requestAnimationFrame(() => setTimeout(done))))")
        return time.monotonic() - start

    def height(self) -> int:
        return int(self.evaluate("Math.ceil(document.documentElement.scrollHeight)"))

    def picture(self, path: pathlib.Path, width: int, top: int, height: int) -> None:
        clip = {"x": 0, "y": top, "width": width, "height": height, "scale": 1}
        data = self.command("Page.captureScreenshot", clip=clip, captureBeyondViewport=True)["data"]
        path.write_bytes(base64.b64decode(data))

    def tiles(self, into: pathlib.Path, name: str, width: int) -> None:
        height = self.height()
        for tile, top in enumerate(range(0, height, TILE)):
            self.picture(into / f"{name}-{tile + 1}.png", width, top, min(TILE, height - top))

    def printed(self, into: pathlib.Path, name: str) -> None:
        data = self.command("Page.printToPDF", preferCSSPageSize=True, printBackground=True)["data"]
        pdf = into / f"{name}.pdf"
        pdf.write_bytes(base64.b64decode(data))
        subprocess.run(["pdftoppm", "-r", "70", "-png", pdf, into / name], check=True)
        pdf.unlink()

    def close(self) -> None:
        os.close(self.to_browser)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        os.close(self.from_browser)
        self.profile.cleanup()


def capture(folder: pathlib.Path, target: pathlib.Path, command: str, keys: dict, columns: int) -> dict:
    """Runs a command in a terminal of so many columns and writes its whole output; returns its screens by name."""
    environment = {"TERM": "xterm-256color", "PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), "LANG": "C.UTF-8"}
    # A folder of its own for the socket, so that no other server of this user is meant.
    sockets = tempfile.mkdtemp(prefix="captures")

    def tmux(*words: str) -> str:
        call = ["tmux", "-u", "-S", f"{sockets}/s", "-f", "/dev/null", *words]
        return subprocess.run(call, env=environment, capture_output=True, text=True, check=True).stdout

    (folder / "command.sh").write_text(f"PS1='$ '; clear; {command}; echo END-$?")
    size = ["-x", str(columns), "-y", str(SCREENS[columns])]
    tmux("new-session", "-d", *size, "-s", "s", "-c", str(folder), "bash --norc", ";", "set-option", "-g", "history-limit", "9000")
    # The limit of the history counts for windows made after it.
    tmux("new-window", "-t", "s", "-c", str(folder), "bash --norc")
    tmux("send-keys", "-t", "s", ". ./command.sh", "Enter")
    start, screens = time.monotonic(), {}
    pending = sorted(keys.items())
    while time.monotonic() - start < LONGEST_CALL_S:
        time.sleep(0.1)
        if pending and time.monotonic() - start > pending[0][0]:
            key = pending.pop(0)[1]
            if key == "capture":
                screens["-view"] = tmux("capture-pane", "-e", "-p", "-t", "s")
            else:
                tmux("send-keys", "-t", "s", key)
        if re.search("^END-", tmux("capture-pane", "-p", "-t", "s"), re.MULTILINE):
            break
    else:
        print(f"{target.name}: not ended after {LONGEST_CALL_S} s", flush=True)
    target.with_suffix(".txt").write_text(tmux("capture-pane", "-p", "-S", "-", "-t", "s"))
    screens[""] = tmux("capture-pane", "-e", "-p", "-t", "s")
    tmux("kill-server")
    shutil.rmtree(sockets)
    return screens


def screen_page(screen: str) -> str:
    """A screen with its colours as a page."""
    out, style = [], ""
    for part in re.split("(\x1b\\[[0-9;]*m)", screen.rstrip("\n")):
        if part.startswith("\x1b"):
            for number in (int(n) for n in part[2:-1].split(";") if n):
                style = {0: "", 1: style + "font-weight:bold;", 2: style + "opacity:.6;"}.get(number, style)
                if 30 <= number <= 37 or 90 <= number <= 97:
                    style += f"color:{COLOURS[number % 10]};"
                if number == 39:
                    style = re.sub("color:[^;]*;", "", style)
            if part == "\x1b[m":
                style = ""
        elif part:
            out.append(f'<span style="{style}">{html.escape(part)}</span>')
    font = "font:14px/17px 'DejaVu Sans Mono','Noto Sans Mono CJK SC',monospace"
    return f'<meta charset="utf-8"><body style="margin:8px;background:#1e222a;color:#dcdfe4"><pre style="margin:0;{font}">{"".join(out)}</pre>'


def page_pictures(browser: Browser, page: pathlib.Path, into: pathlib.Path, name: str) -> str:
    """Pictures of a report page in every form; returns its size and the time until it is drawn."""
    unfold = "document.querySelectorAll('details').forEach((one, place) => one.open = place == 0)"
    in_chinese = "document.getElementById('in-zh') && document.getElementById('in-zh').click()"
    drawn_s = browser.open(page.as_uri(), 1240, 1000)
    for form, width, scheme, script in [
        ("light", 1240, "light", ""),
        ("dark", 1240, "dark", ""),
        ("phone", 390, "light", ""),
        ("chinese", 1240, "light", in_chinese),
    ]:
        browser.command("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        browser.open(page.as_uri(), width, 1000)
        browser.evaluate(f"{unfold};{script}")
        browser.tiles(into, f"{name}-{form}", width)
    browser.open(page.as_uri(), 1240, 1000)
    browser.printed(into, f"{name}-print")
    return f"{name}: {page.stat().st_size} bytes, drawn after {drawn_s * 1e3:.0f} ms"


def main() -> None:
    words = sys.argv[1:]
    only = ".*"
    if "--only" in words:
        at = words.index("--only")
        only, words = words[at + 1], words[:at] + words[at + 2 :]
    into = pathlib.Path(words[0]).resolve()
    default = pathlib.Path(__file__).parents[2] / "target/release/ringmark"
    ringmark = str(pathlib.Path(words[1] if len(words) > 1 else default).resolve())
    work = into / "work"
    work.mkdir(parents=True, exist_ok=True)
    calls = list(CALLS)
    if tokenizer := os.environ.get("TOKENIZER"):
        path = shlex.quote(str(pathlib.Path(tokenizer).resolve()))
        calls += [
            (name, f"{call} --parallel {loads} --tokenizer-path {path} --name {name} {LENGTHS}", {})
            for name, call, loads in WITH_TOKENIZER
        ]
    browser, pages = Browser(), []

    def one_call(name: str, command: str, keys: dict) -> None:
        """A command at each width, at the same time."""

        def at_width(columns: int) -> dict:
            folder = work / f"{name}-{columns}"
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            (folder / "talks.jsonl").write_text(TALK * 5)
            return capture(folder, into / f"{name}-{columns}", command, keys, columns)

        with concurrent.futures.ThreadPoolExecutor() as threads:
            captured = dict(zip(SCREENS, threads.map(at_width, SCREENS)))
        for columns, screens in captured.items():
            for part, screen in screens.items():
                source = work / "screen.html"
                source.write_text(screen_page(screen))
                width = int(columns * 8.45) + 24
                browser.open(source.as_uri(), width, 100)
                browser.picture(into / f"{name}-{columns}{part}.png", width, 0, browser.height())
        for page in (work / f"{name}-120").glob("out/*/perf_report.html"):
            # `latest` is a link to another one.
            if not page.parent.is_symlink():
                pages.append(page_pictures(browser, page, into, name))
        print(name, flush=True)

    try:
        for name, arguments, keys in calls:
            if re.fullmatch(only, name):
                one_call(name, f"{shlex.quote(ringmark)} perf {arguments}", keys)
        if re.fullmatch(only, "compare"):
            sides = [shlex.quote(str(work / f"repeat-{columns}/out/repeat")) for columns in (80, 200)]
            one_call("compare", f"{shlex.quote(ringmark)} compare {' '.join(sides)} --html compare.html", {})
            pages.append(page_pictures(browser, work / "compare-120/compare.html", into, "compare"))
        if re.fullmatch(only, "shards"):
            server = f"{shlex.quote(ringmark)} mock --port 0 ttft=40ms itl=8ms tokens=20 >mock.txt & server=$!; sleep 1"
            flags = '--url "$(sed "s/listening on //;q" mock.txt)" --rendezvous dir:meet --outputs-dir out --parallel 8 --number 200 --quiet'
            shard = f"{shlex.quote(ringmark)} perf {flags} --shard"
            merge = f"clear; {shlex.quote(ringmark)} merge out --html merged.html"
            one_call("shards", f"{server}; {shard} 0/2 & other=$!; {shard} 1/2; wait $other; kill $server; {merge}", {})
            pages.append(page_pictures(browser, work / "shards-120/merged.html", into, "shards"))
    finally:
        browser.close()
    (into / "pages.txt").write_text("\n".join(pages) + "\n")
    print("\n".join(pages))


if __name__ == "__main__":
    main()
