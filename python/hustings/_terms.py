"""What a node allows the attempts that run here, and which attempt that is in a thread of its own
process."""

from __future__ import annotations

import functools
import os
import threading
import time
from typing import Any, NamedTuple

DEFAULT_PAYLOAD_LIMIT = 64 << 10
"""``limits.blob_bytes`` where the node does not say."""


class Terms(NamedTuple):
    """What a node allows."""

    payload_limit: int
    """Most bytes of a result."""
    allow_pickle: bool
    """Whether it unpickles."""


@functools.cache
def of_process() -> Terms:
    """What the node of this process allows, if it is a runner's."""
    limit = int(os.environ.get("HUSTINGS_PAYLOAD_LIMIT", DEFAULT_PAYLOAD_LIMIT))
    return Terms(limit, os.environ.get("HUSTINGS_ALLOW_PICKLE") == "1")


class _Here(threading.local):
    """What holds for a thread of a node's own process, see ``_threads``."""

    seat: Any = None
    info: dict[str, Any] | None = None
    started_at = 0.0

    def begin(self, attempt: dict[str, Any]) -> None:
        """That attempt runs in this thread."""
        self.info, self.started_at = attempt, time.time()

    def end(self) -> None:
        """None does any more."""
        self.info = None


here = _Here()


def payload_limit() -> int:
    """Most bytes of a result, as the node set it."""
    return int((here.seat or of_process()).payload_limit)


def pickle_allowed() -> bool:
    """Whether this node unpickles, as the node set it."""
    return bool((here.seat or of_process()).allow_pickle)


class PayloadTooLargeError(ValueError):
    """A result over ``limits.blob_bytes``."""


class CodecRefusedError(RuntimeError):
    """Something pickled where pickle is not allowed."""


def _public(cls: type[Exception]) -> type[Exception]:
    """The exception users know by this name, if the package around this file is complete."""
    try:
        from hustings import errors
    except ImportError:
        return cls
    public = getattr(errors, cls.__name__, cls)
    return public if isinstance(public, type) and issubclass(public, Exception) else cls


def require_pickle(what: str) -> None:
    """Raises ``CodecRefusedError`` where pickle is not allowed."""
    if not pickle_allowed():
        raise _public(CodecRefusedError)(
            f"{what}: pickle is refused on this node; start it with allow_pickle=True, or register "
            "an importable function (module:qualname) and pass plain JSON values"
        )


def too_large(size: str, limit: int) -> Exception:
    """The exception for a result over the limit."""
    return _public(PayloadTooLargeError)(
        f"the result is {size}, the limit is {limit} (limits.blob_bytes); return less, or write "
        "it to storage and return where it is"
    )
