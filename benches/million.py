"""A million tasks from one script: how long, how much memory at most in every process, and whether
every result is right.

    python benches/million.py --tasks 1000000

Twice: each call submitted by itself while the last 20 000 are under way; and all of them by one
``map`` in chunks. Writes ``million.json`` into ``--out``.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hustings as hs
from hustings.bench_tasks import nothing
from hustings.benchmark import Bench
from hustings.usage import peak_rss_mib

WINDOW = 20_000
"""Calls under way at once."""
CHUNK = 100


def one_by_one(cluster: hs.Cluster, tasks: int) -> int:
    """Submits each call by itself; returns how many results were wrong."""
    under_way: deque[tuple[int, Any]] = deque()
    wrong = 0
    for i in range(tasks):
        if len(under_way) == WINDOW:
            expected, future = under_way.popleft()
            wrong += future.result(300) != expected
        under_way.append((i, cluster.submit(nothing, i)))
    return wrong + sum(future.result(300) != expected for expected, future in under_way)


def by_map(cluster: hs.Cluster, tasks: int) -> int:
    """One ``map`` over all; returns how many results were wrong."""
    results = cluster.map(nothing, range(tasks), chunksize=CHUNK, buffersize=WINDOW // CHUNK)
    count = wrong = 0
    for i, result in enumerate(results):
        count, wrong = count + 1, wrong + (result != i)
    return wrong + tasks - count


def measure(way: Callable[[hs.Cluster, int], int], tasks: int, disk: bool) -> dict[str, Any]:
    """Runs one way on three fresh voters."""
    with (
        tempfile.TemporaryDirectory(prefix="million-") as folder,
        hs.Cluster.local(
            3, name="million", isolated=True, data_dir=folder if disk else None
        ) as cluster,
    ):
        bench = Bench(cluster, tasks, 1, 1.0)
        bench.warm_up()
        began = time.perf_counter()
        wrong = way(cluster, tasks)
        seconds = time.perf_counter() - began
        peaks = {
            kind: [round(peak_rss_mib(pid)) for pid in pids]
            for kind, pids in bench.processes().items()
        }
    return {
        "tasks": tasks,
        "wrong": wrong,
        "seconds": round(seconds, 1),
        "per_s": round(tasks / seconds),
        "peak_rss_mib": peaks,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", type=int, default=1_000_000)
    parser.add_argument("--disk", action="store_true", help="with data directories")
    parser.add_argument("--out", type=Path, default=Path("target/bench"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    record = {}
    for way in (by_map, one_by_one):
        record[way.__name__] = told = measure(way, options.tasks, options.disk)
        print(way.__name__, json.dumps(told), flush=True)
    (options.out / "million.json").write_text(json.dumps(record, indent=1) + "\n")
    if any(told["wrong"] for told in record.values()):
        raise SystemExit("some results are wrong")


if __name__ == "__main__":
    main()
