"""``map``: one call per tuple of arguments, in chunks, in order or not."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

import hustings as hs
import sample_tasks


@pytest.mark.parametrize("chunksize", [1, 7, 1000])
@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize("buffersize", [None, 3])
def test_every_way_gives_every_result(
    cluster: hs.Cluster, chunksize: int, ordered: bool, buffersize: int | None
) -> None:
    results = cluster.map(
        sample_tasks.square,
        range(50),
        chunksize=chunksize,
        ordered=ordered,
        buffersize=buffersize,
        timeout=60,
    )
    expected = [i * i for i in range(50)]
    assert (list(results) if ordered else sorted(results)) == expected


def test_several_iterables_stop_at_the_shortest(cluster: hs.Cluster) -> None:
    assert list(sample_tasks.add_later.map([1, 2, 3], [10, 20], chunksize=2)) == [11, 22]
    assert list(cluster.map(lambda a, b: a * b, [1, 2, 3], [10, 20])) == [10, 40]


def test_a_buffer_bounds_what_is_taken_from_the_source(cluster: hs.Cluster) -> None:
    taken: list[int] = []

    def source() -> Iterator[int]:
        for i in range(1000):
            taken.append(i)
            yield i

    results = cluster.map(sample_tasks.square, source(), buffersize=4)
    assert next(results) == 0
    assert len(taken) <= 5


def test_a_failure_is_raised_where_it_stands(cluster: hs.Cluster) -> None:
    results = cluster.map(sample_tasks.fail, [3])
    with pytest.raises(sample_tasks.OwnError):
        next(results)


def test_a_timeout_counts_from_the_call(cluster: hs.Cluster, gate: Any) -> None:
    with pytest.raises(hs.WaitTimeoutError):
        list(cluster.map(sample_tasks.pass_gate, [gate.path], timeout=0.1))


@pytest.mark.parametrize(
    ("how", "error"),
    [
        ({"chunksize": 0}, ValueError),
        ({"chunksize": 1.5}, TypeError),
        ({"buffersize": 0}, ValueError),
        ({"timeout": -1}, ValueError),
    ],
)
def test_a_bad_argument_is_refused_at_the_call(
    cluster: hs.Cluster, how: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error, match=next(iter(how))):
        cluster.map(sample_tasks.square, [1], **how)
