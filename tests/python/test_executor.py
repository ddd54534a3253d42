"""``cluster.executor()``: what the standard library promises of executors, on a cluster."""

from __future__ import annotations

import asyncio
import concurrent.futures
import gc
import threading
import weakref
from typing import Any

import pytest

import hustings as hs
import sample_tasks
from conftest import eventually, run_script


def add(a: int, b: int = 1) -> int:
    return a + b


class Held:
    def method(self) -> int:
        return 7


def test_it_is_an_executor_with_standard_futures(cluster: hs.Cluster) -> None:
    with cluster.executor() as executor:
        assert isinstance(executor, concurrent.futures.Executor)
        future = executor.submit(add, 2, b=3)
        assert isinstance(future, concurrent.futures.Future)
        assert future.result(30) == 5
        failing = executor.submit(divmod, 1, 0)
        with pytest.raises(ZeroDivisionError) as raised:
            failing.result(30)
        assert isinstance(raised.value.__cause__, hs.errors.RemoteTraceback)
    with pytest.raises(RuntimeError, match="after shutdown"):
        executor.submit(add, 1)


def test_functions_wait_and_as_completed_of_the_library_take_its_futures(
    cluster: hs.Cluster,
) -> None:
    with hs.Executor(cluster=cluster) as executor:
        futures = [executor.submit(add, i) for i in range(20)]
        done, rest = concurrent.futures.wait(futures, timeout=30)
        assert not rest
        assert done == set(futures)
        results = {f.result() for f in concurrent.futures.as_completed(futures, timeout=30)}
        assert results == set(range(1, 21))


@pytest.mark.parametrize("chunksize", [1, 7])
@pytest.mark.parametrize("buffersize", [None, 3])
def test_map_keeps_the_order(cluster: hs.Cluster, chunksize: int, buffersize: int | None) -> None:
    with cluster.executor() as executor:
        results = executor.map(
            add, range(30), range(30), timeout=30, chunksize=chunksize, buffersize=buffersize
        )
        assert list(results) == [2 * i for i in range(30)]


def test_a_map_that_is_out_of_time_cancels_the_rest(cluster: hs.Cluster, gate: Any) -> None:
    with cluster.executor(max_workers=1) as executor:
        results = executor.map(sample_tasks.pass_gate, [gate.path] * 5, timeout=0.05)
        with pytest.raises(concurrent.futures.TimeoutError):
            next(results)
        gate.open()
    assert not executor._open


def test_max_workers_bounds_what_the_cluster_has(cluster: hs.Cluster, gate: Any) -> None:
    before = cluster.metrics()["accepted"]
    with cluster.executor(max_workers=2) as executor:
        futures = [executor.submit(sample_tasks.pass_gate, gate.path, i) for i in range(6)]
        eventually(lambda: cluster.metrics()["accepted"] == before + 2)
        assert [f.task is not None for f in futures] == [True, True] + [False] * 4
        assert futures[5].cancel()
        assert futures[5].cancelled()
        gate.open()
        assert [f.result(30) for f in futures[:5]] == list(range(5))
    assert cluster.metrics()["accepted"] == before + 5


def test_cancel_reaches_the_cluster_and_spares_what_runs(cluster: hs.Cluster, gate: Any) -> None:
    # What members say is a moment old: an earlier test's work is none of these.
    eventually(lambda: not any(m.running for m in cluster.members()))
    executor = cluster.executor()
    accepted, before = (cluster.metrics()[name] for name in ("accepted", "cancelled"))
    futures = [executor.submit(sample_tasks.pass_gate, gate.path, i) for i in range(40)]
    # What has not left this process yet is cancelled here, and the cluster never hears of it.
    eventually(lambda: cluster.metrics()["accepted"] == accepted + 40)
    eventually(lambda: any(m.running for m in cluster.members()))
    assert futures[-1].cancel()
    executor.shutdown(wait=False, cancel_futures=True)
    cancelled = [f for f in futures if f.cancelled()]
    assert len(cancelled) >= 30
    assert cluster.metrics()["cancelled"] == before + len(cancelled)
    assert not all(f.cancelled() for f in futures)
    gate.open()
    executor.shutdown()
    rest = [(i, f) for i, f in enumerate(futures) if f not in cancelled]
    assert all(f.result() == i for i, f in rest)


def test_a_cancelled_future_wakes_who_waits(cluster: hs.Cluster, gate: Any) -> None:
    with cluster.executor(max_workers=1) as executor:
        executor.submit(sample_tasks.pass_gate, gate.path)
        waiting = executor.submit(add, 1)
        assert waiting.cancel()
        assert waiting.cancel()
        assert concurrent.futures.wait([waiting], timeout=30).done == {waiting}
        with pytest.raises(concurrent.futures.CancelledError):
            waiting.result(0)
        gate.open()


async def test_an_event_loop_runs_calls_in_it(cluster: hs.Cluster, gate: Any) -> None:
    loop = asyncio.get_running_loop()
    async with cluster.executor() as executor:
        assert await loop.run_in_executor(executor, add, 4) == 5
        held = loop.run_in_executor(executor, sample_tasks.pass_gate, gate.path)
        held.cancel()
        with pytest.raises(asyncio.CancelledError):
            await held
        gate.open()


def test_options_are_those_of_tasks(
    cluster: hs.Cluster, tmp_path_factory: pytest.TempPathFactory
) -> None:
    marker = str(tmp_path_factory.mktemp("marks") / "m")
    with cluster.executor(retries=2) as executor:
        assert executor.submit(sample_tasks.fail_first, marker, 2).result(30) == 3
    with pytest.raises(TypeError, match="retrys"):
        cluster.executor(retrys=2)


@pytest.mark.parametrize("bad", [0, -1])
def test_a_bad_max_workers_is_refused(cluster: hs.Cluster, bad: int) -> None:
    with pytest.raises(ValueError, match="max_workers must be greater than 0"):
        cluster.executor(max_workers=bad)
    with pytest.raises(TypeError, match="max_workers"):
        cluster.executor(max_workers=1.5)  # type: ignore[arg-type]


def test_nothing_keeps_a_callers_object_alive(cluster: hs.Cluster) -> None:
    held = Held()
    gone = weakref.ref(held)
    with cluster.executor() as executor:
        assert executor.submit(held.method).result(30) == 7
        assert cluster.submit(held.method).result(30) == 7
    del held
    eventually(lambda: gc.collect() >= 0 and gone() is None)


def test_what_cannot_travel_is_refused_at_submit(cluster: hs.Cluster) -> None:
    with (
        cluster.executor() as executor,
        pytest.raises(hs.NotSerializableError, match=r"args\[0\]"),
    ):
        executor.submit(add, threading.Lock())  # type: ignore[arg-type]


def test_a_closed_cluster_ends_its_calls(tmp_path_factory: pytest.TempPathFactory) -> None:
    gate = str(tmp_path_factory.mktemp("gate") / "open")
    made = hs.Cluster.local(1, name="short", config=hs.Config.ci())
    executor = made.executor(max_workers=1)
    futures = [executor.submit(sample_tasks.pass_gate, gate) for _ in range(3)]
    made.close()
    executor.shutdown()
    assert all(isinstance(f.exception(0), hs.HustingsError) for f in futures)


EXIT = """
import hustings as hs, sample_tasks
c = hs.Cluster.local(1, config=hs.Config.ci())
executor = c.executor()
future = executor.submit(sample_tasks.square, 3)
future.add_done_callback(lambda f: print(f.result()))
executor.shutdown(wait=False)
"""


def test_the_interpreter_waits_for_its_calls() -> None:
    done = run_script(EXIT)
    assert (done.returncode, done.stdout, done.stderr) == (0, "9\n", "")
