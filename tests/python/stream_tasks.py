"""Tasks that yield."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Generator, Iterator

import hustings as hs


def note(path: str, text: object) -> None:
    """Adds a line to a file, which outlives this process."""
    with open(path, "a") as file:
        file.write(f"{text}\n")


@hs.task
def count_up(n: int) -> Generator[int, None, str]:
    yield from range(n)
    return f"counted {n}"


@hs.task
def never_yields(n: int) -> Iterator[int]:
    if n < 0:
        yield n


@hs.task
async def count_slowly(n: int) -> AsyncIterator[int]:
    for i in range(n):
        await asyncio.sleep(0)
        yield i


@hs.task
def noted(n: int, path: str) -> Iterator[int]:
    """Writes down what it yields before it does, and how it ends."""
    try:
        for i in range(n):
            note(path, i)
            yield i
    finally:
        note(path, "end")


@hs.task
async def noted_async(path: str) -> AsyncIterator[int]:
    beats = 0

    async def beat() -> None:
        nonlocal beats
        while True:
            beats += 1
            note(path, f"beat {beats}")
            await asyncio.sleep(0.05)

    beating = asyncio.create_task(beat())
    try:
        for i in range(10_000):
            yield i
    finally:
        beating.cancel()
        note(path, "end")


@hs.task
def stumble(n: int) -> Iterator[int]:
    yield from range(n)
    raise LookupError(f"nothing after {n}")


@hs.task(retries=3)
def stumble_once(n: int, stumbles_at: int) -> Iterator[int]:
    for i in range(n):
        if i == stumbles_at and hs.get_context().attempt < 3:
            raise LookupError("try again")
        yield i


@hs.task
def gated(n: int, opens_at: int, gate: str) -> Iterator[tuple[int, str]]:
    """Yields what it would yield anywhere, and waits half-way until there is a file."""
    for i in range(n):
        while i >= opens_at and not os.path.exists(gate):
            time.sleep(0.01)
        yield i, f"item {i}"


@hs.task
def where(n: int, opens_at: int, gate: str) -> Iterator[tuple[int, int]]:
    """Another runner yields other items."""
    for i in range(n):
        while i >= opens_at and not os.path.exists(gate):
            time.sleep(0.01)
        yield i, os.getpid()


@hs.task
def shrinks(n: int, opens_at: int, gate: str) -> Iterator[int]:
    """A later attempt yields less."""
    if hs.get_context().attempt > 1:
        return
    yield from range(opens_at)
    while not os.path.exists(gate):
        time.sleep(0.01)


@hs.task
def large(size: int, n: int) -> Iterator[bytes]:
    for i in range(n):
        yield bytes([i % 256]) * size


@hs.task
def unencodable() -> Iterator[object]:
    yield 1
    yield {"deep": [object()]}


@hs.task
def endless(path: str) -> Iterator[int]:
    """Yields for ever, and heeds no cancellation."""
    i = 0
    while True:
        note(path, i)
        yield i
        i += 1


@hs.task
def overrun() -> Iterator[int]:
    yield from range(5)
    time.sleep(1e6)


@hs.task
def pid() -> int:
    return os.getpid()
