"""The joblib backend: joblib's contract, and scikit-learn on top of it."""

from __future__ import annotations

import multiprocessing
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import hustings as hs
import sample_tasks
from conftest import eventually, run_suite

joblib = pytest.importorskip("joblib", reason="joblib is not installed: pip install joblib")


@pytest.fixture
def backend(cluster: hs.Cluster) -> Iterator[Any]:
    import hustings.integrations.joblib  # noqa: F401

    # The fixture's cluster is shared and stays: it is named, not the current one.
    with joblib.parallel_config(backend="hustings", cluster=cluster):
        yield joblib


def pid_of(_: int) -> int:
    return os.getpid()


def test_calls_run_in_the_cluster_in_order(cluster: hs.Cluster, backend: Any) -> None:
    before = cluster.metrics()["succeeded"]
    results = joblib.Parallel()(joblib.delayed(pow)(i, 2) for i in range(200))
    assert results == [i * i for i in range(200)]
    assert cluster.metrics()["succeeded"] > before
    pids = joblib.Parallel()(joblib.delayed(pid_of)(i) for i in range(10))
    assert os.getpid() not in pids


def test_closures_and_generators(backend: Any) -> None:
    offset = 5
    parallel = joblib.Parallel(n_jobs=2, return_as="generator")
    assert list(parallel(joblib.delayed(lambda x: x + offset)(i) for i in range(20))) == list(
        range(5, 25)
    )
    some = joblib.Parallel(n_jobs=2, return_as="generator_unordered")
    assert sorted(some(joblib.delayed(abs)(-i) for i in range(20))) == list(range(20))


def test_an_exception_is_the_calls_own_and_the_backend_goes_on(backend: Any) -> None:
    with pytest.raises(sample_tasks.OwnError):
        joblib.Parallel(n_jobs=2)(
            joblib.delayed(sample_tasks.fail.__wrapped__)(i) for i in range(8)
        )
    assert joblib.Parallel(n_jobs=2)(joblib.delayed(abs)(-i) for i in range(8)) == list(range(8))


def test_a_timeout_ends_the_run_and_cancels_the_rest(
    cluster: hs.Cluster, backend: Any, gate: Any
) -> None:
    wait = joblib.delayed(sample_tasks.pass_gate.__wrapped__)
    with pytest.raises(multiprocessing.TimeoutError):
        joblib.Parallel(n_jobs=2, timeout=0.2, batch_size=1)(wait(gate.path) for _ in range(20))
    gate.open()
    cluster.wait_idle(30)


def test_nested_calls_do_not_wait_for_a_slot(backend: Any) -> None:
    assert joblib.Parallel(n_jobs=2)(joblib.delayed(_inner)(i) for i in range(4)) == [
        [i, i + 1, i + 2] for i in range(4)
    ]


def _inner(start: int) -> list[int]:
    found = joblib.Parallel(n_jobs=2)(joblib.delayed(abs)(-start - i) for i in range(3))
    return list(found)


def test_n_jobs_is_counted_in_slots(cluster: hs.Cluster, backend: Any) -> None:
    slots = sum(m.slots for m in cluster.members())
    assert joblib.effective_n_jobs(-1) == slots
    assert joblib.effective_n_jobs(1000) == 1000
    with pytest.raises(ValueError, match="n_jobs == 0"):
        joblib.Parallel(n_jobs=0)(joblib.delayed(abs)(i) for i in range(3))


def test_grid_search_of_scikit_learn_runs_on_it(cluster: hs.Cluster, backend: Any) -> None:
    pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from sklearn.datasets import load_iris
        from sklearn.model_selection import GridSearchCV
        from sklearn.svm import SVC

    x, y = load_iris(return_X_y=True)
    before = cluster.metrics()["succeeded"]
    search = GridSearchCV(SVC(), {"C": [0.1, 1, 10], "kernel": ["linear", "rbf"]}, cv=3, n_jobs=-1)
    search.fit(x, y)
    assert search.best_score_ > 0.9
    eventually(lambda: cluster.metrics()["succeeded"] > before)
    alone = GridSearchCV(SVC(), {"C": [0.1, 1, 10], "kernel": ["linear", "rbf"]}, cv=3)
    with joblib.parallel_config(backend="sequential"):
        alone.fit(x, y)
    assert search.best_params_ == alone.best_params_
    assert search.best_score_ == pytest.approx(alone.best_score_)


@pytest.mark.timeout(600)
def test_joblibs_own_tests_of_parallel_pass(tmp_path: Path, record_property: Any) -> None:
    counts = run_suite(tmp_path, "joblib_suite", "--pyargs", "joblib.test.test_parallel")
    record_property("counts", counts)
    assert counts["passed"] >= 100
