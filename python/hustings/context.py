"""What a running task may know of itself: which attempt it is, until when, and its fencing
token."""

from __future__ import annotations

import time
from dataclasses import dataclass

from .errors import NoTaskError


@dataclass(frozen=True)
class TaskContext:
    """The attempt that runs here. Get it with :func:`get_context`.

    An attempt that is cancelled, or runs past its deadline, is killed with its process: there is
    nothing it could ask for.
    """

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

    def remaining(self) -> float | None:
        """Seconds until ``deadline``, never negative; ``None`` without one."""
        return None if self.deadline is None else max(0.0, self.deadline - time.time())


def get_context() -> TaskContext:
    """The task that runs in this process. Raises ``NoTaskError`` outside of one."""
    from . import _runner

    info = _runner.info
    if info is None:
        raise NoTaskError(
            "get_context: no task runs here; a task called directly, as f(x), is a plain function"
        )
    timeout, end_by = info["timeout_s"], info["end_by"]
    ends = [end_by] if end_by is not None else []
    if timeout is not None:
        ends.append(_runner.started_at + timeout)
    return TaskContext(
        task_id=info["task_id"],
        attempt=info["attempt"],
        fencing_token=info["fencing_token"],
        key=info["key"],
        timeout=timeout,
        deadline=min(ends, default=None),
    )


__all__ = ["TaskContext", "get_context"]
