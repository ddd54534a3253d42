"""A crowd of clients comes back after their leader died, and a million tasks arrive at once (row 29
of the fault matrix): how far memory grows, and when everything is as before.

    python benches/herd.py --clients 2000 --tasks 1000000
"""

from __future__ import annotations

import argparse
import collections
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from election import machine
from processes import Group, Spec, wait_until
from rig import rss_mib

import hustings as hs
from hustings import _core

PATIENCE_S = 120.0
PROBE_S = 0.5


def rss(group: Group) -> float:
    """The largest node's resident memory."""
    return max(rss_mib(node.pid) for node in group if node.alive)


def submit(client: _core.Client) -> _core.Future[Any]:
    """One task that does nothing."""
    return client.submit("soak.nothing", None, "json", b'{"args":[],"kwargs":{}}')


def round_s(clients: list[_core.Client]) -> float:
    """Every client submits once; seconds until all have their results."""
    began = time.monotonic()
    for future in [submit(client) for client in clients]:
        future.result(PATIENCE_S)
    return time.monotonic() - began


def crowd(count: int, folder: Path) -> dict[str, Any]:
    """Kills the leader of a crowd of clients."""
    with Group(Spec(folder, tasks=["soak_tasks"], disk=False)) as group:
        clients = [_core.Client(group.places, timeout=60, watch=False) for _ in range(count)]
        watch = hs.Cluster.connect(*group.places, timeout=60)
        round_s(clients)
        calm, calm_mib = min(round_s(clients) for _ in range(3)), rss(group)
        leader = group[watch.wait_leader().name]
        leader.kill()
        began = time.monotonic()
        first = round_s(clients)
        last = first
        while last > calm / 0.9 and time.monotonic() - began < PATIENCE_S:
            last = round_s(clients)
        recovered, grown = time.monotonic() - began, rss(group)
        for client in clients:
            client.close()
        watch.close()
    return {
        "clients": count,
        "calm_round_s": calm,
        "first_round_after_s": first,
        "as_before_after_s": recovered,
        "node_mib_before": calm_mib,
        "node_mib_after": grown,
    }


def flood(count: int, folder: Path) -> dict[str, Any]:
    """One client submits as fast as it can."""
    with Group(Spec(folder, tasks=["soak_tasks"], disk=False)) as group:
        client = _core.Client(group.places, timeout=60, watch=False)
        calm = goodput(client)
        before = rss(group)
        futures: collections.deque[_core.Future[Any]] = collections.deque()
        began = time.monotonic()
        peak, due = before, 0.0
        for _ in range(count):
            futures.append(submit(client))
            now = time.monotonic()
            if now > due:
                peak, due = max(peak, rss(group)), now + PROBE_S
        submitted = time.monotonic() - began
        while futures:
            futures.popleft().result(PATIENCE_S)
            now = time.monotonic()
            if now > due:
                peak, due = max(peak, rss(group)), now + PROBE_S
        done = time.monotonic() - began
        over = time.monotonic()
        wait_until("goodput as before", lambda: goodput(client) >= 0.9 * calm, PATIENCE_S)
        client.close()
    return {
        "tasks": count,
        "submitted_s": submitted,
        "done_s": done,
        "tasks_per_s": count / done,
        "node_mib_before": before,
        "node_mib_peak": peak,
        "goodput_before": calm,
        "goodput_back_after_s": time.monotonic() - over,
    }


def goodput(client: _core.Client) -> float:
    """Tasks per second of five thousand."""
    began = time.monotonic()
    for future in [submit(client) for _ in range(5_000)]:
        future.result(PATIENCE_S)
    return 5_000 / (time.monotonic() - began)


def main() -> int:
    """Runs both, prints and writes ``herd.json``."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clients", type=int, default=500)
    parser.add_argument("--tasks", type=int, default=1_000_000)
    parser.add_argument("--out", type=Path, default=Path("target/bench"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = {
            "machine": machine(),
            "crowd": crowd(options.clients, Path(folder) / "crowd"),
            "flood": flood(options.tasks, Path(folder) / "flood"),
        }
    print(json.dumps({k: found[k] for k in ("crowd", "flood")}, indent=1))
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "herd.json").write_text(json.dumps(found, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
