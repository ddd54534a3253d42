"""Tasks that sleep, drawn from a seed: the same work for every system that is measured."""

from __future__ import annotations

import random
from collections.abc import Sequence

SHAPE, CAP = 1.5, 30.0
"""Of the Pareto distribution: its shape, and at how many means its tail is cut."""
LONG, SHARE = 20.0, 0.1
"""Of the tasks of two kinds: how much longer the long ones take, and how many are long."""
SLOWER, RARELY = 10.0, 0.01
"""Of the stragglers: how much longer they take than the others, and how many they are."""


COUNTS = {
    "w3": 3_000,
    "w4": 300,
    "uniform": 500,
    "exponential": 500,
    "pareto": 500,
    "bimodal": 500,
    "stragglers": 500,
}
"""The kinds, and how many tasks of each are measured."""


def chosen(kinds: str) -> dict[str, int]:
    """Those of ``kinds``, by comma, and how many tasks of each; all without any."""
    names = [name for name in kinds.split(",") if name]
    if unknown := [name for name in names if name not in COUNTS]:
        raise SystemExit(f"--kinds {unknown[0]!r}: give some of {', '.join(COUNTS)}")
    return {name: COUNTS[name] for name in names or COUNTS}


def jobs(kind: str, count: int, mean_s: float, seed: int) -> list[float]:
    """Seconds of each task; the kinds are those of ``hustings.Workload``, ``"w3"`` (1 ms each) and
    ``"w4"`` (one in ten takes 100 ms, these first, the others 5 ms)."""
    chance = random.Random(seed)
    if kind == "w3":
        return [0.001] * count
    if kind == "w4":
        long = count // 10
        return [0.1] * long + [0.005] * (count - long)
    return [mean_s * _factor(kind, chance) for _ in range(count)]


def _factor(kind: str, chance: random.Random) -> float:
    if kind == "uniform":
        return 0.5 + chance.random()
    if kind == "exponential":
        return chance.expovariate(1.0)
    if kind == "pareto":
        least = (SHAPE - 1) / SHAPE
        return min(least * (1 - chance.random()) ** (-1 / SHAPE), CAP)
    if kind == "bimodal":
        short = 1 / (LONG * SHARE + 1 - SHARE)
        return LONG * short if chance.random() < SHARE else short
    if kind == "stragglers":
        usual = 1 / (SLOWER * RARELY + 1 - RARELY)
        return (0.5 + chance.random()) * usual * (SLOWER if chance.random() < RARELY else 1)
    raise ValueError(f"{kind!r}: no such work")


def lower_bound(work: Sequence[float], places: int) -> float:
    """What no schedule on so many equal places can beat."""
    return max(sum(work) / places, max(work))
