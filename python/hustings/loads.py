"""Synthetic loads for ``Cluster.local(loads=...)``: on one machine all nodes measure the same, so
give each its own.

Every source is labelled synthetic in what the nodes report. Availabilities lie in [0, 1]; 1 is
idle or plentiful.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from .errors import ConfigError

PERIOD_S = 0.25
"""Spacing of generated samples: the rate at which nodes measure themselves."""
LENGTH_S = 3600.0
"""Length of generated traces; they repeat."""
MAX_POINTS = 100_000
"""The longest trace that is accepted."""


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
