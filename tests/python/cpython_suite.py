"""CPython's own executor tests on ``cluster.executor()``, where the interpreter brings them along.

``python cpython_suite.py -v`` runs them and says why it skips what it skips;
``test_cpython_suite.py`` does so too. Nothing of them is copied here. Up to Python 3.12.0 they are
one module, afterwards a package; what an interpreter has of the tests named here is run.
"""

from __future__ import annotations

import concurrent.futures
import importlib
import os
import sys
import unittest
from pathlib import Path
from types import ModuleType
from typing import Any

import hustings as hs

PACKAGE = importlib.import_module("test.test_concurrent_futures")


def _part(name: str) -> ModuleType:
    """The file of the tests that has this name, or the only one."""
    if not hasattr(PACKAGE, "__path__"):
        return PACKAGE
    return importlib.import_module(f"{PACKAGE.__name__}.{name}")


util = _part("util")
test_shutdown = _part("test_shutdown")

_INSIDE = "looks inside the pool: its threads, processes or queues"
_SHARED = "shares a lock of this process with its calls, which run in other processes"
_CONTEXT = "is about multiprocessing contexts"
SKIPPED = {
    "test_default_workers": "the default is the library's; ours is no bound",
    "test_saturation": _INSIDE,
    "test_idle_thread_reuse": _INSIDE,
    "test_hang_global_shutdown_lock": "submits from inside of calls to a pool of this process",
    "test_executor_map_current_future_cancel": _SHARED,
    "test_map_submits_without_iteration": "its calls append to a list of this process",
    "test_pending_calls_race": _SHARED,
    "test_killed_child": "a pool breaks when a process of it dies; a cluster goes on",
    "test_traceback": "asks for the library's own class of remote tracebacks",
    "test_ressources_gced_in_workers": _CONTEXT,
    "test_idle_process_reuse_one": _INSIDE,
    "test_idle_process_reuse_multiple": _INSIDE,
    "test_max_tasks_per_child": _CONTEXT,
    "test_max_tasks_per_child_defaults_to_spawn_context": _CONTEXT,
    "test_max_tasks_early_shutdown": _CONTEXT,
    "test_python_finalization_error": _INSIDE,
    "test_threads_terminate": _INSIDE,
    "test_context_manager_shutdown": _INSIDE,
    "test_del_shutdown": _INSIDE,
    "test_shutdown_no_wait": _INSIDE,
    "test_thread_names_assigned": _INSIDE,
    "test_thread_names_default": _INSIDE,
    "test_cancel_futures_wait_false": "names ThreadPoolExecutor in its script",
    "test_processes_terminate": _INSIDE,
}
# Where this file and the tests are.
FOLDERS = [
    str(Path(__file__).parent),
    str(Path(importlib.import_module("test").__path__[0]).parent),
]
# Scripts of the tests run in an isolated interpreter, and import the executor by its name. What
# their calls print comes home as records of a logger; here with nothing added to it.
PREAMBLE = f"""
import logging, sys
sys.path[:0] = {FOLDERS!r}
import concurrent.futures, cpython_suite
concurrent.futures.ClusterExecutor = cpython_suite.ClusterExecutor
logging.getLogger("hustings.task").addHandler(logging.StreamHandler(sys.stdout))
"""


class ClusterExecutor(hs.Executor):
    """On a cluster that all tests share, as the standard library's share a machine."""

    def __init__(self, max_workers: int | None = None) -> None:
        super().__init__(max_workers, cluster=_cluster())

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """As a script would, but the one test of ``cancel_futures`` wants a call that has ended:
        here one begins when a majority has accepted it, not at once."""
        if cancel_futures:
            concurrent.futures.wait(
                list(self._open), return_when=concurrent.futures.FIRST_COMPLETED
            )
        super().shutdown(wait, cancel_futures=cancel_futures)


def _cluster() -> hs.Cluster:
    if not _made:
        # The suite reaps children of its process, among which runners must not be; in a script the
        # calls print to the script's own output, as children of a child would not.
        isolated = __name__ == "__main__"
        _made.append(hs.Cluster.local(3, slots=2, isolated=isolated, config=hs.Config.ci()))
        _made[0].wait_leader()
    return _made[0]


_made: list[hs.Cluster] = []
_assert_python_ok = test_shutdown.assert_python_ok


def _run_script(*arguments: str) -> Any:
    *options, text = arguments
    return _assert_python_ok(*options, PREAMBLE + text)


class ClusterMixin(util.ExecutorMixin):  # type: ignore[name-defined,misc,unused-ignore]
    """Which executor the tests run on."""

    executor_type = ClusterExecutor


def _on_cluster(part: str, source: str) -> type:
    """The tests that the class ``source`` itself defines, on our executor."""
    tests: dict[str, Any] = {"__module__": __name__}
    for word, test in vars(getattr(_part(part), source)).items():
        if word.startswith("test"):
            reason = SKIPPED.get(word)
            tests[word] = unittest.skip(reason)(test) if reason else test
    return type(source, (ClusterMixin, util.BaseTestCase), tests)


ExecutorTest = _on_cluster("executor", "ExecutorTest")
WaitTest = _on_cluster("test_wait", "WaitTests")
AsCompletedTest = _on_cluster("test_as_completed", "AsCompletedTests")
ShutdownTest = _on_cluster("test_shutdown", "ExecutorShutdownTest")
ThreadPoolTest = _on_cluster("test_thread_pool", "ThreadPoolExecutorTest")
ThreadPoolWaitTest = _on_cluster("test_wait", "ThreadPoolWaitTests")
ThreadPoolShutdownTest = _on_cluster("test_shutdown", "ThreadPoolShutdownTest")
ProcessPoolTest = _on_cluster("test_process_pool", "ProcessPoolExecutorTest")
ProcessShutdownTest = _on_cluster("test_shutdown", "ProcessPoolShutdownTest")


def setUpModule() -> None:
    test_shutdown.assert_python_ok = _run_script  # type: ignore[attr-defined,unused-ignore]
    _cluster()
    # The one module has it under the name that unittest knows.
    begin = getattr(util, "setup_module", None) or util.setUpModule
    begin()


def tearDownModule() -> None:
    test_shutdown.assert_python_ok = _assert_python_ok  # type: ignore[attr-defined,unused-ignore]
    for made in _made:
        made.close()


if __name__ == "__main__":
    # What a call prints goes where ours goes; a test that hangs shall say where.
    os.environ.setdefault("PYTHONFAULTHANDLER", "1")
    assert concurrent.futures.Executor in ClusterExecutor.__mro__
    unittest.main(argv=[sys.argv[0], *sys.argv[1:]])
