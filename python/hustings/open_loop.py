"""Latency at a given rate, by the clock: a task that should have left earlier was late since then,
whatever held up its sender."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ._core import Future

MAX_SAMPLES = 20_000
"""Latencies that are kept of one run; at higher rates every k-th task is timed."""
SHORTEST_SLEEP_S = 0.0001
"""Below this a sleep takes longer than it was told to."""


class OpenLoop:
    """Calls ``submit`` at a steady rate and times a part of what comes back.

    >>> from hustings.open_loop import OpenLoop
    >>> OpenLoop(rate=1000.0, seconds=2.0).count
    2000
    """

    def __init__(self, rate: float, seconds: float) -> None:
        self.rate = rate
        self.count = max(1, round(rate * seconds))
        self._every = max(1, -(-self.count // MAX_SAMPLES))
        self._ms: list[float] = []
        self._late_ms: list[float] = []
        self.most_pending = 0
        """Tasks on their way at once, at most."""

    def run(self, submit: Callable[[int], Future[Any]], timeout: float) -> dict[str, float]:
        """Sends all tasks and waits for all outcomes; percentiles in milliseconds.

        ``late`` is by how much the sender itself missed its times: it is part of the latency.
        """
        futures: list[Future[Any]] = []
        finished, pending, every = 0, 0, self._every
        began = time.perf_counter() + 0.005
        interval = 1.0 / self.rate
        i = 0
        while i < self.count:
            now = time.perf_counter()
            due = began + i * interval
            if due > now:
                time.sleep(max(due - now, SHORTEST_SLEEP_S))
                continue
            future = submit(i)
            futures.append(future)
            if i % every == 0:
                self._late_ms.append((now - due) * 1e3)
                future.add_done_callback(self._timer(due))
                while finished < len(futures) and futures[finished].done():
                    finished += 1
                pending = max(pending, len(futures) - finished)
            i += 1
        sent = time.perf_counter() - began
        end = time.monotonic() + timeout
        for future in futures:
            future.result(max(0.0, end - time.monotonic()))
        wanted = len(self._late_ms)
        while len(self._ms) < wanted and time.monotonic() < end:
            # The last callbacks run just after their outcomes are seen here.
            time.sleep(0.001)
        self.most_pending = pending
        return self._figures(sent)

    def _timer(self, due: float) -> Callable[[Any], None]:
        clock, keep = time.perf_counter, self._ms.append
        return lambda _future: keep((clock() - due) * 1e3)

    def _figures(self, sent_s: float) -> dict[str, float]:
        at = percentiles(self._ms)
        late = percentiles(self._late_ms)
        return {
            "rate": round(self.rate, 1),
            "sent_per_s": round(self.count / max(sent_s, 1e-9), 1),
            "tasks": self.count,
            "timed": len(self._ms),
            **{f"{name}_ms": round(value, 3) for name, value in at.items()},
            "late_p99_ms": round(late["p99"], 3),
            "most_pending": self.most_pending,
        }


def percentiles(values: list[float]) -> dict[str, float]:
    """The usual percentiles of a list, each a value that occurred.

    >>> percentiles([3.0, 1.0, 2.0])
    {'p50': 2.0, 'p90': 3.0, 'p99': 3.0, 'p99.9': 3.0, 'max': 3.0}
    """
    ordered = sorted(values)
    shares = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p99.9": 0.999, "max": 1.0}
    last = len(ordered) - 1
    return {name: ordered[min(last, round(share * last))] for name, share in shares.items()}
