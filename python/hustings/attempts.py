"""Attempts read from a history of tasks: which node ran what from when to when; what Gantt charts
are drawn from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Attempt:
    """One attempt of a task on one node."""

    task: str
    node: str
    since_s: float
    """When it began, in seconds since the first row."""
    until_s: float
    """When it ended, or the last row, if it never did."""
    ended: bool
    again: bool
    """The task had begun before, elsewhere or here."""


def read_attempts(obj: Any) -> list[Attempt]:
    """The attempts in a simulated run, or in rows of a history of tasks, in order of their begin.

    Args:
        obj: what has ``task_rows``, or such rows: mappings with ``at_us``, ``kind``, ``task``, and
            ``node`` and ``token`` where ``kind`` is ``"started"`` or ``"ended"``.

    Raises:
        TypeError: it is neither.
        ValueError: nothing began.
    """
    rows = _rows_of(obj)
    if not rows:
        raise ValueError("no task began: nothing to draw")
    first = min(int(row["at_us"]) for row in rows)
    last = max(int(row["at_us"]) for row in rows)
    began: dict[tuple[str, str, int], int] = {}
    seen: set[str] = set()
    found: list[Attempt] = []

    def add(key: tuple[str, str, int], since: int, until: int, ended: bool) -> None:
        task, node, _ = key
        at, to = (since - first) / 1e6, (until - first) / 1e6
        found.append(Attempt(task, node, at, to, ended, again=False))

    for row in sorted(rows, key=lambda row: int(row["at_us"])):
        key = (str(row["task"]), str(row["node"]), int(row.get("token") or 0))
        if row["kind"] == "started":
            began[key] = int(row["at_us"])
        elif key in began:
            add(key, began.pop(key), int(row["at_us"]), True)
    for key, since in began.items():
        add(key, since, last, False)
    found.sort(key=lambda attempt: attempt.since_s)
    return [_mark(attempt, seen) for attempt in found]


def _mark(attempt: Attempt, seen: set[str]) -> Attempt:
    again = attempt.task in seen
    seen.add(attempt.task)
    if not again:
        return attempt
    return Attempt(
        attempt.task, attempt.node, attempt.since_s, attempt.until_s, attempt.ended, again=True
    )


def _rows_of(obj: Any) -> Sequence[Mapping[str, Any]]:
    rows = getattr(obj, "task_rows", obj)
    wrong = TypeError(
        f"{type(obj).__name__}: give a simulated run, or rows of a history of tasks "
        "(at_us, kind, task, node, token)"
    )
    if isinstance(rows, (str, bytes, Mapping)) or not isinstance(rows, Iterable):
        raise wrong
    kept = []
    for row in rows:
        if not isinstance(row, Mapping) or not {"at_us", "kind", "task"} <= row.keys():
            raise wrong
        if row["kind"] in ("started", "ended") and row.get("node"):
            kept.append(row)
    return kept


__all__ = ["Attempt", "read_attempts"]
