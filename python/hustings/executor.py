"""A cluster as a ``concurrent.futures.Executor``, for code that expects one: real standard futures
over tasks of the cluster."""

from __future__ import annotations

import asyncio
import atexit
import concurrent.futures
import contextlib
import functools
import os
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from types import TracebackType
from typing import Any, ParamSpec, TypeVar, cast

from . import _core
from .codec import encode_call
from .errors import QueueFullError
from .future import Deadline
from .mapping import check_map, chunks
from .submission import Send, Submission, Submitter
from .tasks import Task, chunked
from .trace_context import pinned

P = ParamSpec("P")
R = TypeVar("R")

MAX_WAITING = 1_000_000
"""Calls that wait on this side for one of ``max_workers`` to be free."""

_live: weakref.WeakSet[Executor] = weakref.WeakSet()
_exiting = False


class ExecutorFuture(concurrent.futures.Future[R]):
    """A standard future whose call is a task of a cluster."""

    def __init__(self, executor: Executor) -> None:
        super().__init__()
        self._executor = executor
        self._task: _core.Future[R] | None = None
        self._ending = False

    @property
    def task(self) -> _core.Future[R] | None:
        """The task: its id, where it is and why. ``None`` while it waits on this side."""
        return self._task

    def cancel(self) -> bool:
        """Cancels the call unless it runs or is done, as the standard library says.

        Blocks for one question to the leader. On a thread that runs an event loop it does not: then
        the future is cancelled at once, and the task if it has not begun.
        """
        return self._executor._cancel(self)

    def running(self) -> bool:
        """Whether the cluster has accepted it and it is not done."""
        return not self.done() and self._task is not None and self._task.running()


class Executor(concurrent.futures.Executor):
    """Runs calls as tasks of a cluster; get one by ``cluster.executor()``.

    ``submit``, ``map``, ``shutdown``, ``with``, ``concurrent.futures.wait`` and ``as_completed``,
    ``loop.run_in_executor``: all as the standard library has them. Functions travel as those of
    ``Cluster.submit`` do. The interpreter waits for its calls before it exits.

    >>> import hustings as hs
    >>> with hs.Cluster.local(1) as c, c.executor(retries=1) as executor:  # doctest: +SKIP
    ...     list(executor.map(pow, [2, 3], [5, 2]))
    [32, 9]
    """

    def __init__(
        self, max_workers: int | None = None, *, cluster: Submitter | None = None, **options: Any
    ) -> None:
        """Makes an executor on ``cluster``, by default the current one; see
        ``Cluster.executor``."""
        if max_workers is not None:
            if isinstance(max_workers, bool) or not isinstance(max_workers, int):
                raise TypeError(f"max_workers={max_workers!r}: give a whole number, or None")
            if max_workers <= 0:
                raise ValueError(
                    f"max_workers must be greater than 0, or None for no bound; it is {max_workers}"
                )
        if cluster is None:
            from .cluster import current_cluster

            cluster = current_cluster()
        self._cluster = cluster
        self._submission = Submission(cluster, options)
        self._max_workers = max_workers
        self._changed = threading.Condition()
        self._open: set[ExecutorFuture[Any]] = set()
        self._waiting: deque[tuple[ExecutorFuture[Any], Send, bytes]] = deque()
        self._sent = 0
        self._shut = False
        _live.add(self)

    def submit(
        self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs
    ) -> concurrent.futures.Future[R]:
        """Queues ``fn(*args, **kwargs)`` and returns its future at once.

        Raises:
            RuntimeError: After ``shutdown``, or while the interpreter exits.
            NotSerializableError: An argument that cannot travel; the text says where it is.
            QueueFullError: A million calls wait for one of ``max_workers`` already.
        """
        return cast("concurrent.futures.Future[R]", self._submit(fn, args, kwargs))

    def map(
        self,
        fn: Callable[..., R],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
        buffersize: int | None = None,
    ) -> Iterator[R]:
        """Results in the order of the calls; see ``Cluster.map`` for the arguments.

        Raises:
            TimeoutError: Out of the iterator, when ``timeout`` seconds have passed first.
        """
        called = self._submission.call_of(fn)
        check_map(chunksize, buffersize, called._options)
        deadline = Deadline(timeout)
        calls: Iterator[tuple[Any, ...]] = zip(*iterables, strict=False)
        grouped = chunksize > 1 and isinstance(called, Task)
        if grouped:
            assert isinstance(called, Task)
            called, calls = chunked(called, chunksize), chunks(calls, chunksize)
        pending = deque(self._submit(called, call, {}) for call in islice(calls, buffersize))
        more = (self._submit(called, call, {}) for call in calls)
        results = self._results(pending, more if buffersize is not None else iter(()), deadline)
        return (one for chunk in results for one in chunk) if grouped else results

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Takes no more calls. Safe to call more than once.

        Args:
            wait: Blocks until all its calls are done.
            cancel_futures: Cancels those that have not begun, in the cluster too.
        """
        with self._changed:
            self._shut = True
            pending = list(self._open) if cancel_futures else []
        self._cancel_many(pending)
        if wait:
            self._join()

    def _submit(
        self, fn: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> ExecutorFuture[Any]:
        self._check_open()
        send, codec = self._cluster._bind(self._submission.call_of(fn))
        payload = encode_call(codec, args, kwargs)
        future: ExecutorFuture[Any] = ExecutorFuture(self)
        with self._changed:
            self._check_open()
            at_once = self._max_workers is None or self._sent < self._max_workers
            if at_once:
                self._sent += 1
            elif len(self._waiting) < MAX_WAITING:
                self._waiting.append((future, pinned(send), payload))
            else:
                raise QueueFullError(
                    f"{MAX_WAITING} calls wait for one of max_workers={self._max_workers}; wait "
                    "for some of them first"
                )
            self._open.add(future)
        if at_once:
            try:
                self._send(future, send, payload)
            except BaseException:
                self._leave(future, sent=True)
                raise
        return future

    def _check_open(self) -> None:
        if _exiting:
            raise RuntimeError("cannot schedule new futures after interpreter shutdown")
        if self._shut:
            raise RuntimeError("cannot schedule new futures after shutdown")

    def _send(self, future: ExecutorFuture[Any], send: Send, payload: bytes) -> None:
        task = send(payload)
        with self._changed:
            future._task = task
            unwanted = future._ending
        if unwanted:
            task.as_future().cancel()
        task.add_done_callback(functools.partial(self._on_done, future))

    def _on_done(self, future: ExecutorFuture[Any], task: _core.Future[Any]) -> None:
        """The task is done: so is its future. On the resolver's thread."""
        try:
            if self._claim(future):
                _copy_outcome(task, future)
        finally:
            self._leave(future, sent=True)

    def _claim(self, future: ExecutorFuture[Any]) -> bool:
        """Whether the caller is the one that ends it."""
        with self._changed:
            mine = not future._ending
            future._ending = True
        return mine

    def _leave(self, future: ExecutorFuture[Any], *, sent: bool) -> None:
        """It is done: lets the next one go, and whoever waits for all of them."""
        with self._changed:
            self._open.discard(future)
            self._sent -= sent
            if not self._open:
                self._changed.notify_all()
        del future
        while (ready := self._next_waiting()) is not None:
            following, send, payload = ready
            try:
                self._send(following, send, payload)
            except Exception as error:
                if self._claim(following) and following.set_running_or_notify_cancel():
                    following.set_exception(error)
                with self._changed:
                    self._open.discard(following)
                    self._sent -= 1
                    self._changed.notify_all()

    def _next_waiting(self) -> tuple[ExecutorFuture[Any], Send, bytes] | None:
        with self._changed:
            while self._waiting and (self._max_workers is None or self._sent < self._max_workers):
                ready = self._waiting.popleft()
                if not ready[0]._ending:
                    self._sent += 1
                    return ready
        return None

    def _cancel(self, future: ExecutorFuture[Any]) -> bool:
        if future.done():
            return future.cancelled()
        if _in_event_loop():
            return self._drop(future)
        self._cancel_many([future])
        return future.cancelled()

    def _cancel_many(self, futures: Iterable[ExecutorFuture[Any]]) -> None:
        sent = []
        for future in futures:
            task = future._task
            if task is None:
                self._drop(future)
            else:
                sent.append((future, task))
        self._cluster._cancel_many(task for _, task in sent)
        for future, task in sent:
            # The resolver would say so in a moment; who cancels shall see it now.
            if task.cancelled() and self._claim(future):
                _copy_outcome(task, future)

    def _drop(self, future: ExecutorFuture[Any]) -> bool:
        """Cancels it on this side, and asks nobody."""
        if not self._claim(future):
            return future.cancelled()
        concurrent.futures.Future.cancel(future)
        future.set_running_or_notify_cancel()
        if future._task is None:
            with self._changed:
                self._open.discard(future)
                if not self._open:
                    self._changed.notify_all()
        else:
            future._task.as_future().cancel()
        return True

    def _results(
        self,
        pending: deque[ExecutorFuture[Any]],
        more: Iterator[ExecutorFuture[Any]],
        deadline: Deadline,
    ) -> Iterator[Any]:
        try:
            while pending:
                pending.extend(islice(more, 1))
                # No reference to a result is kept while the consumer has it.
                yield _result_or_cancel(pending.popleft(), deadline)
        finally:
            self._cancel_many(f for f in pending if not f.done())

    def _join(self) -> None:
        with self._changed:
            self._changed.wait_for(lambda: not self._open)

    async def __aenter__(self) -> Executor:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await asyncio.to_thread(self.shutdown)

    def __repr__(self) -> str:
        state = "shut down" if self._shut else "open"
        return f"<Executor on {self._cluster!r}, {len(self._open)} calls open, {state}>"


def _copy_outcome(task: _core.Future[Any], future: ExecutorFuture[Any]) -> None:
    if task.cancelled():
        concurrent.futures.Future.cancel(future)
    if not future.set_running_or_notify_cancel():
        return
    error = task.exception()
    if error is None:
        future.set_result(task.result())
    else:
        future.set_exception(error)


def _result_or_cancel(future: ExecutorFuture[R], deadline: Deadline) -> R:
    try:
        try:
            return future.result(deadline.left())
        finally:
            future.cancel()
    finally:
        # Else an exception and the future that holds it would refer to each other.
        del future


def _in_event_loop() -> bool:
    with contextlib.suppress(RuntimeError):
        asyncio.get_running_loop()
        return True
    return False


def _wait_at_exit() -> None:
    global _exiting
    _exiting = True
    for executor in list(_live):
        executor._join()


if hasattr(os, "register_at_fork"):
    # Nothing of the parent's is ever done in a child.
    os.register_at_fork(after_in_child=_live.clear)
# As the standard library's executors: their calls end before any ``atexit`` hook runs, and the
# cluster's own is one.
getattr(threading, "_register_atexit", atexit.register)(_wait_at_exit)

__all__ = ["Executor", "ExecutorFuture"]
