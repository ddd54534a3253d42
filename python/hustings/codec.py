"""Turns arguments into bytes and outcomes into Python objects; the only place that pickles
payloads."""

from __future__ import annotations

import functools
import json
import math
import pickle
from collections.abc import Mapping
from types import CellType, FunctionType, MethodType
from typing import Any

from . import _core
from .errors import (
    CancelledError,
    CodecRefusedError,
    ConfigError,
    HustingsError,
    InvalidTaskIdError,
    NotSerializableError,
    PayloadTooLargeError,
    QueueFullError,
    RemoteTaskError,
    RemoteTraceback,
    StoppedError,
    StreamDivergedError,
    StreamUnreadError,
    TaskIdConflictError,
    TaskLostError,
    TaskNotRegisteredError,
    TaskTimeoutError,
)

CODECS = ("safe", "json", "pickle")
MAX_SAFE = 1 << 30
"""Bytes of arguments, whatever the cluster takes."""
_MAX_DEPTH = 64
"""Nesting that JSON payloads may have; the same bound as on the wire."""

NOTED_LINES = 10
"""Lines of a task's output in the note of its exception."""

_PICKLE_REMEDY = (
    "pass data instead (a path instead of an open file, an address instead of a connection), "
    "or open it inside the task"
)
_JSON_REMEDY = (
    "JSON carries None, bool, int, finite float, str, list and dict with str keys; "
    "convert it, or use codec='safe', or allow pickle on both sides (allow_pickle=True, "
    "hustings node --allow-pickle)"
)


def encode_call(codec: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bytes:
    """The payload of one call. Raises ``NotSerializableError`` with the path of what cannot
    travel."""
    if codec == "pickle":
        return _encode_pickle((args, kwargs))
    if codec == "safe":
        return _core.safe_dumps_call(args, kwargs, MAX_SAFE)
    return _encode_json(args, kwargs)


def dumps_function(fn: Any, name: str) -> bytes:
    """A callable by value, for functions that a node cannot import."""
    import cloudpickle  # type: ignore[import-untyped,unused-ignore]

    try:
        return bytes(cloudpickle.dumps(fn, protocol=5))
    except Exception as error:
        path, culprit = _locate("its function", fn)
        raise NotSerializableError(
            f"task {name!r}: {path} ({_class_of(culprit)}) cannot be pickled: {_one_line(error)}. "
            "A function that a node cannot import travels with everything it refers to; create "
            "locks, files and connections inside it"
        ) from error


def _encode_pickle(value: tuple[tuple[Any, ...], dict[str, Any]]) -> bytes:
    try:
        body = pickle.dumps(value, protocol=5)
    except Exception:
        pass
    else:
        # Plain pickle names what lives in __main__, but a runner has another __main__: such values
        # go by value.
        if b"__main__" not in body:
            return body
    import cloudpickle  # type: ignore[import-untyped,unused-ignore]

    try:
        return bytes(cloudpickle.dumps(value, protocol=5))
    except Exception as error:
        args, kwargs = value
        parts: list[tuple[str, Any]] = [(f"args[{i}]", a) for i, a in enumerate(args)]
        parts += [(f"argument {k!r}", v) for k, v in kwargs.items()]
        path, culprit = _locate("arguments", value, parts)
        raise NotSerializableError(
            f"{path} ({_class_of(culprit)}) cannot be pickled: {_one_line(error)}; {_PICKLE_REMEDY}"
        ) from error


def _class_of(value: Any) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}"


def _locate(path: str, value: Any, parts: list[tuple[str, Any]] | None = None) -> tuple[str, Any]:
    """The innermost part that pickling fails on, e.g. ``args[1]['lock']``."""
    parts = _parts_of(path, value) if parts is None else parts
    for _ in range(_MAX_DEPTH):
        culprit = next(((p, v) for p, v in parts if not _picklable(v)), None)
        if culprit is None:
            return path, value
        path, value = culprit
        parts = _parts_of(path, value)
    return path, value


def _parts_of(path: str, value: Any) -> list[tuple[str, Any]]:
    if isinstance(value, FunctionType):
        return _parts_of_function(path, value)
    if isinstance(value, MethodType):
        return [(f"{path}.__self__", value.__self__), (path, value.__func__)]
    if isinstance(value, functools.partial):
        parts = [(f"{path}.func", value.func)]
        parts += [(f"{path}.args[{i}]", a) for i, a in enumerate(value.args)]
        return parts + [(f"{path}.keywords[{k!r}]", v) for k, v in value.keywords.items()]
    if isinstance(value, Mapping):
        return [(f"{path}[{k!r}]", v) for k, v in value.items()]
    if isinstance(value, (list, tuple, set, frozenset)):
        return [(f"{path}[{i}]", v) for i, v in enumerate(value)]
    attributes = getattr(value, "__dict__", None)
    if isinstance(attributes, dict) and not isinstance(value, type):
        return [(f"{path}.{k}", v) for k, v in attributes.items()]
    return []


def _parts_of_function(path: str, fn: FunctionType) -> list[tuple[str, Any]]:
    """What it takes along: variables it encloses, globals it reads, defaults, attributes."""
    import dis

    cells = zip(fn.__code__.co_freevars, fn.__closure__ or (), strict=False)
    parts = [(f"{path}: its variable {n!r}", c.cell_contents) for n, c in cells if _is_set(c)]
    names = dict.fromkeys(
        i.argval for i in dis.get_instructions(fn.__code__) if i.opname == "LOAD_GLOBAL"
    )
    found = [n for n in names if n in fn.__globals__]
    parts += [(f"{path}: the global {n!r}", fn.__globals__[n]) for n in found]
    parts += [(f"{path}: default {i}", d) for i, d in enumerate(fn.__defaults__ or ())]
    parts += [(f"{path}: default of {k!r}", d) for k, d in (fn.__kwdefaults__ or {}).items()]
    return parts + [(f"{path}.{k}", v) for k, v in vars(fn).items()]


def _is_set(cell: CellType) -> bool:
    try:
        cell.cell_contents  # noqa: B018
    except ValueError:
        return False
    return True


def _picklable(value: Any) -> bool:
    import cloudpickle  # type: ignore[import-untyped,unused-ignore]

    try:
        cloudpickle.dumps(value, protocol=5)
    except Exception:
        return False
    return True


def _encode_json(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bytes:
    for i, value in enumerate(args):
        _check_json(value, f"args[{i}]", 0)
    for key, value in kwargs.items():
        _check_json(value, f"argument {key!r}", 0)
    call = {"args": list(args), "kwargs": kwargs}
    try:
        text = json.dumps(call, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        return text.encode()
    except UnicodeEncodeError as error:
        raise NotSerializableError(
            f"arguments: a string holds a lone surrogate: {error}"
        ) from error


def _check_json(value: Any, path: str, depth: int) -> None:
    kind = type(value)
    if value is None or kind is bool or kind is str or kind is int:
        return
    if kind is float:
        if not math.isfinite(value):
            raise NotSerializableError(
                f"{path} is {value}: JSON has no such number; {_JSON_REMEDY}"
            )
        return
    if depth >= _MAX_DEPTH:
        raise NotSerializableError(f"{path}: nested deeper than {_MAX_DEPTH}; flatten it")
    if kind is list:
        for i, item in enumerate(value):
            _check_json(item, f"{path}[{i}]", depth + 1)
        return
    if kind is dict:
        for key, item in value.items():
            if type(key) is not str:
                raise NotSerializableError(
                    f"{path} has the key {key!r} ({type(key).__name__}); {_JSON_REMEDY}"
                )
            _check_json(item, f"{path}[{key!r}]", depth + 1)
        return
    raise NotSerializableError(
        f"{path} ({kind.__module__}.{kind.__qualname__}) would not survive JSON; {_JSON_REMEDY}"
    )


def decode(codec: str, body: bytes) -> Any:
    """The value of an outcome."""
    if codec == "pickle":
        return pickle.loads(body)
    if codec == "safe":
        return _core.safe_loads(body)
    if codec == "json":
        return json.loads(body)
    raise CodecRefusedError(f"codec {codec!r} is unknown here; run the same version everywhere")


def rebuild(failure: dict[str, Any]) -> BaseException:
    """The exception a future raises for an outcome without a value, or for a refusal.

    Where the task printed or logged something, its last lines are a note of the exception.
    """
    error = _rebuild(failure)
    last = str(failure.get("output") or "").rstrip().splitlines()[-NOTED_LINES:]
    if last and hasattr(error, "add_note"):  # Python 3.11
        error.add_note("\n".join(["the task said last:", *(f"  {line[:200]}" for line in last)]))
    return error


def _rebuild(failure: dict[str, Any]) -> BaseException:
    kind = failure.get("kind")
    message = str(failure.get("message") or "")
    if kind == "failure":
        return _rebuild_raised(failure, message)
    if kind == "lost":
        attempts = int(failure.get("attempts") or 0)
        text = f"task {failure.get('task_id')} was lost after {attempts} attempts: {message}"
        return TaskLostError(text, attempts)
    if kind == "timeout":
        return TaskTimeoutError(message or f"task {failure.get('task_id')} ran out of time")
    if kind == "cancelled":
        return CancelledError(message) if message else CancelledError()
    return _rebuild_refusal(failure, message)


def _rebuild_raised(failure: dict[str, Any], message: str) -> BaseException:
    type_name = str(failure.get("type_name") or "Exception")
    text = str(failure.get("traceback") or "")
    raised: BaseException | None = None
    pickled = failure.get("pickled")
    if pickled:
        # Its class may be missing or different here: then the words must do.
        try:
            candidate = pickle.loads(pickled)
        except Exception:
            candidate = None
        if isinstance(candidate, BaseException):
            raised = candidate
    if raised is None and (known := _OUR_OWN.get(type_name)):
        raised = known(message)
    if raised is None:
        raised = RemoteTaskError(type_name, message, text)
    if text:
        node = failure.get("node")
        where = f"on node {node}, task {failure.get('task_id')}\n" if node else ""
        raised.__cause__ = RemoteTraceback(where + text)
    return raised


_OUR_OWN: dict[str, type[HustingsError]] = {
    f"{known.__module__}.{known.__name__}": known
    for known in (TaskTimeoutError, StreamDivergedError, StreamUnreadError)
}
"""What hustings itself raises in a task; it is rebuilt without pickle."""

_REFUSALS: dict[str, type[HustingsError]] = {
    "invalid": ConfigError,
    "queue_full": QueueFullError,
    "id_conflict": TaskIdConflictError,
    "invalid_id": InvalidTaskIdError,
    "unknown_function": TaskNotRegisteredError,
    "payload_too_large": PayloadTooLargeError,
    "codec": CodecRefusedError,
    "stopping": StoppedError,
}


def _rebuild_refusal(failure: dict[str, Any], message: str) -> BaseException:
    refusal = str(failure.get("refusal") or "").lower().removeprefix("refusal_")
    if refusal == "queue_full":
        return QueueFullError(message, float(failure.get("retry_after_s") or 0.0))
    return _REFUSALS.get(refusal, HustingsError)(message or f"the task was refused: {refusal}")


def _one_line(error: BaseException) -> str:
    try:
        text = " ".join(str(error).split())
    except Exception:
        text = ""
    return f"{type(error).__name__}: {text[:300]}" if text else type(error).__name__
