"""Why a task is where it is, and what happened to it so far: what ``why()`` and ``history()``
return."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any


@dataclass(frozen=True)
class Explanation:
    """Why a task is where it is: a sentence for people, and the same as data."""

    kind: str
    """``"finished"``, ``"running"``, ``"assigned"`` (given to a node, not known to run),
    ``"proposed"``, ``"delayed"``, ``"queued"``, ``"full"`` (every node in reach is), ``"no_node"``
    (none can take it), ``"no_quorum"``, ``"sending"`` (not yet at the cluster), ``"rejected"`` or
    ``"unknown"``."""
    sentence: str
    """The answer in words."""
    facts: Mapping[str, float | str] = field(default_factory=dict)
    """What the sentence is made of: counts, names, and seconds where a name ends in ``_s``."""

    def __str__(self) -> str:
        return self.sentence


@dataclass(frozen=True)
class TaskEvent:
    """One step of a task's history."""

    at: float
    """When, in seconds since 1970 by the leader's clock."""
    kind: str
    """``"accepted"``, ``"assigned"``, ``"stolen"``, ``"failed"``, ``"timed_out"``, ``"crashed"``,
    ``"handed_back"``, ``"node_lost"``, ``"replaced"``; last of all ``"succeeded"``, ``"failed"``,
    ``"cancelled"``, ``"expired"`` or ``"quarantined"``."""
    node: str | None = None
    """The name of the node, or its id if it is gone; ``None`` for nobody."""
    attempt: int = 0
    """Which attempt, counted from 1; 0 for none."""

    def __str__(self) -> str:
        time = datetime.fromtimestamp(self.at, timezone.utc).strftime("%H:%M:%S.%f")[:-3]
        place = f" on {self.node}" if self.node else ""
        attempt = f", attempt {self.attempt}" if self.attempt else ""
        return f"{time} {self.kind}{place}{attempt}"


def build_explanation(told: Mapping[str, Any]) -> Explanation:
    """The explanation in what the native client was told."""
    return Explanation(str(told["kind"]), str(told["sentence"]), dict(told["facts"]))


def build_history(told: Mapping[str, Any]) -> list[TaskEvent]:
    """The history in what the native client was told; steps left out of a long one are said so."""
    events = [
        TaskEvent(step["at_ms"] / 1000, step["kind"], step["node_name"], step["attempt"])
        for step in told["history"]
    ]
    if told["skipped"]:
        kind = f"... {told['skipped']} steps left out"
        events.insert(min(9, len(events)), TaskEvent(events[0].at, kind))
    return events


__all__ = ["Explanation", "TaskEvent"]
