"""Brings ringmark's figures to a visualizer through its own SDK.

ringmark runs this in a process of its own and writes one JSON object a line to its standard input:
  {"do": "start", "service", "name", "default_name", "folder", "key", "local", "config"}
  {"do": "figures", "series", "step", "values"}             while a run goes on; the step counts its requests
  {"do": "table", "title", "series", "columns", "rows"}     when a run has ended, and once for all runs
  {"do": "results", "series", "values"}                     the final figures of a run
  {"do": "end", "ok"}
The answers, a JSON object a line on what was standard output: to the first {"ready": WHERE}, or {"failed": TEXT} with
"hint": false where the text says what to do; to each of the others {"done": true} or {"refused": TEXT}, and to
the last {"ended": true}. Whatever the SDK prints goes to standard error.
"""

import importlib
import json
import os
import sys

NICER = 5
PROJECT = "perf_benchmark"


class Trouble(Exception):
    """What a person has to know to go on."""


def sdk(module, needed, package):
    """The SDK; a folder of the same name is none."""
    try:
        found = importlib.import_module(module)
    except ImportError as error:
        raise Trouble(f"its SDK cannot be imported ({error}): run {sys.executable} -m pip install {package}")
    if not hasattr(found, needed):
        raise Trouble(f"its SDK is not installed: run {sys.executable} -m pip install {package}")
    return found


def environment(*names):
    """The first of these variables that is set to something."""
    return next((os.environ[name] for name in names if os.environ.get(name)), None)


def prefix(series):
    return f"{series}/" if series else ""


class Wandb:
    """One run; each series has its own counter of requests."""

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
    """One experiment; a series has keys of its own, so each has its own steps."""

    def __init__(self, start):
        folder = environment("SWANLAB_LOG_DIR", "SWANLAB_LOGDIR") or os.path.join(start["folder"], "swanlog")
        # Its dashboard looks for the folder here, and nowhere else.
        os.environ.setdefault("SWANLAB_LOG_DIR", folder)
        os.makedirs(folder, exist_ok=True)
        self.swanlab = sdk("swanlab", "init", "swanlab")
        wanted = {
            "project": environment("SWANLAB_PROJ_NAME", "SWANLAB_PROJECT") or PROJECT,
            "name": start["name"] or environment("SWANLAB_EXP_NAME") or start["default_name"],
            "workspace": environment("SWANLAB_WORKSPACE"),
            "config": start["config"],
            "mode": "local" if start["local"] else environment("SWANLAB_MODE"),
        }
        if start["key"]:
            self.swanlab.login(api_key=start["key"], host=environment("SWANLAB_HOST", "SWANLAB_API_HOST"))
        try:
            self.run = self.begin(folder, {name: value for name, value in wanted.items() if value is not None})
        except ImportError as error:
            dashboard = f"{sys.executable} -m pip install 'swanlab[dashboard]'"
            raise Trouble(f"its local mode cannot start ({error}): run {dashboard}, or set SWANLAB_MODE=offline")
        self.where = folder if wanted["mode"] in ("local", "offline") else None

    def begin(self, folder, wanted):
        try:
            return self.swanlab.init(log_dir=folder, **wanted)
        except TypeError:
            # Before its version 0.8 the folder had another name, and "experiment_name" was the name.
            old = {**wanted, "experiment_name": wanted.pop("name")}
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
            self.swanlab.finish(state="crashed", error="the call did not end well")


class Clearml:
    """One task; a series is a line in the chart of each figure."""

    def __init__(self, start):
        clearml = sdk("clearml", "Task", "clearml")
        self.task = clearml.Task.init(
            project_name=environment("CLEARML_PROJECT_NAME", "CLEARML_PROJECT") or PROJECT,
            task_name=start["name"] or environment("CLEARML_TASK_NAME") or start["default_name"],
            task_type=clearml.Task.TaskTypes.testing,
            reuse_last_task_id=False,
            # This process has nothing to watch but figures.
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
            self.task.mark_failed(status_message="the call did not end well", force=True)
        self.task.close()


SERVICES = {"wandb": Wandb, "swanlab": Swanlab, "clearml": Clearml}


def one_line(error):
    if isinstance(error, Trouble):
        return str(error)
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {' '.join(lines) or 'no words'}"


def main():
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    # What is measured goes first, and a folder beside us is no SDK.
    os.nice(NICER)
    sys.path = [folder for folder in sys.path if folder]
    # The SDKs look at the arguments of the program, which has none.
    sys.argv = ["ringmark"]

    def answer(**what):
        print(json.dumps(what), file=answers, flush=True)

    messages = (json.loads(line) for line in sys.stdin.buffer)
    start = next(messages, None)
    if start is None:
        return
    try:
        service = SERVICES[start["service"]](start)
    except BaseException as error:  # An SDK may also call sys.exit.
        answer(failed=one_line(error), hint=not isinstance(error, Trouble))
        return
    answer(ready=service.where)
    # Without its last message ringmark has died; what it sent is kept all the same.
    last = {"ok": False}
    for message in messages:
        what = message.pop("do")
        if what == "end":
            last = message
            break
        try:
            getattr(service, what)(**message)
            answer(done=True)
        except Exception as error:
            answer(refused=f"{what}: {one_line(error)}")
    service.end(last["ok"])
    answer(ended=True)


main()
