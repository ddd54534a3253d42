"""joblib on a cluster: ``with joblib.parallel_config(backend="hustings"): ...`` once this module is
imported. So scikit-learn runs there too."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import joblib  # type: ignore[import-untyped,import-not-found,unused-ignore]
from joblib.parallel import (  # type: ignore[import-untyped,import-not-found,unused-ignore]
    AutoBatchingMixin,
    FallbackToBackend,
    ParallelBackendBase,
    ThreadingBackend,
)

from .. import _runner
from .._terms import here
from ..cluster import Cluster, current_cluster
from ..errors import NoClusterError
from ..executor import Executor


class HustingsBackend(AutoBatchingMixin, ParallelBackendBase):  # type: ignore[misc,unused-ignore]
    """Runs batches of joblib as tasks; short calls are batched as in joblib's own backends.

    ``n_jobs`` bounds how many batches the cluster has at once; -1 means as many as it has slots.
    Calls to joblib inside of a task run in threads of its process.
    """

    supports_retrieve_callback = True
    default_n_jobs = -1

    def __init__(
        self,
        *,
        cluster: Cluster | None = None,
        nesting_level: int | None = None,
        inner_max_num_threads: int | None = None,
        **options: Any,
    ) -> None:
        """``parallel_config(backend="hustings", cluster=c, retries=2)``: these arguments.

        Args:
            cluster: Where to run; by default the current cluster.
            nesting_level: Set by joblib.
            inner_max_num_threads: Not supported; joblib refuses it.
            **options: Options of the tasks, as of ``Cluster.options``.
        """
        super().__init__(nesting_level=nesting_level, inner_max_num_threads=inner_max_num_threads)
        self._cluster = cluster
        self._options = options
        self._executor: Executor | None = None

    def effective_n_jobs(self, n_jobs: int | None) -> int:
        """How many batches run at once: the slots of all live nodes, and no more than asked for."""
        if n_jobs is None:
            n_jobs = self.default_n_jobs
        if n_jobs == 0:
            raise ValueError("n_jobs == 0 in Parallel has no meaning; give -1 for all slots")
        if self._is_inside_a_task():
            return int(ThreadingBackend().effective_n_jobs(n_jobs))
        slots = sum(m.slots for m in self._home().members() if m.alive) or 1
        return n_jobs if n_jobs > 0 else max(1, slots + 1 + n_jobs)

    def configure(self, n_jobs: int = 1, parallel: Any = None, **_: Any) -> int:
        """Called by joblib before a run."""
        if self._is_inside_a_task():
            raise FallbackToBackend(ThreadingBackend(nesting_level=self.nesting_level))
        self.parallel = parallel
        self._jobs = self.effective_n_jobs(n_jobs)
        self._executor = self._home().executor(max_workers=self._jobs, **self._options)
        return self._jobs

    def submit(
        self, func: Callable[[], Any], callback: Callable[[Any], Any] | None = None
    ) -> Future[Any]:
        """Called by joblib with each batch."""
        assert self._executor is not None, "joblib configures a backend before it submits"
        future = self._executor.submit(run_batch, func)
        if callback is not None:
            future.add_done_callback(callback)
        return future

    def retrieve_result_callback(self, out: Future[Any]) -> Any:
        """The results of a batch that is done, or what it raised."""
        return out.result()

    def terminate(self) -> None:
        """Called by joblib after a run."""
        if self._executor is not None:
            self._executor.shutdown(wait=False, cancel_futures=True)
            self._executor = None
        self.reset_batch_stats()

    def abort_everything(self, ensure_ready: bool = True) -> None:
        """Called by joblib when a batch has failed: cancels the others."""
        self.terminate()
        if ensure_ready:
            self._executor = self._home().executor(max_workers=self._jobs, **self._options)

    def _is_inside_a_task(self) -> bool:
        """In a runner there is no cluster to go to, unless the task has connected to one."""
        if self._cluster is not None or (_runner.info or here.info) is None:
            return False
        try:
            current_cluster()
        except NoClusterError:
            return True
        return False

    def _home(self) -> Cluster:
        return self._cluster if self._cluster is not None else current_cluster()


def run_batch(batch: Callable[[], Any]) -> Any:
    """What a runner calls: the batch travels as an argument, so the cluster learns one function."""
    return batch()


joblib.register_parallel_backend("hustings", HustingsBackend)

__all__ = ["HustingsBackend"]
