"""A plugin for pytest: joblib's own tests of ``Parallel``, those that name a backend, on ours.

``python -m pytest -p joblib_suite --pyargs joblib.test.test_parallel -rs`` runs them here, and says
why it skips what it skips; ``test_joblib.py`` does so too. Nothing of them is copied.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import joblib.testing
import pytest

# Before joblib's tests are imported: they ask which backends there are.
import hustings.integrations.joblib as ours
from hustings import Cluster, Config

_MEMORY = "maps memory into processes of this machine; arguments travel to ours"
_QUEUE = "speaks to a manager of multiprocessing, which lets in only children of this process"
_STRANGER = "in a process of another backend, where ours has not been imported and has no cluster"
SKIPPED = {
    "test_auto_memmap_on_arrays_from_generator": _MEMORY,
    "test_memmapping_leaks": _MEMORY,
    "test_dispatch_multiprocessing": _QUEUE,
    "test_initializer_parallel": _QUEUE,
    "test_initializer_context": "runners are the cluster's, no call sets them up: no initializer",
    "test_error_capture": "looks at the backend's own processes, and wants a task's Ctrl-C to be "
    "that of who submitted it; here it is a RemoteTaskError",
}
_OTHERS = ("loky", "multiprocessing", "back_compat_backend")
# A script of a test finds our backend, and a cluster.
PREAMBLE = """
import hustings, hustings.integrations.joblib
if __name__ == "__main__":
    hustings.Cluster.local(1, slots=2, config=hustings.Config.ci())
"""
_check = joblib.testing.check_subprocess_call
_parametrize = joblib.testing.parametrize


def _with_ours(names: Any, values: Any, **how: Any) -> Any:
    """Where a test lists the backends that work in processes, ours is one more."""
    if isinstance(values, list) and "loky" in values:
        values = [*values, "hustings"]
    return _parametrize(names, values, **how)


def _with_a_cluster(command: list[str], *rest: Any, **how: Any) -> None:
    *most, last = command
    script = Path(last)
    if most[-1] == "-c":
        last = PREAMBLE + last
    elif "hustings" in script.read_text():
        script.write_text(PREAMBLE + script.read_text())
    _check([*most, last], *rest, **how)


joblib.testing.parametrize = _with_ours
joblib.testing.check_subprocess_call = _with_a_cluster


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keeps the tests that run on our backend."""
    kept, others = [], []
    for item in items:
        on_ours = any(map(_is_ours, _parameters(item).values()))
        (kept if on_ours else others).append(item)
        reason = SKIPPED.get(getattr(item, "originalname", "")) or _among_strangers(item)
        if reason:
            item.add_marker(pytest.mark.skip(reason=reason))
    config.hook.pytest_deselected(items=others)
    items[:] = kept


def _parameters(item: pytest.Item) -> dict[str, Any]:
    return getattr(item, "callspec").params if hasattr(item, "callspec") else {}  # noqa: B009


def _among_strangers(item: pytest.Item) -> str | None:
    given = _parameters(item)
    outer = given.get("parent_backend") or given.get("outer_backend")
    return _STRANGER if outer in _OTHERS else None


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
