"""Loads for ``Cluster.local(loads=...)`` and for simulations: on one machine all nodes measure the
same, so give each its own.

Every source but :func:`measured` is labelled synthetic in what the nodes report. Availabilities lie
in [0, 1]; 1 is idle or plentiful. What is drawn by chance is the same for each seed, and other for
each node.
"""

from __future__ import annotations

import csv
import itertools
import math
import os
import random
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from .errors import ConfigError

PERIOD_S = 0.25
"""Spacing of generated samples: the rate at which nodes measure themselves."""
LENGTH_S = 3600.0
"""Length of generated traces; they repeat."""
MAX_POINTS = 100_000
"""The longest trace that is accepted."""
RECORDING_LIMIT_BYTES = 16 << 20
"""The largest file that is replayed."""


@dataclass(frozen=True)
class LoadSource:
    """Gives node ``index`` of a cluster its load."""

    describe: str
    make: Callable[[int], dict[str, Any]]

    def for_node(self, index: int) -> dict[str, Any]:
        """The mapping that node ``index`` (from 0) is started with."""
        return self.make(index)

    def __repr__(self) -> str:
        return f"loads.{self.describe}"


LoadsArgument: TypeAlias = (
    "LoadSource | Sequence[LoadSource | float] | Mapping[str, LoadSource | float]"
)


def measured(*, own_process: bool = False) -> LoadSource:
    """What this machine really has; what nodes measure where no load is given.

    Args:
        own_process: the node has a process to itself, as in an isolated cluster or under
            ``hustings node``. Then the CPU that this process uses, for leading above all, is not
            counted as load. Nodes that share a process with a script or with each other cannot tell
            whose work it is: there everything counts.
    """
    load = {"kind": "measured", "own_process": bool(own_process)}
    return LoadSource(f"measured(own_process={own_process})", lambda _: dict(load))


def constant(
    cpu: float | Sequence[float] = 0.9, memory: float = 0.9, *, uptime_s: float = 600.0
) -> LoadSource:
    """The same availability for ever; a sequence of ``cpu`` gives one value per node."""
    values = [cpu] if isinstance(cpu, (int, float)) else list(cpu)
    if not values:
        raise ConfigError("cpu: an empty sequence; give one value per node")
    checked = [_ratio("cpu", v) for v in values]
    mem, up = _ratio("memory", memory), _positive("uptime_s", uptime_s, zero=True)

    def make(index: int) -> dict[str, Any]:
        value = checked[index % len(checked)]
        return {"kind": "constant", "cpu": value, "memory": mem, "uptime_s": up}

    return LoadSource(f"constant({cpu!r}, {memory!r})", make)


def trace(
    times: Sequence[float], values: Sequence[float], *, memory: float = 0.9, uptime_s: float = 600.0
) -> LoadSource:
    """A recorded CPU availability: ``values[i]`` holds from ``times[i]`` seconds on; repeats after
    the last."""
    t, v = _checked_trace(times, values)
    extra = {
        "memory": _ratio("memory", memory),
        "uptime_s": _positive("uptime_s", uptime_s, zero=True),
    }
    return LoadSource(
        f"trace({len(t)} points)", lambda _: {"kind": "trace", "times": t, "values": v, **extra}
    )


def steps(*levels: tuple[float, float], memory: float = 0.9, uptime_s: float = 600.0) -> LoadSource:
    """``steps((0, 0.9), (30, 0.2))``: 0.9 from the start, 0.2 from second 30 on, then again from
    the start."""
    if not levels:
        raise ConfigError("steps: give at least one (second, availability)")
    return trace([s for s, _ in levels], [v for _, v in levels], memory=memory, uptime_s=uptime_s)


def noise(
    mean: float = 0.7, deviation: float = 0.1, *, seed: int = 0, memory: float = 0.9
) -> LoadSource:
    """White noise around ``mean``, other for each node, the same for each seed."""
    mu, sd = _ratio("mean", mean), _positive("deviation", deviation, zero=True)

    def make(index: int) -> dict[str, Any]:
        rng = random.Random(f"noise:{seed}:{index}")
        return _generated(lambda: rng.gauss(mu, sd), memory)

    return LoadSource(f"noise({mean!r}, {deviation!r}, seed={seed})", make)


def wandering(seed: int = 0, *, pull_s: float = 40.0, memory: float = 0.9) -> LoadSource:
    """Each node's load wanders slowly around a level of its own; the same for each seed."""
    pull = PERIOD_S / _positive("pull_s", pull_s)

    def make(index: int) -> dict[str, Any]:
        rng = random.Random(f"wandering:{seed}:{index}")
        level = rng.uniform(0.35, 0.95)
        value = level

        def draw() -> float:
            nonlocal value
            value += pull * (level - value) + 0.25 * math.sqrt(2 * pull) * rng.gauss(0.0, 1.0)
            value = min(1.0, max(0.0, value))
            return value

        return _generated(draw, memory)

    return LoadSource(f"wandering(seed={seed})", make)


def spikes(
    base: float = 0.9,
    depth: float = 0.5,
    *,
    every_s: float = 60.0,
    length_s: float = 5.0,
    deviation: float = 0.0,
    seed: int = 0,
    memory: float = 0.9,
) -> LoadSource:
    """Idle but for spikes: ``base``, and ``depth`` less during a spike; other for each node, the
    same for each seed.

    Args:
        base: the CPU availability between spikes.
        depth: how much less it is during one.
        every_s: mean pause between spikes, exponentially distributed.
        length_s: mean length of a spike, exponentially distributed.
        deviation: white noise on top.
        seed: chooses one history of spikes.
        memory: the availability of memory, at all times.
    """
    high, drop = _ratio("base", base), _ratio("depth", depth)
    pause, length = _positive("every_s", every_s), _positive("length_s", length_s)
    sd = _positive("deviation", deviation, zero=True)

    def make(index: int) -> dict[str, Any]:
        rng = random.Random(f"spikes:{seed}:{index}")
        begins = rng.expovariate(1 / pause)
        ends = begins + rng.expovariate(1 / length)
        now = 0.0

        def draw() -> float:
            nonlocal now, begins, ends
            while now >= ends:
                begins = ends + rng.expovariate(1 / pause)
                ends = begins + rng.expovariate(1 / length)
            value = high - drop if now >= begins else high
            now += PERIOD_S
            return value + (rng.gauss(0.0, sd) if sd else 0.0)

        return _generated(draw, memory)

    return LoadSource(f"spikes({base!r}, {depth!r}, seed={seed})", make)


Recording: TypeAlias = "str | os.PathLike[str] | Iterable[Mapping[str, Any] | Sequence[float]]"


def replay(
    recording: Recording, *, shift_s: float = 0.0, memory: float = 0.9, uptime_s: float = 600.0
) -> LoadSource:
    """A recorded load, again and again.

    Args:
        recording: a CSV file with a header and the columns ``time_s``, ``cpu`` and, if it was
            recorded, ``memory`` (availabilities); or rows of these, as mappings or in this order.
            Times may start anywhere.
        shift_s: node i begins i times this far into the recording, so that nodes differ; 0: all
            have the same load.
        memory: the availability of memory where none was recorded.
        uptime_s: how long the nodes pretend to have been up when they start.
    """
    points = list(_points(recording, _ratio("memory", memory)))
    start = points[0][0] if points else 0.0
    times, values = _checked_trace([t - start for t, _, _ in points], [c for _, c, _ in points])
    memories = [_ratio(f"memory[{i}]", m) for i, (_, _, m) in enumerate(points)]
    shift = _positive("shift_s", shift_s, zero=True)
    uptime = _positive("uptime_s", uptime_s, zero=True)

    def make(index: int) -> dict[str, Any]:
        t, v, m = _shifted(times, values, memories, index * shift)
        return {"kind": "trace", "times": t, "values": v, "memories": m, "uptime_s": uptime}

    return LoadSource(f"replay({len(times)} points)", make)


def _points(recording: Recording, memory: float) -> Iterator[tuple[float, float, float]]:
    """(time, cpu, memory) of each row; says which one is wrong."""
    for number, row in enumerate(_recorded(recording), start=1):
        if isinstance(row, Mapping):
            cells = [row.get("time_s"), row.get("cpu"), row.get("memory")]
        else:
            cells = [*row, None, None, None][:3]
        if cells[2] in (None, ""):
            cells[2] = memory
        try:
            time, cpu, free = (float(cell) for cell in cells)  # type: ignore[arg-type]
        except (TypeError, ValueError):
            raise ConfigError(
                f"recording, row {number}: {row!r}: give time_s, cpu and perhaps memory as numbers"
            ) from None
        yield time, cpu, free


def _recorded(recording: Recording) -> Iterable[Any]:
    if not isinstance(recording, (str, os.PathLike)):
        return recording
    path = Path(recording)
    try:
        size = path.stat().st_size
        if size > RECORDING_LIMIT_BYTES:
            raise ConfigError(f"{path} is {size} bytes, the limit is {RECORDING_LIMIT_BYTES}")
        rows = list(csv.DictReader(path.read_text(encoding="utf-8-sig").splitlines()))
    except (OSError, UnicodeError, csv.Error) as error:
        raise ConfigError(f"{path}: {error}") from error
    if not rows or not {"time_s", "cpu"} <= set(rows[0]):
        raise ConfigError(f"{path}: give a header with time_s, cpu and perhaps memory, then rows")
    return rows


def _shifted(
    times: list[float], values: list[float], memories: list[float], by_s: float
) -> tuple[list[float], list[float], list[float]]:
    """The same trace, begun at the point it holds after ``by_s`` seconds."""
    # It repeats after its last point was held as long as the one before.
    length = 2 * times[-1] - times[-2] if len(times) > 1 else math.inf
    first = bisect_right(times, by_s % length) - 1
    order = [*range(first, len(times)), *range(first)]
    starts = [(times[i] - times[first]) % length for i in order]
    return starts, [values[i] for i in order], [memories[i] for i in order]


def resolve(loads: LoadsArgument | None, names: Sequence[str]) -> list[dict[str, Any] | None]:
    """One mapping (or ``None``: measure) per node, from whatever ``loads=`` was given."""
    if loads is None:
        return [None] * len(names)
    if isinstance(loads, LoadSource):
        return [loads.for_node(i) for i in range(len(names))]
    if isinstance(loads, Mapping):
        unknown = sorted(set(loads) - set(names))
        if unknown:
            raise ConfigError(
                f"loads: no node is called {unknown[0]!r}; the nodes are {', '.join(names)}"
            )
        picked = [loads.get(name) for name in names]
    elif isinstance(loads, Sequence) and not isinstance(loads, (str, bytes)):
        if len(loads) != len(names):
            raise ConfigError(
                f"loads: {len(loads)} entries for {len(names)} nodes; give one per node"
            )
        picked = list(loads)
    else:
        raise ConfigError(f"loads={loads!r}: give a source from hustings.loads, or one per node")
    return [None if p is None else _source(i, p).for_node(i) for i, p in enumerate(picked)]


def _source(index: int, value: LoadSource | float) -> LoadSource:
    if isinstance(value, LoadSource):
        return value
    level = _ratio(f"loads[{index}]", value)
    return constant(level, level)


def _generated(draw: Callable[[], float], memory: float) -> dict[str, Any]:
    count = int(LENGTH_S / PERIOD_S)
    return {
        "kind": "trace",
        "times": [i * PERIOD_S for i in range(count)],
        "values": [round(min(1.0, max(0.0, draw())), 4) for _ in range(count)],
        "memory": _ratio("memory", memory),
        "uptime_s": 600.0,
    }


def _checked_trace(
    times: Sequence[float], values: Sequence[float]
) -> tuple[list[float], list[float]]:
    if len(times) != len(values):
        raise ConfigError(
            f"times has {len(times)} entries and values {len(values)}; they must match"
        )
    if not 1 <= len(times) <= MAX_POINTS:
        raise ConfigError(f"times has {len(times)} entries; give 1 to {MAX_POINTS}")
    t = [_positive(f"times[{i}]", x, zero=True) for i, x in enumerate(times)]
    if t[0] != 0.0 or any(b <= a for a, b in itertools.pairwise(t)):
        raise ConfigError("times must start at 0 and increase")
    return t, [_ratio(f"values[{i}]", x) for i, x in enumerate(values)]


def _ratio(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0.0 <= value <= 1.0:
        raise ConfigError(f"{name}={value!r}: give an availability from 0 (busy) to 1 (idle)")
    return float(value)


def _positive(name: str, value: object, *, zero: bool = False) -> float:
    checked = math.nan
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        checked = float(value)
    if not math.isfinite(checked) or checked < 0 or (checked == 0 and not zero):
        raise ConfigError(
            f"{name}={value!r}: give a {'non-negative' if zero else 'positive'}, finite number"
        )
    return checked
