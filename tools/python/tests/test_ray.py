"""`ringmark.ray`: what needs no cluster here, and a load on a cluster if there is one.

The tests on a cluster are run by the environment variables RAY_ADDRESS, the cluster, and RINGMARK_RAY_URL, a mock that all of
its nodes reach. Without them, they are skipped.
"""

import importlib.util
import os
import pathlib
import shutil
import subprocess
import tempfile
import unittest
import warnings
from typing import List

import ringmark.ray
from ringmark import RingmarkError, binary

URL = os.environ.get("RINGMARK_RAY_URL", "")


class WithFolder(unittest.TestCase):
    def setUp(self) -> None:
        temporary = tempfile.TemporaryDirectory()
        self.addCleanup(temporary.cleanup)
        self.folder = pathlib.Path(temporary.name)


class WithoutCluster(WithFolder):
    def test_arguments_that_shards_cannot_have_are_refused(self) -> None:
        for given, words in [
            ({"shard": "0/2"}, "sets it"),
            ({"rendezvous": "pmi"}, "sets it"),
            ({"sla_auto_tune": True, "sla_params": "p99_ttft<=1"}, "ringmark.ray.search"),
            ({"csv": "x.csv"}, "merge --csv"),
            ({"export": "vllm=x"}, "merged shards"),
            ({"visualizer": "wandb"}, "merged run"),
        ]:
            with self.assertRaisesRegex(TypeError, words):
                ringmark.ray.run({"url": "http://127.0.0.1:1/v1", **given})
        with self.assertRaisesRegex(TypeError, "'paralel'"):
            ringmark.ray.run({"paralel": 3})
        with self.assertRaisesRegex(ValueError, "'load'"):
            ringmark.ray.search({}, "p99_ttft<=1", variable="load")
        with self.assertRaisesRegex(ValueError, "at least 1"):
            ringmark.ray.search({}, "p99_ttft<=1", lower=5, upper=4)

    @unittest.skipIf(importlib.util.find_spec("ray"), "Ray is installed")
    def test_the_error_without_ray_has_the_remedy(self) -> None:
        with self.assertRaisesRegex(ImportError, "pip install ray"):
            ringmark.ray.run({"url": "http://127.0.0.1:1/v1"})

    def test_a_search_finds_the_highest_load_that_holds(self) -> None:
        for lower, upper, limit, expected in [
            (1, 64, 13, (13, 14)),
            (1, 64, 64, (64, None)),
            (1, 50, 1000, (50, None)),
            (4, 64, 3, (None, 4)),
            (3, 3, 3, (3, None)),
        ]:
            tried: List[int] = []

            def holds(load: int) -> bool:
                tried.append(load)
                return load <= limit

            self.assertEqual(ringmark.ray._bisect(holds, lower, upper), expected)
            self.assertEqual(len(set(tried)), len(tried))

    def test_merged_shards_are_results(self) -> None:
        with Mock() as url:
            command = [binary(), "perf", "--url", url, "--parallel", "4", "--number", "22", "--quiet", "--model", "mock"]
            command += ["--slo", "p99_latency<=1h", "--rendezvous", f"dir:{self.folder / 'rendezvous'}"]
            outputs = [self.folder / f"node-{index}" for index in range(2)]
            shards = [
                subprocess.Popen([*command, "--shard", f"{index}/2", "--outputs-dir", str(outputs[index])])
                for index in range(2)
            ]
            statuses = [shard.wait() for shard in shards]
        self.assertTrue(set(statuses) <= {0, 3}, statuses)
        folder = self.folder / "merged"
        for index in range(2):
            (run,) = [path.parent for path in outputs[index].glob("*/*/*/benchmark_data.db") if path.parts[-4] != "latest"]
            place = folder / run.name / f"shard_{index}"
            place.mkdir(parents=True)
            for name in ("benchmark_data.db", "benchmark_args.json"):
                shutil.copy(run / name, place / name)
        results = ringmark.ray._merge(folder, False, True)
        self.assertEqual(list(results), ["parallel_4_number_22"])
        check_results(self, results, "parallel_4_number_22", 22, 2)
        run = results["parallel_4_number_22"]
        self.assertIs(ringmark.ray._holds(results, ["p99_latency<=1h"]), results.status == 0)
        self.assertTrue((run["folder"] / "perf_report.html").is_file())


class Mock:
    """A mock server in a process of its own."""

    def __enter__(self) -> str:
        command = [binary(), "mock", "--port", "0", "ttft=2ms", "itl=1ms", "tokens=5"]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        return self._process.stdout.readline().split()[-1]

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()


def check_results(test: unittest.TestCase, results: "ringmark.Results", name: str, number: int, shards: int) -> None:
    """Merged results have what those of one process have, and the requests of all shards."""
    run = results[name]
    test.assertEqual((run["metrics"]["Succeed requests"], run["metrics"]["Failed requests"]), (number, 0))
    test.assertEqual(len(run["metrics"]["Shards"]), shards)
    low, high = run["metrics"]["Joint figures"]["requests_per_s"]
    test.assertTrue(0 < low <= high)
    test.assertEqual(len(run["percentiles"]["TTFT (s)"]), len(run["percentiles"]["Percentiles"]))
    test.assertNotIn("Percentiles", run["metrics"])
    rows = results.requests(frame="rows")
    test.assertEqual([row["idx"] for row in rows], list(range(number)))
    test.assertEqual({event["idx"] for event in results.arrivals(frame="rows")}, set(range(number)))
    test.assertIn(name, results._repr_html_())


@unittest.skipUnless(URL and os.environ.get("RAY_ADDRESS"), "RAY_ADDRESS and RINGMARK_RAY_URL are not set")
class WithCluster(WithFolder):
    def here(self, **given: object) -> dict:
        return {"url": URL, "model": "mock", "outputs_dir": str(self.folder), "quiet": True, "sleep_interval": 0, **given}

    def run_quietly(self, *args, **given) -> "ringmark.Results":
        with warnings.catch_warnings():
            # On a busy machine, a run may be void.
            warnings.simplefilter("ignore")
            return ringmark.ray.run(*args, **given)

    def test_a_sweep_is_merged(self) -> None:
        results = self.run_quietly(self.here(parallel=[2, 4], number=[20, 31]), shards=2)
        self.assertEqual(sorted(results), ["parallel_2_number_20", "parallel_4_number_31"])
        self.assertIn(results.status, (0, 3))
        self.assertEqual(len(results["parallel_4_number_31"]["metrics"]["Shards"]), 2)
        shards = sorted(path.name for path in results.folder.glob("parallel_4_number_31/shard_*"))
        self.assertEqual(shards, ["shard_0", "shard_1"])

    def test_an_open_loop_has_the_requests_of_one_process(self) -> None:
        """The caller compares the results, in RINGMARK_RAY_FOLDER, with those of one process."""
        folder = os.environ.get("RINGMARK_RAY_FOLDER")
        if folder is None:
            self.skipTest("RINGMARK_RAY_FOLDER is not set")
        load = dict(open_loop=True, rate=100, number=300, data_seed=7, max_tokens=[5, 30])
        results = self.run_quietly({**self.here(**load), "outputs_dir": folder})
        (name,) = results
        check_results(self, results, name, 300, 2)

    def test_errors_of_shards_have_the_cause(self) -> None:
        with self.assertRaisesRegex(RingmarkError, "2 shards cannot share --parallel 1"):
            ringmark.ray.run(self.here(parallel=1, number=10))
        with self.assertRaisesRegex(RingmarkError, "3 shards need as many nodes"):
            ringmark.ray.run(self.here(parallel=3, number=10), shards=3)
        with self.assertRaisesRegex(RingmarkError, "missing.txt"):
            ringmark.ray.run(self.here(parallel=2, number=10, dataset="line_by_line", dataset_path="/missing.txt"))
        self.assertEqual(list(self.folder.iterdir()), [])

    def test_a_search_is_driven_from_here(self) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = ringmark.ray.search(self.here(number=8), "p99_latency<=1h", lower=2, upper=5, timeout=60)
        self.assertEqual(list(found.loads), [2, 4, 5])
        for load, (results,) in found.loads.items():
            self.assertEqual(list(results), [f"parallel_{load}_number_8"])
        if all(results.status == 0 for (results,) in found.loads.values()):
            self.assertEqual((found.best, found.lowest_failing), (5, None))

    def test_nothing_is_left_on_the_nodes(self) -> None:
        before = set(pathlib.Path(tempfile.gettempdir()).glob("ringmark-*"))
        self.run_quietly(self.here(parallel=2, number=4))
        self.assertEqual(set(pathlib.Path(tempfile.gettempdir()).glob("ringmark-*")) - before, set())


if __name__ == "__main__":
    unittest.main()
