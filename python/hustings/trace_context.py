"""The trace a call belongs to (W3C Trace Context): what it is submitted with, and what its callback
runs in. OpenTelemetry is used where it is there, and never imported on the submitting side."""

from __future__ import annotations

import contextvars
import functools
import sys
from collections.abc import Callable
from typing import Any, TypeVar

R = TypeVar("R")


def check_traceparent(traceparent: object) -> None:
    """Refuses what is no trace context. Raises ``TypeError`` or ``ConfigError``.

    >>> check_traceparent("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
    """
    if not isinstance(traceparent, str):
        raise TypeError(f"traceparent={traceparent!r}: give text, or None")
    from . import _core

    _core.check_traceparent(traceparent)


def current() -> str | None:
    """The trace context of this place in the script, as OpenTelemetry knows it; ``None`` where the
    script does not use it, or where no span is open."""
    api = sys.modules.get("opentelemetry.trace")
    # Another thread may be in the middle of importing it.
    get_current_span = getattr(api, "get_current_span", None)
    if get_current_span is None:
        return None
    context = get_current_span().get_span_context()
    if not context.is_valid:
        return None
    flags = int(context.trace_flags) & 0xFF
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{flags:02x}"


def carrying(submit: Callable[..., R], given: str | None) -> Callable[..., R]:
    """``submit`` with the trace context that was ``given`` for its task; else with the one that
    comes with the call, else with the current one."""

    def send(payload: bytes, traceparent: str | None = None) -> R:
        context = given or (current() if traceparent is None else traceparent)
        return submit(payload, traceparent=context) if context else submit(payload)

    return send


def pinned(send: Callable[..., R]) -> Callable[..., R]:
    """``send`` with the trace context of this moment, for calls that leave later."""
    return functools.partial(send, traceparent=current() or "")


def within(traceparent: str | None, fn: Callable[[], R]) -> Callable[[], R]:
    """``fn``, to be called where the spans it makes become children of ``traceparent``.

    Without one, or without OpenTelemetry, that is ``fn`` itself. What it sets of context variables
    is gone with it.
    """
    if not traceparent or (attach := _attach()) is None:
        return fn

    def run() -> R:
        attach(traceparent)
        return fn()

    return functools.partial(contextvars.copy_context().run, run)


@functools.cache
def _attach() -> Callable[[str], Any] | None:
    """What enters a trace context; ``None`` where OpenTelemetry's API cannot be imported."""
    try:
        from opentelemetry import context, trace
    except Exception:  # whatever is wrong with it: no task fails for it
        return None

    def attach(traceparent: str) -> Any:
        _, trace_id, span_id, flags = traceparent.split("-")
        parent = trace.SpanContext(
            int(trace_id, 16), int(span_id, 16), True, trace.TraceFlags(int(flags, 16))
        )
        return context.attach(trace.set_span_in_context(trace.NonRecordingSpan(parent)))

    return attach
