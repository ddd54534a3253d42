"""Assignment and stealing imagined: thousands of workers, every workload, the core's own leader and
workers under virtual time."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from . import _core
from .config import Config
from .errors import ConfigError
from .events import EventLog
from .members import html_table
from .node import cores
from .workloads import Workload, number, whole

MAX_WORKERS = 20_000
"""Workers of one run."""


@dataclass(frozen=True)
class Stays:
    """Lengths of time in seconds."""

    mean: float
    p50: float
    p99: float
    max: float


@dataclass(frozen=True)
class TaskRun:
    """What one imagined run of tasks came to."""

    seed: int
    tasks: int
    """How many there were to do."""
    finished: int
    """How many have an outcome."""
    failed: int
    """How many of these have none but a failure."""
    makespan_s: float
    """From the first submission to the last outcome, as the client sees both; NaN where something
    never came out."""
    bound_s: float
    """What no schedule can beat: ``max(work / speed of all, longest task / fastest worker)``."""
    stays: Stays
    """From a task's submission to its outcome."""
    ideal: Stays
    """The same where one queue feeds the fastest free place, first come first served, without any
    delay."""
    steals: int
    """Tasks that moved from a victim to a thief."""
    copies: int
    """Copies of attempts that took too long."""
    calls: int
    """How often an idle worker asked for work."""
    refused: Mapping[str, int]
    """What came of it when it got none, by reason."""
    idle: Stays
    """Spells in which a worker was idle although there was work within its reach."""
    idle_spells: int
    """How many of them."""
    idle_s: float
    """Their sum."""
    busy_s: float
    """All attempts together, in seconds of workers."""
    entries: int
    """Entries of the log."""
    late: int
    """Completions that came after their attempt had been replaced."""
    deaths: int
    """Workers that died."""
    flaws: int
    """What the checker of histories found: lost, double, invented or contradicting tasks."""
    began_s: float
    """When work began, in seconds of the rows."""
    positions: Mapping[str, tuple[float, float]] = field(repr=False)
    """Where each worker stands."""
    speeds: Mapping[str, float] = field(repr=False)
    reach: tuple[float, float] = field(default=(math.inf, math.inf), repr=False)
    """How far the leader may assign, and how far thieves may steal."""
    events: EventLog = field(default_factory=lambda: EventLog([]), repr=False)
    """What the leaders wrote down."""
    task_rows: Sequence[Mapping[str, Any]] = field(default=(), repr=False)
    """What the client and the workers saw of tasks, as a checker of histories wants it."""

    @property
    def over_bound(self) -> float:
        """The makespan as a multiple of its lower bound; 1 is perfect."""
        return self.makespan_s / self.bound_s

    @property
    def steals_per_task(self) -> float:
        """Steals for each task that has an outcome."""
        return self.steals / self.finished if self.finished else math.nan

    def __repr__(self) -> str:
        return (
            f"TaskRun(seed={self.seed}, {self.finished} of {self.tasks} tasks on "
            f"{len(self.positions)} workers, makespan {self.makespan_s:.3f} s = "
            f"{self.over_bound:.3f} x the bound {self.bound_s:.3f} s, {self.steals} steals)"
        )

    def _repr_html_(self) -> str:
        def ms(seconds: float) -> str:
            return f"{seconds * 1e3:.1f} ms"

        refused = ", ".join(f"{why} {count}" for why, count in self.refused.items() if count)
        rows = [
            ("makespan", f"{self.makespan_s:.3f} s"),
            ("lower bound", f"{self.bound_s:.3f} s"),
            ("makespan / bound", f"{self.over_bound:.3f}"),
            ("stay p50, p99", f"{ms(self.stays.p50)}, {ms(self.stays.p99)}"),
            ("steals per task", f"{self.steals_per_task:.3f}"),
            ("calls for work, refused", f"{self.calls}; {refused or 'none'}"),
            ("idle beside work, p99", ms(self.idle.p99)),
        ]
        return html_table(repr(self), ("", ""), rows)


class TaskSimulation:
    """Tasks on imagined workers, ready to run.

    It runs the core's own leader (placing, stealing, leases, fencing), its replicated state and its
    workers, event by event under virtual time. Imagined are wires, runners, a client, and the log:
    an entry is committed after a drawn time, so no time goes into elections. A run of 64 workers
    and 4 000 tasks takes a fraction of a second; thousands of workers are possible. The same
    arguments and seed give the same run.

    Args:
        workers: How many, from 1 to 20 000, called ``w1``, ``w2`` and so on. One of them leads as
            well: the one nearest to the middle.
        workload: What there is to do; ``None``: a thousand tasks of about 0.1 s.
        slots: Tasks a worker runs at once, from 1 to 1024.
        speeds: Given to the workers in turn, each from 0.01 to 100; 1 is usual.
        positions: Where each worker stands; ``None``: all at one place. See :func:`grid`.
        config: The knobs; ``None``: ``Config.lan()``.
        seed: From 0 to 2**64 - 1.
        latency_s: Least and greatest seconds a word takes, one way, at most 10.
        commit_s: Least and greatest seconds until an entry of the log is committed.
        cpu_available: What every worker says of its CPU, its own tasks not counted, in [0, 1].
        churn: ``(mtbf_s, mttr_s)``: mean seconds until a worker dies, and until it is back; the
            leader's is spared. ``None``: none dies.
        leader_dies_at_s: When leaders die, in seconds after work began; another one begins 20 ms
            later.

    Raises:
        ConfigError: A value is out of bounds; the text names it.

    Example:
        >>> import hustings as hs
        >>> run = hs.TaskSimulation(8, workload=hs.Workload(tasks=80), seed=1).run()
        >>> run.finished, run.makespan_s >= run.bound_s
        (80, True)
    """

    def __init__(
        self,
        workers: int = 16,
        *,
        workload: Workload | None = None,
        slots: int = 1,
        speeds: Sequence[float] = (1.0,),
        positions: Sequence[tuple[float, float]] | None = None,
        config: Config | None = None,
        seed: int = 0,
        latency_s: tuple[float, float] = (0.0002, 0.0006),
        commit_s: tuple[float, float] = (0.0005, 0.0015),
        cpu_available: float = 1.0,
        churn: tuple[float, float] | None = None,
        leader_dies_at_s: Iterable[float] = (),
    ) -> None:
        workload = workload or Workload()
        if not isinstance(workload, Workload):
            raise ConfigError(f"workload={workload!r}: give a hustings.Workload")
        config = config or Config()
        if not isinstance(config, Config):
            raise ConfigError(f"config={config!r}: give a hustings.Config")
        count = whole("workers", workers, 1, MAX_WORKERS)
        given = [number(f"speeds[{i}]", speed, 0.01, 100.0) for i, speed in enumerate(speeds)]
        if not given:
            raise ConfigError("speeds: give at least one")
        places = [_position(i, place) for i, place in enumerate(positions or ())]
        if positions is not None and len(places) != count:
            raise ConfigError(f"positions: {len(places)} for {count} workers; give one each")
        self.workers = count
        self.workload = workload
        self.config = config
        self.seed = whole("seed", seed, 0, 2**64 - 1)
        self._spec: dict[str, Any] = {
            "workers": count,
            "slots": whole("slots", slots, 1, 1_024),
            "speeds": given,
            "positions": places,
            "workload": workload.as_dict(),
            "config": config.resolved(),
            "seed": self.seed,
            "latency_s": _pair("latency_s", latency_s, 0.0, 10.0),
            "commit_s": _pair("commit_s", commit_s, 0.0, 10.0),
            "cpu_available": number("cpu_available", cpu_available, 0.0, 1.0),
            "churn": None if churn is None else _lives(churn),
            "leader_dies_at_s": [
                number("leader_dies_at_s", at, 0.0, 1e6) for at in leader_dies_at_s
            ],
            "rows": True,
        }

    def run(self) -> TaskRun:
        """Runs it until every task has its outcome. Blocks, without the GIL."""
        return self._run(self.seed, rows=True)

    def sweep(self, seeds: Iterable[int], *, threads: int | None = None) -> list[TaskRun]:
        """Runs it once for every seed, on ``threads`` threads (default: all cores); without rows,
        so there is nothing to draw."""
        chosen = [whole("seeds", seed, 0, 2**64 - 1) for seed in seeds]
        if not chosen:
            raise ConfigError("seeds: give at least one")
        most = cores() if threads is None else whole("threads", threads, 1, 256)
        with ThreadPoolExecutor(most) as pool:
            return list(pool.map(lambda seed: self._run(seed, rows=False), chosen))

    def _run(self, seed: int, *, rows: bool) -> TaskRun:
        result = _core.run_shop({**self._spec, "seed": seed, "rows": rows})
        checked = result.pop("checked")
        flaws = ("lost", "double", "invented", "contradicting")
        names = [f"w{i + 1}" for i in range(self.workers)]
        places = self._spec["positions"] or [(0.0, 0.0)] * self.workers
        speeds = self._spec["speeds"]
        makespan = result.pop("makespan_s")
        return TaskRun(
            seed=seed,
            makespan_s=math.nan if makespan is None else makespan,
            stays=Stays(*result.pop("stays")),
            ideal=Stays(*result.pop("ideal")),
            idle=Stays(*result.pop("spell")),
            idle_spells=result.pop("spells"),
            flaws=sum(len(checked[flaw]) for flaw in flaws),
            began_s=result.pop("began_us") / 1e6,
            positions=dict(zip(names, places, strict=True)),
            speeds={name: speeds[i % len(speeds)] for i, name in enumerate(names)},
            reach=(float(self.config.assign_reach or 0.0), float(self.config.steal.reach or 0.0)),
            # Only leaders write rows.
            events=EventLog(
                result.pop("rows"), {f"{i + 1:016x}": name for i, name in enumerate(names)}
            ),
            **result,
        )

    def __repr__(self) -> str:
        return f"TaskSimulation({self.workers} workers, {self.workload}, seed={self.seed})"


def grid(columns: int, rows: int, spacing: float = 1.0) -> list[tuple[float, float]]:
    """Positions of ``columns x rows`` workers, a row after the other, ``spacing`` apart."""
    whole("columns", columns, 1, MAX_WORKERS)
    whole("rows", rows, 1, MAX_WORKERS)
    step = number("spacing", spacing, 0.0, 1e9)
    return [(step * (i % columns), step * (i // columns)) for i in range(columns * rows)]


def _position(index: int, place: object) -> tuple[float, float]:
    if not isinstance(place, (tuple, list)) or len(place) != 2:
        raise ConfigError(f"positions[{index}]={place!r}: give (x, y)")
    x, y = (number(f"positions[{index}]", part, -1e9, 1e9) for part in place)
    return x, y


def _pair(name: str, value: object, least: float, most: float) -> tuple[float, float]:
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        raise ConfigError(f"{name}={value!r}: give (least, greatest) seconds")
    low, high = (number(name, part, least, most) for part in value)
    if low > high:
        raise ConfigError(f"{name}={value!r}: the least is greater than the greatest")
    return low, high


def _lives(churn: object) -> tuple[float, float]:
    if not isinstance(churn, (tuple, list)) or len(churn) != 2:
        raise ConfigError(f"churn={churn!r}: give (mtbf_s, mttr_s)")
    mtbf_s, mttr_s = (number("churn", part, 1e-3, 1e6) for part in churn)
    return mtbf_s, mttr_s


__all__ = ["Stays", "TaskRun", "TaskSimulation", "grid"]
