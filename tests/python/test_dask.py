"""The dask scheduler: delayed functions, an array and a bag computed on a cluster; and dask's own
tests of schedulers, bags and arrays on it.

``DASK_SUITE=all`` runs all of dask's reductions of arrays, which takes minutes, not some of them.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

import hustings as hs
from conftest import run_suite

dask = pytest.importorskip("dask", reason="dask is not installed: pip install dask")


SOME = "reductions_1D or reductions_2D or arg_reductions or topk or median or numel"
"""Tests of reductions that run always."""


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


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("tests", "least"),
    [
        (["dask_suite.py"], 10),
        (["--pyargs", "dask.bag.tests.test_bag"], 150),
        (["--pyargs", "dask.array.tests.test_reductions"], 60),
    ],
    ids=["get", "bags", "reductions"],
)
def test_dasks_own_tests_pass(
    tests: list[str], least: int, tmp_path: Path, record_property: Any
) -> None:
    few = "reductions" in tests[-1] and os.environ.get("DASK_SUITE") != "all"
    counts = run_suite(tmp_path, "dask_suite", *tests, *(["-k", SOME] if few else []))
    record_property("counts", counts)
    assert counts["passed"] >= least
