"""The documents of `--json` and `--junit`, checked with readers that are not ours."""

import json
import pathlib
import subprocess
import tempfile
import unittest
import xml.etree.ElementTree
from typing import Any, List

import jsonschema
import referencing
from ringmark._binary import binary

SCHEMAS = pathlib.Path(__file__).resolve().parents[2] / "schema"


def validate(document: Any, name: str) -> None:
    """Fails if the document does not fit the schema of that name."""
    schemas = {path.name: json.loads(path.read_text()) for path in SCHEMAS.glob("*.schema.json")}
    resources = [(file, referencing.Resource.from_contents(schema)) for file, schema in schemas.items()]
    schema = schemas[f"{name}.schema.json"]
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.Draft202012Validator(schema, registry=referencing.Registry().with_resources(resources)).validate(document)


class Documents(unittest.TestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)

    def run_program(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        done = subprocess.run([binary(), *arguments], cwd=self.folder, capture_output=True, text=True)
        # A run on a busy machine may be void.
        self.assertIn(done.returncode, (0, 1, 3), done.stderr)
        return done

    def perf(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        start: List[str] = ["perf", "--url", "mock:?ttft=1ms&itl=1ms&tokens=3", "--workers", "1", "--sleep-interval", "0"]
        return self.run_program(*start, *arguments)

    def test_documents_fit_their_schemas(self) -> None:
        calls = [
            ["-n", "4", "--parallel", "1", "2", "--repeat", "2", "--slo", "p99_ttft<=1us"],
            ["-n", "4", "--open-loop", "--rate", "100", "--no-stream"],
            ["--sla-auto-tune", "--sla-params", "p99_ttft<=1us", "--sla-upper-bound", "2", "--sla-num-runs", "1"],
        ]
        for call in calls:
            validate(json.loads(self.perf(*call, "--json", "-").stdout), "call")
        validate(json.loads(self.run_program("report", "outputs/latest", "--json", "-").stdout), "report")
        for side in "ab":
            self.perf("-n", "4", "--repeat", "5", "--no-timestamp", "--name", side)
        compare = ["compare", "outputs/a", "outputs/b", "--fail-on", "p50_latency:+50%", "--json", "-"]
        validate(json.loads(self.run_program(*compare).stdout), "compare")

    def test_objectives_are_valid_xml(self) -> None:
        self.perf("-n", "4", "--slo", "p99_ttft<=1us", "rps>=0.001", "--junit", "slo.xml")
        root = xml.etree.ElementTree.parse(self.folder / "slo.xml").getroot()
        self.assertEqual(root.tag, "testsuites")
        names = [case.get("name") for case in root.iter("testcase")]
        self.assertEqual(names, ["requests succeed", "p99_ttft<=1us", "rps>=0.001"])
