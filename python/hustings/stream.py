"""What a generator task yields, as its submitter reads it: item by item, each once and in order."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator
from types import TracebackType
from typing import Any, Generic, TypeVar

from ._core import Future, ItemReader
from .errors import ConfigError, WaitTimeoutError
from .tasks import TaskOptions

T = TypeVar("T")


class Stream(Generic[T]):
    """What ``stream`` returns: an iterator over what a generator task yields, for ``for`` or for
    ``async for``.

    It is the task's only reader. Left early, by ``close()``, by the end of its ``with`` or by a
    ``break`` that drops it, it cancels the task. What the task raises comes after the items before
    it.

    Example:
        >>> import hustings as hs
        >>> @hs.task
        ... def squares(n):
        ...     for i in range(n):
        ...         yield i * i
        ...     return "done"
        >>> with hs.Cluster.local(1, name="doc"):
        ...     stream = squares.stream(4)
        ...     print(list(stream), stream.future.result(timeout=30))
        [0, 1, 4, 9] done
    """

    def __init__(self, future: Future[Any]) -> None:
        self.future = future
        """Its outcome: what the generator returns, or raises."""
        self._over = False
        self._count = 0
        self._reader = ItemReader(future)

    @property
    def task_id(self) -> str:
        """The task's id."""
        return self.future.task_id

    @property
    def count(self) -> int:
        """Items given so far."""
        return self._count

    @property
    def attempt(self) -> int:
        """The attempt that yielded the last one, counted from 1; 0 before the first."""
        return self._reader.attempt

    def next(self, timeout: float | None = None) -> T:
        """The next item. Blocks, interruptibly.

        Args:
            timeout: Seconds to wait for it; the stream can be asked again afterwards.

        Raises:
            StopIteration: There are no more.
            WaitTimeoutError: It did not come in time.
        """
        if self._over:
            raise StopIteration
        taken = self._reader.next(timeout)
        if taken is None:
            raise StopIteration(self._end())
        self._count += 1
        return taken[0]  # type: ignore[no-any-return]

    def __iter__(self) -> Iterator[T]:
        return self

    def __next__(self) -> T:
        return self.next()

    def __aiter__(self) -> AsyncIterator[T]:
        return self

    async def __anext__(self) -> T:
        while not self._over:
            try:
                taken = self._reader.next(0.0)
            except WaitTimeoutError:
                await self._reader.ready()
                continue
            if taken is None:
                self._end()
                break
            self._count += 1
            return taken[0]  # type: ignore[no-any-return]
        raise StopAsyncIteration

    def close(self) -> None:
        """Ends the iteration; a task without an outcome is cancelled, and killed if it runs. Does
        not wait for that."""
        self._over = True
        self._reader.close()

    async def aclose(self) -> None:
        """As ``close``, which blocks for nothing."""
        self.close()

    def _end(self) -> Any:
        self._over = True
        return self.future.result(0.0)

    def __enter__(self) -> Stream[T]:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    async def __aenter__(self) -> Stream[T]:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __del__(self) -> None:
        # At the end of the interpreter, or in a forked child, there is nobody to tell.
        if not getattr(self, "_over", True):
            with contextlib.suppress(Exception):
                self.close()

    def __repr__(self) -> str:
        end = "over" if self._over else "open"
        return f"<Stream {self.task_id} {end}, {self._count} items>"


def check_stream(options: TaskOptions) -> None:
    """Refuses options with which two streams would be one task: it has one reader."""
    for name in ("key", "task_id"):
        if (value := getattr(options, name)) is not None:
            raise ConfigError(
                f"{name}={value!r}: a stream has one reader, and calls with the same {name} would "
                "be one task; leave it out"
            )
