"""Sends ringmark's figures to a visualizer service through its own SDK.

ringmark runs this script in a separate process and writes one JSON object per line to its standard input:
  {"do": "start", "service", "name", "default_name", "folder", "key", "local", "config"}
  {"do": "figures", "series", "step", "values"}             during a run; the step is its number of requests so far
  {"do": "table", "title", "series", "columns", "rows"}     after each run, and once for all runs
  {"do": "results", "series", "values"}                     the final figures of a run
  {"do": "end", "ok"}
The script responds with one JSON object per line on its original standard output. To the first message: {"ready": WHERE},
or {"failed": TEXT, "hint": HINT}, where HINT is false if the text already tells the user what to do. To each further
message: {"done": true} or {"refused": TEXT}; to the last one: {"ended": true}. Output of the SDK goes to standard error.
"""

import importlib
import json
import os
import sys

NICER = 5
PROJECT = "perf_benchmark"


class SetupError(Exception):
    """An error whose message tells the user what to do."""


def sdk(module, needed, package):
    """Imports the SDK. `needed` is an attribute that distinguishes it from a folder of the same name."""
    try:
        imported = importlib.import_module(module)
    except ImportError as error:
        raise SetupError(f"its SDK cannot be imported ({error}): run {sys.executable} -m pip install {package}")
    if not hasattr(imported, needed):
        raise SetupError(f"its SDK is not installed: run {sys.executable} -m pip install {package}")
    return imported


def environment(*names):
    """The value of the first of these variables that is set and not empty."""
    return next((os.environ[name] for name in names if os.environ.get(name)), None)


def prefix(series):
    return f"{series}/" if series else ""


class Wandb:
    """One run. Each series has its own step metric."""

    def __init__(self, start):
        self.wandb = sdk("wandb", "init", "wandb")
        if start["key"]:
            os.environ["WANDB_API_KEY"] = start["key"]
        self.run = self.wandb.init(
            project=environment("WANDB_PROJECT") or PROJECT,
            name=start["name"] or environment("WANDB_NAME") or start["default_name"],
            dir=environment("WANDB_DIR") or start["folder"],
            config=start["config"],
        )
        offline = getattr(self.run, "offline", False)
        self.where = getattr(self.run, "dir" if offline else "url", None)
        self.known = set()

    def figures(self, series, step, values):
        steps = f"{prefix(series)}requests"
        if series not in self.known:
            self.known.add(series)
            self.run.define_metric(steps)
            self.run.define_metric(f"{prefix(series)}*", step_metric=steps)
        self.run.log({**{prefix(series) + name: value for name, value in values.items()}, steps: step})

    def results(self, series, values):
        for name, value in values.items():
            self.run.summary[prefix(series) + name] = value

    def table(self, title, series, columns, rows):
        table = self.wandb.Table(columns=columns, data=rows, allow_mixed_types=True)
        self.run.log({f"tables/{'_'.join(filter(None, [title, series]))}": table})

    def end(self, ok):
        self.run.finish(exit_code=0 if ok else 1)


class Swanlab:
    """One experiment. Each series has its own keys and therefore its own steps."""

    def __init__(self, start):
        folder = environment("SWANLAB_LOG_DIR", "SWANLAB_LOGDIR") or os.path.join(start["folder"], "swanlog")
        # SwanLab's dashboard reads the folder from this variable only.
        os.environ.setdefault("SWANLAB_LOG_DIR", folder)
        os.makedirs(folder, exist_ok=True)
        self.swanlab = sdk("swanlab", "init", "swanlab")
        options = {
            "project": environment("SWANLAB_PROJ_NAME", "SWANLAB_PROJECT") or PROJECT,
            "name": start["name"] or environment("SWANLAB_EXP_NAME") or start["default_name"],
            "workspace": environment("SWANLAB_WORKSPACE"),
            "config": start["config"],
            "mode": "local" if start["local"] else environment("SWANLAB_MODE"),
        }
        if start["key"]:
            self.swanlab.login(api_key=start["key"], host=environment("SWANLAB_HOST", "SWANLAB_API_HOST"))
        try:
            self.run = self.begin(folder, {name: value for name, value in options.items() if value is not None})
        except ImportError as error:
            dashboard = f"{sys.executable} -m pip install 'swanlab[dashboard]'"
            raise SetupError(f"its local mode cannot start ({error}): run {dashboard}, or set SWANLAB_MODE=offline")
        self.where = folder if options["mode"] in ("local", "offline") else None

    def begin(self, folder, options):
        try:
            return self.swanlab.init(log_dir=folder, **options)
        except TypeError:
            # Before version 0.8, the arguments were called "logdir" and "experiment_name".
            old = {**options, "experiment_name": options.pop("name")}
            return self.swanlab.init(logdir=folder, **{name: old[name] for name in old if name != "name"})

    def figures(self, series, step, values):
        self.swanlab.log({prefix(series) + name: value for name, value in values.items()}, step=step)

    def results(self, series, values):
        self.swanlab.config.update({f"results/{prefix(series)}{name}": value for name, value in values.items()})

    def table(self, title, series, columns, rows):
        cells = [["" if cell is None else cell for cell in row] for row in rows]
        table = self.swanlab.echarts.Table().add(columns, cells)
        self.swanlab.log({f"tables/{'_'.join(filter(None, [title, series]))}": table})

    def end(self, ok):
        if ok:
            self.swanlab.finish()
        else:
            self.swanlab.finish(state="crashed", error="the call failed")


class Clearml:
    """One task. Each series is a line in the chart of each figure."""

    def __init__(self, start):
        clearml = sdk("clearml", "Task", "clearml")
        self.task = clearml.Task.init(
            project_name=environment("CLEARML_PROJECT_NAME", "CLEARML_PROJECT") or PROJECT,
            task_name=start["name"] or environment("CLEARML_TASK_NAME") or start["default_name"],
            task_type=clearml.Task.TaskTypes.testing,
            reuse_last_task_id=False,
            # Only figures are reported, nothing about this process.
            auto_connect_arg_parser=False,
            auto_connect_frameworks=False,
            auto_connect_streams=False,
            auto_resource_monitoring=False,
        )
        self.task.connect_configuration(start["config"], name="ringmark")
        self.task.connect({name: value for name, value in start["config"].items() if value is not None})
        self.logger = self.task.get_logger()
        offline = getattr(clearml.Task, "is_offline", lambda: False)()
        self.where = str(self.task.get_offline_mode_folder()) if offline else self.task.get_output_log_web_page()

    def figures(self, series, step, values):
        for name, value in values.items():
            self.logger.report_scalar(title=name, series=series or "run", value=value, iteration=step)

    def results(self, series, values):
        for name, value in values.items():
            self.logger.report_single_value(name=f"{series}: {name}" if series else name, value=value)

    def table(self, title, series, columns, rows):
        cells = [["" if cell is None else cell for cell in row] for row in rows]
        self.logger.report_table(title=title, series=series or "run", iteration=0, table_plot=[columns, *cells])

    def end(self, ok):
        if not ok:
            self.task.mark_failed(status_message="the call failed", force=True)
        self.task.close()


SERVICES = {"wandb": Wandb, "swanlab": Swanlab, "clearml": Clearml}


def one_line(error):
    if isinstance(error, SetupError):
        return str(error)
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {' '.join(lines) or 'no message'}"


def main():
    responses = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    # The measurement has priority over this process. The working directory is removed from the search path, so that a
    # folder in it is not imported as an SDK.
    os.nice(NICER)
    sys.path = [folder for folder in sys.path if folder]
    # The SDKs read the arguments of the program.
    sys.argv = ["ringmark"]

    def respond(**response):
        print(json.dumps(response), file=responses, flush=True)

    messages = (json.loads(line) for line in sys.stdin.buffer)
    start = next(messages, None)
    if start is None:
        return
    try:
        service = SERVICES[start["service"]](start)
    except BaseException as error:  # An SDK may also call sys.exit.
        respond(failed=one_line(error), hint=not isinstance(error, SetupError))
        return
    respond(ready=service.where)
    # If the last message is missing, ringmark has died; the service then marks the run as failed.
    last = {"ok": False}
    for message in messages:
        what = message.pop("do")
        if what == "end":
            last = message
            break
        try:
            getattr(service, what)(**message)
            respond(done=True)
        except Exception as error:
            respond(refused=f"{what}: {one_line(error)}")
    service.end(last["ok"])
    respond(ended=True)


main()
