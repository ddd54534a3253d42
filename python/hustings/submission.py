"""How a call reaches the nodes: what is found under a name, with which options and in which
codec."""

from __future__ import annotations

import contextlib
import functools
import uuid
from collections.abc import Callable, Iterable, Mapping, Sized
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import TYPE_CHECKING, Any, TypeVar, cast

from . import _core
from .codec import encode_call
from .errors import HustingsError, TaskNotRegisteredError
from .future import Deadline, gather
from .mapping import Results, check_map, chunks
from .offers import split_cpu
from .stream import Stream, check_stream
from .tasks import Task, TaskOptions, as_task, chunked, task_id_bytes
from .trace_context import carrying, pinned

if TYPE_CHECKING:
    from .executor import Executor

R = TypeVar("R")

MAX_CANCELLED = 10_000
"""Tasks cancelled by one question to the leader."""
MAX_CACHED = 1024
"""Functions whose options or travelling form are kept for their next call."""
Send = Callable[[bytes], "_core.Future[Any]"]
"""Submits a payload of one task with its options."""


class NamedCall:
    """A function known by its registered name alone."""

    def __init__(self, name: str, options: TaskOptions | None = None) -> None:
        self.name = name
        self._options = options or TaskOptions()

    def options(self, **options: Any) -> NamedCall:
        """The same name with other options."""
        return NamedCall(self.name, check_options(options))


class Submitter:
    """The part of ``Cluster`` that takes work."""

    _client: _core.Client
    _allow_pickle: bool

    def submit(self, fn: Callable[..., R] | str, /, *args: Any, **kwargs: Any) -> _core.Future[R]:
        """Queues a call and returns its future at once. ``fn``: a task, a function, or a
        registered name."""
        return cast("_core.Future[R]", self._submit(task_of(fn), args, kwargs))

    def stream(self, fn: Callable[..., Any] | str, /, *args: Any, **kwargs: Any) -> Stream[Any]:
        """Queues a call of a generator and returns its items as they are yielded, to ``for`` or to
        ``async for``.

        The generator goes no further than its reader has room. If its node dies, another runs it
        again from its beginning; what was read before is passed over, if it is the same.

        Args:
            fn: A generator function, ``def`` or ``async def``, as a task, or its registered name.
            *args: Its arguments.
            **kwargs: Its arguments by name.

        Raises:
            TypeError: It is a function that does not yield.
            ConfigError: Two streams would be one task: it has a ``key`` or a ``task_id``.
        """
        call = task_of(fn)
        check_stream(call._options)
        if isinstance(call, Task) and not call.yields:
            raise TypeError(
                f"{call.name!r} does not yield, so there is nothing to stream: use submit(), or "
                "make it a generator function (yield from ...)"
            )
        if call._options.idempotent:
            # A copy would have no reader.
            call = call.options(idempotent=False)
        send, codec = self._bind(call, "_bound_stream")
        return Stream(send(encode_call(codec, args, kwargs)))

    def map(
        self,
        fn: Callable[..., R] | str,
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
        buffersize: int | None = None,
        ordered: bool = True,
        progress: bool = False,
    ) -> Results[R]:
        """Calls ``fn`` for every tuple of arguments; yields results to ``for`` or ``async for``.

        Leaving the iterator early cancels what has not finished. A ``key`` or ``task_id`` is
        refused: all calls would be one task.

        Args:
            fn: A task, a function, or a registered name.
            *iterables: Arguments; the shortest one ends the calls.
            timeout: Seconds for all results, from this call.
            chunksize: So many calls travel, run and fail as one task (where pickle is allowed).
            buffersize: Tasks submitted ahead of the consumer; ``None``: all, at once.
            ordered: Results in the order of the calls, else as they come.
            progress: Shows a bar, which counts tasks.

        Raises:
            WaitTimeoutError: Out of the iterator, when the time is over first.
        """
        called = task_of(fn)
        check_map(chunksize, buffersize, called._options)
        if not iterables:
            raise TypeError("map: give at least one iterable of arguments")
        deadline = Deadline(timeout)
        total = min((len(i) for i in iterables if isinstance(i, Sized)), default=None)
        calls: Iterable[tuple[Any, ...]] = zip(*iterables, strict=False)
        grouped = chunksize > 1 and self._allow_pickle and isinstance(called, Task)
        if grouped:
            assert isinstance(called, Task)
            called, calls = chunked(called, chunksize), chunks(calls, chunksize)
            total = None if total is None else -(-total // chunksize)
        send, codec = self._bind(called)
        # All calls belong to where they were asked for, however late they are sent.
        send = pinned(send)
        return Results(
            lambda call: send(encode_call(codec, call, {})),
            calls,
            cancel=self._cancel_many,
            deadline=deadline,
            buffersize=buffersize,
            ordered=ordered,
            progress=progress,
            total=total,
            chunked=grouped,
        )

    def options(self, **options: Any) -> Submission:
        """``c.options(retries=3).submit(fn, 1)``: submits with these options."""
        return Submission(self, options)

    def executor(self, *, max_workers: int | None = None, **options: Any) -> Executor:
        """A ``concurrent.futures.Executor`` on this cluster, for code that expects one.

        Args:
            max_workers: Most of its tasks that the cluster has at once; the others wait on this
                side. ``None``: no bound but the cluster's.
            **options: Options of all its tasks, as in ``options``.
        """
        from .executor import Executor

        return Executor(max_workers, cluster=self, **options)

    def gather(self, *fs: Any, timeout: float | None = None, progress: bool = False) -> list[Any]:
        """The results of futures, in order."""
        return gather(*fs, timeout=timeout, progress=progress)

    def future(self, task_id: uuid.UUID | str | bytes) -> _core.Future[Any]:
        """A future on a task that was submitted before, by anybody."""
        return self._client.future(task_id_bytes(task_id))

    def cancel(
        self, task: _core.Future[Any] | uuid.UUID | str | bytes, *, kill: bool = False
    ) -> bool:
        """Cancels a task; ``kill``: also one that runs. False if it had finished (or runs)
        already."""
        identity = task.task_id if isinstance(task, _core.Future) else task
        return bool(self._client.cancel([task_id_bytes(identity)], kill=kill))

    def _submit(
        self, call: Task[..., Any] | NamedCall, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> _core.Future[Any]:
        send, codec = self._bind(call)
        return send(encode_call(codec, args, kwargs))

    def _bind(self, call: Task[..., Any] | NamedCall, kept: str = "_bound") -> tuple[Send, str]:
        bound = call.__dict__.get(kept)
        if bound is None or bound[0] is not self:
            if kept == "_bound" and isinstance(call, Task) and call.yields:
                raise TypeError(
                    f"{call.name!r} yields, and a future has one result: use stream() instead of "
                    "submit() or map(), or return a list"
                )
            self._check_open()
            bound = (self, *bind(self._client, call, self._allow_pickle))
            call.__dict__[kept] = bound
        return bound[1], bound[2]

    def _cancel_many(self, futures: Iterable[_core.Future[Any]]) -> None:
        """Cancels what has not begun, in few questions. A cluster that does not answer has its
        futures say so."""
        ids = [task_id_bytes(f.task_id) for f in futures if not f.done()]
        for start in range(0, len(ids), MAX_CANCELLED):
            with contextlib.suppress(HustingsError):
                self._client.cancel(ids[start : start + MAX_CANCELLED])

    def _check_open(self) -> None:
        raise NotImplementedError


class Submission:
    """A cluster with options that every submitted call gets."""

    def __init__(self, cluster: Submitter, options: Mapping[str, Any]) -> None:
        check_options(options)  # refuses bad ones here, not at the first submit
        self._cluster = cluster
        self._options = dict(options)
        self._calls: dict[Any, Task[..., Any] | NamedCall] = {}

    def submit(self, fn: Callable[..., R] | str, /, *args: Any, **kwargs: Any) -> _core.Future[R]:
        """As ``Cluster.submit``, with the options."""
        return cast("_core.Future[R]", self._cluster._submit(self.call_of(fn), args, kwargs))

    def map(self, fn: Callable[..., R] | str, *iterables: Iterable[Any], **how: Any) -> Results[R]:
        """As ``Cluster.map``, with the options."""
        return self._cluster.map(cast("Any", self.call_of(fn)), *iterables, **how)

    def stream(self, fn: Callable[..., Any] | str, /, *args: Any, **kwargs: Any) -> Stream[Any]:
        """As ``Cluster.stream``, with the options."""
        return self._cluster.stream(cast("Any", self.call_of(fn)), *args, **kwargs)

    def call_of(self, fn: Callable[..., Any] | str) -> Task[..., Any] | NamedCall:
        """``fn`` with the options; the same object for the same function, so that it is prepared
        for the cluster once."""
        if not self._options:
            return task_of(fn)
        if not (isinstance(fn, (str, Task)) or _is_lasting(fn)):
            return task_of(fn).options(**self._options)
        call = self._calls.get(fn)
        if call is None:
            if len(self._calls) >= MAX_CACHED:
                self._calls.clear()
            call = self._calls[fn] = task_of(fn).options(**self._options)
        return call


def check_options(options: Mapping[str, Any]) -> TaskOptions:
    """The options of a call; refuses unknown and bad ones."""
    return Task(_nothing).options(**options)._options


def _nothing() -> None:
    """A function to hang options on."""


def task_of(fn: Callable[..., Any] | str | NamedCall) -> Task[..., Any] | NamedCall:
    """What ``fn`` names or is, as something that can be submitted."""
    if isinstance(fn, (Task, NamedCall)):
        return fn
    if isinstance(fn, str):
        return _named(fn)
    if not callable(fn):
        raise TypeError(
            f"fn={fn!r} ({type(fn).__name__}): give a function, a task or a registered name"
        )
    return _plain(fn) if _is_lasting(fn) else as_task(fn)


def _is_lasting(fn: Callable[..., Any]) -> bool:
    """A function, a class or a builtin: to keep it keeps no caller's object alive, as a bound
    method would."""
    if type(fn) is BuiltinFunctionType:
        return isinstance(fn.__self__, ModuleType)
    return isinstance(fn, (FunctionType, type))


@functools.lru_cache(maxsize=MAX_CACHED)
def _plain(fn: Callable[..., Any]) -> Task[..., Any]:
    return as_task(fn)


@functools.lru_cache(maxsize=MAX_CACHED)
def _named(name: str) -> NamedCall:
    return NamedCall(name)


def _milliseconds(seconds: float | None) -> int:
    return 0 if not seconds else max(1, round(seconds * 1000))


def bind(
    client: _core.Client, call: Task[..., Any] | NamedCall, allow_pickle: bool
) -> tuple[Send, str]:
    """What all calls of one task on one cluster share: how a payload is sent, and its codec."""
    options = call._options
    codec = options.codec or ("pickle" if allow_pickle else "safe")
    rare: dict[str, Any] = {}
    if options.task_id is not None:
        rare["task_id"] = task_id_bytes(options.task_id)
    if options.key is not None:
        rare.update(key=options.key, on_duplicate=options.on_duplicate)
    if options.delay or options.queue_timeout or options.deadline:
        rare.update(
            delay_ms=_milliseconds(options.delay),
            queue_timeout_ms=_milliseconds(options.queue_timeout),
            deadline_ms=_milliseconds(options.deadline),
        )
    if options.labels or options.resources:
        slots, resources = split_cpu(options.resources)
        rare.update(slots=slots, labels=options.labels, resources=resources)
    if options.idempotent:
        rare["idempotent"] = True
    if options.run_in == "thread":
        rare["in_thread"] = True
    submit = functools.partial(
        client.submit,
        call.name,
        _function_hash(client, call, allow_pickle),
        codec,
        retries=options.retries,
        timeout_ms=_milliseconds(options.timeout),
        backoff_ms=_milliseconds(options.backoff),
        priority=options.priority,
        **rare,
    )
    return carrying(submit, options.traceparent), codec


def _function_hash(
    client: _core.Client, call: Task[..., Any] | NamedCall, allow_pickle: bool
) -> bytes | None:
    """How the nodes find the function; ``None``: by its registered name only."""
    if isinstance(call, NamedCall):
        return None
    if allow_pickle:
        reference = call.reference()
        if reference is not None:
            return client.function(call.name, reference=reference)
        return client.function(call.name, pickled=call.pickled())
    if call.reference() is None and not call._named:
        raise TaskNotRegisteredError(
            f"{call.name!r} can only travel by value, which this connection does not allow. Put "
            "the function in a module and start the nodes with --tasks MODULE, give the name it "
            'is registered under (@task(name="...")), or allow pickle on both sides '
            "(allow_pickle=True, --allow-pickle)"
        )
    return None
