"""What clients do to each other: shares of 64 that want as much as they can get, and how late tasks
that do nothing are while another client sends 10 MiB at a time.

    python benches/neighbours.py

Writes ``neighbours.json`` into ``--out``.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import threading
import time
from collections import deque
from pathlib import Path
from typing import Any

import hustings as hs
from hustings.bench_tasks import echo, nothing
from hustings.open_loop import OpenLoop

WINDOW = 50
"""Calls that each client of the crowd has under way."""
PROCESSES = 4
"""Among which the crowd is shared out."""
LARGE = 10 * 2**20


def crowd(addresses: list[str], clients: int, seconds: float) -> list[int]:
    """So many clients, each in a thread of its own; how many results each got in that time."""
    counts = [0] * clients
    ready, started = threading.Barrier(clients + 1), threading.Event()

    def live(place: int) -> None:
        with hs.Cluster.connect(*addresses, allow_pickle=True) as cluster:
            cluster.submit(nothing, 0).result(60)
            ready.wait()
            started.wait()
            end = time.monotonic() + seconds
            pending = deque(cluster.submit(nothing, i) for i in range(WINDOW))
            while time.monotonic() < end:
                pending.popleft().result(60)
                counts[place] += 1
                pending.append(cluster.submit(nothing, 0))
            hs.wait(list(pending), timeout=60)

    threads = [threading.Thread(target=live, args=(place,)) for place in range(clients)]
    for thread in threads:
        thread.start()
    ready.wait()
    started.set()
    for thread in threads:
        thread.join()
    return counts


def shares(clients: int, seconds: float) -> dict[str, Any]:
    """The crowd's counts; Jain's index is 1 where all have the same, 1/n where one has all."""
    with hs.Cluster.local(3, name="crowd", isolated=True) as cluster:
        addresses = [node.address for node in cluster.nodes]
        command = [sys.executable, __file__, "--crowd", *addresses]
        each = clients // PROCESSES
        command += ["--clients", str(each), "--seconds", str(seconds)]
        running = [
            subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(PROCESSES)
        ]
        counts = [n for process in running for n in json.loads(process.communicate(timeout=300)[0])]
    total = sum(counts)
    return {
        "clients": len(counts),
        "per_s": round(total / seconds),
        "least": min(counts),
        "median": statistics.median(counts),
        "most": max(counts),
        "jain": round(total**2 / (len(counts) * sum(n * n for n in counts)), 4),
    }


def beside(rate: float, seconds: float) -> dict[str, Any]:
    """Latency of tasks that do nothing, by the clock: alone, then beside large payloads."""
    found: dict[str, Any] = {}
    with hs.Cluster.local(3, name="beside", isolated=True) as cluster:
        addresses = [node.address for node in cluster.nodes]

        def submit(i: int) -> Any:
            return cluster.submit(nothing, i)

        hs.gather(*[submit(i) for i in range(500)], timeout=60)
        found["alone"] = OpenLoop(rate, seconds).run(submit, 60)
        over, echoes = threading.Event(), [0]

        def load() -> None:
            data = bytes(LARGE)
            with hs.Cluster.connect(*addresses, allow_pickle=True) as other:
                while not over.is_set():
                    assert other.submit(echo, data).result(60) == data
                    echoes[0] += 1

        thread = threading.Thread(target=load)
        thread.start()
        found["beside"] = OpenLoop(rate, seconds).run(submit, 60)
        over.set()
        thread.join()
    found["echoes_per_s"] = round(echoes[0] / seconds, 2)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--rate", type=float, default=200.0, help="tasks a second beside payloads")
    parser.add_argument("--crowd", nargs="+", metavar="ADDRESS", help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, default=Path("target/bench"))
    options = parser.parse_args()
    if options.crowd:
        print(json.dumps(crowd(options.crowd, options.clients, options.seconds)))
        return
    record = {"shares": shares(options.clients, options.seconds)}
    print(json.dumps(record["shares"]), flush=True)
    record["latency"] = beside(options.rate, options.seconds)
    print(json.dumps(record["latency"]))
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "neighbours.json").write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
