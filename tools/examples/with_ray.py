#!/usr/bin/env python3
"""Measures a server from several machines of a Ray cluster, with a shard of the load on each.

    python3 with_ray.py URL [SHARDS]       # SHARDS: one on each node of the cluster by default

Needs a cluster (`ray start`), which RAY_ADDRESS names; here the packages `ray` and `ringmark` (`pip install ./tools/python`), on
the other nodes only `ray`. NUMBER is the number of requests of all shards together.
"""

import os
import sys

import ringmark.ray

if len(sys.argv) not in (2, 3):
    sys.exit("usage: with_ray.py URL [SHARDS]")
shards = int(sys.argv[2]) if len(sys.argv) == 3 else None
load = {"url": sys.argv[1], "parallel": 64, "number": int(os.environ.get("NUMBER", "1000"))}
results = ringmark.ray.run(load, shards=shards)

for name, run in results.items():
    metrics = run["metrics"]
    # The clocks of the machines differ by an amount that is only known within bounds, so these figures have two ends.
    joint = metrics["Joint figures"]["requests_per_s"]
    print(name, "requests/s:", "unknown" if joint is None else f"{joint[0]} to {joint[1]}")
    for shard in metrics["Shards"]:
        print(f"  shard {shard['shard']}: {shard['requests']} requests, median TTFT {shard['ttft_p50_s']} s")
print("results:", results.folder)
sys.exit(results.status)
