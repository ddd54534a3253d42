"""How often nodes fail by chance: one description for live clusters and simulated ones."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

from .errors import ConfigError, did_you_mean

KINDS = ("kill", "freeze", "partition")
"""What can befall a node by chance, live and imagined."""
IMAGINED_KINDS = ("one_way", "loss", "delay", "clock", "handover")
"""What else can befall a simulated node: it is not heard, or does not hear; its messages are lost
or late; its clock runs at half or double speed; leadership moves whatever the scores say."""
DISK_KINDS = ("power_cut", "torn", "rot", "full", "sync_error", "slow_disk")
"""What can befall the imagined disks of simulated voters (``disk="imagined"``): the power of all of
them goes at once, or of one; a bit turns over while its node is down; nothing more fits; a sync
fails; everything durable takes 50 to 500 ms."""
MIN_S, MAX_S = 0.01, 1e9
"""Bounds of both times, in seconds: from a hundredth to some thirty years."""
MAX_SEED = 2**64 - 1


@dataclass(frozen=True)
class RandomFailures:
    """Every node fails by itself, again and again, after times drawn from exponential laws.

    Args:
        mtbf_s: Mean seconds from a node's repair to its next failure, in [0.01, 1e9].
        mttr_s: Mean seconds from a node's failure to its repair, in [0.01, 1e9].
        kinds: What may happen, each equally likely: ``"kill"`` (and a restart, empty and under a
            new id), ``"freeze"`` (and a resume), ``"partition"`` (the node alone on one side, and a
            healing). A simulation also knows ``"one_way"``, ``"loss"``, ``"delay"``, ``"clock"``
            and ``"handover"``, and with imagined disks ``"power_cut"``, ``"torn"``, ``"rot"``,
            ``"full"``, ``"sync_error"`` and ``"slow_disk"``.
        seed: Of the generator, from 0 to 2**64 - 1. In a simulation the same seed gives the same
            failures; on a live cluster the same plan, but the machine's clock decides the moments.
        spare_majority: Never have so many voters down at once that the rest is no majority; such a
            failure does not happen. ``False``: anything goes.

    Raises:
        ConfigError: A value is out of bounds; the text names it.
    """

    mtbf_s: float
    mttr_s: float
    kinds: tuple[str, ...] = field(default=("kill",), kw_only=True)
    seed: int = field(default=0, kw_only=True)
    spare_majority: bool = field(default=True, kw_only=True)

    def __post_init__(self) -> None:
        for name in ("mtbf_s", "mttr_s"):
            object.__setattr__(self, name, _seconds(name, getattr(self, name)))
        object.__setattr__(self, "kinds", _kinds(self.kinds))
        seed = self.seed
        if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed <= MAX_SEED:
            raise ConfigError(f"seed={seed!r}: give a whole number from 0 to 2**64 - 1")
        if not isinstance(self.spare_majority, bool):
            raise ConfigError(f"spare_majority={self.spare_majority!r}: give True or False")


def _seconds(name: str, value: object) -> float:
    if (
        isinstance(value, bool)
        or not isinstance(value, (int, float))
        or not math.isfinite(value)
        or not MIN_S <= value <= MAX_S
    ):
        raise ConfigError(f"{name}={value!r}: give seconds from {MIN_S:g} to {MAX_S:g}")
    return float(value)


def _kinds(value: object) -> tuple[str, ...]:
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise ConfigError(f'kinds={value!r}: give a tuple of names, e.g. ("kill", "freeze")')
    kinds, known = tuple(value), (*KINDS, *IMAGINED_KINDS, *DISK_KINDS)
    for kind in kinds:
        if kind not in known:
            hint = did_you_mean(str(kind), known)
            raise ConfigError(f"kinds: {kind!r} is none of {', '.join(known)}{hint}")
    if not kinds:
        raise ConfigError(f"kinds=(): give at least one of {', '.join(KINDS)}")
    return tuple(dict.fromkeys(kinds))


__all__ = ["DISK_KINDS", "IMAGINED_KINDS", "KINDS", "RandomFailures"]
