"""The Python examples of evalscope's documentation with the installed wheel, and `ringmark` in place of `evalscope`.

    python -m unittest discover tools/python/tests

Runs against the mock.
"""

import argparse
import asyncio
import importlib.util
import json
import os
import pathlib
import signal
import sqlite3
import subprocess
import sys
import tempfile
import textwrap
import time
import unittest
from typing import Dict, Iterator, List

from ringmark import RingmarkError, binary, version
from ringmark.perf.arguments import Arguments
from ringmark.perf.main import run_perf_benchmark, run_perf_benchmark_async
from ringmark.perf.plugin.datasets.base import DatasetPluginBase
from ringmark.perf.plugin.registry import register_dataset
from ringmark.plugin import ApiPluginBase, register_api

MOCK = "mock:/v1/chat/completions?ttft=2ms&itl=1ms&tokens=5"


class WithFolder(unittest.TestCase):
    def setUp(self) -> None:
        temporary = tempfile.TemporaryDirectory()
        self.addCleanup(temporary.cleanup)
        self.folder = pathlib.Path(temporary.name)

    def here(self, **given):
        """The arguments, with output in the test's folder and without progress."""
        return {"outputs_dir": str(self.folder / "outputs"), "quiet": True, "sleep_interval": 0, **given}

    def bodies(self, results) -> List[dict]:
        found = []
        for run in results.values():
            database = sqlite3.connect(run["folder"] / "benchmark_data.db")
            self.addCleanup(database.close)
            found += [json.loads(row[0]) for row in database.execute("SELECT request FROM result ORDER BY start_time")]
        return found


class Runs(WithFolder):
    def test_dictionary_of_the_documentation(self) -> None:
        task_cfg = {"url": MOCK,
                    "parallel": 1,
                    "model": "qwen2.5",
                    "number": 15,
                    "api": "openai",
                    "dataset": "openqa",
                    "stream": True}
        questions = self.folder / "open_qa.jsonl"
        questions.write_text("".join(json.dumps({"question": f"Why is {n} odd?"}) + "\n" for n in range(15)))
        results = run_perf_benchmark(self.here(**task_cfg, dataset_path=questions))
        self.assertEqual(list(results), ["parallel_1_number_15"])
        run = results["parallel_1_number_15"]
        self.assertEqual((results.status, run["metrics"]["Succeed requests"]), (0, 15))
        self.assertEqual(run["percentiles"]["Percentiles"][-1], "max")
        self.assertEqual(len(run["percentiles"]["TTFT (s)"]), len(run["percentiles"]["Percentiles"]))
        self.assertEqual((run["arguments"]["model"], run["arguments"]["number"]), ("qwen2.5", [15]))
        self.assertTrue((results.folder / "perf_report.html").is_file())
        self.assertIn("Why is 0 odd?", json.dumps(self.bodies(results)))

    def test_sweep_of_the_documentation(self) -> None:
        # The documented call with built-in prompts and a hundredth of the size.
        task_cfg = Arguments(
            parallel=[1, 10, 50],
            number=[10, 20, 100],
            model='Qwen2.5-0.5B-Instruct',
            url=MOCK,
            api='openai',
            min_tokens=5,
            max_tokens=5,
            extra_args={'ignore_eos': True}
        )
        results = run_perf_benchmark(self.here(**task_cfg.given()))
        self.assertEqual(list(results), ["parallel_1_number_10", "parallel_10_number_20", "parallel_50_number_100"])
        body = self.bodies(results)[0]
        self.assertEqual((body["ignore_eos"], body["min_tokens"], body["model"]), (True, 5, "Qwen2.5-0.5B-Instruct"))

    def test_earlier_runs_in_the_same_folder_are_ignored(self) -> None:
        first = self.here(url=MOCK, number=5, no_timestamp=True)
        results = run_perf_benchmark(first)
        old = results["parallel_1_number_5"]["folder"] / "benchmark_summary.json"
        os.utime(old, (1, 1))
        self.assertEqual(list(run_perf_benchmark({**first, "number": 6})), ["parallel_1_number_6"])

    def test_results_are_json(self) -> None:
        results = run_perf_benchmark(self.here(url=MOCK, number=5))
        again = json.loads(json.dumps(results))
        run = again["parallel_1_number_5"]
        self.assertEqual((run["metrics"]["Succeed requests"], pathlib.Path(run["folder"]).name), (5, "parallel_1_number_5"))

    def test_results_are_shown_as_a_table(self) -> None:
        results = run_perf_benchmark(self.here(url=MOCK, number=5, parallel=[1, 2]))
        page = results._repr_html_()
        self.assertEqual((page.count("<tr>"), page.count("parallel_2_number_5")), (3, 1))
        self.assertNotIn("Void", page)
        results.status = 3
        self.assertIn("Void", results._repr_html_())

    def test_requests_and_arrivals_are_those_of_the_database(self) -> None:
        results = run_perf_benchmark(self.here(url=MOCK, number=[5, 6], parallel=[1, 2]))
        requests, arrivals = results.requests(frame="rows"), results.arrivals(frame="rows")
        self.assertEqual((len(requests), len(arrivals)), (11, 55))
        for name, run in results.items():
            database = sqlite3.connect(run["folder"] / "benchmark_data.db")
            self.addCleanup(database.close)
            stored = database.execute(
                "SELECT latency, first_chunk_latency, time_per_output_token, inter_token_latencies FROM result"
                " ORDER BY CAST(substr(request_id, instr(request_id, '-m') + 2) AS INTEGER)"
            ).fetchall()
            rows = [row for row in requests if row["run"] == name]
            for row, (latency, ttft, tpot, gaps) in zip(rows, stored):
                for ours, theirs in [(row["latency_s"], latency), (row["ttft_s"], ttft), (row["tpot_s"], tpot)]:
                    self.assertAlmostEqual(ours, theirs, places=9)
                own = [event for event in arrivals if (event["run"], event["idx"]) == (name, row["idx"])]
                self.assertEqual([event["event"] for event in own], list(range(5)))
                self.assertAlmostEqual(own[0]["at_s"], ttft, places=9)
                self.assertIsNone(own[0]["gap_s"])
                for event, gap in zip(own[1:], json.loads(gaps)):
                    self.assertAlmostEqual(event["gap_s"], gap, places=9)

    def test_gaps_are_within_a_choice(self) -> None:
        results = run_perf_benchmark(self.here(url=MOCK, number=3, n_choices=2))
        arrivals = results.arrivals(frame="rows")
        self.assertEqual({event["choice"] for event in arrivals}, {0, 1})
        self.assertEqual(sum(event["gap_s"] is None for event in arrivals), 6)
        self.assertEqual({row["tpot_s"] for row in results.requests(frame="rows")}, {None})

    def test_frames_are_those_of_installed_packages(self) -> None:
        results = run_perf_benchmark(self.here(url=MOCK, number=3))
        for name in ("pandas", "polars"):
            if importlib.util.find_spec(name):
                self.assertEqual(len(results.requests(frame=name)), 3)
            else:
                with self.assertRaises(ImportError):
                    results.requests(frame=name)
        self.assertEqual(len(results.requests()), 3)
        with self.assertRaisesRegex(ValueError, "'numpy'"):
            results.requests(frame="numpy")

    def test_the_event_loop_goes_on(self) -> None:
        async def both() -> int:
            run = asyncio.create_task(run_perf_benchmark_async(self.here(url=MOCK, number=20)))
            turns = 0
            while not run.done():
                await asyncio.sleep(0.001)
                turns += 1
            self.assertEqual((await run).status, 0)
            return turns

        self.assertGreater(asyncio.run(both()), 3)

    def test_cancelled_runs_write_their_results(self) -> None:
        async def cancel() -> None:
            call = self.here(url="mock:?ttft=200ms&itl=0ms&tokens=2", number=1000)
            run = asyncio.create_task(run_perf_benchmark_async(call))
            while next(self.folder.glob("outputs/*/*/*/benchmark_data.db"), None) is None:
                await asyncio.sleep(0.05)
            run.cancel()
            await run

        with self.assertRaises(asyncio.CancelledError):
            asyncio.run(cancel())
        self.assertIsNotNone(next(self.folder.glob("outputs/*/*/*/benchmark_summary.json"), None))

    def test_errors_have_the_cause(self) -> None:
        with self.assertRaisesRegex(RingmarkError, "--url"):
            run_perf_benchmark(self.here(number=5))
        with self.assertRaisesRegex(TypeError, "'paralel' is not an argument .* 'parallel'"):
            run_perf_benchmark({"url": MOCK, "paralel": 5})
        with self.assertRaisesRegex(TypeError, "not int"):
            run_perf_benchmark(5)

    def test_missed_objectives_and_namespaces(self) -> None:
        given = self.here(url=MOCK, number=5, slo=["p99_ttft<=1us"], model=None)
        self.assertEqual(run_perf_benchmark(argparse.Namespace(**given)).status, 1)

    def test_interrupts_are_forwarded(self) -> None:
        script = textwrap.dedent(
            f"""
            from ringmark.perf import run_perf_benchmark
            try:
                run_perf_benchmark({self.here(url="mock:?ttft=200ms&itl=0ms&tokens=2", number=1000, quiet=False)!r})
            except KeyboardInterrupt as end:
                print("ended:", end)
            """
        )
        child = subprocess.Popen(
            [sys.executable, "-c", script],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            # Jobs that a script starts in the background ignore it.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        database = None
        while database is None and child.poll() is None:
            time.sleep(0.1)
            database = next(self.folder.glob("outputs/*/*/*/benchmark_data.db"), None)
        time.sleep(1)
        child.send_signal(signal.SIGINT)
        output, _ = child.communicate()
        self.assertIn("ended: interrupted; results: ", output)
        self.assertIn("was interrupted", output)


class Commands(unittest.TestCase):
    def test_values_become_command_line_arguments(self) -> None:
        for given, words in [
            ({"max_tokens": 64}, ["--max-tokens=64"]),
            ({"parallel": [1, 8]}, ["--parallel=1", "--parallel=8"]),
            ({"parallel": (1,)}, ["--parallel=1"]),
            ({"concurrency": 2}, ["--parallel=2"]),
            ({"rate": -1}, ["--rate=-1"]),
            ({"stream": True}, ["--stream"]),
            ({"stream": False}, ["--no-stream"]),
            ({"debug": False}, []),
            ({"model": None}, []),
            ({"stop": ["-x", "好"]}, ["--stop=-x", "--stop=好"]),
            ({"stop": []}, []),
            ({"headers": {"A": "b=c"}}, ["--headers=A=b=c"]),
            ({"extra_args": {"a": [1, True, None]}}, ['--extra-args={"a": [1, true, null]}']),
            ({"query_template": {"p": "%p"}}, ['--query-template={"p": "%p"}']),
            ({"server_metrics": True}, ["--server-metrics"]),
            ({"server_args": ["--ctx", 5], "port": 1}, ["--port=1", "--server-args", "--ctx", "5"]),
        ]:
            self.assertEqual(Arguments(**given).command_line(), words, given)
        for given, what in [({"stream": "yes"}, "True or False"), ({"number": True}, "needs a value")]:
            with self.assertRaisesRegex(TypeError, what):
                Arguments(**given).command_line()

    def test_arguments_behave_like_a_data_class(self) -> None:
        arguments = Arguments(url="u", api_key="hidden")
        arguments.number = 5
        self.assertEqual((arguments.number, arguments.min_prompt_length, arguments.seed), (5, 0, None))
        self.assertEqual(arguments, Arguments.of(arguments))
        self.assertNotIn("hidden", repr(arguments))
        with self.assertRaises(AttributeError):
            arguments.nonsense
        with self.assertRaises(TypeError):
            arguments.nonsense = 1
        self.assertIn("warmup_num", Arguments.names())

    def test_type_checkers_find_wrong_arguments(self) -> None:
        mypy = os.environ.get("MYPY")
        if mypy is None:
            self.skipTest("MYPY is not set to the path of mypy")
        for call, error in [
            ('Arguments(url="mock:", parallel=[1, 8], number=20, duration=1.5, slo="p99_ttft<=2", stop=["x"])', None),
            ("Arguments(paralel=3)", 'Unexpected keyword argument "paralel"'),
            ('Arguments(parallel="many")', 'Argument "parallel"'),
            ("Arguments().paralel = 3", 'has no attribute "paralel"'),
            ('run_perf_benchmark({})["x"]["metric"]', 'has no key "metric"'),
        ]:
            with tempfile.TemporaryDirectory() as folder:
                source = pathlib.Path(folder) / "call.py"
                source.write_text(f"from ringmark.perf import Arguments, run_perf_benchmark\n{call}\n")
                command = [mypy, "--strict", "--python-executable", sys.executable, "--cache-dir", folder, str(source)]
                found = subprocess.run(command, capture_output=True, text=True)
            self.assertIn(error or "Success", found.stdout, call)

    def test_binary_is_the_installed_one(self) -> None:
        self.assertEqual(pathlib.Path(binary()).parent, pathlib.Path(sys.executable).parent)
        self.assertRegex(version(), r"^\d+\.\d+")


# As in the documentation.
@register_dataset('custom')
class CustomDatasetPlugin(DatasetPluginBase):
    """Read dataset and return prompt.
    """

    def __init__(self, query_parameters: Arguments):
        super().__init__(query_parameters)

    def build_messages(self) -> Iterator[List[Dict]]:
        for item in self.dataset_line_by_line(self.query_parameters.dataset_path):
            prompt = item.strip()
            if len(prompt) > self.query_parameters.min_prompt_length and len(
                    prompt) < self.query_parameters.max_prompt_length:
                yield [{'role': 'user', 'content': prompt}]


@register_dataset("endless")
class EndlessDataset(DatasetPluginBase):
    def build_messages(self) -> Iterator[str]:
        number = 0
        while True:
            yield f"prompt {number} of seed {self.query_parameters.seed}"
            number += 1


@register_dataset("broken")
class BrokenDataset(DatasetPluginBase):
    def build_messages(self) -> Iterator[str]:
        yield "the first"
        raise LookupError("no second one")


@register_api("custom")
class CustomApi(ApiPluginBase):
    def build_request(self, messages, param):
        body = {"messages": messages, "model": param.model, "stream": param.stream, "max_tokens": param.max_tokens}
        return {**body, "stream_options": {"include_usage": True}, "user": self.param.name}

    def parse_responses(self, responses, request=None, **kwargs):
        usage = json.loads(responses[-1])["usage"]
        return 1000 + len(request["messages"]), usage["completion_tokens"]


@register_dataset(["first_name", "second_name"])
class NamedTwice(DatasetPluginBase):
    def build_messages(self):
        for text in ("a", "abc", "abcdef"):
            prompt = self.prepare_messages(text)
            if prompt is not None:
                yield prompt


@register_api("annotated")
class AnnotatedApi(ApiPluginBase):
    def build_request(self, messages, param):
        return {"messages": messages, "model": param.model, "stream": False}

    def parse_responses(self, responses: List[Dict], request=None):
        usage = responses[-1]["usage"] if isinstance(responses[-1], dict) else {}
        return json.loads(responses[-1])["usage"]["prompt_tokens"] + 500, usage.get("completion_tokens", 0)


@register_api("careless")
class CarelessApi(ApiPluginBase):
    def build_request(self, messages, param):
        return {"messages": messages, "share": 1 / param.warmup_num}


class Plugins(WithFolder):
    def test_dataset_of_the_documentation(self) -> None:
        lines = self.folder / "lines.txt"
        lines.write_text("short\na longer line\nthe longest line of all\n")
        given = self.here(url=MOCK, dataset="custom", dataset_path=str(lines), max_prompt_length=20, number=2)
        prompts = {body["messages"][0]["content"] for body in self.bodies(run_perf_benchmark(given))}
        self.assertEqual(prompts, {"short", "a longer line"})

    def test_runs_of_a_sweep_have_different_prompts(self) -> None:
        given = self.here(url=MOCK, dataset="endless", seed=4, parallel=[1, 2], number=[3, 2], warmup_num=1)
        prompts = {body["messages"][0]["content"] for body in self.bodies(run_perf_benchmark(given))}
        self.assertTrue({f"prompt {number} of seed 4" for number in (0, 1, 2, 4, 5)} <= prompts, prompts)
        self.assertGreaterEqual(len(prompts), 5)

    def test_failing_dataset_is_reported_by_name(self) -> None:
        with self.assertRaisesRegex(RingmarkError, r"broken: the program failed .* LookupError: no second one \(test_ringmark.py, line \d+\)"):
            run_perf_benchmark(self.here(url=MOCK, dataset="broken", number=5))

    def test_api_builds_and_parses(self) -> None:
        given = self.here(url=MOCK, api="custom", number=4, max_tokens=[3, 3], name="me", prompt="Hello")
        results = self.or_skip(lambda: run_perf_benchmark(given))
        metrics = results["parallel_1_number_4"]["metrics"]
        self.assertEqual((metrics["Succeed requests"], metrics["Average input tokens per request"]), (4, 1001))
        body = self.bodies(results)[0]
        self.assertEqual((body["user"], body["max_tokens"]), ("me", 3))

    def test_a_dataset_has_several_names_and_limits(self) -> None:
        for name in ("first_name", "second_name"):
            given = self.here(url=MOCK, dataset=name, min_prompt_length=2, max_prompt_length=4, number=2)
            prompts = {body["messages"][0]["content"] for body in self.bodies(run_perf_benchmark(given))}
            self.assertEqual(prompts, {"abc"})
        with self.assertRaisesRegex(TypeError, "needs a name or a list of names"):
            register_dataset(5)(NamedTwice)
        with self.assertRaisesRegex(TypeError, "needs a class derived from ApiPluginBase"):
            register_api("x")(NamedTwice)

    def test_responses_are_what_the_annotation_names(self) -> None:
        given = self.here(url=MOCK, api="annotated", number=2, stream=False, prompt="Hello")
        metrics = self.or_skip(lambda: run_perf_benchmark(given))["parallel_1_number_2"]["metrics"]
        self.assertGreater(metrics["Average input tokens per request"], 500)
        # The patch of json.loads has ended.
        with self.assertRaises(TypeError):
            json.loads({})

    def test_failing_api_is_reported_by_name(self) -> None:
        broken = self.here(url=MOCK, api="careless", number=500, prompt="Hello")
        with self.assertRaisesRegex(RingmarkError, "careless build: .* ZeroDivisionError"):
            self.or_skip(lambda: run_perf_benchmark(broken))

    def test_files_are_programs(self) -> None:
        source = textwrap.dedent(
            """
            import json, sys
            from ringmark.plugin import ApiPluginBase, DatasetPluginBase

            class Prompts(DatasetPluginBase):
                def build_messages(self):
                    while True:
                        yield {"messages": [{"role": "user", "content": self.query_parameters.model}]}

            class Api(ApiPluginBase):
                def build_request(self, messages, param):
                    return {"messages": messages, "model": param.model, "stream": param.stream}

            (Api if len(sys.argv) > 1 else Prompts).main()
            """
        )
        program = self.folder / "mine.py"
        program.write_text(f"#!{sys.executable}\n{source}")
        program.chmod(0o755)
        results = run_perf_benchmark(self.here(url=MOCK, dataset=str(program), number=3, model="its-name"))
        self.assertEqual(self.bodies(results)[0]["messages"][0]["content"], "its-name")
        results = self.or_skip(lambda: run_perf_benchmark(self.here(url=MOCK, api=str(program), number=3)))
        self.assertEqual(results["parallel_1_number_3"]["metrics"]["Succeed requests"], 3)

    def or_skip(self, run):
        try:
            return run()
        except RingmarkError as error:
            if "unknown API" in str(error):
                self.skipTest("this version of ringmark does not support programs as APIs")
            raise


if __name__ == "__main__":
    unittest.main()
