"""Everything that can go wrong, as a tree. The native core raises these classes by name.

::

    HustingsError                      everything below
    ├── ConfigError (ValueError)       an argument or knob: names the field, the value, the bound
    │   ├── InvalidAddressError        not host:port
    │   ├── InsecureBindError          listening beyond loopback without TLS
    │   ├── TlsConfigError             a certificate, key or authority that cannot be used
    │   └── InvalidPeersError          founders disagree, or a peer list is malformed
    ├── AuthError                      no certificate, one that is not taken, or the wrong role
    ├── BindError (OSError)            the port is taken, or the address is not ours
    ├── NoClusterError                 no cluster is running or connected here
    ├── StoppedError                   used after stop or close
    ├── ForkedProcessError             used in a child made by fork()
    ├── NoQuorumError (TimeoutError)   nobody led until the deadline; nothing was accepted
    ├── WaitTimeoutError (TimeoutError) the answer is unknown: sending the same id again is safe
    ├── QueueFullError                 refused before acceptance; ``retry_after_s``
    ├── TaskIdConflictError            the same id with another function or payload
    ├── DuplicateTaskError             ``on_duplicate="reject"``: another task holds the key
    ├── InvalidTaskIdError (ValueError)
    │   └── TaskIdExpiredError         older than what the cluster can remember
    ├── NoTaskError (LookupError)      ``get_context`` outside of a task
    ├── TaskNotRegisteredError (LookupError)  no function by that name; close names
    ├── TaskNotFoundError (LookupError)       no task by that id
    ├── PayloadTooLargeError (ValueError)     with size and limit
    ├── CodecRefusedError              a codec one side does not allow
    ├── NotSerializableError (TypeError)      what cannot travel, and where it sits
    ├── UnsafeMembershipChangeError    it would leave no majority of voters, or no voter
    ├── MembershipChangeInProgressError another change is not finished; try again
    ├── RemovedError                   the node was removed from its cluster
    ├── FaultInjectionDisabledError    a fault call to a node that was not started with leave
    ├── VersionMismatchError, WrongClusterError, WrongNodeError, NodeNameInUseError
    ├── NodeIdInUseError               a live node has this one's id: its data directory is a copy
    ├── IncarnationMismatchError       the data directory is older than what the cluster knows of it
    ├── StorageError (OSError)         a disk failed or cannot be used: its node ends; ``path``
    │   ├── CorruptLogError            what lies there is not what was written; ``path``, ``place``
    │   └── DataDirLockedError         another process has the data directory; ``path``, ``pid``
    ├── RunnerError                    a runner process could not be started
    ├── ConsensusError                 the replicated log stopped
    └── TaskError                      a task ran, and this is its outcome
        ├── RemoteTaskError            it raised something that cannot be rebuilt here
        ├── StreamError                what it yields cannot be read (any more)
        │   ├── StreamDivergedError    its new attempt yields other items than those that were read
        │   └── StreamUnreadError      nobody read what it yields
        ├── TaskLostError              its nodes or runners died too often: it is quarantined;
        │                              ``attempts``
        └── TaskTimeoutError (TimeoutError)  its ``timeout``, ``queue_timeout`` or ``deadline``
                                       passed

A task that raises delivers *its own* exception, with a ``RemoteTraceback`` as ``__cause__``. A
cancelled task raises
``CancelledError``, which is ``concurrent.futures.CancelledError``.

A refusal is definite: nothing was stored, and the same call may be made again. ``NoQuorumError``
and ``WaitTimeoutError`` are not: the task may have been accepted. Keep waiting on the same future,
or submit the same ``task_id`` again, which never makes a second task.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from concurrent.futures import CancelledError


class HustingsError(Exception):
    """The root of everything hustings raises on its own account."""


class HustingsWarning(UserWarning):
    """Something that works, but probably not as intended."""


class ConfigError(HustingsError, ValueError):
    """A bad argument or knob; the text names the field, the value and the bound."""


class InvalidAddressError(ConfigError):
    """Not an address of the form ``host:port``."""


class InsecureBindError(ConfigError):
    """Listening beyond loopback without TLS."""


class TlsConfigError(ConfigError):
    """A certificate, key or authority that cannot be used; the text names file and remedy."""


class AuthError(HustingsError):
    """No certificate was shown, it is not taken, its role does not suffice; a token is refused."""


class InvalidPeersError(ConfigError):
    """The founders disagree, or a peer list is malformed."""


class BindError(HustingsError, OSError):
    """The port is taken, or the address does not belong to this machine."""


class NoClusterError(HustingsError):
    """There is no cluster to submit to."""


class StoppedError(HustingsError):
    """The node, cluster or client was stopped before."""


class ForkedProcessError(HustingsError):
    """Started before ``fork()`` and used in the child, which has none of its threads."""


class NoQuorumError(HustingsError, TimeoutError):
    """No leader with a majority could be reached until the deadline; the text says how many voters
    are."""


class WaitTimeoutError(HustingsError, TimeoutError):
    """The wait ended first. What was asked for may still happen; asking again is safe."""


class QueueFullError(HustingsError):
    """Refused before acceptance; nothing was stored."""

    def __init__(self, message: str = "", retry_after_s: float = 0.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class TaskIdConflictError(HustingsError):
    """A task by that id exists with another function or other arguments."""


class DuplicateTaskError(HustingsError):
    """Another unfinished task holds the key."""

    task_id: str = ""
    """That task."""


class InvalidTaskIdError(HustingsError, ValueError):
    """A task id is a UUID: 16 bytes, not all zero, and not from the future."""


class TaskIdExpiredError(InvalidTaskIdError):
    """The id is older than what the cluster can remember: whether its task ran cannot be said."""


class NoTaskError(HustingsError, LookupError):
    """No task runs here."""


class TaskNotRegisteredError(HustingsError, LookupError):
    """No node knows a function by that name."""


class TaskNotFoundError(HustingsError, LookupError):
    """The cluster holds no task by that id."""


class PayloadTooLargeError(HustingsError, ValueError):
    """Arguments, a result or a function are larger than the limit."""


class CodecRefusedError(HustingsError):
    """One side does not allow this codec."""


class NotSerializableError(HustingsError, TypeError):
    """An argument cannot travel; the text says which part of it and what to do."""


class UnsafeMembershipChangeError(HustingsError):
    """The change would leave no voter, or no reachable majority; nothing was changed."""


class MembershipChangeInProgressError(HustingsError):
    """Members change one at a time, and another change is not finished."""


class RemovedError(HustingsError):
    """The node was removed from its cluster."""


class FaultInjectionDisabledError(HustingsError):
    """The node was not started with ``allow_faults``."""


class VersionMismatchError(HustingsError):
    """The peer speaks another protocol version."""


class WrongClusterError(HustingsError):
    """The address belongs to another cluster."""


class WrongNodeError(HustingsError):
    """The address was taken over by another node."""


class NodeNameInUseError(HustingsError):
    """A live node has that name."""


class NodeIdInUseError(HustingsError):
    """A live node has this node's id: the data directory is a copy of its. The node ends."""


class IncarnationMismatchError(HustingsError):
    """The cluster knows a later start of this node: its data directory is an old copy. It ends."""


class StorageError(HustingsError, OSError):
    """The disk failed or cannot be used. A running node ends; the others go on."""

    path: str = ""
    """The file or folder."""


class CorruptLogError(StorageError):
    """What lies on disk is not what was written there; the node refuses to start."""

    place: str = ""
    """The entry or part of the file."""


class DataDirLockedError(StorageError):
    """Another process has the data directory."""

    pid: int = 0
    """That process; 0 if it did not say."""


class RunnerError(HustingsError):
    """A runner process could not be started or broke its protocol."""


class ConsensusError(HustingsError):
    """The replicated log of this node stopped."""


class TaskError(HustingsError):
    """A task's outcome that is not a value."""


class RemoteTaskError(TaskError):
    """The task raised an exception that cannot be rebuilt in this process."""

    def __init__(self, type_name: str, message: str = "", traceback: str = "") -> None:
        super().__init__(type_name, message, traceback)
        self.type_name = type_name
        self.message = message
        self.traceback = traceback

    def __str__(self) -> str:
        return f"{self.type_name}: {self.message}" if self.message else self.type_name


class TaskLostError(TaskError):
    """The nodes or runners under the task died too often: it is quarantined, not tried again.

    The text says for each death which attempt it was, where, and by which signal or exit code.
    """

    def __init__(self, message: str = "", attempts: int = 0) -> None:
        super().__init__(message)
        self.attempts = attempts


class TaskTimeoutError(TaskError, TimeoutError):
    """An attempt ran longer than the task's ``timeout``, with no retry left; or the task never
    started within its ``queue_timeout``; or it had no outcome by its ``deadline``."""


class StreamError(TaskError):
    """What a generator task yields cannot be read, or not any more."""


class StreamDivergedError(StreamError):
    """A generator was begun again after its node or runner had died, or it had raised, and did not
    yield the items again that had been read already: the others cannot follow them."""


class StreamUnreadError(StreamError):
    """A generator waited for ``limits.stream_idle_s`` and nobody read what it yields."""


class RemoteTraceback(Exception):
    """The traceback on the node, shown as the cause of a task's exception."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        return f'\n"""\n{self.text.rstrip()}\n"""'


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """``"; did you mean 'x'?"`` for the nearest of ``known``, or an empty text."""
    close = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


__all__ = [
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
]
