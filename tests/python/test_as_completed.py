"""``as_completed``, ``wait`` and ``gather``: waiting for many."""

from __future__ import annotations

from concurrent.futures import FIRST_COMPLETED, FIRST_EXCEPTION
from typing import Any

import pytest

import hustings as hs
import sample_tasks


def test_everything_comes_once(cluster: hs.Cluster) -> None:
    futures = [sample_tasks.square.submit(i) for i in range(200)]
    seen = list(hs.as_completed(futures, timeout=60))
    assert len(seen) == 200
    assert set(seen) == set(futures)
    assert sum(f.result() for f in seen) == sum(i * i for i in range(200))


def test_nothing_to_wait_for_is_done_at_once() -> None:
    assert list(hs.as_completed([])) == []
    assert hs.wait([]) == (set(), set())
    assert hs.gather() == []


def test_a_timeout_ends_the_iteration(cluster: hs.Cluster, gate: Any) -> None:
    held = sample_tasks.pass_gate.submit(gate.path)
    quick = sample_tasks.square.submit(2)
    quick.result(30)
    completed = hs.as_completed([held, quick], timeout=0.2)
    assert next(completed) is quick
    with pytest.raises(hs.WaitTimeoutError):
        next(completed)


def test_what_is_no_future_is_refused_before_waiting() -> None:
    with pytest.raises(TypeError, match=r"futures\[0\] is 3"):
        hs.as_completed([3])  # type: ignore[list-item]


@pytest.mark.parametrize("bad", [-1, float("nan")])
def test_a_bad_timeout_is_refused(bad: float) -> None:
    with pytest.raises(ValueError, match="timeout"):
        hs.as_completed([], timeout=bad)


def test_wait_reports_what_is_not_done(cluster: hs.Cluster, gate: Any) -> None:
    held = sample_tasks.pass_gate.submit(gate.path)
    quick = sample_tasks.square.submit(2)
    done, rest = hs.wait([held, quick], timeout=30, return_when=FIRST_COMPLETED)
    assert (done, rest) == ({quick}, {held})
    bad = sample_tasks.fail.submit(1)
    done, rest = hs.wait([held, bad], timeout=30, return_when=FIRST_EXCEPTION)
    assert bad in done
    assert rest == {held}
    done, rest = hs.wait([held], timeout=0.05)
    assert rest == {held}
    with pytest.raises(hs.ConfigError, match="return_when"):
        hs.wait([], return_when="SOME")


def test_gather_keeps_the_order_and_raises_the_failure(cluster: hs.Cluster) -> None:
    futures = [sample_tasks.square.submit(i) for i in range(20)]
    assert hs.gather(*futures) == [i * i for i in range(20)]
    assert hs.gather(futures, timeout=30) == cluster.gather(futures)
    with pytest.raises(sample_tasks.OwnError):
        hs.gather(sample_tasks.square.submit(1), sample_tasks.fail.submit(2))
