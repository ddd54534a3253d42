"""A plugin for pytest: joblib's own tests of ``Parallel``, those that name a backend, on ours.

``python -m pytest -p joblib_suite --pyargs joblib.test.test_parallel -rs`` runs them here, and says
why it skips what it skips; ``test_joblib.py`` does so too. Nothing of them is copied.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import joblib.testing
import pytest

# Before joblib's tests are imported: they ask which backends there are.
import hustings.integrations.joblib as ours
from hustings import Cluster, Config

_POOL = "looks at a pool of processes that belongs to the backend"
_MEMORY = "is about memory that processes of one machine share"
_SCRIPT = "runs a script of its own, which has no cluster"
SKIPPED: dict[str, str] = {}
_parametrize = joblib.testing.parametrize


def _with_ours(names: Any, values: Any, **how: Any) -> Any:
    """Where a test lists the backends that work in processes, ours is one more."""
    if isinstance(values, list) and "loky" in values:
        values = [*values, "hustings"]
    return _parametrize(names, values, **how)


joblib.testing.parametrize = _with_ours


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keeps the tests that run on our backend."""
    kept, others = [], []
    for item in items:
        on_ours = any(map(_is_ours, getattr(item, "callspec", _NONE).params.values()))
        (kept if on_ours else others).append(item)
        reason = SKIPPED.get(getattr(item, "originalname", ""))
        if reason:
            item.add_marker(pytest.mark.skip(reason=reason))
    config.hook.pytest_deselected(items=others)
    items[:] = kept


class _NONE:
    params: dict[str, Any] = {}  # noqa: RUF012


def _is_ours(value: Any) -> bool:
    return isinstance(value, ours.HustingsBackend) or (
        isinstance(value, str) and value == "hustings"
    )


@pytest.fixture(scope="session", autouse=True)
def a_cluster() -> Iterator[Cluster]:
    """What the backend finds when none is named."""
    with Cluster.local(2, slots=2, config=Config.ci()) as made:
        made.wait_leader()
        yield made
