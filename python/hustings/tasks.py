"""What a task is: a function with a name and options, callable here, submitted to a cluster, and
how it travels."""

from __future__ import annotations

import asyncio
import functools
import importlib
import inspect
import math
import sys
import uuid
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Callable,
    Generator,
    Iterable,
    Iterator,
    Mapping,
)
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar, cast, overload

from . import codec as codecs
from .errors import ConfigError, InvalidTaskIdError, did_you_mean
from .offers import check_labels, check_resources
from .trace_context import check_traceparent

if TYPE_CHECKING:
    from ._core import Future
    from .stream import Stream

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")

MAX_TIMEOUT_S = 30 * 86_400.0
"""The longest of all times of a task, except ``backoff``."""
MAX_BACKOFF_S = 30.0
"""The longest ``backoff``."""
MAX_RETRIES = 1_000_000
MAX_NAME = 256
"""Characters of a task's name."""
MAX_KEY = 256
"""Bytes of a task's key."""
ON_DUPLICATE = ("join", "reject", "replace")
RUN_IN = ("process", "thread")


@dataclass(frozen=True)
class TaskOptions:
    """How a task is run; every field can be set by ``@task(...)`` and by ``.options(...)``."""

    retries: int = 0
    """Further attempts after the function raised or timed out."""
    timeout: float | None = None
    """Seconds one attempt may take. Then it raises ``TaskTimeoutError`` where it stands; what does
    not end by that is killed with its runner a second later."""
    backoff: float = 0.0
    """Seconds before the first retry; doubles each time up to 30 s, and is a quarter more or less
    by chance, so that tasks that failed together do not come back together."""
    priority: int = 5
    """0 (last) to 9 (first)."""
    codec: str | None = None
    """``"safe"``, ``"json"`` or ``"pickle"``; ``None``: pickle where the cluster allows it, else
    safe."""
    task_id: uuid.UUID | str | bytes | None = None
    """An id of your own: the same id again joins the task that is already there. A UUID of version
    7 says when it was made and is refused once it may have been forgotten; any other is remembered
    for ``limits.id_memory_s``."""
    delay: float = 0.0
    """Seconds from acceptance before which it does not start."""
    queue_timeout: float | None = None
    """Seconds it waits for its first start, after ``delay``; then its outcome is a
    ``TaskTimeoutError`` and it never runs."""
    deadline: float | None = None
    """Seconds from acceptance until it must have its outcome, all attempts and waits included; then
    that is a ``TaskTimeoutError``, and what still runs is killed."""
    key: str | None = None
    """At most one unfinished task of the cluster has this key."""
    on_duplicate: str = "join"
    """What becomes of a call whose ``key`` is held: ``"join"``, its future is that of the task that
    is there; ``"reject"``, ``DuplicateTaskError``; ``"replace"``, the other one is cancelled."""
    labels: Mapping[str, str] | None = None
    """Labels a node must have, with these values, to run it."""
    resources: Mapping[str, float] | None = None
    """What it takes of a node while it runs: ``{"cpu": 2, "memory": 2e9, "gpu": 1}``. ``cpu`` are
    slots, 1 by default; of the others it takes what nodes offer by ``resources=``."""
    idempotent: bool = False
    """Running it twice, even at once, does no harm. Then an attempt that takes much longer than its
    kind usually does gets a copy on an idle node; the first to end counts, the other one is killed.
    """
    run_in: str = "process"
    """``"process"``, a process of its own kind; or ``"thread"``, a thread of the node itself, where
    the node allows that (``allow_threads``; else in a process). A thread costs less and shares what
    its process holds, but not even a timeout can end it where it waits in native code, and what
    crashes it crashes the node."""
    traceparent: str | None = None
    """The trace it belongs to, in the words of W3C Trace Context: ``00-<32 hex>-<16 hex>-<2 hex>``.
    ``None``: the current one, where the script uses opentelemetry."""

    def __post_init__(self) -> None:
        """Checks every field; raises ``ValueError`` or ``TypeError`` naming it."""
        _check_whole("retries", self.retries, 0, MAX_RETRIES)
        _check_whole("priority", self.priority, 0, 9)
        if self.timeout is not None:
            _check_seconds("timeout", self.timeout, positive=True)
        _check_seconds("backoff", self.backoff, positive=False, most=MAX_BACKOFF_S)
        _check_seconds("delay", self.delay, positive=False)
        for name in ("queue_timeout", "deadline"):
            if getattr(self, name) is not None:
                _check_seconds(name, getattr(self, name), positive=True)
        _check_key(self.key, self.on_duplicate)
        if self.run_in not in RUN_IN:
            raise ConfigError(f"run_in={self.run_in!r}: give one of {_choices(RUN_IN)}")
        if not isinstance(self.idempotent, bool):
            raise TypeError(f"idempotent={self.idempotent!r}: give True or False")
        object.__setattr__(self, "labels", check_labels(self.labels))
        object.__setattr__(self, "resources", check_resources(self.resources, cpu=True))
        if self.codec is not None and self.codec not in codecs.CODECS:
            choices = " or ".join(map(repr, codecs.CODECS))
            raise ConfigError(f"codec={self.codec!r}: give {choices}, or None")
        if self.task_id is not None:
            task_id_bytes(self.task_id)
        if self.traceparent is not None:
            check_traceparent(self.traceparent)


def task_id_bytes(value: uuid.UUID | str | bytes) -> bytes:
    """The 16 bytes of a task id. Raises ``InvalidTaskIdError``."""
    if isinstance(value, uuid.UUID):
        return value.bytes
    if isinstance(value, (bytes, bytearray)):
        if len(value) == 16:
            return bytes(value)
        raise InvalidTaskIdError(f"task_id: {len(value)} bytes; give 16, or a uuid.UUID")
    if isinstance(value, str):
        try:
            return uuid.UUID(value).bytes
        except ValueError:
            shown = ascii(value[:60])
            raise InvalidTaskIdError(
                f"task_id={shown}: not a UUID; uuid.uuid4() makes one"
            ) from None
    raise InvalidTaskIdError(f"task_id={value!r}: give a uuid.UUID, its text or its 16 bytes")


class Task(Generic[P, R]):
    """A function that a cluster can run. Made by :func:`task`.

    ``square(3)`` runs here; ``square.submit(3)`` runs on the current cluster and returns a future.
    A function that nodes can import travels as ``module:qualname``, any other by value, as it is
    when it is first
    submitted; where pickle is not allowed only registered names travel.
    """

    __wrapped__: Callable[P, R]

    def __init__(
        self,
        fn: Callable[P, R],
        name: str | None = None,
        options: TaskOptions | None = None,
        *,
        travels_as: Any = None,
    ) -> None:
        if isinstance(fn, Task):
            raise TypeError(f"{fn!r} is a task already; use .options(...)")
        if not callable(fn):
            raise TypeError(f"task: {fn!r} is not callable")
        functools.update_wrapper(self, fn)
        self.__wrapped__ = fn
        self._options = options or TaskOptions()
        self._named = name is not None
        self._name = _checked_name(name) if name is not None else _default_name(fn)
        self._travels_as = travels_as
        self._reference: str | None = None
        self._pickled: bytes | None = None
        if self._options.run_in == "thread" and self.yields:
            raise TypeError(
                f"task {self._name!r} yields, which needs a process: leave out run_in='thread', or "
                "return a list"
            )

    @property
    def name(self) -> str:
        """The name under which nodes know the function."""
        return self._name

    @property
    def yields(self) -> bool:
        """Whether the function is a generator, whose items ``stream`` reads."""
        fn = self.__wrapped__
        return inspect.isgeneratorfunction(fn) or inspect.isasyncgenfunction(fn)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Runs the function here."""
        return self.__wrapped__(*args, **kwargs)

    def submit(self, *args: P.args, **kwargs: P.kwargs) -> Future[R]:
        """Queues a call on the current cluster and returns its future at once."""
        from .cluster import current_cluster

        return cast("Future[R]", current_cluster()._submit(self, args, kwargs))

    @overload
    def stream(self: Task[P, Iterator[T]], *args: P.args, **kwargs: P.kwargs) -> Stream[T]: ...
    @overload
    def stream(
        self: Task[P, Generator[T, Any, Any]], *args: P.args, **kwargs: P.kwargs
    ) -> Stream[T]: ...
    @overload
    def stream(
        self: Task[P, AsyncGenerator[T, Any]], *args: P.args, **kwargs: P.kwargs
    ) -> Stream[T]: ...
    @overload
    def stream(self: Task[P, AsyncIterator[T]], *args: P.args, **kwargs: P.kwargs) -> Stream[T]: ...
    def stream(self: Task[..., Any], *args: Any, **kwargs: Any) -> Stream[Any]:
        """Queues a call of a generator on the current cluster; iterates over what it yields, as
        it is yielded. See ``Cluster.stream``."""
        from .cluster import current_cluster

        return current_cluster().stream(self, *args, **kwargs)

    def map(
        self,
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
        buffersize: int | None = None,
        ordered: bool = True,
        progress: bool = False,
    ) -> Iterator[R]:
        """Calls the function for every tuple of arguments on the current cluster; see
        ``Cluster.map``."""
        from .cluster import current_cluster

        return current_cluster().map(
            self,
            *iterables,
            timeout=timeout,
            chunksize=chunksize,
            buffersize=buffersize,
            ordered=ordered,
            progress=progress,
        )

    def options(self, **options: Any) -> Task[P, R]:
        """The same task with other options: ``square.options(retries=3).submit(2)``."""
        name = options.pop("name", None)
        _refuse_unknown(options)
        other = Task(
            self.__wrapped__,
            name if name is not None else self._name,
            replace(self._options, **options),
            travels_as=self._travels_as,
        )
        other._named = self._named or name is not None
        if name is None:
            other._reference, other._pickled = self._reference, self._pickled
        return other

    def reference(self) -> str | None:
        """``module:qualname`` if a node can import the function, else ``None``."""
        if self._travels_as is None and self._reference is None:
            self._reference = _importable_as(self.__wrapped__)
        return self._reference

    def pickled(self) -> bytes:
        """The function by value, pickled once."""
        if self._pickled is None:
            carried = self.__wrapped__ if self._travels_as is None else self._travels_as
            self._pickled = codecs.dumps_function(carried, self._name)
        return self._pickled

    def __reduce__(self) -> tuple[Any, ...]:
        """Inside another task or its arguments: by name where a node can import it, else with the
        function.

        A runner knows no other functions than those it was sent, so a name alone would not do
        there.
        """
        reference = self.reference()
        if reference is not None:
            return _import_task, (reference, self._name, self._options)
        return Task, (self.__wrapped__, self._name, self._options)

    def __repr__(self) -> str:
        where = self.reference() or "travels by value"
        return f"Task({self._name!r}, {where})"


@overload
def task(fn: Callable[P, R], /) -> Task[P, R]: ...
@overload
def task(
    *,
    name: str | None = None,
    retries: int = 0,
    timeout: float | None = None,
    backoff: float = 0.0,
    priority: int = 5,
    codec: str | None = None,
    delay: float = 0.0,
    queue_timeout: float | None = None,
    deadline: float | None = None,
    key: str | None = None,
    on_duplicate: str = "join",
    labels: Mapping[str, str] | None = None,
    resources: Mapping[str, float] | None = None,
    idempotent: bool = False,
    run_in: str = "process",
    traceparent: str | None = None,
) -> Callable[[Callable[P, R]], Task[P, R]]: ...
def task(fn: Callable[..., Any] | None = None, /, **options: Any) -> Any:
    """Makes a function a task: ``@task`` or ``@task(retries=3, timeout=30)``.

    Raises:
        TypeError: an unknown option (with the nearest name), or a value of the wrong type.
        ValueError: a value out of its bounds.
    """
    name = options.pop("name", None)
    _refuse_unknown(options)
    if "task_id" in options:
        raise TypeError(
            "task: a task_id belongs to one call; use .options(task_id=...).submit(...)"
        )
    checked = TaskOptions(**options)
    if fn is not None:
        return Task(fn, name, checked)
    return lambda wrapped: Task(wrapped, name, checked)


class ChunkCall:
    """Runs several calls of one task in one go: what ``map(chunksize=...)`` submits."""

    def __init__(self, inner: Task[..., Any]) -> None:
        self.inner = inner

    def __call__(self, calls: list[tuple[Any, ...]]) -> Any:
        fn = self.inner.__wrapped__
        if inspect.iscoroutinefunction(fn):
            # All at once, on the runner's event loop.
            return _run_all(fn, calls)
        return [fn(*args) for args in calls]


async def _run_all(fn: Callable[..., Any], calls: list[tuple[Any, ...]]) -> list[Any]:
    return list(await asyncio.gather(*(fn(*args) for args in calls)))


def chunked(inner: Task[..., R], chunksize: int) -> Task[..., list[R]]:
    """A task that runs up to ``chunksize`` calls of ``inner``; its timeout grows with the chunk."""
    options = inner._options
    if options.timeout is not None:
        options = replace(options, timeout=min(options.timeout * chunksize, MAX_TIMEOUT_S))
    call = ChunkCall(inner)
    name = f"{inner.name}[chunk]"[-MAX_NAME:]
    return Task(call, name, replace(options, codec="pickle"), travels_as=call)


def as_task(fn: Callable[..., Any]) -> Task[..., Any]:
    """``fn`` as a task; a plain function gets default options."""
    return fn if isinstance(fn, Task) else Task(fn)


def _import_task(reference: str, name: str, options: TaskOptions) -> Task[..., Any]:
    found = resolve_reference(reference)
    fn = found.__wrapped__ if isinstance(found, Task) else found
    return Task(fn, name, options)


def resolve_reference(reference: str) -> Any:
    """What ``module:qualname`` names. Raises ``ImportError`` or ``AttributeError``."""
    module, _, qualname = reference.partition(":")
    found: Any = importlib.import_module(module)
    for part in qualname.split("."):
        found = getattr(found, part)
    return found


def _importable_as(fn: Callable[..., Any]) -> str | None:
    module = getattr(fn, "__module__", None)
    qualname = getattr(fn, "__qualname__", None)
    if not module or not qualname or module == "__main__" or "<" in qualname:
        return None
    loaded = sys.modules.get(module)
    # A module made by hand, in this process only, cannot be imported by a node.
    if loaded is None or getattr(loaded, "__spec__", None) is None:
        return None
    found: Any = loaded
    for part in qualname.split("."):
        found = getattr(found, part, None)
    found = found.__wrapped__ if isinstance(found, Task) else found
    return f"{module}:{qualname}" if found is fn else None


def _default_name(fn: Callable[..., Any]) -> str:
    qualname = getattr(fn, "__qualname__", None) or type(fn).__qualname__
    module = getattr(fn, "__module__", None) or "__main__"
    return f"{module}.{qualname}"[-MAX_NAME:]


def _checked_name(name: object) -> str:
    if not isinstance(name, str):
        raise TypeError(f"name={name!r}: give text")
    if not 1 <= len(name) <= MAX_NAME or not name.isprintable():
        shown = ascii(name[:60])
        raise ConfigError(f"name={shown}: give 1 to {MAX_NAME} printable characters")
    return name


def _refuse_unknown(options: dict[str, Any]) -> None:
    known = [*(f.name for f in fields(TaskOptions)), "name"]
    for option in options:
        if option not in known:
            hint = did_you_mean(option, known) or f"; the options are {', '.join(known)}"
            raise TypeError(f"task: unknown option {option!r}{hint}")


def _check_whole(name: str, value: object, low: int, high: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"{name}={value!r}: give a whole number from {low} to {high}")
        raise TypeError(f"{name}={value!r}: give a whole number from {low} to {high}")
    if not low <= value <= high:
        raise ValueError(f"{name}={value!r}: give a whole number from {low} to {high}")


def _choices(values: tuple[str, ...]) -> str:
    return ", ".join(map(repr, values))


def _check_key(key: object, on_duplicate: object) -> None:
    if on_duplicate not in ON_DUPLICATE:
        choices = _choices(ON_DUPLICATE)
        raise ConfigError(f"on_duplicate={on_duplicate!r}: give one of {choices}")
    if key is None:
        return
    if not isinstance(key, str):
        raise TypeError(f"key={key!r}: give text, or None")
    size = len(key.encode("utf-8", "surrogatepass"))
    if not 1 <= size <= MAX_KEY or not key.isprintable():
        shown = ascii(key[:60])
        raise ConfigError(f"key={shown}: give 1 to {MAX_KEY} bytes of printable text")


def _check_seconds(
    name: str, value: object, *, positive: bool, most: float = MAX_TIMEOUT_S
) -> None:
    bound = f"seconds, {'more than' if positive else 'at least'} 0 and at most {most:.0f}"
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name}={value!r}: give {bound}")
    if not math.isfinite(value) or value < 0 or (positive and value == 0) or value > most:
        raise ValueError(f"{name}={value!r}: give {bound}")


__all__ = ["Task", "TaskOptions", "task"]
