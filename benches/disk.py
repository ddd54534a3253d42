"""What a data directory costs: no-op tasks per second and round trips, in memory and on disk.

Three nodes in processes of their own and the script share the machine; each round measures memory
and disk one after the other, so that both meet the same neighbours. Prints one line of JSON.

    python benches/disk.py --rounds 5 --tasks 20000 --folder /on/the/disk/to/measure
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import hustings as hs


@hs.task
def nothing() -> None:
    return None


def cpu_s(pids: list[int]) -> float:
    """Processor time the processes and their ended children have used so far."""
    ticks = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += sum(int(field) for field in fields[11:15])
    return ticks / os.sysconf("SC_CLK_TCK")


def measure(folder: str | None, tasks: int, trips: int) -> dict[str, float]:
    with hs.Cluster.local(3, name="disk", isolated=True, data_dir=folder) as cluster:
        cluster.wait_leader()
        for future in [nothing.submit() for _ in range(200)]:
            future.result(60)
        pids = [os.getpid(), *(node.pid for node in cluster.nodes)]
        before, begin = cpu_s(pids), time.perf_counter()
        for future in [nothing.submit() for _ in range(tasks)]:
            future.result(120)
        spent, used = time.perf_counter() - begin, cpu_s(pids) - before
        times = []
        for _ in range(trips):
            since = time.perf_counter()
            nothing.submit().result(60)
            times.append(time.perf_counter() - since)
    times.sort()
    return {
        "tasks_per_s": tasks / spent,
        "cpu_us_per_task": used / tasks * 1e6,
        "trip_p50_ms": statistics.median(times) * 1e3,
        "trip_p99_ms": times[int((len(times) - 1) * 0.99)] * 1e3,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tasks", type=int, default=20_000)
    parser.add_argument("--trips", type=int, default=500)
    parser.add_argument("--folder", help="where the data directories go (default: a temporary one)")
    options = parser.parse_args()
    rounds: dict[str, list[dict[str, float]]] = {"memory": [], "disk": []}
    for _ in range(options.rounds):
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            rounds["memory"].append(measure(None, options.tasks, options.trips))
            rounds["disk"].append(measure(folder, options.tasks, options.trips))
    result: dict[str, Any] = {
        mode: {k: round(statistics.median(m[k] for m in made), 3) for k in made[0]}
        for mode, made in rounds.items()
    }
    rate = "tasks_per_s"
    result["disk_to_memory"] = round(result["disk"][rate] / result["memory"][rate], 3)
    print(json.dumps({**vars(options), **result}))


if __name__ == "__main__":
    main()
