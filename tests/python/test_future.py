"""``Future``: the standard library's methods, awaitable, on a native handle."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from typing import Any

import pytest

import hustings as hs
import sample_tasks
from conftest import eventually


def test_a_finished_future_answers_at_once(cluster: hs.Cluster) -> None:
    future = sample_tasks.square.submit(4)
    assert future.result(30) == 16
    assert future.done()
    assert not future.running()
    assert not future.cancelled()
    assert future.exception() is None
    assert future.state == "succeeded"
    assert future.attempt == 1
    assert future.node is not None
    assert future.result(timeout=0) == 16


def test_a_wait_ends_at_its_timeout(cluster: hs.Cluster, gate: Any) -> None:
    future = sample_tasks.pass_gate.submit(gate.path)
    with pytest.raises(hs.WaitTimeoutError):
        future.result(timeout=0.05)
    with pytest.raises(TimeoutError):
        future.exception(timeout=0)
    assert not future.done()
    gate.open()
    assert future.result(30) == 0


def test_callbacks_run_once_each(cluster: hs.Cluster, gate: Any) -> None:
    seen: list[int] = []
    both = threading.Semaphore(0)

    def note(future: hs.Future[int]) -> None:
        seen.append(future.result())
        both.release()

    future = sample_tasks.pass_gate.submit(gate.path, 5)
    future.add_done_callback(note)
    gate.open()
    assert both.acquire(timeout=30)
    future.add_done_callback(note)
    assert both.acquire(timeout=30)
    assert seen == [5, 5]


def test_a_waiting_task_can_be_cancelled(cluster: hs.Cluster, gate: Any) -> None:
    running = [sample_tasks.pass_gate.submit(gate.path) for _ in range(40)]
    last = running[-1]
    eventually(lambda: last.state != "submitted")
    assert last.cancel()
    with pytest.raises(concurrent.futures.CancelledError):
        last.result(30)
    assert last.cancelled()
    gate.open()
    assert [f.result(30) for f in running[:-1]] == [0] * 39


def test_kill_cancels_a_running_task(cluster: hs.Cluster) -> None:
    future = sample_tasks.loop_for_ever.submit()
    eventually(lambda: any(m.running for m in cluster.members()))
    assert future.cancel(kill=True)
    with pytest.raises(hs.CancelledError):
        future.result(30)


def test_as_future_is_a_standard_future(cluster: hs.Cluster) -> None:
    futures = [sample_tasks.square.submit(i).as_future() for i in range(5)]
    assert all(isinstance(f, concurrent.futures.Future) for f in futures)
    done, rest = concurrent.futures.wait(futures, timeout=30)
    assert not rest
    assert sorted(f.result() for f in done) == [0, 1, 4, 9, 16]


async def test_a_future_can_be_awaited(cluster: hs.Cluster) -> None:
    assert await sample_tasks.square.submit(5) == 25
    results = await asyncio.gather(*(sample_tasks.square.submit(i) for i in range(50)))
    assert results == [i * i for i in range(50)]
    with pytest.raises(sample_tasks.OwnError):
        await sample_tasks.fail.submit(1)


async def test_awaiting_does_not_block_the_loop(cluster: hs.Cluster, gate: Any) -> None:
    future = sample_tasks.pass_gate.submit(gate.path, 3)

    async def open_gate() -> None:
        gate.open()

    result, _ = await asyncio.gather(future, open_gate())
    assert result == 3


async def test_a_cancelled_wait_cancels_the_task(cluster: hs.Cluster, gate: Any) -> None:
    held = [sample_tasks.pass_gate.submit(gate.path) for _ in range(40)]
    await asyncio.to_thread(eventually, lambda: held[-1].state == "accepted")
    waiter = asyncio.ensure_future(held[-1])
    await asyncio.sleep(0)
    waiter.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiter
    await asyncio.to_thread(eventually, held[-1].cancelled)
    gate.open()
    assert await asyncio.gather(*held[:-1]) == [0] * 39


async def test_wait_for_ends_the_task_too(cluster: hs.Cluster, gate: Any) -> None:
    held = [sample_tasks.pass_gate.submit(gate.path) for _ in range(40)]
    await asyncio.to_thread(eventually, lambda: held[-1].state == "accepted")
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(held[-1], 0.05)
    await asyncio.to_thread(eventually, held[-1].cancelled)
    gate.open()


def test_a_future_has_a_card(cluster: hs.Cluster) -> None:
    future = sample_tasks.square.submit(4)
    assert future.result(30) == 16
    card = future._repr_html_()
    assert future.task_id in card
    assert "succeeded" in card
    assert "<script" not in card
