"""Prints the list of all crates that a build of ringmark consists of, in the format CycloneDX 1.5.

    parts.py TARGET >FILE

It comes from `cargo metadata` and Cargo.lock: what the program is linked from, without build scripts and tests. The time in it is
SOURCE_DATE_EPOCH, so that the same commit gives the same file.
"""

import datetime
import json
import os
import re
import subprocess
import sys
from typing import Any, Dict, List

Json = Dict[str, Any]


def metadata(target: str) -> Json:
    """The packages and their graph, for one target."""
    command = ["cargo", "metadata", "--locked", "--format-version", "1", "--filter-platform", target]
    result: Json = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    return result


def checksums() -> Dict[str, str]:
    """The SHA-256 of each crate file, by `name version`."""
    entry = re.compile(r'name = "([^"]+)"\nversion = "([^"]+)"\nsource = "[^"]+"\nchecksum = "([^"]+)"')
    with open("Cargo.lock", encoding="utf-8") as file:
        return {f"{name} {version}": checksum for name, version, checksum in entry.findall(file.read())}


def linked(graph: Json) -> Dict[str, List[str]]:
    """The packages that the program is linked from, each with those that it uses."""
    nodes = {node["id"]: node for node in graph["resolve"]["nodes"]}
    found: Dict[str, List[str]] = {}
    waiting = [graph["resolve"]["root"]]
    while waiting:
        package = waiting.pop()
        if package in found:
            continue
        is_linked = lambda used: any(kind["kind"] is None for kind in used["dep_kinds"])
        found[package] = [used["pkg"] for used in nodes[package]["deps"] if is_linked(used) and used["pkg"] != package]
        waiting += found[package]
    return found


def component(package: Json, hashes: Dict[str, str], kind: str) -> Json:
    """One package as a component."""
    name, version = package["name"], package["version"]
    found: Json = {
        "type": kind,
        "bom-ref": f"pkg:cargo/{name}@{version}",
        "name": name,
        "version": version,
        "description": " ".join((package["description"] or "").split()),
        "purl": f"pkg:cargo/{name}@{version}",
    }
    if package["license"]:
        # Old crates separate alternatives with a slash.
        found["licenses"] = [{"expression": package["license"].replace("/", " OR ")}]
    if f"{name} {version}" in hashes:
        found["hashes"] = [{"alg": "SHA-256", "content": hashes[f"{name} {version}"]}]
    if package["repository"]:
        found["externalReferences"] = [{"type": "vcs", "url": package["repository"]}]
    return found


def document(target: str) -> Json:
    """The list as a CycloneDX document."""
    graph, hashes = metadata(target), checksums()
    packages = {package["id"]: package for package in graph["packages"]}
    uses = linked(graph)
    root = graph["resolve"]["root"]
    reference = lambda package: f"pkg:cargo/{packages[package]['name']}@{packages[package]['version']}"
    time = datetime.datetime.fromtimestamp(int(os.environ["SOURCE_DATE_EPOCH"]), datetime.timezone.utc)
    parts = sorted((package for package in uses if package != root), key=reference)
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {
            "timestamp": time.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "component": component(packages[root], hashes, "application"),
            "properties": [{"name": "target", "value": target}],
        },
        "components": [component(packages[package], hashes, "library") for package in parts],
        "dependencies": [
            {"ref": reference(package), "dependsOn": sorted({reference(used) for used in uses[package]})}
            for package in sorted(uses, key=reference)
        ],
    }


if __name__ == "__main__":
    print(json.dumps(document(sys.argv[1]), indent=1))
