"""Stub of wandb's SDK, which records its calls. WANDB_STUB selects a misbehavior."""

import json
import os
import time

NOTES = os.environ["STUB_NOTES"]
BEHAVIOR = os.environ.get("WANDB_STUB", "")


def note(what, **details):
    with open(NOTES, "a", encoding="utf-8") as file:
        print(json.dumps({"what": what, **details}), file=file)


class Table:
    def __init__(self, columns, data, allow_mixed_types):
        self.content = {"columns": columns, "data": data}


class Run:
    dir = "a-folder"
    offline = True

    def __init__(self):
        self.summary = {}
        self.logged = 0

    def define_metric(self, name, step_metric=None):
        note("define_metric", name=name, step_metric=step_metric)

    def log(self, values):
        self.logged += 1
        if BEHAVIOR == "sleeps":
            time.sleep(3600)
        if BEHAVIOR == "is_slow":
            time.sleep(0.02)
        if BEHAVIOR == "dies" and self.logged == 3:
            os._exit(7)
        note("log", values={name: getattr(value, "content", value) for name, value in values.items()})

    def finish(self, exit_code):
        note("finish", exit_code=exit_code, summary=self.summary)


def init(**options):
    print("the key is", os.environ.get("WANDB_API_KEY"))
    with open("/proc/self/cmdline", encoding="utf-8") as file:
        arguments = file.read()
    cores = sorted(os.sched_getaffinity(0))
    note("init", options=options, key=os.environ.get("WANDB_API_KEY"), arguments=arguments, cores=cores)
    return Run()
