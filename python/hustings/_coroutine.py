"""The event loop of a runner: ``async def`` tasks run on it one after another, so that what a
module keeps between them (a session, a pool of connections) stays usable."""

from __future__ import annotations

import asyncio
import atexit
from collections.abc import Coroutine
from typing import Any, TypeVar

R = TypeVar("R")

_loop: asyncio.AbstractEventLoop | None = None
_running: asyncio.Task[Any] | None = None


def run(coroutine: Coroutine[Any, Any, R]) -> R:
    """Runs it to its end, and cancels what it left running."""
    global _running
    loop = _open_loop()
    _running = task = loop.create_task(coroutine)
    try:
        return loop.run_until_complete(task)
    finally:
        _running = None
        if not loop.is_closed():
            _cancel_left(loop)


def interrupt() -> bool:
    """Cancels the coroutine that runs, from a signal handler; false if none does."""
    if _running is None or _loop is None:
        return False
    # By the loop, which may be waiting and must wake up for it.
    _loop.call_soon_threadsafe(_running.cancel)
    return True


def _open_loop() -> asyncio.AbstractEventLoop:
    global _loop
    if _loop is None or _loop.is_closed():
        _loop = asyncio.new_event_loop()
        atexit.register(_loop.close)
    return _loop


def _cancel_left(loop: asyncio.AbstractEventLoop) -> None:
    left = asyncio.all_tasks(loop)
    for task in left:
        task.cancel()
    if left:
        loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
