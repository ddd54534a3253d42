"""What a runner subprocess does in Python: load a task's function, call it, encode its result.

The loop around it is native (``run_runner``): it reads frames from the node and calls
``load_function`` and ``call``.
"""

from __future__ import annotations

import asyncio
import functools
import importlib
import json
import math
import os
import pickle
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from types import AsyncGeneratorType, CoroutineType, GeneratorType, TracebackType
from typing import Any

from hustings import _alarm, _coroutine, _words, trace_context
from hustings._terms import payload_limit, pickle_allowed, require_pickle, too_large

MAX_MESSAGE_BYTES = 4 << 10
"""Most bytes of an exception's text that travel."""
MAX_TRACEBACK_BYTES = 64 << 10
"""Most bytes of a traceback that travel; its middle is cut out."""
MAX_JSON_DEPTH = 200
"""Deepest nesting of a JSON result; every JSON decoder has such a bound."""

Answer = tuple[bool, str, bytes, str, str, str]

info: dict[str, Any] | None = None
"""The attempt that runs in this process: ``task_id``, ``attempt``, ``fencing_token``, ``key``,
``timeout_s``, ``end_by``, ``traceparent``; or ``None``."""
started_at = 0.0
"""When it started, in seconds since 1970."""


# --- functions ------------------------------------------------------------------------------------


def load_function(name: str, reference: str | None, pickled: bytes | None) -> Callable[..., Any]:
    """The function called ``name``: imported by ``module:qualname``, or unpickled if allowed."""
    if reference is not None:
        found = _import_reference(name, reference)
    elif pickled is not None:
        require_pickle(f"function {name!r}")
        found = pickle.loads(pickled)
    else:
        raise ValueError(f"function {name!r}: neither a reference nor a pickled body was given")
    if _is_task(found):
        found = found.__wrapped__
    if not callable(found):
        raise TypeError(f"function {name!r} is a {type(found).__name__}, which cannot be called")
    return found  # type: ignore[no-any-return]


def _import_reference(name: str, reference: str) -> Any:
    module_name, colon, qualname = reference.partition(":")
    if not (module_name and colon and qualname):
        raise ValueError(
            f"function {name!r}: reference {reference!r} is not of the form module:qualname"
        )
    if module_name == "__main__" or "<locals>" in qualname:
        raise ValueError(
            f"function {name!r}: {reference!r} cannot be imported by another process; move it to "
            "the top level of a module, or allow pickle"
        )
    found: Any = importlib.import_module(module_name)
    for part in qualname.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            file = getattr(sys.modules[module_name], "__file__", None) or "it"
            raise AttributeError(
                f"function {name!r}: module {module_name!r} has no {qualname!r}; "
                f"is {file} the same version on every node?"
            ) from None
    return found


def _is_task(value: Any) -> bool:
    # Only our own wrapper is taken off: functools.wraps sets __wrapped__ on everybody's.
    cls = type(value)
    return (
        cls.__name__ == "Task"
        and cls.__module__.partition(".")[0] == "hustings"
        and hasattr(value, "__wrapped__")
    )


# --- one attempt ----------------------------------------------------------------------------------


def call(
    fn: Callable[..., Any],
    codec: str,
    payload: bytes,
    attempt: dict[str, Any],
    outlet: Any = None,
) -> Answer:
    """Runs one attempt; never raises. What it yields goes through ``outlet``.

    Returns ``(True, codec, body, "", "", "")``, or ``(False, codec, pickled exception, type name,
    message, traceback)``.
    """
    global info, started_at
    try:
        try:
            args, kwargs = decode_arguments(codec, payload)
            info, started_at = attempt, time.time()
            token, timeout = attempt.get("fencing_token", 0), attempt.get("timeout_s")
            run: Callable[[], Any] = functools.partial(_run, fn, args, kwargs, codec, outlet, token)
            run = trace_context.within(attempt.get("traceparent"), run)
            _alarm.begin(token)
            _words.begin_attempt()
            if timeout and threading.current_thread() is threading.main_thread():
                value = _alarm.call_within(timeout, run)
            else:
                value = run()
            return True, codec, encode_result(codec, value), "", "", ""
        finally:
            info = None
            _alarm.begin(0)
            _flush()
    # SystemExit and KeyboardInterrupt end the attempt, not the runner.
    except BaseException as exc:
        return describe_failure(exc, codec)


def _run(fn: Any, args: Any, kwargs: Any, codec: str, outlet: Any, token: int) -> Any:
    value = fn(*args, **kwargs)
    if isinstance(value, CoroutineType):
        return _coroutine.run(value)
    if isinstance(value, (GeneratorType, AsyncGeneratorType)):
        from . import _outlet

        return _outlet.run(value, functools.partial(encode_result, codec), outlet, token)
    return value


def _flush() -> None:
    # What a task prints shall be seen even if its runner is killed later.
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except Exception:  # a callback may have closed or replaced it
            continue


def decode_arguments(
    codec: str, payload: bytes
) -> tuple[list[Any] | tuple[Any, ...], dict[str, Any]]:
    """The positional and keyword arguments in ``payload``."""
    if codec == "pickle":
        require_pickle("arguments")
        args, kwargs = pickle.loads(payload)
        return args, kwargs
    if codec == "safe":
        args, kwargs = _native().safe_loads(payload)
        return args, kwargs
    if codec != "json":
        raise ValueError(f"codec {codec!r} is not known; use 'safe', 'json' or 'pickle'")
    decoded = _DECODER.decode(payload.decode())
    if (
        not isinstance(decoded, dict)
        or decoded.keys() - {"args", "kwargs"}
        or not isinstance(decoded.get("args", []), list)
        or not isinstance(decoded.get("kwargs", {}), dict)
    ):
        raise ValueError('the JSON payload must be {"args": [...], "kwargs": {...}}')
    return decoded.get("args", []), decoded.get("kwargs", {})


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not valid JSON")


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant)


# --- results --------------------------------------------------------------------------------------


def encode_result(codec: str, value: Any, what: str = "result") -> bytes:
    """``value`` in ``codec``; refuses what would come back changed, and what is over the limit."""
    limit = payload_limit()
    if codec == "json":
        body = _encode_json(value, limit, what)
    elif codec == "safe":
        body = _native().safe_dumps(value, what, limit)
    else:
        require_pickle(what)
        body = _pickle(value)
    if len(body) > limit:
        raise too_large(f"{len(body)} bytes", limit)
    return body


def _native() -> Any:
    from hustings import _core

    return _core


def _pickle(value: Any) -> bytes:
    """Protocol 5; by value where a class or function cannot be imported elsewhere."""
    try:
        return pickle.dumps(value, 5)
    except Exception:  # PicklingError, AttributeError, TypeError: "not by reference"
        import cloudpickle  # type: ignore[import-untyped]

        return cloudpickle.dumps(value, 5)  # type: ignore[no-any-return]


_PLAIN = (type(None), bool, int, str)
_ENCODER = json.JSONEncoder(allow_nan=False, ensure_ascii=False, separators=(",", ":"))


def _encode_json(value: Any, limit: int, what: str) -> bytes:
    if type(value) not in _PLAIN:
        _check_json(value, limit, what)
    try:
        return _ENCODER.encode(value).encode()
    except UnicodeEncodeError:  # a lone surrogate survives as an escape
        return json.dumps(value, allow_nan=False, separators=(",", ":")).encode()


def _check_json(value: Any, limit: int, what: str) -> None:
    """Raises for the first value that JSON would change or lose, with its path."""
    open_ids: set[int] = set()
    left = limit
    spell = functools.partial(_spell, what)

    def visit(value: Any, path: tuple[Any, ...]) -> None:
        nonlocal left
        left -= 1  # every value costs a byte at least: shared parts cannot grow without bound
        if left < 0:
            raise too_large(f"more than {limit} values", limit)
        kind = type(value)
        if kind in _PLAIN:
            return
        if kind is float:
            if not math.isfinite(value):
                raise ValueError(f"{spell(path)} is {value}, which JSON does not have; use None")
            return
        if kind is not list and kind is not dict:
            raise TypeError(
                f"{spell(path)} is {_article(kind)}, which JSON would change or cannot hold; "
                "return None, bool, int, float, str, list or dict, or use codec='safe' or 'pickle'"
            )
        if id(value) in open_ids:
            raise ValueError(f"{spell(path)} contains itself, which JSON cannot express")
        if len(path) >= MAX_JSON_DEPTH:
            raise ValueError(f"{what} is nested more than {MAX_JSON_DEPTH} levels deep")
        open_ids.add(id(value))
        if kind is list:
            for index, item in enumerate(value):
                visit(item, (*path, index))
        else:
            for key, item in value.items():
                if type(key) is not str:
                    raise TypeError(
                        f"{spell(path)} has the key {key!r}, {_article(type(key))}; JSON keys are "
                        "str: convert them, or use codec='safe' or 'pickle'"
                    )
                visit(item, (*path, key))
        open_ids.discard(id(value))

    visit(value, ())


def _spell(what: str, path: tuple[Any, ...]) -> str:
    text = what + "".join(f"[{part!r}]" for part in path)
    return text if len(text) <= 200 else text[:100] + " ... " + text[-90:]


def _article(kind: type) -> str:
    name = kind.__qualname__
    if kind.__module__ != "builtins":
        name = f"{kind.__module__}.{name}"
    return f"{'an' if name[:1].lower() in 'aeiou' else 'a'} {name}"


# --- failures -------------------------------------------------------------------------------------


def describe_failure(exc: BaseException, codec: str) -> Answer:
    """An exception as it travels; whatever its own methods do, this returns."""
    cls = type(exc)
    type_name = f"{cls.__module__}.{cls.__qualname__}"
    try:
        message = str(exc)
    except BaseException as inner:
        reason = type(inner).__name__
        message = f"({cls.__qualname__} cannot be shown: its __str__ raised {reason})"
    try:
        text = "".join(traceback.format_exception(cls, exc, _users_part(exc.__traceback__)))
    except BaseException:
        text = f"{type_name}: {message}"
    return (
        False,
        codec,
        _pickle_exception(exc),
        _clean(type_name),
        _cut(message, MAX_MESSAGE_BYTES),
        _cut(text, MAX_TRACEBACK_BYTES),
    )


def _users_part(tb: TracebackType | None) -> TracebackType | None:
    """``tb`` without the frames between the runner's loop and the user's function."""
    ours = (
        __file__,
        importlib.__file__,
        os.path.join(os.path.dirname(__file__), "_outlet.py"),
        os.path.join(os.path.dirname(__file__), "_threads.py"),
        trace_context.__file__,
        _alarm.__file__,
        _coroutine.__file__,
        asyncio.base_events.__file__,
    )
    while tb is not None and tb.tb_frame.f_code.co_filename in ours:
        tb = tb.tb_next
    return tb


def _pickle_exception(exc: BaseException) -> bytes:
    """The exception, if it can be rebuilt elsewhere and pickle is allowed; else empty."""
    # A SystemExit or KeyboardInterrupt, raised again by the submitter, would end the submitter.
    if not pickle_allowed() or not isinstance(exc, Exception):
        return b""
    try:
        body = _pickle(exc)
        # A class whose __init__ takes other arguments pickles and then does not unpickle.
        if len(body) > payload_limit() or type(pickle.loads(body)) is not type(exc):
            return b""
    except BaseException:
        return b""
    return body


def _clean(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()


def _cut(text: str, limit: int) -> str:
    """At most ``limit`` bytes of ``text``: its beginning and its end, which say most."""
    data = text.encode("utf-8", "backslashreplace")
    if len(data) <= limit:
        return data.decode()
    mark = f"\n... {len(data) - limit} bytes cut ...\n".encode()
    head = limit // 4
    tail = limit - head - len(mark) - 16
    return (data[:head] + mark + data[-tail:]).decode("utf-8", "ignore")


# --- the process ----------------------------------------------------------------------------------


def extend_path(joined: str) -> None:
    """Puts the entries of ``joined`` that ``sys.path`` lacks before all others, in their order."""
    sys.path[:0] = dict.fromkeys(x for x in joined.split(os.pathsep) if x and x not in sys.path)


def main() -> None:
    """Serves the node at file descriptor 0 until it closes it."""
    # The node decides when a runner ends: a Ctrl-C meant for it does not reach a task by accident.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGUSR1, _alarm.on_cancel)
    extend_path(os.environ.get("HUSTINGS_SYS_PATH", ""))
    from hustings._core import run_runner

    _words.begin()

    run_runner(load_function, call)


if __name__ == "__main__":
    # As the module other code imports, not as a second copy called __main__.
    from hustings._runner import main as run

    run()
