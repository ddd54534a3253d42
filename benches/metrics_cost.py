"""What metrics cost: the nodes' processor time per task without them, with them, and scraped once a
second. ``python benches/metrics_cost.py --tasks 20000 --rounds 5``.
"""

from __future__ import annotations

import argparse
import http.client
import json
import statistics
import tempfile
import threading
import time
from pathlib import Path

from processes import Group, Spec, cpu_seconds, free_ports
from rig import nothing

import hustings as hs

WARM_UP = 1_000
WAYS = ("plain", "counted", "scraped")


class Scraper:
    """Reads the metrics of all nodes once a second, as Prometheus would."""

    def __init__(self, ports: list[int]) -> None:
        self._ports = ports
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.times_ms: list[float] = []

    def __enter__(self) -> Scraper:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ended.wait(1.0):
            for port in self._ports:
                began = time.perf_counter()
                connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
                connection.request("GET", "/metrics")
                connection.getresponse().read()
                connection.close()
                self.times_ms.append(1e3 * (time.perf_counter() - began))


def measure(way: str, tasks: int, folder: Path) -> tuple[float, list[float]]:
    """Microseconds of the nodes' processor time per task, and how long scrapes took."""
    ports = [] if way == "plain" else free_ports(3)
    group = Group(Spec(folder, disk=False, tasks=["rig"], profile="ci"))
    for node, port in zip(group.nodes, ports, strict=False):
        node.command += ["--metrics", f"127.0.0.1:{port}"]
    scraper = Scraper(ports if way == "scraped" else [])
    with group, hs.Cluster.connect(*group.places) as cluster, scraper:
        cluster.wait_leader()
        _run(cluster, WARM_UP)
        before = sum(cpu_seconds(node.pid) for node in group)
        _run(cluster, tasks)
        spent_s = sum(cpu_seconds(node.pid) for node in group) - before
    return 1e6 * spent_s / tasks, scraper.times_ms


def _run(cluster: hs.Cluster, tasks: int) -> list[object]:
    futures = [cluster.submit(nothing) for _ in range(tasks)]
    return [future.result(120) for future in futures]


def main() -> None:
    """Rounds of all three ways in turn, so that a slow moment of the machine meets each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("target/bench"))
    arguments = parser.parse_args()
    seen: dict[str, list[float]] = {way: [] for way in WAYS}
    scrapes_ms: list[float] = []
    for _ in range(arguments.rounds):
        for way in WAYS:
            with tempfile.TemporaryDirectory(prefix="metrics-") as folder:
                cost_us, times_ms = measure(way, arguments.tasks, Path(folder))
            seen[way].append(cost_us)
            scrapes_ms += times_ms
            print(f"{way:8} {cost_us:7.1f} us of the nodes' processor time per task", flush=True)
    medians = {way: statistics.median(costs) for way, costs in seen.items()}
    print({way: round(cost, 1) for way, cost in medians.items()})
    if scrapes_ms:
        print(
            f"a scrape takes {statistics.median(scrapes_ms):.1f} ms, {max(scrapes_ms):.1f} at most"
        )
    arguments.out.mkdir(parents=True, exist_ok=True)
    told = {"tasks": arguments.tasks, "us_per_task": seen, "scrapes_ms": scrapes_ms}
    (arguments.out / "metrics_cost.json").write_text(json.dumps(told, indent=1))


if __name__ == "__main__":
    main()
