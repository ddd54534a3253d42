"""What a running task may know of itself, and what it may say of itself: which attempt it is, until
when, its fencing token; how far it is."""

from __future__ import annotations

import math
import os
import time
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from .errors import NoTaskError

MAX_NOTE = 200
"""Characters of a note that travel."""


class Progress(NamedTuple):
    """How far a task is, by its own words."""

    done: float
    """So much is done."""
    total: float | None = None
    """Of so much; ``None``: the task does not know."""
    note: str = ""
    """A few words."""

    @property
    def fraction(self) -> float | None:
        """``done / total``, in [0, 1]; ``None`` without a total."""
        return None if not self.total else min(1.0, self.done / self.total)

    def __str__(self) -> str:
        share = self.fraction
        told = f"{self.done:g} done" if share is None else f"{share:.0%}"
        return f"{told}: {self.note}" if self.note else told


@dataclass(frozen=True)
class TaskContext:
    """The attempt that runs here. Get it with :func:`get_context`."""

    task_id: str
    """The task's id, a UUID."""
    attempt: int
    """Counted from 1."""
    fencing_token: int
    """Grows with every attempt of every task. Store it with what the task writes, and refuse a
    write whose token is lower than the stored one: then an attempt that was given up and wakes up
    late changes nothing."""
    key: str | None = None
    """The task's ``key``."""
    timeout: float | None = None
    """Seconds this attempt may take."""
    deadline: float | None = None
    """When this attempt is ended, in seconds since 1970 (as ``time.time()``): by the attempt's
    ``timeout`` or the task's ``deadline``, whichever comes first. ``None``: never."""
    node: str = ""
    """The name of the node that runs it."""
    traceparent: str | None = None
    """The trace the task belongs to, in the words of W3C Trace Context; see
    ``TaskOptions.traceparent``."""
    _seat: Any = field(default=None, repr=False, compare=False)

    @property
    def cancelled(self) -> bool:
        """Whether this attempt is not wanted any more: it was cancelled, or its task is past its
        ``deadline``. It has a second to end; then it is killed with its process. What it returns
        or raises is nobody's concern any more."""
        if self._seat is not None:
            return bool(self._seat.is_cancelled(self.fencing_token))
        from . import _alarm

        return _alarm.is_cancelled(self.fencing_token)

    def remaining(self) -> float | None:
        """Seconds until ``deadline``, never negative; ``None`` without one."""
        return None if self.deadline is None else max(0.0, self.deadline - time.time())

    def progress(self, done: float, total: float | None = 1.0, note: str = "") -> None:
        """Says how far this attempt is; whoever submitted the task sees it as ``future.progress``.

        ``progress(0.4)`` is a share, ``progress(4, 10, "resizing")`` a count of a count,
        ``progress(4, None)`` a count of nobody knows how many. Never blocks. It may be called as
        often as one likes: ten times a second it is passed on, and always once ``done`` reaches
        ``total``.

        Args:
            done: How much is done, 0 or more.
            total: Of how much, more than 0, or ``None``.
            note: A few words; ``MAX_NOTE`` characters are passed on.

        Raises:
            TypeError: A number or text is none.
            ValueError: ``done`` or ``total`` is out of bounds.
        """
        from . import _words

        _check_number("done", done, least=0.0)
        if total is not None:
            _check_number("total", total, least=math.ulp(0.0))
        if not isinstance(note, str):
            raise TypeError(f"note={note!r}: give text")
        told = float(done), float(total or 0.0), note[:MAX_NOTE]
        if self._seat is not None:
            self._seat.progress(self.fencing_token, *told)
        else:
            _words.report_progress(*told)


def _check_number(name: str, value: object, *, least: float) -> None:
    bound = f"a number {'of 0 or more' if least == 0 else 'above 0'}"
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name}={value!r}: give {bound}")
    if not math.isfinite(value) or value < least:
        raise ValueError(f"{name}={value!r}: give {bound}")


def get_context() -> TaskContext:
    """The task that runs in this process, or in this thread if its ``run_in`` is that. Raises
    ``NoTaskError`` outside of one."""
    from . import _runner
    from ._terms import here

    info, started_at, seat = here.info, here.started_at, here.seat
    if seat is None:
        info, started_at = _runner.info, _runner.started_at
    if info is None:
        raise NoTaskError(
            "get_context: no task runs here; a task called directly, as f(x), is a plain function"
        )
    timeout, end_by = info["timeout_s"], info["end_by"]
    ends = [end_by] if end_by is not None else []
    if timeout is not None:
        ends.append(started_at + timeout)
    return TaskContext(
        task_id=info["task_id"],
        attempt=info["attempt"],
        fencing_token=info["fencing_token"],
        key=info["key"],
        timeout=timeout,
        deadline=min(ends, default=None),
        node=os.environ.get("HUSTINGS_NODE_NAME", "") if seat is None else seat.node,
        traceparent=info["traceparent"],
        _seat=seat,
    )


__all__ = ["Progress", "TaskContext", "get_context"]
