"""dask on a cluster: ``dask.compute(x, scheduler=hustings.integrations.dask.get)``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import dask.multiprocessing  # type: ignore[import-untyped,import-not-found,unused-ignore]

from ..cluster import Cluster, current_cluster


def get(
    dsk: Mapping[Any, Any],
    keys: Any,
    *,
    cluster: Cluster | None = None,
    num_workers: int | None = None,
    options: Mapping[str, Any] | None = None,
    **how: Any,
) -> Any:
    """Computes ``keys`` of the graph ``dsk``; the signature dask asks of a scheduler.

    Values between tasks pass through this process: fit for graphs whose work outweighs their data.

    Args:
        dsk: A graph.
        keys: A key, or nested lists of keys.
        cluster: Where to run; by default the current cluster.
        num_workers: Tasks the cluster has at once; by default the slots of all live nodes.
        options: Options of the tasks, as of ``Cluster.options``: ``{"retries": 2}``.
        **how: Passed to ``dask.multiprocessing.get``: ``chunksize``, ``optimize_graph`` and so on.
    """
    home = cluster if cluster is not None else current_cluster()
    if num_workers is None:
        num_workers = sum(m.slots for m in home.members() if m.alive) or 1
    with home.executor(max_workers=num_workers, **(options or {})) as executor:
        return dask.multiprocessing.get(dsk, keys, pool=executor, num_workers=num_workers, **how)


__all__ = ["get"]
