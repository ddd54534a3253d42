"""What metrics and TLS cost: processor time per task of a plain cluster, of one that counts, of one
that is scraped once a second, and of one inside TLS. ``python benches/surcharge.py``.
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

from processes import Group, Spec, free_ports
from rig import nothing

import hustings as hs
from hustings import certs
from hustings.usage import cpu_seconds

WARM_UP = 1_000
WAYS = ("plain", "counted", "scraped", "tls")


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


def measure(way: str, tasks: int, folder: Path) -> tuple[float, float, list[float]]:
    """Microseconds of processor time per task, the nodes' and the client's, and how long scrapes
    took."""
    ports = free_ports(3) if way in ("counted", "scraped") else []
    group = Group(Spec(folder, disk=False, tasks=["rig"], profile="ci"))
    for node, port in zip(group.nodes, ports, strict=False):
        node.command += ["--metrics", f"127.0.0.1:{port}"]
    tls = None
    if way == "tls":
        certs.create_authority(folder / "ca")
        tls = _certify("client", "bench", folder)
        for node in group.nodes:
            node.command += ["--tls", str(_certify("peer", node.name, folder, ["127.0.0.1"]))]
    scraper = Scraper(ports if way == "scraped" else [])
    with group, hs.Cluster.connect(*group.places, tls=tls) as cluster, scraper:
        cluster.wait_leader()
        _run(cluster, WARM_UP)
        before, own = sum(cpu_seconds(node.pid) for node in group), time.process_time()
        _run(cluster, tasks)
        spent_s = sum(cpu_seconds(node.pid) for node in group) - before
        own_s = time.process_time() - own
    return 1e6 * spent_s / tasks, 1e6 * own_s / tasks, scraper.times_ms


def _certify(role: str, name: str, folder: Path, hosts: list[str] | None = None) -> Path:
    out = folder / "tls" / name
    certs.issue(role, name, ca=folder / "ca", out=out, hosts=hosts or [])
    return out


def _run(cluster: hs.Cluster, tasks: int) -> list[object]:
    futures = [cluster.submit(nothing) for _ in range(tasks)]
    return [future.result(120) for future in futures]


def main() -> None:
    """Rounds of all ways in turn, so that a slow moment of the machine meets each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--ways", default=",".join(WAYS), help="of " + ", ".join(WAYS))
    parser.add_argument("--out", type=Path, default=Path("target/bench"))
    arguments = parser.parse_args()
    ways = arguments.ways.split(",")
    seen: dict[str, list[tuple[float, float]]] = {way: [] for way in ways}
    scrapes_ms: list[float] = []
    for _ in range(arguments.rounds):
        for way in ways:
            with tempfile.TemporaryDirectory(prefix="surcharge-") as folder:
                nodes_us, client_us, times_ms = measure(way, arguments.tasks, Path(folder))
            seen[way].append((nodes_us, client_us))
            scrapes_ms += times_ms
            print(
                f"{way:8} us per task: nodes {nodes_us:6.1f}, client {client_us:5.1f}", flush=True
            )
    for way, costs in seen.items():
        nodes, client = (statistics.median(each) for each in zip(*costs, strict=True))
        print(f"{way:8} median: nodes {nodes:6.1f}, client {client:5.1f}")
    if scrapes_ms:
        print(
            f"a scrape takes {statistics.median(scrapes_ms):.1f} ms, {max(scrapes_ms):.1f} at most"
        )
    arguments.out.mkdir(parents=True, exist_ok=True)
    told = {"tasks": arguments.tasks, "nodes_client_us_per_task": seen, "scrapes_ms": scrapes_ms}
    (arguments.out / "surcharge.json").write_text(json.dumps(told, indent=1))


if __name__ == "__main__":
    main()
