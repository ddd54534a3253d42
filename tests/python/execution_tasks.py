"""Tasks that do not end in time, and coroutines that remember where they ran."""

from __future__ import annotations

import asyncio
import os
import time

import hustings as hs

_seen: dict[str, object] = {}


@hs.task
def sleep_long() -> None:
    time.sleep(1e6)  # here it stands


@hs.task
def swallow() -> None:
    while True:
        try:
            time.sleep(1e6)
        except Exception:
            continue


@hs.task
def hold_the_interpreter() -> int:
    """A loop in C that looks at no signal."""
    return sum(range(10**13))


@hs.task
async def sleep_async() -> None:
    await asyncio.sleep(1e6)  # here it waits


@hs.task
async def same_loop() -> tuple[int, bool]:
    """Its process, and whether it runs on the loop of the task before."""
    loop = asyncio.get_running_loop()
    before = _seen.setdefault("loop", loop)
    return os.getpid(), before is loop


@hs.task
async def same_loop_again(_: int) -> tuple[int, bool]:
    return await same_loop()


@hs.task
async def leave_work(path: str) -> int:
    async def work() -> None:
        try:
            await asyncio.sleep(1e6)
        finally:
            with open(path, "a") as file:
                file.write("cancelled")

    _seen["work"] = asyncio.create_task(work())
    await asyncio.sleep(0)
    return os.getpid()


@hs.task
def pid() -> int:
    return os.getpid()


@hs.task
def step(gate: str) -> str:
    """Says how far it is, and goes on when there is a file."""
    context = hs.get_context()
    context.progress(1, 4, "first")
    while not os.path.exists(gate):
        time.sleep(0.01)
    return context.node


@hs.task
def tell_often(times: int) -> float:
    """Seconds that so many words about progress take."""
    context = hs.get_context()
    began = time.perf_counter()
    for n in range(times):
        context.progress(n, None)
    return time.perf_counter() - began


@hs.task
def work_until_cancelled(mark: str) -> None:
    context = hs.get_context()
    context.progress(0, None, "at work")
    while not context.cancelled:
        time.sleep(0.01)
    with open(mark, "w") as file:
        file.write(context.task_id)
    os.rename(mark, mark + ".done")


@hs.task
async def wait_until_cancelled(mark: str) -> None:
    hs.get_context().progress(0, None, "at work")
    try:
        await asyncio.sleep(1e6)
    finally:
        with open(mark, "w") as file:
            file.write(hs.get_context().task_id)
        os.rename(mark, mark + ".done")
