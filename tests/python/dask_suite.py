"""A plugin for pytest: dask's own tests of arrays and bags, computed by our scheduler wherever they
name none; and a test file, dask's tests of any ``get``, on ours.

``python -m pytest -p dask_suite --pyargs dask.bag.tests.test_bag -rs`` runs them here, and says why
it skips what it skips; ``test_dask.py`` does so too. Nothing of them is copied.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import dask
import dask.array.utils
import pytest
from dask.utils_test import GetFunctionTestMixin

import hustings.integrations.dask as on_hustings
from hustings import Cluster, Config

_WARNING = "wants a warning here that was given in a runner"
SKIPPED = {
    "test_get_stack_limit": "dask.multiprocessing.get, on which ours rests, fails it as well",
    "test_to_delayed_optimize_graph": "counts calls in this process; they are made in runners",
    "test_nanquantile_all_nan": _WARNING,
    **{
        f"test_array_cumreduction_axis[blelloch-None-{axis}-{word}]": _WARNING
        for axis in (True, False)
        for word in ("cumprod", "nancumprod")
    },
}

# The arrays' own check of equality computes in this thread unless it is told otherwise.
_check = dask.array.utils.assert_eq
_check.__defaults__ = tuple(None if d == "sync" else d for d in _check.__defaults__)


@pytest.fixture(scope="session", autouse=True)
def a_cluster() -> Iterator[Cluster]:
    """What the scheduler finds when none is named."""
    with Cluster.local(2, slots=2, config=Config.ci()) as made:
        made.wait_leader()
        with dask.config.set(scheduler=on_hustings.get):
            yield made
        # All of it would be worth nothing if another scheduler had done the work.
        print(f"tasks done by the cluster: {made.metrics()['succeeded']}")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks what is skipped."""
    for item in items:
        reason = SKIPPED.get(item.name) or SKIPPED.get(getattr(item, "originalname", ""))
        if reason:
            item.add_marker(pytest.mark.skip(reason=reason))


class TestGet(GetFunctionTestMixin):
    """What dask expects of every scheduler."""

    get: Any = staticmethod(on_hustings.get)
