"""What a generator that runs as a task yields, sent to its reader item by item.

The generator goes no further than its reader has room, and not one step before it has a reader. It
is over when the reader has everything: an outcome never overtakes an item.
"""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import AsyncGenerator, Callable, Generator
from typing import Any, Protocol

from . import _alarm, _coroutine
from .errors import (
    PayloadTooLargeError,
    StreamDivergedError,
    StreamUnreadError,
    TaskTimeoutError,
)

LOOK_S = 0.2
"""How often a generator that waits looks whether its attempt is still wanted."""
LAST_S = 0.5
"""How long the items before a timeout may take to be read; then its runner is killed."""

Encode = Callable[[Any, str], bytes]
"""The bytes of an item, which errors call by that name."""


class Outlet(Protocol):
    """The native end of the line, ``hustings._core.Outlet``."""

    item_limit: int
    idle_s: float
    count: int
    start: int
    has_reader: bool
    is_drained: bool

    def has_room(self, size: int, /) -> bool: ...
    def put(self, body: bytes, /) -> bool: ...
    def announce(self) -> None: ...
    def wait(self, seconds: float, /) -> bool: ...
    def fileno(self) -> int: ...


class Watch:
    """One wait for the reader: for how long, and whether the attempt is still wanted."""

    def __init__(self, outlet: Outlet, token: int, idle_s: float) -> None:
        self._outlet = outlet
        self._token = token
        self._idle_s = idle_s
        self.on_sign()

    def on_sign(self) -> None:
        """The reader lives: the wait begins anew, and the node is told so."""
        self._until = time.monotonic() + self._idle_s
        self._outlet.announce()

    def check(self) -> None:
        """Raises if there is no point in waiting any more."""
        if _alarm.is_cancelled(self._token):
            raise asyncio.CancelledError("the task was cancelled, or nobody reads it any more")
        if time.monotonic() > self._until:
            raise StreamUnreadError(
                f"nobody read what the task yields for {self._idle_s:g} s (limits.stream_idle_s); "
                "a generator is submitted by stream(), whose iterator is its only reader, or "
                "return a list instead"
            )


def run(generator: Any, encode: Encode, outlet: Outlet | None, token: int) -> Any:
    """Sends what a generator of either kind yields; returns what it returns, once all was read."""
    if outlet is None:
        raise TypeError(
            f"{generator.__qualname__} yields, and nobody can read that here; return a list"
        )
    if isinstance(generator, AsyncGenerator):
        return _coroutine.run(drain_async(generator, encode, outlet, token))
    return drain(generator, encode, outlet, token)


def drain(generator: Generator[Any, None, Any], encode: Encode, outlet: Outlet, token: int) -> Any:
    """Sends what it yields; returns what it returns, once all was read."""
    wait = _Waiting(outlet, token)
    try:
        wait.until(lambda: outlet.has_reader)
        while True:
            try:
                item = next(generator)
            except StopIteration as end:
                result = end.value
                break
            body = _encoded(item, encode, outlet)
            wait.until(functools.partial(outlet.has_room, len(body)))
            _put(outlet, body)
        _check_count(outlet)
        wait.until(lambda: outlet.is_drained)
        return result
    except BaseException as error:
        generator.close()
        if (seconds := _patience(error, outlet)) > 0:
            wait.finish(seconds)
        raise


async def drain_async(
    generator: AsyncGenerator[Any, None], encode: Encode, outlet: Outlet, token: int
) -> None:
    """The same for an asynchronous one; other tasks of the event loop go on meanwhile."""
    wait = _AsyncWaiting(outlet, token)
    try:
        await wait.until(lambda: outlet.has_reader)
        async for item in generator:
            body = _encoded(item, encode, outlet)
            await wait.until(functools.partial(outlet.has_room, len(body)))
            _put(outlet, body)
        _check_count(outlet)
        await wait.until(lambda: outlet.is_drained)
    except BaseException as error:
        await generator.aclose()
        if (seconds := _patience(error, outlet)) > 0:
            await wait.finish(seconds)
        raise


class _Waiting:
    def __init__(self, outlet: Outlet, token: int) -> None:
        self._outlet = outlet
        self._token = token

    def until(self, ready: Callable[[], bool], idle_s: float | None = None) -> None:
        """Waits for the reader."""
        if ready():
            return
        watch = Watch(self._outlet, self._token, idle_s or self._outlet.idle_s)
        while not ready():
            watch.check()
            if self._outlet.wait(LOOK_S) and not ready():
                watch.on_sign()

    def finish(self, seconds: float) -> None:
        """Waits until all was read, if that happens."""
        try:
            self.until(lambda: self._outlet.is_drained, seconds)
        except (StreamUnreadError, asyncio.CancelledError):
            return


class _AsyncWaiting:
    def __init__(self, outlet: Outlet, token: int) -> None:
        self._outlet = outlet
        self._token = token

    async def until(self, ready: Callable[[], bool], idle_s: float | None = None) -> None:
        """Waits for the reader."""
        if ready():
            return
        loop, came = asyncio.get_running_loop(), asyncio.Event()
        loop.add_reader(self._outlet.fileno(), came.set)
        try:
            watch = Watch(self._outlet, self._token, idle_s or self._outlet.idle_s)
            while not ready():
                watch.check()
                try:
                    await asyncio.wait_for(came.wait(), LOOK_S)
                except asyncio.TimeoutError:
                    continue
                came.clear()
                if self._outlet.wait(0) and not ready():
                    watch.on_sign()
        finally:
            loop.remove_reader(self._outlet.fileno())

    async def finish(self, seconds: float) -> None:
        """Waits until all was read, if that happens."""
        try:
            await self.until(lambda: self._outlet.is_drained, seconds)
        except (StreamUnreadError, asyncio.CancelledError):
            return


def _patience(error: BaseException, outlet: Outlet) -> float:
    """How long the items before ``error`` may take to be read; 0: they are given up."""
    if isinstance(error, (StreamUnreadError, StreamDivergedError, asyncio.CancelledError)):
        return 0.0
    return LAST_S if isinstance(error, TaskTimeoutError) else outlet.idle_s


def _encoded(item: Any, encode: Encode, outlet: Outlet) -> bytes:
    what, limit = f"item {outlet.count}", outlet.item_limit
    body = encode(item, what)
    if len(body) > limit:
        raise PayloadTooLargeError(
            f"{what} is {len(body)} bytes, the limit is {limit} (limits.stream_bytes, and half of "
            "limits.message_bytes); yield it in parts, or write it to storage and yield where it is"
        )
    return body


def _put(outlet: Outlet, body: bytes) -> None:
    if not outlet.put(body):
        raise StreamDivergedError(
            f"the first {outlet.start} items of this attempt are not those that were read from an "
            "earlier one, so its items cannot follow them; yield the same items each time, or "
            "stream again from the start"
        )


def _check_count(outlet: Outlet) -> None:
    if outlet.count < outlet.start:
        raise StreamDivergedError(
            f"this attempt yielded {outlet.count} items and {outlet.start} were read from an "
            "earlier one; yield the same items each time, or stream again from the start"
        )
