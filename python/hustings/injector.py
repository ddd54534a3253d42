"""Random failures on a live cluster: a plan drawn from a seed, and the thread that acts on it."""

from __future__ import annotations

import heapq
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable
from functools import partial
from random import Random
from types import TracebackType
from typing import Protocol

from .errors import ConfigError, HustingsError
from .failures import KINDS, RandomFailures
from .members import Snapshot

MAX_TROUBLES = 100
"""Failures of the failing that are remembered."""
RETRY_S = 1.0
"""A repair that did not work is tried again after this."""
END_TIMEOUT_S = 30.0
"""How long ``stop`` waits for the step under way."""


class Breakable(Protocol):
    """What the injector needs of a cluster."""

    def _down(self, name: str, kind: str) -> None: ...
    def _up(self, name: str, kind: str) -> None: ...
    def _standing(self) -> set[str]: ...
    def snapshot(self) -> Snapshot:
        """The cluster at this moment, as its leader sees it."""


class Plan:
    """When each node fails, how, and for how long; the same for the same seed and name."""

    def __init__(self, failures: RandomFailures, names: Iterable[str]) -> None:
        self._failures = failures
        self._random = {name: Random(f"{failures.seed}/{name}") for name in names}

    def uptime(self, name: str) -> float:
        """Seconds until it fails (again)."""
        return self._random[name].expovariate(1.0 / self._failures.mtbf_s)

    def failure(self, name: str) -> tuple[str, float]:
        """What befalls it, and for how many seconds."""
        random = self._random[name]
        return random.choice(self._failures.kinds), random.expovariate(1.0 / self._failures.mttr_s)


def spares_majority(snapshot: Snapshot, standing: set[str], name: str) -> bool:
    """Whether a majority of the voters stands without ``name``; one that votes no more, or not yet
    again, may always fail."""
    if snapshot.leader is None:
        return False
    voters = {m.name for m in snapshot.members if m.voter}
    if name not in voters:
        return True
    there = {m.name for m in snapshot.members if m.voter and m.alive} & standing
    # Of all seats: one whose voter came back as another node counts until it is taken.
    return len(there - {name}) >= snapshot.seats // 2 + 1


class FailureInjector:
    """Failures under way; as a context manager it ends with the ``with`` block."""

    def __init__(self, cluster: Breakable, failures: RandomFailures, names: list[str]) -> None:
        imagined = [kind for kind in failures.kinds if kind not in KINDS]
        if imagined:
            raise ConfigError(
                f"kinds: {imagined[0]!r} can only be imagined (hustings.Simulation); "
                f"live nodes fail by {', '.join(KINDS)}"
            )
        self.failures = failures
        self.counts: Counter[str] = Counter()
        """Failures made, by kind; ``"spared"``: those that would have cost the majority."""
        self.troubles: deque[str] = deque(maxlen=MAX_TROUBLES)
        """Steps that did not work, the last ones."""
        self._cluster = cluster
        self._plan = Plan(failures, names)
        self._down: dict[str, str] = {}
        self._ending = threading.Event()
        self._due: list[tuple[float, str, Callable[[float, str], None]]] = []
        self._began = time.monotonic()
        for name in names:
            self._later(self._plan.uptime(name), name, self._fail)
        self._thread = threading.Thread(target=self._run, name="hustings-failures", daemon=True)
        self._thread.start()

    @property
    def running(self) -> bool:
        """It goes on."""
        return self._thread.is_alive() and not self._ending.is_set()

    def stop(self, *, mend: bool = True) -> None:
        """No more failures; what is down is repaired first, unless ``mend=False``. Blocks until
        that is done. Safe to call twice."""
        self._ending.set()
        if self._thread is not threading.current_thread():
            self._thread.join(END_TIMEOUT_S)
        if mend:
            for name, kind in list(self._down.items()):
                self._try(name, partial(self._cluster._up, name, kind))
        self._down.clear()

    def __enter__(self) -> FailureInjector:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def __repr__(self) -> str:
        state = "running" if self.running else "stopped"
        made = ", ".join(f"{kind} {count}" for kind, count in sorted(self.counts.items()))
        return f"FailureInjector({state}, {made or 'nothing failed yet'})"

    def _run(self) -> None:
        while self._due:
            due, name, step = self._due[0]
            if self._ending.wait(max(0.0, self._began + due - time.monotonic())):
                return
            heapq.heappop(self._due)
            step(due, name)

    def _later(self, due: float, name: str, step: Callable[[float, str], None]) -> None:
        heapq.heappush(self._due, (due, name, step))

    def _fail(self, due: float, name: str) -> None:
        kind, downtime = self._plan.failure(name)
        if self._allows(name) and self._try(name, partial(self._cluster._down, name, kind)):
            self.counts[kind] += 1
            self._down[name] = kind
            self._later(due + downtime, name, self._mend)
        else:
            self._later(due + downtime + self._plan.uptime(name), name, self._fail)

    def _mend(self, due: float, name: str) -> None:
        kind = self._down[name]
        if self._try(name, partial(self._cluster._up, name, kind)):
            del self._down[name]
            self._later(due + self._plan.uptime(name), name, self._fail)
        else:
            self._later(time.monotonic() - self._began + RETRY_S, name, self._mend)

    def _allows(self, name: str) -> bool:
        if name not in self._cluster._standing():
            return False  # somebody else broke it, or it is gone
        if not self.failures.spare_majority:
            return True
        try:
            spared = spares_majority(self._cluster.snapshot(), self._cluster._standing(), name)
        except HustingsError as error:
            self.troubles.append(f"{name}: {error}")
            return False
        self.counts["spared"] += not spared
        return spared

    def _try(self, name: str, step: Callable[[], object]) -> bool:
        try:
            step()
        except (HustingsError, OSError) as error:
            self.troubles.append(f"{name}: {error}")
            return False
        return True


__all__ = ["FailureInjector"]
