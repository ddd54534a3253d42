"""What imagined clusters have to do: how long tasks take, when they come, what can be known of
them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from .errors import ConfigError, did_you_mean

SIZES = ("constant", "uniform", "exponential", "pareto", "bimodal")
"""Distributions of the time a task takes."""
KNOWLEDGE = ("nothing", "names", "lessons")
"""What the leader can know of it before."""
MAX_TASKS = 2_000_000
"""Tasks of one run."""


@dataclass(frozen=True, kw_only=True)
class Workload:
    """Tasks for ``hs.TaskSimulation``; what they take follows from the seed of the run alone.

    Args:
        tasks: How many, from 1 to 2 000 000.
        sizes: How the times of tasks are distributed, all with the same mean: ``"constant"``,
            ``"uniform"`` (from a half to one and a half of the mean), ``"exponential"``,
            ``"pareto"`` (shape 1.5, cut at 30 means), ``"bimodal"`` (one in ten takes twenty times
            as long as the others).
        mean_s: Mean seconds of a task on a worker of speed 1, from 0.00001 to 3600.
        straggling: The share of attempts that take ten times as long, wherever they run, in [0, 1].
        slow_spells: The share of seconds, drawn for each worker, in which it takes ten times as
            long over whatever it begins, in [0, 1]; a copy elsewhere does not.
        knowledge: What names tell of times. ``"nothing"``: there is one function. ``"names"``:
            calls of one function lie within a factor of two, and the leader learns it as they
            return. ``"lessons"``: likewise, and three calls of each have run before the clock
            starts.
        idempotent: Tasks may run twice at once, so that stragglers can be copied.
        pile_up: All tasks are there before the other workers come, 0.1 s later.
        rho: ``None``: all tasks come at once. A number from 0.01 to 2: they come one by one at
            random (Poisson), so that all places together are busy this share of the time.

    Raises:
        ConfigError: A value is out of bounds; the text names it.

    Example:
        >>> Workload(tasks=600, sizes="pareto").mean_s
        0.1
    """

    tasks: int = 1_000
    sizes: str = "uniform"
    mean_s: float = 0.1
    straggling: float = 0.0
    slow_spells: float = 0.0
    knowledge: str = "nothing"
    idempotent: bool = False
    pile_up: bool = False
    rho: float | None = None

    def __post_init__(self) -> None:
        """Checks every value."""
        whole("workload.tasks", self.tasks, 1, MAX_TASKS)
        for field, value, known in (
            ("sizes", self.sizes, SIZES),
            ("knowledge", self.knowledge, KNOWLEDGE),
        ):
            if value not in known:
                hint = did_you_mean(str(value), known)
                raise ConfigError(
                    f"workload.{field}={value!r}: give one of {', '.join(known)}{hint}"
                )
        number("workload.mean_s", self.mean_s, 1e-5, 3_600.0)
        number("workload.straggling", self.straggling, 0.0, 1.0)
        number("workload.slow_spells", self.slow_spells, 0.0, 1.0)
        if self.rho is not None:
            number("workload.rho", self.rho, 0.01, 2.0)

    def as_dict(self) -> dict[str, Any]:
        """Every value by name."""
        return asdict(self)


WORKLOADS: Mapping[str, Mapping[str, Any]] = {
    "uniform": {"sizes": "uniform"},
    "exponential": {"sizes": "exponential"},
    "pareto": {"sizes": "pareto"},
    "pareto, learnt": {"sizes": "pareto", "knowledge": "lessons"},
    "bimodal": {"sizes": "bimodal"},
    "pile-up": {"sizes": "uniform", "pile_up": True},
    "stragglers": {"sizes": "uniform", "straggling": 0.01, "idempotent": True},
    "slow spells": {"sizes": "uniform", "slow_spells": 0.02, "idempotent": True},
}
"""The workloads that are measured, by name: what to give to :class:`Workload` beside the number of
tasks and their mean."""


def number(name: str, value: object, least: float, most: float) -> float:
    """A number within its bounds; raises ``ConfigError`` by name."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not least <= value <= most:
        raise ConfigError(f"{name}={value!r}: give a number from {least:g} to {most:g}")
    return float(value)


def whole(name: str, value: object, least: int, most: int) -> int:
    """A whole number within its bounds; raises ``ConfigError`` by name."""
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise ConfigError(f"{name}={value!r}: give a whole number from {least} to {most}")
    return value


__all__ = ["WORKLOADS", "Workload"]
