"""The engine of ``map``: submits calls, all or a window ahead of the consumer, and hands results
out, in order or as they come, to a loop or to a coroutine."""

from __future__ import annotations

import asyncio
import queue
from collections import deque
from collections.abc import AsyncIterator, Callable, Generator, Iterable, Iterator
from itertools import islice
from typing import Any, Generic, TypeVar

from ._core import CompletionQueue, Future
from .errors import ConfigError, WaitTimeoutError
from .future import Arrivals, Deadline, await_until
from .progress import Bar, start_bar
from .tasks import TaskOptions

R = TypeVar("R")

MAX_CHUNK = 100_000
"""The largest ``chunksize``."""
_SLICE_S = 0.5
"""Slices keep Ctrl-C prompt on platforms whose lock waits cannot be interrupted."""


class Results(Generic[R]):
    """What ``map`` returns: an iterator over results, for ``for`` or for ``async for``.

    Left early, by ``close()``, a ``break`` that drops it, an error or a cancelled coroutine, it
    cancels what has not finished. Use it one way only.
    """

    def __init__(
        self,
        submit: Callable[[tuple[Any, ...]], Future[Any]],
        calls: Iterable[tuple[Any, ...]],
        *,
        cancel: Callable[[Iterable[Future[Any]]], None],
        deadline: Deadline,
        buffersize: int | None = None,
        ordered: bool = True,
        progress: bool = False,
        total: int | None = None,
        chunked: bool = False,
    ) -> None:
        self._submit = submit
        self._calls = iter(calls)
        self._cancel = cancel
        self._deadline = deadline
        self._ahead = buffersize
        self._ordered = ordered
        self._progress = progress
        self._chunked = chunked
        self._first = [submit(call) for call in islice(self._calls, buffersize)]
        self._total = total if buffersize is not None else len(self._first)
        self._iterator: Generator[R, None, None] | None = None
        self._stream: AsyncIterator[R] | None = None

    def __iter__(self) -> Iterator[R]:
        return self

    def __next__(self) -> R:
        if self._iterator is None:
            self._iterator = self._iterate()
        return next(self._iterator)

    def __aiter__(self) -> AsyncIterator[R]:
        return self

    async def __anext__(self) -> R:
        if self._stream is None:
            self._stream = self._iterate_async()
        return await self._stream.__anext__()

    def close(self) -> None:
        """Ends the iteration and cancels what has not finished. Blocks for one question to the
        leader."""
        if self._iterator is not None:
            self._iterator.close()
        self._cancel(self._first)
        self._first = []

    def _iterate(self) -> Generator[R, None, None]:
        bar = start_bar(self._total, self._progress)
        results = self._in_order(bar) if self._ordered else self._as_done(bar)
        try:
            for result in results:
                if self._chunked:
                    yield from result
                else:
                    yield result
                # The next one may take long: do not hold the last one meanwhile.
                del result
        finally:
            results.close()

    def _in_order(self, bar: Bar) -> Generator[Any, None, None]:
        ahead = deque(self._first)
        self._first = []
        try:
            while ahead:
                result = ahead[0].result(self._deadline.left())
                ahead.popleft()
                if self._ahead is not None:
                    ahead.extend(self._submit(call) for call in islice(self._calls, 1))
                bar.update(1)
                yield result
                del result
        finally:
            bar.close()
            self._cancel(ahead)

    def _as_done(self, bar: Bar) -> Generator[Any, None, None]:
        # A completion queue is cheaper, but its set of futures is fixed; a bounded window keeps
        # growing new ones.
        done: queue.SimpleQueue[Future[Any]] = queue.SimpleQueue()
        pending = set(self._first)
        completions = CompletionQueue(self._first) if self._ahead is None else None
        if completions is None:
            for future in self._first:
                future.add_done_callback(done.put)
        self._first = []
        try:
            while pending:
                if completions is not None:
                    finished = completions.next(self._deadline.left())
                else:
                    finished = _take(done, self._deadline)
                if finished is None:
                    return
                pending.discard(finished)
                if completions is None:
                    for call in islice(self._calls, 1):
                        fresh = self._submit(call)
                        pending.add(fresh)
                        fresh.add_done_callback(done.put)
                bar.update(1)
                yield finished.result()
        finally:
            bar.close()
            self._cancel(pending)

    async def _iterate_async(self) -> AsyncIterator[R]:
        pending = dict.fromkeys(self._first)
        arrivals = None if self._ordered else Arrivals(self._first)
        self._first = []
        bar = start_bar(self._total, self._progress)
        try:
            while pending:
                if arrivals is None:
                    future = next(iter(pending))
                    await await_until(future, self._deadline)
                else:
                    future = await arrivals.next(self._deadline)
                del pending[future]
                for call in islice(self._calls, 0 if self._ahead is None else 1):
                    fresh = self._submit(call)
                    pending[fresh] = None
                    if arrivals is not None:
                        arrivals.add(fresh)
                bar.update(1)
                result = future.result()
                if self._chunked:
                    for one in result:
                        yield one
                else:
                    yield result
        finally:
            bar.close()
            if pending:
                # Asking the leader may take a while, and the loop has other things to do.
                asyncio.get_running_loop().run_in_executor(None, self._cancel, list(pending))


def _take(done: queue.SimpleQueue[Future[Any]], deadline: Deadline) -> Future[Any]:
    while True:
        left = deadline.left()
        try:
            return done.get(timeout=_SLICE_S if left is None else min(left, _SLICE_S))
        except queue.Empty:
            if deadline.passed():
                raise WaitTimeoutError(f"map: no result within {deadline.timeout} s") from None


def chunks(calls: Iterable[tuple[Any, ...]], size: int) -> Iterator[tuple[list[tuple[Any, ...]]]]:
    """Groups calls: each item is the one argument of a chunked task."""
    source = iter(calls)
    while group := list(islice(source, size)):
        yield (group,)


def check_map(chunksize: object, buffersize: object, options: TaskOptions) -> None:
    """Refuses a bad ``chunksize`` or ``buffersize``, and options that belong to one call."""
    for name in ("task_id", "key"):
        if getattr(options, name) is not None:
            raise ConfigError(f"map: {name}= belongs to one call, and would make all calls one")
    for name, value, low in (("chunksize", chunksize, 1), ("buffersize", buffersize, 1)):
        if value is None and name == "buffersize":
            continue
        if isinstance(value, bool) or not isinstance(value, int):
            raise TypeError(f"{name}={value!r}: give a whole number, at least {low}")
        if value < low or (name == "chunksize" and value > MAX_CHUNK):
            bound = f"from {low} to {MAX_CHUNK}" if name == "chunksize" else f"at least {low}"
            raise ValueError(f"{name}={value!r}: give a whole number {bound}")
