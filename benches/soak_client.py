"""One client of the soak, in a process of its own: submits steadily and writes down what it is
told.

    python benches/soak_client.py --connect A,B,C --name c1 --rate 50 --rows FILE

It stops submitting at a line ``drain SECONDS`` on stdin (or its end), waits that long for what it
has submitted, prints its counts as one line of JSON and ends. Some tasks are submitted twice, by
two connections under one id.
"""

from __future__ import annotations

import argparse
import collections
import json
import random
import select
import sys
import time
import uuid
from pathlib import Path
from typing import Any

import hustings as hs

TICK_S = 0.001
"""How often the oldest unaccepted tasks are looked at: how exact the times of acceptance are."""
LOOKED_AT = 256
"""Unaccepted tasks looked at per tick, from either end."""
OUTCOMES_S = 0.02
"""How often accepted tasks are looked at."""
FLUSH_S = 0.5
MAX_OPEN = 20_000
"""Tasks without an outcome before it submits no more for the moment."""
IN_THREADS = 0.5
"""Share of tasks that run in a thread of their node."""
TWINS = 0.05
"""Share of tasks that a second connection submits too, under the same id."""
UNLUCKY = 0.02
"""Share of tasks that raise in their first attempt."""
LONG = 0.05
"""Share of tasks that run for a while, so that kills meet running ones."""


class Watched:
    """One submission whose end is not known yet."""

    def __init__(self, client: str, future: hs.Future[Any]) -> None:
        self.client = client
        self.future = future
        self.task = str(future.task_id)
        self.accepted = False


class Recorder:
    """The rows of this client, and its counts."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("a", encoding="utf-8")
        self.counts: collections.Counter[str] = collections.Counter()

    def note(self, kind: str, seen: Watched, **more: Any) -> None:
        """One row."""
        self.counts[kind] += 1
        row = {"at_us": time.time_ns() // 1_000, "kind": kind, "task": seen.task}
        self._file.write(json.dumps({**row, "client": seen.client, **more}) + "\n")

    def flush(self) -> None:
        """Gives the rows to the operating system."""
        self._file.flush()


class Client:
    """Submits, watches, records."""

    def __init__(self, name: str, addresses: list[str], rate: float, rows: Path, seed: int) -> None:
        self.name = name
        self.random = random.Random(seed)
        self.first = hs.Cluster.connect(*addresses, timeout=60)
        self.second = hs.Cluster.connect(*addresses, timeout=60)
        self.period = 1 / rate
        self.recorder = Recorder(rows)
        self.number = 0
        self.unaccepted: collections.deque[Watched] = collections.deque()
        self.open: list[Watched] = []

    def submit(self) -> None:
        """One task, now and then by both connections."""
        self.number += 1
        long = self.random.random() < LONG
        busy = round(self.random.uniform(0.05, 0.4) if long else self.random.uniform(0, 0.004), 4)
        call = (self.number, busy, int(self.random.random() < UNLUCKY))
        twins = self.random.random() < TWINS
        options: dict[str, Any] = {"retries": 5}
        if self.random.random() < IN_THREADS:
            options["run_in"] = "thread"
        if twins:
            options["task_id"] = new_id(self.random)
        for name, cluster in ((self.name, self.first), (f"{self.name}b", self.second)):
            if name == self.name or twins:
                seen = Watched(name, cluster.options(**options).submit("soak.step", *call))
                self.recorder.note("submitted", seen)
                self.unaccepted.append(seen)

    def look_for_acceptance(self) -> None:
        """The oldest and the newest that are not accepted: after a failover either may be first."""
        waiting = self.unaccepted
        if not waiting:
            return
        newest = range(max(0, len(waiting) - LOOKED_AT), len(waiting))
        oldest = range(min(LOOKED_AT, newest.start))
        gone = [i for i in (*oldest, *newest) if self._accepted(waiting[i])]
        if len(gone) == len(waiting):
            waiting.clear()
        for i in reversed(gone if waiting else []):
            del waiting[i]

    def _accepted(self, seen: Watched) -> bool:
        state = seen.future.state
        if state == "submitted":
            return False
        if state != "rejected":
            self.recorder.note("accepted", seen)
            seen.accepted = True
        self.open.append(seen)
        return True

    def look_for_outcomes(self) -> None:
        """Writes down the final words that have arrived."""
        still = []
        for seen in self.open:
            if seen.future.done():
                self._ended(seen)
            else:
                still.append(seen)
        self.open = still

    def _ended(self, seen: Watched) -> None:
        state, error = seen.future.state, None
        if state == "succeeded":
            value = seen.future.result(0)
            self.recorder.note("outcome", seen, token=value[2], outcome=f"succeeded {value}")
            return
        if state == "cancelled":
            self.recorder.note("cancelled", seen)
            return
        error = seen.future.exception(0)
        name = type(error).__name__
        self.recorder.counts[name] += 1
        if isinstance(error, hs.TaskNotFoundError):
            return  # The cluster does not know what it accepted: no outcome.
        if state == "rejected":
            indefinite = isinstance(error, (hs.StoppedError, hs.NoQuorumError, hs.WaitTimeoutError))
            self.recorder.note("unknown" if indefinite else "refused", seen, detail=str(error))
            return
        self.recorder.note("outcome", seen, outcome=f"{state} {name}: {error}"[:300])

    def run(self) -> None:
        """Until told to drain, and until that is done."""
        now = time.monotonic()
        due, outcomes_due, flush_due = now, now, now
        end: float | None = None
        while end is None or (now < end and (self.unaccepted or self.open)):
            time.sleep(TICK_S)
            now = time.monotonic()
            if end is None and len(self.unaccepted) + len(self.open) < MAX_OPEN:
                while due <= now:
                    self.submit()
                    due += self.period
            due = max(due, now - 1.0)
            self.look_for_acceptance()
            if now >= outcomes_due:
                self.look_for_outcomes()
                outcomes_due = now + OUTCOMES_S
            if now >= flush_due:
                self.recorder.flush()
                flush_due = now + FLUSH_S
                end = end if end is not None else drain_asked(now)
        for seen in self.unaccepted:
            self.recorder.note("unknown", seen, detail=seen.future.state)
        self.recorder.counts["open"] = len(self.open)
        self.recorder.flush()


def drain_asked(now: float) -> float | None:
    """When the drain ends, once it was asked for."""
    if not select.select([sys.stdin], [], [], 0)[0]:
        return None
    words = sys.stdin.readline().split()
    return now + (float(words[1]) if words[:1] == ["drain"] else 0.0)


def new_id(chance: random.Random) -> uuid.UUID:
    """An id of our own making that carries its time (UUIDv7)."""
    millis = time.time_ns() // 1_000_000
    return uuid.UUID(
        int=millis << 80
        | 0x7 << 76
        | chance.getrandbits(12) << 64
        | 0b10 << 62
        | chance.getrandbits(62)
    )


def main() -> int:
    """Runs one client."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--connect", required=True, metavar="A,B,C")
    parser.add_argument("--name", default="c1")
    parser.add_argument("--rate", type=float, default=50.0, help="tasks per second")
    parser.add_argument("--rows", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    addresses = options.connect.split(",")
    client = Client(options.name, addresses, options.rate, options.rows, options.seed)
    client.run()
    print(json.dumps({"name": options.name, **client.recorder.counts}), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
