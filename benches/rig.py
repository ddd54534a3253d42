"""A cluster of real processes whose best node is known, and the ways to watch and disturb it."""

from __future__ import annotations

import collections
import contextlib
import itertools
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import hustings as hs

T = TypeVar("T")

NODES = 5
PATIENCE_S = 60.0
PROBE_EVERY_S = 0.002
"""How often a probe submits a task: fifty times more often than a failover takes."""
LOOK_EVERY_S = 0.0003
WINDOW = 2_000
"""Tasks in flight while the cluster is loaded."""
WARM_UP = 100
"""Tasks before the first trial."""


@hs.task(retries=3)
def nothing() -> None:
    """A task whose only interesting property is when it is accepted."""


def wait_for(what: str, look: Callable[[], T | None], every_s: float = 0.02) -> T:
    """Waits until ``look`` finds something."""
    end = time.monotonic() + PATIENCE_S
    while True:
        seen = look()
        if seen:
            return seen
        if time.monotonic() > end:
            raise TimeoutError(f"waited {PATIENCE_S} s for {what}")
        time.sleep(every_s)


class Rig:
    """Five isolated nodes with constant loads 0.2 apart, in an order drawn by ``seed``."""

    def __init__(self, profile: str, seed: int, disk: bool = False) -> None:
        self.profile = profile
        self._folder = tempfile.TemporaryDirectory(prefix="rig-") if disk else None
        self.random = random.Random(seed)
        self.names = [f"n{i + 1}" for i in range(NODES)]
        levels = [0.15 + 0.2 * i for i in range(NODES)]
        self.random.shuffle(levels)
        self.levels = dict(zip(self.names, levels, strict=True))
        # A restarted node must be as good as before, at once: no uptime, no smoothing.
        self.config = hs.Config(
            profile=profile,
            election=hs.ElectionConfig(score_tau_s=0),
            score=hs.ScoreWeights(uptime=0),
        )
        loads = {name: hs.loads.constant(x, memory=x) for name, x in self.levels.items()}
        self.cluster = hs.Cluster.local(
            NODES,
            name="bench",
            isolated=True,
            loads=loads,
            config=self.config,
            data_dir=self._folder.name if self._folder else None,
        )

    def __enter__(self) -> Rig:
        self.cluster.__enter__()
        self.cluster.wait_leader()
        # Runners start at first use, and a starting interpreter takes a core for itself.
        for future in [nothing.submit() for _ in range(WARM_UP)]:
            future.result(PATIENCE_S)
        return self

    def __exit__(self, *error: Any) -> None:
        self.cluster.__exit__(*error)
        if self._folder:
            self._folder.cleanup()

    def best_but(self, *lost: str) -> str:
        """The best node that is not lost."""
        return max((n for n in self.names if n not in lost), key=lambda n: self.levels[n])

    def settle(self) -> hs.Leader:
        """Waits until all vote, and the leader has told everybody the right ranking; a moment more,
        so that the next fault meets a random phase of the heartbeats."""
        leader = wait_for("five voters and their ranking", self._settled)
        time.sleep(self.random.uniform(0.1, 0.14))
        return leader

    def _settled(self) -> hs.Leader | None:
        now = self.cluster.snapshot()
        voters = [m for m in now.members if m.voter and m.alive]
        if now.leader is None or len(voters) < NODES or not now.quorum.startswith("5 of 5"):
            return None
        rows = self.cluster.events.filter("scored", node=now.leader.id, term=now.leader.term)
        last = {row["subject"]: row for row in rows[-NODES:]}
        if set(last) != {m.id for m in voters}:
            return None
        told = sorted(voters, key=lambda m: last[m.id]["rank"])
        right = [m.name for m in told] == sorted(self.names, key=lambda n: -self.levels[n])
        return now.leader if right else None

    def pids(self) -> dict[str, int]:
        """The nodes' processes by name."""
        return {node.name: node.pid for node in self.cluster.nodes}

    def rows_since(self, at_us: int) -> hs.EventLog:
        """The history from a moment on."""
        return self.cluster.events.filter(since_us=at_us)


def first_acceptance(since: float) -> tuple[float, list[hs.Future[None]]]:
    """Submits until the cluster accepts; returns milliseconds after ``since``, and what was
    submitted."""
    futures: list[hs.Future[None]] = []
    due = 0.0
    while True:
        now = time.monotonic()
        if now >= due:
            futures.append(nothing.submit())
            due = now + PROBE_EVERY_S
        if futures[0].state != "submitted" or futures[-1].state != "submitted":
            return (time.monotonic() - since) * 1e3, futures
        if now - since > PATIENCE_S:
            raise TimeoutError(f"nothing was accepted for {PATIENCE_S} s")
        time.sleep(LOOK_EVERY_S)


class Stream(threading.Thread):
    """Submits steadily and notes when each task was accepted."""

    def __init__(self) -> None:
        super().__init__(name="stream", daemon=True)
        self.accepted: list[float] = []
        self.futures: list[hs.Future[None]] = []
        self._end = threading.Event()

    def run(self) -> None:
        """Until :meth:`finish`."""
        waiting: collections.deque[hs.Future[None]] = collections.deque()
        due = 0.0
        while waiting or not self._end.is_set():
            now = time.monotonic()
            if now >= due and not self._end.is_set():
                future = nothing.submit()
                self.futures.append(future)
                waiting.append(future)
                due = now + PROBE_EVERY_S
            while waiting and waiting[0].state != "submitted":
                waiting.popleft()
                self.accepted.append(time.monotonic())
            time.sleep(LOOK_EVERY_S)

    def finish(self) -> int:
        """Ends it and waits for all outcomes; returns how many submissions failed."""
        self._end.set()
        self.join(PATIENCE_S)
        return count_failed(self.futures)

    def longest_gap_ms(self, since: float, until: float) -> float:
        """The longest time without an acceptance that ends after ``since``."""
        times = [t for t in self.accepted if t <= until]
        pairs = itertools.pairwise(times)
        return max((b - a) * 1e3 for a, b in pairs if b >= since)


def count_failed(futures: list[hs.Future[None]]) -> int:
    """Waits for the outcomes; how many are none."""
    failed = 0
    for future in futures:
        try:
            future.result(PATIENCE_S)
        except hs.HustingsError:
            failed += 1
    return failed


def load(seconds: float) -> int:
    """Keeps the cluster as busy as one script can for so long; returns the tasks done."""
    end = time.monotonic() + seconds
    done = 0
    flying: collections.deque[hs.Future[None]] = collections.deque()
    while time.monotonic() < end:
        while len(flying) < WINDOW:
            flying.append(nothing.submit())
        flying.popleft().result(PATIENCE_S)
        done += 1
    for future in flying:
        future.result(PATIENCE_S)
    return done + len(flying)


_SPINNER = """
import os, sys, time
end, parent = time.monotonic() + float(sys.argv[1]), os.getppid()
while time.monotonic() < end and os.getppid() == parent:
    until = time.monotonic() + 0.016
    while time.monotonic() < until:
        pass
    time.sleep(0.004)
"""


@contextlib.contextmanager
def busy_cores(most_s: float) -> Iterator[None]:
    """Keeps every core about 80 % busy with one spinner each, for ``most_s`` seconds at most."""
    argv = [sys.executable, "-c", _SPINNER, str(most_s)]
    spinners = [subprocess.Popen(argv) for _ in range(os.cpu_count() or 1)]
    try:
        yield
    finally:
        for spinner in spinners:
            spinner.kill()
            spinner.wait()


def wake_ups(pid: int) -> int:
    """How often the threads of a process went to sleep by themselves so far."""
    total = 0
    for thread in os.listdir(f"/proc/{pid}/task"):
        with contextlib.suppress(OSError), open(f"/proc/{pid}/task/{thread}/status") as file:
            lines = [line for line in file if line.startswith("voluntary_ctxt_switches")]
            total += int(lines[0].split()[1])
    return total


def rss_mib(pid: int) -> float:
    """Resident memory of a process."""
    with open(f"/proc/{pid}/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20
