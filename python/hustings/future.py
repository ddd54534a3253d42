"""Waiting for many futures: ``as_completed``, ``wait``, ``gather`` and the engine of ``map``."""

from __future__ import annotations

import queue
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ALL_COMPLETED, FIRST_COMPLETED, FIRST_EXCEPTION
from itertools import islice
from typing import Any, Generic, NamedTuple, Protocol, TypeVar, cast

from ._core import CompletionQueue, Future
from .errors import ConfigError, WaitTimeoutError
from .tasks import TaskOptions

R = TypeVar("R")

MAX_CHUNK = 100_000
"""The largest ``chunksize``."""


class DoneAndNotDone(NamedTuple, Generic[R]):
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


class _Bar(Protocol):
    def update(self, n: int = 1) -> object: ...
    def close(self) -> object: ...


def as_completed(
    fs: Iterable[Future[R]], *, timeout: float | None = None, progress: bool = False
) -> Iterator[Future[R]]:
    """Yields futures as they finish. Raises ``WaitTimeoutError`` when ``timeout`` seconds have
    passed first."""
    pending = _checked_futures(fs)
    deadline = Deadline(timeout)
    return _as_completed(pending, deadline, progress)


def _as_completed(
    pending: list[Future[R]], deadline: Deadline, progress: bool
) -> Iterator[Future[R]]:
    completions = CompletionQueue(pending)
    bar = start_bar(len(pending), progress)
    try:
        while True:
            future = completions.next(deadline.left())
            if future is None:
                return
            bar.update(1)
            yield future
    finally:
        bar.close()


def wait(
    fs: Iterable[Future[R]], timeout: float | None = None, return_when: str = ALL_COMPLETED
) -> DoneAndNotDone[R]:
    """Blocks until the futures are done, as ``concurrent.futures.wait``; a timeout is not an error
    here."""
    if return_when not in (ALL_COMPLETED, FIRST_COMPLETED, FIRST_EXCEPTION):
        raise ConfigError(
            f"return_when={return_when!r}: give ALL_COMPLETED, FIRST_COMPLETED or FIRST_EXCEPTION"
        )
    pending = list(dict.fromkeys(_checked_futures(fs)))
    deadline = Deadline(timeout)
    completions = CompletionQueue(pending)
    while True:
        try:
            future = completions.next(deadline.left())
        except WaitTimeoutError:
            break
        if future is None or return_when == FIRST_COMPLETED:
            break
        if (
            return_when == FIRST_EXCEPTION
            and not future.cancelled()
            and future.exception() is not None
        ):
            break
    done = {f for f in pending if f.done()}
    return DoneAndNotDone(done, set(pending) - done)


def gather(*fs: Future[Any] | Iterable[Future[Any]], timeout: float | None = None) -> list[Any]:
    """The results in order; raises the first failure it meets. In asyncio: ``await
    asyncio.gather(*fs)``."""
    flat: list[Future[Any]] = []
    for f in fs:
        flat.extend([f] if isinstance(f, Future) else _checked_futures(f))
    deadline = Deadline(timeout)
    return [f.result(deadline.left()) for f in flat]


def stream_map(
    submit: Callable[[tuple[Any, ...]], Future[Any]],
    calls: Iterable[tuple[Any, ...]],
    *,
    deadline: Deadline,
    buffersize: int | None,
    ordered: bool,
    progress: bool,
    total: int | None,
) -> Iterator[Any]:
    """Submits ``calls`` (all, or ``buffersize`` ahead of the consumer) and yields results."""
    calls = iter(calls)
    first = [submit(call) for call in islice(calls, buffersize)]
    length = total if buffersize is not None else len(first)
    run = _map_in_order if ordered else _map_as_done
    return run(submit, calls, first, deadline, buffersize, start_bar(length, progress))


def _map_in_order(
    submit: Callable[[tuple[Any, ...]], Future[Any]],
    calls: Iterator[tuple[Any, ...]],
    first: list[Future[Any]],
    deadline: Deadline,
    buffersize: int | None,
    bar: _Bar,
) -> Iterator[Any]:
    ahead = deque(first)
    del first
    try:
        while ahead:
            result = ahead[0].result(deadline.left())
            ahead.popleft()
            if buffersize is not None:
                ahead.extend(submit(call) for call in islice(calls, 1))
            bar.update(1)
            yield result
    finally:
        bar.close()
        for future in ahead:
            future.cancel()


def _map_as_done(
    submit: Callable[[tuple[Any, ...]], Future[Any]],
    calls: Iterator[tuple[Any, ...]],
    first: list[Future[Any]],
    deadline: Deadline,
    buffersize: int | None,
    bar: _Bar,
) -> Iterator[Any]:
    # A completion queue is cheaper, but its set of futures is fixed; a bounded window keeps
    # growing new ones.
    done: queue.SimpleQueue[Future[Any]] = queue.SimpleQueue()
    open_futures = set(first)
    completions = CompletionQueue(first) if buffersize is None else None
    if completions is None:
        for future in first:
            future.add_done_callback(done.put)
    del first
    try:
        while open_futures:
            finished = completions.next(deadline.left()) if completions else _take(done, deadline)
            if finished is None:
                return
            future = finished
            open_futures.discard(future)
            if completions is None:
                for call in islice(calls, 1):
                    fresh = submit(call)
                    open_futures.add(fresh)
                    fresh.add_done_callback(done.put)
            bar.update(1)
            yield future.result()
    finally:
        bar.close()
        for future in open_futures:
            future.cancel()


def _take(done: queue.SimpleQueue[Future[Any]], deadline: Deadline) -> Future[Any]:
    while True:
        left = deadline.left()
        try:
            # Slices keep Ctrl-C prompt on platforms whose lock waits cannot be interrupted.
            return done.get(timeout=0.5 if left is None else min(left, 0.5))
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


def _checked_futures(fs: Iterable[Future[R]]) -> list[Future[R]]:
    listed = list(fs)
    for i, f in enumerate(listed):
        if not isinstance(f, Future):
            raise TypeError(f"futures[{i}] is {f!r} ({type(f).__name__}); give hustings futures")
    return listed


class _NoBar:
    def update(self, n: int = 1) -> None:
        """Shows nothing."""

    def close(self) -> None:
        """Shows nothing."""


class _LineBar:
    """Progress without tqdm: one line, rewritten on a terminal, a line every tenth elsewhere."""

    def __init__(self, total: int | None) -> None:
        self._total, self._done, self._shown = total, 0, -1
        self._live = sys.stderr.isatty()

    def update(self, n: int = 1) -> None:
        """Counts ``n`` more."""
        self._done += n
        if not self._total:
            return
        step = self._done * (100 if self._live else 10) // self._total
        if step != self._shown:
            self._shown = step
            end = "\r" if self._live else "\n"
            percent = 100 * self._done // self._total
            print(f"{self._done}/{self._total} ({percent} %)", end=end, file=sys.stderr, flush=True)

    def close(self) -> None:
        """Ends the line."""
        if self._live and self._done:
            print(file=sys.stderr)


def start_bar(total: int | None, progress: bool, describe: str | None = None) -> _Bar:
    """A tqdm bar if tqdm is installed, else plain lines; nothing without ``progress``."""
    if not progress:
        return _NoBar()
    try:
        from tqdm.auto import tqdm  # type: ignore[import-untyped,unused-ignore]
    except ImportError:
        return _LineBar(total)
    return cast("_Bar", tqdm(total=total, desc=describe))
