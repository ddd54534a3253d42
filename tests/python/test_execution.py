"""Where coroutines run, and what becomes of what they leave."""

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
