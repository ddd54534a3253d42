"""How a call reaches the nodes: what is found under a name, with which options and in which
codec."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeVar, cast

from . import _core
from .errors import TaskNotRegisteredError
from .offers import split_cpu
from .tasks import Task, TaskOptions, as_task, task_id_bytes

if TYPE_CHECKING:
    from .cluster import Cluster

R = TypeVar("R")


class NamedCall:
    """A function known by its registered name alone."""

    def __init__(self, name: str, options: TaskOptions | None = None) -> None:
        self.name = name
        self._options = options or TaskOptions()

    def options(self, **options: Any) -> NamedCall:
        """The same name with other options."""
        return NamedCall(self.name, check_options(options))


class Submission:
    """A cluster with options that every submitted call gets."""

    def __init__(self, cluster: Cluster, options: Mapping[str, Any]) -> None:
        self._cluster = cluster
        self._options = dict(options)

    def submit(self, fn: Callable[..., R] | str, /, *args: Any, **kwargs: Any) -> _core.Future[R]:
        """As ``Cluster.submit``, with the options."""
        call = task_of(fn).options(**self._options)
        return cast("_core.Future[R]", self._cluster._submit(call, args, kwargs))

    def map(self, fn: Callable[..., R], *iterables: Iterable[Any], **how: Any) -> Iterator[R]:
        """As ``Cluster.map``, with the options."""
        return self._cluster.map(as_task(fn).options(**self._options), *iterables, **how)


def check_options(options: Mapping[str, Any]) -> TaskOptions:
    """The options of a call; refuses unknown and bad ones."""
    return Task(_nothing).options(**options)._options


def _nothing() -> None:
    """A function to hang options on."""


def task_of(fn: Callable[..., Any] | str) -> Task[..., Any] | NamedCall:
    if isinstance(fn, Task):
        return fn
    if isinstance(fn, str):
        return _named(fn)
    if not callable(fn):
        raise TypeError(
            f"fn={fn!r} ({type(fn).__name__}): give a function, a task or a registered name"
        )
    try:
        return _plain(fn)
    except TypeError:
        return as_task(fn)


@functools.lru_cache(maxsize=1024)
def _plain(fn: Callable[..., Any]) -> Task[..., Any]:
    return as_task(fn)


@functools.lru_cache(maxsize=1024)
def _named(name: str) -> NamedCall:
    return NamedCall(name)


def _milliseconds(seconds: float | None) -> int:
    return 0 if not seconds else max(1, round(seconds * 1000))


def bind(
    client: _core.Client, call: Task[..., Any] | NamedCall, allow_pickle: bool
) -> tuple[Callable[[bytes], Any], str]:
    """What all calls of one task on one cluster share: how a payload is sent, and its codec."""
    options = call._options
    codec = options.codec or ("pickle" if allow_pickle else "json")
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
    send = functools.partial(
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
    return send, codec


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
