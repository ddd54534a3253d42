"""How an attempt ends at its timeout, and where coroutines run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import execution_tasks
import hustings as hs


@pytest.fixture(scope="module")
def one() -> Iterator[hs.Cluster]:
    """One node with one runner: what a task leaves behind, the next one finds."""
    with hs.Cluster.local(1, name="one", slots=1, config=hs.Config.ci()) as made:
        made.wait_leader()
        yield made


@pytest.mark.parametrize(
    ("task", "place"),
    [
        (execution_tasks.sleep_long, "time.sleep(1e6)  # here it stands"),
        (execution_tasks.sleep_async, "await asyncio.sleep(1e6)  # here it waits"),
    ],
)
def test_a_timeout_raises_where_the_task_stands_and_spares_its_runner(
    one: hs.Cluster, task: hs.Task[[], None], place: str
) -> None:
    before = execution_tasks.pid.submit().result(30)
    with pytest.raises(hs.TaskTimeoutError, match=r"longer than its timeout of 0\.3 s") as raised:
        task.options(timeout=0.3).submit().result(60)
    cause = raised.value.__cause__
    assert isinstance(cause, hs.RemoteTraceback)
    assert place in cause.text
    assert "_on_alarm" not in cause.text
    assert execution_tasks.pid.submit().result(30) == before


@pytest.mark.parametrize("task", [execution_tasks.swallow, execution_tasks.hold_the_interpreter])
def test_what_does_not_heed_it_is_killed(one: hs.Cluster, task: hs.Task[[], object]) -> None:
    before = execution_tasks.pid.submit().result(30)
    with pytest.raises(hs.TaskTimeoutError, match=r"timeout of 0\.3 s"):
        task.options(timeout=0.3).submit().result(60)
    assert execution_tasks.pid.submit().result(60) != before


def test_a_task_in_time_is_not_interrupted_later(one: hs.Cluster) -> None:
    quick = [execution_tasks.pid.options(timeout=0.5).submit() for _ in range(50)]
    assert len({f.result(60) for f in quick}) == 1
    with pytest.raises(hs.TaskTimeoutError, match=r"timeout of 1 s"):
        execution_tasks.sleep_long.options(timeout=1).submit().result(60)


def test_coroutines_share_the_loop_of_their_runner(one: hs.Cluster) -> None:
    first, second = (execution_tasks.same_loop.submit().result(30) for _ in range(2))
    assert first == second
    assert second[1]
    both = one.map(execution_tasks.same_loop_again, range(2), chunksize=2)
    assert list(both) == [first, first]


def test_what_a_coroutine_leaves_running_is_cancelled(one: hs.Cluster, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    execution_tasks.leave_work.submit(str(mark)).result(30)
    assert mark.read_text() == "cancelled"


def test_a_timeout_is_retried_as_any_failure(one: hs.Cluster) -> None:
    future = execution_tasks.sleep_long.options(timeout=0.2, retries=2).submit()
    with pytest.raises(hs.TaskTimeoutError):
        future.result(60)
    assert future.attempt == 3
