"""A self-electing task cluster: one door to everything a script needs.

>>> import hustings as hs
>>> @hs.task(retries=3)
... def square(x: int) -> int:
...     return x * x
>>> with hs.Cluster.local(3) as c:  # doctest: +SKIP
...     print(square.submit(9).result())
81
"""

import atexit
import os

from . import _core, codec, errors, loads, viz
from ._core import Future, __version__

# Registered before the clusters' own hook, so that it runs after it: first the clusters close,
# then the runtime.
atexit.register(_core.shutdown)

from .cluster import Cluster, current_cluster  # noqa: E402
from .config import Config, ElectionConfig, Limits, ScoreWeights, StealPolicy  # noqa: E402
from .errors import *  # noqa: E402, F403
from .errors import __all__ as _error_names  # noqa: E402
from .events import Election, EventLog, Failover, Steal  # noqa: E402
from .future import as_completed, gather, wait  # noqa: E402
from .members import Leader, Member, Snapshot  # noqa: E402
from .node import Node  # noqa: E402
from .task import Task, task  # noqa: E402

_core.set_codec_hooks(codec.decode, codec.rebuild)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_core.on_fork_child)

__all__ = [
    "Cluster",
    "Config",
    "Election",
    "ElectionConfig",
    "EventLog",
    "Failover",
    "Future",
    "Leader",
    "Limits",
    "Member",
    "Node",
    "ScoreWeights",
    "Snapshot",
    "Steal",
    "StealPolicy",
    "Task",
    "__version__",
    "as_completed",
    "current_cluster",
    "errors",
    "gather",
    "loads",
    "task",
    "viz",
    "wait",
]
__all__ += _error_names
