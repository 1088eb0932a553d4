"""Runs a class that a file registers, for `ringmark perf --dataset ./file.py` and `--api ./file.py`.

    python -c THIS_SOURCE FILE KIND VERB NAME

KIND is dataset or api, VERB is build or parse for an API, NAME selects one of several classes; both may be empty. The first
line of standard input is a JSON object with `modules` (names and sources of the package ringmark), `keywords` (of Arguments)
and `arguments` (those that are given). Nothing needs to be installed: imports of `evalscope` and `ringmark` get these
modules. Other modules of evalscope are imported from an installed one.
"""

import abc
import importlib.machinery
import json
import os
import sys
import types
import typing
from typing import Any, Dict, List, Sequence, Tuple

#: Imports of the one get the modules of the other.
OURS, THEIRS = "ringmark", "evalscope"
#: The name of the file's own module.
FILE_MODULE = "ringmark_plugin_file"
#: Names of `typing` that examples in documents use without importing them.
TYPES = ("Any", "Dict", "Iterator", "List", "Optional", "Tuple", "Union")


class CallOfFile(BaseException):
    """The file itself starts a benchmark: all classes before it are registered."""


def main() -> None:
    path, kind, verb, name = sys.argv[1:]
    # What the file prints must not be taken for prompts.
    output = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    stdin: Any = sys.stdin
    stdin.reconfigure(encoding="utf-8", errors="surrogatepass")
    call = json.loads(stdin.readline())
    serve_modules(call["modules"], call["keywords"])
    arguments = served("ringmark.perf.arguments").Arguments(**call["arguments"])
    with served("ringmark.plugin.responses").read_json_objects():
        load_file(path)
        plugin = registered_class(path, kind, name)
        try:
            if kind == "dataset":
                lines = plugin.lines(arguments, os.environ)
            else:
                lines = plugin.answers(arguments, verb, stdin)
            for line in lines:
                output.write(line + "\n")
        except NotImplementedError as error:
            if error.args:
                raise
            raise NotImplementedError(f"a method of {plugin.__name__} only raises NotImplementedError") from error
    output.flush()


def serve_modules(sources: Sequence[Tuple[str, str]], keywords: List[str]) -> None:
    """Executes the modules and makes them available under both names."""
    installed = [importlib.machinery.PathFinder.find_spec(name) for name in (THEIRS, OURS)]
    folders = [folder for spec in installed if spec for folder in spec.submodule_search_locations or ()]

    def add(name: str, module: Any) -> None:
        # Other modules of the package come from an installed one.
        module.__path__ = [os.path.join(folder, *name.split(".")[1:]) for folder in folders]
        for each in (name, THEIRS + name[len(OURS) :]):
            sys.modules[each] = module
            parent, _, last = each.rpartition(".")
            if parent in sys.modules:
                setattr(sys.modules[parent], last, module)

    for name in (OURS, "ringmark.perf", "ringmark.perf.main"):
        add(name, types.ModuleType(name))
    binary: Any = types.ModuleType("ringmark._binary")
    binary.flags = lambda: dict.fromkeys(keywords)
    add("ringmark._binary", binary)
    # Packages before the modules in them.
    for name in sorted(name for name, _ in sources):
        add(name, types.ModuleType(name))
    for name, source in sources:
        exec(compile(source, f"<{name}>", "exec"), sys.modules[name].__dict__)
    plugin: Any = sys.modules["ringmark.plugin"]
    plugin.DatasetPluginBase.called_by_program = plugin.ApiPluginBase.called_by_program = True
    for name in (OURS, "ringmark.perf", "ringmark.perf.main"):
        module: Any = sys.modules[name]
        module.run_perf_benchmark = module.run_perf_benchmark_async = stop_at_call
        module.Arguments = served("ringmark.perf.arguments").Arguments


def served(name: str) -> Any:
    return sys.modules[name]


def stop_at_call(*_: Any, **__: Any) -> None:
    raise CallOfFile


def load_file(path: str) -> None:
    """Executes the file as a module, with the names that examples in documents leave out."""
    folder = os.path.dirname(os.path.abspath(path))
    sys.path[:] = [folder, *(entry for entry in sys.path if entry != "")]
    sys.argv = [path]
    plugin = served("ringmark.plugin")
    arguments = served("ringmark.perf.arguments").Arguments
    module = types.ModuleType(FILE_MODULE)
    module.__file__ = os.path.abspath(path)
    sys.modules[FILE_MODULE] = module
    module.__dict__.update({name: getattr(plugin, name) for name in plugin.__all__})
    module.__dict__.update({name: getattr(typing, name) for name in TYPES})
    module.__dict__.update(abstractmethod=abc.abstractmethod, json=json, Arguments=arguments, QueryParameters=arguments)
    with open(path, "rb") as file:
        code = compile(file.read(), path, "exec")
    try:
        exec(code, module.__dict__)
    except CallOfFile:
        pass


def registered_class(path: str, kind: str, name: str) -> Any:
    """The class of the file for this use. Ends the process if there is none, or no single one."""
    registry = served("ringmark.plugin.registry")
    classes: Dict[str, Dict[str, Any]] = {"dataset": registry.DATASETS, "api": registry.APIS}
    known = classes[kind]
    decorator = f"@register_{kind}"
    if name and name not in known:
        sys.exit(f"{decorator} registers no '{name}' in this file, only: {', '.join(known) or 'nothing'}")
    if name:
        return known[name]
    if not known:
        others = [each for other in classes.values() for each in other]
        sys.exit(f"the file has no class with {decorator}" + (f"; it registers {', '.join(others)}" if others else ""))
    if len(set(known.values())) > 1:
        sys.exit(f"the file registers {', '.join(known)}: name one, as in {path}:{next(iter(known))}")
    return next(iter(known.values()))


if __name__ == "__main__":
    main()
