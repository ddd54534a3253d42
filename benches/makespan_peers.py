"""Dask and Ray on the sleeping tasks of ``benches/makespan.py real``, each in its own environment.

    python3 -m venv DIR/dask && DIR/dask/bin/pip install "dask[distributed]"
    DIR/dask/bin/python benches/makespan_peers.py dask
    python3 -m venv DIR/ray && DIR/ray/bin/pip install ray
    DIR/ray/bin/python benches/makespan_peers.py ray

Five places, one process each; what is printed is the median makespan over its lower bound. Needs
nothing of hustings.
"""

from __future__ import annotations

import argparse
import importlib
import json
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import sleeping

PLACES = 5

Run = Callable[[list[float]], None]


@contextmanager
def dask() -> Iterator[Run]:
    """A scheduler in this process and five workers of one thread, by the defaults otherwise."""
    distributed = importlib.import_module("distributed")
    with (
        distributed.LocalCluster(
            n_workers=PLACES, threads_per_worker=1, dashboard_address=None
        ) as cluster,
        distributed.Client(cluster) as client,
    ):

        def run(work: list[float]) -> None:
            client.gather(client.map(time.sleep, work, pure=False))

        yield run


@contextmanager
def ray() -> Iterator[Run]:
    """A local ray with five processors."""
    module = importlib.import_module("ray")
    module.init(num_cpus=PLACES, include_dashboard=False, logging_level="ERROR")
    sleep = module.remote(_sleep)

    def run(work: list[float]) -> None:
        module.get([sleep.remote(seconds) for seconds in work])

    try:
        yield run
    finally:
        module.shutdown()


def _sleep(seconds: float) -> None:
    time.sleep(seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("system", choices=["dask", "ray"])
    parser.add_argument("--reps", type=int, default=3)
    parser.add_argument("--kinds", default="", help="these columns, by comma")
    parser.add_argument("--mean", type=float, default=0.02, help="seconds of a task")
    parser.add_argument("--out", default=".", metavar="DIR")
    options = parser.parse_args()
    result = {}
    with globals()[options.system]() as run:
        run([0.05] * 4 * PLACES)
        for kind, count in sleeping.chosen(options.kinds).items():
            found = []
            for seed in range(options.reps):
                work = sleeping.jobs(kind, count, options.mean, seed)
                began = time.perf_counter()
                run(work)
                took = time.perf_counter() - began
                found.append(took / sleeping.lower_bound(work, PLACES))
            result[kind] = {
                "over_bound": statistics.median(found),
                "all": [round(ratio, 4) for ratio in found],
            }
            print(f"{options.system} {kind}: {result[kind]['over_bound']:.3f}", flush=True)
    version = importlib.import_module(options.system).__version__
    record = {"system": options.system, "version": version, "result": result}
    path = Path(options.out) / f"makespan_{options.system}.json"
    path.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
