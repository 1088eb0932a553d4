"""Stands in for wandb's SDK: writes down what is asked of it, and misbehaves as WANDB_STUB says."""

import json
import os
import time

NOTES = os.environ["STUB_NOTES"]
MANNER = os.environ.get("WANDB_STUB", "")


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
        if MANNER == "sleeps":
            time.sleep(3600)
        if MANNER == "dawdles":
            time.sleep(0.02)
        if MANNER == "dies" and self.logged == 3:
            os._exit(7)
        note("log", values={name: getattr(value, "content", value) for name, value in values.items()})

    def finish(self, exit_code):
        note("finish", exit_code=exit_code, summary=self.summary)


def init(**wanted):
    print("the key is", os.environ.get("WANDB_API_KEY"))
    with open("/proc/self/cmdline", encoding="utf-8") as file:
        arguments = file.read()
    cores = sorted(os.sched_getaffinity(0))
    note("init", wanted=wanted, key=os.environ.get("WANDB_API_KEY"), arguments=arguments, cores=cores)
    return Run()
