"""The event loop of a thread that runs attempts: ``async def`` tasks run on it one after another,
so that what a module keeps between them (a session, a pool of connections) stays usable."""

from __future__ import annotations

import asyncio
import atexit
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

R = TypeVar("R")


class _Here(threading.local):
    loop: asyncio.AbstractEventLoop | None = None


_here = _Here()
_running: dict[int, tuple[int, asyncio.AbstractEventLoop, asyncio.Task[Any]]] = {}
"""What runs, by thread: the number of its attempt, or 0 in a process that runs one at a time."""


def run(coroutine: Coroutine[Any, Any, R], seq: int = 0) -> R:
    """Runs it to its end, and cancels what it left running."""
    loop, thread = _open_loop(), threading.get_ident()
    task = loop.create_task(coroutine)
    _running[thread] = seq, loop, task
    try:
        return loop.run_until_complete(task)
    finally:
        _running.pop(thread, None)
        if not loop.is_closed():
            _cancel_left(loop)


def interrupt(thread: int | None = None, seq: int = 0) -> bool:
    """Cancels the coroutine that runs in a thread, by default in this one, as that attempt; false
    if none does. May be called from a signal handler."""
    found = _running.get(threading.get_ident() if thread is None else thread)
    if found is None or found[0] != seq:
        return False
    _, loop, task = found
    # By the loop, which may be waiting and must wake up for it.
    loop.call_soon_threadsafe(task.cancel)
    return True


def close() -> None:
    """Closes the loop of this thread, if it has one."""
    loop, _here.loop = _here.loop, None
    if loop is not None and not loop.is_closed():
        loop.close()


def _open_loop() -> asyncio.AbstractEventLoop:
    if _here.loop is None or _here.loop.is_closed():
        _here.loop = asyncio.new_event_loop()
        if threading.current_thread() is threading.main_thread():
            atexit.register(_here.loop.close)
    return _here.loop


def _cancel_left(loop: asyncio.AbstractEventLoop) -> None:
    left = asyncio.all_tasks(loop)
    for task in left:
        task.cancel()
    if left:
        loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
