"""A self-electing task cluster: one door to everything a script needs.

>>> import hustings as hs
>>> @hs.task(retries=3)
... def square(x: int) -> int:
...     return x * x
>>> with hs.Cluster.local(3) as c:  # doctest: +SKIP
...     print(square.submit(9).result())
81
"""

from __future__ import annotations

import atexit
import os
from typing import TYPE_CHECKING, Any

from . import _core
from ._core import Future, __version__

if TYPE_CHECKING:
    from collections.abc import Callable

    from . import certs, errors, loads, viz
    from .cluster import Cluster, current_cluster
    from .config import Config, ElectionConfig, Limits, ScoreWeights, StealPolicy
    from .context import Progress, TaskContext, get_context
    from .elections import Election, Failover, Handover, Reign
    from .errors import *  # noqa: F403
    from .events import EventLog, ScoreHistory, Steal
    from .executor import Executor
    from .explanation import Explanation, TaskEvent
    from .failures import RandomFailures
    from .fault_spans import Fault
    from .future import as_completed, gather, wait
    from .members import Leader, Member, Snapshot, StealCounts
    from .node import Node
    from .simulation import LeaderChange, Outcome, Run, Simulation, Sweep, Violation
    from .stream import Stream
    from .summary import Steadiness, Summary
    from .task_simulation import TaskRun, TaskSimulation, grid
    from .tasks import Task, task
    from .workloads import WORKLOADS, Workload

# A runner, a node's process and `hustings --help` need little of this: the rest is imported when it
# is first named.
_HOMES = {
    "Cluster": "cluster",
    "current_cluster": "cluster",
    "Config": "config",
    "ElectionConfig": "config",
    "Limits": "config",
    "ScoreWeights": "config",
    "StealPolicy": "config",
    "Progress": "context",
    "TaskContext": "context",
    "get_context": "context",
    "Election": "elections",
    "Failover": "elections",
    "Handover": "elections",
    "Reign": "elections",
    "EventLog": "events",
    "ScoreHistory": "events",
    "Steal": "events",
    "Executor": "executor",
    "Explanation": "explanation",
    "TaskEvent": "explanation",
    "RandomFailures": "failures",
    "LeaderChange": "simulation",
    "Outcome": "simulation",
    "Run": "simulation",
    "Simulation": "simulation",
    "Sweep": "simulation",
    "Violation": "simulation",
    "Fault": "fault_spans",
    "as_completed": "future",
    "gather": "future",
    "wait": "future",
    "Leader": "members",
    "Member": "members",
    "Snapshot": "members",
    "StealCounts": "members",
    "Node": "node",
    "Stream": "stream",
    "Steadiness": "summary",
    "Summary": "summary",
    "TaskRun": "task_simulation",
    "TaskSimulation": "task_simulation",
    "grid": "task_simulation",
    "Task": "tasks",
    "task": "tasks",
    "WORKLOADS": "workloads",
    "Workload": "workloads",
}
_MODULES = ("certs", "errors", "loads", "viz")
_ERRORS = (
    "AuthError",
    "BindError",
    "CancelledError",
    "CodecRefusedError",
    "ConfigError",
    "ConsensusError",
    "CorruptLogError",
    "DataDirLockedError",
    "DuplicateTaskError",
    "FaultInjectionDisabledError",
    "ForkedProcessError",
    "HustingsError",
    "HustingsWarning",
    "IncarnationMismatchError",
    "InsecureBindError",
    "InvalidAddressError",
    "InvalidPeersError",
    "InvalidTaskIdError",
    "MembershipChangeInProgressError",
    "NoClusterError",
    "NoQuorumError",
    "NoTaskError",
    "NodeIdInUseError",
    "NodeNameInUseError",
    "NotSerializableError",
    "PayloadTooLargeError",
    "QueueFullError",
    "RemoteTaskError",
    "RemoteTraceback",
    "RemovedError",
    "RunnerError",
    "StoppedError",
    "StorageError",
    "StreamDivergedError",
    "StreamError",
    "StreamUnreadError",
    "TaskError",
    "TaskIdConflictError",
    "TaskIdExpiredError",
    "TaskLostError",
    "TaskNotFoundError",
    "TaskNotRegisteredError",
    "TaskTimeoutError",
    "TlsConfigError",
    "UnsafeMembershipChangeError",
    "VersionMismatchError",
    "WaitTimeoutError",
    "WrongClusterError",
    "WrongNodeError",
)


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name in _MODULES:
        return import_module(f".{name}", __name__)
    home = "errors" if name in _ERRORS else _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{home}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def _decode(codec: str, body: bytes) -> Any:
    return _real_hooks()[0](codec, body)


def _rebuild(failure: dict[str, Any]) -> BaseException:
    return _real_hooks()[1](failure)


def _real_hooks() -> tuple[Callable[[str, bytes], Any], Callable[[dict[str, Any]], BaseException]]:
    """The first result brings the codec in; from then on the native half calls it directly."""
    from . import codec

    _core.set_codec_hooks(codec.decode, codec.rebuild)
    return codec.decode, codec.rebuild


_core.set_codec_hooks(_decode, _rebuild)
# Registered before the clusters' own hook, so that it runs after it: first the clusters close,
# then the runtime.
atexit.register(_core.shutdown)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_core.on_fork_child)

__all__ = [
    "WORKLOADS",
    "Cluster",
    "Config",
    "Election",
    "ElectionConfig",
    "EventLog",
    "Executor",
    "Explanation",
    "Failover",
    "Fault",
    "Future",
    "Handover",
    "Leader",
    "LeaderChange",
    "Limits",
    "Member",
    "Node",
    "Outcome",
    "Progress",
    "RandomFailures",
    "Reign",
    "Run",
    "ScoreHistory",
    "ScoreWeights",
    "Simulation",
    "Snapshot",
    "Steadiness",
    "Steal",
    "StealCounts",
    "StealPolicy",
    "Stream",
    "Summary",
    "Sweep",
    "Task",
    "TaskContext",
    "TaskEvent",
    "TaskRun",
    "TaskSimulation",
    "Violation",
    "Workload",
    "__version__",
    "as_completed",
    "certs",
    "current_cluster",
    "errors",
    "gather",
    "get_context",
    "grid",
    "loads",
    "task",
    "viz",
    "wait",
]
__all__ += _ERRORS
