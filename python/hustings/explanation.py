"""Why a task is where it is, and what happened to it so far: what ``why()`` and ``history()``
return."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

from . import _core
from .tasks import task_id_bytes


@dataclass(frozen=True)
class Explanation:
    """Why a task is where it is: a sentence for people, and the same as data."""

    kind: str
    """``"finished"``, ``"running"``, ``"assigned"`` (given to a node, not known to run),
    ``"proposed"``, ``"delayed"``, ``"queued"``, ``"full"`` (every node in reach is),
    ``"out_of_reach"`` (only nodes beyond the leader's reach could take it), ``"infeasible"`` (no
    member offers what it needs), ``"no_node"`` (none can take it), ``"no_quorum"``, ``"sending"``
    (not yet at the cluster), ``"rejected"`` or ``"unknown"``."""
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
    """``"accepted"``, ``"assigned"``, ``"stolen"``, ``"copied"`` (beside an attempt that takes too
    long), ``"failed"``, ``"timed_out"``, ``"crashed"``,
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


class Explained:
    """What a cluster says of single tasks."""

    _client: _core.Client

    def why(self, task: _core.Future[Any] | uuid.UUID | str | bytes) -> Explanation:
        """Why a task is where it is, whoever submitted it."""
        return build_explanation(self._explain(task))

    def history(self, task: _core.Future[Any] | uuid.UUID | str | bytes) -> list[TaskEvent]:
        """What happened to a task so far, whoever submitted it."""
        return build_history(self._explain(task))

    def _explain(self, task: _core.Future[Any] | uuid.UUID | str | bytes) -> dict[str, Any]:
        identity = task.task_id if isinstance(task, _core.Future) else task
        return self._client.explain(task_id_bytes(identity))


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
