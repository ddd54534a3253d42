"""The dask scheduler: delayed functions, an array and a bag computed on a cluster."""

from __future__ import annotations

import os
from typing import Any

import pytest

import hustings as hs

dask = pytest.importorskip("dask", reason="dask is not installed: pip install dask")


def compute(cluster: hs.Cluster, value: Any, **how: Any) -> Any:
    import hustings.integrations.dask as on_hustings

    return dask.compute(value, scheduler=on_hustings.get, cluster=cluster, **how)[0]


def pid_of(_: object) -> int:
    return os.getpid()


def fail(x: int) -> int:
    raise LookupError(f"no {x}")


def test_delayed_calls_run_in_the_cluster(cluster: hs.Cluster) -> None:
    before = cluster.metrics()["succeeded"]
    total = dask.delayed(sum)([dask.delayed(pow)(i, 2) for i in range(20)])
    assert compute(cluster, total) == sum(i * i for i in range(20))
    assert cluster.metrics()["succeeded"] > before
    assert compute(cluster, dask.delayed(pid_of)(1)) != os.getpid()


def test_an_array(cluster: hs.Cluster) -> None:
    array = pytest.importorskip("dask.array", reason="dask.array needs numpy")
    x = array.arange(10_000, chunks=1_000)
    assert int(compute(cluster, (x * 2).sum())) == 10_000 * 9_999
    matrix = array.ones((300, 300), chunks=(100, 100))
    assert float(compute(cluster, (matrix @ matrix.T).mean())) == 300.0


def test_a_bag(cluster: hs.Cluster) -> None:
    bag = pytest.importorskip("dask.bag", reason="dask.bag is not there")
    numbers = bag.from_sequence(range(100), npartitions=5)
    assert compute(cluster, numbers.filter(lambda n: n % 2).map(lambda n: n * 10).sum()) == 25_000
    words = bag.from_sequence(["a b", "b c", "b"]).str.split().flatten().frequencies()
    assert dict(compute(cluster, words)) == {"a": 1, "b": 3, "c": 1}


def test_a_failure_is_the_tasks_own(cluster: hs.Cluster) -> None:
    with pytest.raises(LookupError, match="no 3"):
        compute(cluster, dask.delayed(fail)(3))
    assert compute(cluster, dask.delayed(abs)(-3), options={"retries": 1}) == 3
