"""The TaskIQ broker, for its workers and for who submits: a list in Redis, results there."""

from __future__ import annotations

import asyncio
import os

import peer_work
import taskiq_redis

URL = f"redis://127.0.0.1:{os.environ['PEER_REDIS_PORT']}/0"
broker = taskiq_redis.ListQueueBroker(URL).with_result_backend(
    taskiq_redis.RedisAsyncResultBackend(URL)
)


@broker.task(task_name="noop")
async def noop(i: int) -> int:
    """Nothing."""
    return peer_work.noop(i)


@broker.task(task_name="nap")
async def nap(ms: float) -> float:
    """Holds its worker's only place."""
    return await asyncio.to_thread(peer_work.nap, ms)


@broker.task(task_name="mark")
async def mark(i: int) -> int:
    """Counts itself."""
    return await asyncio.to_thread(peer_work.mark, i)


TASKS = {"noop": noop, "nap": nap, "mark": mark}
