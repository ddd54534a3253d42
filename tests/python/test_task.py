"""``task``: a function with options that runs here or on a cluster, however it travels."""

from __future__ import annotations

import inspect
import pickle
import uuid
from pathlib import Path
from typing import Any

import pytest

import hustings as hs
import sample_tasks


def test_a_task_is_still_its_function() -> None:
    assert sample_tasks.square(7) == 49
    assert sample_tasks.square.__name__ == "square"
    assert list(inspect.signature(sample_tasks.square).parameters) == ["x"]
    assert sample_tasks.square.name == "sample_tasks.square"
    assert sample_tasks.say_hello.name == "greet"
    assert "sample_tasks:square" in repr(sample_tasks.square)


def test_submit_without_a_cluster_says_how_to_get_one() -> None:
    with pytest.raises(hs.NoClusterError, match=r"Cluster\.local"):
        sample_tasks.square.submit(2)


@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf"), 1e300])
def test_a_timeout_out_of_bounds_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match=r"timeout=.*seconds"):
        hs.task(timeout=value)(len)


@pytest.mark.parametrize("value", ["5", True, [1]])
def test_a_timeout_of_the_wrong_type_is_refused(value: Any) -> None:
    with pytest.raises(TypeError, match="timeout="):
        hs.task(timeout=value)(len)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"retries": -1}, ValueError),
        ({"retries": 2**63}, ValueError),
        ({"retries": 1.5}, TypeError),
        ({"retries": True}, TypeError),
        ({"priority": 10}, ValueError),
        ({"priority": float("nan")}, ValueError),
        ({"backoff": -0.1}, ValueError),
        ({"codec": "msgpack"}, ValueError),
        ({"name": ""}, ValueError),
        ({"name": "a\nb"}, ValueError),
    ],
)
def test_a_bad_option_is_refused_by_name(options: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error, match=next(iter(options))):
        hs.task(**options)(len)


def test_an_unknown_option_offers_the_nearest() -> None:
    with pytest.raises(TypeError, match="did you mean 'retries'"):
        hs.task(retrys=3)(len)
    with pytest.raises(TypeError, match="did you mean 'timeout'"):
        sample_tasks.square.options(timeut=3)


@pytest.mark.parametrize("bad", ["", "nonsense", b"short", 7, "\n" * 200])
def test_a_bad_task_id_is_refused(bad: Any) -> None:
    with pytest.raises(hs.InvalidTaskIdError, match="task_id"):
        sample_tasks.square.options(task_id=bad)


def test_a_task_pickles_by_name() -> None:
    body = pickle.dumps(sample_tasks.square)
    assert len(body) < 500
    assert b"sample_tasks:square" in body
    assert pickle.loads(body)(5) == 25


def test_an_importable_task_runs_on_the_cluster(cluster: hs.Cluster) -> None:
    assert sample_tasks.square.submit(9).result(30) == 81
    assert sample_tasks.say_hello.submit("you", mark="?").result(30) == "hello you?"


def test_closures_lambdas_and_builtins_travel_by_value(cluster: hs.Cluster) -> None:
    base = 100

    @hs.task
    def shift(x: int) -> int:
        return x + base

    assert shift.submit(1).result(30) == 101
    assert cluster.submit(lambda x: x * 3, 5).result(30) == 15
    assert cluster.submit(len, "four").result(30) == 4


def test_a_task_used_in_another_task_is_a_plain_call_there(cluster: hs.Cluster) -> None:
    @hs.task
    def factorial(n: int) -> int:
        return 1 if n == 0 else n * factorial(n - 1)

    @hs.task
    def both(n: int) -> int:
        return factorial(n) + sample_tasks.square(n)

    assert both.submit(5).result(30) == 120 + 25


def test_an_async_function_runs_to_its_end(cluster: hs.Cluster) -> None:
    assert sample_tasks.add_later.submit(2, 3).result(30) == 5


def test_its_own_exception_comes_back_with_the_remote_traceback(cluster: hs.Cluster) -> None:
    with pytest.raises(sample_tasks.OwnError) as caught:
        sample_tasks.fail.submit(7).result(30)
    assert caught.value.code == 7
    assert isinstance(caught.value.__cause__, hs.RemoteTraceback)
    assert "sample_tasks.py" in str(caught.value.__cause__)


def test_an_exception_that_cannot_be_rebuilt_keeps_its_words(cluster: hs.Cluster) -> None:
    with pytest.raises(hs.RemoteTaskError) as caught:
        sample_tasks.fail_strangely.submit().result(30)
    assert caught.value.type_name.endswith("UnlikelyError")
    assert "needed more" in str(caught.value)
    assert "fail_strangely" in caught.value.traceback


def test_retries_run_again_until_it_works(cluster: hs.Cluster, tmp_path: Path) -> None:
    marker = str(tmp_path / "attempts")
    assert sample_tasks.fail_first.options(retries=2).submit(marker, 2).result(30) == 3
    with pytest.raises(ValueError, match="attempt 1"):
        sample_tasks.fail_first.submit(str(tmp_path / "other"), 1).result(30)


def test_a_crashed_runner_costs_an_attempt_not_the_task(
    cluster: hs.Cluster, tmp_path: Path
) -> None:
    assert sample_tasks.die.submit(str(tmp_path / "m"), 1).result(60) == 2


def test_a_task_that_always_kills_its_runner_is_given_up(
    cluster: hs.Cluster, tmp_path: Path
) -> None:
    with pytest.raises(hs.TaskLostError) as caught:
        sample_tasks.die.submit(str(tmp_path / "m"), 1000).result(90)
    assert caught.value.attempts >= 1


def test_a_timeout_ends_an_endless_loop(cluster: hs.Cluster) -> None:
    with pytest.raises(hs.TaskTimeoutError):
        sample_tasks.loop_for_ever.options(timeout=0.3).submit().result(60)
    assert sample_tasks.square.submit(2).result(30) == 4


def test_the_same_id_joins_and_another_payload_conflicts(cluster: hs.Cluster) -> None:
    one = sample_tasks.square.options(task_id=uuid.uuid4())
    first, second = one.submit(3), one.submit(3)
    assert first.task_id == second.task_id
    assert (first.result(30), second.result(30)) == (9, 9)
    with pytest.raises(hs.TaskIdConflictError):
        one.submit(4).result(30)
    assert cluster.future(first.task_id).result(30) == 9


def test_what_cannot_travel_is_named_with_its_place(cluster: hs.Cluster) -> None:
    import threading

    with pytest.raises(hs.NotSerializableError, match=r"args\[0\]\['lock'\].*_thread.lock"):
        cluster.submit(print, {"lock": threading.Lock()})
    with pytest.raises(Exception, match="lock"):
        sample_tasks.return_lock.submit().result(30)


def test_a_registered_name_is_enough(cluster: hs.Cluster) -> None:
    sample_tasks.say_hello.submit("first").result(30)
    assert cluster.options(codec="json").submit("greet", "you").result(30) == "hello you!"
    with pytest.raises(hs.TaskNotRegisteredError, match="greet"):
        cluster.submit("greeet").result(30)
