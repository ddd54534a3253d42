"""What ``hustings bench`` has the nodes run; a module of its own, so that runners import little."""

from __future__ import annotations


def nothing(value: int) -> int:
    """The shortest task.

    >>> nothing(3)
    3
    """
    return value


def echo(data: bytes) -> bytes:
    """Its arguments are its result.

    >>> echo(b"x")
    b'x'
    """
    return data
