"""What a task knows and says of itself: progress, and that it is not wanted any more."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import execution_tasks
import hustings as hs
from conftest import eventually


@pytest.fixture(scope="module")
def one() -> Iterator[hs.Cluster]:
    """One node with one runner."""
    with hs.Cluster.local(1, name="steps", slots=1, config=hs.Config.ci()) as made:
        made.wait_leader()
        yield made


def test_progress_reaches_who_submitted_and_who_follows(one: hs.Cluster, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    future = execution_tasks.step.submit(str(gate))
    follower = one.future(future.task_id)
    eventually(future.running)  # accepted: now others know it
    with hs.Cluster.connect(*one._client.addresses, allow_pickle=True) as other:
        stranger = other.future(future.task_id)
        told = eventually(lambda: future.progress)
        assert told == hs.Progress(1.0, 4.0, "first")
        assert (told.fraction, str(told)) == (0.25, "25%: first")
        assert follower.progress == told
        gate.touch()
        assert future.result(30) == "n1"
        assert stranger.result(30) == "n1"


def test_a_leader_of_another_node_passes_progress_on(tmp_path: Path) -> None:
    # One for each node, also on a machine that is too busy for thieves.
    config = hs.Config.ci(steal=hs.StealPolicy(cpu_floor=0.0))
    with hs.Cluster.local(3, name="three", slots=1, config=config) as cluster:
        gate = tmp_path / "gate"
        futures = [execution_tasks.step.submit(str(gate)) for _ in range(3)]
        for future in futures:
            assert eventually(lambda f=future: f.progress) == (1.0, 4.0, "first")
        gate.touch()
        assert {f.result(30) for f in futures} == {n.name for n in cluster.nodes}


def test_progress_is_told_without_waiting(one: hs.Cluster) -> None:
    future = execution_tasks.tell_often.submit(100_000)
    future.result(60)
    assert future.output() == ""


@pytest.mark.parametrize(
    "task", [execution_tasks.work_until_cancelled, execution_tasks.wait_until_cancelled]
)
def test_a_cancelled_attempt_may_end_properly(
    one: hs.Cluster, tmp_path: Path, task: hs.Task[[str], None]
) -> None:
    mark = tmp_path / "mark"
    future = task.submit(str(mark))
    eventually(lambda: future.progress)
    assert future.cancel(kill=True)
    done = tmp_path / "mark.done"
    eventually(done.exists)
    assert done.read_text() == future.task_id
    assert execution_tasks.pid.submit().result(60) > 0


def test_one_that_does_not_end_is_killed(one: hs.Cluster) -> None:
    before = execution_tasks.pid.submit().result(60)
    future = execution_tasks.swallow.submit()
    eventually(lambda: one.tasks("assigned"))
    assert future.cancel(kill=True)
    assert execution_tasks.pid.submit().result(60) != before


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        (("half",), TypeError, "done='half'"),
        ((True,), TypeError, "done=True"),
        ((-1,), ValueError, "done=-1: give a number of 0 or more"),
        ((float("nan"),), ValueError, "done=nan"),
        ((1, 0), ValueError, "total=0: give a number above 0"),
        ((1, float("inf")), ValueError, "total=inf"),
        ((1, 2, b"note"), TypeError, "note=b'note': give text"),
    ],
)
def test_bad_progress_is_refused(
    arguments: tuple[Any, ...], error: type[Exception], words: str
) -> None:
    context = hs.TaskContext("id", 1, 1 << 16)
    with pytest.raises(error, match=words):
        context.progress(*arguments)
    assert not context.cancelled


def test_progress_in_words() -> None:
    assert str(hs.Progress(3)) == "3 done"
    assert str(hs.Progress(3, None, "so far")) == "3 done: so far"
    assert hs.Progress(7, 5).fraction == 1.0
    with pytest.raises(hs.NoTaskError):
        hs.get_context()
