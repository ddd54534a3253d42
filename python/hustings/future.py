"""Waiting for many futures: ``as_completed``, ``wait`` and ``gather``, for loops and coroutines."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import AsyncIterator, Iterable, Iterator
from concurrent.futures import ALL_COMPLETED, FIRST_COMPLETED, FIRST_EXCEPTION
from typing import Any, Generic, NamedTuple, TypeVar

from ._core import CompletionQueue, Future
from .errors import ConfigError, WaitTimeoutError
from .progress import start_bar

R = TypeVar("R")


class _Pair(NamedTuple):
    # Python 3.10 has no named tuples that are generic themselves.
    done: set[Any]
    not_done: set[Any]


class DoneAndNotDone(_Pair, Generic[R]):
    """What ``wait`` returns."""

    done: set[Future[R]]
    not_done: set[Future[R]]


class Deadline:
    """A point in time that several waits share; ``None`` never comes."""

    def __init__(self, timeout: float | None, what: str = "timeout") -> None:
        if timeout is not None and (
            isinstance(timeout, bool) or not isinstance(timeout, (int, float))
        ):
            raise TypeError(f"{what}={timeout!r}: give seconds, or None for no limit")
        if timeout is not None and (timeout != timeout or timeout < 0):
            raise ValueError(f"{what}={timeout!r}: give seconds, at least 0, or None for no limit")
        self.timeout = timeout
        self._end = None if timeout is None else time.monotonic() + timeout

    def left(self) -> float | None:
        """Seconds left, never negative."""
        return None if self._end is None else max(0.0, self._end - time.monotonic())

    def passed(self) -> bool:
        """Whether it is over."""
        return self._end is not None and time.monotonic() >= self._end


class Completions(Generic[R]):
    """What ``as_completed`` returns: an iterator, for ``for`` or for ``async for``."""

    def __init__(self, pending: list[Future[R]], deadline: Deadline, progress: bool) -> None:
        self._pending = pending
        self._deadline = deadline
        self._progress = progress
        self._iterator: Iterator[Future[R]] | None = None
        self._stream: AsyncIterator[Future[R]] | None = None

    def __iter__(self) -> Iterator[Future[R]]:
        return self

    def __next__(self) -> Future[R]:
        if self._iterator is None:
            self._iterator = self._iterate()
        return next(self._iterator)

    def __aiter__(self) -> AsyncIterator[Future[R]]:
        return self

    async def __anext__(self) -> Future[R]:
        if self._stream is None:
            self._stream = self._iterate_async()
        return await self._stream.__anext__()

    def _iterate(self) -> Iterator[Future[R]]:
        completions = CompletionQueue(self._pending)
        bar = start_bar(len(self._pending), self._progress)
        self._pending = []
        try:
            while True:
                future = completions.next(self._deadline.left())
                if future is None:
                    return
                bar.update(1)
                yield future
                # Nothing here keeps a finished future alive while the next one is waited for.
                del future
        finally:
            bar.close()

    async def _iterate_async(self) -> AsyncIterator[Future[R]]:
        arrivals = Arrivals(self._pending)
        bar = start_bar(len(self._pending), self._progress)
        left, self._pending = len(self._pending), []
        try:
            while left:
                future = await arrivals.next(self._deadline)
                left -= 1
                bar.update(1)
                yield future
                del future
        finally:
            bar.close()


class Arrivals(Generic[R]):
    """Futures of one event loop as they finish, with one wake-up of the loop for all that finished
    meanwhile."""

    def __init__(self, futures: Iterable[Future[R]]) -> None:
        self._loop = asyncio.get_running_loop()
        self._arrived: deque[Future[R]] = deque()
        self._filled = asyncio.Event()
        self._told = False
        for future in futures:
            self.add(future)

    def add(self, future: Future[R]) -> None:
        """Waits for this one too."""
        future.add_done_callback(self._on_done)

    async def next(self, deadline: Deadline) -> Future[R]:
        """The next one to finish. Raises ``WaitTimeoutError``."""
        while not self._arrived:
            self._filled.clear()
            try:
                await asyncio.wait_for(self._filled.wait(), deadline.left())
            except asyncio.TimeoutError:
                if not self._arrived:
                    raise WaitTimeoutError(
                        f"nothing finished within {deadline.timeout} s"
                    ) from None
        return self._arrived.popleft()

    def _on_done(self, future: Future[R]) -> None:
        # On the resolver's thread. Appended before the flag is read, so that a wake-up that is on
        # its way finds it.
        self._arrived.append(future)
        if not self._told:
            self._told = True
            # Nobody waits in a loop that is closed.
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._wake)

    def _wake(self) -> None:
        self._told = False
        self._filled.set()


async def await_until(future: Future[Any], deadline: Deadline) -> None:
    """Waits in a coroutine until it is done. Raises ``WaitTimeoutError``; a cancelled wait cancels
    the task."""
    if future.done():
        return
    waiter = asyncio.ensure_future(future)
    try:
        done, _ = await asyncio.wait({waiter}, timeout=deadline.left())
    except asyncio.CancelledError:
        waiter.cancel()
        raise
    if not done:
        waiter.cancel()
        raise WaitTimeoutError(f"task {future.task_id}: no outcome within {deadline.timeout} s")
    if not waiter.cancelled():
        # Asked for, so that asyncio does not report it as never retrieved.
        waiter.exception()


def as_completed(
    fs: Iterable[Future[R]], *, timeout: float | None = None, progress: bool = False
) -> Completions[R]:
    """Futures as they finish, each once: ``for f in as_completed(fs)``, or ``async for``.

    Args:
        fs: Futures of hustings, of any cluster.
        timeout: Seconds for all of them, from this call.
        progress: Shows a bar: tqdm's or rich's if installed, else plain lines on stderr.

    Raises:
        WaitTimeoutError: Out of the iterator, when the time is over first.
    """
    return Completions(list(dict.fromkeys(_checked_futures(fs))), Deadline(timeout), progress)


def wait(
    fs: Iterable[Future[R]],
    timeout: float | None = None,
    return_when: str = ALL_COMPLETED,
    *,
    progress: bool = False,
) -> DoneAndNotDone[R]:
    """Blocks until the futures are done, as ``concurrent.futures.wait``; a timeout is not an error
    here. In asyncio: ``await asyncio.wait([asyncio.ensure_future(f) for f in fs])``."""
    if return_when not in (ALL_COMPLETED, FIRST_COMPLETED, FIRST_EXCEPTION):
        raise ConfigError(
            f"return_when={return_when!r}: give ALL_COMPLETED, FIRST_COMPLETED or FIRST_EXCEPTION"
        )
    pending = list(dict.fromkeys(_checked_futures(fs)))
    deadline = Deadline(timeout)
    completions = CompletionQueue(pending)
    bar = start_bar(len(pending), progress)
    try:
        with contextlib.suppress(WaitTimeoutError):
            while (future := completions.next(deadline.left())) is not None:
                bar.update(1)
                if return_when == FIRST_COMPLETED:
                    break
                if return_when == FIRST_EXCEPTION and _has_failed(future):
                    break
    finally:
        bar.close()
    done = {f for f in pending if f.done()}
    return DoneAndNotDone(done, set(pending) - done)


def _has_failed(future: Future[Any]) -> bool:
    return not future.cancelled() and future.exception() is not None


def gather(
    *fs: Future[Any] | Iterable[Future[Any]], timeout: float | None = None, progress: bool = False
) -> list[Any]:
    """The results in order; raises the first failure it meets. In asyncio: ``await
    asyncio.gather(*fs)``."""
    flat: list[Future[Any]] = []
    for f in fs:
        flat.extend([f] if isinstance(f, Future) else _checked_futures(f))
    deadline = Deadline(timeout)
    bar = start_bar(len(flat), progress)
    results = []
    try:
        for future in flat:
            results.append(future.result(deadline.left()))
            bar.update(1)
    finally:
        bar.close()
    return results


def _checked_futures(fs: Iterable[Future[R]]) -> list[Future[R]]:
    listed = list(fs)
    for i, f in enumerate(listed):
        if not isinstance(f, Future):
            raise TypeError(f"futures[{i}] is {f!r} ({type(f).__name__}); give hustings futures")
    return listed
