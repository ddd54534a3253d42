"""Coroutines that remember where they ran."""

from __future__ import annotations

import asyncio
import os

import hustings as hs

_seen: dict[str, object] = {}


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
