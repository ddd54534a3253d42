"""Tasks that tell which trace they belong to, and which spans they make."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator, Iterator

import hustings as hs

Span = tuple[str, str]
"""The ids of a span's trace and of its parent, in hexadecimal."""


@hs.task
def tell() -> str | None:
    return hs.get_context().traceparent


@hs.task
def tell_of(_: int) -> str | None:
    return hs.get_context().traceparent


@hs.task
def tell_behind(path: str) -> tuple[str | None, str]:
    """Its trace and its node, once the gate is open."""
    while not os.path.exists(path):
        time.sleep(0.01)
    context = hs.get_context()
    return context.traceparent, context.node


@hs.task(retries=2)
def tell_at_third() -> tuple[str | None, int]:
    context = hs.get_context()
    if context.attempt < 3:
        raise ValueError(context.traceparent)
    return context.traceparent, context.attempt


@hs.task
def fail() -> None:
    raise ValueError("on purpose")


@hs.task(timeout=0.2)
def wait_too_long() -> None:
    time.sleep(1e6)


@hs.task
def has_opentelemetry() -> bool:
    return "opentelemetry" in sys.modules


@hs.task
def lose_opentelemetry() -> None:
    """From now on this runner cannot import it."""
    for name in [name for name in sys.modules if name.startswith("opentelemetry")]:
        del sys.modules[name]
    sys.modules["opentelemetry"] = None  # type: ignore[assignment]


@hs.task
def span_here() -> str | None:
    """The span that is open where a task begins."""
    from opentelemetry import trace

    context = trace.get_current_span().get_span_context()
    return f"{context.span_id:016x}" if context.is_valid else None


def make_span() -> Span:
    """A span, as a library in a task makes it."""
    from opentelemetry.sdk.trace import TracerProvider

    with TracerProvider().get_tracer("tests").start_as_current_span("inside") as span:
        parent = span.parent  # type: ignore[attr-defined]
        return f"{span.get_span_context().trace_id:032x}", f"{parent.span_id:016x}"


@hs.task
def span() -> Span:
    return make_span()


@hs.task
def span_of(_: int) -> Span:
    return make_span()


@hs.task(timeout=60)
def span_in_time() -> Span:
    return make_span()


@hs.task
async def span_async() -> list[Span]:
    """Two that run at once on the runner's loop."""

    async def one() -> Span:
        await asyncio.sleep(0)
        return make_span()

    return list(await asyncio.gather(one(), one()))


@hs.task
def spans() -> Iterator[Span]:
    for _ in range(3):
        yield make_span()


@hs.task
async def spans_async() -> AsyncIterator[Span]:
    for _ in range(3):
        await asyncio.sleep(0)
        yield make_span()
