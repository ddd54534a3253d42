"""Threads of a node's own process that run attempts of tasks with ``run_in="thread"``.

A thread is started for a seat of the native node, takes attempts from it, and ends when it closes.
Nobody can end a thread from outside: at its timeout an attempt is raised ``TaskTimeoutError`` where
it next runs Python code, and what does not end by that is given up.
"""

from __future__ import annotations

import asyncio
import functools
import threading
from types import AsyncGeneratorType, CoroutineType, GeneratorType
from typing import Any, Protocol

from . import _alarm, _coroutine, _runner, trace_context
from ._terms import here
from .errors import TaskTimeoutError

Work = tuple[str, bytes, dict[str, Any]]


class Seat(Protocol):
    """The native end, ``hustings._core.ThreadSeat``."""

    name: str
    node: str
    payload_limit: int
    allow_pickle: bool
    seq: int
    is_timed_out: bool

    def begin(self, thread: int, native: int, /) -> None: ...
    def next(self) -> Work | None: ...
    def function(self) -> Any: ...
    def shield(self) -> None: ...
    def end(self, answer: _runner.Answer, /) -> None: ...
    def is_cancelled(self, fencing_token: int, /) -> bool: ...
    def progress(self, token: int, done: float, total: float, note: str, /) -> None: ...
    def leave(self) -> None: ...


def start(seat: Seat) -> None:
    """Starts the thread of a seat. It does not keep an interpreter from ending."""
    threading.Thread(target=_serve, args=(seat,), name=seat.name, daemon=True).start()


def interrupt(thread: int, seq: int) -> bool:
    """Cancels the coroutine of that attempt; false if none of it runs in that thread."""
    return _coroutine.interrupt(thread, seq)


def _serve(seat: Seat) -> None:
    seat.begin(threading.get_ident(), threading.get_native_id())
    here.seat = seat
    try:
        while (work := seat.next()) is not None:
            seat.end(_call(seat, *work))
            del work  # an idle thread holds on to nothing
    finally:
        _coroutine.close()
        seat.leave()


def _call(seat: Seat, codec: str, payload: bytes, attempt: dict[str, Any]) -> _runner.Answer:
    """Runs one attempt; never raises."""
    try:
        try:
            if seat.is_cancelled(attempt["fencing_token"]):
                raise asyncio.CancelledError("the task was cancelled before it began")
            fn = seat.function()
            args, kwargs = _runner.decode_arguments(codec, payload)
            here.begin(attempt)
            run = functools.partial(_run, fn, args, kwargs, seat.seq)
            value = trace_context.within(attempt.get("traceparent"), run)()
            return True, codec, _runner.encode_result(codec, value), "", "", ""
        finally:
            seat.shield()
            here.end()
    except BaseException as error:
        # An interrupt may have come between the last step of the task and the shield.
        seat.shield()
        here.end()
        return _runner.describe_failure(_told(seat, attempt, error), codec)


def _run(fn: Any, args: Any, kwargs: Any, seq: int) -> Any:
    value = fn(*args, **kwargs)
    if isinstance(value, CoroutineType):
        return _coroutine.run(value, seq)
    if isinstance(value, (GeneratorType, AsyncGeneratorType)):
        raise TypeError(
            f"{value.__qualname__} yields, which needs a process; use run_in='process', or return "
            "a list"
        )
    return value


def _told(seat: Seat, attempt: dict[str, Any], error: BaseException) -> BaseException:
    if seat.is_timed_out and isinstance(error, (TaskTimeoutError, asyncio.CancelledError)):
        over = _alarm.over(attempt["timeout_s"])
        if isinstance(error, asyncio.CancelledError):
            over.__cause__ = error
        return over.with_traceback(error.__traceback__)
    return error
