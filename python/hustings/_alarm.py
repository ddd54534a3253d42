"""The soft end of an attempt: at its timeout it raises where it stands, so that the traceback says
where that was; when it is cancelled it may look. What does not heed it, the node kills a second
later."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, TypeVar

from . import _coroutine
from .errors import TaskTimeoutError

R = TypeVar("R")

_limit_s = 0.0
"""The timeout that is being watched; 0: none."""
_fired = False
_token = 0
"""The fencing token of the attempt that runs; 0: none does."""
_cancelled = 0
"""That of the attempt that was cancelled last."""


def begin(fencing_token: int) -> None:
    """That attempt runs from now on; 0: none does."""
    global _token
    _token = fencing_token


def is_cancelled(fencing_token: int) -> bool:
    """Whether that attempt is not wanted any more."""
    return _cancelled == fencing_token


def on_cancel(_signal: int, _frame: FrameType | None) -> Any:
    """The node's word that the attempt which runs is not wanted: a coroutine is cancelled, a
    function may look."""
    global _cancelled
    if _token:
        _cancelled = _token
        _coroutine.interrupt()


def call_within(seconds: float, fn: Callable[[], R]) -> R:
    """What ``fn`` returns; after ``seconds`` it raises ``TaskTimeoutError``, once.

    Only on the main thread, and only where it is not in native code that holds on to it.
    """
    global _limit_s, _fired
    _limit_s, _fired = seconds, False
    # Set each time: a task before may have had alarms of its own.
    signal.signal(signal.SIGALRM, _on_alarm)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        return fn()
    except asyncio.CancelledError as error:
        if not _fired:
            raise
        raise over(seconds) from error
    except TaskTimeoutError as error:
        if _fired:
            _cut_tail(error)
        raise
    finally:
        _limit_s = 0.0
        signal.setitimer(signal.ITIMER_REAL, 0)


def _on_alarm(_signal: int, _frame: FrameType | None) -> Any:
    global _fired
    # The call may have returned while the alarm was on its way.
    if _limit_s:
        _fired = True
        if not _coroutine.interrupt():
            raise over(_limit_s)


def over(seconds: float) -> TaskTimeoutError:
    """What an attempt raises at its timeout."""
    return TaskTimeoutError(f"the task ran longer than its timeout of {seconds:g} s")


def _cut_tail(error: BaseException) -> None:
    """Takes our handler off the end of the traceback: it ends where the task stood."""
    at: TracebackType | None = error.__traceback__
    while at is not None and at.tb_next is not None:
        if at.tb_next.tb_frame.f_code is _on_alarm.__code__:
            at.tb_next = None
        at = at.tb_next
